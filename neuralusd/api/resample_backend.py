"""The weights of `resample`: a prior over scene latents and its codecs."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends import DEFAULT_BACKEND, read_pipeline
from ..errors import BackendError

if TYPE_CHECKING:
    from ..pipelines.resample import ResamplePipeline

MINI_FOLDER = Path(__file__).parents[1] / "weights" / "mini_rooms"


def open_prior(backend: str | Path | None = None) -> ResamplePipeline:
    """The pipeline of a backend, which stays loaded.

    Args:
        backend: "mini" (None is the same), a folder in diffusers' format, or a hub id.

    Raises:
        BackendError: there is no such backend, it has no prior over scenes, or its weights cannot be loaded.
    """
    name = str(DEFAULT_BACKEND if backend is None else backend)
    if name == DEFAULT_BACKEND:
        if not (MINI_FOLDER / "model_index.json").is_file():
            raise BackendError(
                f"no weights of resample's prior are in {MINI_FOLDER}. They come along with neuralusd: install it "
                "again, or train some with `neuralusd train --config prior-mini`, and name their folder (--backend)"
            )
        return _load(str(MINI_FOLDER))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.count("/") == 1 and not name.startswith((".", "/", "~")):
            return _load(name)
        raise BackendError(
            f"'{name}' is no backend of resample: no folder of this name. Name a folder that `neuralusd train` wrote, "
            f"a hub id, or {DEFAULT_BACKEND}"
        )
    try:
        kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    except FileNotFoundError:
        kind = None
    except (OSError, ValueError, AttributeError) as error:
        raise BackendError(f"{folder / 'model_index.json'} cannot be read: {error}") from error
    if kind != "ResamplePipeline":
        holds = f"a {kind}" if kind else "no diffusers pipeline"
        raise BackendError(
            f"{folder} holds {holds}, and no prior over scenes, so it cannot resample. Name the folder of a "
            "ResamplePipeline"
        )
    return _load(str(folder))


@lru_cache(maxsize=2)
def _load(location: str) -> ResamplePipeline:
    import torch

    from ..pipelines.resample import ResamplePipeline

    pipeline = read_pipeline(ResamplePipeline, location, f"the prior in '{location}'", torch.float32)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
