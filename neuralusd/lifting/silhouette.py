"""The silhouette lifter: what a picture's outline says of an object's shape, and no more.

The solid is the union of all balls that are centred in the picture plane and fit into the outline, none larger than a
limit. So it is as wide and as high as the outline, exactly; round where it is thin, as a leg; a slab with round edges
where it is wide, as a table top; the same in front and behind. What the picture shows of depth is not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..scene import Camera
from .outline import THINNEST, Outline, trace
from .shape import IMAGE, ColorOf, Lifted, Request, Step

# Cells along the longer side of the object: of the outline, and of the solid, which has every second one.
OUTLINE_CELLS = 384
SOLID_CELLS = OUTLINE_CELLS // 2
# The object's distance from the camera, in its own sizes; an orthographic view only has to be outside.
DISTANCE = 4.0
THICKNESS = 0.7


@dataclass
class SilhouetteLifter:
    """Extrudes the outline of one picture to a rounded solid, which is mirrored behind the picture plane.

    The picture is taken to be orthographic, of an upright object.

    Args:
        thickness: how thick the solid is at most, as a part of the outline's smaller side, above 0 to 1.
    """

    thickness: float = THICKNESS
    name = "silhouette"
    revision = "1"
    seeded = False
    most = 1
    takes = frozenset({IMAGE})

    def __post_init__(self) -> None:
        if not 0 < self.thickness <= 1:
            raise ValueError(
                f"a thickness of {self.thickness:g} is none; give a part of the smaller side, above 0 to 1"
            )

    def __call__(self, request: Request, step: Step = lambda done: None) -> Lifted:
        """The solid of a picture's outline. Its unit is a pixel of the picture, its middle the picture's.

        Raises:
            ImageError: the outline is empty, too small, or all of the picture.
        """
        [picture] = request.pictures
        outline = trace(picture, OUTLINE_CELLS)
        step(0.2)
        limit = max(self.thickness * min(outline.size) / 2, THINNEST)
        power, radius = _largest_balls(np.minimum(outline.radius, limit), math.ceil(limit) + 4)
        step(0.6)
        distance = _solid(power[::2, ::2], radius[::2, ::2])
        step(0.9)
        spacing = 2 * outline.cell
        # Rows run down and y up; the planes are symmetrical about z = 0.
        distance = np.ascontiguousarray(distance[::-1].transpose(1, 0, 2))
        height, width = picture.coverage.shape
        left, bottom = outline.place(0, 2 * (len(power[::2]) - 1))
        origin = np.array([left - width / 2, height / 2 - bottom, -(distance.shape[2] // 2) * spacing])
        guess = "depth is a guess: each part of the outline is as thick as it is wide, at most "
        notes = [*outline.notes, f"{guess}{self.thickness:g} of its smaller side, and the back mirrors the front"]
        return Lifted(distance, origin, spacing, _projected(outline, width, height), _view(width, height), notes)


def _largest_balls(radius: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """For each cell the ball, of those with `radius` (H, W) about cells, that it is deepest in by the power distance.

    Args:
        radius: in cells; 0 or less is no ball. reach: how many cells away balls are looked for.

    Returns:
        (H, W) float32 of r^2 - d^2 of that ball, so that z^2 below it is inside; and its radius r (H, W) float32. Where
        no ball is within reach, -inf and 0.
    """
    power = np.where(radius > 0, radius.astype(np.float32) ** 2, -np.inf).astype(np.float32)
    chosen = radius.astype(np.float32)
    # The maximum over a plane is one along the rows and then one along the columns, as of a distance transform.
    for axis in (0, 1):
        source, balls = np.moveaxis(power, axis, 0), np.moveaxis(chosen, axis, 0)
        best, best_ball = source.copy(), balls.copy()
        length = len(source)
        for shift in range(1, min(reach, length - 1) + 1):
            for here, there in ((slice(shift, None), slice(None, -shift)), (slice(None, -shift), slice(shift, None))):
                candidate = source[there] - np.float32(shift * shift)
                better = candidate > best[here]
                best[here][better] = candidate[better]
                best_ball[here][better] = balls[there][better]
        power, chosen = np.moveaxis(best, 0, axis), np.moveaxis(best_ball, 0, axis)
    return power, chosen


def _solid(power: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(H, W, D) float32 distances in cells of the solid, which are two of the outline; symmetric in the last axis."""
    deepest = math.ceil(float(radius.max()) / 2) + 2
    z = 2.0 * np.arange(deepest + 1, dtype=np.float32)
    missing = ~np.isfinite(power)
    # Distance from the ball's centre, less its radius.
    centre = (radius**2 - np.where(missing, 0, power))[..., None] + z**2
    half = (np.sqrt(np.maximum(centre, 0)) - radius[..., None]) / 2
    half[missing] = deepest
    return np.concatenate([half[..., :0:-1], half], axis=2)


def _projected(outline: Outline, width: int, height: int) -> ColorOf:
    """Colours by projecting the picture along its axis, so that the back mirrors the front."""

    def color(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return outline.color_at(points[:, 0] + width / 2, height / 2 - points[:, 1])

    return color


def _view(width: int, height: int) -> Camera:
    distance = DISTANCE * max(width, height)
    world_to_camera = np.eye(4)
    world_to_camera[3, 2] = -distance
    return Camera(
        world_to_camera=world_to_camera,
        horizontal_aperture=float(width),
        vertical_aperture=float(height),
        projection="orthographic",
        clipping_range=(distance / 100, distance * 3),
    )
