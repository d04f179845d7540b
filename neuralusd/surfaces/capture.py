"""A picture and who is seen where in it, to the view that it is of one asset."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from ..colors import linear_to_srgb, srgb_to_linear
from ..scene import BACKGROUND, PICTURE, Asset, Camera, Passes, View
from .sheets import SKY

# Pixels that a crop is wider than its asset, and how far the colours within an outline are carried over it: there a
# pixel shows what is behind, too.
_MARGIN, _CARRIED = 3, 3
# How bright the shaded view lights a surface, in the mean.
_EVEN = 0.8
# A picture that is larger is taken smaller (pixels of its longer side).
LARGEST = 1024


def capture(
    asset: Asset, mask: np.ndarray, passes: Passes, camera: Camera, kind: str = PICTURE, source: str = ""
) -> View:
    """The view of an asset that a picture is.

    Args:
        mask: (H, W) bool, the pixels that show the asset; at least one. passes: `color` (or `base`, of an albedo) and
            `depth` of the picture; with `shaded` the view knows how much brighter the picture is.
        camera: that took it, its aperture fitted to the picture's aspect.
    """
    height, width = mask.shape
    background = asset.role == BACKGROUND
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom = (0, height) if background else (max(rows[0] - _MARGIN, 0), min(rows[-1] + 1 + _MARGIN, height))
    left, right = (0, width) if background else (max(columns[0] - _MARGIN, 0), min(columns[-1] + 1 + _MARGIN, width))
    part = np.s_[top:bottom, left:right]
    shown, depth = mask[part], passes.depth[part]
    finite = np.isfinite(depth) & shown
    if finite.any():
        # What a background sees through to nothing is endlessly far.
        depth = np.where(finite, depth, np.where(shown & background, SKY, np.inf))
    else:
        elsewhere = bool(np.isfinite(passes.depth).any())
        depth = np.where(shown, SKY if background and elsewhere else np.nan, np.inf)
    seen = passes.color if kind == PICTURE else passes.base
    assert seen is not None
    pure = _pure(shown, passes.depth[part])
    color = _carried(seen[part].astype(np.float32), pure, shown)
    even = passes.shaded if kind == PICTURE else linear_to_srgb(_EVEN * srgb_to_linear(seen))
    gain = np.ones(3)
    if passes.lit and passes.color is not None and even is not None and finite.any():
        sample = (pure if pure.any() else shown) & finite
        plain, lit = (values[part][sample].astype(np.float64) for values in (even, passes.color))
        gain = np.clip((plain * lit).sum(0) / np.maximum((plain * plain).sum(0), 1e-9), 0.1, 10)
    every = -(-max(height, width) // LARGEST)
    return View(
        color=_smaller(np.rint(color.clip(0, 1) * 255), every).astype(np.uint8),
        depth=depth[every // 2 :: every, every // 2 :: every].astype(np.float32)
        if every > 1
        else depth.astype(np.float32),
        transform=asset.local_to_world @ camera.world_to_camera,
        lens=camera.lens,
        crop=(left / width, top / height, (bottom - top) / height, (right - left) / width),
        orthographic=camera.projection == "orthographic",
        kind=kind,
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        source=source,
    )


def _pure(shown: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(H, W) bool, pixels of `shown` that show nothing else; a picture is never so sharp that what stands before does
    not shine on a second pixel."""
    pure = binary_erosion(shown, np.ones((3, 3)), border_value=1)
    if not pure.any():
        return pure
    beside = distance_transform_edt(~shown, return_distances=False, return_indices=True)
    before = ~shown & (depth < depth[beside[0], beside[1]])
    apart = pure & ~binary_dilation(before, np.ones((5, 5)))
    return apart if apart.any() else pure


def _carried(color: np.ndarray, pure: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) in which those of pure pixels are carried to the outline, and those of the outline a little
    over it; black elsewhere, of others nothing is kept."""
    if pure.any():
        distance, (rows, columns) = distance_transform_edt(~pure, return_indices=True)
        color = np.where((distance <= _CARRIED)[..., None], color[rows, columns], color)
    distance, (rows, columns) = distance_transform_edt(~shown, return_indices=True)
    return np.where((distance <= _CARRIED)[..., None], color[rows, columns], 0)


def _smaller(image: np.ndarray, every: int) -> np.ndarray:
    """Means of every x every pixels."""
    if every == 1:
        return image
    height, width = image[every // 2 :: every, every // 2 :: every].shape[:2]
    padded = np.pad(image, ((0, height * every), (0, width * every), (0, 0)), mode="edge")
    return padded[: height * every, : width * every].reshape(height, every, width, every, 3).mean((1, 3))
