"""A world of a few coloured boxes, made with pxr and seen by ray casting: quick, and everything about it is known."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Usd, UsdGeom, Vt

import neuralusd  # noqa: F401  registers the schema
from neuralusd import stage as stages
from neuralusd.datasets.packed import PackedWorld, pack
from neuralusd.scene import Passes, Scene
from neuralusd.schema import NeuralAssetAPI

COLORS = [(0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (0.1, 0.2, 0.9)]


def boxes_stage(seed: int = 0, boxes: int = 2, frames: int = 3) -> Usd.Stage:
    """Boxes on a floor before a wall; the camera goes round them, the first box moves by itself. Z-up, metres."""
    random = np.random.default_rng(seed)
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    room = UsdGeom.Xform.Define(stage, "/World/Room")
    NeuralAssetAPI.Apply(room.GetPrim()).CreateRoleAttr("background")
    floor = UsdGeom.Cube.Define(stage, "/World/Room/Floor")
    floor.AddTranslateOp().Set((0, 0, -0.5))
    floor.AddScaleOp().Set((6, 6, 0.5))
    floor.CreateSizeAttr(1.0)
    floor.CreateDisplayColorAttr(Vt.Vec3fArray([Gf.Vec3f(0.6, 0.55, 0.5)]))
    for index in range(boxes):
        box = UsdGeom.Cube.Define(stage, f"/World/Box{index}")
        box.CreateSizeAttr(1.0)
        size = random.uniform(0.4, 0.7)
        start = np.array([index * 0.9 - 0.45, random.uniform(-0.4, 0.4), size / 2 - 0.25])
        translate = box.AddTranslateOp()
        for frame in range(1, frames + 1):
            step = 0.1 * (frame - 1) if index == 0 else 0.0
            translate.Set(Gf.Vec3d(*(start + [0, step, 0])), frame)
        box.AddRotateZOp().Set(float(random.uniform(0, 90)))
        box.AddScaleOp().Set(Gf.Vec3f(size))
        box.CreateDisplayColorAttr(Vt.Vec3fArray([Gf.Vec3f(*COLORS[(index + seed) % 3])]))
        NeuralAssetAPI.Apply(box.GetPrim()).CreateTextAttr("a box")
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    camera.CreateFocalLengthAttr(35.0)
    camera.CreateHorizontalApertureAttr(30.0)
    camera.CreateVerticalApertureAttr(30.0)
    matrix = camera.AddTransformOp()
    for frame in range(1, frames + 1):
        angle = 0.25 * frame + seed
        eye = Gf.Vec3d(3 * np.cos(angle), 3 * np.sin(angle), 1.6)
        matrix.Set(Gf.Matrix4d().SetLookAt(eye, Gf.Vec3d(0, 0, 0), Gf.Vec3d(0, 0, 1)).GetInverse(), frame)
    return stage


def frame(stage: Usd.Stage, time: float, size: int) -> tuple[Scene, Passes]:
    """The scene of `boxes_stage` at a time, and what its camera sees."""
    scene = stages.read(stage, "/World/Camera", time)
    return scene, stages.render_passes(stage, scene, size, size)


def boxes_world(size: int, scenes: int = 3, frames: int = 3) -> PackedWorld:
    """A packed world of such scenes."""
    return pack(
        (f"scene{seed}", *frame(stage, time, size))
        for seed in range(scenes)
        for stage in [boxes_stage(seed, frames=frames)]
        for time in range(1, frames + 1)
    )
