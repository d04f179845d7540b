"""What is measured of samples of a room: plausibility, diversity, novelty, distance to the original."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.rooms_plausibility import LayoutFacts, facts
from ..latents import ObjectLatents, SceneLatents
from ..pipelines.resample import ResamplePipeline
from .resample_frames import room_frame
from .resample_operations import Task
from .resample_rooms import OTHER, Known, RoomCase

CLEAN, COLLIDING, DEPTH, FLOATING, OUTSIDE, TILTED, LOST, OBJECTS, SEEN = PLAUSIBILITY = (
    "plausible %",
    "colliding %",
    "depth cm",
    "floating or sunk %",
    "outside %",
    "tilted %",
    "no floor %",
    "objects",
    "in view %",
)
POSES, LOOKS, VARIED, NOVEL = DIVERSITY = ("poses apart m", "looks apart", "varied %", "novelty")
# Metres and degrees beyond which something is counted.
TOLERANCE, LEANING = 0.05, 5.0
# A free variable varies where its deviation over the samples is more than this part of that over training rooms.
_VARIES = 0.02

Frame = tuple[np.ndarray, np.ndarray]
Mean = tuple[float, float]


def frame_of(task: Task, sample: SceneLatents, case: RoomCase, pipeline: ResamplePipeline) -> Frame | None:
    """Camera-to-room and floor of a sample: the room's own where its background is kept, else what the depth of the
    sampled background says; None where it shows no floor."""
    if task.own_room:
        return case.camera_to_room, case.floor
    return None if sample.background is None else room_frame(pipeline.decode_background(sample.background)[1],
                                                             sample.focal)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A sample and where it stands. `frame` is None where it has no floor, and then there are no `facts`.

    `kinds` are of its present objects: what one is that keeps its look is known, what one is that was sampled says its
    look.
    """

    scene: SceneLatents
    frame: Frame | None
    facts: LayoutFacts | None
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task, sample: SceneLatents, case: RoomCase, space: Known) -> Seen:
        frame = frame_of(task, sample, case, space.pipeline)
        named = dict(zip((one.path for one in case.latents.objects), case.names, strict=True))
        looks = [alpha.appearance for alpha in task.anchors.objects]
        looks += [1.0] * (len(sample.objects) - len(looks))
        kinds = [
            space.by_name.get(named[one.path], OTHER) if one.path in named and alpha == 1 else space.kind(one)
            for one, alpha in zip(sample.objects, looks, strict=False)
            if one.presence
        ]
        found = None if frame is None else facts(sample, *frame, tolerance=TOLERANCE)
        return cls(sample, frame, found, tuple(kinds))


def plausibility(seen: Seen) -> dict[str, float]:
    """`PLAUSIBILITY` of one sample. Without a floor nothing is known to stand, so it is not plausible."""
    present = [one for one in seen.scene.objects if one.presence]
    in_view = [_in_view(one, seen.scene.focal) for one in present]
    values = {OBJECTS: float(len(present)), LOST: 100.0 * (seen.facts is None), CLEAN: 0.0}
    if in_view:
        values[SEEN] = 100 * float(np.mean(in_view))
    found = seen.facts
    if found is None:
        return values
    tilted = bool((found.tilt > LEANING).any())
    values |= {
        CLEAN: 100.0 * (found.clean and not tilted),
        COLLIDING: 100.0 * bool(found.collisions),
        FLOATING: 100.0 * bool(found.floating or found.sunk),
        OUTSIDE: 100.0 * bool(found.outside),
        TILTED: 100.0 * tilted,
    }
    if found.collisions:
        values[DEPTH] = 100 * max(depth for *_, depth in found.collisions)
    return values


def _in_view(one: ObjectLatents, focal: np.ndarray) -> bool:
    x, y, z = one.translation
    return bool(z < 0 and (np.abs(np.array([x, y]) * focal / -z) <= 0.5).all())


# -- diversity ----------------------------------------------------------------------------------------------------


def diversity(task: Task, samples: Sequence[SceneLatents], space: Known) -> dict[str, float]:
    """`DIVERSITY` of the samples of one room.

    Objects that were sampled are compared: those of the room with themselves, those that were invented with the nearest
    one of the other sample.
    """
    values: dict[str, float] = {}
    own = len(task.scene.objects)
    poses, looks = [], []
    for number, first in enumerate(samples):
        for second in samples[number + 1 :]:
            pairs = [(first.objects[index], second.objects[index]) for index in range(own)]
            moved = [index for index in range(own) if task.anchors.objects[index].pose < 1]
            dressed = [index for index in range(own) if task.anchors.objects[index].appearance < 1]
            new = _nearest(_present(first.objects[own:]), _present(second.objects[own:]))
            apart = [_between(*pairs[index]) for index in moved] + [_between(*pair) for pair in new]
            unlike = [_unlike(*pairs[index]) for index in dressed] + [_unlike(*pair) for pair in new]
            poses += [float(np.mean(apart))] if apart else []
            looks += [float(np.mean(unlike))] if unlike else []
    if poses:
        values[POSES] = float(np.mean(poses))
    if looks:
        values[LOOKS] = float(np.nanmean(looks))
    varied = _varied(task, samples, space)
    if varied:
        values[VARIED] = 100 * float(np.mean(varied))
    sampled = [
        one.appearance
        for sample in samples
        for one, free in zip(sample.objects, task.redressed(len(sample.objects)), strict=True)
        if free and one.presence and one.appearance is not None
    ]
    if sampled:
        values[NOVEL] = float(np.mean([space.nearest(tokens)[1] for tokens in sampled]))
    return values


