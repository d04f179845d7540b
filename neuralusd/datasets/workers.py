"""Tasks in worker processes of their own: one that crashes takes only its task with it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

TIMEOUT = 600.0
# Blender keeps some memory of every scene; a fresh process gives it back
TASKS_PER_PROCESS = 150


class _Worker:
    """A process, the task it is at, and since when."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, other), daemon=True)
        self.process.start()
        other.close()
        self.task: Any = None
        self.since = 0.0
        self.left = TASKS_PER_PROCESS

    def give(self, task: Any) -> None:
        self.task, self.since = task, time.monotonic()
        self.left -= 1
        self.pipe.send(task)

    def end(self) -> None:
        self.pipe.close()
        # an idle worker ends by itself and clears Blender's temporary folder, unless Blender hangs in its teardown
        if self.task is None:
            self.process.join(5)
        self.process.kill()
        self.process.join()


def run_tasks(
    work: Callable[[Any], None], tasks: Sequence[Any], workers: int, failures: Path, description: str = ""
) -> int:
    """Run `work(task)` for every task in `workers` processes.

    Args:
        work: a function of a module; it and the tasks are pickled.
        failures: a line of JSON is added to this file for every task that raised, crashed or took over ten minutes.
        description: of the progress bar; empty for none.

    Returns:
        the number of tasks that failed.
    """
    from tqdm import tqdm

    waiting = list(reversed(tasks))
    running: list[_Worker] = []
    failed = 0
    with tqdm(total=len(tasks), desc=description, unit="scene", disable=not description) as bar:
        try:
            while waiting or any(w.task is not None for w in running):
                while waiting and len(running) < workers:
                    running.append(_Worker(work))
                for worker in running:
                    if worker.task is None and waiting:
                        worker.give(waiting.pop())
                busy = [w for w in running if w.task is not None]
                ready = wait([w.pipe for w in busy], timeout=1.0)
                for worker in busy:
                    problem = None
                    if worker.pipe in ready:
                        try:
                            problem = worker.pipe.recv()
                        except (EOFError, OSError):
                            worker.process.join(5)
                            problem = f"the worker died with exit code {worker.process.exitcode}"
                            worker.left = 0
                    elif time.monotonic() - worker.since > TIMEOUT:
                        problem = f"it took longer than {TIMEOUT:.0f} s"
                        worker.left = 0
                    else:
                        continue
                    if problem:
                        failed += 1
                        with failures.open("a") as file:
                            file.write(json.dumps({"task": str(worker.task), "problem": problem}) + "\n")
                        log.warning("%s failed: %s", worker.task, problem.strip().splitlines()[-1])
                    bar.update()
                    worker.task = None
                    if worker.left <= 0:
                        worker.end()
                        running.remove(worker)
        finally:
            for worker in running:
                worker.end()
    return failed


def _serve(work: Callable[[Any], None], pipe: Connection) -> None:
    """In the worker: run tasks until the pipe closes. Sends "" for done, else what went wrong."""
    # an interrupt from the keyboard reaches every process; the parent ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(task)
            problem = ""
        # whatever one task raises must not end the others
        except Exception:
            problem = traceback.format_exc()
        try:
            pipe.send(problem)
        except (BrokenPipeError, OSError):
            return
