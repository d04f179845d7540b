"""Choosing edits that have a fair answer: the object stays in view, on the floor, in the room, and touches nothing."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..scene import Asset, Scene, pose_2d
from .edits import (
    BACKGROUND,
    MOVED,
    RECOLOURED,
    REPLACED,
    ROTATED,
    Edit,
    View,
    can_recolour,
    floor_plan,
    other_textures,
)
from .pairs import Frame

# Of the image: an object smaller than this is not edited, nor looked at for tokens.
SMALLEST = 0.015
# An asset stands on the floor when its box is no farther from it than this part of its height.
_ON_FLOOR = 0.03
_TRIES = 60
# How often the scenes are gone through for frames with an object that can be edited.
_ROUNDS = 4
# How much of the old box the box of a replacement has to fill.
_FILL = 0.35


@dataclass(frozen=True)
class Case:
    """One frame that is edited.

    Attributes:
        name: of the scene. stage: its file. time: the frame that is edited. view: another frame of the scene, from
            which new looks are seen. camera: the camera's path.
        edits: kind to edit, each by itself. sequence: five edits one over the other, empty where the frame has none.
    """

    name: str
    stage: Path
    time: float
    view: float
    camera: str
    edits: Mapping[str, Edit]
    sequence: tuple[Edit, ...]


def plan_cases(frames: Sequence[Frame], stages: Mapping[str, Path], count: int, seed: int) -> list[Case]:
    """Up to `count` cases, drawn with `seed`, as evenly over the scenes as can be.

    Args:
        frames: of a split of a world. stages: scene name to its stage's file.

    An edit that a frame has no room for is left out of its case. Frames where no object can be edited are passed over
    while there are others.
    """
    scenes: dict[str, list[Frame]] = {}
    for frame in frames:
        scenes.setdefault(frame.name, []).append(frame)
    names = [name for name, group in sorted(scenes.items()) if len(group) > 1]
    if not names:
        raise ValueError("there is no scene with two frames to edit")
    donors = _donors(frames)
    random = np.random.default_rng([seed, 1])
    cases: dict[tuple[str, float], Case] = {}
    spare: dict[tuple[str, float], Case] = {}
    for index in range(_ROUNDS * max(count, len(names))):
        if len(cases) == count:
            break
        group = scenes[names[index % len(names)]]
        shot, other = (group[i] for i in random.choice(len(group), 2, replace=False))
        case = _case(shot, other, stages, donors, random)
        if case is not None and (case.name, case.time) not in cases:
            (cases if set(case.edits) - {BACKGROUND} else spare)[case.name, case.time] = case
    return [*cases.values(), *spare.values()][:count]


def _case(
    shot: Frame,
    other: Frame,
    stages: Mapping[str, Path],
    donors: list[tuple[Frame, Asset]],
    random: np.random.Generator,
) -> Case | None:
    from pxr import Usd

    file = stages[shot.name]
    stage = Usd.Stage.Open(str(file))
    assert shot.scene.time is not None and other.scene.time is not None
    time, view = shot.scene.time, other.scene.time
    background = shot.scene.background
    place = _Place(shot.scene)
    if background is not None:
        place.room = _hull(place.from_above(floor_plan(stage, background.path, time)))
    objects = [asset for asset in _objects(shot) if asset.path in {a.path for a in _seen(other)}]
    edits: dict[str, Edit] = {}
    for kind, choose in (
        (MOVED, _move),
        (ROTATED, _rotation),
        (RECOLOURED, lambda asset, place, random: _colour(asset, shot, stage, view, random)),
        (REPLACED, lambda asset, place, random: _replacement(asset, place, donors, shot, stages, random)),
    ):
        edit = _first(choose, objects, place, random)
        if edit is not None:
            edits[kind] = edit
    if background is not None:
        textures = other_textures(stage, background.path, random)
        if textures:
            edits[BACKGROUND] = Edit(BACKGROUND, background.path, textures, View("", background.path, view))
    if not edits:
        return None
    sequence = _sequence(objects, place, shot, stage, stages, donors, view, edits.get(BACKGROUND), random)
    return Case(shot.name, file, time, view, shot.scene.camera.path, edits, sequence)


Choose = Callable[[Asset, "_Place", np.random.Generator], Edit | None]


def _first(choose: Choose, objects: list[Asset], place: _Place, random: np.random.Generator) -> Edit | None:
    """The edit of the first object, in random order, that allows one."""
    for index in random.permutation(len(objects)):
        edit = choose(objects[index], place, random)
        if edit is not None:
            return edit
    return None


def _sequence(
    objects: list[Asset],
    place: _Place,
    shot: Frame,
    stage: object,
    stages: Mapping[str, Path],
    donors: list[tuple[Frame, Asset]],
    view: float,
    background: Edit | None,
    random: np.random.Generator,
) -> tuple[Edit, ...]:
    """Pose, appearance, geometry, background, pose again, all but the background of one object (Figures 6 and 10)."""
    if background is None:
        return ()
    for index in random.permutation(len(objects)):
        asset = objects[index]
        first = _move(asset, place, random)
        if first is None:
            continue
        moved = _moved(asset, np.array(first.value))
        colour = _colour(asset, shot, stage, view, random)
        other = _replacement(moved, place, donors, shot, stages, random)
        if colour is None or other is None:
            continue
        # What stands there now fits in the old box, so the old box's turn is a safe one for it.
        last = _move(moved, place, random)
        if last is not None:
            return first, colour, other, background, last
    return ()


@dataclass
class _Place:
    """The scene around an object, and the outline (N, 2) of its room seen from above."""

    scene: Scene
    room: np.ndarray | None = None

    @property
    def up(self) -> int:
        return 2 if self.scene.up_axis == "Z" else 1

    def allows(self, asset: Asset) -> bool:
        """Whether an asset may stand where it is: in view, in the room, apart from all the others."""
        corners = asset.corners()
        seen = self.scene.camera.project(corners)
        if (seen[:, 2] <= 1e-3).any() or (seen[:, :2] < 0.01).any() or (seen[:, :2] > 0.99).any():
            return False
        base = _hull(self.from_above(corners))
        if self.room is not None and not _inside(base, self.room):
            return False
        return all(
            _apart(base, _hull(self.from_above(a.corners()))) or not self._share_height(corners, a.corners())
            for a in self._solid()
            if a.path != asset.path
        )

    def from_above(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) without their height, (N, 2)."""
        return np.delete(points, self.up, axis=1)

    def _share_height(self, a: np.ndarray, b: np.ndarray) -> bool:
        a, b = a[:, self.up], b[:, self.up]
        return bool(a.min() < b.max() and b.min() < a.max())

    def free_standing(self, asset: Asset) -> bool:
        """Upright on the floor, with nothing on it."""
        if not self._upright(asset):
            return False
        # The boxes of what has fallen over may reach below the floor; those of upright things end on it.
        floor = min(a.corners()[:, self.up].min() for a in self._solid() if self._upright(a))
        corners = asset.corners()
        tolerance = _ON_FLOOR * np.ptp(corners[:, self.up])
        if corners[:, self.up].min() > floor + tolerance:
            return False
        base = _hull(self.from_above(corners))
        return all(
            _apart(base, _hull(self.from_above(a.corners()))) or a.corners()[:, self.up].min() <= floor + tolerance
            for a in self._solid()
            if a.path != asset.path
        )

    def _upright(self, asset: Asset) -> bool:
        axis = asset.local_to_world[self.up, :3]
        return bool(axis[self.up] > 0.999 * np.linalg.norm(axis))

    def _solid(self) -> list[Asset]:
        return [a for a in self.scene.foreground if a.extent is not None and a.presence > 0]


