"""Published weights as the start of training: Stable Diffusion and DINO (Neural USD, section 3.5 and appendix C).

Read are a Stable Diffusion's `unet`, `vae` and `scheduler` in diffusers' folder format, and a DINO in transformers'.
The text encoder and what else a folder holds are left alone: asset tokens take the text's place. Both encoders start
from the same DINO.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError

from ..errors import BackendError
from ..pipelines.render import NeuralUSDPipeline
from .config import RenderTrainingConfig

DINO_TYPES = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
# Entries of a transformers configuration that say where weights come from, not what they are.
_NOT_ARCHITECTURE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
# Weights of DINO that tokens do not depend on; not every copy has them.
_UNUSED = ("pooler.", "mask_token")


def with_published(config: RenderTrainingConfig, diffusion: str | None, dino: str | None) -> RenderTrainingConfig:
    """The configuration with the architecture of published weights, for `build_pipeline`; no weights are read.

    The denoiser, autoencoder and scheduler (its prediction type with it) become those of `diffusion`, cross-attention
    as wide as its text was, and the encoders those of `dino`.

    Args:
        diffusion, dino: hub ids or folders; None leaves the configuration's own.

    Raises:
        BackendError: they are missing, damaged, or models of another kind.
    """
    if diffusion is not None:
        config = _with_diffusion(config, diffusion)
    if dino is not None:
        config = _with_dino(config, dino)
    return config


def load_published(pipeline: NeuralUSDPipeline, diffusion: str | None, dino: str | None) -> None:
    """Loads published weights into a pipeline built of `with_published`. Where tokens land, the denoiser's input
    channels for them start at zero.

    Raises:
        BackendError: there are no safetensors, they are damaged or incomplete, or hold what is no number.
    """
    if diffusion is not None:
        _check_folder(diffusion, ("unet", "vae"), "diffusers")
        for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
            weights = _loaded(f"{diffusion}/{part}", _from_pretrained(kind, diffusion, subfolder=part))
            if part == "unet":
                weights["conv_in.weight"] = _widened(weights["conv_in.weight"], pipeline.unet.config.in_channels)
            _into(getattr(pipeline, part), weights, f"{diffusion}/{part}")
    if dino is not None:
        from transformers import AutoModel

        _check_folder(dino, (".",), "transformers")
        weights = _loaded(dino, _from_pretrained(AutoModel, dino))
        for encoder in (pipeline.appearance_encoder, pipeline.geometry_encoder):
            _into(encoder.backbone, weights, dino)


def _with_diffusion(config: RenderTrainingConfig, diffusion: str) -> RenderTrainingConfig:
    _check_folder(diffusion, ("unet", "vae"), "diffusers", weights=False)
    unet = _config(diffusion, lambda: UNet2DConditionModel.load_config(diffusion, subfolder="unet"))
    vae = _config(diffusion, lambda: AutoencoderKL.load_config(diffusion, subfolder="vae"))
    scheduler = _config(diffusion, lambda: DDIMScheduler.load_config(diffusion, subfolder="scheduler"))
    latents = vae.get("latent_channels", 4)
    if unet.get("in_channels", 4) != latents or unet.get("out_channels", 4) != latents:
        raise BackendError(
            f"{diffusion}: its denoiser takes {unet.get('in_channels', 4)} channels and gives "
            f"{unet.get('out_channels', 4)}, its latents have {latents}; take the plain text-to-image model, not one "
            "for inpainting, depth or upscaling"
        )
    also = [name for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type") if unet.get(name)]
    if also or not isinstance(unet.get("cross_attention_dim"), int):
        raise BackendError(
            f"{diffusion}: its denoiser is conditioned on more than one text by cross-attention "
            f"({', '.join(also) or 'cross_attention_dim'}); take Stable Diffusion 1 or 2"
        )
    ours = ("sample_size", "in_channels", "out_channels", "cross_attention_dim")
    return replace(
        config,
        unet={name: value for name, value in _arguments(UNet2DConditionModel, unet).items() if name not in ours},
        vae={name: value for name, value in _arguments(AutoencoderKL, vae).items() if name != "sample_size"},
        scheduler={"clip_sample": False, **_arguments(DDIMScheduler, scheduler)},
        asset_tokenizer={**config.asset_tokenizer, "cross_attention_dim": unet["cross_attention_dim"]},
    )


def _with_dino(config: RenderTrainingConfig, dino: str) -> RenderTrainingConfig:
    from transformers import AutoConfig

    _check_folder(dino, (".",), "transformers", weights=False)
    found = _config(dino, lambda: AutoConfig.from_pretrained(dino, trust_remote_code=False))
    if found.model_type not in DINO_TYPES:
        raise BackendError(f"{dino} is a {found.model_type}, not a DINO; its model_type has to be of {DINO_TYPES}")
    crop_size = config.encoder.get("crop_size", 224)
    if crop_size % found.patch_size:
        raise BackendError(
            f"{dino}: its patches of {found.patch_size} pixels do not divide the crops' {crop_size}; set the encoder's "
            "`crop_size` in a configuration file to a multiple"
        )
    values = {name: value for name, value in found.to_diff_dict().items() if name not in _NOT_ARCHITECTURE}
    encoder = {
        "dino": {**values, "model_type": found.model_type},
        "crop_size": crop_size,
        "identifier": f"neuralusd/{Path(dino).name}",
    }
    return replace(config, encoder=encoder, geometry_dim=None)


def _check_folder(name: str, parts: tuple[str, ...], library: str, *, weights: bool = True) -> None:
    """Raises BackendError where `name` can be no hub id, or is a folder without the parts' configuration and
    safetensors."""
    folder = Path(name)
    cure = f"give a folder that {library}' save_pretrained wrote, or an id of the hub (owner/name)"
    if folder.is_file():
        raise BackendError(f"{name} is a file; {cure}")
    if not folder.is_dir():
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise BackendError(f"{name} is not a folder here; {cure}")
        return
    for part in parts:
        if not (folder / part / "config.json").is_file():
            raise BackendError(f"{name} has no {Path(part) / 'config.json'}; {cure}")
        if not weights or any((folder / part).glob("*.safetensors")):
            continue
        if any(file.suffix in (".bin", ".pt", ".pth", ".ckpt") for file in (folder / part).iterdir()):
            raise BackendError(
                f"{folder / part} has its weights only as pickle, which can run any code; neuralusd reads safetensors. "
                "Convert it where you trust it: from_pretrained(...).save_pretrained(...)"
            )
        raise BackendError(f"{folder / part} has no weights: there is no .safetensors file in it; {cure}")


def _config(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BackendError(f"the configuration of {name} cannot be read: {_reason(error)}{_cure(name)}") from error


def _arguments(kind: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What of a saved configuration a class is built with."""
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
    return {name: value for name, value in config.items() if name in known}


