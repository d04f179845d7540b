"""Cross-attention adapters after every joint-attention block of a FLUX.2 (Anchored Generation, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .attention import CrossAttention, fourier, fourier_width


@dataclass
class SceneCondition:
    """What the adapters listen to: `tokens` (B, T, context_dim), `mask` (B, T) bool, and `rays` (P, 2) or (B, P, 2) of
    the P latents of an image, see `image_rays`."""

    tokens: torch.Tensor
    mask: torch.Tensor
    rays: torch.Tensor


class SceneAdapters(ModelMixin, ConfigMixin):
    """An adapter for each block of a FLUX.2 transformer, which itself stays as it is.

    A FLUX.2 has blocks of two kinds: MM attention, in which image and text have weights of their own (5 of Klein 4B's),
    and single-stream blocks after them (20). After each of the first, the image's hidden states attend to the scene's
    tokens, and what they find is added; the text's do not. What is added begins as exactly 0.

    The hidden states of FLUX.2 say where they are only by rotation within its own attention, so an adapter's queries
    are told the rays of their latents besides, in the terms in which `SceneTokenizer` tells where objects are. This is
    ours; `ray_frequencies=None` leaves it out.

    Args:
        width: of the transformer's hidden states. layers, single_layers: how many blocks of each kind it has.
            single_stream: whether the second kind gets adapters, too (ours, an ablation).
        context_dim: of the scene's tokens. heads: of the attention.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 3072,
        layers: int = 5,
        single_layers: int = 20,
        single_stream: bool = False,
        context_dim: int = 1024,
        heads: int = 24,
        ray_frequencies: int | None = 6,
    ) -> None:
        super().__init__()
        number = layers + single_layers * single_stream
        self.adapters = nn.ModuleList(_Adapter(width, context_dim, heads, ray_frequencies) for _ in range(number))
        self.condition: SceneCondition | None = None
        self._hooks: list[Any] = []

    @classmethod
    def of(cls, transformer: Flux2Transformer2DModel, **settings: Any) -> SceneAdapters:
        """Adapters that fit a transformer."""
        config = transformer.config
        return cls(
            **{
                "width": transformer.inner_dim,
                "layers": config.num_layers,
                "single_layers": config.num_single_layers,
                "heads": config.num_attention_heads,
                **settings,
            }
        )

    def attach(self, transformer: Flux2Transformer2DModel) -> None:
        """Adds what the adapters find to the blocks' hidden states, by hooks, until `detach`. It acts where `condition`
        is set, which has to stay for the backward pass where activations are computed again.

        Raises:
            ValueError: they are of another transformer, or attached already.
        """
        config = self.config
        found = (transformer.inner_dim, transformer.config.num_layers, transformer.config.num_single_layers)
        if found != (config.width, config.layers, config.single_layers):
            raise ValueError(
                f"these adapters are of a transformer {config.width} wide with {config.layers} and "
                f"{config.single_layers} blocks; this one is {found[0]} wide with {found[1]} and {found[2]}"
            )
        if self._hooks:
            raise ValueError("these adapters are attached already; detach them first")
        blocks: list[nn.Module] = list(transformer.transformer_blocks)
        if config.single_stream:
            blocks += list(transformer.single_transformer_blocks)
        for block, adapter in zip(blocks, self.adapters, strict=True):
            self._hooks.append(block.register_forward_hook(self._hook(adapter)))

    def detach(self) -> None:
        """Leaves the transformer as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.condition = [], None

    @contextmanager
    def attached(self, transformer: Flux2Transformer2DModel) -> Iterator[None]:
        """`attach`, and `detach` at the end whatever happens."""
        self.attach(transformer)
        try:
            yield
        finally:
            self.detach()

    def _hook(self, adapter: nn.Module) -> Any:
        def after(block: nn.Module, args: Any, output: Any) -> Any:
            condition = self.condition
            if condition is None:
                return None
            if isinstance(output, tuple):  # MM attention: text and image apart
                text, image = output
                return text, image + adapter(image, condition)
            words = output.shape[1] - condition.rays.shape[-2]
            image = output[:, words:]
            return torch.cat([output[:, :words], image + adapter(image, condition)], 1)

        return after


class _Adapter(nn.Module):
    def __init__(self, width: int, context_dim: int, heads: int, ray_frequencies: int | None) -> None:
        super().__init__()
        self.ray_frequencies = ray_frequencies
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        if ray_frequencies is not None:
            self.rays = nn.Linear(fourier_width(2, ray_frequencies), width, bias=False)
        self.norm_context = nn.LayerNorm(context_dim)
        self.attention = CrossAttention(width, context_dim, heads, silent=True)

    def forward(self, image: torch.Tensor, condition: SceneCondition) -> torch.Tensor:
        own = self.attention.to_out.weight.dtype
        queries = self.norm(image.to(own))
        if self.ray_frequencies is not None:
            queries = queries + self.rays(fourier(condition.rays, self.ray_frequencies).to(own))
        found = self.attention(queries, self.norm_context(condition.tokens.to(own)), condition.mask)
        return found.to(image.dtype)


def image_rays(rows: int, columns: int, focal: torch.Tensor) -> torch.Tensor:
    """(B, rows x columns, 2): where the rays of an image's cells, in rows from the top left, meet the plane at distance
    1 of the camera: x to the right, y up. focal: (B, 2), see `SceneLatents`."""
    x = (torch.arange(columns, device=focal.device, dtype=focal.dtype) + 0.5) / columns - 0.5
    y = 0.5 - (torch.arange(rows, device=focal.device, dtype=focal.dtype) + 0.5) / rows
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
    return grid / focal.unsqueeze(1)
