"""Rays against the pieces of a stage, by Embree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SceneError
from ..scene import Camera, box_corners
from .bvh import Group, groups
from .pieces import Placed

# About 200 bytes each, with Embree's own structures.
MOST_TRIANGLES = 40_000_000


@dataclass
class Hits:
    """Where rays hit, one entry a hit.

    Attributes:
        ray: (N,) int, index of the ray.
        piece: (N,) int, index of the piece.
        triangle: (N,) int, triangle of the piece's mesh.
        corners: (N, 3, 3) float64, the triangle's corners, metres from the camera's place along the world's axes.
        weights: (N, 3) float64, barycentric weights of the corners.
        points: (N, 3) float64, metres from the camera's place, along the world's axes.
        normals: (N, 3) float64, unit normals of the triangle in world space, on either side.
        depth: (N,) float64, metres along the viewing axis.
    """

    ray: np.ndarray
    piece: np.ndarray
    triangle: np.ndarray
    corners: np.ndarray
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

    Each mesh is cast against in a space of its own, in which Embree's tree over it is kept; what Embree hits is then
    located again in double precision, relative to the camera, so that a scene far from the origin loses nothing.

    Args:
        owners: (P,) the asset that each piece moves with, -1 for none; None is none for all. frames: (4, 4) of each
            asset, local to metres.
    """

    def __init__(
        self,
        pieces: Sequence[Placed],
        camera: Camera,
        owners: np.ndarray | None = None,
        frames: Sequence[np.ndarray] = (),
    ):
        self.camera, self.pieces = camera, pieces
        camera_to_world = np.linalg.inv(camera.world_to_camera)
        self.eye = camera_to_world[3, :3]
        self.axis = -camera_to_world[2, :3] / np.linalg.norm(camera_to_world[2, :3])
        seen = np.array([i for i, piece in enumerate(pieces) if _may_see(camera, piece)], np.int64)
        _check_size([pieces[i] for i in seen])
        owners = np.full(len(pieces), -1) if owners is None else owners
        self.groups = groups([pieces[i] for i in seen], owners[seen], list(frames))
        for group in self.groups:
            group.pieces = seen[group.pieces]

    def cast(self, origins: np.ndarray, directions: np.ndarray, ray: np.ndarray, from_camera: bool = True) -> Hits:
        """The first hit of each ray, from depth 0 on.

        Args:
            origins, directions: (N, 3), origins in metres from the camera's place; directions as `Camera.rays` gives
            them.
            ray: (N,) what to call the rays in the result. from_camera: each is a ray of the camera, or goes on from a
            hit of one; only those boxes are then looked into that the camera sees it in.
        """
        far = np.full(len(origins), np.inf, np.float32)
        piece, triangle = np.full(len(origins), -1), np.zeros(len(origins), np.int64)
        image = self._image(origins, directions) if from_camera else None
        # Nearest first: what it hides is not cast against.
        for group in sorted(self.groups, key=self._distance) if len(origins) else ():
            inverse = np.linalg.inv(group.to_world)
            some = np.arange(len(origins)) if image is None else np.flatnonzero(self._within(image, group))
            start = origins[some] @ inverse[:3, :3] + (self.eye @ inverse[:3, :3] + inverse[3, :3])
            along = directions[some] @ inverse[:3, :3]
            near = np.flatnonzero(_meets_box(start, along, group.tree.low, group.tree.high, far[some]))
            if not len(near):
                continue
            some, start, along = some[near], start[near], along[near]
            found, distance = group.tree.nearest(start, along, far[some])
            hit = found >= 0
            at, number = some[hit], found[hit].astype(np.int64)
            far[at] = distance[hit]
            member = np.searchsorted(group.starts, number, side="right") - 1
            piece[at], triangle[at] = group.pieces[member], number - group.starts[member]
        at = np.flatnonzero(piece >= 0)
        return self._located(piece[at], triangle[at], origins[at], directions[at], ray[at])

    def weights_along(self, hits: Hits, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Weights (N, 3) where other rays, one a hit, meet the planes of the triangles hit; they may lie outside."""
        return _locate(origins, directions, hits.corners)[0]

    def _located(
        self, piece: np.ndarray, triangle: np.ndarray, origins: np.ndarray, directions: np.ndarray, ray: np.ndarray
    ) -> Hits:
        corners = np.empty((len(piece), 3, 3))
        for index in np.unique(piece):
            here = piece == index
            mesh, matrix = self.pieces[index].mesh, self.pieces[index].local_to_world
            local = mesh.points[mesh.triangles[triangle[here]]]
            corners[here] = local @ matrix[:3, :3] + (matrix[3, :3] - self.eye)
        weights, normals = _locate(origins, directions, corners)
        weights = np.clip(weights, 0, 1)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
        points = np.einsum("nk,nki->ni", weights, corners)
        return Hits(ray, piece, triangle, corners, weights, points, normals, points @ self.axis)

    def _image(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """(2, N) float32, where the camera sees its rays: x and y of camera space, over depth of a perspective one."""
        turn = self.camera.world_to_camera[:3, :3]
        if self.camera.projection == "orthographic":
            return (origins @ turn[:, :2]).T.astype(np.float32)
        x, y, z = (directions @ turn).T
        return np.stack([x / -z, y / -z]).astype(np.float32)

    def _within(self, image: np.ndarray, group: Group) -> np.ndarray:
        """(N,) bool: which of the camera's rays come near a group's box."""
        x, y, z = self.camera.to_camera(box_corners(group.tree.low, group.tree.high, group.to_world)).T
        if self.camera.projection != "orthographic":
            if (z > -1e-6 * np.abs(z).max()).any():  # reaches behind the camera
                return np.ones(image.shape[1], bool)
            x, y = x / -z, y / -z
        inside = np.ones(image.shape[1], bool)
        for places, at in zip(image, (x, y), strict=True):
            margin = 1e-3 * (at.max() - at.min()) + 1e-6 * np.abs(at).max()
            inside &= (places >= at.min() - margin) & (places <= at.max() + margin)
        return inside

    def _distance(self, group: Group) -> float:
        middle = group.tree.middle @ group.to_world[:3, :3] + group.to_world[3, :3]
        return float(np.linalg.norm(middle - self.eye))


def _meets_box(
    origins: np.ndarray, directions: np.ndarray, low: np.ndarray, high: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """(N,) bool: which rays meet a box before `far`; a little too many, never too few."""
    margin = 1e-4 * (high - low) + 1e-9 * np.abs(np.stack([low, high])).max() + 1e-30
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        enters, leaves = np.zeros(len(origins)), far.astype(np.float64)
        for axis in range(3):
            over = 1 / directions[:, axis]
            first = (low[axis] - margin[axis] - origins[:, axis]) * over
            second = (high[axis] + margin[axis] - origins[:, axis]) * over
            # Along an axis that a ray does not move on, 0 times infinity says nothing.
            np.fmax(enters, np.fmin(first, second), out=enters)
            np.fmin(leaves, np.fmax(first, second), out=leaves)
    return leaves >= enters


def _locate(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) where rays meet the planes of triangles, and unit normals (N, 3)."""
    a = corners[:, 0]
    ab, ac = corners[:, 1] - a, corners[:, 2] - a
    normal = _cross(ab, ac)
    facing = (direction * normal).sum(1)
    steep = np.where(np.abs(facing) > 0, facing, 1.0)
    # Moeller and Trumbore's weights, from triple products.
    q = _cross(a - origin, direction)
    v = (q * ac).sum(1) / steep
    w = -(q * ab).sum(1) / steep
    weights = np.stack([1 - v - w, v, w], 1)
    return weights, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cross product of (N, 3); three times as fast as numpy's."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 1)


def _check_size(pieces: Sequence[Placed]) -> None:
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


def _may_see(camera: Camera, piece: Placed) -> bool:
    """Whether the piece's box reaches into the view; False only where it surely does not."""
    x, y, z = camera.to_camera(box_corners(*piece.mesh.bounds, piece.local_to_world)).T
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
