"""Cross-attention and Fourier features: what the modules of this package are made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class CrossAttention(nn.Module):
    """Queries (B, Q, query_dim) attend to a context (B, T, context_dim): (B, Q, query_dim).

    Queries and keys are normalised per head, as FLUX.2's are. `silent` lets it begin by saying nothing, exactly 0.
    """

    def __init__(self, query_dim: int, context_dim: int, heads: int, *, silent: bool = False) -> None:
        super().__init__()
        if query_dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {query_dim}")
        self.heads = heads
        self.to_q = nn.Linear(query_dim, query_dim, bias=False)
        self.to_k = nn.Linear(context_dim, query_dim, bias=False)
        self.to_v = nn.Linear(context_dim, query_dim, bias=False)
        self.norm_q = nn.RMSNorm(query_dim // heads, eps=1e-6)
        self.norm_k = nn.RMSNorm(query_dim // heads, eps=1e-6)
        self.to_out = nn.Linear(query_dim, query_dim, bias=False)
        if silent:
            nn.init.zeros_(self.to_out.weight)

    def forward(self, queries: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`mask` (B, T) bool: what of the context there is; at least one of each row."""
        q, k, v = (
            layer(values).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, values in ((self.to_q, queries), (self.to_k, context), (self.to_v, context))
        )
        q, k = self.norm_q(q.float()).to(v.dtype), self.norm_k(k.float()).to(v.dtype)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        return self.to_out(found.transpose(1, 2).flatten(2))


def fourier(values: torch.Tensor, frequencies: int) -> torch.Tensor:
    """The values (..., C), and the sines and cosines of 1, 2, 4, ... times pi times each: (..., C (1 + 2 frequencies)).

    In single precision: half precision has no digits left for the higher ones.
    """
    values = values.float()
    scale = math.pi * 2 ** torch.arange(frequencies, device=values.device, dtype=values.dtype)
    angle = (values.unsqueeze(-1) * scale).flatten(-2)
    return torch.cat([values, angle.sin(), angle.cos()], -1)


def fourier_width(channels: int, frequencies: int) -> int:
    """Of what `fourier` gives."""
    return channels * (1 + 2 * frequencies)
