"""Other people's datasets as worlds: each scene a USD stage with its frames beside it, as in the furniture world.

A reader (`movi_e`, `egotracks`, ...) turns the files of a dataset into `ImportedScene`s; `import_dataset` writes them.
A module of this folder that has a `READER` and is named in `MODULES` is a kind of `neuralusd data import`.
"""

from __future__ import annotations

import importlib
import importlib.util

from .scene import (
    DatasetError,
    DatasetWarning,
    ImportedCamera,
    ImportedFrame,
    ImportedObject,
    ImportedScene,
    Reader,
    SceneReference,
)

__all__ = [
    "DatasetError",
    "DatasetWarning",
    "ImportedCamera",
    "ImportedFrame",
    "ImportedObject",
    "ImportedScene",
    "Reader",
    "SceneReference",
    "readers",
]

MODULES = ("movi_e", "objectron", "waymo", "egotracks")


def readers() -> dict[str, Reader]:
    """Kind to reader, of all that there are."""
    found = {}
    for name in MODULES:
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            reader: Reader = importlib.import_module(f"{__name__}.{name}").READER
            found[reader.kind] = reader
    return found
