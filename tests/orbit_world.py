"""A world of orbits in a folder, as `neuralusd data orbits` makes them: things of a few boxes, seen by ray casting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
from pxr import Gf, Usd, UsdGeom, Vt

from neuralusd import stage as stages
from neuralusd.datasets.furniture_assets import FurnitureAsset
from neuralusd.datasets.orbits import OrbitTask, write_orbit

RED, BLUE, GREEN = (0.7, 0.15, 0.1), (0.1, 0.2, 0.7), (0.1, 0.5, 0.2)
# Name to boxes, each a low and a high corner in metres and a colour; the front is towards -Y.
CHAIR = [
    ((-0.25, -0.25, 0.4), (0.25, 0.25, 0.5), RED),
    ((-0.25, 0.18, 0.5), (0.25, 0.25, 1.0), BLUE),
    *[((x, y, 0), (x + 0.08, y + 0.08, 0.4), GREEN) for x in (-0.25, 0.17) for y in (-0.25, 0.17)],
]
TABLE = [
    ((-0.8, -0.4, 0.65), (0.8, 0.4, 0.75), GREEN),
    *[((x, y, 0), (x + 0.1, y + 0.1, 0.65), RED) for x in (-0.8, 0.7) for y in (-0.4, 0.3)],
]
BOX = [((-0.2, -0.3, 0), (0.2, 0.3, 0.5), BLUE)]
CRATE = [((-0.4, -0.4, 0), (0.4, 0.4, 0.8), RED)]
SHELF = [((-0.5, 0, z), (0.5, 0.3, z + 0.1), BLUE) for z in (0, 0.5, 1.0)]
SCENES = {
    "train": {"chair_a": CHAIR, "table_a": TABLE, "crate_a": CRATE, "shelf_a": SHELF},
    "held_out_models": {"chair_b": CHAIR, "table_b": TABLE},
    "held_out_categories": {"box": BOX},
}


def write_orbits(folder: Path, size: int = 32, views: int = 8, scenes: dict[str, dict] = SCENES) -> Path:
    """Writes the world and returns `folder`."""
    for split, things in scenes.items():
        for name, boxes in things.items():
            asset = write_thing(folder / "assets" / name / f"{name}.usda", name, boxes)
            scene = folder / "scenes" / split / name
            scene.mkdir(parents=True)
            task = OrbitTask(str(folder), str(folder / "assets"), split, asset, views, size, 1, 1, 0)
            write_orbit(scene / "scene.usda", task)
            _write_frames(scene, split, views, size)
    return folder


def write_thing(file: Path, name: str, boxes: list) -> FurnitureAsset:
    """An asset of boxes, a mesh each."""
    file.parent.mkdir(parents=True)
    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Thing").GetPrim())
    for number, (low, high, color) in enumerate(boxes):
        mesh = UsdGeom.Mesh.Define(stage, f"/Thing/Box{number}")
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        points = np.where(corners, high, low)
        mesh.CreatePointsAttr([Gf.Vec3f(*point) for point in points.tolist()])
        mesh.CreateFaceVertexCountsAttr([4] * 6)
        mesh.CreateFaceVertexIndicesAttr([0, 1, 3, 2, 4, 6, 7, 5, 0, 4, 5, 1, 2, 3, 7, 6, 0, 2, 6, 4, 1, 5, 7, 3])
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        mesh.CreateDisplayColorAttr(Vt.Vec3fArray([Gf.Vec3f(*color)]))
    stage.Save()
    low, high = np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)
    return FurnitureAsset(name, f"{name}/{file.name}", name, size=tuple(high - low), minimum=tuple(low))


def _write_frames(scene: Path, split: str, views: int, size: int) -> None:
    stage = stages.open_stage(scene / "scene.usda")
    for time in range(1, views + 1):
        seen = stages.read(stage, "/World/Camera", time)
        passes = stages.render_passes(stage, seen, size, size)
        color = np.where((passes.ids >= 0)[..., None], passes.color, 0.4)
        PIL.Image.fromarray(np.round(color * 255).astype(np.uint8)).save(scene / f"rgb.{time:04d}.png")
        paths = np.array([asset.path for asset in seen.assets])
        np.savez(scene / f"passes.{time:04d}.npz", depth=passes.depth, ids=passes.ids.astype(np.int8), paths=paths)
    (scene / "scene.json").write_text(json.dumps({"split": split, "frames": list(range(1, views + 1))}))
