"""One stage rendered by Cycles in a worker process, which imports nothing that it does not need."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CyclesTask:
    """What to render: a stage's file, the folder its frames go to, time codes, the camera's path, pixels a side."""

    stage: str
    folder: str
    times: tuple[float, ...]
    camera: str
    resolution: int
    samples: int
    threads: int


def render_task(task: CyclesTask) -> None:
    """Renders a task. Its folder appears when it is whole."""
    from ..datasets.cycles import render_frames

    folder = Path(task.folder)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # One seed for all: what an edit leaves alone has the same noise before and after it.
        render_frames(
            task.stage,
            task.times,
            task.resolution,
            made,
            camera=task.camera,
            samples=task.samples,
            threads=task.threads,
            seed=0,
        )
        made.chmod(0o755)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
