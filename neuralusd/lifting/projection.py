"""Pictures' own pixels on the surface that they show, and other colours where they do not see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..scene import Camera
from .outline import spread
from .shape import ColorOf, Cutout

# The longer side of the depth map that says what is hidden, at most.
DEPTH_SIZE = 640
# A surface that is turned further from the camera than this cosine has nothing of the picture; nearer than that, all.
GRAZING, FACING = 0.1, 0.4
# How far beyond the outline the picture's colours run out: of the object's longer side in the picture, at least pixels.
FADE, FADE_PIXELS = 0.015, 2.5
# What lies so much deeper than the nearest, of the object's size, is hidden.
SLACK = 0.01
# Of several pictures that see a point, the one that sees it best has nearly all of it: a mixture would be blurred.
SHARPNESS = 6


def seen_colors(
    seen: Sequence[tuple[Cutout, Camera]], points: np.ndarray, faces: np.ndarray, fallback: ColorOf
) -> ColorOf:
    """The colours of a surface: of pictures where these see it, `fallback` elsewhere, and smoothly between the two.

    A picture sees a point that faces its camera, that no other part of the surface hides, and that lies within the
    outline of the object in the picture. Colours at the outline, which are partly the background's, are replaced by
    those a little further in.

    Args:
        seen: pictures of the object, and the camera that took each; perspective or orthographic.
        points (V, 3), faces (F, 3): the surface, counter-clockwise seen from outside, in the space of the cameras.
        fallback: for what no picture sees.
    """
    if not seen:
        return fallback
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    projections = [_Projection.of(picture, view, points, faces, size) for picture, view in seen]

    def color(places: np.ndarray, normals: np.ndarray) -> np.ndarray:
        mixed = np.array(fallback(places, normals), np.float32)
        found = [projection.at(places, normals) for projection in projections]
        weights = np.stack([weight for _, weight in found])
        shares = weights**SHARPNESS
        total = shares.sum(0)
        near = total > 0
        own = sum(share[near, None] * colors[near] for share, (colors, _) in zip(shares, found, strict=True))
        part = weights.max(0)[near, None]
        mixed[near] += part * (own / total[near, None] - mixed[near])
        return mixed

    return color


@dataclass
class _Projection:
    """A picture that is thrown from its camera onto a surface.

    Attributes:
        color: (H, W, 3) float32, the picture, its colours spread to all around the object.
        inside: (H, W) float32, 1 on the object, 0 far from it.
        depth: (R, C) float32, the nearest surface in and around each pixel of a smaller picture; inf where none is.
        slack: how much deeper than that a point may lie.
    """

    view: Camera
    color: np.ndarray
    inside: np.ndarray
    depth: np.ndarray
    slack: float

    @classmethod
    def of(cls, picture: Cutout, view: Camera, points: np.ndarray, faces: np.ndarray, size: float) -> _Projection:
        from scipy.ndimage import distance_transform_edt, minimum_filter

        mask = picture.coverage >= 0.5
        if not mask.any():
            return cls(view, picture.color, np.zeros_like(picture.coverage), np.full((1, 1), np.inf), 0.0)
        longer = max(np.ptp(np.flatnonzero(mask.any(axis))) for axis in (0, 1)) + 1
        outside = distance_transform_edt(~mask) - 1
        inside = np.clip(1 - outside / max(FADE * longer, FADE_PIXELS), 0, 1).astype(np.float32)
        height, width = mask.shape
        scale = min(DEPTH_SIZE / max(height, width), 1)
        depth = depth_map(view, points, faces, max(round(height * scale), 1), max(round(width * scale), 1))
        # A picture and a surface never match to the pixel: beside what hides it, a surface has no colours of it.
        return cls(view, spread(picture.color, mask), inside, minimum_filter(depth, 5), SLACK * size)

    def at(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours (N, 3), and how well they are seen, (N,) in 0..1, of points (N, 3) with unit normals (N, 3)."""
        h, w, depth = self.view.project(points.astype(np.float64)).T
        good = np.isfinite(h) & (depth > 0) & (h > 0) & (h < 1) & (w > 0) & (w < 1)
        h, w = np.where(good, h, 0.5), np.where(good, w, 0.5)
        facing = (normals * self._towards(points)).sum(1)
        weight = _smooth(facing, GRAZING, FACING) * good * _at(self.inside, h, w)
        # A slope is deeper than the nearest around it.
        tilt = np.sqrt(np.clip(1 - facing**2, 0, 1)) / np.clip(facing, GRAZING, 1)
        slack = self.slack + tilt * self._pixel(depth) * 3.0
        beyond = depth - _nearest(self.depth, h, w)
        weight *= 1 - _smooth(beyond, slack, 2 * slack)
        return np.stack([_at(self.color[..., c], h, w) for c in range(3)], 1), weight

    def _towards(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) unit vectors from points to the camera."""
        camera_to_world = np.linalg.inv(self.view.world_to_camera)
        if self.view.projection == "orthographic":
            towards = np.broadcast_to(camera_to_world[2, :3], points.shape)
        else:
            towards = camera_to_world[3, :3] - points
        return towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-30)

    def _pixel(self, depth: np.ndarray) -> np.ndarray:
        """How wide a pixel of the depth map is at depths (N,)."""
        width = self.view.horizontal_aperture / self.depth.shape[1]
        return (
            np.full_like(depth, width)
            if self.view.projection == "orthographic"
            else (width / self.view.focal_length * np.maximum(depth, 0))
        )


def depth_map(view: Camera, points: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) float32, how deep a camera sees a surface; inf where it sees none."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    # In the camera's own space, so that Embree's single precision is about the camera.
    placed = view.to_camera(points.astype(np.float64))
    origins, directions = (values.reshape(-1, 3) for values in view.rays(height, width))
    origins = view.to_camera(origins)
    directions = directions @ view.world_to_camera[:3, :3]
    caster = RayMeshIntersector(trimesh.Trimesh(placed, faces, process=False), scale_to_box=False)
    face = caster.intersects_first(origins, directions)
    hit = face >= 0
    a, b, c = placed[faces[face[hit]]].transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    steep = (directions[hit] * across).sum(1)
    along = ((a - origins[hit]) * across).sum(1) / np.where(np.abs(steep) > 1e-30, steep, 1e-30)
    corners = -np.stack([a[:, 2], b[:, 2], c[:, 2]])
    depth = np.full(height * width, np.inf, np.float32)
    # Directions are scaled to a depth of 1. Where the ray lies in the triangle, any of its points will do.
    depth[hit] = along.clip(corners.min(0), corners.max(0))
    return depth.reshape(height, width)


def _at(values: np.ndarray, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """An image (H, W) at normalised places (N,); bilinear."""
    from scipy.ndimage import map_coordinates

    places = np.stack([h * values.shape[0] - 0.5, w * values.shape[1] - 0.5])
    return map_coordinates(values, places, order=1, mode="nearest")


def _nearest(values: np.ndarray, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    rows, columns = values.shape
    return values[(h * rows).astype(int).clip(0, rows - 1), (w * columns).astype(int).clip(0, columns - 1)]


def _smooth(value: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, and smoothly between."""
    part = ((value - low) / (high - low)).clip(0, 1)
    return part * part * (3 - 2 * part)
