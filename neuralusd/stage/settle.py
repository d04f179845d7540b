"""What a sample means to stand is set upright, onto what is below it, and out of what it reaches into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..latents import ObjectLatents
from ..scene import Camera, Scene
from ..surfaces.rays import RayCaster
from .apart import CLEARANCE, REACH, Clear, Standing, overlaps, push_apart
from .geometry import Piece
from .latents import quaternion_of, rotation_of

# Degrees. What leans by more than this is meant to lie or to lean.
LEANING = 20.0
# Metres. What floats by more than this hangs; what is sunk by more is left for who looks at it.
TOLERANCE = 0.3
# Metres by which what reaches beyond the floor is pushed back at a time.
STEP = 0.03
# Metres. What reaches into something, floats or is sunk by less than this stands for all that people see.
UNSEEN = 0.02

Floor = Callable[[np.ndarray], "float | None"]
"""A point (3,) in world metres to the height of the ground at or below it, along the up axis; None where there is
none."""

Walls = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Points (N, 3) and unit directions (N, 3) in world metres to how far it is from each to the first wall (N,), inf where
there is none, and the wall's unit normals (N, 3), on either side of it."""


def settle(
    scene: Scene,
    objects: Sequence[ObjectLatents],
    moved: Sequence[bool],
    floor: Floor,
    walls: Walls | None = None,
) -> list[ObjectLatents]:
    """Objects of a sample, those that moved upright, on the ground or on another object, and out of each other.

    An object within `LEANING` degrees of upright stands upright, its yaw kept. One whose box floats above the nearest
    support below its middle, or is sunk into it, by less than `TOLERANCE` metres rests on it. One whose box reaches
    into another, into a wall, or beyond the floor, is pushed back along the ground, by half a metre at most (see
    `push_apart`).
    Others stay as they are, as do those that did not move.

    Args:
        moved: whether an object's pose is the sample's. walls: None where nothing is known of any.
    """
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    up = np.array([0.0, 1.0, 0.0]) if scene.up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    free = [bool(own and one.presence) for one, own in zip(objects, moved, strict=True)]
    out = [_upright(one, up, to_world) if own else one for one, own in zip(objects, free, strict=True)]
    carriers = _rest(scene, out, free, floor, up, to_world)
    if _part(scene, out, free, carriers, floor, walls, up, to_world):
        _rest(scene, out, free, floor, up, to_world)
    return out


def _rest(
    scene: Scene, out: list[ObjectLatents], free: list[bool], floor: Floor, up: np.ndarray, to_world: np.ndarray
) -> dict[int, int]:
    """Brings what nearly stands onto what is below it; says on which object, by their indices."""
    carriers = {}
    for index, gap, other in _supports(out, free, floor, up, to_world):
        if gap is not None and abs(gap) <= TOLERANCE:
            middle = _box(out[index], up, to_world)[0]
            out[index] = replace(out[index], translation=scene.camera.to_camera(middle - gap * up))
            if other is not None:
                carriers[index] = other
    return carriers


def _supports(
    out: Sequence[ObjectLatents], free: Sequence[bool], floor: Floor, up: np.ndarray, to_world: np.ndarray
) -> Iterator[tuple[int, float | None, int | None]]:
    """The free objects from below, each with what `_support` says of it among those that are kept or came before, which
    may have been moved meanwhile."""
    order = sorted(range(len(out)), key=lambda index: _box(out[index], up, to_world)[1])
    still = [index for index in order if out[index].presence and not free[index]]
    for index in (index for index in order if free[index]):
        yield index, *_support(out, index, still, floor, up, to_world)
        still.append(index)


def _support(
    out: Sequence[ObjectLatents], index: int, still: Sequence[int], floor: Floor, up: np.ndarray, to_world: np.ndarray
) -> tuple[float | None, int | None]:
    """How far an object's box is above the nearest support below its middle, negative where it is sunk into it; and
    which of the objects `still` that is, None for the ground. No number where nothing is below."""
    middle, bottom, _ = _box(out[index], up, to_world)
    supports: list[tuple[float | None, int | None]] = [
        (_top(out[other], middle, up, to_world), other) for other in still
    ]
    supports.append((floor(middle + (bottom + TOLERANCE - middle @ up) * up), None))
    near = [(bottom - height, other) for height, other in supports if height is not None]
    return min(near, key=lambda each: abs(each[0])) if near else (None, None)


