"""The stages that come along: three rooms and a figure that moves, with a picture of each by Cycles beside them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

STAGES = Path(__file__).parent / "stages"
ROOMS = ("room", "chairs", "planks")
# Pixels of their pictures, width and height.
SIZE = (768, 512)


def copy_stages(folder: str | Path, names: Sequence[str] = ROOMS) -> list[Path]:
    """Copies stages by name, their pictures, assets and textures to `folder`; returns the stages' paths there.

    A stage `room.usda` has its picture in `room.jpg`.
    """
    folder = Path(folder)
    for shared in ("assets", "textures"):
        shutil.copytree(STAGES / shared, folder / shared, dirs_exist_ok=True)
    for name in names:
        for suffix in (".usda", ".jpg"):
            shutil.copyfile(STAGES / f"{name}{suffix}", folder / f"{name}{suffix}")
    return [folder / f"{name}.usda" for name in names]
