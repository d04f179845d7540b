"""How plausible a layout is, in numbers: what collides, floats, leaves the room or is tilted. Pure numpy.

The numbers mean something beside those of the grammar's own rooms, `facts` of `room_latents(sample_room(...))`, where
nothing collides, floats or leaves the room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..latents import ObjectLatents, SceneLatents

# Metres.
TOLERANCE = 0.02
_UNIT = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64) - 0.5


@dataclass(frozen=True)
class LayoutFacts:
    """Of one scene; indices are of its objects that are present, in their order.

    Attributes:
        objects: how many are present.
        collisions: (index, index, metres) of pairs of boxes that reach into each other deeper than the tolerance; the
            depth is the least way that would part them.
        floating, sunk: (index, metres) of what stands that much above, or that deep in, what carries it: the floor, or
            the thing below its middle whose box's top is nearest to its lowest point.
        outside: (index, metres) of boxes that leave the floor's rectangle, and how far.
        tilt: (N,) degrees between each object's up axis and the room's.
        back_to_wall: metres from the back of the largest object to the nearest side of the floor behind it; nan where
            there is no object.
        covered: share of the floor that lies below an object that stands on it.
    """

    objects: int
    collisions: tuple[tuple[int, int, float], ...]
    floating: tuple[tuple[int, float], ...]
    sunk: tuple[tuple[int, float], ...]
    outside: tuple[tuple[int, float], ...]
    tilt: np.ndarray
    back_to_wall: float
    covered: float

    @property
    def clean(self) -> bool:
        """Whether nothing collides, floats, is sunk or leaves the room."""
        return not (self.collisions or self.floating or self.sunk or self.outside)


def facts(
    latents: SceneLatents, camera_to_room: np.ndarray, floor: np.ndarray, tolerance: float = TOLERANCE
) -> LayoutFacts:
    """The facts of a scene.

    Args:
        latents: the scene, in camera space.
        camera_to_room: (4, 4) for row vectors, to a space in metres with Z up and the floor at z = 0.
        floor: (4, 2) corners of a rectangle, in order.
        tolerance: metres.

    Raises:
        ValueError: `camera_to_room` or `floor` has another shape, or something is not finite.
    """
    camera_to_room, floor = np.asarray(camera_to_room, np.float64), np.asarray(floor, np.float64)
    if camera_to_room.shape != (4, 4) or floor.shape != (4, 2):
        raise ValueError(
            f"camera_to_room must be (4, 4) and floor (4, 2), not {camera_to_room.shape} and {floor.shape}"
        )
    boxes = [_box(thing, camera_to_room) for thing in latents.objects if thing.presence]
    if not all(np.isfinite(part).all() for part in (camera_to_room, floor, *(p for box in boxes for p in box))):
        raise ValueError("a pose, the camera or the floor is not finite")
    corners = [middle + _UNIT * size @ axes for middle, axes, size in boxes]
    floating, sunk = _unsupported(corners, tolerance)
    return LayoutFacts(
        objects=len(boxes),
        collisions=tuple(
            (i, j, depth)
            for i in range(len(boxes))
            for j in range(i + 1, len(boxes))
            if (depth := penetration(boxes[i], boxes[j])) > tolerance
        ),
        floating=floating,
        sunk=sunk,
        outside=tuple((i, far) for i, c in enumerate(corners) if (far := _outside(c, floor)) > tolerance),
        tilt=np.degrees([np.arccos(np.clip(axes[2, 2], -1, 1)) for _, axes, _ in boxes]),
        back_to_wall=_back_to_wall(boxes, floor),
        covered=_covered(corners, floor, tolerance),
    )


Box = tuple[np.ndarray, np.ndarray, np.ndarray]


def _box(thing: ObjectLatents, camera_to_room: np.ndarray) -> Box:
    """Middle (3,), axes as rows (3, 3) and sides (3,) in the room."""
    w, x, y, z = np.asarray(thing.rotation, np.float64) / max(float(np.linalg.norm(thing.rotation)), 1e-12)
    to_camera = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)],
            [2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)],
            [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    turn = camera_to_room[:3, :3]
    middle = np.asarray(thing.translation, np.float64) @ turn + camera_to_room[3, :3]
    return middle, to_camera @ turn, np.asarray(thing.scale, np.float64)


def penetration(a: Box, b: Box) -> float:
    """How far two oriented boxes reach into each other, metres: the least overlap along the 15 axes that could part
    them (separating axes); 0 where one parts them.
    """
    between = b[0] - a[0]
    crossed = np.cross(a[1][:, None], b[1][None]).reshape(-1, 3)
    length = np.linalg.norm(crossed, axis=1)
    axes = np.concatenate([a[1], b[1], crossed[length > 1e-6] / length[length > 1e-6, None]])
    reach = sum(np.abs(axes @ box[1].T) @ box[2] / 2 for box in (a, b))
    return max(float((reach - np.abs(axes @ between)).min()), 0.0)


def _unsupported(
    corners: list[np.ndarray], tolerance: float
) -> tuple[tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]]:
    """What floats above, and what is sunk into, the floor or that thing below it whose top is nearest."""
    floating, sunk = [], []
    for i, own in enumerate(corners):
        low, middle = float(own[:, 2].min()), float(own[:, 2].mean())
        levels = [0.0]
        if low > tolerance:
            levels += [
                float(other[:, 2].max())
                for j, other in enumerate(corners)
                if j != i and other[:, 2].mean() < middle and _above(own, other)
            ]
        gap = min((low - level for level in levels), key=abs)
        if gap > tolerance:
            floating.append((i, gap))
        elif gap < -tolerance:
            sunk.append((i, -gap))
    return tuple(floating), tuple(sunk)


def _above(own: np.ndarray, other: np.ndarray) -> bool:
    """Whether the middle of a box is above another box's outline."""
    hull = _outline(other[:, :2])
    point = own[:, :2].mean(0)
    edges = np.roll(hull, -1, 0) - hull
    side = edges[:, 0] * (point[1] - hull[:, 1]) - edges[:, 1] * (point[0] - hull[:, 0])
    return bool((side >= -1e-9).all())


