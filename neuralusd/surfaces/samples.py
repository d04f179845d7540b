"""Which surfaces each pixel of an image sees: samples of hits, more of them where an outline crosses a pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from ..scene import Camera
from .rays import Hits, RayCaster
from .threads import part_size, side_by_side

# Rays that are worked on at a time.
RAYS = 400_000
# Surfaces that one ray may pass through, and what must be left of its light to go on.
LAYERS, ENOUGH = 16, 1 / 255
# Neighbouring pixels whose normals' product is below this, or whose depths differ by more than this part, show an edge.
_CREASE, _STEP = 0.85, 0.04


# Of hits, and what their rays have passed: how much they hide (N,), and what the rays will have passed.
Opacity = Callable[[Hits, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Samples:
    """Hits of rays, each `weight` (N,) of its `pixel` (N,); `origins`, `directions` (N, 3) of their rays. `first` (N,)
    bool: nothing that is seen is before it on its ray."""

    hits: Hits
    pixel: np.ndarray
    weight: np.ndarray
    origins: np.ndarray
    directions: np.ndarray
    first: np.ndarray


def sample(
    caster: RayCaster,
    camera: Camera,
    size: tuple[int, int],
    opacity: Opacity,
    antialias: int = 3,
    everywhere: bool = False,
    only: np.ndarray | None = None,
) -> Iterator[Samples]:
    """Samples of an image of `size` (height, width), in parts of some hundred thousand.

    Args:
        opacity: see `neuralusd.surfaces.gbuffer.Surfaces.opacity`. antialias: a pixel that shows an edge is cast
            through antialias x antialias times; 1 is once. everywhere: every pixel is.
        only: (height, width) bool, pixels that are wanted; None is all.
    """
    height, width = size
    wanted = np.ones(height * width, bool) if only is None else only.ravel()
    # A pixel's neighbours say whether it shows an edge.
    pixels = np.flatnonzero(wanted if only is None or everywhere else binary_dilation(only).ravel())
    if everywhere and antialias > 1:
        yield from _finer(caster, camera, size, opacity, antialias, pixels)
        return
    parts = []
    piece, depth = np.full(height * width, -1), np.full(height * width, np.inf, np.float32)
    normals = np.zeros((height * width, 3), np.float32)
    step = part_size(len(pixels), RAYS)

    def cast(start: int) -> Samples:
        some = pixels[start : start + step]
        row, column = np.divmod(some, width)
        return _layers(caster, camera, (row + 0.5) / height, (column + 0.5) / width, some, np.ones(len(some)), opacity)

    for part in side_by_side(cast, range(0, len(pixels), step)):
        seen = part.pixel[part.first]
        piece[seen], depth[seen] = part.hits.piece[part.first], part.hits.depth[part.first]
        normals[seen] = part.hits.normals[part.first]
        parts.append(part)
    if antialias == 1:
        yield from (_some(part, wanted[part.pixel]) for part in parts)
        return
    edge = _edges(piece.reshape(size), depth.reshape(size), normals.reshape(*size, 3)).ravel()
    while parts:
        part = parts.pop(0)
        yield _some(part, (wanted & ~edge)[part.pixel])
    yield from _finer(caster, camera, size, opacity, antialias, np.flatnonzero(wanted & edge))


def _finer(
    caster: RayCaster,
    camera: Camera,
    size: tuple[int, int],
    opacity: Opacity,
    antialias: int,
    pixels: np.ndarray,
) -> Iterator[Samples]:
    height, width = size
    inside = (np.arange(antialias) + 0.5) / antialias
    down, right = (grid.ravel() for grid in np.meshgrid(inside, inside, indexing="ij"))
    step = max(1, part_size(len(pixels) * len(down), RAYS) // len(down))

    def cast(start: int) -> Samples:
        some = pixels[start : start + step]
        row, column = np.divmod(some, width)
        h, w = ((row[:, None] + down) / height).ravel(), ((column[:, None] + right) / width).ravel()
        weight = np.full(len(h), 1 / len(down))
        return _merged(_layers(caster, camera, h, w, np.repeat(some, len(down)), weight, opacity))

    yield from side_by_side(cast, range(0, len(pixels), step))


def _layers(
    caster: RayCaster,
    camera: Camera,
    h: np.ndarray,
    w: np.ndarray,
    pixel: np.ndarray,
    weight: np.ndarray,
    opacity: Opacity,
) -> Samples:
    """What rays through places of the image meet, through what is not opaque."""
    origins, directions = camera.rays_through(h, w)
    # Rays begin at the near plane. A perspective camera's origins are the camera's place, exactly.
    start = origins - caster.eye if camera.projection == "orthographic" else np.zeros_like(origins)
    start = start + camera.clipping_range[0] * directions
    left, parts, weights, firsts = np.ones(len(h)), [], [], []
    through_asset = np.full(len(h), -1)
    hits = caster.cast(start, directions, np.arange(len(h)))
    for _ in range(LAYERS):
        hits = hits[hits.depth <= camera.clipping_range[1]]
        alpha, through_asset[hits.ray] = opacity(hits, through_asset[hits.ray])
        seen = alpha >= ENOUGH
        parts.append(hits[seen])
        weights.append((weight * left)[hits.ray[seen]] * alpha[seen])
        firsts.append(left[hits.ray[seen]] == 1)
        left[hits.ray] *= 1 - np.where(seen, alpha, 0)
        through = hits[left[hits.ray] >= ENOUGH]
        if not len(through.ray):
            break
        hits = caster.cast(beyond(through, directions), directions[through.ray], through.ray)
    found = Hits.joined(parts)
    ray = found.ray
    return Samples(found, pixel[ray], np.concatenate(weights), start[ray], directions[ray], np.concatenate(firsts))


def beyond(hits: Hits, directions: np.ndarray) -> np.ndarray:
    """Origins just behind hits."""
    return hits.points + directions[hits.ray] * np.maximum(np.abs(hits.depth), 1e-6)[:, None] * 1e-5


def _some(part: Samples, chosen: np.ndarray) -> Samples:
    return Samples(*(getattr(part, name)[chosen] for name in Samples.__dataclass_fields__))


def _merged(part: Samples) -> Samples:
    """Samples of one pixel on one piece at one depth become one, with the weight of all."""
    if not len(part.pixel):
        return part
    layer = np.floor(np.log(np.maximum(np.abs(part.hits.depth), 1e-9)) / _STEP).astype(np.int64)
    turned = (
        (part.hits.normals * np.sign((part.hits.normals * part.directions).sum(1, keepdims=True))).round().astype(int)
    )
    key = np.stack([part.pixel, part.hits.piece, layer, *turned.T, part.first], 1)
    _, first, of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    merged = _some(part, first)
    merged.weight = np.bincount(of.ravel(), part.weight, len(first))
    return merged


def _edges(piece: np.ndarray, depth: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ from a neighbour in what they see."""
    out = np.zeros(piece.shape, bool)
    for a, b in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = piece[a] != piece[b]
        both = (piece[a] >= 0) & (piece[b] >= 0)
        near, far = np.minimum(depth[a], depth[b]), np.maximum(depth[a], depth[b])
        near, far = np.where(both, near, 1), np.where(both, far, 1)
        differ |= (far - near > _STEP * np.abs(near)) | (both & (np.abs((normals[a] * normals[b]).sum(-1)) < _CREASE))
        out[a] |= differ
        out[b] |= differ
    return out