def flaws(
    scene: Scene,
    objects: Sequence[ObjectLatents],
    moved: Sequence[bool],
    floor: Floor,
    walls: Walls | None = None,
) -> float:
    """Metres by which objects that moved do not stand as things in rooms do; 0 where all of them do.

    The sum of how deep their boxes reach into others and into walls, how far they float or are sunk, half their width
    for each corner that has no floor below it, and the longest side of what is above nothing where others are not, each
    where it is above `UNSEEN`; of what leans, half its height. Arguments are those of `settle`.
    """
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    up = np.array([0.0, 1.0, 0.0]) if scene.up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    free = [bool(own and one.presence) for one, own in zip(objects, moved, strict=True)]
    found: list[float] = []
    above_nothing: list[float] = []
    carriers: dict[int, int] = {}
    for index, gap, other in _supports(objects, free, floor, up, to_world):
        if gap is None:
            above_nothing.append(float(np.max(objects[index].scale)))
        else:
            found.append(abs(gap))
        if other is not None:
            carriers[index] = other
    if found:  # else nothing is known of any floor
        found += above_nothing
    boxes, owners, level = _standing(objects, free, carriers, up, to_world)
    found += [
        _box(objects[index], up, to_world)[2] - _box(objects[index], up, to_world)[0] @ up
        for index in range(len(objects))
        if free[index] and index not in owners
    ]
    found += overlaps(boxes)
    clear = None if walls is None else _clear(boxes, walls, level, up)
    for number, box in enumerate(boxes):
        if not box.free or box.carrier is not None:
            continue
        if clear is not None:
            found.append(float(np.linalg.norm(clear(number, box.middle))))
        found += [float(box.half.min())] * len(_bare_corners(box, box.middle, floor, level, up))
    return float(sum(each for each in found if each > UNSEEN))


def _bare_corners(box: Standing, middle: np.ndarray, floor: Floor, level: list[int], up: np.ndarray) -> np.ndarray:
    """(M, 2) from the middle to those corners of a box that have no floor below them, though the middle has."""
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * (box.half - UNSEEN).clip(0) @ box.axes
    there = _has_floor(box, middle, floor, level, up)
    return corners[[there and not _has_floor(box, middle + corner, floor, level, up) for corner in corners]]


def _has_floor(box: Standing, at: np.ndarray, floor: Floor, level: list[int], up: np.ndarray) -> bool:
    """Whether there is a floor at or below a box's bottom, where (2,) it is looked for."""
    point = (box.bottom + TOLERANCE) * up
    point[level] = at
    return floor(point) is not None


def _to_floor(box: Standing, middle: np.ndarray, floor: Floor, level: list[int], up: np.ndarray) -> np.ndarray:
    """The way (2,) from where there is no floor to the nearest place within `REACH` where there is one, or zeros."""
    angles = np.arange(8) / 8 * 2 * np.pi
    for reach in np.linspace(0.25, 1.0, 4) * REACH:
        for way in reach * np.stack([np.cos(angles), np.sin(angles)], 1):
            if _has_floor(box, middle + way, floor, level, up):
                return way
    return np.zeros(2)


def _onto_floor(box: Standing, middle: np.ndarray, floor: Floor, level: list[int], up: np.ndarray) -> np.ndarray:
    """A step (2,) away from where the floor ends; zeros where the box is on it, or all around it is none."""
    way = -_bare_corners(box, middle, floor, level, up).sum(0)
    length = float(np.linalg.norm(way))
    return STEP * way / length if length > 1e-9 else np.zeros(2)


