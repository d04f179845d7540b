"""The operations of anchored generation on a room: what is kept of it, and what is sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..datasets.rooms_plausibility import facts
from ..latents import Anchors, ObjectAnchors, SceneLatents
from .resample_rooms import RoomCase

UNCONDITIONAL, COMPLETION, LAYOUT, OBJECT, BACKGROUND, CAMERA = OPERATIONS = (
    "unconditional",
    "completion",
    "layout",
    "object",
    "background",
    "camera",
)
MEANING = {
    UNCONDITIONAL: "nothing is kept",
    COMPLETION: "half of the objects, the background and the camera are kept, the other objects go, new ones may come",
    LAYOUT: "all poses are sampled, all else is kept, sizes with the looks",
    OBJECT: "pose, size and look of one object are sampled, on which nothing stands; all else is kept",
    BACKGROUND: "the background is sampled, all else is kept",
    CAMERA: "the focal length is sampled, all else is kept",
}
# Those that move objects, so that there is something to settle.
MOVING = (UNCONDITIONAL, COMPLETION, LAYOUT, OBJECT)


@dataclass(frozen=True)
class Task:
    """An operation on a room.

    Attributes:
        scene, anchors: for the prior. own_room: whether the background is kept, and so floor and walls are known.
        changed: indices of objects of `scene` whose pose or look is sampled.
    """

    operation: str
    scene: SceneLatents
    anchors: Anchors
    own_room: bool
    changed: tuple[int, ...] = ()

    @property
    def invents(self) -> bool:
        """Whether objects may come."""
        return self.anchors.insertion < 1

    def moved(self, count: int) -> list[bool]:
        """Of each of a sample's objects, whether its pose was sampled."""
        own = [alpha.pose < 1 for alpha in self.anchors.objects]
        return own + [True] * (count - len(own))

    def redressed(self, count: int) -> list[bool]:
        """Of each of a sample's objects, whether its look was sampled."""
        own = [alpha.appearance < 1 for alpha in self.anchors.objects]
        return own + [True] * (count - len(own))


def make_task(operation: str, case: RoomCase, scene: SceneLatents, seed: int) -> Task:
    """An operation on a room; which objects it takes is drawn with `seed`.

    Args:
        scene: the room, encoded.
    """
    rng = np.random.default_rng([seed, 11, int(case.digest, 16) % 2**32])
    keep = [ObjectAnchors() for _ in scene.objects]
    if operation == UNCONDITIONAL:
        empty = replace(scene, objects=[])
        return Task(operation, empty, Anchors([], camera=0, background=0, insertion=0), False)
    if operation == COMPLETION:
        kept = _standing(case, scene, sorted(rng.permutation(len(keep))[: max(1, len(keep) // 2)].tolist()))
        part = replace(scene, objects=[scene.objects[index] for index in kept])
        return Task(operation, part, Anchors([ObjectAnchors() for _ in kept], insertion=0), True)
    if operation == LAYOUT:
        anchors = Anchors([ObjectAnchors(pose=0) for _ in keep])
        return Task(operation, scene, anchors, True, tuple(range(len(keep))))
    if operation == OBJECT:
        bare = [index for index in range(len(keep)) if not _carries(case, scene, index)]
        index = int(rng.choice(bare or range(len(keep))))
        keep[index] = ObjectAnchors(pose=0, appearance=0)
        return Task(operation, scene, Anchors(keep), True, (index,))
    if operation == BACKGROUND:
        return Task(operation, scene, Anchors(keep, background=0), False)
    if operation == CAMERA:
        return Task(operation, scene, Anchors(keep, camera=0), True)
    raise ValueError(f"there is no operation '{operation}'; there are {', '.join(OPERATIONS)}")


def alpha_task(case: RoomCase, scene: SceneLatents, alpha: float) -> Task:
    """Everything but presence at one alpha (partial anchors)."""
    anchors = Anchors([ObjectAnchors(alpha, alpha, 1) for _ in scene.objects], alpha, alpha, 1)
    every = tuple(range(len(scene.objects)))
    return Task(f"alpha {alpha:g}", scene, anchors, alpha == 1, every)


def _standing(case: RoomCase, scene: SceneLatents, kept: list[int]) -> list[int]:
    """Those of the objects that do not float without the others; the first where none is left."""
    first = kept[0]
    while kept:
        part = replace(scene, objects=[scene.objects[index] for index in kept])
        gone = {index for index, _ in facts(part, case.camera_to_room, case.floor).floating}
        if not gone:
            return kept
        kept = [index for place, index in enumerate(kept) if place not in gone]
    standing = {index for index, _ in facts(scene, case.camera_to_room, case.floor).floating}
    below = [index for index in range(len(scene.objects)) if not _stands_on_another(case, scene, index)]
    return [next((index for index in below if index not in standing), first)]


def _stands_on_another(case: RoomCase, scene: SceneLatents, index: int) -> bool:
    alone = replace(scene, objects=[scene.objects[index]])
    return bool(facts(alone, case.camera_to_room, case.floor).floating)


def _carries(case: RoomCase, scene: SceneLatents, index: int) -> bool:
    """Whether something floats without an object."""
    others = replace(scene, objects=[one for number, one in enumerate(scene.objects) if number != index])
    return bool(facts(others, case.camera_to_room, case.floor).floating)
