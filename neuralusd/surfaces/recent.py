"""The G-buffer before, kept: after an edit only those pixels are cast again that may show something that changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..scene import Camera, GBuffer, box_corners
from .gbuffer import Surfaces, gbuffer, joined
from .pieces import Triangles

# G-buffers that are kept, and samples that all together may have; a sample is about 100 bytes.
KEPT, MOST_SAMPLES = 2, 6_000_000
# With more pieces than these, telling them apart takes longer than casting.
MOST_PIECES = 3_000
# Pixels around what changed; their neighbours' edges decide how finely they are cast.
_MARGIN = 2
# Where more of the image than this part changes, all of it is made anew.
_MOST = 0.7


@dataclass
class _Before:
    """A G-buffer, and what it was made of: prints of the pieces, their boxes' corners (8, 3) in world space, and their
    meshes, which prints name by their place in memory."""

    key: tuple
    prints: list[bytes]
    boxes: list[np.ndarray]
    meshes: list[Triangles]
    made: GBuffer


class Recent:
    """G-buffers made again from those made before."""

    def __init__(self) -> None:
        self._kept: list[_Before] = []

    def gbuffer(self, surfaces: Surfaces, height: int, width: int, antialias: int) -> GBuffer:
        """As `neuralusd.surfaces.gbuffer.gbuffer`.

        What could not be made without a warning is not kept, so that it warns each time.
        """
        if len(surfaces.pieces) > MOST_PIECES:
            return gbuffer(surfaces, height, width, antialias)
        prints, camera = surfaces.prints(), surfaces.camera
        lens = (camera.projection, camera.lens, camera.clipping_range, camera.world_to_camera.tobytes())
        assets = tuple((asset.path, asset.role) for asset in surfaces.scene.assets)
        key = (height, width, antialias, lens, assets, surfaces.scene.up_axis)
        boxes = [box_corners(*piece.mesh.bounds, piece.local_to_world) for piece in surfaces.pieces]
        before = next((each for each in self._kept if each.key == key), None)
        only = None if before is None else _changed(before, prints, boxes, camera, (height, width))
        if before is None or only is None or only.mean() > _MOST:
            made = gbuffer(surfaces, height, width, antialias)
        else:
            old = before.made[np.flatnonzero(~only.ravel()[before.made.pixel])]
            parts = [old, gbuffer(surfaces, height, width, antialias, only)] if only.any() else [old]
            made = joined(parts, (height, width), surfaces.surfaced)
        kept = [each for each in self._kept if each is not before]
        if not surfaces.warned:
            kept.insert(0, _Before(key, prints, boxes, [piece.mesh for piece in surfaces.pieces], made))
        self._kept = kept[:KEPT]
        while sum(len(each.made) for each in self._kept) > MOST_SAMPLES:
            self._kept.pop()
        return made


def _changed(
    before: _Before, prints: list[bytes], boxes: list[np.ndarray], camera: Camera, size: tuple[int, int]
) -> np.ndarray | None:
    """(H, W) bool, where pieces are that were not there, or not so; None where that cannot be said."""
    gone, come = Counter(before.prints) - Counter(prints), Counter(prints) - Counter(before.prints)
    out = np.zeros(size, bool)
    for changed, names, corners in ((gone, before.prints, before.boxes), (come, prints, boxes)):
        for name, box in zip(names, corners, strict=True):
            if name not in changed:
                continue
            h, w, depth = camera.project(box).T
            if not np.isfinite(box).all() or (depth <= camera.clipping_range[0]).any():
                return None
            top, left = (int(np.floor(np.clip(v.min(), 0, 1) * n)) - _MARGIN for v, n in zip((h, w), size, strict=True))
            bottom, right = (
                int(np.ceil(np.clip(v.max(), 0, 1) * n)) + _MARGIN for v, n in zip((h, w), size, strict=True)
            )
            out[max(top, 0) : bottom, max(left, 0) : right] = True
    return out
