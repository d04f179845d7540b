"""A `ResamplePipeline` with tiny random weights whose tokens decode to solids, saved as a backend; and a room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pxr import Gf, Usd, UsdGeom
from stages import add_camera, new_stage

from neuralusd.models.prior.appearance import AppearanceCodec
from neuralusd.models.prior.background import BackgroundCodec
from neuralusd.models.prior.scene_prior import ScenePrior
from neuralusd.pipelines.resample import ResamplePipeline
from neuralusd.schema import NeuralAssetAPI

DECODER = {"embedding_dim": 8, "channels": (8, 4), "depth": 1, "attention_resolutions": ()}


def tiny_prior(slots: int = 6, seed: int = 0) -> ResamplePipeline:
    """A pipeline of `slots` objects in 3 steps. Its poses lie a few metres in front of the camera."""
    torch.manual_seed(seed)
    prior = ScenePrior(slots=slots, tokens=2, token_dim=4, background_dim=6, width=32, layers=2, heads=4)
    prior.pose_mean.copy_(torch.tensor([0, 0, -6, 0.7, -0.7, 0, 0, 0, 0, 0.0]))
    prior.pose_deviation.copy_(torch.tensor([1.5, 0.5, 1.0, 0.05, 0.05, 0.05, 0.05, 0.3, 0.3, 0.3]))
    codec = AppearanceCodec(2, 4, decoder=DECODER, channels=(8, 8), revision="tiny")
    codec.fit(torch.randn(12, 8, 4, 4, 4))
    return ResamplePipeline(prior, codec, BackgroundCodec(6, 8), revision="tiny", num_inference_steps=3)


def save_tiny_prior(folder: Path, **options) -> Path:
    """Saves a `tiny_prior`, as what `--backend DIR` takes."""
    tiny_prior(**options).save_pretrained(folder)
    return folder


def room(path: Path | None = None, up: str = "Y", meters_per_unit: float = 1.0) -> Usd.Stage:
    """/Room with a floor and a wall, a red bed, a blue chair with a green cup on it, and a camera, in stage units.

    The chair is a group with legs; the cup is an asset in the chair. Everything is `meters_per_unit` small.
    """
    stage = new_stage(up, meters_per_unit, None if path is None else str(path))
    unit = 1 / meters_per_unit
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Room").GetPrim())

    def block(name: str, middle, size, color) -> UsdGeom.Cube:
        x, y, z = (np.array(middle) if up == "Y" else np.array(middle)[[0, 2, 1]] * [1, -1, 1]) * unit
        wide, high, deep = np.array(size) if up == "Y" else np.array(size)[[0, 2, 1]]
        cube = UsdGeom.Cube.Define(stage, name)
        cube.AddTranslateOp().Set(Gf.Vec3d(float(x), float(y), float(z)))
        cube.AddScaleOp().Set(Gf.Vec3f(float(wide * unit), float(high * unit), float(deep * unit)))
        cube.CreateSizeAttr(1.0)
        cube.CreateExtentAttr([(-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)])
        cube.CreateDisplayColorAttr([color])
        return cube

    def asset(name: str, text: str) -> None:
        NeuralAssetAPI.Apply(UsdGeom.Xform.Define(stage, name).GetPrim()).CreateTextAttr(text)

    UsdGeom.Xform.Define(stage, "/Room/Shell")
    NeuralAssetAPI.Apply(stage.GetPrimAtPath("/Room/Shell")).CreateRoleAttr("background")
    block("/Room/Shell/Floor", (0, -0.05, 0), (6, 0.1, 6), (0.5, 0.4, 0.3))
    block("/Room/Shell/Wall", (0, 1.25, -3), (6, 2.5, 0.1), (0.7, 0.7, 0.6))
    asset("/Room/Bed", "bed")
    block("/Room/Bed/Frame", (-1, 0.3, -0.5), (1.6, 0.6, 2.0), (0.8, 0.1, 0.1))
    asset("/Room/Chair", "chair")
    block("/Room/Chair/Seat", (1.2, 0.25, 0), (0.5, 0.5, 0.5), (0.1, 0.1, 0.8))
    asset("/Room/Chair/Cup", "cup")
    block("/Room/Chair/Cup/Body", (1.2, 0.58, 0), (0.15, 0.15, 0.15), (0.1, 0.7, 0.1))
    eye, target = (0, 2.2 * unit, 6 * unit), (0, 0.6 * unit, 0)
    if up == "Z":
        eye, target = (0, -6 * unit, 2.2 * unit), (0, 0, 0.6 * unit)
    add_camera(stage, eye, target, path="/Room/Camera", focalLength=20.0, clippingRange=(0.01 * unit, 1000 * unit))
    if path is not None:
        stage.Save()
    return stage