def _from_pretrained(kind: Any, name: str, **options: Any) -> Callable[[], tuple[torch.nn.Module, dict[str, Any]]]:
    return lambda: kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)


def _loaded(name: str, load: Callable[[], tuple[torch.nn.Module, dict[str, Any]]]) -> dict[str, torch.Tensor]:
    """Weights by name, every one of them of the file and finite."""
    try:
        module, info = load()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        raise BackendError(f"the weights of {name} cannot be read: {_reason(error)}{_cure(name)}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(_UNUSED) and "mask_token" not in key)
    if missing:
        raise BackendError(f"{name} lacks weights ({missing[0]} and {len(missing) - 1} more); fetch it again")
    weights = dict(module.state_dict())
    for key, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise BackendError(f"{name}: {key} holds what is no finite number; fetch it again")
    return weights


def _widened(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """A convolution's weight (O, I, kh, kw) with zeros for further input channels."""
    more = weight.new_zeros(weight.shape[0], channels - weight.shape[1], *weight.shape[2:])
    return torch.cat([weight, more], 1)


def _into(module: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    own = {key: value for key, value in weights.items() if not key.startswith(_UNUSED)}
    try:
        missing = module.load_state_dict(own, strict=False).missing_keys
    except RuntimeError as error:
        raise BackendError(f"{name} does not fit its own configuration: {_reason(error)}") from error
    if missing := [key for key in missing if not key.startswith(_UNUSED)]:
        raise BackendError(f"{name} does not fit its own configuration: {missing[0]} is missing")


def _cure(name: str) -> str:
    if Path(name).is_dir():
        return ""
    return ". Check the id, and that the hub can be reached; or give a folder with its files"


def _reason(error: Exception) -> str:
    lines = (line.strip().rstrip(".:") for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
