"""Low-rank adapters of a denoiser (Hu et al., 2021), by peft: all that is trained of a pipeline, and all that ships."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE

from ..backends import ADAPTERS_FILE
from ..pipelines.render import NeuralUSDPipeline
from .model import TRAINED

# The folder beside a run's whole pipeline that has them alone.
ADAPTERS = "adapters"


def add_adapters(pipeline: NeuralUSDPipeline, configuration: dict[str, Any]) -> None:
    """Adds adapters that change nothing yet; nothing else has gradients any more.

    Args:
        configuration: of peft's `LoraConfig`.

    Raises:
        ValueError: the denoiser has no modules of the names that it says.
    """
    from peft import LoraConfig

    given: dict[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value for key, value in configuration.items()
    }
    for name in TRAINED:
        getattr(pipeline, name).requires_grad_(False)
    pipeline.unet.add_adapter(LoraConfig(**given))


def save_adapters(pipeline: NeuralUSDPipeline, base: str, base_revision: str, folder: Path) -> None:
    """Saves the adapters as half-precision safetensors, and then makes them a part of the denoiser.

    Args:
        base: the backend that they belong to, by its name where it has one. base_revision: its revision.
    """
    whole = pipeline.unet.dtype
    pipeline.unet.to("cpu", torch.float16, memory_format=torch.contiguous_format).save_lora_adapter(folder)
    digest = hashlib.sha256(base_revision.encode() + (folder / LORA_WEIGHT_NAME_SAFE).read_bytes()).hexdigest()[:12]
    about = {"base": base, "base_revision": base_revision, "revision": digest}
    (folder / ADAPTERS_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    pipeline.unet.to(whole)
    pipeline.unet.fuse_lora()
    pipeline.unet.unload_lora()
