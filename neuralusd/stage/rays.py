"""Rays against the pieces of a stage, by Embree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..errors import SceneError
from ..scene import Camera
from .geometry import Piece

# About 200 bytes each, with Embree's own structures.
MOST_TRIANGLES = 40_000_000


@dataclass
class Hits:
    """Where rays hit, one entry a hit.

    Attributes:
        ray: (N,) int, index of the ray.
        piece: (N,) int, index of the piece.
        triangle: (N,) int, triangle of the piece's mesh.
        face: (N,) int, the same triangle among all that were cast against.
        weights: (N, 3) float64, barycentric weights of the triangle's corners.
        points: (N, 3) float64, metres from the camera's place, along the world's axes.
        normals: (N, 3) float64, unit normals of the triangle in world space, on either side.
        depth: (N,) float64, metres along the viewing axis.
    """

    ray: np.ndarray
    piece: np.ndarray
    triangle: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    depth: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Hits:
        return Hits(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: list[Hits]) -> Hits:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


class RayCaster:
    """Pieces that a camera may see, ready for rays.

    Everything is placed relative to the camera in double precision before Embree's single precision sees it, so a
    scene far from the origin loses nothing; what Embree hits is then located again in double precision.
    """

    def __init__(self, pieces: list[Piece], camera: Camera):
        self.camera = camera
        camera_to_world = np.linalg.inv(camera.world_to_camera)
        self.eye = camera_to_world[3, :3]
        self.axis = -camera_to_world[2, :3] / np.linalg.norm(camera_to_world[2, :3])
        self.seen = [i for i, piece in enumerate(pieces) if _may_see(camera, piece)]
        _check_size([pieces[i] for i in self.seen])
        vertices, triangles = [np.empty((0, 3))], [np.empty((0, 3), np.int64)]
        starts, count, faces = [], 0, 0
        for i in self.seen:
            mesh, matrix = pieces[i].mesh, pieces[i].local_to_world
            starts.append(faces)
            vertices.append(mesh.points @ matrix[:3, :3] + (matrix[3, :3] - self.eye))
            triangles.append(mesh.triangles + count)
            count += len(mesh.points)
            faces += len(mesh.triangles)
        self.vertices, self.triangles = np.concatenate(vertices), np.concatenate(triangles)
        self.starts = np.array(starts, np.int64)
        self._scene = None
        if len(self.triangles):
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene

            self._scene = EmbreeScene(robust=True)
            TriangleMesh(self._scene, self.vertices.astype(np.float32), self.triangles.astype(np.int32))

    def cast(self, origins: np.ndarray, directions: np.ndarray, ray: np.ndarray) -> Hits:
        """The first hit of each ray, from depth 0 on.

        Args:
            origins, directions: (N, 3), origins in metres from the camera's place; directions as `Camera.rays` gives
            them.
            ray: (N,) what to call the rays in the result.
        """
        if self._scene is None or not len(origins):
            none = np.empty(0, np.int64)
            vectors = np.empty((0, 3))
            return Hits(none, none, none, none, vectors, vectors, vectors, np.empty(0))
        hit = self._scene.run(origins.astype(np.float32), directions.astype(np.float32))
        at = np.flatnonzero(hit >= 0)
        triangle = hit[at].astype(np.int64)
        origin, direction, ray = origins[at], directions[at], ray[at]
        a, b, c = (self.vertices[self.triangles[triangle, i]] for i in range(3))
        weights, normals = _locate(origin, direction, a, b, c)
        weights = np.clip(weights, 0, 1)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
        points = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
        piece = np.searchsorted(self.starts, triangle, side="right") - 1
        seen = np.array(self.seen, np.int64)
        return Hits(
            ray, seen[piece], triangle - self.starts[piece], triangle, weights, points, normals, points @ self.axis
        )

    def weights_along(self, hits: Hits, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Weights (N, 3) where other rays, one a hit, meet the planes of the triangles hit; they may lie outside."""
        a, b, c = (self.vertices[self.triangles[hits.face, i]] for i in range(3))
        return _locate(origins, directions, a, b, c)[0]


def _locate(origin, direction, a, b, c) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) where rays meet the planes of triangles, held inside the triangle, and unit normals
    (N, 3).
    """
    ab, ac = b - a, c - a
    normal = np.cross(ab, ac)
    facing = (direction * normal).sum(1)
    steep = np.where(np.abs(facing) > 0, facing, 1.0)
    to_a = a - origin
    # Moeller and Trumbore's weights, from triple products.
    q = np.cross(to_a, direction)
    v = (q * ac).sum(1) / steep
    w = -(q * ab).sum(1) / steep
    weights = np.stack([1 - v - w, v, w], 1)
    return weights, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)


def _check_size(pieces: list[Piece]) -> None:
    """Raises SceneError, naming the prim with the most, where the pieces have more triangles than memory is for."""
    triangles: Counter[str] = Counter()
    for piece in pieces:
        triangles[str(piece.path)] += len(piece.mesh.triangles)
    if triangles.total() > MOST_TRIANGLES:
        path, most = triangles.most_common(1)[0]
        raise SceneError(
            f"the camera sees {triangles.total():,} triangles, of which <{path}> has {most:,}; {MOST_TRIANGLES:,} "
            f"are the "
            "most that can be cast against. Hide it, or give it a lighter variant."
        )


def _may_see(camera: Camera, piece: Piece) -> bool:
    """Whether the piece's box reaches into the view; False only where it surely does not."""
    low, high = piece.mesh.bounds
    unit = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners = (low + unit * (high - low)) @ piece.local_to_world[:3, :3] + piece.local_to_world[3, :3]
    x, y, z = camera.to_camera(corners).T
    near, far = camera.clipping_range
    if (-z < near).all() or (-z > far).all():
        return False
    # The four sides of the view: a point is outside where x * focal < edge * depth, all corners of the box on the
    # same side.
    depth, focal = (np.ones(8), 1.0) if camera.projection == "orthographic" else (-z, camera.focal_length)
    left = camera.horizontal_aperture_offset - camera.horizontal_aperture / 2
    bottom = camera.vertical_aperture_offset - camera.vertical_aperture / 2
    right, top = left + camera.horizontal_aperture, bottom + camera.vertical_aperture
    outside = (x * focal < left * depth, x * focal > right * depth, y * focal < bottom * depth, y * focal > top * depth)
    return not any(side.all() for side in outside)
