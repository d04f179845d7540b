"""Where the files of a verb go, checked before the work."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SceneError


def check_free(file: Path, overwrite: bool) -> None:
    """Raises SceneError where `file` is a folder, or is there and is not to be overwritten."""
    if file.is_dir():
        raise SceneError(f"{file} is a folder. Name a file in it.")
    if file.exists() and not overwrite:
        raise SceneError(f"{file} exists. Name another file, or ask for it to be overwritten (--overwrite).")


def sheet_target(sheet: str | os.PathLike[str] | None, overwrite: bool) -> Path | None:
    """Where a contact sheet goes; None where none is asked for. Raises SceneError where it is no .png, or not free."""
    if sheet is None:
        return None
    path = Path(os.path.abspath(sheet))
    if path.suffix.lower() != ".png":
        raise SceneError(f"{sheet} cannot be written: a contact sheet is a PNG. Name it so.")
    check_free(path, overwrite)
    return path
