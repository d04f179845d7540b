"""Pictures as arrays, and how large they are."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
from pxr import Usd

from .. import stage as stages
from ..annotate.errors import ImageError
from ..annotate.photo import open_photo
from ..sizes import LARGEST_SIDE

Picture = str | Path | PIL.Image.Image | np.ndarray

# The longer side, in pixels, that a picture is encoded at: crops of small objects need it, memory bounds it.
LARGEST = 1024
# Shapes that differ by no more than this are the same one in other whole numbers of pixels.
_SAME_SHAPE = 0.01


class PictureWarning(UserWarning):
    """A picture is used otherwise than it is."""


def open_picture(image: Picture) -> PIL.Image.Image:
    """8-bit sRGB, upright, not larger than `LARGEST`. Raises ImageError that names the file."""
    return open_photo(image, LARGEST).image


def pixels(image: Picture, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) float32 sRGB in 0..1 of an image, resized to `shape` (H, W). Raises ImageError for what is no image."""
    return _resized(open_photo(image, LARGEST_SIDE).image, (shape[1], shape[0]))


def render_size(
    stage: Usd.Stage,
    camera: str | None = None,
    size: tuple[int, int] | int | None = None,
    before_image: Picture | None = None,
) -> tuple[int, int]:
    """(width, height) of an image: `size`, else that of the image before the edit, to whose pixels it keeps; else as
    `image_size` says.

    Raises SceneError and its kin: what is no size, no camera, no image.
    """
    if size is None and before_image is not None:
        size = open_photo(before_image, LARGEST_SIDE).image.size
    return stages.image_size(stage, camera, size)


def held_pixels(image: Picture, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 sRGB in 0..1 of the image before an edit, for an image of `size` (width, height).

    Raises:
        ImageError: it is no image, or has another shape than what is rendered.

    Warns:
        PictureWarning: it has another size, so that what is held is not pixel for pixel what it was.
    """
    picture = open_photo(image, LARGEST_SIDE).image
    width, height = picture.size
    if picture.size != size:
        name = os.fspath(image) if isinstance(image, (str, Path)) else "the image before the edit"
        both = f"{name} has {width}x{height} pixels, and what is rendered {size[0]}x{size[1]}"
        # A pixel of rounding is no other shape, however small the image.
        spare = max(_SAME_SHAPE, 1 / min(width, height, *size))
        if abs(width * size[1] / (height * size[0]) - 1) > spare:
            raise ImageError(f"{both}, another shape. Leave the size away to take the image's, or name its shape.")
        warnings.warn(
            f"{both}: it was resized, so that what the edit leaves alone is alike, not pixel for pixel the same",
            PictureWarning,
            stacklevel=2,
        )
    return _resized(picture, size)


def _resized(picture: PIL.Image.Image, size: tuple[int, int]) -> np.ndarray:
    if picture.size != size:
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture, np.float32) / 255
