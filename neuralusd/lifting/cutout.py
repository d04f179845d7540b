"""An object out of its picture: by the picture's alpha, a mask, a segmenter, or a plain background."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import PIL.Image
from PIL import ImageOps

from ..annotate.annotation import words_of
from ..annotate.detect import detect
from ..annotate.errors import ImageError, ModelError
from ..annotate.files import read_masks, resize_nearest
from ..annotate.photo import Photo, open_image, open_photo
from ..annotate.segment import segment
from .plain import cut_plain
from .shape import Cutout

Picture = str | os.PathLike | PIL.Image.Image | np.ndarray
Mask = str | os.PathLike | PIL.Image.Image | np.ndarray

# A segmenter that is told no box looks for what fills the picture, but for this share at each side.
WHOLE = 0.02


def cut_out(
    image: Picture,
    *,
    mask: Mask | None = None,
    segmenter: str | os.PathLike | None = None,
    detector: str | os.PathLike | None = None,
    prompt: str | Sequence[str] | None = None,
    max_size: int = 2048,
    device: str | None = None,
) -> Cutout:
    """The object of a picture without its background.

    A mask that is given goes first; then an alpha channel that is transparent somewhere, as it is; then a segmenter;
    then, where the picture's border is of nearly one colour, everything that differs from it.

    Args:
        image: a file, a PIL image, or an array (H, W, 3 or 4) of uint8, or of floats in 0..1; sRGB.
        mask: a file or an image, white (or opaque) where the object is; or an array (H, W), above 0 where it is.
        segmenter: hub id or local folder of a transformers model that takes boxes (SAM and its kin).
        detector: likewise, of one that finds the box; `prompt` says what it looks for. Without it, the segmenter is
            given the whole picture as its box.
        max_size: the picture's longer side is reduced to this many pixels.
        device: torch device of the models; None takes a GPU if there is one.

    Raises:
        ImageError: the picture or the mask cannot be used; or nothing says what is object and what background, with
            what to give.
        ModelError: a model cannot be had or used.
    """
    if detector is not None and segmenter is None:
        raise ModelError("a detector finds a box, and a segmenter the object in it; give a segmenter too")
    photo, alpha = _open(image, max_size)
    name = photo.source or "the picture"
    size = photo.image.size
    label, how = "", "alpha"
    if mask is not None:
        coverage, how = _given(mask, photo), "mask"
        if coverage.all():
            raise ImageError(f"{name}: the mask covers all of the picture. Give one that leaves the background out")
        if alpha is not None:
            photo.notes.append("the picture's own transparency was not looked at, since there is a mask")
    elif alpha is not None:
        coverage = alpha
        if segmenter is not None:
            photo.notes.append("the segmenter was not needed: the picture has an alpha channel")
    elif segmenter is not None:
        coverage, label = _segmented(photo, name, segmenter, detector, words_of(prompt), device)
        how = "segmenter"
    else:
        coverage, how = _plain(photo, name), "plain background"
    assert coverage.shape == size[::-1]
    return Cutout(photo.color(), coverage.astype(np.float32), label, photo.source, how, photo.notes)


def _open(image: Picture, max_size: int) -> tuple[Photo, np.ndarray | None]:
    """The picture, and its alpha (H, W) float32 in 0..1 where that is transparent somewhere."""
    source = ""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 4:
            return open_photo(image, max_size), None
        opened = open_photo(image[..., :3], max_size)
        values = image[..., 3].astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
        if not np.isfinite(values).all():
            raise ImageError("the alpha of an image array must be finite")
        return opened, _transparency(values, opened.image.size)
    if not isinstance(image, PIL.Image.Image):
        source = os.fspath(image)
        image = open_image(image)
    alpha = None
    if image.has_transparency_data:
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"), np.float32) / 255
        # The colour of what is half transparent is its own, not mixed with white.
        profile, image = image.info.get("icc_profile"), upright.convert("RGB")
        image.info = {"icc_profile": profile} if profile else {}
    # What is wrong with a file is said with its name.
    photo = open_photo(source if source and alpha is None else image, max_size)
    photo.source = source
    return photo, None if alpha is None else _transparency(alpha, photo.image.size)


def _transparency(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Alpha at (width, height); None where all of it is opaque."""
    if alpha.min() > 0.99:
        return None
    if alpha.shape != size[::-1]:
        resized = PIL.Image.fromarray(alpha).resize(size, PIL.Image.Resampling.BOX)
        alpha = np.asarray(resized, np.float32)
    return alpha


def _given(mask: Mask, photo: Photo) -> np.ndarray:
    if isinstance(mask, PIL.Image.Image):
        band = mask.getchannel("A") if "A" in mask.getbands() else mask.convert("L")
        mask = np.asarray(band) > 127
    if isinstance(mask, np.ndarray):
        if mask.ndim != 2:
            raise ImageError(f"the array of the mask must be (height, width), not {mask.shape}")
        _, [found] = read_masks({"object": mask}, photo.size, photo.notes)
    else:
        _, [found] = read_masks([mask], photo.size, photo.notes)
    return resize_nearest(found, photo.image.size)


def _segmented(
    photo: Photo,
    name: str,
    segmenter: str | os.PathLike,
    detector: str | os.PathLike | None,
    words: list[str],
    device: str | None,
) -> tuple[np.ndarray, str]:
    """The mask of the object, and what it is where a detector said so."""
    width, height = photo.image.size
    box, label = (WHOLE * width, WHOLE * height, (1 - WHOLE) * width, (1 - WHOLE) * height), ""
    if detector is not None:
        found = detect(photo.image, detector, words, device=device)
        if not found:
            looked_for = f" of {', '.join(words)}" if words else ""
            raise ImageError(f"{name}: the detector found nothing{looked_for}; name another object, or give a mask")
        box, label = found[0].box, found[0].label
        if len(found) > 1:
            photo.notes.append(f"{len(found)} objects were found; the one with the best score was lifted, {label!r}")
    [mask] = segment(photo.image, segmenter, [box], device=device)
    if not mask.any():
        raise ImageError(f"{name}: the segmenter saw no object; give a mask, or a detector that says where it is")
    if mask.mean() > 0.98:
        raise ImageError(f"{name}: to the segmenter all of the picture is the object; give a mask, or a detector")
    return mask, label


def _plain(photo: Photo, name: str) -> np.ndarray:
    mask = cut_plain(photo.color())
    if mask is None:
        raise ImageError(
            f"{name} does not say what is object and what background: it has no transparency, and its border is not of "
            "one colour. Give a mask (--mask), a PNG with an alpha channel, or a segmenter (--segmenter, a hub id or a "
            "local folder, such as facebook/sam-vit-base)"
        )
    if not mask.any():
        raise ImageError(f"{name}: all of it is of nearly one colour, so there is no object to lift")
    photo.notes.append(
        "the background was cut by its colour, since the picture's border is of nearly one; parts of the object of "
        "that colour, and shadows, may be on the wrong side. An alpha channel or a mask is sharper"
    )
    return mask
