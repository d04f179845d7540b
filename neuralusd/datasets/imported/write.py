"""An imported scene as a folder of a world: the stage, and of every frame the picture and the passes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from ...scene import Camera
from ..cycles import frame_name
from .masks import ids_from_boxes_2d, ids_from_boxes_3d
from .pictures import cameras, cropped_boxes, scaled, windows
from .scene import DatasetError, ImportedObject, ImportedScene
from .stage import StageWriter, decomposed, prim_names

# Sides of boxes are at least this long, in metres: a flat box has no pose that can be read back.
THINNEST = 1e-3


@dataclass
class _Object:
    """An object at the frames that are written: all arrays have T rows, none of them NaN."""

    source: ImportedObject
    presence: np.ndarray
    extent: np.ndarray | None = None
    local_to_world: np.ndarray | None = None
    boxes_2d: np.ndarray | None = None


def write_scene(
    scene: ImportedScene,
    folder: Path,
    about: dict[str, Any],
    *,
    resolution: int,
    frames: int | None = None,
    objects: int | None = None,
) -> None:
    """Writes `scene.usda`, `rgb.NNNN.png`, `passes.NNNN.npz` and `scene.json` to a folder that is there.

    Objects that no frame shows are left out.

    Args:
        about: begins `scene.json`. resolution: side of the pictures in pixels.
        frames: at most so many, evenly spaced. objects: at most so many, those that most pixels show.

    Raises:
        DatasetError: the scene contradicts itself, or its pictures cannot be read.
    """
    where = about.get("id", "the scene")
    if scene.count == 0:
        raise DatasetError(f"{where} has no frames")
    indices = np.arange(scene.count)
    if frames is not None and frames < scene.count:
        indices = np.unique(np.round(np.linspace(0, scene.count - 1, frames)).astype(int))
    if not np.isfinite(scene.camera.camera_to_world).all():
        raise DatasetError(f"{where}: its camera has a pose that is not finite")
    views, crops = cameras(scene.camera, indices), windows(scene.camera, indices)
    things = [_prepared(thing, indices, scene, where) for thing in scene.objects]

    ids, depths = [], []
    for number, (frame, view, crop) in enumerate(zip(scene.frames(indices.tolist()), views, crops, strict=True)):
        frame = scaled(frame, crop, resolution, f"{where}, frame {indices[number]}")
        PIL.Image.fromarray(frame.color).save(folder / f"rgb.{frame_name(number + 1)}.png")
        if frame.ids is None:
            frame.ids = _ids(things, number, view, resolution)
        elif frame.ids.max() >= len(things):
            raise DatasetError(f"{where}, frame {indices[number]}: its ids go beyond its {len(things)} objects")
        ids.append(frame.ids)
        depths.append(np.full((resolution, resolution), np.inf, np.float32) if frame.depth is None else frame.depth)

    kept = _kept(ids, len(things), objects)
    names = prim_names([things[index].source.name for index in kept])
    writer = StageWriter(folder / "scene.usda", len(indices), scene.up_axis, scene.frames_per_second)
    writer.background(scene.background)
    writer.camera(views)
    paths = ["/World/Room"]
    for name, index in zip(names, kept, strict=True):
        thing = things[index]
        source = thing.source
        paths.append(
            writer.object(
                name, source.text, source.labels, thing.presence, thing.extent, thing.local_to_world, thing.boxes_2d
            )
        )
    writer.save()

    # objects that were left out are part of the background, which is the first path
    lookup = np.zeros(len(things) + 1, np.int8 if len(paths) <= 127 else np.int16)
    lookup[kept] = np.arange(1, len(paths))
    for number, (image, depth) in enumerate(zip(ids, depths, strict=True), 1):
        passes = {"depth": depth, "ids": lookup[image], "paths": np.array(paths)}
        np.savez_compressed(folder / f"passes.{frame_name(number)}.npz", **passes)
    written = [{"path": path, **things[index].source.about} for path, index in zip(paths[1:], kept, strict=True)]
    about = {
        **about,
        **scene.about,
        "frames": list(range(1, len(indices) + 1)),
        "source_frames": indices.tolist(),
        "assets": [things[index].source.name for index in kept],
        "objects": written,
    }
    (folder / "scene.json").write_text(json.dumps(about))


def _prepared(thing: ImportedObject, indices: np.ndarray, scene: ImportedScene, where: str) -> _Object:
    """An object at these frames; what it is in those it is not present in is taken from the nearest it is."""
    everywhere = np.ones(scene.count, bool) if thing.presence is None else np.asarray(thing.presence, bool)
    presence = everywhere[indices]
    out = _Object(thing, presence)
    if not presence.any():
        return out
    held = _nearest(presence)
    if thing.extent is not None and thing.local_to_world is not None:
        out.extent, out.local_to_world = _extent(thing, where), thing.local_to_world[indices][held]
        try:
            decomposed(out.local_to_world)
        except ValueError as error:
            raise DatasetError(f"{where}: the object {thing.name!r} cannot be placed: {error}") from error
    elif thing.boxes_2d is not None:
        boxes = np.asarray(thing.boxes_2d, np.float64)[indices][held]
        if not np.isfinite(boxes).all():
            raise DatasetError(f"{where}: the object {thing.name!r} has a box that is not finite")
        boxes = cropped_boxes(boxes, scene.camera.size, windows(scene.camera, indices))
        # what the crop leaves nothing of is not there
        out.presence = presence & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        out.boxes_2d = boxes[_nearest(out.presence)] if out.presence.any() else boxes
    else:
        raise DatasetError(f"{where}: the object {thing.name!r} has neither a 3D box nor 2D boxes")
    return out


def _extent(thing: ImportedObject, where: str) -> np.ndarray:
    extent = np.asarray(thing.extent, np.float64)
    if extent.shape != (2, 3) or not np.isfinite(extent).all() or (extent[1] < extent[0]).any():
        raise DatasetError(f"{where}: the object {thing.name!r} has a box that is not minimum and maximum: {extent}")
    missing = np.maximum(THINNEST - (extent[1] - extent[0]), 0) / 2
    return np.stack([extent[0] - missing, extent[1] + missing])


def _nearest(presence: np.ndarray) -> np.ndarray:
    """(T,) index of the present frame nearest to each frame."""
    there = np.flatnonzero(presence)
    return there[np.abs(np.arange(len(presence))[:, None] - there).argmin(1)]


def _ids(things: list[_Object], number: int, view: Camera, resolution: int) -> np.ndarray:
    """Masks from boxes: 3D boxes as they hide each other, and 2D boxes over them."""

    def here(thing: _Object, values: np.ndarray | None) -> Any:
        return None if values is None or not thing.presence[number] else values[number]

    solid = [
        None if thing.extent is None or (pose := here(thing, thing.local_to_world)) is None else (thing.extent, pose)
        for thing in things
    ]
    flat = ids_from_boxes_2d([here(thing, thing.boxes_2d) for thing in things], resolution)
    return np.where(flat >= 0, flat, ids_from_boxes_3d(view, solid, resolution))


def _kept(ids: list[np.ndarray], count: int, most: int | None) -> list[int]:
    """The objects that are seen, at most `most`, in their order."""
    seen = np.bincount(np.concatenate([image[image >= 0] for image in ids]), minlength=count)
    order = np.argsort(-seen, kind="stable")[:most]
    return sorted(int(index) for index in order if seen[index] > 0)
