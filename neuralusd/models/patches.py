"""`mini`'s stand-in for an autoencoder: an image's pixel patches are its latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin


@dataclass
class PatchDistribution:
    """The latents of an image, as certain as pixels are; `mode` and `sample` are as those of AutoencoderKL."""

    latents: torch.Tensor

    def mode(self) -> torch.Tensor:
        return self.latents

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.latents


@dataclass
class PatchEncoding:
    """What `PatchAutoencoder.encode` returns."""

    latent_dist: PatchDistribution


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Lossless and without weights: patches of `patch_size` pixels become channels. Has AutoencoderKL's interface.

    At two cores' compute an autoencoder's training and its decoder cost more than they save.
    """

    @register_to_config
    def __init__(self, patch_size: int = 4, latent_channels: int = 48, scaling_factor: float = 1.0) -> None:
        super().__init__()
        if latent_channels != 3 * patch_size**2:
            raise ValueError(f"`latent_channels` {latent_channels} has to be 3 * `patch_size`**2, {3 * patch_size**2}")
        self.register_buffer("patch", torch.tensor([float(patch_size)]))  # safetensors files hold at least one tensor

    @property
    def scale_factor(self) -> int:
        """Image pixels a latent's side."""
        return self.config.patch_size

    def encode(self, image: torch.Tensor) -> PatchEncoding:
        """(B, 3, H, W) in -1..1 to latents (B, 3 * patch_size**2, H / patch_size, W / patch_size)."""
        return PatchEncoding(PatchDistribution(F.pixel_unshuffle(image, self.config.patch_size)))

    def decode(self, latents: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        """The inverse of `encode`, as a tuple."""
        return (F.pixel_shuffle(latents, self.config.patch_size),)
