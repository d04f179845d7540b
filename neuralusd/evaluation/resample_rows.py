"""What draws rooms: trained priors, two baselines, and the grammar's own rooms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..latents import ObjectLatents, SceneLatents
from ..models.prior.packing import pose_vector
from ..pipelines.resample import ResamplePipeline
from .resample_operations import COMPLETION, LAYOUT, OBJECT, UNCONDITIONAL, Task
from .resample_rooms import Known

TRUTH = "(the room itself)"
MARGINALS, OF_MODEL, RETRIEVAL = "independent marginals", "independent marginals, of the model", "nearest room"


class Row(Protocol):
    """A way to samples. `known`: what decides what it draws, as JSON; `space`: whose tokens it speaks."""

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> Known: ...

    @property
    def known(self) -> Any: ...

    def sample(self, task: Task, count: int, seed: int) -> list[SceneLatents]: ...


@dataclass
class PriorRow:
    """A trained prior."""

    name: str
    space: Known
    guidance: float = 1.0
    steps: int | None = None

    @property
    def pipeline(self) -> ResamplePipeline:
        return self.space.pipeline

    @property
    def known(self) -> Any:
        steps = self.pipeline.config.num_inference_steps if self.steps is None else self.steps
        return ["prior", digest_of(self.pipeline), self.guidance, steps]

    def sample(self, task: Task, count: int, seed: int) -> list[SceneLatents]:
        return self.pipeline(
            task.scene,
            task.anchors,
            samples=count,
            seed=seed,
            guidance_scale=self.guidance,
            num_inference_steps=self.steps,
        )


@dataclass
class MarginalRow:
    """Each free variable by itself, from the training rooms: an object's pose from all poses (or from those of the
    same model), its look from all models as often as they stand in rooms, how many objects there are from all rooms."""

    space: Known
    of_model: bool = False

    @property
    def name(self) -> str:
        return OF_MODEL if self.of_model else MARGINALS

    @property
    def known(self) -> Any:
        return ["marginals", self.of_model, digest_of(self.space.pipeline), rooms_digest(self.space)]

    def sample(self, task: Task, count: int, seed: int) -> list[SceneLatents]:
        return [self._one(task, np.random.default_rng([seed, 12, number])) for number in range(count)]

    def _one(self, task: Task, rng: np.random.Generator) -> SceneLatents:
        rooms = self.space.rooms
        room, slot = np.nonzero(rooms.model >= 0)
        objects = []
        for one, alpha in zip(task.scene.objects, task.anchors.objects, strict=True):
            model = self.space.nearest(one.appearance)[0]
            made = one
            if alpha.appearance < 1:
                pick = int(rng.integers(len(room)))
                model = int(rooms.model[room[pick], slot[pick]])
                made = replace(made, appearance=self.space.object(room[pick], slot[pick]).appearance)
            if alpha.pose < 1:
                made = self.posed(made, model, rng, grown=alpha.appearance < 1)
            objects.append(made)
        if task.invents:
            wanted = int((rooms.model[int(rng.integers(len(rooms)))] >= 0).sum())
            for _ in range(max(0, wanted - len(objects))):
                pick = int(rng.integers(len(room)))
                drawn = self.space.object(room[pick], slot[pick])
                objects.append(self.posed(drawn, int(rooms.model[room[pick], slot[pick]]), rng))
        focal, background = task.scene.focal, task.scene.background
        if task.anchors.camera < 1:
            focal = rooms.focal[int(rng.integers(len(rooms)))].astype(np.float64)
        if task.anchors.background < 1:
            background = self.space.backgrounds[int(rng.integers(len(rooms)))]
        return replace(task.scene, objects=objects, focal=focal, background=background)

    def posed(self, one: ObjectLatents, model: int, rng: np.random.Generator, grown: bool = True) -> ObjectLatents:
        rooms = self.space.rooms
        found = np.nonzero(rooms.model == model) if self.of_model and model >= 0 else np.nonzero(rooms.model >= 0)
        pick = int(rng.integers(len(found[0])))
        return _put(one, self.space.object(found[0][pick], found[1][pick]), grown)


@dataclass
class RetrievalRow:
    """The training rooms whose part that is kept here is most like what is kept; what is free is theirs. The first
    sample is of the nearest room, the second of the second, and so on.

    Kept objects are matched with a room's by pose (where it is kept; over the deviations of training) and look, so that
    the sum of squares is the least; one that has no match costs as much as a deviation of 3 of each number.
    """

    space: Known
    name: str = RETRIEVAL

    @property
    def known(self) -> Any:
        return ["retrieval", digest_of(self.space.pipeline), rooms_digest(self.space)]

    def sample(self, task: Task, count: int, seed: int) -> list[SceneLatents]:
        rng = np.random.default_rng([seed, 13])
        rooms = self.space.rooms
        if task.operation == UNCONDITIONAL:
            return [self._taken(task, int(room), {}, rng) for room in rng.permutation(len(rooms))[:count]]
        costs, matches = self._costs(task)
        order = np.argsort(costs, kind="stable")[:count]
        return [self._taken(task, int(room), matches(int(room)), rng) for room in order]

    def _costs(self, task: Task) -> tuple[np.ndarray, Callable[[int], dict[int, int]]]:
        from scipy.optimize import linear_sum_assignment

        rooms, space = self.space.rooms, self.space
        there = rooms.model >= 0
        deviation = rooms.pose[there].std(0).clip(1e-3)
        anchors, objects = task.anchors, task.scene.objects
        kept = [index for index, alpha in enumerate(anchors.objects) if alpha.appearance == 1 or alpha.pose == 1]
        cost = np.zeros((len(rooms), len(kept), rooms.model.shape[1]))
        for place, index in enumerate(kept):
            one, alpha = objects[index], anchors.objects[index]
            if alpha.pose == 1:
                cost[:, place] += np.square((rooms.pose - pose_vector(one)) / deviation).mean(-1)
            if alpha.appearance == 1 and one.appearance is not None:
                looks = np.square(space.models - one.appearance.ravel()).mean(1)
                cost[:, place] += looks[rooms.model.clip(0)]
        apart = 9.0 * (1 + (anchors.objects[kept[0]].pose == 1 if kept else 0))
        cost = np.where(there[:, None], cost, apart)

        def matched(room: int) -> dict[int, int]:
            own, other = linear_sum_assignment(cost[room])
            return {kept[i]: int(j) for i, j in zip(own, other, strict=True) if there[room, j]}

        # A bound that is cheap says which rooms are worth matching exactly.
        bound = cost.min(2).sum(1)
        if anchors.camera == 1:
            focal = np.log(rooms.focal)
            bound = bound + np.square((focal - np.log(task.scene.focal)) / focal.std(0).clip(1e-3)).mean(1)
        if anchors.background == 1 and task.scene.background is not None:
            bound = bound + len(kept) * np.square(space.backgrounds - task.scene.background).mean(1)
        extra = bound - cost.min(2).sum(1)
        total = np.full(len(rooms), np.inf)
        for room in np.argsort(bound)[:200]:
            own, other = linear_sum_assignment(cost[room])
            total[room] = cost[room][own, other].sum() + extra[room]
        if task.operation in (COMPLETION, OBJECT):  # there has to be something to take over
            total[there.sum(1) <= len(kept)] += 1e6
        return total, matched

    def _taken(self, task: Task, room: int, matches: dict[int, int], rng: np.random.Generator) -> SceneLatents:
        rooms = self.space.rooms
        scene = task.scene
        slots = [slot for slot in np.flatnonzero(rooms.model[room] >= 0) if slot not in matches.values()]
        objects = list(scene.objects)
        if task.operation == LAYOUT:
            alone = MarginalRow(self.space, of_model=True)
            for index, one in enumerate(objects):
                if index in matches:
                    objects[index] = _put(one, self.space.object(room, matches[index]), grown=False)
                else:  # nothing there is like it
                    objects[index] = alone.posed(one, self.space.nearest(one.appearance)[0], rng, grown=False)
        elif task.operation == OBJECT and slots:
            [index] = task.changed
            # Of what is left over, the one that is most like in size: the others stand for what is kept.
            other = min(
                (self.space.object(room, slot) for slot in slots),
                key=lambda each: float(np.square(np.log(each.scale) - np.log(objects[index].scale)).sum()),
            )
            objects[index] = replace(other, path=objects[index].path)
        elif task.operation in (COMPLETION, UNCONDITIONAL):
            objects += [self.space.object(room, slot) for slot in slots]
        focal = rooms.focal[room].astype(np.float64) if task.anchors.camera < 1 else scene.focal
        background = self.space.backgrounds[room] if task.anchors.background < 1 else scene.background
        return replace(scene, objects=objects, focal=focal, background=background)


def _put(one: ObjectLatents, other: ObjectLatents, grown: bool) -> ObjectLatents:
    """An object where another is, and as large where it may be `grown`."""
    scale = other.scale if grown else one.scale
    return replace(one, translation=other.translation, rotation=other.rotation, scale=scale)


def digest_of(pipeline: ResamplePipeline) -> str:
    """Of a pipeline's weights."""
    found = getattr(pipeline, "_evaluated_digest", None)
    if found is None:
        digest = hashlib.sha256()
        for module in (pipeline.prior, pipeline.appearance_codec, pipeline.background_codec):
            for name, value in module.state_dict().items():
                digest.update(name.encode() + value.float().cpu().contiguous().numpy().tobytes())
        found = digest.hexdigest()[:12]
        pipeline._evaluated_digest = found
    return found


def rooms_digest(space: Known) -> str:
    """Of training rooms."""
    return hashlib.sha256(space.rooms.pose.tobytes() + space.rooms.model.tobytes()).hexdigest()[:12]
