"""The latent diffusion model with what it is told: one module to train, and to sample from with guidance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from .conditions import PictureEncoder, WordProjection
from .denoiser import VolumeUNet
from .sampling import Denoise


@dataclass
class Told:
    """What an object is to be like; None where nothing is said of it.

    Attributes:
        pictures: (B, N, 4, R, R) cutouts, see `PictureEncoder`. words: (B, T, D) features of `TextEncoder`, and
            word_mask: (B, T) bool. With picture_kept, word_kept (B,) bool, some of the batch are told less.
    """

    pictures: torch.Tensor | None = None
    words: torch.Tensor | None = None
    word_mask: torch.Tensor | None = None
    picture_kept: torch.Tensor | None = None
    word_kept: torch.Tensor | None = None

    def to(self, device: torch.device) -> Told:
        """The same on a device."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.to(device) for name, value in given.items()})


@dataclass
class Heard:
    """What a denoiser hears.

    Attributes:
        context: tokens (B, T, token_dim), which of them count (B, T), and the sum of what each condition says as a
            whole (B, token_dim); None where nothing is told.
        direction, log_size: what `PictureEncoder` guesses of each of B * N pictures; None without any.
    """

    context: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    direction: torch.Tensor | None = None
    log_size: torch.Tensor | None = None


class ConditionedDenoiser(nn.Module):
    """Attributes: unet, picture_encoder, and word_projection, from the text encoder's width to the tokens'."""

    def __init__(self, unet: VolumeUNet, picture_encoder: PictureEncoder, word_projection: WordProjection) -> None:
        super().__init__()
        self.unet, self.picture_encoder, self.word_projection = unet, picture_encoder, word_projection

    def heard(self, told: Told) -> Heard:
        """What the denoiser hears of what is told."""
        heard = Heard()
        tokens, masks, wholes = [], [], []
        if told.pictures is not None:
            batch, number = told.pictures.shape[:2]
            found, heard.direction, heard.log_size = self.picture_encoder(told.pictures.flatten(0, 1))
            found = found.view(batch, number, found.shape[1], -1)
            kept = told.picture_kept
            kept = found.new_ones(batch, dtype=torch.bool) if kept is None else kept
            tokens.append(found.flatten(1, 2))
            masks.append(kept.unsqueeze(-1).expand(tokens[-1].shape[:2]))
            wholes.append(found[:, :, 0].mean(1) * kept.unsqueeze(-1))
        if told.words is not None:
            assert told.word_mask is not None
            tokens.append(self.word_projection(told.words))
            kept = told.word_kept
            masks.append(told.word_mask if kept is None else told.word_mask & kept.unsqueeze(-1))
            counted = masks[-1].unsqueeze(-1)
            wholes.append((tokens[-1] * counted).sum(1) / counted.sum(1).clamp_min(1))
        if tokens:
            heard.context = torch.cat(tokens, 1), torch.cat(masks, 1), torch.stack(wholes).sum(0)
        return heard

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor, told: Told) -> tuple[torch.Tensor, Heard]:
        """Denoised latents, see `VolumeUNet`, and what was heard of what is told."""
        heard = self.heard(told)
        return self.unet(noisy, sigma, *(heard.context or (None, None, None))), heard

    def guided(self, told: Told, guidance: float) -> Denoise:
        """A function for `sample_latents`: classifier-free guidance of this weight (3 in section 3.3), 1 is none."""
        context = self.heard(told).context

        def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            if context is None:
                return self.unet(noisy, sigma)
            with_condition = self.unet(noisy, sigma, *(value.expand(len(noisy), *value.shape[1:]) for value in context))
            if guidance == 1:
                return with_condition
            without = self.unet(noisy, sigma)
            return without + guidance * (with_condition - without)

        return denoise
