"""Reading a world, of furniture or imported: scenes of a split, and of each frame image, depth, ids and prim paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralusd.datasets.cycles import FramePasses, frame_name


@dataclass(frozen=True)
class SceneFolder:
    """One scene: a stage, and its frames beside it."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def stage_path(self) -> Path:
        return self.path / "scene.usda"

    @property
    def about(self) -> dict[str, Any]:
        """What the generator or the importer wrote down; `frames` at least."""
        return json.loads((self.path / "scene.json").read_text())

    @property
    def frames(self) -> tuple[int, ...]:
        """Time codes of the stage that there are pictures of."""
        return tuple(self.about["frames"])

    def rgb_path(self, frame: float) -> Path:
        return self.path / f"rgb.{frame_name(frame)}.png"

    def passes_path(self, frame: float) -> Path:
        return self.path / f"passes.{frame_name(frame)}.npz"

    def read(self, frame: float) -> FramePasses:
        """Image, depth, ids and prim paths of a frame.

        Raises:
            FileNotFoundError: the frame has not been rendered; the message lists those that have.
        """
        import PIL.Image

        if not self.rgb_path(frame).exists():
            raise FileNotFoundError(
                f"{self.path} has no rendered frame {frame}; it has: {', '.join(map(str, self.frames))}"
            )
        with PIL.Image.open(self.rgb_path(frame)) as image:
            rgb = np.asarray(image.convert("RGB"))
        with np.load(self.passes_path(frame)) as passes:
            return FramePasses(rgb, passes["depth"], passes["ids"], tuple(passes["paths"].tolist()))

    def open_stage(self) -> Any:
        """The scene as a Usd.Stage."""
        from pxr import Usd

        return Usd.Stage.Open(str(self.stage_path))


@dataclass(frozen=True)
class World:
    """The scenes of one split, in a fixed order; a sequence."""

    path: Path
    split: str
    scenes: tuple[SceneFolder, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> SceneFolder:
        return self.scenes[index]

    def __iter__(self) -> Iterator[SceneFolder]:
        return iter(self.scenes)

    def frames(self) -> Iterator[tuple[SceneFolder, int]]:
        """Every (scene, frame)."""
        for scene in self.scenes:
            for frame in scene.frames:
                yield scene, frame


def open_world(folder: str | os.PathLike, split: str = "train") -> World:
    """The scenes of a split that are complete now; a world may be read while it is being made.

    Args:
        folder: what `neuralusd data furniture --out` or `neuralusd data import --out` made.
        split: "train", "held_out_scenes" or "held_out_models".

    Raises:
        FileNotFoundError: no such world or split, or the split has no scene yet.
    """
    root = Path(folder) / "scenes"
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    if split not in there:
        raise FileNotFoundError(
            f"{folder} has no split {split!r}; it has: {', '.join(there) or 'no scenes at all'}. "
            "`neuralusd data furniture --out DIR` makes a world, `neuralusd data import` makes one of a dataset"
        )
    found = (p for p in sorted((root / split).iterdir()) if not p.name.startswith(".") and p.is_dir())
    scenes = tuple(SceneFolder(p) for p in found)
    if not scenes:
        raise FileNotFoundError(f"the split {split!r} of {folder} has no complete scene yet")
    return World(Path(folder), split, scenes)
