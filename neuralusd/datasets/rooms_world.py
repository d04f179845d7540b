"""A world of furnished rooms: the stages of `rooms`, each with frames rendered by Blender's Cycles beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import furniture_assets
from .furniture_assets import FurnitureAsset
from .furniture_world import HELD_OUT_MODELS, HELD_OUT_SCENES, SPLITS, TRAIN, library_of, require_bpy
from .rooms import BEDROOM, NEEDED, RULES, other_views, sample_room
from .rooms_models import models_of
from .whole import begin_split, whole_folder


@dataclass(frozen=True)
class RoomTask:
    """What a worker needs to make one room."""

    out: str
    library: str
    split: str
    index: int
    kind: str
    seed: int
    resolution: int
    samples: int
    threads: int
    frames: int = 1

    @property
    def folder(self) -> Path:
        return Path(self.out, "scenes", self.split, f"{self.split}_{self.index:05d}")


def make_rooms(
    out: str | os.PathLike,
    rooms: int = 200,
    held_out_rooms: int = 32,
    held_out_models: int = 32,
    kinds: Sequence[str] = (BEDROOM,),
    furniture: str | os.PathLike = furniture_assets.DEBIAN_FURNITURE,
    workers: int = 2,
    seed: int = 0,
    resolution: int = 128,
    samples: int = 16,
    progress: bool = True,
    frames: int = 1,
) -> dict[str, int]:
    """Makes, or goes on making, a world of rooms. A room appears in its place only when it is whole.

    Args:
        out: folder of the world.
        rooms, held_out_rooms, held_out_models: how many of each split: rooms to train on; new rooms of the same models;
            rooms of models that no other room shows, as far as there are such of each role.
        kinds: "bedroom", "living room", "dining room"; they take turns.
        furniture: folder of `.sh3f` catalogues, or of USD assets.
        workers: processes. seed: with the split and the room's number it decides the room.
        resolution: width and height of the pictures. samples: Cycles' samples a pixel.
        frames: pictures of a room; from the second on its camera is elsewhere, and all else as it is.

    Returns:
        split to the number of its rooms that are there now.

    Raises:
        FileNotFoundError: no furniture; the message names the Debian package. ImportError: no `bpy`.
        ValueError: no such kind, or no model of the library is what a kind needs.
    """
    from .workers import run_tasks

    if unknown := [kind for kind in kinds if kind not in RULES]:
        raise ValueError(f"there are no rooms of kind '{unknown[0]}'; there are {', '.join(RULES)}")
    require_bpy()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    library, assets = library_of(Path(furniture), folder, progress)
    counts = {TRAIN: rooms, HELD_OUT_SCENES: held_out_rooms, HELD_OUT_MODELS: held_out_models}
    _check(assets, counts, kinds)
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = []
    for split in SPLITS:
        begin_split(folder / "scenes" / split)
        for index in range(counts[split]):
            kind = kinds[index % len(kinds)]
            task = RoomTask(str(folder), str(library), split, index, kind, seed, resolution, samples, threads, frames)
            if not task.folder.exists():
                tasks.append(task)
    run_tasks(make_room, tasks, workers, folder / "failed.jsonl", "rooms" if progress else "")
    return {split: len(list((folder / "scenes" / split).glob(f"{split}_*"))) for split in SPLITS}


def _check(assets: list[FurnitureAsset], counts: dict[str, int], kinds: Sequence[str]) -> None:
    for split, wanted in counts.items():
        for kind in kinds:
            if wanted and NEEDED[kind] not in models_of(assets, split):
                raise ValueError(
                    f"no model of {len(assets)} is a {NEEDED[kind]} for a {kind} of the split {split!r}, by its name "
                    "and size; add one to the library, or ask for other kinds"
                )
    there = models_of(assets, HELD_OUT_MODELS).by_role.values()
    if counts[HELD_OUT_MODELS] and not any(model.asset.held_out for found in there for model in found):
        raise ValueError(
            f"no model of {len(assets)} that a room could hold falls into the split {HELD_OUT_MODELS!r}; "
            "add assets, or ask for 0 of its rooms"
        )


def make_room(task: RoomTask) -> None:
    """Samples one room, writes its stage, renders it, and moves it into its place."""
    from .cycles import render_frames
    from .rooms_stage import write_room

    numbers = [task.seed, SPLITS.index(task.split), task.index]
    library = Path(task.library)
    assets = furniture_assets.open_library(library)
    room = sample_room(assets, np.random.default_rng(numbers), task.kind, task.split)
    others = other_views(room, task.frames - 1, np.random.default_rng([*numbers, 1]))
    times = list(range(1, task.frames + 1))
    with whole_folder(task.folder) as made:
        stage = made / "scene.usda"
        write_room(stage, room, library, Path(task.out, "textures"), others)
        render_frames(
            stage,
            times,
            task.resolution,
            made,
            camera="/Room/Camera",
            samples=task.samples,
            threads=task.threads,
            seed=task.index,
        )
        about = {
            "split": task.split,
            "seed": numbers,
            "kind": room.kind,
            "frames": times,
            "assets": [thing.asset.id for thing in room.objects],
            "objects": [f"/Room/{name}" for name in room.names],
            "lit_lamps": [f"/Room/{n}" for n, thing in zip(room.names, room.objects, strict=True) if thing.glow],
            "evening": room.evening,
            "camera_to_room": room.camera_to_room.tolist(),
            "floor": room.floor.tolist(),
        }
        (made / "scene.json").write_text(json.dumps(about))
