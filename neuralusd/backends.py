"""Where weights come from: a name, a folder, or a hub id (design decision: one pipeline, many weights)."""

from __future__ import annotations

import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import weights
from .errors import BackendError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from .pipelines.render import NeuralUSDPipeline

PipelineType = TypeVar("PipelineType", bound="DiffusionPipeline")

DEFAULT_BACKEND = "mini"
SHIPPED = {DEFAULT_BACKEND: weights.mini, "mini-rooms": weights.mini_rooms}
# In a folder of adapters: the backend that they belong to, its revision, and their own.
ADAPTERS_FILE = "adapters.json"
_GROUP = "neuralusd.backends"


def find_backend(backend: str | Path = DEFAULT_BACKEND) -> str:
    """The folder or hub id of a backend.

    A backend is a folder in diffusers' format, one of adapters (`neuralusd.training.adapters`), a name that a package
    registered in the entry point group `neuralusd.backends` (its value is a module or a function that gives a folder),
    or a hub id of the form "owner/name".

    Raises:
        BackendError: lists the names there are.
    """
    text = str(backend)
    registered = {entry.name: entry for entry in importlib.metadata.entry_points(group=_GROUP)}
    if text in registered:
        target = registered[text].load()
        return str(target()) if callable(target) else str(Path(target.__file__).parent)
    if text in SHIPPED:  # in a checkout that is not installed there are no entry points
        return str(SHIPPED[text]())
    if Path(text).is_dir():
        return text
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return text
    names = ", ".join(sorted({*SHIPPED, *registered}))
    raise BackendError(f"'{text}' is no backend: no folder of this name, and the registered ones are {names}")


def load_backend(backend: str | Path = DEFAULT_BACKEND, device: str | None = None) -> NeuralUSDPipeline:
    """The `render` pipeline of a backend, on `device` ("cpu", "cuda", ...; None takes the GPU where there is one).

    The pipeline stays loaded; asking again for the same backend costs nothing.

    Raises:
        BackendError: there are no weights, they are damaged, they are not safetensors, or they are of another kind.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return _load(find_backend(backend), device)


@lru_cache(maxsize=2)
def _load(location: str, device: str) -> NeuralUSDPipeline:
    import torch

    pipeline = _read(location, torch.float16 if device.startswith("cuda") else torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # Convolutions are a sixth faster so on a CPU, and on tensor cores.
    pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline.to(device)


def _read(location: str, dtype: torch.dtype) -> NeuralUSDPipeline:
    from .pipelines.render import NeuralUSDPipeline

    folder = Path(location)
    if (folder / ADAPTERS_FILE).is_file():
        return _with_adapters(folder, dtype)
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise BackendError(f"{folder} has no model_index.json, so it is not a folder of a diffusers pipeline")
    return read_pipeline(NeuralUSDPipeline, location, f"the backend '{location}'", dtype)


def _with_adapters(folder: Path, dtype: torch.dtype) -> NeuralUSDPipeline:
    """The pipeline that adapters were trained on, with them in its denoiser."""
    from safetensors import SafetensorError

    try:
        about = json.loads((folder / ADAPTERS_FILE).read_text(encoding="utf-8"))
        base, of, revision = (str(about[key]) for key in ("base", "base_revision", "revision"))
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{folder / ADAPTERS_FILE} does not say what the adapters belong to: {error}") from error
    pipeline = _read(find_backend(base), dtype)
    if backend_revision(pipeline) != of:
        raise BackendError(
            f"the adapters in {folder} belong to revision '{of}' of '{base}', here is '{backend_revision(pipeline)}'; "
            "train them on it (neuralusd train --config mini-rooms --initial), or install their neuralusd"
        )
    try:
        pipeline.unet.load_lora_adapter(folder, prefix=None, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BackendError(f"the adapters in {folder} cannot be loaded: {error}") from error
    pipeline.unet.fuse_lora()
    pipeline.unet.unload_lora()
    pipeline.register_to_config(revision=revision)
    return pipeline


def read_pipeline(kind: type[PipelineType], location: str, what: str, dtype: torch.dtype) -> PipelineType:
    """A pipeline of diffusers, from a folder or a hub id, of safetensors alone.

    Raises:
        BackendError: `what` cannot be loaded, and why.
    """
    from diffusers.utils import logging
    from safetensors import SafetensorError

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return kind.from_pretrained(location, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise BackendError(
            f"{what} cannot be loaded: {error}. neuralusd loads safetensors in diffusers' folder format only; if these "
            "weights came along with it, install neuralusd again"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def backend_revision(pipeline: NeuralUSDPipeline) -> str:
    """What identifies the weights of a loaded pipeline, for an image's metadata."""
    return str(pipeline.config.revision)
