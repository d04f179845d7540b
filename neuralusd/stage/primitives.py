"""USD's implicit shapes as polygons, tessellated finely enough for a silhouette to hold at a thousand pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pxr import Usd, UsdGeom

from .walk import time_code

AROUND, ALONG = 96, 48
# Columns that carry a shape made along +Z to the axis named: the rotation that UsdGeom's extents imply.
AXES = {"X": [2, 0, 1], "Y": [1, 2, 0], "Z": [0, 1, 2]}


@dataclass
class Shape:
    """Polygons: points (V, 3), counts (F,), indices (C,), and normals (C, 3) a corner."""

    points: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    normals: np.ndarray


def tessellate(prim: Usd.Prim, time: float | None = None) -> Shape | None:
    """The polygons of a Cube, Sphere, Cylinder, Cone, Capsule or Plane in its local space; None for any other prim."""
    code = time_code(time)

    def get(name: str) -> float:
        return float(prim.GetAttribute(name).Get(code))

    if prim.IsA(UsdGeom.Cube):
        return _cube(get("size"))
    if prim.IsA(UsdGeom.Sphere):
        angle = np.linspace(-np.pi / 2, np.pi / 2, ALONG + 1)
        profile = np.stack([np.cos(angle), np.sin(angle)], 1)
        return _lathe(get("radius") * profile, profile)
    axis_attribute = prim.GetAttribute("axis")
    if not axis_attribute:
        return None
    shape = _along_z(prim, get)
    columns = AXES[str(axis_attribute.Get(code))]
    return shape and Shape(shape.points[:, columns], shape.counts, shape.indices, shape.normals[:, columns])


def _along_z(prim: Usd.Prim, get) -> Shape | None:
    if prim.IsA(UsdGeom.Plane):
        half_width, half_length = get("width") / 2, get("length") / 2
        # Width runs along X and length along Y on the Z axis; on the X axis along Z and Y, on the Y axis along X and Z.
        if prim.GetAttribute("axis").Get() != UsdGeom.Tokens.z:
            half_width, half_length = half_length, half_width
        points = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [half_width, half_length, 0.0]
        return Shape(points, np.array([4]), np.arange(4), np.tile([0.0, 0.0, 1.0], (4, 1)))
    if prim.IsA(UsdGeom.Cone):
        radius, half = get("radius"), get("height") / 2
        return _frustum(radius, 0.0, half)
    if prim.IsA(UsdGeom.Cylinder):
        return _frustum(get("radius"), get("radius"), get("height") / 2)
    if prim.IsA(UsdGeom.Cylinder_1):
        return _frustum(get("radiusBottom"), get("radiusTop"), get("height") / 2)
    if prim.IsA(UsdGeom.Capsule):
        return _capsule(get("radius"), get("radius"), get("height") / 2)
    if prim.IsA(UsdGeom.Capsule_1):
        return _capsule(get("radiusBottom"), get("radiusTop"), get("height") / 2)
    return None


def _cube(size: float) -> Shape:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * (size / 2)
    faces = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    normals = np.repeat([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], 4, axis=0)
    return Shape(corners, np.full(6, 4), faces.ravel(), normals.astype(np.float64))


def _lathe(profile: np.ndarray, normals: np.ndarray) -> Shape:
    """A profile (N, 2) of (radius, height), with its normals (N, 2), turned around Z."""
    # A pole must be one point: rays through a ring of rounding errors would miss.
    profile = np.where(np.abs(profile) < 1e-12, 0.0, profile)
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], 1)

    def turn(curve: np.ndarray) -> np.ndarray:
        radial = curve[:, None, :1] * around
        return np.concatenate([radial, np.broadcast_to(curve[:, None, 1:], (*radial.shape[:2], 1))], 2).reshape(-1, 3)

    ring, step = np.meshgrid(np.arange(len(profile) - 1), np.arange(AROUND), indexing="ij")
    following = (step + 1) % AROUND
    quads = np.stack([ring * AROUND + step, ring * AROUND + following, (ring + 1) * AROUND + following,
                      (ring + 1) * AROUND + step], -1).reshape(-1)  # fmt: skip
    return Shape(turn(profile), np.full(len(quads) // 4, 4), quads, turn(normals)[quads])


def _joined(*shapes: Shape) -> Shape:
    offsets = np.cumsum([0] + [len(s.points) for s in shapes])
    return Shape(
        np.concatenate([s.points for s in shapes]),
        np.concatenate([s.counts for s in shapes]),
        np.concatenate([s.indices + o for s, o in zip(shapes, offsets[:-1], strict=True)]),
        np.concatenate([s.normals for s in shapes]),
    )


def _frustum(bottom: float, top: float, half: float) -> Shape:
    """A cylinder or cone between -half and +half, with its caps."""
    slope = np.array([2 * half, bottom - top]) / max(np.hypot(2 * half, bottom - top), 1e-30)
    side = _lathe(np.array([[bottom, -half], [top, half]]), np.stack([slope, slope]))
    down, up = np.array([[0.0, -1.0]] * 2), np.array([[0.0, 1.0]] * 2)
    caps = [_lathe(np.array([[0.0, -half], [bottom, -half]]), down)] if bottom > 0 else []
    caps += [_lathe(np.array([[top, half], [0.0, half]]), up)] if top > 0 else []
    return _joined(side, *caps)


def _capsule(bottom: float, top: float, half: float) -> Shape:
    """A cylinder or cone between -half and +half, closed by the spheres that continue its side smoothly."""
    slope = (bottom - top) / (2 * half) if half > 0 else 0.0
    tilt, stretch = np.arctan(slope), np.hypot(1.0, slope)
    lower, upper = np.linspace(-np.pi / 2, tilt, ALONG // 2 + 1), np.linspace(tilt, np.pi / 2, ALONG // 2 + 1)

    def arc(angle: np.ndarray, radius: float, end: float) -> np.ndarray:
        sphere = radius * stretch * np.stack([np.cos(angle), np.sin(angle)], 1)
        return sphere + [0.0, end - radius * slope]

    profile = np.concatenate([arc(lower, bottom, -half), arc(upper, top, half)])
    angle = np.concatenate([lower, upper])
    return _lathe(profile, np.stack([np.cos(angle), np.sin(angle)], 1))
