"""Pictures as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from ..annotate.photo import open_photo

# The longer side, in pixels, that a picture is encoded at: crops of small objects need it, memory bounds it.
LARGEST = 1024


def open_picture(image: str | Path | PIL.Image.Image | np.ndarray) -> PIL.Image.Image:
    """8-bit sRGB, upright, not larger than `LARGEST`. Raises ImageError that names the file."""
    return open_photo(image, LARGEST).image


def pixels(image: str | Path | PIL.Image.Image | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) float32 sRGB in 0..1 of an image, resized to `shape` (H, W). Raises ImageError for what is no image."""
    picture = open_picture(image)
    if picture.size != (shape[1], shape[0]):
        picture = picture.resize((shape[1], shape[0]), PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture, np.float32) / 255
