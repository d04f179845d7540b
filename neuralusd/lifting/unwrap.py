"""Texture coordinates of a mesh, and a texture that has the colours of its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import ColorOf

# Empty texels between two charts, so that neither bleeds into the other when the texture is filtered.
GUTTER = 4
# A chart ends where its cost would be higher: above xatlas's own limit, since a lifted surface is round everywhere.
COST = 8.0


@dataclass
class Unwrapped:
    """Texture coordinates.

    Attributes:
        uv: (T, 2) float32 in 0..1, origin bottom left.
        faces: (F, 3) int32 into `uv`, a corner each of the mesh's faces.
        size: (width, height) in texels that `uv` was packed for.
    """

    uv: np.ndarray
    faces: np.ndarray
    size: tuple[int, int]


def unwrap(points: np.ndarray, faces: np.ndarray, normals: np.ndarray, size: int) -> Unwrapped:
    """Texture coordinates by xatlas, for a texture of about `size` x `size` texels, its charts `GUTTER` texels apart.

    Args:
        points: (V, 3). faces: (F, 3). normals: (V, 3), unit.
    """
    import xatlas

    atlas = xatlas.Atlas()
    # What is near enough to be one point is a constant in xatlas, whatever the unit.
    scaled = (points - points.min(0)) / np.ptp(points, axis=0).max()
    atlas.add_mesh(scaled.astype(np.float32), faces.astype(np.uint32), normals.astype(np.float32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_cost = COST
    packing.padding, packing.resolution, packing.bilinear = GUTTER, size, True
    atlas.generate(charts, packing)
    _, corners, uv = atlas.get_mesh(0)
    return Unwrapped(uv.astype(np.float32), corners.reshape(-1, 3).astype(np.int32), (atlas.width, atlas.height))


def bake(
    unwrapped: Unwrapped, points: np.ndarray, faces: np.ndarray, normals: np.ndarray, color: ColorOf
) -> np.ndarray:
    """The texture (H, W, 3) uint8 sRGB, row 0 at the top; texels of no chart have the colour of the nearest that is.

    Args:
        points, faces, normals: the mesh, in the space of `color`.
    """
    from scipy.ndimage import distance_transform_edt

    face, weights, seen = _texels(unwrapped)
    corners = faces[face]
    places = np.einsum("nc,ncd->nd", weights, points[corners].astype(np.float64))
    facing = np.einsum("nc,ncd->nd", weights, normals[corners].astype(np.float64))
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    texture = np.zeros((*seen.shape, 3), np.float32)
    texture[seen] = color(places, facing)
    nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return (texture[tuple(nearest)].clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _texels(unwrapped: Unwrapped) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face (N,) and weights (N, 3) of its corners of the texels whose middle is in a chart; which these are, (H, W)."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    width, height = unwrapped.size
    flat = np.column_stack([unwrapped.uv * [width, height], np.zeros(len(unwrapped.uv))])
    # Rays from above onto the charts laid out flat: charts may be mirrored, so both sides count.
    rows, columns = np.indices((height, width)).reshape(2, -1)
    origins = np.column_stack([columns + 0.5, height - rows - 0.5, np.ones(len(rows))])
    caster = RayMeshIntersector(trimesh.Trimesh(flat, unwrapped.faces, process=False), scale_to_box=False)
    face = caster.intersects_first(origins, np.tile([0.0, 0.0, -1.0], (len(origins), 1)))
    hit = face >= 0
    face = face[hit]
    return face, _barycentric(origins[hit, :2], flat[unwrapped.faces[face], :2]), hit.reshape(height, width)


def _barycentric(places: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(N, 3) weights of the corners of triangles (N, 3, 2) at places (N, 2); within the triangle, and sum to 1."""
    a, b, c = triangles.transpose(1, 0, 2)

    def area(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    whole = area(a, b, c)
    weights = np.stack([area(places, b, c), area(a, places, c), area(a, b, places)], 1)
    weights = np.divide(weights, whole[:, None], out=np.full_like(weights, 1 / 3), where=np.abs(whole)[:, None] > 1e-12)
    weights = weights.clip(0, None)
    return weights / weights.sum(1, keepdims=True)