def _outline(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of points (N, 2), counter-clockwise (monotone chain)."""
    ordered = sorted(map(tuple, points.tolist()))
    hull: list[tuple[float, float]] = []
    for sequence in (ordered, ordered[::-1]):
        start = len(hull)
        for p in sequence:
            while len(hull) - start >= 2:
                (ax, ay), (bx, by) = hull[-2], hull[-1]
                if (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > 0:
                    break
                hull.pop()
            hull.append(p)
        hull.pop()
    return np.array(hull)


def _sides(floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 2) points on the floor's sides and their (4, 2) unit normals, which point out."""
    edges = np.roll(floor, -1, 0) - floor
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    middle = floor.mean(0)
    return floor, normals * np.sign(((floor - middle) * normals).sum(1))[:, None]


def _outside(corners: np.ndarray, floor: np.ndarray) -> float:
    """How far a box leaves the floor's rectangle, metres; 0 for one inside."""
    points, normals = _sides(floor)
    return max(float(((corners[:, None, :2] - points) * normals).sum(-1).max()), 0.0)


def _back_to_wall(boxes: list[Box], floor: np.ndarray) -> float:
    """From the middle of the largest box's back, along where its back looks, to the side of the floor that it meets."""
    if not boxes:
        return float("nan")
    middle, axes, size = max(boxes, key=lambda box: float(np.prod(box[2])))
    backward = axes[1, :2] / max(float(np.linalg.norm(axes[1, :2])), 1e-12)
    back = middle[:2] + backward * size[1] / 2
    points, normals = _sides(floor)
    toward = normals @ backward
    left = ((points - back) * normals).sum(1)
    ways = left[toward > 1e-6] / toward[toward > 1e-6]
    return float(ways.min()) if len(ways) else float("nan")


def _covered(corners: list[np.ndarray], floor: np.ndarray, tolerance: float, steps: int = 40) -> float:
    """The share of a grid of points on the floor that is within the outline of something that stands there."""
    steps_ = (np.arange(steps) + 0.5) / steps
    u, v = np.meshgrid(steps_, steps_)
    points = floor[0] + u.reshape(-1, 1) * (floor[1] - floor[0]) + v.reshape(-1, 1) * (floor[3] - floor[0])
    covered = np.zeros(len(points), bool)
    for own in corners:
        if abs(own[:, 2].min()) <= tolerance:
            hull = _outline(own[:, :2])
            edges = np.roll(hull, -1, 0) - hull
            away = points[:, None] - hull
            covered |= (edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] >= 0).all(1)
    return float(covered.mean())
