"""Files that commands are to write: whether they can be, and the names of numbered ones."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .console import CommandError


def check_output(path: str | Path) -> None:
    """Raises CommandError where nothing can be written at `path`: before the work, not after it."""
    path = Path(path)
    if path.is_dir():
        raise CommandError(f"{path} is a folder. Name a file in it.")
    check_folder(path.parent)


def check_folder(path: str | Path) -> None:
    """Raises CommandError where no folder can be made at `path`, or nothing can be written in it."""
    folder = Path(os.path.abspath(path))
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise CommandError(f"{folder} is a file, so nothing can be written in it. Name another folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"{folder} cannot be written to. Correct its permissions, or name another folder with -o.")


def frame_path(output: Path, frame: float, several: bool) -> Path:
    """Where the image of a frame goes: `out.png` as it is for one frame, `out.0001.png` for several.

    `####` or `%04d` in the file's name stands for the frame; `####.##` for one with two decimals.

    Raises:
        CommandError: the frame is not whole, and the name has no place for decimals.
    """
    name = output.name
    whole = float(frame).is_integer()
    if found := re.search(r"(#+)(?:\.(#+))?", name):
        digits, decimals = len(found[1]), len(found[2] or "")
        if not whole and not decimals:
            raise CommandError(f"frame {frame:g} is not whole, so {name} needs a place for decimals, as in ####.###")
        width = digits + decimals + 1 if decimals else digits
        return output.with_name(f"{name[: found.start()]}{frame:0{width}.{decimals}f}{name[found.end() :]}")
    if found := re.search(r"%(0?\d*)d", name):
        if not whole:
            raise CommandError(f"frame {frame:g} is not whole, so {name} has to be written with ####.###")
        return output.with_name(f"{name[: found.start()]}{int(frame):{found[1]}d}{name[found.end() :]}")
    if not several:
        return output
    number = f"{int(frame):04d}" if whole else f"{frame:08.3f}"
    return output.with_name(f"{output.stem}.{number}{output.suffix}")


def json_object(path: str) -> dict[str, Any]:
    """What a .json file holds; empty where it is no such file, or holds no object: what reads it next says so."""
    if not path.endswith(".json"):
        return {}
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
