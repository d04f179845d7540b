"""Where a lift belongs in the true world: by the camera that took its picture.

A lifter knows neither how far away nor how large what it sees is: of a picture both can be doubled together. What it
does say is what its camera sees. So its camera is laid on the true camera, picture on picture, and the one number that
no picture tells, the distance, is given to all alike: that of the true surface, the median over the pixels that both
show. The outline keeps the size and the place that it has in the lift's own picture; nothing is fitted to the truth
else, so a wrong outline, depth or turn stays wrong.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..scene import Camera
from .lifts_solid import Solid

_ROUNDS = 4


def by_camera(solid: Solid, view: Camera, camera: Camera, true_depth: np.ndarray) -> Solid:
    """A lift in the true world.

    Args:
        solid: in the lift's space, where `view` took the picture. camera: took it in the true world.
        true_depth: (H, W) metres that it sees there, infinite beside the object.

    Raises:
        ValueError: the lift is not in its own picture.
    """
    height, width = true_depth.shape
    view, camera = view.fitted(width / height), camera.fitted(width / height)
    box = _box(view, solid)
    depth, metres = _seen_depths(solid.see(view, height, width)[1], true_depth)
    placed = solid.placed(camera_to_camera(view, depth, camera, metres))
    # Two cameras of one field of view are done. An orthographic picture has its outline at another depth than its
    # surface, which a perspective camera sees smaller: size, place and depth are made to agree in turns.
    for _ in range(_ROUNDS):
        wanted = _resized(camera, box, _box(camera, placed))
        depth, metres = _seen_depths(placed.see(wanted, height, width)[1], true_depth)
        placed = placed.placed(camera_to_camera(wanted, depth, camera, metres))
        if abs(_width(wanted, 1.0) / _width(camera, 1.0) - 1) + abs(depth / metres - 1) < 1e-4:
            break
    return placed


def camera_to_camera(view: Camera, depth: float, camera: Camera, true_depth: float) -> np.ndarray:
    """The similarity (4, 4), for row vectors, from the space of a lift to the true world.

    What `view` sees at `depth` comes to where `camera` sees it at `true_depth`: the same places of the picture, axes of
    the cameras on one another. For two perspective cameras of one field of view that is a scale about the camera's
    centre by true_depth / depth; an orthographic picture is laid on the plane at the true depth.

    Args:
        view: of the lift. camera: of the world; both of the picture's aspect.
    """
    scale = _width(camera, true_depth) / _width(view, depth)
    matrix = np.eye(4)
    matrix[:3, :3] *= scale
    matrix[3, :3] = _middle(camera, true_depth) - scale * _middle(view, depth)
    return view.world_to_camera @ matrix @ np.linalg.inv(camera.world_to_camera)


def _seen_depths(depth: np.ndarray, true_depth: np.ndarray) -> tuple[float, float]:
    """The median depths of two depth images (H, W) of one picture where both show something; where they share nothing,
    of each by itself."""
    shown, true_shown = np.isfinite(depth), np.isfinite(true_depth)
    if not shown.any() or not true_shown.any():
        raise ValueError("the camera of the picture does not see the object")
    if (shown & true_shown).any():
        shown = true_shown = shown & true_shown
    return float(np.median(depth[shown])), float(np.median(true_depth[true_shown]))


def _box(camera: Camera, solid: Solid) -> np.ndarray:
    """(2, 2) top left and bottom right of a solid in the picture, normalised, as h and w."""
    place = camera.project(solid.placed_points[np.unique(solid.faces)])
    place = place[np.isfinite(place).all(1) & ((place[:, 2] > 0) | (camera.projection == "orthographic"))]
    if not len(place):
        raise ValueError("the camera of the picture does not see the object")
    return np.stack([place[:, :2].min(0), place[:, :2].max(0)])


def _resized(camera: Camera, box: np.ndarray, now: np.ndarray) -> Camera:
    """The camera with its picture cropped, so that what fills the box `now` fills `box`, of one size and middle."""
    sides = np.maximum(np.stack([np.ptp(box, axis=0), np.ptp(now, axis=0)]), 1e-6)
    share = float(np.sqrt((sides[1] / sides[0]).prod()))
    middle = now.mean(0) + share * (0.5 - box.mean(0))  # of the crop, where the box lies in it as it should
    return replace(
        camera,
        horizontal_aperture=camera.horizontal_aperture * share,
        vertical_aperture=camera.vertical_aperture * share,
        horizontal_aperture_offset=camera.horizontal_aperture_offset + (middle[1] - 0.5) * camera.horizontal_aperture,
        vertical_aperture_offset=camera.vertical_aperture_offset + (0.5 - middle[0]) * camera.vertical_aperture,
    )


def _width(camera: Camera, depth: float) -> float:
    """Metres that the picture is wide at a depth."""
    return camera.horizontal_aperture * (depth / camera.focal_length if camera.projection == "perspective" else 1.0)


def _middle(camera: Camera, depth: float) -> np.ndarray:
    """(3,) the picture's middle at a depth, in camera space."""
    offset = np.array([camera.horizontal_aperture_offset, camera.vertical_aperture_offset])
    if camera.projection == "perspective":
        offset = offset * depth / camera.focal_length
    return np.array([*offset, -depth])
