"""Where the floor and the walls are, from a background's depth: a sampled room has no other walls."""

from __future__ import annotations

import numpy as np

# Cosine within which a normal is taken for one of the planes, and the least share of pixels that make a floor.
_NEAR, _LEAST = 0.97, 0.03
# Metres: where no wall is seen, the floor goes on this far from the camera.
OPEN = 10.0


def room_frame(depth: np.ndarray, focal: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Camera-to-room (4, 4) for row vectors and the floor's rectangle (4, 2), as `rooms_plausibility.facts` takes them;
    None where there is no floor to be seen.

    The room is square, and the camera is level from left to right, as those of the grammar are: what is found is its
    pitch, the floor's depth below it, the walls' direction and their distances. A side with no wall in the picture is
    open.

    Args:
        depth: (S, S) metres along the viewing axis. focal: (2,) f_x and f_y in widths and heights of the image.
    """
    size = len(depth)
    at = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(at / focal[0], -at / focal[1])
    known = np.where(np.isfinite(depth), depth, np.nan)
    points = np.stack([x * known, y * known, -known], -1)
    across, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    normal = np.cross(down, across)  # towards the camera
    with np.errstate(invalid="ignore", divide="ignore"):
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal, place = normal.reshape(-1, 3), ((points[:-1, :-1] + points[1:, 1:]) / 2).reshape(-1, 3)
    fine = np.isfinite(normal).all(1) & np.isfinite(place).all(1)
    normal, place = normal[fine], place[fine]
    if len(normal) < 4:
        return None
    up = _up(normal, place)
    if up is None:
        return None
    lies = (normal @ up > _NEAR) & (place @ up < 0)
    if lies.mean() < _LEAST:
        return None
    ground = float(np.median(place[lies] @ up))
    right = np.array([1.0, 0.0, 0.0])
    level = np.stack([right, np.cross(up, right), up])  # rows: the room's axes before its yaw is known
    stands = (np.abs(normal @ up) < 0.3) & (place @ up > ground + 0.15)
    turned = _turned(normal[stands] @ level.T) @ level
    walls, side = normal[stands] @ turned.T, place[stands] @ turned.T
    low, high = np.full(2, -OPEN), np.full(2, OPEN)
    for axis in range(2):
        for sign, limit in ((1, low), (-1, high)):  # a wall at the low side looks along +axis
            seen = sign * walls[:, axis] > _NEAR
            if seen.mean() > _LEAST if len(seen) else False:
                limit[axis] = np.median(side[seen, axis])
    floor = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    camera_to_room = np.eye(4)
    camera_to_room[:3, :3] = turned.T
    camera_to_room[3, 2] = -ground
    return camera_to_room, floor


def _up(normal: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """The direction that the floor looks to, within 50 degrees of the picture's own."""
    pitches = np.radians(np.arange(-50, 50.5, 1.0))
    candidates = np.stack([np.zeros_like(pitches), np.cos(pitches), np.sin(pitches)], -1)
    along = normal @ candidates.T
    below = place @ candidates.T < 0
    # A floor, or walls that stand on one: both say what is up.
    floor, upright = (along > _NEAR) & below, np.abs(along) < 0.1
    best = int(np.argmax(floor.sum(0) + 0.3 * upright.sum(0)))
    chosen = floor[:, best]
    if chosen.mean() < _LEAST:
        return None
    mean = normal[chosen].mean(0)
    mean[0] = 0.0
    return mean / np.linalg.norm(mean)


def _turned(normals: np.ndarray) -> np.ndarray:
    """(3, 3) that turns about Z so that walls look along X and Y, by less than 45 degrees."""
    if len(normals):
        angle = np.arctan2(normals[:, 1], normals[:, 0])
        yaw = float(np.angle(np.exp(4j * angle).mean())) / 4
    else:
        yaw = 0.0
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
