"""The furniture world: rooms with furniture as USD stages, with frames rendered by Blender's Cycles beside them.

    python -m neuralusd.datasets.furniture_world --out DIR --scenes 100 --held-out-scenes 20 --held-out-models 20

A folder of the world holds `assets/` (the library), `textures/` and `scenes/<split>/<scene>/`; see
`neuralusd.datasets.world` for reading it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralusd.datasets import furniture_assets
from neuralusd.datasets.furniture_assets import FurnitureAsset
from neuralusd.datasets.whole import begin_split, whole_folder

TRAIN, HELD_OUT_SCENES, HELD_OUT_MODELS = "train", "held_out_scenes", "held_out_models"
# the order decides the seeds and what is rendered first
SPLITS = (HELD_OUT_SCENES, HELD_OUT_MODELS, TRAIN)
TEXTURES = 240


@dataclass(frozen=True)
class SceneTask:
    """What a worker needs to make one scene."""

    out: str
    library: str
    split: str
    index: int
    seed: int
    resolution: int
    samples: int
    threads: int

    @property
    def scene_id(self) -> str:
        return f"{self.split}_{self.index:05d}"

    @property
    def folder(self) -> Path:
        return Path(self.out, "scenes", self.split, self.scene_id)


def make_furniture_world(
    out: str | os.PathLike,
    scenes: int = 100,
    held_out_scenes: int = 20,
    held_out_models: int = 20,
    furniture: str | os.PathLike = furniture_assets.DEBIAN_FURNITURE,
    workers: int = 2,
    seed: int = 0,
    resolution: int = 128,
    samples: int = 8,
    progress: bool = True,
) -> dict[str, int]:
    """Make, or go on making, a furniture world.

    A scene appears in its place only when it is whole, so a run that was killed is taken up where it was. A
    scene whose worker crashes is left out and recorded in `failed.jsonl`.

    Args:
        out: folder of the world.
        scenes, held_out_scenes, held_out_models: how many of each split: scenes to train on; new scenes of
            the same models; scenes of models that no other scene shows.
        furniture: folder of `.sh3f` catalogues, or of USD assets.
        workers: processes.
        seed: with the split and the scene's number it decides the scene.
        resolution: width and height of the frames in pixels.
        samples: Cycles' samples a pixel.

    Returns:
        split to the number of its scenes that are there now.

    Raises:
        FileNotFoundError: no furniture; the message names the Debian package.
        ImportError: no `bpy`.
        ValueError: too few models for a split.
    """
    from neuralusd.datasets.workers import run_tasks

    require_bpy()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    library, assets = library_of(Path(furniture), folder, progress)
    counts = {TRAIN: scenes, HELD_OUT_SCENES: held_out_scenes, HELD_OUT_MODELS: held_out_models}
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = []
    for split in SPLITS:
        if counts[split] and not _of_split(assets, split):
            raise ValueError(
                f"no model of {len(assets)} falls into the split {split!r}; add assets, or ask for 0 of its scenes"
            )
        begin_split(folder / "scenes" / split)
        for index in range(counts[split]):
            task = SceneTask(str(folder), str(library), split, index, seed, resolution, samples, threads)
            if not task.folder.exists():
                tasks.append(task)
    run_tasks(make_scene, tasks, workers, folder / "failed.jsonl", "scenes" if progress else "")
    return {split: len(list((folder / "scenes" / split).glob(f"{split}_*"))) for split in SPLITS}


def make_scene(task: SceneTask) -> None:
    """Make one scene: lay it out, write its stage, render its frames, and move it into its place."""
    from neuralusd.datasets.cycles import render_frames, silent_blender
    from neuralusd.datasets.furniture_layout import FRAMES, aim_camera, move_some, place_on_floor
    from neuralusd.datasets.furniture_physics import add_carried, settle
    from neuralusd.datasets.furniture_stage import random_tint, write_stage
    from neuralusd.datasets.furniture_textures import texture_names

    rng = np.random.default_rng([task.seed, SPLITS.index(task.split), task.index])
    library = Path(task.library)
    assets = _of_split(furniture_assets.open_library(library), task.split)
    with silent_blender():
        for _ in range(20):
            layout = place_on_floor(assets, rng)
            if layout.style != "furniture" and rng.uniform() < 0.4:
                for placement in layout.placements:
                    placement.rotate[:, :2] += rng.uniform(-6, 6, 2)
                    placement.rest()
                    placement.translate[:, 2] += 0.03 * layout.unit
                    placement.dropped = True
            elif layout.style == "furniture" or rng.uniform() < 0.6:
                add_carried(layout, assets, library, rng)
            settle(layout, library)
            if len(layout.placements) >= 2:
                break
        else:
            raise ValueError("no layout with two objects that stay where they are")
    for placement in layout.placements:
        if rng.uniform() < 0.3:
            placement.tint = random_tint(rng)
    move_some(layout, rng)
    aim_camera(layout, rng)

    textures = [Path(task.out, "textures", name) for name in texture_names(TEXTURES)]
    with whole_folder(task.folder) as made:
        write_stage(made / "scene.usda", layout, library, textures, rng)
        render_frames(
            made / "scene.usda",
            range(1, FRAMES + 1),
            task.resolution,
            made,
            camera="/World/Camera",
            samples=task.samples,
            threads=task.threads,
            seed=task.index,
        )
        about = {
            "split": task.split,
            "seed": [task.seed, SPLITS.index(task.split), task.index],
            "style": layout.style,
            "frames": list(range(1, FRAMES + 1)),
            "assets": [p.asset.id for p in layout.placements],
            "moves": [p.moves for p in layout.placements],
        }
        (made / "scene.json").write_text(json.dumps(about))


def require_bpy() -> None:
    """Raise ImportError with the cure where Blender is not there as a module."""
    import importlib.util

    if importlib.util.find_spec("bpy") is None:
        raise ImportError("rendering needs Blender as a Python module: pip install 'neuralusd[blender]'")


def _of_split(assets: list[FurnitureAsset], split: str) -> list[FurnitureAsset]:
    return [a for a in assets if a.held_out == (split == HELD_OUT_MODELS)]


def library_of(furniture: Path, out: Path, progress: bool) -> tuple[Path, list[FurnitureAsset]]:
    """The folder of the assets, and the assets; catalogues are converted into `out` first."""
    usd = furniture.is_dir() and not any(furniture.glob("*.sh3f"))
    if usd and furniture != furniture_assets.DEBIAN_FURNITURE:
        return furniture.resolve(), furniture_assets.open_library(furniture)
    return (out / "assets").resolve(), furniture_assets.convert_catalogs(furniture, out / "assets", progress=progress)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m neuralusd.datasets.furniture_world", description=__doc__)
    parser.add_argument("--out", required=True, help="folder of the world; an unfinished one is taken up")
    parser.add_argument("--scenes", type=int, default=100, help="scenes to train on")
    parser.add_argument("--held-out-scenes", type=int, default=20, help="new scenes of the same models")
    parser.add_argument("--held-out-models", type=int, default=20, help="scenes of models no other scene shows")
    parser.add_argument(
        "--furniture", default=str(furniture_assets.DEBIAN_FURNITURE), help="folder of .sh3f files or of USD assets"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resolution", type=int, default=128, help="pixels of a frame's side")
    parser.add_argument("--samples", type=int, default=8, help="Cycles' samples a pixel")
    given = vars(parser.parse_args(arguments))
    try:
        there = make_furniture_world(**given)
    except (FileNotFoundError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(", ".join(f"{count} {split}" for split, count in there.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
