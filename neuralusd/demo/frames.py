"""A frame of a scene as small files: a stage with boxes and a camera, its picture, and who is seen where and how
deep."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
from pxr import Usd

from .. import stage as stages
from ..scene import Passes, Scene

# Depth is written in steps of half a millimetre; 0 stands for nothing seen.
_STEP = 0.0005


def write_frame(scene: Scene, passes: Passes, folder: str | Path, name: str) -> Path:
    """Writes `name`.usda, `name`.png, `name`.depth.png and `name`.ids.png; returns the stage's path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stage = stages.create_stage(scene, folder / f"{name}.usda")
    path = stages.save(stage)
    color = np.round(np.asarray(passes.color) * 255).astype(np.uint8)
    PIL.Image.fromarray(color).save(folder / f"{name}.png", optimize=True)
    metres = np.where(np.isfinite(passes.depth), passes.depth, 0)
    PIL.Image.fromarray(np.round(metres / _STEP).astype(np.uint16)).save(folder / f"{name}.depth.png", optimize=True)
    PIL.Image.fromarray((passes.ids + 1).astype(np.uint8)).save(folder / f"{name}.ids.png", optimize=True)
    return path


def copy_frame(source: Path, folder: Path) -> Path:
    """Copies a frame's files to `folder`; returns the stage's path there."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.parent.glob(f"{source.stem}.*")):
        shutil.copyfile(file, folder / file.name)
    return folder / source.name


def read_passes(path: Path, stage: Usd.Stage) -> Passes:
    """The passes of a frame written by `write_frame`, whose stage is at `path`; ids index `read(stage).assets`."""
    picture = np.asarray(PIL.Image.open(path.with_suffix(".png")).convert("RGB"), np.float32) / 255
    steps = np.asarray(PIL.Image.open(path.with_suffix(".depth.png")), np.float32)
    ids = np.asarray(PIL.Image.open(path.with_suffix(".ids.png")), np.int32) - 1
    depth = np.where(steps > 0, steps * _STEP, np.inf).astype(np.float32)
    scene = stages.read(stage)
    origins, directions = scene.camera.rays(*ids.shape)
    world = (origins + np.where(np.isfinite(depth), depth, np.nan)[..., None] * directions).astype(np.float32)
    return Passes(ids=ids, depth=depth, points=world, color=picture)
