"""Polygons to triangles."""

from __future__ import annotations

import numpy as np


def triangulate(points: np.ndarray, counts: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles that cover each polygon: a fan where it is convex, ears where it is concave.

    Args:
        points: (V, 3).
        counts: (F,) number of corners of each face; faces of fewer than three are dropped.
        indices: (sum of counts,) vertex of each corner.

    Returns:
        corners (T, 3) int, positions in `indices`, and faces (T,) int, the face of each triangle.
    """
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    corners, faces = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for count in np.unique(counts[counts >= 3]):
        face = np.flatnonzero(counts == count)
        corner = starts[face][:, None] + np.arange(count)
        concave = _concave(points[indices[corner]]) if count > 3 else np.zeros(len(face), bool)
        fan = np.stack([np.zeros(count - 2, np.int64), np.arange(1, count - 1), np.arange(2, count)], axis=1)
        corners.append(corner[~concave][:, fan].reshape(-1, 3))
        faces.append(np.repeat(face[~concave], count - 2))
        for f, c in zip(face[concave], corner[concave], strict=True):
            ears = c[_ears(points[indices[c]])]
            corners.append(ears)
            faces.append(np.full(len(ears), f))
    order = np.argsort(all_faces := np.concatenate(faces), kind="stable")
    return np.concatenate(corners)[order], all_faces[order]


def _newell(polygons: np.ndarray) -> np.ndarray:
    """Normals (F, 3), not of unit length, of polygons (F, N, 3)."""
    edges = polygons - polygons[:, :1]
    return np.cross(edges, np.roll(edges, -1, axis=1)).sum(axis=1)


def _concave(polygons: np.ndarray) -> np.ndarray:
    """Whether each of the polygons (F, N, 3) turns both ways."""
    edges = np.roll(polygons, -1, axis=1) - polygons
    turns = np.cross(np.roll(edges, 1, axis=1), edges)
    normals = _newell(polygons)
    side = np.einsum("fnk,fk->fn", turns, normals)
    return (side < -1e-9 * np.abs(side).max(axis=1, keepdims=True)).any(axis=1)


def _ears(polygon: np.ndarray) -> np.ndarray:
    """Triangles (T, 3) of one polygon (N, 3), as positions in it, wound as the polygon is."""
    import mapbox_earcut

    normal = _newell(polygon[None])[0]
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(polygon, axis, axis=1)
    ring_ends = np.array([len(flat)], np.uint32)
    ears = mapbox_earcut.triangulate_float64(np.ascontiguousarray(flat), ring_ends).reshape(-1, 3).astype(np.int64)
    turn = np.cross(polygon[ears[:, 1]] - polygon[ears[:, 0]], polygon[ears[:, 2]] - polygon[ears[:, 0]]) @ normal
    ears[turn < 0] = ears[turn < 0][:, ::-1]
    return ears
