"""What is seen in a photograph: which pixels are which object, and how far everything is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..scene import Passes, Scene
from .depth import estimate_depth
from .detect import detect
from .errors import ImageError, ModelError
from .files import MaskSource, read_depth, read_masks, resize_nearest
from .photo import Photo, open_photo
from .place import to_scene
from .segment import segment

ASSUMED_FIELD_OF_VIEW = 50.0


@dataclass
class Annotation:
    """A photograph's objects (Neural USD, section 3.1).

    Attributes:
        color: (H, W, 3) float32 display-referred sRGB in 0..1.
        ids: (H, W) int32, index into `labels` of the object seen; -1 is background.
        labels: what each object is, in words; empty where nothing says.
        scores: the detector's certainty of each object in 0..1; 1 for masks that were given.
        depth: (H, W) float32 in metres along the viewing axis, inf where unknown; None where no depth is known at all.
        field_of_view: horizontal, in degrees.
        notes: what was assumed, left out, or looks odd, a sentence each.
        source: the photograph's file.
    """

    color: np.ndarray
    ids: np.ndarray
    labels: list[str]
    scores: list[float]
    depth: np.ndarray | None
    field_of_view: float
    notes: list[str] = field(default_factory=list)
    source: str = ""


def annotate(
    image: str | os.PathLike | Image.Image | np.ndarray,
    *,
    detector: str | os.PathLike | None = None,
    segmenter: str | os.PathLike | None = None,
    depth: str | os.PathLike | None = None,
    prompts: str | Sequence[str] | None = None,
    masks: MaskSource | None = None,
    depth_map: str | os.PathLike | np.ndarray | None = None,
    field_of_view: float | None = None,
    depth_kind: str | None = None,
    threshold: float = 0.3,
    min_area: float = 1e-3,
    max_size: int = 2048,
    device: str | None = None,
    progress: bool = True,
) -> Annotation:
    """Finds a photograph's objects and their depth.

    Objects come from a detector's boxes and a segmenter's masks of them, or from `masks` that you have. Depth comes
    from a model, or from a `depth_map` that you have; without either, objects have a 2D box only.

    Args:
        image: a file, a PIL image, or an array (H, W, 3) of uint8, or of floats in 0..1; sRGB.
        detector, segmenter, depth: hub ids or local folders of transformers models. See `detect`, `segment` and
            `estimate_depth`.
        prompts: what to look for, a list or separated by commas; with `masks`, the objects' names in their order.
        masks: see `read_masks`. depth_map: see `read_depth` (metres, or millimetres in a 16-bit PNG).
        field_of_view: horizontal, in degrees. None takes the file's EXIF, else what Depth Pro says, else 50.
        depth_kind: "metric" or "relative", for a depth model whose configuration does not say.
        threshold: detections of a lower score are left out.
        min_area: detected objects that cover less of the image than this are left out (section 4 filters small boxes).
        max_size: the photograph's longer side is reduced to this many pixels.
        device: torch device of the models; None takes a GPU if there is one.
        progress: show a bar on stderr.

    Raises:
        ImageError: the photograph, a mask or the depth map cannot be used; the message names the file.
        ModelError: a model cannot be had or used; the message says what to do instead.
    """
    if masks is None and (detector is None or segmenter is None):
        raise ModelError(
            "where the objects are comes from a detector and a segmenter (hub ids or local folders, such as "
            "IDEA-Research/grounding-dino-tiny and facebook/sam-vit-base), or from masks that you have; give either"
        )
    if masks is not None and (detector is not None or segmenter is not None):
        raise ModelError("give masks, or a detector and a segmenter, not both")
    if depth is not None and depth_map is not None:
        raise ModelError("give a depth map or a depth model, not both")
    if field_of_view is not None and not 1 <= field_of_view <= 170:
        raise ImageError(f"field_of_view is horizontal, in degrees, between 1 and 170; not {field_of_view}")
    words = words_of(prompts)
    photo = open_photo(image, max_size)

    with tqdm(total=2 + (masks is None), desc="annotate", unit="step", disable=not progress) as bar:
        if masks is not None:
            bar.set_postfix_str("masks")
            labels, found = _given(masks, words, photo)
            scores = [1.0] * len(found)
        else:
            bar.set_postfix_str("detector")
            detections = detect(photo.image, detector or "", words, threshold=threshold, device=device)
            if not detections:
                looked_for = f" of {', '.join(words)}" if words else ""
                raise ImageError(
                    f"{photo.source or 'the image'}: the detector found nothing{looked_for} with a score of "
                    f"{threshold:g} or more; name other objects, lower the threshold, or give masks"
                )
            bar.update()
            bar.set_postfix_str("segmenter")
            found = segment(photo.image, segmenter or "", [detection.box for detection in detections], device=device)
            labels = [detection.label for detection in detections]
            scores = [detection.score for detection in detections]
            labels, scores, found = _large_enough(labels, scores, found, min_area, photo)
        bar.update()
        bar.set_postfix_str("depth")
        metres, view = _depth(photo, depth, depth_map, field_of_view, depth_kind, device)
        bar.update()
    ids = paint(dict(enumerate(found)), found[0].shape)
    return Annotation(photo.color(), ids, labels, scores, metres, view, photo.notes, photo.source)


def photo_scene(image: str | os.PathLike | Image.Image | np.ndarray, **options) -> tuple[Scene, Passes]:
    """A photograph as a scene and what its camera sees: `to_scene(annotate(image, **options))`."""
    return to_scene(annotate(image, **options))


def words_of(prompts: str | Sequence[str] | None) -> list[str]:
    """What to look for, from a list or from text with commas."""
    parts = re.split(r"[,.\n]", prompts) if isinstance(prompts, str) else prompts or []
    return [part.strip() for part in parts if part.strip()]


def _given(masks: MaskSource, words: list[str], photo: Photo) -> tuple[list[str], list[np.ndarray]]:
    labels, found = read_masks(masks, photo.size, photo.notes)
    if words and len(words) != len(found):
        raise ImageError(f"there are {len(found)} masks, but {len(words)} names for them: {', '.join(words)}")
    return words or labels, [resize_nearest(mask, photo.image.size) for mask in found]


def _large_enough(
    labels: list[str], scores: list[float], masks: list[np.ndarray], min_area: float, photo: Photo
) -> tuple[list[str], list[float], list[np.ndarray]]:
    keep = [index for index, mask in enumerate(masks) if mask.mean() >= min_area and mask.any()]
    if len(keep) < len(masks):
        photo.notes.append(f"{len(masks) - len(keep)} detections were left out: their masks are empty or very small")
    if not keep:
        raise ImageError(
            f"{photo.source or 'the image'}: every object that was detected has an empty or very small mask; "
            "try another segmenter, a lower min_area, or give masks"
        )
    return [labels[i] for i in keep], [scores[i] for i in keep], [masks[i] for i in keep]


def paint(masks: Mapping[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) int32 of masks' numbers, -1 for none. Where masks overlap the smaller is in front: a cup on its table."""
    ids = np.full(shape, -1, dtype=np.int32)
    for number in sorted(masks, key=lambda i: -int(masks[i].sum())):
        ids[masks[number]] = number
    return ids


def _depth(
    photo: Photo,
    model: str | os.PathLike | None,
    depth_map: str | os.PathLike | np.ndarray | None,
    field_of_view: float | None,
    kind: str | None,
    device: str | None,
) -> tuple[np.ndarray | None, float]:
    """Depth in metres, if any, and the horizontal field of view in degrees."""
    view = field_of_view or photo.field_of_view
    metres = None
    if depth_map is not None:
        metres = resize_nearest(read_depth(depth_map, photo.size, photo.notes), photo.image.size)
    elif model is not None:
        estimate = estimate_depth(photo.image, model, field_of_view=view, kind=kind, device=device)
        metres, view = estimate.metres, view or estimate.field_of_view
        photo.notes += estimate.notes
    else:
        photo.notes.append("no depth was given, so objects have a 2D box and no place in space")
    if view is None:
        view = ASSUMED_FIELD_OF_VIEW
        photo.notes.append(f"the camera is not known: a horizontal field of view of {view:g} degrees was assumed")
    return metres, view
