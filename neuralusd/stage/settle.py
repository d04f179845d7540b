"""What a sample means to stand is set upright and onto what is below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..latents import ObjectLatents
from ..scene import Camera, Scene
from .geometry import Piece
from .latents import quaternion_of, rotation_of
from .rays import RayCaster

# Degrees. What leans by more than this is meant to lie or to lean.
LEANING = 20.0
# Metres. What floats by more than this hangs; what is sunk by more is left for who looks at it.
TOLERANCE = 0.3

Floor = Callable[[np.ndarray], "float | None"]
"""A point (3,) in world metres to the height of the ground at or below it, along the up axis; None where there is
none."""


def settle(scene: Scene, objects: Sequence[ObjectLatents], moved: Sequence[bool], floor: Floor) -> list[ObjectLatents]:
    """Objects of a sample, those that moved upright and on the ground or on another object.

    An object within `LEANING` degrees of upright stands upright, its yaw kept. One whose box floats above the nearest
    support below its middle, or is sunk into it, by less than `TOLERANCE` metres rests on it. Others stay as they are,
    as do those that did not move.

    Args:
        moved: whether an object's pose is the sample's.
    """
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    up = np.array([0.0, 1.0, 0.0]) if scene.up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    out = [
        _upright(one, up, to_world) if free and one.presence else one for one, free in zip(objects, moved, strict=True)
    ]
    order = sorted(range(len(out)), key=lambda index: _box(out[index], up, to_world)[1])
    still = [index for index in order if out[index].presence and not moved[index]]
    for index in (index for index in order if moved[index] and out[index].presence):
        middle, bottom, _ = _box(out[index], up, to_world)
        supports = [_top(out[other], middle, up, to_world) for other in still]
        supports.append(floor(middle + (bottom + TOLERANCE - middle @ up) * up))
        heights = [height for height in supports if height is not None and abs(height - bottom) <= TOLERANCE]
        if heights:
            lifted = middle + (min(heights, key=lambda height: abs(height - bottom)) - bottom) * up
            out[index] = replace(out[index], translation=scene.camera.to_camera(lifted))
        still.append(index)
    return out


def _axes(one: ObjectLatents, to_world: np.ndarray) -> np.ndarray:
    """(3, 3), rows: the canonical axes in world space."""
    return rotation_of(one.rotation) @ to_world[:3, :3]


def _upright(one: ObjectLatents, up: np.ndarray, to_world: np.ndarray) -> ObjectLatents:
    axes = _axes(one, to_world)
    if axes[2] @ up < np.cos(np.radians(LEANING)):
        return one
    back = axes[1] - (axes[1] @ up) * up
    back /= np.linalg.norm(back)
    straight = np.stack([np.cross(back, up), back, up])
    return replace(one, rotation=quaternion_of(straight @ np.linalg.inv(to_world[:3, :3])))


def _box(one: ObjectLatents, up: np.ndarray, to_world: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Middle (3,) in world metres, and the heights of bottom and top."""
    middle = one.translation @ to_world[:3, :3] + to_world[3, :3]
    half = float(np.abs(_axes(one, to_world) @ up) @ one.scale) / 2
    return middle, float(middle @ up) - half, float(middle @ up) + half


def _top(one: ObjectLatents, point: np.ndarray, up: np.ndarray, to_world: np.ndarray) -> float | None:
    """Height of an object's box where it is above or below a point; None where it is beside it."""
    middle, _, top = _box(one, up, to_world)
    offset = point - middle
    beside = _axes(one, to_world) @ (offset - (offset @ up) * up)
    flat = np.abs(_axes(one, to_world) @ up) < 0.7
    return top if (np.abs(beside) <= one.scale / 2)[flat].all() else None


def floor_of_pieces(pieces: list[Piece], up_axis: str) -> Floor:
    """The ground of geometry: what a ray downwards meets first."""
    up = np.array([0.0, 1.0, 0.0]) if up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    right = np.array([1.0, 0.0, 0.0])
    above = np.eye(4)
    above[:3, :3] = np.stack([right, np.cross(up, right), up])
    whole = Camera(np.linalg.inv(above), horizontal_aperture=1e12, vertical_aperture=1e12, projection="orthographic",
                   clipping_range=(-1e12, 1e12))  # fmt: skip
    caster = RayCaster(pieces, whole)

    def floor(point: np.ndarray) -> float | None:
        hits = caster.cast(point[None] - caster.eye, -up[None], np.zeros(1, np.int64))
        return float((hits.points[0] + caster.eye) @ up) if len(hits.ray) else None

    return floor


def floor_of_points(points: np.ndarray, up_axis: str, reach: float = 0.5) -> Floor:
    """The ground of points (N, 3) in world metres, as of a background that was sampled: the middle one of those within
    `reach` metres beside a point that are not above it nor deeper than twice the tolerance."""
    axis = 1 if up_axis == "Y" else 2
    beside = [0, 2] if up_axis == "Y" else [0, 1]

    def floor(point: np.ndarray) -> float | None:
        near = np.linalg.norm(points[:, beside] - point[beside], axis=1) <= reach
        heights = points[near, axis]
        heights = heights[(heights <= point[axis]) & (heights >= point[axis] - 2 * TOLERANCE)]
        return float(np.median(heights)) if len(heights) else None

    return floor
