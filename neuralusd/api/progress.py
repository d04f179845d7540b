"""How the verbs say how far they are, and how they are stopped."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], bool | None]
"""Called with (step, steps) as work goes on; returning True cancels it."""


class Cancelled(Exception):
    """A progress callback asked to stop."""


def report(progress: Progress | None, step: int, steps: int) -> None:
    """Raises `Cancelled` when the callback, if any, asks for it."""
    if progress is not None and progress(step, steps):
        raise Cancelled
