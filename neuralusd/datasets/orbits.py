"""Orbits: every model of a library by itself, seen from all around, for models that learn objects (`lift`).

A world like the furniture world (`neuralusd.datasets.world`): one scene a model, /World/Asset in its own pose and a
camera that looks at its middle from another side at every time code. Nothing else is there; the light is even, of a
dome and a soft sun.

The canonical cube of an object, from -1 to 1, is centred on its box and `MARGIN` larger than the box's longest side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import furniture_assets
from .furniture_assets import FurnitureAsset, asset_folder_name
from .furniture_layout import camera_matrix
from .furniture_stage import add_asset_api
from .furniture_world import HELD_OUT_MODELS, TRAIN, library_of, require_bpy
from .whole import begin_split, whole_folder

HELD_OUT_CATEGORIES = "held_out_categories"
SPLITS = (HELD_OUT_CATEGORIES, HELD_OUT_MODELS, TRAIN)
MARGIN = 1.1
FIELD_OF_VIEW = 40.0
# Of the camera above the horizon, in degrees.
LOWEST, HIGHEST = -10.0, 60.0


@dataclass(frozen=True)
class OrbitTask:
    """What a worker needs to render one model."""

    out: str
    library: str
    split: str
    asset: FurnitureAsset
    views: int
    resolution: int
    samples: int
    threads: int
    seed: int

    @property
    def folder(self) -> Path:
        return Path(self.out, "scenes", self.split, asset_folder_name(self.asset.id))


def split_of(asset: FurnitureAsset, categories: Sequence[str]) -> str:
    """The split a model belongs to, where all models of these categories are held out."""
    if asset.category in categories:
        return HELD_OUT_CATEGORIES
    return HELD_OUT_MODELS if asset.held_out else TRAIN


def make_orbits(
    out: str | os.PathLike,
    furniture: str | os.PathLike = furniture_assets.DEBIAN_FURNITURE,
    views: int = 24,
    categories: Sequence[str] = ("Vehicles",),
    models: int | None = None,
    workers: int = 2,
    seed: int = 0,
    resolution: int = 128,
    samples: int = 8,
    progress: bool = True,
) -> dict[str, int]:
    """Makes, or goes on making, orbits of a library's models. A model appears in its place only when it is whole.

    Args:
        out: folder of the world. furniture: folder of `.sh3f` catalogues, or of USD assets.
        views: pictures a model. categories: of models that are held out altogether.
        models: at most so many of each split; None takes all.
        workers: processes. seed: decides where each model's cameras stand.
        resolution: width and height of the pictures. samples: Cycles' samples a pixel.

    Returns:
        split to the number of its models that are there now.

    Raises:
        FileNotFoundError: no furniture; the message names the Debian package. ImportError: no `bpy`.
        ValueError: the library has no model of a category.
    """
    from .workers import run_tasks

    require_bpy()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    library, assets = library_of(Path(furniture), folder, progress)
    known = {asset.category for asset in assets}
    if unknown := [category for category in categories if category not in known]:
        raise ValueError(f"no model is of the category '{unknown[0]}'; there are {', '.join(sorted(known))}")
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = []
    for split in SPLITS:
        begin_split(folder / "scenes" / split)
        of_split = [asset for asset in assets if split_of(asset, categories) == split]
        for asset in of_split[:models]:
            task = OrbitTask(str(folder), str(library), split, asset, views, resolution, samples, threads, seed)
            if not task.folder.exists():
                tasks.append(task)
    run_tasks(make_orbit, tasks, workers, folder / "failed.jsonl", "models" if progress else "")
    return {split: sum(1 for _ in finished(folder / "scenes" / split)) for split in SPLITS}


def finished(folder: Path) -> Iterable[Path]:
    """The complete scenes of a split."""
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))


def make_orbit(task: OrbitTask) -> None:
    """Writes one model's stage, renders its frames, and moves it into its place."""
    from .cycles import render_frames

    with whole_folder(task.folder) as made:
        write_orbit(made / "scene.usda", task)
        frames = list(range(1, task.views + 1))
        render_frames(
            made / "scene.usda",
            frames,
            task.resolution,
            made,
            camera="/World/Camera",
            samples=task.samples,
            threads=task.threads,
            seed=task.seed,
        )
        about = {"split": task.split, "frames": frames, "assets": [task.asset.id], "category": task.asset.category}
        (made / "scene.json").write_text(json.dumps(about))


