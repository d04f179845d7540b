"""Surfaces of what has only been seen: the sheet of a picture's depths, cut at depth edges, or a flat card."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import distance_transform_edt

from ..scene import APPEARANCE, GEOMETRY, Asset, Camera, View, pose_2d
from .pieces import Outline, Sheet, SheetPiece

# Vertices on the longer side of a sheet. Its outline is as fine as the picture all the same.
SIDE = 256
# Neighbours whose inverse depths differ by more than this part, and by more than the surface slopes, stand apart.
_CUT = 0.03
# Depth of what is endlessly far, as a sky, in metres; and from where on a depth says so.
SKY = 1e6
IS_SKY = 1e5
# A card of unknown depth is before everything, the background's card behind everything (metres).
_BEFORE, _BEHIND = 1e-3, SKY


def sheet_pieces(assets: list[Asset], camera: Camera, flat: bool = False) -> list[SheetPiece]:
    """The surfaces of assets that have no other, those without a view left out.

    Args:
        camera: the target's, in whose image a card stands in its asset's 2D box. flat: all of them as cards.
    """
    found = [surface_of(asset, camera, flat) for asset in assets if asset.presence > 0]
    return [piece for piece in found if piece is not None]


def surface_of(asset: Asset, camera: Camera, flat: bool = False) -> SheetPiece | None:
    """A sheet where the depth of a view is known, else a card; None where there is no view, or no place for a card."""
    views = own_views(asset)
    placed = next((view for view in views.values() if view.placed), None)
    if placed is not None and not flat:
        return _sheet(asset, placed)
    view = next(iter(views.values()), None)
    return None if view is None else _card(asset, view, camera)


def own_views(asset: Asset) -> Mapping[str, View]:
    """The views of the asset's own shape, which may not be those of its look."""
    for modality in (GEOMETRY, APPEARANCE):
        if modality in asset.tokens and asset.tokens[modality].views:
            return asset.tokens[modality].views
    return {}


def _sheet(asset: Asset, view: View) -> SheetPiece | None:
    background = asset.role == "background"
    height, width = view.depth.shape
    # Vertices at pixels' middles, but for the outermost, which reach to the border.
    rows, columns = (_stations(count, min(count, SIDE)) for count in (height, width))
    known = np.isfinite(view.depth)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    at = np.ix_((rows * height).clip(0, height - 1).astype(int), (columns * width).clip(0, width - 1).astype(int))
    depth = view.depth[nearest[0][at], nearest[1][at]].astype(np.float64)
    down, right = np.broadcast_arrays(rows[:, None], columns[None, :])
    points = view.unproject(np.stack([down.ravel(), right.ravel(), depth.ravel()], 1))
    triangles = _triangles(1 / np.maximum(depth, 1e-9))
    if not background:
        # What is cut off for good is not carried along: quads that the asset is nowhere near.
        far = distance_transform_edt(~known)[at].ravel() > 2 + max(height / len(rows), width / len(columns))
        triangles = triangles[~far[triangles].all(1)]
    if not len(triangles):
        return None
    outline = None if background else Outline(view)
    return SheetPiece(asset.path, Sheet(points, triangles), asset.shape_to_world(), None, outline)


def _stations(pixels: int, count: int) -> np.ndarray:
    """Places of `count` vertices along a side of so many pixels, from 0 to 1."""
    places = (np.linspace(0, pixels - 1, max(count, 2)) + 0.5) / pixels
    places[0], places[-1] = 0, 1
    return places


def _triangles(inverse: np.ndarray) -> np.ndarray:
    """(T, 3) of a grid of vertices with these inverse depths (H, W), which change linearly along a plane; quads across
    a depth edge are left out."""
    height, width = inverse.shape
    apart = np.zeros((height - 1, width - 1), bool)
    across, down = _edges(inverse, 1), _edges(inverse, 0)
    apart |= across[:-1] | across[1:]
    apart |= down[:, :-1] | down[:, 1:]
    first = np.arange(height * width).reshape(height, width)
    a, b, c, d = first[:-1, :-1][~apart], first[:-1, 1:][~apart], first[1:, :-1][~apart], first[1:, 1:][~apart]
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def _edges(inverse: np.ndarray, axis: int) -> np.ndarray:
    step = np.abs(np.diff(inverse, axis=axis))
    before, after = np.roll(step, 1, axis), np.roll(step, -1, axis)
    if step.shape[axis]:
        # At the border there is one neighbour alone.
        start, end = [slice(None)] * 2, [slice(None)] * 2
        start[axis], end[axis] = slice(0, 1), slice(-1, None)
        before[tuple(start)], after[tuple(end)] = after[tuple(start)], before[tuple(end)]
    size = np.minimum(np.delete(inverse, -1, axis), np.delete(inverse, 0, axis))
    return step > _CUT * size + 1.5 * np.minimum(before, after)


def _card(asset: Asset, view: View, camera: Camera) -> SheetPiece | None:
    """The crop as it is, in the asset's 2D box of the target; the background's fills the image."""
    background = asset.role == "background"
    box = pose_2d(asset, camera)
    if not background and box is None:
        return None
    left, top, high, wide = (0.0, 0.0, 1.0, 1.0) if background or box is None else box
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    # Of two cards without a depth the one that stands lower in the image is nearer.
    depth = _BEHIND if background else _BEFORE * (3 - float(np.clip(top + high, -1, 2)))
    if not background and asset.extent is not None:
        middle = camera.project(asset.corners())[:, 2].mean()
        depth = float(middle) if middle > 0 else depth
    near, far = camera.clipping_range
    depth = float(np.clip(depth, near * 1.0001 + 1e-9, far * 0.9999))
    origins, directions = camera.rays_through(top + corners[:, 0] * high, left + corners[:, 1] * wide)
    world = origins + depth * directions
    seen = view.unproject(np.concatenate([_tight(view)[0] + corners * _tight(view)[1], np.ones((4, 1))], 1))
    outline = None if background else Outline(view)
    return SheetPiece(asset.path, Sheet(world, np.array([[0, 2, 1], [1, 2, 3]])), np.eye(4), seen, outline)


def _tight(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Corner and size (row, column) of what shows the asset, as parts of the crop."""
    shown = ~np.isinf(view.depth)
    size = np.array(shown.shape, np.float64)
    if not shown.any():
        return np.zeros(2), np.ones(2)
    spans = [np.flatnonzero(shown.any(1 - axis))[[0, -1]] for axis in (0, 1)]
    low, high = np.array([s[0] for s in spans]), np.array([s[1] + 1 for s in spans])
    return low / size, (high - low) / size
