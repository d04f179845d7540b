"""Where the picture of a furnished room is taken from: somebody in the open south of it, so that most of it is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rooms_grammar import RoomObject

CANDIDATES = 40
# Metres that the eye keeps away from things and walls.
CLEAR = 0.35
# Metres from the north wall.
FARTHEST = 7.5
# Sine of how far a view looks down.
STEEPEST = 0.4
# Objects of whose box less than this share of the area is in the picture are not part of it.
LEAST_SHARE = 0.15


@dataclass
class View:
    """A camera without roll. `matrix` (4, 4) camera to room, row vectors; `focal` as a multiple of the image's side."""

    matrix: np.ndarray
    focal: float


def choose_view(
    objects: list[RoomObject],
    width: float,
    depth: float,
    height: float,
    rng: np.random.Generator,
    south: float = -np.inf,
) -> tuple[View, np.ndarray] | None:
    """A view that shows most of the objects, the first of them above all; None where none does.

    Args:
        width, depth, height: of the room, whose south west corner is at 0, 0. south: the least y of the eye.

    Returns:
        the view, and (N,) bool of the objects that are in the picture.
    """
    corners = np.stack([o.corners() for o in objects])
    n = CANDIDATES
    fov = np.radians(rng.uniform(42, 78, n))
    low, high = corners.min((0, 1)), corners.max((0, 1))
    middles = corners.mean(1)
    target = 0.5 * middles[0] + 0.25 * middles.mean(0) + 0.125 * (low + high) + rng.uniform(-0.35, 0.35, (n, 3))
    target[:, 2] = rng.uniform(0.45, 1.05, n)
    # A person's eye; now and then a photographer's, higher or lower.
    eye_height = np.where(rng.random(n) < 0.75, rng.uniform(1.35, 1.75, n), rng.uniform(1.0, 2.15, n))
    eye_height = np.minimum(eye_height, height - 0.15)
    reach = 0.5 * np.linalg.norm((high - low)[:2])
    distance = reach * rng.uniform(0.5, 1.15, n) / np.tan(fov / 2) + 0.3
    azimuth = np.radians(rng.uniform(-52, 52, n))
    eye = np.stack(
        [target[:, 0] + distance * np.sin(azimuth), target[:, 1] - distance * np.cos(azimuth), eye_height], 1
    )
    eye[:, 0] = np.clip(eye[:, 0], CLEAR, width - CLEAR)
    matrices = _looking_at(eye, target)
    focal = 0.5 / np.tan(fov / 2)

    share, covered = shares(corners, matrices, focal)
    clear = _clearance(corners, eye) >= CLEAR
    largest = covered.max(1) < 0.62
    seen = share >= LEAST_SHARE
    score = (share >= 0.6).mean(1) + 0.5 * share.mean(1) + 0.6 * np.minimum(share[:, 0], 0.85)
    score += 0.6 * np.sqrt(np.minimum(covered.sum(1), 0.9)) + 0.2 * rng.random(n)
    # Nothing but the first of them should fill the picture.
    score -= 2.0 * np.maximum(covered[:, 1:].max(1) - 0.2, 0.0)
    usable = clear & largest & (share[:, 0] > 0.55) & (matrices[:, 2, 2] < STEEPEST)
    usable &= (eye[:, 1] < depth - 1.2) & (eye[:, 1] > max(depth - FARTHEST, south))
    for index in np.argsort(-np.where(usable, score, -np.inf))[:6]:
        if not usable[index]:
            break
        view = View(matrices[index], float(focal[index]))
        if _in_sight(objects, view)[0] >= 0.45:
            return view, seen[index]
    return None


def _looking_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(C, 4, 4) as `furniture_layout.camera_matrix` makes one, of `eye` and `target` (C, 3)."""
    back = eye - target
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    right = np.stack([-back[:, 1], back[:, 0], np.zeros(len(back))], 1)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.stack([-back[:, 2] * right[:, 1], back[:, 2] * right[:, 0], np.hypot(back[:, 0], back[:, 1])], 1)
    matrices = np.zeros((len(eye), 4, 4))
    matrices[:, :3, :3] = np.stack([right, up, back], 1)
    matrices[:, 3, :3], matrices[:, 3, 3] = eye, 1.0
    return matrices


def shares(corners: np.ndarray, matrices: np.ndarray, focal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of objects is in pictures.

    Args:
        corners: (N, 8, 3) of boxes in the room. matrices: (C, 4, 4) cameras to the room. focal: (C,).

    Returns:
        (C, N) the share of a box's rectangle in the image plane that is in the picture, 0 for what reaches behind
        the camera; and (C, N) the share of the picture that this is.
    """
    turn, eye = matrices[:, :3, :3], matrices[:, 3, :3]
    # (C, N, 8, 3): the inverse of a rotation, applied to row vectors, is its transpose.
    local = (corners[None] - eye[:, None, None]) @ np.swapaxes(turn, 1, 2)[:, None]
    away = -local[..., 2]
    image = local[..., :2] / np.maximum(away, 1e-3)[..., None] * focal[:, None, None, None]
    low, high = image.min(2), image.max(2)
    inside = np.maximum(np.minimum(high, 0.5) - np.maximum(low, -0.5), 0.0).prod(-1)
    whole = np.maximum((high - low).prod(-1), 1e-9)
    behind = away.min(2) < 0.1
    return np.where(behind, 0.0, inside / whole), np.where(behind, (away.max(2) > 0) * 1.0, inside)


def _clearance(corners: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """(C,) metres from each eye to the nearest of the boxes along the room's axes."""
    low, high = corners.min(1), corners.max(1)
    outside = np.maximum(np.maximum(low[None] - eye[:, None], eye[:, None] - high[None]), 0.0)
    return np.linalg.norm(outside, axis=-1).min(1)


def _in_sight(objects: list[RoomObject], view: View, size: int = 20) -> np.ndarray:
    """(N,) of each object's box the share of its rays into the picture that no other box stops."""
    steps = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(steps, -steps)
    rays = np.stack([x.ravel() / view.focal, y.ravel() / view.focal, -np.ones(size * size)], -1) @ view.matrix[:3, :3]
    depth = np.stack([_box_depth(o, view.matrix[3, :3], rays) for o in objects])
    hit = np.isfinite(depth)
    first = hit & (depth <= depth.min(0) + 1e-6)
    return first.sum(1) / np.maximum(hit.sum(1), 1)


def _box_depth(thing: RoomObject, eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """(R,) how many of `rays` (R, 3) it is from the eye to a box; inf where it is missed."""
    half = thing.size / 2
    start = (eye - thing.position) @ thing.turn.T - [0, 0, half[2]]
    along = rays @ thing.turn.T
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    a, b = (-half - start) / along, (half - start) / along
    near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    return np.where((near <= far) & (far > 0), np.maximum(near, 0), np.inf)
