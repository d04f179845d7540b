"""Image files as textures: loading, mipmaps, wrap modes, sampling."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pxr import Ar

from ..colors import srgb_to_linear
from ..errors import SceneError

# Decoded textures are large; so many levels of them are kept.
CACHED = 64
UDIM = re.compile(r"<UDIM>", re.IGNORECASE)


@dataclass(eq=False)
class Texture:
    """An image.

    Attributes:
        levels: mipmaps, finest first, each (H, W, 4), row 0 at the top of the picture; uint8 codes of an image of 8
            bits, else linear float32.
        channels: channels of the file, before grey was spread and alpha filled in.
        decoded: (256,) linear colour of each code. None where the levels are linear.
    """

    levels: list[np.ndarray]
    channels: int
    decoded: np.ndarray | None = None

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
            out[here] = self._bilinear(self.levels[index], st[here], wrap)
        return out

    def _texels(self, image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(N, 4) linear."""
        found = image[rows, columns]
        if self.decoded is None:
            return found
        linear = np.empty(found.shape, np.float32)
        linear[:, :3] = self.decoded[found[:, :3]]
        linear[:, 3] = found[:, 3] / np.float32(255)
        return linear

    def _bilinear(self, image: np.ndarray, st: np.ndarray, wrap: tuple[str, str]) -> np.ndarray:
        height, width = image.shape[:2]
        # Coordinates that are not finite are as good as any.
        st = np.nan_to_num(st.astype(np.float64), posinf=0.0, neginf=0.0)
        x, y = st[:, 0] * width - 0.5, (1 - st[:, 1]) * height - 0.5
        x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        out = np.zeros((len(st), 4), np.float32)
        for dx in (0, 1):
            for dy in (0, 1):
                weight = (x - x0 if dx else 1 - x + x0) * (y - y0 if dy else 1 - y + y0)
                texels = self._texels(image, _wrap(y0 + dy, height, wrap[1]), _wrap(x0 + dx, width, wrap[0]))
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


def load_texture(path: str, color_space: str) -> Texture:
    """The image at a resolved asset path, which may lie within a usdz package; kept until its file changes.

    Args:
        color_space: "sRGB", "raw", or "auto" (sRGB for 8-bit images of three or four channels).

    Raises:
        SceneError: the file cannot be read; names it.
    """
    return _load(path, color_space, changed_at(path))


def changed_at(path: str) -> float:
    """When the file at a resolved asset path was changed, in seconds; 0 where nobody knows."""
    changed = Ar.GetResolver().GetModificationTimestamp(path, Ar.ResolvedPath(path))
    return changed.GetTime() if changed.IsValid() else 0.0


@lru_cache(maxsize=CACHED)
def _load(path: str, color_space: str, changed: float) -> Texture:
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
    encoded = color_space == "sRGB" or (color_space == "auto" and not wide and channels >= 3)
    if pixels.dtype == np.uint8:
        codes = np.arange(256, dtype=np.float32) / 255
        decoded = srgb_to_linear(codes).astype(np.float32) if encoded else codes
        return Texture(_mipmaps(pixels, decoded), channels, decoded)
    if encoded:
        pixels[..., :3] = srgb_to_linear(pixels[..., :3])
    return Texture(_mipmaps(pixels), channels)


def _pixels(picture) -> tuple[np.ndarray, int, bool]:
    """(H, W, 4) uint8, or float32 in 0..1; the number of channels; and whether there are more than 8 bits a channel."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, dtype=np.float32)
        grey = grey / 65535 if picture.mode.startswith("I") else grey
        return np.dstack([grey, grey, grey, np.ones_like(grey)]), 1, True
    channels = {"1": 1, "L": 1, "LA": 2, "La": 2, "RGBA": 4, "PA": 4}.get(picture.mode, 3)
    if "transparency" in picture.info:
        channels = 4
    return np.asarray(picture.convert("RGBA")), channels, False


def _mipmaps(pixels: np.ndarray, decoded: np.ndarray | None = None) -> list[np.ndarray]:
    """Means of 2 x 2 texels, of 4 x 4 and so on. They are means of light, though codes (`decoded`) are what is kept."""
    levels = [pixels]
    linear = pixels
    while max(levels[-1].shape[:2]) > 1:
        # An odd edge is repeated, so that no texel is lost.
        rows, columns = (np.minimum(np.arange(0, n + n % 2), n - 1) for n in linear.shape[:2])
        parts = [linear[rows[down::2]][:, columns[right::2]] for down in (0, 1) for right in (0, 1)]
        if decoded is not None and linear is pixels:
            parts = [np.concatenate([decoded[p[..., :3]], p[..., 3:] / np.float32(255)], -1) for p in parts]
        linear = (parts[0] + parts[1] + parts[2] + parts[3]) / 4
        levels.append(linear if decoded is None else _codes(linear, decoded))
    return levels


def _codes(linear: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8, the codes nearest to linear values (H, W, 4)."""
    # As fine as the first code is wide, which is the narrowest of sRGB's.
    table = np.searchsorted((decoded[1:] + decoded[:-1]) / 2, np.linspace(0, 1, 8193, dtype=np.float32)).astype(
        np.uint8
    )
    out = np.empty(linear.shape, np.uint8)
    out[..., :3] = table[np.rint(linear[..., :3] * 8192).astype(np.int32)]
    out[..., 3] = np.rint(linear[..., 3] * 255)
    return out
