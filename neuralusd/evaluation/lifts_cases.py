"""Held-out models of a world of orbits as cases of the lift part: which picture is lifted, what it is compared with."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import stage as stages
from ..datasets.frames import WorldWarning
from ..datasets.objects import canonical_to_world
from ..datasets.orbits import MARGIN
from ..datasets.world import SceneFolder, World
from ..lifting import Cutout
from ..scene import Camera
from ..stage.errors import StageWarning
from .lifts_solid import Solid, painted_solid
from .point_clouds import outer_points

# Where the picture that is lifted is taken from, in degrees: beside the front (-Y of the library's models), on either
# side, a little above the horizon, as people photograph furniture.
THREE_QUARTER, ELEVATION = 35.0, 20.0
FEWEST_VIEWS = 6


@dataclass
class View:
    """One picture of an orbit.

    Attributes:
        camera: in metres of the world. color: (H, W, 3) in 0..1, with the backdrop. mask: (H, W) bool, the object.
        depth: (H, W) metres, infinite where the object is not. file: the picture.
    """

    camera: Camera
    color: np.ndarray
    mask: np.ndarray
    depth: np.ndarray
    file: Path

    @cached_property
    def backdrop(self) -> np.ndarray:
        """(3,) the colour behind the object."""
        behind = self.color[~self.mask]
        return np.median(behind, axis=0) if len(behind) else np.zeros(3)

    def cutout(self) -> Cutout:
        """The picture as a lifter gets it: the object with its alpha, and nothing else; no name, no words."""
        color = np.where(self.mask[..., None], self.color, 0).astype(np.float32)
        return Cutout(color, self.mask.astype(np.float32), source="", how="alpha")


@dataclass
class OrbitModel:
    """A model by itself, and what its orbit shows of it.

    Attributes:
        cube: (4, 4) for row vectors, from the canonical cube (-1..1) to the world; half: metres a canonical unit.
        points, faces: its triangles in the world, metres.
    """

    name: str
    text: str
    folder: Path
    views: list[View]
    cube: np.ndarray
    half: float
    points: np.ndarray = field(repr=False)
    faces: np.ndarray = field(repr=False)

    @property
    def longest(self) -> float:
        """Metres, the longest side of its box: the unit of what is measured."""
        return 2 * self.half / MARGIN

    @cached_property
    def solid(self) -> Solid:
        """Its true mesh, in the colours that its own pictures show it in."""
        seen, colors = [], []
        for view in self.views:
            origins, directions = view.camera.rays(*view.mask.shape)
            seen.append((origins + np.where(view.mask, view.depth, 0)[..., None] * directions)[view.mask])
            colors.append(view.color[view.mask])
        return painted_solid(self.points, self.faces, np.concatenate(seen), np.concatenate(colors))

    def toward(self) -> np.ndarray:
        """(V, 3) unit vectors from the object to its cameras, in its own axes."""
        eyes = np.stack([np.linalg.inv(view.camera.world_to_camera)[3, :3] for view in self.views])
        inverse = np.linalg.inv(self.cube)
        local = eyes @ inverse[:3, :3] + inverse[3, :3]
        return local / np.linalg.norm(local, axis=1, keepdims=True)


@dataclass
class LiftCase:
    """A model, the pictures that may be lifted, and those that what was made is compared with.

    Attributes:
        given: indices of four views, about a quarter turn apart; the first is the one that is lifted.
        unseen: indices of the others.
    """

    model: OrbitModel
    given: tuple[int, ...]
    unseen: tuple[int, ...]

    @property
    def picture(self) -> View:
        return self.model.views[self.given[0]]

    @cached_property
    def digest(self) -> str:
        """Of the model's stage and pictures, as they are on disk."""
        digest = hashlib.sha256((self.model.folder / "scene.usda").read_bytes())
        for view in self.model.views:
            digest.update(view.file.read_bytes())
        return digest.hexdigest()


def plan_case(model: OrbitModel) -> LiftCase:
    """Which views are given: by where they were taken from alone, never by what they show.

    Raises:
        ValueError: there are too few views.
    """
    if len(model.views) < FEWEST_VIEWS:
        raise ValueError(f"there are {len(model.views)} views of it, and {FEWEST_VIEWS} are the fewest")
    toward = model.toward()
    first = min((_nearest(toward, -90 + side * THREE_QUARTER, ()) for side in (-1, 1)), key=lambda found: found[1])[0]
    azimuth = np.degrees(np.arctan2(toward[first, 1], toward[first, 0]))
    given = [first]
    for turn in (90, 180, 270):
        given.append(_nearest(toward, azimuth + turn, given)[0])
    return LiftCase(model, tuple(given), tuple(sorted(set(range(len(model.views))) - set(given))))


