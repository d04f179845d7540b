"""Carving: the solid that an object's outlines leave, and the colours its pictures give it. Nothing but pictures goes
in, so what a model learns from it is still supervised in 2D alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .objects import ObjectViews

# Points along each side of a cell that are looked up in the outlines.
FINER = 2
# Rows, columns and planes of a picture's depth that count as the same surface, in finer cells.
TOLERANCE = 2.0


def carve(
    views: ObjectViews, index: int, resolution: int = 32, chosen: Iterable[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The visual hull of an object in its canonical cube.

    Args:
        views, index: which object of which views. resolution: S, cells along the cube's sides.
        chosen: which of its views are looked at; None takes all.

    Returns:
        occupancy (S, S, S) float32 in 0..1, how much of each cell no outline cuts away; and color (S, S, S, 3) float32
        in 0..1, display-referred sRGB, of what pictures show of the cells at the surface, inside that of the nearest
        such cell. Both are indexed z, y, x, as volumes of `render_rays` are.
    """
    chosen = list(range(views.mask.shape[1]) if chosen is None else chosen)
    side = resolution * FINER
    place = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    inside = np.ones(len(points), bool)
    for view in chosen:
        alive = np.flatnonzero(inside)
        pixel, _, framed = _project(views, index, view, points[alive])
        # What a picture does not frame it does not speak of.
        inside[alive] = ~framed | views.mask[index, view].reshape(-1)[pixel]
    solid = inside.reshape(side, side, side)
    return _pooled(solid.astype(np.float32)), _colors(views, index, chosen, points, solid)


def _project(
    views: ObjectViews, index: int, view: int, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) of the canonical cube: the flat index (N,) of the pixel each falls on, its depth (N,) in canonical
    units, and whether the picture holds it (N,)."""
    height, width = views.mask.shape[2:]
    matrix = np.linalg.inv(views.camera_to_canonical[index, view].astype(np.float64)).astype(np.float32)
    local = points @ matrix[:3, :3] + matrix[3, :3]
    depth = np.maximum(-local[:, 2], 1e-6)
    fx, fy, ox, oy = views.intrinsics[index, view]
    right, down = fx * local[:, 0] / depth + 0.5 - ox, 0.5 + oy - fy * local[:, 1] / depth
    column, row = np.floor(right * width).astype(int), np.floor(down * height).astype(int)
    framed = (local[:, 2] < 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return row.clip(0, height - 1) * width + column.clip(0, width - 1), depth * float(views.scale[index]) ** -1, framed


def _colors(views: ObjectViews, index: int, chosen: Sequence[int], points: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """(S, S, S, 3): the mean of what pictures show at the cells they see."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    side = len(solid)
    surface = np.flatnonzero(solid & ~binary_erosion(solid))
    total, weight = np.zeros((solid.size, 3), np.float32), np.zeros(solid.size, np.float32)
    for view in chosen:
        pixel, depth, framed = _project(views, index, view, points[surface])
        nearest = np.full(views.mask[index, view].size, np.inf, np.float32)
        np.minimum.at(nearest, pixel[framed], depth[framed])
        seen = framed & (depth < nearest[pixel] + TOLERANCE * 2 / side) & views.mask[index, view].reshape(-1)[pixel]
        total[surface[seen]] += views.color[index, view].reshape(-1, 3)[pixel[seen]] / np.float32(255)
        weight[surface[seen]] += 1
    weight, total = weight.reshape(solid.shape), total.reshape(*solid.shape, 3)
    cells, counts = _pooled(total), _pooled(weight)
    known = counts > 0
    if not known.any():
        return np.full(cells.shape, 0.5, np.float32)
    cells[known] /= counts[known][:, None]
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return cells[tuple(nearest)]


def _pooled(values: np.ndarray) -> np.ndarray:
    """The mean of each cell's finer points."""
    side = len(values) // FINER
    blocks = values.reshape(side, FINER, side, FINER, side, FINER, *values.shape[3:])
    return blocks.mean((1, 3, 5)).astype(np.float32)
