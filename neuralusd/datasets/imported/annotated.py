"""Masks and depth where a dataset has none: SAM prompted by its boxes, ZoeDepth (Neural USD, section 3.1)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from .projection import picture_box, picture_points
from .scene import ImportedFrame, ImportedScene


def annotated(
    scene: ImportedScene,
    *,
    segmenter: str | os.PathLike | None = None,
    depth: str | os.PathLike | None = None,
    device: str | None = None,
) -> ImportedScene:
    """The scene with what it lacks: masks by a segmenter from its objects' 2D boxes, which are the tight boxes of
    projected 3D boxes where it has these, and depth by a model.

    What the dataset has itself is kept. Where there are 3D boxes depth is scaled, a factor a frame, such that the
    objects are as far away as their boxes: models' metres, the more so relative depth, do not agree with a dataset's.

    Args:
        segmenter: see `neuralusd.annotate.segment.segment`. depth: see `neuralusd.annotate.depth.estimate_depth`.

    Raises:
        ModelError: when frames are asked for, a model cannot be had or used.
    """
    if segmenter is None and depth is None:
        return scene

    def frames(indices: Sequence[int]) -> Iterator[ImportedFrame]:
        for index, frame in zip(indices, scene.frames(indices), strict=True):
            if frame.ids is None and segmenter is not None:
                frame.ids = _ids(scene, index, frame, segmenter, device)
            if frame.depth is None and depth is not None:
                frame.depth = _depth(scene, index, frame, depth, device)
            yield frame

    models = {"segmenter": segmenter, "depth": depth}
    used = {role: os.fspath(name) for role, name in models.items() if name is not None}
    return replace(scene, frames=frames, about={**scene.about, "annotators": used})


def _ids(
    scene: ImportedScene, index: int, frame: ImportedFrame, segmenter: str | os.PathLike, device: str | None
) -> np.ndarray:
    from PIL import Image

    from ...annotate.annotation import paint
    from ...annotate.segment import segment

    height, width = frame.color.shape[:2]
    boxes = {}
    for number, thing in enumerate(scene.objects):
        box = picture_box(scene.camera, thing, index)
        if box is not None and np.isfinite(box).all() and box[2] * height >= 1 and box[3] * width >= 1:
            x, y, h, w = box
            boxes[number] = (x * width, y * height, (x + w) * width, (y + h) * height)
    if not boxes:
        return np.full((height, width), -1, np.int32)
    masks = segment(Image.fromarray(frame.color), segmenter, list(boxes.values()), device=device)
    return paint(dict(zip(boxes, masks, strict=True)), (height, width))


def _depth(
    scene: ImportedScene, index: int, frame: ImportedFrame, depth: str | os.PathLike, device: str | None
) -> np.ndarray:
    from PIL import Image

    from ...annotate.depth import estimate_depth

    focal = np.broadcast_to(scene.camera.focal, (scene.count, 2))[index, 0]
    view = float(np.degrees(2 * np.arctan(scene.camera.size[0] / 2 / focal)))
    metres = estimate_depth(Image.fromarray(frame.color), depth, field_of_view=view, device=device).metres
    factors = []
    for number, thing in enumerate(scene.objects):
        seen = _seen(scene, index, frame, number)
        if thing.extent is None or thing.local_to_world is None or not seen.any():
            continue
        middle = np.append(np.mean(thing.extent, axis=0), 1.0) @ thing.local_to_world[index]
        away = picture_points(scene.camera, index, middle[:3])[2]
        if away > 0:
            factors.append(away / float(np.median(metres[seen])))
    return (metres * np.median(factors)).astype(np.float32) if factors else metres


def _seen(scene: ImportedScene, index: int, frame: ImportedFrame, number: int) -> np.ndarray:
    """(H, W) bool, the pixels of an object: of its mask, or of its box where there are no masks."""
    if frame.ids is not None:
        return np.asarray(frame.ids) == number
    seen = np.zeros(frame.color.shape[:2], bool)
    box = picture_box(scene.camera, scene.objects[number], index)
    if box is not None and np.isfinite(box).all():
        height, width = seen.shape
        x, y, h, w = box
        seen[int(y * height) : int((y + h) * height), int(x * width) : int((x + w) * width)] = True
    return seen
