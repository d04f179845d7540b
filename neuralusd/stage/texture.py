"""Image files as textures: loading, mipmaps, wrap modes, sampling."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pxr import Ar

from ..errors import SceneError

# Decoded textures are large; so many levels of them are kept.
CACHED = 64
UDIM = re.compile(r"<UDIM>", re.IGNORECASE)


@dataclass(eq=False)
class Texture:
    """An image as linear RGBA.

    Attributes:
        levels: mipmaps, finest first, each (H, W, 4) float32, row 0 at the top of the picture.
        channels: channels of the file, before grey was spread and alpha filled in.
    """

    levels: list[np.ndarray]
    channels: int

    def sample(self, st: np.ndarray, footprint: np.ndarray, wrap: tuple[str, str]) -> np.ndarray:
        """(N, 4) at texture coordinates (N, 2), whose origin is the picture's bottom left corner.

        Args:
            footprint: (N,) width of a pixel in texture coordinates; chooses the mipmap.
            wrap: for s and t: "repeat", "clamp", "mirror" or "black".
        """
        size = max(self.levels[0].shape[:2])
        level = np.log2(np.maximum(footprint * size, 1e-9))
        level = np.clip(np.nan_to_num(level), 0, len(self.levels) - 1)
        coarse = np.rint(level).astype(int)
        out = np.zeros((len(st), 4), np.float32)
        for index in np.unique(coarse):
            here = coarse == index
            out[here] = _bilinear(self.levels[index], st[here], wrap)
        return out


def _bilinear(image: np.ndarray, st: np.ndarray, wrap: tuple[str, str]) -> np.ndarray:
    height, width = image.shape[:2]
    # Coordinates that are not finite are as good as any.
    st = np.nan_to_num(st.astype(np.float64), posinf=0.0, neginf=0.0)
    x, y = st[:, 0] * width - 0.5, (1 - st[:, 1]) * height - 0.5
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    out = np.zeros((len(st), 4), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (x - x0 if dx else 1 - x + x0) * (y - y0 if dy else 1 - y + y0)
            texels = image[_wrap(y0 + dy, height, wrap[1]), _wrap(x0 + dx, width, wrap[0])]
            out += texels * weight[:, None].astype(np.float32)
    for axis in (0, 1):
        if wrap[axis] == "black":
            out[(st[:, axis] < 0) | (st[:, axis] > 1)] = 0
    return out


def _wrap(index: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Texel indices within `size`. A black border begins at the picture's edge, and does not bleed into it."""
    if mode == "repeat":
        return index % size
    if mode == "mirror":
        index = index % (2 * size)
        return np.where(index < size, index, 2 * size - 1 - index)
    return np.clip(index, 0, size - 1)


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1), undone."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """sRGB's transfer function; below 0 and above 1 is cut."""
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


@lru_cache(maxsize=CACHED)
def load_texture(path: str, color_space: str) -> Texture:
    """The image at a resolved asset path, which may lie within a usdz package.

    Args:
        color_space: "sRGB", "raw", or "auto" (sRGB for 8-bit images of three or four channels).

    Raises:
        SceneError: the file cannot be read; names it.
    """
    from PIL import Image

    asset = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(path))
    if not asset:
        raise SceneError(f"texture {path} does not exist. Put it there, or correct the path in the material.")
    try:
        with asset as opened, Image.open(io.BytesIO(opened.GetBuffer())) as picture:
            picture.load()
            pixels, channels, wide = _pixels(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise SceneError(f"texture {path} cannot be read: {error}. Convert it to PNG or JPEG.") from error
    if color_space == "sRGB" or (color_space == "auto" and not wide and channels >= 3):
        pixels[..., :3] = srgb_to_linear(pixels[..., :3])
    return Texture(_mipmaps(pixels), channels)


def _pixels(picture) -> tuple[np.ndarray, int, bool]:
    """(H, W, 4) float32 in 0..1, the number of channels, and whether there are more than 8 bits a channel."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, dtype=np.float32)
        grey = grey / 65535 if picture.mode.startswith("I") else grey
        return np.dstack([grey, grey, grey, np.ones_like(grey)]), 1, True
    channels = {"1": 1, "L": 1, "LA": 2, "La": 2, "RGBA": 4, "PA": 4}.get(picture.mode, 3)
    if "transparency" in picture.info:
        channels = 4
    return np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255, channels, False


def _mipmaps(pixels: np.ndarray) -> list[np.ndarray]:
    levels = [pixels.astype(np.float32)]
    while max(levels[-1].shape[:2]) > 1:
        last = levels[-1]
        # An odd edge is repeated, so that no texel is lost.
        last = np.pad(last, [(0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)], mode="edge")
        levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4)
    return levels
