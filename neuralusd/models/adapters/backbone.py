"""The backbone that adapters are added to: a FLUX.2 Klein of diffusers, by hub id or folder, as it is published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from ...errors import BackendError

# Section 3.1: "FLUX.2-Klein-4B-base".
KLEIN = "black-forest-labs/FLUX.2-klein-base-4B"
# Its configuration, for those who ask before it is there; a folder's own is what counts.
KLEIN_TRANSFORMER: dict[str, Any] = {
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
PROMPT_LENGTH = 512
KIND = "a FLUX.2 Klein"


@dataclass
class Backbone:
    """What of a FLUX.2 draws: its denoiser, autoencoder and scheduler, frozen; `name`, where they are from."""

    transformer: Flux2Transformer2DModel
    vae: AutoencoderKLFlux2
    scheduler: FlowMatchEulerDiscreteScheduler
    name: str = ""


class EmptyPrompt(ModelMixin, ConfigMixin):
    """What FLUX.2's text encoder says of no words: (1, length, width), kept so that nobody has to load it again."""

    @register_to_config
    def __init__(self, length: int = PROMPT_LENGTH, width: int = 7680) -> None:
        super().__init__()
        self.embedding: torch.Tensor
        self.register_buffer("embedding", torch.zeros(1, length, width))

    @classmethod
    def of(cls, embedding: torch.Tensor) -> EmptyPrompt:
        """Of an embedding (1, length, width)."""
        prompt = cls(*embedding.shape[1:])
        prompt.embedding.copy_(embedding)
        return prompt


def load_backbone(name: str | Path = KLEIN, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """A FLUX.2 Klein's denoiser, autoencoder and scheduler, frozen, on the CPU; its text encoder is left alone.

    Raises:
        BackendError: it cannot be had, is of another kind, has guidance distilled into it, or is no safetensors.
    """
    name = str(name)
    _check_folder(name, ("transformer", "vae", "scheduler"))
    options = {"use_safetensors": True, "dtype": dtype}
    with as_backend_error(name, KIND):
        transformer = Flux2Transformer2DModel.from_pretrained(name, subfolder="transformer", **options)
        vae = AutoencoderKLFlux2.from_pretrained(name, subfolder="vae", **options)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(name, subfolder="scheduler")
    if transformer.config.guidance_embeds:
        raise BackendError(f"{name} has guidance distilled into it, so nothing can be left out of it; take {KLEIN}")
    channels = vae.config.latent_channels * vae.config.patch_size[0] * vae.config.patch_size[1]
    if transformer.config.in_channels != channels:
        raise BackendError(
            f"{name}: its denoiser takes {transformer.config.in_channels} channels, and its autoencoder makes "
            f"{channels}; these are of different models"
        )
    for module in (transformer, vae):
        module.eval().requires_grad_(False)
    return Backbone(transformer, vae, scheduler, name)


def load_empty_prompt(name: str | Path = KLEIN, *, dtype: torch.dtype = torch.float32) -> EmptyPrompt:
    """What a FLUX.2 Klein's text encoder says of no words, as its own pipeline asks it. Loads it, and lets it go.

    Raises:
        BackendError: as of `load_backbone`.
    """
    name = str(name)
    _check_folder(name, ("text_encoder", "tokenizer"))
    without = {"transformer": None, "vae": None, "scheduler": None}
    with as_backend_error(name, KIND), torch.no_grad():
        pipeline = Flux2KleinPipeline.from_pretrained(name, use_safetensors=True, dtype=dtype, **without)
        embedding, _ = pipeline.encode_prompt("", max_sequence_length=PROMPT_LENGTH)
    return EmptyPrompt.of(embedding)


def image_latents(vae: AutoencoderKLFlux2, images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) in -1..1 to latents (B, C, h, w) that the denoiser works on: patches of 2 x 2, normalised."""
    latents = Flux2KleinPipeline._patchify_latents(vae.encode(images.to(vae.dtype)).latent_dist.mode())
    mean, deviation = _statistics(vae)
    return (latents.float() - mean) / deviation


def latent_images(vae: AutoencoderKLFlux2, latents: torch.Tensor) -> torch.Tensor:
    """What `image_latents` is the way from: (B, 3, H, W) in -1..1."""
    mean, deviation = _statistics(vae)
    latents = Flux2KleinPipeline._unpatchify_latents(latents.float() * deviation + mean)
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()


def pixels_of_latent(vae: AutoencoderKLFlux2) -> int:
    """Pixels of an image's side that a latent's side is."""
    return 2 ** (len(vae.config.block_out_channels) - 1) * vae.config.patch_size[0]


def predict(
    transformer: Flux2Transformer2DModel, noisy: torch.Tensor, sigma: torch.Tensor, prompt: torch.Tensor
) -> torch.Tensor:
    """The denoiser's velocity, noise minus image, of noisy latents (B, C, h, w) at noise levels sigma (B,) in 0..1."""
    batch, _, rows, columns = noisy.shape
    ids = Flux2KleinPipeline._prepare_latent_ids(noisy).to(noisy.device)
    words = prompt.to(noisy.device, transformer.dtype).expand(batch, -1, -1)
    found = transformer(
        hidden_states=noisy.flatten(2).transpose(1, 2).to(transformer.dtype),
        encoder_hidden_states=words,
        timestep=sigma,
        img_ids=ids,
        txt_ids=Flux2KleinPipeline._prepare_text_ids(words).to(noisy.device),
        guidance=None,
        return_dict=False,
    )[0]
    return found.float().transpose(1, 2).unflatten(2, (rows, columns))


def _statistics(vae: AutoencoderKLFlux2) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = (value.float().view(1, -1, 1, 1) for value in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (variance + vae.config.batch_norm_eps).sqrt()


def _check_folder(name: str, parts: tuple[str, ...]) -> None:
    """Raises BackendError where `name` can be no hub id, or is a folder without these parts or their safetensors."""
    folder = Path(name)
    cure = f"give a folder that diffusers' save_pretrained wrote, or an id of the hub such as {KLEIN}"
    if not folder.is_dir():
        if folder.is_file() or name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise BackendError(f"{name} is not a folder here; {cure}")
        return
    for part in parts:
        files = list((folder / part).iterdir()) if (folder / part).is_dir() else []
        if not files:
            raise BackendError(f"{name} has no {part}; {cure}")
        if part in ("scheduler", "tokenizer") or any(file.suffix == ".safetensors" for file in files):
            continue
        if pickles := [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt")]:
            raise BackendError(
                f"{pickles[0]} is a pickle, which can run any code; neuralusd reads safetensors. Convert it where you "
                "trust it: from_pretrained(...).save_pretrained(...)"
            )
        raise BackendError(f"{folder / part} has no weights: there is no .safetensors file in it; {cure}")


@contextmanager
def as_backend_error(name: str, kind: str) -> Iterator[None]:
    """Within it, what goes wrong with loading `name` is a BackendError, and diffusers' bars and warnings are silent."""
    from diffusers.utils import logging
    from safetensors import SafetensorError
    from transformers.utils import logging as text_logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    text_logging.disable_progress_bar()
    try:
        yield
    except BackendError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        cure = "" if Path(name).is_dir() else ". Check the id, and that the hub can be reached; or give a local folder"
        raise BackendError(f"{name} cannot be loaded as {kind}: {reason.rstrip('.')[:300]}{cure}") from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
        text_logging.enable_progress_bar()