def canonical_cube(asset: FurnitureAsset) -> tuple[np.ndarray, float]:
    """Middle (3,) and half the side of a model's canonical cube, in metres, in its own space."""
    size = np.asarray(asset.size)
    return np.asarray(asset.minimum) + size / 2, float(MARGIN * size.max() / 2)


def orbit_directions(views: int, seed: int) -> np.ndarray:
    """(views, 3) unit vectors from the object to the camera, spread evenly between `LOWEST` and `HIGHEST`."""
    shift = np.random.default_rng(seed).random(2)
    height = np.sin(np.radians(LOWEST)) + (np.arange(views) + shift[0]) / views * (
        np.sin(np.radians(HIGHEST)) - np.sin(np.radians(LOWEST))
    )
    turn = 2 * np.pi * (np.arange(views) * (np.sqrt(5) - 1) / 2 + shift[1])  # a golden spiral
    beside = np.sqrt(1 - height**2)
    return np.stack([beside * np.cos(turn), beside * np.sin(turn), height], -1)


def write_orbit(file: Path, task: OrbitTask) -> None:
    """The stage of an orbit: metres, Z up, a time code a view."""
    from pxr import Gf, Kind, Usd, UsdGeom, UsdLux

    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(task.views)
    world = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    Usd.ModelAPI(world).SetKind(Kind.Tokens.assembly)
    asset = UsdGeom.Xform.Define(stage, "/World/Asset").GetPrim()
    reference = os.path.relpath(Path(task.library) / task.asset.path, file.parent)
    asset.GetReferences().AddReference(Path(reference).as_posix())
    UsdGeom.Xformable(asset).ClearXformOpOrder()
    add_asset_api(asset, "foreground", task.asset.name.lower())
    middle, _ = canonical_cube(task.asset)
    # The sphere around its box fits into the picture.
    distance = 1.05 * float(np.linalg.norm(task.asset.size)) / 2 / np.sin(np.radians(FIELD_OF_VIEW) / 2)
    directions = orbit_directions(task.views, task.seed)
    _write_camera(stage, middle, distance, directions)
    sky = UsdLux.DomeLight.Define(stage, "/World/Lights/Sky")
    sky.CreateIntensityAttr(2.5)
    sun = UsdLux.DistantLight.Define(stage, "/World/Lights/Sun")
    sun.CreateIntensityAttr(1.5)
    sun.CreateAngleAttr(20.0)
    above = camera_matrix(middle + np.array([1.0, -1.5, 2.5]), middle)
    sun.AddTransformOp().Set(Gf.Matrix4d(*above.reshape(-1).tolist()))
    stage.GetRootLayer().Save()


def _write_camera(stage: Any, middle: np.ndarray, distance: float, directions: np.ndarray) -> None:
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    aperture = 20.955
    camera.CreateHorizontalApertureAttr(aperture)
    camera.CreateVerticalApertureAttr(aperture)
    camera.CreateFocalLengthAttr(aperture / 2 / float(np.tan(np.radians(FIELD_OF_VIEW) / 2)))
    camera.CreateClippingRangeAttr(Gf.Vec2f(0.01 * distance, 10 * distance))
    transform = camera.AddTransformOp()
    for frame, direction in enumerate(directions, 1):
        matrix = camera_matrix(middle + distance * direction, middle)
        transform.Set(Gf.Matrix4d(*matrix.reshape(-1).tolist()), frame)
