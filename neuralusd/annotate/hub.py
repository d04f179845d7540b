"""Loading detectors, segmenters and depth models with transformers: safetensors only, and no code from a download."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import ModelError

# What to do when a model cannot be had, by role.
OTHERWISE = {
    "detector": "give a local folder of the model, or the masks that you have (--mask)",
    "segmenter": "give a local folder of the model, or the masks that you have (--mask)",
    "depth model": "give a local folder of the model, or the depth that you have (--depth)",
    "background encoder": "give a local folder of the model",
    "tracker": "give a local folder of the model, or none: masks are then followed by their overlap",
}

# What has been loaded, by role and name, within `models_kept`.
_kept: ContextVar[dict[tuple, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def models_kept() -> Iterator[None]:
    """Within it a model is loaded once, however often it is asked for: for the many frames of a video."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def _once(key: tuple, load: Callable[[], Any]) -> Any:
    kept = _kept.get()
    if kept is None:
        return load()
    if key not in kept:
        kept[key] = load()
    return kept[key]


def pick_device(device: str | None) -> str:
    """`device`, or a GPU if torch sees one, or the CPU."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def load_config(name: str | os.PathLike, role: str) -> Any:
    """The configuration of a model, by hub id or local folder. Raises ModelError with a cure."""
    from transformers import AutoConfig

    _check_folder(name, role)
    return _once(("config", role, name), lambda: _load(AutoConfig, name, role, {}))


def load_model(auto_class: Any, name: str | os.PathLike, role: str, device: str | None) -> Any:
    """A model in evaluation mode, float32, on `device`. Raises ModelError with a cure."""
    import torch

    kwargs = {"use_safetensors": True, "dtype": torch.float32}
    key = ("model", role, name, auto_class, device)
    return _once(key, lambda: _load(auto_class, name, role, kwargs).to(pick_device(device)).eval())


def load_processor(name: str | os.PathLike, role: str, *, text: bool = False) -> Any:
    """What prepares images, and text where `text`, for a model. Raises ModelError with a cure."""
    return _once(("processor", role, name, text), lambda: _processor(name, role, text))


def _processor(name: str | os.PathLike, role: str, text: bool) -> Any:
    from transformers import AutoImageProcessor, AutoProcessor

    try:
        return _load(AutoProcessor if text else AutoImageProcessor, name, role, {})
    except ImportError as error:  # this model's processor exists only on torchvision, which may not be here
        if text:
            raise ModelError(f"the {role} {name} needs a package that is absent: {_first_line(error)}") from error
        return SquareImageProcessor(name, role)


class SquareImageProcessor:
    """What SAM 2, SAM 3 and Depth Pro do to an image, by the model's own numbers, where torchvision is not installed.

    The image is resized to the model's input size without keeping its aspect, and normalised.
    """

    def __init__(self, name: str | os.PathLike, role: str):
        from transformers.models.auto.image_processing_auto import get_image_processor_config

        config = get_image_processor_config(name)
        try:
            self.size = (config["size"]["height"], config["size"]["width"])
            self.mean, self.std = config["image_mean"], config["image_std"]
        except KeyError as error:
            raise ModelError(
                f"preparing images for the {role} {name} needs torchvision: install the one that fits your torch, "
                f"or {OTHERWISE[role]}"
            ) from error
        # Depth Pro was trained on images reduced without a filter.
        self.antialias = "DepthPro" not in config.get("image_processor_type", "")

    def __call__(self, images: Image.Image, return_tensors: str = "pt") -> dict[str, Any]:
        import torch
        import torch.nn.functional as F

        pixels = torch.from_numpy(np.asarray(images.convert("RGB"), dtype=np.float32) / 255.0).permute(2, 0, 1)[None]
        pixels = F.interpolate(pixels, self.size, mode="bilinear", antialias=self.antialias)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return {"pixel_values": (pixels - mean) / std}


def _check_folder(name: str | os.PathLike, role: str) -> None:
    """Raises ModelError for a name that means a local folder that is not there, or is not a model's."""
    text = os.fspath(name)
    folder = Path(text)
    if not folder.exists():
        if text.startswith((".", "~")) or folder.is_absolute() or text.count("/") > 1 or "\\" in text:
            raise ModelError(f"the {role} {text} is not a folder here, and is no id of the hub (owner/name)")
        return
    if not folder.is_dir():
        raise ModelError(f"the {role} {text} is a file; give the folder with its config.json and model.safetensors")
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"the {role} {text} has no config.json; give a folder that transformers' save_pretrained wrote"
        )
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt")):
        raise ModelError(
            f"the {role} {text} has its weights only as pickle, which can run any code; neuralusd reads safetensors. "
            "Convert it where you trust it: from_pretrained(...).save_pretrained(...)"
        )
    raise ModelError(f"the {role} {text} has no weights: there is no .safetensors file in it")


def _load(auto_class: Any, name: str | os.PathLike, role: str, kwargs: dict[str, Any]) -> Any:
    from safetensors import SafetensorError

    try:
        return auto_class.from_pretrained(os.fspath(name), trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        message = str(error)
        if "trust_remote_code" in message:
            reason = "it comes with its own code, which neuralusd does not run; take a model that transformers has"
        elif "safetensors" in message:
            reason = f"it has no safetensors weights, and neuralusd reads nothing else; {OTHERWISE[role]}"
        elif "Unrecognized configuration class" in message or "model type" in message:
            reason = f"it is not a {role} that transformers knows ({_first_line(error)})"
        elif Path(name).is_dir():
            reason = f"it does not load ({_first_line(error)})"
        else:
            reason = f"it cannot be had from the hub ({_first_line(error)}); {OTHERWISE[role]}"
        raise ModelError(f"the {role} {name}: {reason}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
