"""Work on parts of an image side by side: numpy and Embree let go of Python's lock for most of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# More threads than these wait for each other.
MOST = 4
# A part with fewer rays is not worth a thread.
LEAST = 30_000

Part = TypeVar("Part")
Done = TypeVar("Done")


def threads() -> int:
    """How many parts are worked on at a time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST, available))


def part_size(count: int, most: int) -> int:
    """How many of `count` rays one part has: the same for every thread, at most `most`."""
    return max(1, min(most, max(LEAST, -(-count // threads()))))


def side_by_side(work: Callable[[Part], Done], parts: Iterable[Part]) -> Iterator[Done]:
    """`map`, on several threads; results in the order of the parts. What a part raises is raised."""
    parts = list(parts)
    if threads() == 1 or len(parts) < 2:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads()) as pool:
        yield from pool.map(work, parts)