def _nearest(toward: np.ndarray, azimuth: float, taken: list[int] | tuple[int, ...]) -> tuple[int, float]:
    """Index of the view nearest to a direction, and its angle to it in degrees."""
    turn, up = np.radians([azimuth, ELEVATION])
    wanted = np.array([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)])
    cosine = toward @ wanted
    cosine[list(taken)] = -np.inf
    best = int(cosine.argmax())
    return best, float(np.degrees(np.arccos(np.clip(cosine[best], -1, 1))))


def chosen_scenes(world: World, count: int, seed: int) -> list[SceneFolder]:
    """Up to `count` scenes of a split, drawn with `seed`, in the order of their names."""
    order = np.random.default_rng([seed, 2]).permutation(len(world))[:count]
    return [world[index] for index in sorted(order)]


def read_model(folder: SceneFolder) -> OrbitModel:
    """A scene of a world of orbits.

    Raises:
        ValueError: it is damaged, or shows no object, or several; says which scene.
    """
    try:
        with warnings.catch_warnings():
            # Without one of its files a model is not what its pictures show.
            warnings.simplefilter("error", StageWarning)
            return _read(folder)
    except (OSError, EOFError, KeyError, IndexError, ValueError, zipfile.BadZipFile, StageWarning) as error:
        text = " ".join(str(error).split())
        said = f"it lacks {text}" if isinstance(error, KeyError) else text or type(error).__name__
        raise ValueError(f"{folder.path}: {said}") from error


def read_cases(folders: list[SceneFolder]):
    """The cases of scenes, one after another; those that cannot be read are left out.

    Warns:
        WorldWarning: names the scene that is left out, and says why.
    """
    for folder in folders:
        try:
            yield plan_case(read_model(folder))
        except ValueError as error:
            warnings.warn(f"{error}; it is left out", WorldWarning, stacklevel=2)


def _read(folder: SceneFolder) -> OrbitModel:
    stage = stages.open_stage(folder.stage_path)
    views = []
    for frame in folder.frames:
        seen, scene = folder.read(frame), stages.read(stage, None, float(frame))
        cube, half = canonical_to_world(scene)
        [asset] = scene.foreground
        mask = np.isin(seen.ids, [number for number, path in enumerate(seen.paths) if path == asset.path])
        if seen.rgb.shape[:2] != mask.shape or seen.depth.shape != mask.shape:
            raise ValueError(f"frame {frame}: its picture, depth and ids are of different sizes")
        depth = np.where(mask & np.isfinite(seen.depth), seen.depth, np.inf).astype(np.float64)
        mask &= np.isfinite(depth)
        views.append(View(scene.camera, seen.rgb / np.float32(255), mask, depth, folder.rgb_path(frame)))
    if not views:
        raise ValueError("there are no pictures of it")
    points, faces = _triangles(stage, asset.path)
    return OrbitModel(folder.id, asset.text, folder.path, views, cube, half, points, faces)


def _triangles(stage: Any, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) in metres of the world and faces (F, 3) of what a prim draws. ValueError where it is nothing."""
    pieces = [p for p in stages.gather_meshes(stage, None) if str(p.path) == path or str(p.path).startswith(f"{path}/")]
    points, faces, count = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0
    for piece in pieces:
        points.append(piece.mesh.points @ piece.local_to_world[:3, :3] + piece.local_to_world[3, :3])
        faces.append(piece.mesh.triangles + count)
        count += len(piece.mesh.points)
    if not count:
        raise ValueError(f"<{path}> has no surface")
    return np.concatenate(points), np.concatenate(faces)


def true_points(folder: SceneFolder, count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) points of a model's true surface (see `outer_points`), about the middle of its box, in units of its
    longest side and along its own axes.

    Raises:
        ValueError: the scene is damaged, or the model has no surface.
    """
    stage = stages.open_stage(folder.stage_path)
    scene = stages.read(stage, None, float(folder.frames[0]))
    cube, _ = canonical_to_world(scene)
    points, faces = _triangles(stage, scene.foreground[0].path)
    inverse = np.linalg.inv(cube)
    return outer_points((points @ inverse[:3, :3] + inverse[3, :3]) * MARGIN / 2, faces, count, seed)
