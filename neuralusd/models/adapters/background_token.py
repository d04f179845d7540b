"""The background token: a learned embedding that attends to DINOv2's patches (Anchored Generation, equation 8)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .attention import CrossAttention


class BackgroundToken(ModelMixin, ConfigMixin):
    """One learned embedding that cross-attends to a picture's patches, then B numbers, of mean 0 and deviation 1.

    Args:
        patch_dim: width of DINOv2's patches (768 of its base). token_dim: B. hidden_dim, heads: of the attention.
        dino: whose patches these are, recorded.
    """

    @register_to_config
    def __init__(
        self,
        patch_dim: int = 768,
        token_dim: int = 768,
        hidden_dim: int = 768,
        heads: int = 12,
        dino: str = "facebook/dinov2-base",
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, 1, hidden_dim) * 0.02)
        self.norm = nn.LayerNorm(patch_dim)
        self.attention = CrossAttention(hidden_dim, patch_dim, heads)
        self.out = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, token_dim))
        self.norm_out = nn.LayerNorm(token_dim, elementwise_affine=False)

    def forward(self, patches: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Patches (B, P, patch_dim) to tokens (B, token_dim).

        `mask` (B, P) bool: patches that show background. Where objects cover everything, all are taken. Leaving the
        objects' patches out is ours: what the token cannot know of an object, it cannot bring back when it is removed.

        Raises:
            ValueError: the patches are of another width.
        """
        if patches.shape[-1] != self.config.patch_dim:
            raise ValueError(
                f"patches are {patches.shape[-1]} wide, not {self.config.patch_dim}; take those of {self.config.dino}"
            )
        if mask is not None:
            mask = mask | ~mask.any(1, keepdim=True)
        query = self.embedding.expand(len(patches), -1, -1)
        found = query + self.attention(query, self.norm(patches), mask)
        return self.norm_out(self.out(found)).squeeze(1)