def _present(objects: Sequence[ObjectLatents]) -> list[ObjectLatents]:
    return [one for one in objects if one.presence]


def _nearest(
    first: Sequence[ObjectLatents], second: Sequence[ObjectLatents]
) -> list[tuple[ObjectLatents, ObjectLatents]]:
    if not first or not second:
        return []
    return [(one, min(second, key=lambda other, one=one: _between(one, other))) for one in first]  # type: ignore[misc]


def _between(one: ObjectLatents, other: ObjectLatents) -> float:
    return float(np.linalg.norm(one.translation - other.translation))


def _unlike(one: ObjectLatents, other: ObjectLatents) -> float:
    if one.appearance is None or other.appearance is None:
        return float("nan")
    return float(np.sqrt(np.square(one.appearance - other.appearance).mean()))


def _varied(task: Task, samples: Sequence[SceneLatents], space: Known) -> list[bool]:
    """Of each free variable, whether it varies from sample to sample."""
    if len(samples) < 2:
        return []
    rooms, out = space.rooms, []
    there = rooms.model >= 0
    place = float(rooms.pose[there][:, :3].std(0).mean())
    for index, alpha in enumerate(task.anchors.objects):
        if alpha.pose < 1:
            spread = np.std([sample.objects[index].translation for sample in samples], axis=0).mean()
            out.append(bool(spread > _VARIES * place))
        looks = [sample.objects[index].appearance for sample in samples]
        if alpha.appearance < 1 and all(each is not None for each in looks):
            out.append(bool(np.std(looks, axis=0).mean() > _VARIES))  # type: ignore[arg-type]
    if task.anchors.camera < 1:
        out.append(bool(np.std([np.log(s.focal) for s in samples]) > _VARIES * np.log(rooms.focal).std()))
    if task.anchors.background < 1:
        tokens = [sample.background for sample in samples if sample.background is not None]
        out.append(bool(np.std(tokens, axis=0).mean() > _VARIES) if tokens else False)
    if task.invents:
        counts = {sum(one.presence for one in sample.objects) for sample in samples}
        out.append(len(counts) > 1)
    return out


# -- partial anchors ----------------------------------------------------------------------------------------------

PLACE, TURN, SIZE, LOOK, FOCAL, BACKDROP = DISTANCES = (
    "place m",
    "turn deg",
    "size %",
    "look",
    "focal %",
    "background",
)


def distance(sample: SceneLatents, original: SceneLatents) -> dict[str, float]:
    """How far a sample of the same objects is from the original, means over objects (`DISTANCES`)."""
    pairs = list(zip(sample.objects, original.objects, strict=False))
    turns = [abs(float(np.dot(one.rotation, other.rotation))) for one, other in pairs]
    sizes = [np.abs(np.log(one.scale) - np.log(other.scale)).mean() for one, other in pairs]
    looks = [each for each in (_unlike(*pair) for pair in pairs) if not math.isnan(each)]
    out = {
        PLACE: float(np.mean([_between(*pair) for pair in pairs])),
        TURN: float(np.degrees(np.mean([2 * np.arccos(min(turn, 1.0)) for turn in turns]))),
        SIZE: 100 * float(np.expm1(np.mean(sizes))),
        FOCAL: 100 * float(np.expm1(np.abs(np.log(sample.focal) - np.log(original.focal)).mean())),
    }
    if looks:
        out[LOOK] = float(np.mean(looks))
    if sample.background is not None and original.background is not None:
        out[BACKDROP] = float(np.sqrt(np.square(sample.background - original.background).mean()))
    return out


# -- means --------------------------------------------------------------------------------------------------------


def bootstrapped(values: Sequence[Sequence[float]], seed: int = 0, draws: int = 1000) -> Mean:
    """Mean over samples and its error, from rooms drawn with replacement: samples of one room are not independent.

    Args:
        values: of each room, those of its samples.
    """
    rooms = [np.asarray(each, np.float64) for each in values if len(each)]
    if not rooms:
        return float("nan"), float("nan")
    sums, counts = np.array([each.sum() for each in rooms]), np.array([len(each) for each in rooms])
    mean = float(sums.sum() / counts.sum())
    if len(rooms) < 2:
        return mean, float("nan")
    picked = np.random.default_rng(seed).integers(len(rooms), size=(draws, len(rooms)))
    return mean, float((sums[picked].sum(1) / counts[picked].sum(1)).std(ddof=1))


def columns_of(found: Sequence[Sequence[Mapping[str, float]]], names: Sequence[str], seed: int) -> dict[str, Mean]:
    """Column to mean and error.

    Args:
        found: of each room, of each of its samples, column to value; a sample may lack some.
    """
    out = {}
    for name in names:
        values = [[each[name] for each in room if name in each and not math.isnan(each[name])] for room in found]
        if any(values):
            out[name] = bootstrapped(values, seed)
    return out
