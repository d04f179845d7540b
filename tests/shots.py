"""Shots on disk that the tests of the verbs and of the command line work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from pxr import UsdGeom
from stages import add_camera, new_stage


def add_box(stage, path: str, place, color=(0.8, 0.2, 0.1), size: float = 1.0) -> UsdGeom.Cube:
    box = UsdGeom.Cube.Define(stage, path)
    box.AddTranslateOp().Set(tuple(map(float, place)))
    box.CreateSizeAttr(size)
    box.CreateDisplayColorAttr([color])
    return box


def two_boxes(path: Path, camera: bool = True) -> Path:
    """A red cup left, a blue bottle right, seen from the front. Y up, metres."""
    stage = new_stage(path=str(path))
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    add_box(stage, "/World/Cup", (-1.2, 0, 0))
    add_box(stage, "/World/Bottle", (1.2, 0, 0), (0.1, 0.2, 0.9))
    if camera:
        add_camera(stage, (0, 1, 8), path="/World/Cam")
    stage.Save()
    return path


def photograph(folder: Path) -> tuple[Path, Path, Path]:
    """A photograph of two things with their ids as an image and their depth: files."""
    ids = np.zeros((60, 80), np.uint8)
    ids[20:45, 10:30], ids[25:50, 45:70] = 1, 2
    color = np.array([[90, 90, 90], [200, 40, 30], [30, 60, 220]], np.uint8)[ids]
    files = folder / "photo.png", folder / "ids.png", folder / "depth.npy"
    PIL.Image.fromarray(color).save(files[0])
    PIL.Image.fromarray(ids).save(files[1])
    np.save(files[2], np.array([3.0, 2.0, 1.5])[ids])
    return files
