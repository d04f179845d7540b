"""A video to what is seen in its frames: objects that keep their numbers, and depth (Neural USD, section 3.1)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .annotation import ASSUMED_FIELD_OF_VIEW, Annotation, paint, words_of
from .depth import estimate_depth
from .detect import detect
from .errors import ImageError
from .hub import models_kept
from .segment import segment
from .track import associate, track

# An object that is seen in fewer frames than a pair has teaches nothing.
FEWEST_FRAMES = 2


def annotate_clip(
    pictures: Sequence[np.ndarray],
    *,
    detector: str | os.PathLike,
    segmenter: str | os.PathLike | None = None,
    tracker: str | os.PathLike | None = None,
    depth: str | os.PathLike | None = None,
    prompts: str | Sequence[str] | None = None,
    field_of_view: float | None = None,
    depth_kind: str | None = None,
    threshold: float = 0.3,
    min_area: float = 1e-3,
    source: str = "",
    device: str | None = None,
) -> list[Annotation]:
    """Objects and depth of a video's frames.

    With a tracker, objects are detected in the first frame that shows any, and followed from there on; what enters
    later is background. Without one they are detected and segmented in every frame and associated by their masks'
    overlap, see `associate`.

    Args:
        pictures: (H, W, 3) uint8 sRGB each, of one size, in their order.
        detector: see `detect`. segmenter: see `segment`; needed where there is no tracker. tracker: see `track`.
        depth: see `estimate_depth`; a model that knows no metres maps each frame for itself to 1 to 10 m.
        prompts, field_of_view, depth_kind, threshold, min_area, device: see `annotate`.
        source: the video, for messages.

    Returns:
        an annotation a frame; all have the same `labels`, to which `ids` refer, and the same field of view. An object
        may be missing in a frame's `ids`. What was assumed is in the notes of the first.

    Raises:
        ImageError: nothing is found in the video; names it.
        ModelError: a model cannot be had or used.
    """
    words = words_of(prompts)
    images = [Image.fromarray(picture) for picture in pictures]
    with models_kept():
        if tracker is not None:
            labels, masks = _tracked(images, detector, tracker, words, threshold, min_area, device)
        elif segmenter is not None:
            labels, masks = _associated(images, detector, segmenter, words, threshold, min_area, device)
        else:
            raise ValueError("masks come from a segmenter or from a tracker; give either")
        if not labels:
            looked_for = f" of {', '.join(words)}" if words else ""
            raise ImageError(
                f"{source or 'the video'}: no object{looked_for} was found in {FEWEST_FRAMES} frames or more with a "
                f"score of {threshold:g}; name other objects, or lower the threshold"
            )
        notes: list[str] = []
        view = field_of_view
        metres: list[np.ndarray | None] = []
        for image in images:
            if depth is None:
                metres.append(None)
                continue
            estimate = estimate_depth(image, depth, field_of_view=view, kind=depth_kind, device=device)
            metres.append(estimate.metres)
            view = view or estimate.field_of_view
            notes += [note for note in estimate.notes if note not in notes]
    if depth is None:
        notes.append("no depth was given, so objects have 2D boxes and no place in space")
    if view is None:
        view = ASSUMED_FIELD_OF_VIEW
        notes.append(f"the camera is not known: a horizontal field of view of {view:g} degrees was assumed")
    return [
        Annotation(
            color=picture.astype(np.float32) / 255,
            ids=paint(of_frame, picture.shape[:2]),
            labels=labels,
            scores=[1.0] * len(labels),
            depth=far,
            field_of_view=view,
            notes=notes if number == 0 else [],
            source=source,
        )
        for number, (picture, of_frame, far) in enumerate(zip(pictures, masks, metres, strict=True))
    ]


def _tracked(
    images: list[Image.Image],
    detector: str | os.PathLike,
    tracker: str | os.PathLike,
    words: list[str],
    threshold: float,
    min_area: float,
    device: str | None,
) -> tuple[list[str], list[dict[int, np.ndarray]]]:
    """Labels, and of each frame object to mask."""
    first, detections = 0, detect(images[0], detector, words, threshold=threshold, device=device)
    while not detections and first + 1 < len(images):
        first += 1
        detections = detect(images[first], detector, words, threshold=threshold, device=device)
    if not detections:
        return [], [{} for _ in images]
    followed = track(images[first:], tracker, [detection.box for detection in detections], device=device)
    masks: list[dict[int, np.ndarray]] = [{} for _ in range(first)]
    masks += [{index: mask for index, mask in enumerate(of_frame) if _large(mask, min_area)} for of_frame in followed]
    return _seen_often([detection.label for detection in detections], masks)


def _associated(
    images: list[Image.Image],
    detector: str | os.PathLike,
    segmenter: str | os.PathLike,
    words: list[str],
    threshold: float,
    min_area: float,
    device: str | None,
) -> tuple[list[str], list[dict[int, np.ndarray]]]:
    """Labels, and of each frame object to mask."""
    found = []
    for image in images:
        detections = detect(image, detector, words, threshold=threshold, device=device)
        boxes = [detection.box for detection in detections]
        masks = segment(image, segmenter, boxes, device=device) if boxes else []
        large = [index for index, mask in enumerate(masks) if _large(mask, min_area)]
        found.append(([detections[index].label for index in large], [masks[index] for index in large]))
    labels, assigned = associate(found)
    return _seen_often(
        labels, [dict(zip(objects, masks, strict=True)) for objects, (_, masks) in zip(assigned, found, strict=True)]
    )


def _large(mask: np.ndarray, min_area: float) -> bool:
    return bool(mask.any()) and float(mask.mean()) >= min_area


def _seen_often(labels: list[str], masks: list[dict[int, np.ndarray]]) -> tuple[list[str], list[dict[int, np.ndarray]]]:
    """Without the objects that fewer frames than `FEWEST_FRAMES` show."""
    kept = [index for index in range(len(labels)) if sum(index in of_frame for of_frame in masks) >= FEWEST_FRAMES]
    new = {index: number for number, index in enumerate(kept)}
    return [labels[index] for index in kept], [
        {new[index]: mask for index, mask in of_frame.items() if index in new} for of_frame in masks
    ]