def _seen(frame: Frame) -> list[Asset]:
    """Foreground assets that a frame shows large enough."""
    share = np.bincount(frame.passes.ids[frame.passes.ids >= 0].ravel(), minlength=len(frame.scene.assets))
    large = share >= SMALLEST * frame.passes.ids.size
    return [
        a
        for a, seen in zip(frame.scene.assets, large, strict=True)
        if seen and a.role == "foreground" and a.extent is not None and a.presence > 0
    ]


def _objects(frame: Frame) -> list[Asset]:
    """What may be edited in a frame: seen well, all in view, standing free on the floor."""
    place = _Place(frame.scene)
    inside = []
    for asset in _seen(frame):
        projected = frame.scene.camera.project(asset.corners())
        whole = (projected[:, 2] > 1e-3).all() and (projected[:, :2] > 0).all() and (projected[:, :2] < 1).all()
        if whole and place.free_standing(asset):
            inside.append(asset)
    return inside


def _donors(frames: Sequence[Frame]) -> list[tuple[Frame, Asset]]:
    """Assets that may replace others, each in the frame that shows it largest."""
    best: dict[tuple[str, str], tuple[float, Frame, Asset]] = {}
    for frame in frames:
        for asset in _objects(frame):
            area = float((frame.passes.ids == frame.scene.assets.index(asset)).sum())
            box = pose_2d(asset, frame.scene.camera)
            # Of what is mostly hidden there is little to encode.
            if box is None or area < 0.25 * box[2] * box[3] * frame.passes.ids.size:
                continue
            if area > best.get((frame.name, asset.path), (0.0,))[0]:
                best[frame.name, asset.path] = area, frame, asset
    return [(frame, asset) for _, frame, asset in best.values()]


def _move(asset: Asset, place: _Place, random: np.random.Generator) -> Edit | None:
    """Along the floor by a third of its width to all of it."""
    right = np.linalg.inv(place.scene.camera.world_to_camera)[0, :3]
    width = float(np.ptp(asset.corners() @ right))
    for _ in range(_TRIES):
        angle, distance = random.uniform(0, 2 * np.pi), random.uniform(1 / 3, 1.0) * width
        offset = np.insert(distance * np.array([np.cos(angle), np.sin(angle)]), place.up, 0.0)
        if place.allows(_moved(asset, offset)):
            return Edit(MOVED, asset.path, tuple(float(x) for x in offset))
    return None


