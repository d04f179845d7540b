"""The frames of a world as scenes and what their cameras see: what packing and evaluation read."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator

import numpy as np

from .. import stage as stages
from ..scene import Passes, Scene, reindexed
from ..stage.errors import StageWarning
from .world import SceneFolder, open_world


class WorldWarning(UserWarning):
    """A scene of a world was left out; the others are read."""


def frames(world: str | os.PathLike, split: str = "train") -> Iterator[tuple[str, Scene, Passes]]:
    """Scene name, scene and passes of every frame of a split, scene by scene.

    Args:
        world, split: see `open_world`.

    Raises:
        FileNotFoundError: no such world or split.

    Warns:
        WorldWarning: a scene is damaged, so all of it is left out; names it.
    """
    for folder in open_world(world, split):
        try:
            found = read_frames(folder)
        except (OSError, EOFError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as error:
            warnings.warn(f"{folder.path} is left out: {_sentence(error)}", WorldWarning, stacklevel=2)
            continue
        for scene, passes in found:
            yield folder.id, scene, passes


def read_frames(folder: SceneFolder) -> list[tuple[Scene, Passes]]:
    """Scene and passes of every frame of one scene. Raises ValueError and its kin where it is damaged."""
    with warnings.catch_warnings():
        # Without one of its assets a scene shows what its stage does not say.
        warnings.simplefilter("error", StageWarning)
        try:
            stage = stages.open_stage(folder.stage_path)
            return [_frame(folder, frame, stages.read(stage, None, float(frame))) for frame in folder.frames]
        except StageWarning as warning:
            raise ValueError(str(warning)) from warning


def _frame(folder: SceneFolder, frame: int, scene: Scene) -> tuple[Scene, Passes]:
    rendered = folder.read(frame)
    if rendered.depth.shape != rendered.ids.shape or rendered.rgb.shape != (*rendered.ids.shape, 3):
        raise ValueError(f"frame {frame}: its picture, depth and ids are of different sizes; render it again")
    ids = reindexed(rendered.ids, rendered.paths, scene)
    depth = rendered.depth.astype(np.float32)
    points = _points(scene, ids, depth)
    return scene, Passes(ids=ids, depth=depth, points=points, color=rendered.rgb.astype(np.float32) / 255)


def _points(scene: Scene, ids: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """See `Passes.points`."""
    origins, directions = scene.camera.rays(*depth.shape)
    points = origins + np.where(np.isfinite(depth), depth, np.nan)[..., None] * directions
    for index, asset in enumerate(scene.assets):
        seen = ids == index
        inverse = np.linalg.inv(asset.local_to_world)
        points[seen] = points[seen] @ inverse[:3, :3] + inverse[3, :3]
    return points.astype(np.float32)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"it lacks {text}" if isinstance(error, KeyError) else text or type(error).__name__