def _part(
    scene: Scene,
    out: list[ObjectLatents],
    free: list[bool],
    carriers: dict[int, int],
    floor: Floor,
    walls: Walls | None,
    up: np.ndarray,
    to_world: np.ndarray,
) -> bool:
    """Pushes what reaches into something else out of it; whether anything was."""
    boxes, owners, level = _standing(out, free, carriers, up, to_world)
    clear = None if walls is None else _clear(boxes, walls, level, up)
    away: dict[int, np.ndarray] = {}

    def inside(index: int, middle: np.ndarray) -> np.ndarray:
        if not _has_floor(boxes[index], middle, floor, level, up):
            if index not in away:
                away[index] = _to_floor(boxes[index], middle, floor, level, up)
            return away[index]
        back = np.zeros(2) if clear is None else clear(index, middle)
        return back if back.any() else _onto_floor(boxes[index], middle, floor, level, up)

    shifts = push_apart(boxes, inside)
    for index, shift in zip(owners, shifts, strict=True):
        if shift.any():
            middle = _box(out[index], up, to_world)[0]
            middle[level] += shift
            out[index] = replace(out[index], translation=scene.camera.to_camera(middle))
    return bool(shifts.any())


def _standing(
    objects: Sequence[ObjectLatents],
    free: Sequence[bool],
    carriers: dict[int, int],
    up: np.ndarray,
    to_world: np.ndarray,
) -> tuple[list[Standing], list[int], list[int]]:
    """The objects that stand upright, their indices, and which axes of the world are level."""
    level = [axis for axis in range(3) if not up[axis]]
    boxes, owners = [], []
    for index, one in enumerate(objects):
        axes = _axes(one, to_world)
        flat = np.abs(axes @ up) < np.sin(np.radians(LEANING))
        if not one.presence or flat.sum() != 2:
            continue
        across = axes[flat][:, level]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        middle, bottom, top = _box(one, up, to_world)
        boxes.append(Standing(middle[level], across, np.asarray(one.scale)[flat] / 2, bottom, top, free[index]))
        owners.append(index)
    for box, index in zip(boxes, owners, strict=True):
        carrier = carriers.get(index)
        box.carrier = owners.index(carrier) if carrier in owners else None
    return boxes, owners, level


def _clear(boxes: list[Standing], walls: Walls, level: list[int], up: np.ndarray) -> Clear:
    """By rays from a box's middle to its corners: what of them is behind a wall."""

    def clear(index: int, middle: np.ndarray) -> np.ndarray:
        box = boxes[index]
        ways = np.zeros((4, 3))
        ways[:, level] = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * box.half @ box.axes
        lengths = np.linalg.norm(ways, axis=1)
        eye = (box.bottom + box.top) / 2 * up
        eye[level] = middle
        far, normals = walls(np.tile(eye, (4, 1)), ways / lengths[:, None])
        behind = ways * np.where(far < lengths, 1 - far / lengths, 0.0)[:, None]
        depth = (behind * normals).sum(1)
        deepest = int(np.abs(depth).argmax())
        back = -depth[deepest] * normals[deepest]
        return back[level] * (1 + CLEARANCE / abs(depth[deepest])) if abs(depth[deepest]) > CLEARANCE else np.zeros(2)

    return clear


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


def ground_of_pieces(pieces: list[Piece], up_axis: str) -> tuple[Floor, Walls]:
    """The ground of geometry, what a ray downwards meets first; and its walls, what a level ray meets."""
    up = np.array([0.0, 1.0, 0.0]) if up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    right = np.array([1.0, 0.0, 0.0])
    above = np.eye(4)
    above[:3, :3] = np.stack([right, np.cross(up, right), up])
    whole = Camera(np.linalg.inv(above), horizontal_aperture=1e12, vertical_aperture=1e12, projection="orthographic",
                   clipping_range=(-1e12, 1e12))  # fmt: skip
    caster = RayCaster(pieces, whole)

    def floor(point: np.ndarray) -> float | None:
        hits = caster.cast(point[None] - caster.eye, -up[None], np.zeros(1, np.int64), from_camera=False)
        return float((hits.points[0] + caster.eye) @ up) if len(hits.ray) else None

    def walls(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        far, normals = np.full(len(points), np.inf), np.zeros((len(points), 3))
        hits = caster.cast(points - caster.eye, directions, np.arange(len(points)), from_camera=False)
        far[hits.ray] = np.linalg.norm(hits.points + caster.eye - points[hits.ray], axis=1)
        normals[hits.ray] = hits.normals / np.maximum(np.linalg.norm(hits.normals, axis=1, keepdims=True), 1e-12)
        return far, normals

    return floor, walls


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
