"""A mesh with colours as the lift part compares it: placed in a world, and seen by that world's cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..scene import Camera

Colors = Callable[[np.ndarray], np.ndarray]
"""Points of the surface (N, 3), in the solid's own space, to sRGB (N, 3) in 0..1."""

# Points of a surface whose colours are known; more than pixels that show it.
SAMPLES = 40_000

# Of a view of a lift alone: what stands for light, along the camera's axis and above.
_AMBIENT = 0.55


@dataclass(frozen=True)
class Solid:
    """Triangles with colours, as unlit: what is baked into them is all the light there is.

    Attributes:
        points: (V, 3) float64. faces: (F, 3) int. colors: see `Colors`. matrix: (4, 4) for row vectors, from the
            solid's own space to where it is placed.
    """

    points: np.ndarray
    faces: np.ndarray
    colors: Colors
    matrix: np.ndarray

    @cached_property
    def placed_points(self) -> np.ndarray:
        """(V, 3) where it is placed."""
        return self.points @ self.matrix[:3, :3] + self.matrix[3, :3]

    @cached_property
    def _mesh(self) -> Any:
        import trimesh

        return trimesh.Trimesh(self.placed_points, self.faces, process=False)

    def placed(self, matrix: np.ndarray) -> Solid:
        """The same, moved by (4, 4) from where it is now."""
        return replace(self, matrix=self.matrix @ matrix)

    def see(self, camera: Camera, height: int, width: int, shaded: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """What a camera sees: (H, W, 3) sRGB in 0..1, and depth (H, W), infinite where it sees nothing.

        Args:
            shaded: dims the colours by how much a surface turns away, so that people see the shape.
        """
        origins, directions = (rays.reshape(-1, 3) for rays in camera.rays(height, width))
        color, depth = np.zeros((height * width, 3)), np.full(height * width, np.inf)
        face = self._first(origins, directions)
        at = np.flatnonzero(face >= 0)
        face = face[at]
        if len(at):
            corners = self.placed_points[self.faces[face]]
            weights, along = _weights(origins[at], directions[at], corners)
            own = np.einsum("nc,ncd->nd", weights, self.points[self.faces[face]])
            color[at], depth[at] = self.colors(own), along
            if shaded:
                normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
                normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
                toward = directions[at] / np.linalg.norm(directions[at], axis=1, keepdims=True)
                color[at] *= (_AMBIENT + (1 - _AMBIENT) * np.abs((normals * toward).sum(1)))[:, None]
        return color.reshape(height, width, 3), depth.reshape(height, width)

    def _first(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """(N,) the first face that each ray hits, -1 for none."""
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        return np.asarray(self._mesh.ray.intersects_first(origins, unit))


def painted_solid(
    points: np.ndarray, faces: np.ndarray, samples: np.ndarray, colors: np.ndarray, nearest: int = 4
) -> Solid:
    """A mesh whose colours are the means of the `nearest` of the samples (N, 3) with `colors` (N, 3)."""
    from scipy.spatial import cKDTree

    tree = cKDTree(samples)

    def color(points: np.ndarray) -> np.ndarray:
        return colors[tree.query(points, k=min(nearest, len(samples)))[1].reshape(len(points), -1)].mean(1)

    return Solid(np.asarray(points, np.float64), faces, color, np.eye(4))


def surface_samples(
    points: np.ndarray, faces: np.ndarray, count: int = SAMPLES, seed: int = 0
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(count, 3) points spread over a mesh, and of each its face (count,) and its barycentric weights (count, 3)."""
    import trimesh

    mesh = trimesh.Trimesh(points, faces, process=False)
    face = np.asarray(trimesh.sample.sample_surface(mesh, count, seed=seed)[1])
    weights = np.random.default_rng(seed).dirichlet((1, 1, 1), count)
    return np.einsum("nc,ncd->nd", weights, np.asarray(points)[faces[face]]), (face, weights)


def _weights(origins: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) of where rays meet the planes of triangles (N, 3, 3), and how far along the rays (N,)
    that is, in units of their directions (Möller and Trumbore, 1997)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(directions, second)
    volume = (first * across).sum(1)
    volume = np.where(np.abs(volume) < 1e-30, 1e-30, volume)
    start = origins - corners[:, 0]
    u = (start * across).sum(1) / volume
    turned = np.cross(start, first)
    v = (directions * turned).sum(1) / volume
    # Embree's hits lie within the triangle but for rounding.
    weights = np.clip(np.stack([1 - u - v, u, v], 1), 0, 1)
    return weights / weights.sum(1, keepdims=True), (second * turned).sum(1) / volume
