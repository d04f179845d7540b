"""The true answers to edits: Cycles pictures of the edited stages, kept in a folder so that a run can be taken up."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import stage as stages
from ..datasets.workers import run_tasks
from ..datasets.world import SceneFolder
from ..scene import Passes, reindexed
from .cases import Case
from .cycles_task import CyclesTask, render_task
from .edits import Edit, write_edit
from .pairs import Frame

BEFORE = "before"


class PictureFrame(Frame):
    """A frame that has its picture."""

    @property
    def picture(self) -> np.ndarray:
        """(H, W, 3) in 0..1."""
        assert self.passes.color is not None
        return self.passes.color


@dataclass(frozen=True)
class Truth:
    """A stage rendered by Cycles: its file, the folder of its frames, and which those are."""

    stage: Path
    folder: Path
    times: tuple[float, ...]

    @property
    def done(self) -> bool:
        return self.folder.is_dir()

    def frame(self, name: str, camera: str, time: float) -> PictureFrame:
        """The frame at `time`, as `camera` sees it.

        Raises:
            ValueError: it has not been rendered, or its files are damaged; names the folder to delete.
        """
        scene = stages.read(stages.open_stage(self.stage), camera, time)
        try:
            seen = SceneFolder(self.folder).read(time)
        except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.folder} is damaged ({error}); delete it and run again") from error
        ids = reindexed(seen.ids, seen.paths, scene)
        # Nobody reads the points here: tokens are placed by depth and ids.
        points = np.full((*ids.shape, 3), np.nan, np.float32)
        passes = Passes(ids, seen.depth.astype(np.float32), points, color=seen.rgb / np.float32(255))
        return PictureFrame(name, scene, passes)


@dataclass(frozen=True)
class CaseTruths:
    """A case with its truths: "before", kind to truth, and a truth for each step of the sequence."""

    case: Case
    before: Truth
    edits: dict[str, Truth]
    sequence: tuple[Truth, ...]

    def frame(self, truth: Truth, time: float | None = None) -> PictureFrame:
        """A truth's frame at `time`; None takes the time that is edited."""
        return truth.frame(self.case.name, self.case.camera, self.case.time if time is None else time)

    def all(self) -> list[Truth]:
        return [self.before, *self.edits.values(), *self.sequence]


def has_blender() -> bool:
    """Whether Cycles is at hand (the extra `blender`)."""
    return importlib.util.find_spec("bpy") is not None


def write_stages(cases: Sequence[Case], folder: str | os.PathLike, samples: int, resolution: int) -> list[CaseTruths]:
    """Writes the edited stages of every case below `folder`, and says where their pictures belong.

    What a case is known by holds its edits, the scene's file, `samples` and `resolution`, so other settings never find
    stale pictures.
    """
    found = []
    for case in cases:
        known = {
            "edits": {kind: edit.as_json(case.stage.parent) for kind, edit in case.edits.items()},
            "sequence": [edit.as_json(case.stage.parent) for edit in case.sequence],
            "stage": hashlib.sha256(case.stage.read_bytes()).hexdigest(),
            "view": case.view,
            "samples": samples,
            "resolution": resolution,
        }
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        root = Path(folder) / f"{case.name}.{case.time:g}.{digest}"
        root.mkdir(parents=True, exist_ok=True)
        edits = {kind: _truth(case, case.stage, root / _file_name(kind), edit) for kind, edit in case.edits.items()}
        sequence: list[Truth] = []
        for number, edit in enumerate(case.sequence, 1):
            below = sequence[-1].stage if sequence else case.stage
            sequence.append(_truth(case, below, root / f"step_{number}", edit))
        found.append(CaseTruths(case, Truth(case.stage, root / BEFORE, (case.time,)), edits, tuple(sequence)))
    return found


def _truth(case: Case, base: Path, folder: Path, edit: Edit) -> Truth:
    stage = folder.with_suffix(".usda")
    if not stage.is_file():
        write_edit(base, stage, edit, case.time)
    own_view = edit.donor is not None and not edit.donor.stage
    return Truth(stage, folder, (case.time, case.view) if own_view else (case.time,))


def render_truths(
    truths: Sequence[CaseTruths], samples: int, resolution: int, workers: int = 1, failures: Path | None = None
) -> int:
    """Renders what is missing, in worker processes (Blender renders one stage at a time in each).

    Args:
        samples: Cycles' samples a pixel. failures: a file that tells of each that failed; None puts one
            beside the cases.

    Returns:
        How many failed. A picture appears when it is whole, so a run that is stopped is taken up by the next.
    """
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = [
        CyclesTask(
            str(truth.stage),
            str(truth.folder),
            truth.times,
            found.case.camera,
            resolution,
            samples,
            threads,
        )
        for found in truths
        for truth in found.all()
        if not truth.done
    ]
    if not tasks:
        return 0
    beside = Path(tasks[0].folder).parent.parent / "failed.jsonl"
    return run_tasks(render_task, tasks, workers, failures or beside, "truths")


def _file_name(kind: str) -> str:
    return kind.replace(" ", "_")
