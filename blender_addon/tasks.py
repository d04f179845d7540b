# SPDX-License-Identifier: GPL-3.0-or-later
"""Work beside Blender's main thread, and the way back to it. Nothing here imports bpy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

LOG_LINES = 500


class Stopped(Exception):
    """Somebody asked the work to stop."""


class Task:
    """Work that reports how far it is and can be cancelled; `run` it here, or `start` it in a thread of its own.

    Attributes:
        label: what it is, for people. said: what it does at the moment. fraction: how far it is, 0..1.
        log: its latest lines. picture: PNG of the latest intermediate picture, or None.
        result: what the work returned. error: what it raised, or None.
        done: whether it has ended, one way or the other.
    """

    def __init__(self, label: str, work: Callable[[Task], Any]):
        self.label, self.said, self.fraction = label, "", 0.0
        self.log: list[str] = []
        self.picture: bytes | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self._work = work
        self._cancel = threading.Event()

    def run(self) -> Any:
        """Does the work in this thread; returns or raises what it does."""
        try:
            self.result = self._work(self)
            return self.result
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.done = True

    def start(self) -> Task:
        """Does the work in a thread of its own."""
        running.append(self)
        # A daemon: quitting Blender does not wait for a service.
        threading.Thread(target=self._run_quietly, name=f"neuralusd {self.label}", daemon=True).start()
        return self

    def tell(self, fraction: float, said: str) -> None:
        """Says how far the work is. Raises Stopped where it was cancelled."""
        self.fraction, self.said = min(max(fraction, 0.0), 1.0), said
        self.check()

    def note(self, line: str) -> None:
        """Adds a line to the log."""
        self.log.append(line)
        del self.log[:-LOG_LINES]

    def cancel(self) -> None:
        """Asks the work to stop."""
        self._cancel.set()

    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancel.is_set()

    def check(self) -> None:
        """Raises Stopped where it was asked to stop."""
        if self.cancelled():
            raise Stopped

    def _run_quietly(self) -> None:
        try:
            self.run()
        except BaseException:  # noqa: S110 - it is in `error`, for whoever polls
            pass
        finally:
            if self in running:
                running.remove(self)


running: list[Task] = []
"""The tasks that run in threads, for the panels to show."""

_calls: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[tuple[Any, BaseException | None]]]]
_calls = queue.SimpleQueue()


def on_main(function: Callable[[], Any], stopped: Callable[[], bool] = lambda: False) -> Any:
    """What `function` returns, called in the main thread, from whichever thread asks.

    Args:
        stopped: asked several times a second while waiting; True gives up waiting, which must be possible: the main
            thread may itself be waiting for a render to stop.

    Raises:
        Stopped: `stopped` said so. Else what the function raises.
    """
    if threading.current_thread() is threading.main_thread():
        return function()
    answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    abandoned = threading.Event()

    def call() -> Any:
        if abandoned.is_set():
            raise Stopped
        return function()

    _calls.put((call, answer))
    while True:
        try:
            result, error = answer.get(timeout=0.1)
        except queue.Empty:
            if stopped():
                abandoned.set()
                raise Stopped from None
            continue
        if error is not None:
            raise error
        return result


def pump() -> float:
    """Does what other threads have asked of the main thread; a timer's function, which says when to call it again."""
    while True:
        try:
            function, answer = _calls.get_nowait()
        except queue.Empty:
            return 0.1
        try:
            answer.put((function(), None))
        except BaseException as error:
            answer.put((None, error))