def _moved(asset: Asset, offset: np.ndarray) -> Asset:
    matrix = asset.local_to_world.copy()
    matrix[3, :3] += offset
    return replace(asset, local_to_world=matrix)


def _rotation(asset: Asset, place: _Place, random: np.random.Generator) -> Edit | None:
    """About the up axis by 30 to 90 degrees, either way."""
    for _ in range(_TRIES):
        degrees = float(random.uniform(30, 90) * random.choice([-1, 1]))
        if place.allows(replace(asset, local_to_world=_turned(asset.local_to_world, degrees, place.up))):
            return Edit(ROTATED, asset.path, degrees)
    return None


def _turned(matrix: np.ndarray, degrees: float, up: int) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz"[up], degrees, degrees=True).as_matrix().T
    out = matrix.copy()
    out[:3, :3] = matrix[:3, :3] @ turn
    return out


def _colour(asset: Asset, shot: Frame, stage: object, view: float, random: np.random.Generator) -> Edit | None:
    """A clear colour far from the one it has, in linear RGB."""
    if not can_recolour(stage, asset.path) or shot.passes.color is None:
        return None
    mask = shot.passes.ids == shot.scene.assets.index(shot.scene.asset(asset.path))
    hue, _, _ = colorsys.rgb_to_hsv(*shot.passes.color[mask].mean(0).tolist())
    new = colorsys.hsv_to_rgb(
        (hue + random.uniform(0.3, 0.7)) % 1.0, random.uniform(0.65, 0.95), random.uniform(0.6, 1.0)
    )
    return Edit(RECOLOURED, asset.path, tuple(c**2.2 for c in new), View("", asset.path, view))


def _replacement(
    asset: Asset,
    place: _Place,
    donors: list[tuple[Frame, Asset]],
    shot: Frame,
    stages: Mapping[str, Path],
    random: np.random.Generator,
) -> Edit | None:
    """Another scene's asset of a like shape, as large as fits in the box of the old one, standing where that stood."""
    assert asset.extent is not None
    rotation = asset.local_to_world[:3, :3] / np.linalg.norm(asset.local_to_world[:3, :3], axis=1, keepdims=True)
    old = np.ptp(asset.extent, axis=0) * np.linalg.norm(asset.local_to_world[:3, :3], axis=1)
    fitting = []
    for frame, other in donors:
        if frame.name == shot.name or _same_model(asset, other):
            continue
        new = np.ptp(np.asarray(other.extent), axis=0)
        size = float((old / np.maximum(new, 1e-9)).min())
        if np.prod(new * size / old) >= _FILL and size > 0:
            fitting.append((frame, other, size))
    if not fitting:
        return None
    frame, other, size = fitting[int(random.integers(len(fitting)))]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * size
    ends = [np.asarray(a.extent, np.float64).mean(0) for a in (asset, other)]
    for extent, end in zip((asset.extent, other.extent), ends, strict=True):
        end[place.up] = np.asarray(extent)[0, place.up]
    stands = ends[0] @ asset.local_to_world[:3, :3] + asset.local_to_world[3, :3]
    matrix[3, :3] = stands - ends[1] @ matrix[:3, :3]
    assert frame.scene.time is not None
    donor = View(str(stages[frame.name]), other.path, frame.scene.time)
    return Edit(REPLACED, asset.path, tuple(float(x) for x in matrix.ravel()), donor)


def _same_model(asset: Asset, other: Asset) -> bool:
    """Whether these are one model in two scenes, which would replace itself: of one name and size."""
    same_size = np.allclose(np.asarray(asset.extent), np.asarray(other.extent), rtol=1e-4)
    return same_size and asset.text != "" and asset.text == other.text


def _hull(points: np.ndarray) -> np.ndarray:
    """(M, 2), the convex outline, counter-clockwise, of points (N, 2)."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return points


def _apart(a: np.ndarray, b: np.ndarray, margin: float = 0.0) -> bool:
    """Whether two convex outlines have a line between them (separating axes)."""
    for outline in (a, b):
        for edge in np.roll(outline, -1, axis=0) - outline:
            axis = np.array([-edge[1], edge[0]]) / max(float(np.linalg.norm(edge)), 1e-12)
            ours, theirs = a @ axis, b @ axis
            if ours.max() + margin <= theirs.min() or theirs.max() + margin <= ours.min():
                return True
    return False


def _inside(points: np.ndarray, outline: np.ndarray) -> bool:
    """Whether all points lie within a convex outline that runs counter-clockwise."""
    if len(outline) < 3:
        return True
    edges = np.roll(outline, -1, axis=0) - outline
    across = edges[:, 0] * (points[:, None, 1] - outline[:, 1]) - edges[:, 1] * (points[:, None, 0] - outline[:, 0])
    return bool((across >= -1e-9).all())
