"""Clips of furniture that moves: doors, drawers, lids, lamps and chairs, seen by a camera that moves as well.

A world like the furniture world (`neuralusd.datasets.world`): one scene a clip, with one foreground asset,
/World/Asset, whose parts are rigid bodies of UsdPhysics with time samples (`neuralusd.datasets.articulated_stage`).
`neuralusd.datasets.clips` reads it as arrays to train on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .articulated_furniture import KINDS, draw_model, draw_motion
from .articulated_stage import CAMERA, write_clip
from .furniture_world import TRAIN, require_bpy
from .orbits import FIELD_OF_VIEW, finished
from .whole import begin_split, whole_folder

HELD_OUT_CLIPS = "held_out_clips"
# The order decides the seeds.
SPLITS = (HELD_OUT_CLIPS, TRAIN)


@dataclass(frozen=True)
class ClipTask:
    """What a worker needs to make one clip."""

    out: str
    split: str
    index: int
    kind: str
    frames: int
    resolution: int
    samples: int
    threads: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.split}_{self.index:05d}_{self.kind}"

    @property
    def folder(self) -> Path:
        return Path(self.out, "scenes", self.split, self.name)


def make_articulated(
    out: str | os.PathLike,
    clips: int = 20,
    held_out_clips: int = 5,
    frames: int = 24,
    kinds: Sequence[str] = tuple(KINDS),
    workers: int = 2,
    seed: int = 0,
    resolution: int = 96,
    samples: int = 8,
    progress: bool = True,
) -> dict[str, int]:
    """Makes, or goes on making, clips. A clip appears in its place only when it is whole; one whose worker crashes is
    left out and noted in `failed.jsonl`.

    Args:
        out: folder of the world.
        clips, held_out_clips: how many of each split; every clip shows another model.
        frames: pictures a clip, at time codes from 1. kinds: of furniture, see `articulated_furniture.KINDS`; they take
            turns.
        workers: processes. seed: with the split and the clip's number it decides the clip.
        resolution: width and height of the pictures. samples: Cycles' samples a pixel.

    Returns:
        split to the number of its clips that are there now.

    Raises:
        ImportError: no `bpy`. ValueError: there is no such kind, or too few frames or clips are asked for.
    """
    from .workers import run_tasks

    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"there is no kind of articulated furniture '{unknown[0]}'; there are {', '.join(KINDS)}")
    if not kinds:
        raise ValueError(f"name a kind of articulated furniture: {', '.join(KINDS)}")
    if min(clips, held_out_clips) < 0:
        raise ValueError(f"there cannot be {min(clips, held_out_clips)} clips; ask for 0 or more")
    if frames < 2:
        raise ValueError(f"nothing moves in {frames} frame{'' if frames == 1 else 's'}; ask for two frames or more")
    require_bpy()
    folder = Path(out)
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = []
    for split, count in zip(SPLITS, (held_out_clips, clips), strict=True):
        begin_split(folder / "scenes" / split)
        for index in range(count):
            kind = kinds[index % len(kinds)]
            task = ClipTask(str(folder), split, index, kind, frames, resolution, samples, threads, seed)
            if not task.folder.exists():
                tasks.append(task)
    run_tasks(make_clip, tasks, workers, folder / "failed.jsonl", "clips" if progress else "")
    return {split: sum(1 for _ in finished(folder / "scenes" / split)) for split in SPLITS}


def make_clip(task: ClipTask) -> None:
    """Writes one clip's stage, renders its frames, and moves it into its place."""
    from .cycles import render_frames

    with whole_folder(task.folder) as made:
        stage = made / "scene.usda"
        write_task(stage, task)
        frames = list(range(1, task.frames + 1))
        render_frames(
            stage, frames, task.resolution, made, CAMERA, samples=task.samples, threads=task.threads, seed=task.index
        )
        about = {**asdict(task), "frames": frames, "assets": [task.name], "category": task.kind}
        for of_this_machine in ("out", "threads"):
            del about[of_this_machine]
        (made / "scene.json").write_text(json.dumps(about))


def write_task(file: Path, task: ClipTask) -> None:
    """The stage of a clip: what its seed makes of model, motion and camera."""
    rng = np.random.default_rng([task.seed, SPLITS.index(task.split), task.index])
    model = draw_model(task.kind, rng)
    motion = draw_motion(model, task.frames, rng)
    bounds = model.bounds([model.transforms(values) for values in motion])
    target = bounds.mean(0)
    # The sphere around all that it reaches fits into the picture.
    distance = 1.05 * float(np.linalg.norm(np.ptp(bounds, axis=0))) / 2 / np.sin(np.radians(FIELD_OF_VIEW) / 2)
    write_clip(file, model, motion, target + distance * _directions(task.frames, rng), target, FIELD_OF_VIEW)


def _directions(frames: int, rng: np.random.Generator) -> np.ndarray:
    """(frames, 3) unit vectors to the camera: it goes round the front by up to 120 degrees, and up or down."""
    start, end = rng.choice([-1, 1]) * rng.uniform(30, 60, 2) * [1, -1]
    turn = np.radians(np.linspace(start, end, frames) - 90)
    low, high = rng.uniform(10, 45, 2)
    height = np.radians(np.linspace(low, high, frames))
    return np.stack([np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)], -1)
