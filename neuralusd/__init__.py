"""Neural rendering and editing of USD stages: image = Decode(Edit(stage)).

Importing this registers the neural schemas with USD, so import it before the first stage is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

from neuralusd._version import __version__

# The public functions live in neuralusd.api, which imports far more than USD; they load on first use.
_API = ("encode", "render", "edit", "resample", "lift")

__all__ = ["__version__", *_API]


def _register_schema() -> None:
    if importlib.util.find_spec("pxr") is None:  # neuralusd.scene and the models work without USD
        return
    from neuralusd.schema.plugin import register

    try:
        register()
    except RuntimeError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=3)


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module("neuralusd.api"), name)
    raise AttributeError(f"module 'neuralusd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


_register_schema()
