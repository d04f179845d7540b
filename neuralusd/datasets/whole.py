"""Folders of a world that appear in their place only when they are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".making-"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to write to, so that relative paths hold, which takes its place at the end.

    Where something fails, nothing is left of it.
    """
    made = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{folder.name}-", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)
        # A worker that outlived a killed run may have been quicker; it made the same.
        if not folder.exists():
            os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def begin_split(folder: Path, name: str = "") -> None:
    """Makes a split's folder, and removes what killed runs left unfinished in it: of the folder `name`, or of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(f"{_UNFINISHED}{name}-*" if name else f"{_UNFINISHED}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
