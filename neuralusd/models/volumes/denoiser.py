"""The latent 3D diffusion model: ADM's U-Net (Dhariwal and Nichol, 2021) in 3D, EDM's preconditioning (Karras et al.,
2022) around it, cross-attention for conditions (sections 3.3 and B.2, table 5)."""

from __future__ import annotations

import contextlib
import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

SMALL_SIDE = 2
SIGMA_DATA = 0.5  # "regardless of the experiment" (section 3.3)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels)


class TimedBlock(nn.Module):
    """ADM's residual block: the noise level scales and shifts its second normalisation; it may halve or double the
    sides."""

    def __init__(self, channels: int, outputs: int, width: int, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in, self.conv_in = _norm(channels), nn.Conv3d(channels, outputs, 3, padding=1)
        self.norm_out, self.conv_out = _norm(outputs), nn.Conv3d(outputs, outputs, 3, padding=1)
        self.level = nn.Linear(width, 2 * outputs)
        self.beside = nn.Conv3d(channels, outputs, 1) if channels != outputs else nn.Identity()
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, features: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        # On CPUs bfloat16 gradients of a convolution's weights are sometimes NaN where sides are 2.
        side = features.shape[-1] * {"down": 0.5, "up": 2.0}.get(self.resample or "", 1.0)
        exact = features.device.type == "cpu" and side <= SMALL_SIDE
        with torch.autocast("cpu", enabled=False) if exact else contextlib.nullcontext():
            return self._changed(features.float() if exact else features, level.float() if exact else level)

    def _changed(self, features: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        hidden = self._resized(F.silu(self.norm_in(features)))
        scale, shift = self.level(F.silu(level))[..., None, None, None].chunk(2, 1)
        hidden = self.norm_out(self.conv_in(hidden)) * (1 + scale) + shift
        return self.beside(self._resized(features)) + self.conv_out(F.silu(hidden))

    def _resized(self, features: torch.Tensor) -> torch.Tensor:
        if self.resample == "down":
            return F.avg_pool3d(features, 2)
        if self.resample == "up":
            return F.interpolate(features, scale_factor=2.0, mode="nearest")
        return features


class Attention(nn.Module):
    """Cells attend to each other, then (where there is a condition) to its tokens, `layers` times over."""

    def __init__(self, channels: int, heads: int, context_dim: int | None, layers: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.second = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.selves, self.crosses = nn.ModuleList(), nn.ModuleList()
        for _ in range(layers):
            self.selves.append(nn.MultiheadAttention(channels, heads, batch_first=True))
            if context_dim is not None:
                self.crosses.append(
                    nn.MultiheadAttention(channels, heads, kdim=context_dim, vdim=context_dim, batch_first=True)
                )

    def forward(self, features: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        cells = features.flatten(2).transpose(1, 2)
        for index, (first, second, among) in enumerate(zip(self.first, self.second, self.selves, strict=True)):
            normed = first(cells)
            cells = cells + among(normed, normed, normed, need_weights=False)[0]
            if len(self.crosses) and context is not None:
                ignored = None if mask is None else ~mask
                attend = self.crosses[index]
                cells = cells + attend(second(cells), context, context, key_padding_mask=ignored, need_weights=False)[0]
        return cells.transpose(1, 2).reshape(features.shape)


class VolumeUNet(ModelMixin, ConfigMixin):
    """D of EDM: `denoised = unet(noisy, sigma, context)`, latent volumes in and out.

    Args:
        channels: C of the latents. resolution: their side. width, multipliers, depth: of ADM's U-Net; each multiplier
            after the first halves the sides. attention_resolutions: sides at which cells attend.
        context_dim: of the condition's tokens; None is unconditional. transformer_depth: attention layers a place.
        pooled_dim: of one vector that says all of the condition, added to the noise level's embedding as ADM's classes
            are: a small model hears it long before it learns to attend. None has none, as the paper.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 256,
        resolution: int = 8,
        width: int = 192,
        multipliers: tuple[int, ...] = (3, 4),
        depth: int = 3,
        attention_resolutions: tuple[int, ...] = (8, 4),
        attention_heads: int = 8,
        context_dim: int | None = None,
        transformer_depth: int = 1,
        pooled_dim: int | None = None,
    ) -> None:
        super().__init__()
        level = 4 * width
        self.pool = nn.Linear(pooled_dim, level) if pooled_dim else None
        self.embed = nn.Sequential(nn.Linear(width, level), nn.SiLU(), nn.Linear(level, level))
        side, now = resolution, width * multipliers[0]
        self.conv_in = nn.Conv3d(channels, now, 3, padding=1)
        # What stands for a condition that is dropped, or a mask that hides all of it.
        self.nothing = nn.Parameter(torch.zeros(1, 1, context_dim)) if context_dim else None

        def attention(size: int, at: int) -> nn.Module | None:
            if at not in attention_resolutions:
                return None
            return Attention(size, attention_heads, context_dim, transformer_depth)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept = [now]
        for number, multiplier in enumerate(multipliers):
            if number:
                side //= 2
                self.down.append(_Step(TimedBlock(now, now, level, "down"), None))
                kept.append(now)
            for _ in range(depth):
                self.down.append(_Step(TimedBlock(now, width * multiplier, level), attention(width * multiplier, side)))
                now = width * multiplier
                kept.append(now)
        self.middle = nn.ModuleList(
            [_Step(TimedBlock(now, now, level), attention(now, side)), _Step(TimedBlock(now, now, level), None)]
        )
        for number, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(depth + 1):
                block = TimedBlock(now + kept.pop(), width * multiplier, level)
                self.up.append(_Step(block, attention(width * multiplier, side)))
                now = width * multiplier
            if number:
                side *= 2
                self.up.append(_Step(TimedBlock(now, now, level, "up"), None, alone=True))
        self.norm_out, self.conv_out = _norm(now), nn.Conv3d(now, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        pooled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Denoised latents (B, C, S, S, S).

        Args:
            noisy: clean latents, of a deviation of `SIGMA_DATA`, plus noise of deviation sigma (B,).
            context: (B, T, context_dim); None is no condition. mask: (B, T) bool, which tokens count.
            pooled: (B, pooled_dim), zeros where nothing is told.
        """
        shape = (-1, 1, 1, 1, 1)
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        skip, out, scale = SIGMA_DATA**2 / total**2, sigma * SIGMA_DATA / total, 1 / total
        raw = self._network(noisy * scale.view(shape), sigma.log() / 4, context, mask, pooled)
        return skip.view(shape) * noisy + out.view(shape) * raw.to(noisy.dtype)

    def _network(
        self,
        features: torch.Tensor,
        level: torch.Tensor,
        context: torch.Tensor | None,
        mask: torch.Tensor | None,
        pooled: torch.Tensor | None,
    ) -> torch.Tensor:
        if self.nothing is not None:
            nothing = self.nothing.expand(len(features), -1, -1)
            if context is None:
                context, mask = nothing, None
            else:
                mask = context.new_ones(context.shape[:2], dtype=torch.bool) if mask is None else mask
                context, mask = torch.cat([nothing.to(context.dtype), context], 1), F.pad(mask, (1, 0), value=True)
        half = self.config.width // 2
        frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=level.device) / half)
        angle = 1000 * level.unsqueeze(-1) * frequency
        embedded = self.embed(torch.cat([angle.cos(), angle.sin()], -1))
        if self.pool is not None and pooled is not None:
            embedded = embedded + self.pool(pooled)
        features = self.conv_in(features)
        kept = [features]
        for step in self.down:
            features = step(features, embedded, context, mask)
            kept.append(features)
        for step in self.middle:
            features = step(features, embedded, context, mask)
        for step in self.up:
            if not step.alone:
                features = torch.cat([features, kept.pop()], 1)
            features = step(features, embedded, context, mask)
        return self.conv_out(F.silu(self.norm_out(features)))


class _Step(nn.Module):
    """A block and the attention after it; `alone` takes nothing from the way down."""

    def __init__(self, block: TimedBlock, attention: nn.Module | None, alone: bool = False) -> None:
        super().__init__()
        self.block, self.attention, self.alone = block, attention, alone

    def forward(
        self, features: torch.Tensor, level: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None
    ) -> torch.Tensor:
        features = self.block(features, level)
        return features if self.attention is None else self.attention(features, context, mask)


def training_sigmas(count: int, generator: torch.Generator, mean: float = -1.2, deviation: float = 1.2) -> torch.Tensor:
    """(count,) noise levels for training, log-normal; by default as EDM draws them.

    Latents of many more numbers than there is to say of an object still show it at EDM's levels, where nothing that is
    told of it is of use; they need a higher mean: by the logarithm of the root of how many times more.
    """
    return torch.exp(torch.randn(count, generator=generator) * deviation + mean)


def loss_weight(sigma: torch.Tensor) -> torch.Tensor:
    """EDM's weight of the squared error of the denoised latents."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
