"""What reaches a little into something else, or into a wall, is pushed out of it, along the ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Metres. Nothing is pushed farther than this from where it was; what overlaps in height by no more than the second is
# one upon the other; what is pushed ends that far from what it was pushed out of.
REACH, STACKED, CLEARANCE = 0.5, 0.05, 0.002
_ROUNDS = 60

Clear = Callable[[int, np.ndarray], np.ndarray]
"""The index of a box and where its middle (2,) is now, to the way (2,) out of the wall that it is deepest in, or onto
the floor; zeros where it is in none."""


@dataclass
class Standing:
    """An upright box, seen from above; metres.

    Attributes:
        middle: (2,). axes: (2, 2), rows: its horizontal axes, unit vectors. half: (2,) half its sides along them.
        bottom, top: heights. free: whether it may be pushed. carrier: index of what it stands on, which takes it along;
            None for the ground.
    """

    middle: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    bottom: float
    top: float
    free: bool
    carrier: int | None = None


def push_apart(boxes: Sequence[Standing], clear: Clear | None = None) -> np.ndarray:
    """(N, 2) metres that each box goes so that none reaches into another, as far as that can be had within `REACH`.

    The least way out of each pair is gone, by both where both are free, the smaller one farther; what an object carries
    goes with it, and is never pushed out of it.

    Args:
        clear: says where walls are, and where the floor ends; what stands on something is not kept clear of them.
    """
    shift = np.zeros((len(boxes), 2))
    area = [float(np.prod(box.half)) for box in boxes]
    for _ in range(_ROUNDS):
        still = True
        for i, box in enumerate(boxes):
            if clear is not None and box.free and box.carrier is None:
                back = clear(i, box.middle + shift[i])
                if back.any() and _push(boxes, shift, i, back):
                    still = False
            for j in range(i + 1, len(boxes)):
                one, other = boxes[i], boxes[j]
                if not (one.free or other.free) or j in _carriers(boxes, i) or i in _carriers(boxes, j):
                    continue
                if min(one.top, other.top) - max(one.bottom, other.bottom) <= STACKED:
                    continue
                way = _way_out(one, one.middle + shift[i], other, other.middle + shift[j])
                if way is None:
                    continue
                part = area[j] / (area[i] + area[j]) if one.free and other.free else float(one.free)
                pushed = [_push(boxes, shift, i, part * way), _push(boxes, shift, j, (part - 1) * way)]
                still = still and not any(pushed)
        if still:
            break
    return shift


def overlaps(boxes: Sequence[Standing]) -> list[float]:
    """Of each two boxes that reach into each other, and of which one may be pushed, the metres that would part them;
    what one carries does not count."""
    found = []
    for i, one in enumerate(boxes):
        for j in range(i + 1, len(boxes)):
            other = boxes[j]
            if not (one.free or other.free) or j in _carriers(boxes, i) or i in _carriers(boxes, j):
                continue
            height = min(one.top, other.top) - max(one.bottom, other.bottom)
            way = _way_out(one, one.middle, other, other.middle) if height > 0 else None
            if way is not None:
                found.append(min(height, float(np.linalg.norm(way))))
    return found


def _carriers(boxes: Sequence[Standing], index: int) -> list[int]:
    found: list[int] = []
    at = boxes[index].carrier
    while at is not None and at not in found:
        found.append(at)
        at = boxes[at].carrier
    return found


def _push(boxes: Sequence[Standing], shift: np.ndarray, index: int, way: np.ndarray) -> bool:
    """Whether it went anywhere: what is at the end of its reach does not."""
    before = shift[index].copy()
    after = before + way
    length = float(np.linalg.norm(after))
    after *= min(1.0, REACH / length) if length else 1.0
    shift[index] = after
    for other in range(len(boxes)):
        if other != index and boxes[other].free and index in _carriers(boxes, other):
            shift[other] += after - before
    return bool(np.abs(after - before).max() > 1e-4)


def _way_out(one: Standing, at: np.ndarray, other: Standing, there: np.ndarray) -> np.ndarray | None:
    """The least way (2,) that takes `one` out of `other`; None where they are apart (separating axes)."""
    directions = np.concatenate([one.axes, other.axes])
    reach = sum(np.abs(directions @ box.axes.T) @ box.half for box in (one, other))
    between = directions @ (at - there)
    overlap = reach - np.abs(between)
    least = int(overlap.argmin())
    if overlap[least] <= CLEARANCE:
        return None
    return (overlap[least] + 2 * CLEARANCE) * (1.0 if between[least] >= 0 else -1.0) * directions[least]
