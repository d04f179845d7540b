"""Appearance tokens of objects: pooled latents of `lift`'s volumes (equations 6 and 7, at `mini`'s size)."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..volumes.decoder import VolumeDecoder, activate


class AppearanceCodec(ModelMixin, ConfigMixin):
    """K tokens of D numbers that say an object's shape and look from all sides.

    Where the paper pools SAM 3D's latents by attention, these are the latents of `lift`'s volumetric autodecoder,
    pooled by a linear map that has an inverse: a token set decodes to a volume, so what is sampled is an object, not
    only a condition.

    Args:
        tokens, token_dim: K and D. decoder: configuration of the `VolumeDecoder`. resolution: side of its latents.
        picture_size, channels: of the network that sees cutouts.
    """

    @register_to_config
    def __init__(
        self,
        tokens: int = 4,
        token_dim: int = 16,
        decoder: dict[str, Any] | None = None,
        resolution: int = 4,
        picture_size: int = 64,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        identifier: str = "lift-volume-pool",
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        self.volume_decoder = VolumeDecoder(**(decoder or {}))
        shape = self.volume_decoder.latent_shape(resolution)
        count = tokens * token_dim
        self.register_buffer("mean", torch.zeros(math.prod(shape)))
        self.register_buffer("basis", torch.zeros(count, math.prod(shape)))
        self.register_buffer("scale", torch.ones(count))
        layers: list[nn.Module] = []
        now = 4
        for width in channels:
            layers += [
                nn.Conv2d(now, width, 3, stride=2, padding=1),
                nn.GroupNorm(math.gcd(16, width), width),
                nn.SiLU(),
            ]
            now = width
        side = picture_size // 2 ** len(channels)
        self.sees = nn.Sequential(*layers, nn.Flatten(), nn.Linear(now * side * side, 2 * now), nn.SiLU())
        self.says = nn.Linear(2 * now, count)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.config.tokens, self.config.token_dim

    @torch.no_grad()
    def fit(self, latents: torch.Tensor) -> AppearanceCodec:
        """Takes the principal components of objects' latents (O, C, S, S, S).

        The leading ones are toned down to the root of their size; all tokens together have a deviation of 1.
        """
        flat = latents.flatten(1)
        mean = flat.mean(0)
        _, size, basis = torch.linalg.svd(flat - mean, full_matrices=False)
        count = min(len(size), len(self.scale))
        deviation = size[:count] / math.sqrt(len(flat))
        self.mean.copy_(mean)
        self.basis.zero_()
        self.basis[:count].copy_(basis[:count])
        self.scale.fill_(1.0)
        root = deviation.clamp_min(1e-6).sqrt()
        self.scale[:count].copy_(root * root.square().mean().sqrt())
        return self

    def pool(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, S, S, S) of the decoder to tokens (N, K, D)."""
        return ((latents.flatten(1) - self.mean) @ self.basis.T / self.scale).unflatten(-1, self.shape)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Cutouts (N, 4, R, R), colour times coverage and then coverage, in 0..1 and in a square window about the
        object, to tokens (N, K, D)."""
        return self.says(self.sees(pictures * 2 - 1)).unflatten(-1, self.shape)

    def latents(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, K, D) to latents (N, C, S, S, S): the inverse of `pool`, but for what that left out."""
        flat = self.mean + (tokens.flatten(1) * self.scale) @ self.basis
        return flat.unflatten(-1, self.volume_decoder.latent_shape(self.config.resolution))

    def decode(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, K, D) to density (N, 1, S, S, S) per unit of the canonical cube, and colour (N, 3, S, S, S) in
        0..1; both indexed z, y, x in a cube of -1 to 1."""
        return activate(self.volume_decoder.volume(self.latents(tokens)))
