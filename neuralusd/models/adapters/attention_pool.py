"""AttnPool: an object's latent features of any number to K appearance tokens (Anchored Generation, equation 7)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .attention import CrossAttention, fourier, fourier_width


class AttnPool(ModelMixin, ConfigMixin):
    """K learned queries attend to an object's features, and each says what it found in D numbers.

    Tokens are normalised, each of mean 0 and deviation 1: so that noise of the prior (equation 10) is of their size.
    The paper gives neither K nor D nor the widths; these are ours.

    Args:
        feature_dim: C of the features; SAM 3D Objects' structured latents have 8. tokens, token_dim: K and D.
        hidden_dim, heads, layers: of the attention.
        point_frequencies: of the sines and cosines that say where in the object a feature is; see `forward`.
        identifier, revision: what the tokens record as their encoder.
    """

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 8,
        tokens: int = 4,
        token_dim: int = 256,
        hidden_dim: int = 512,
        heads: int = 8,
        layers: int = 2,
        point_frequencies: int = 6,
        identifier: str = "facebook/sam-3d-objects",
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        self.features = nn.Linear(feature_dim, hidden_dim)
        self.points = nn.Linear(fourier_width(3, point_frequencies), hidden_dim)
        self.norm_context = nn.LayerNorm(hidden_dim)
        self.queries = nn.Parameter(torch.randn(tokens, hidden_dim) * 0.02)
        self.blocks = nn.ModuleList(_Layer(hidden_dim, heads) for _ in range(layers))
        self.out = nn.Linear(hidden_dim, token_dim)
        self.norm_out = nn.LayerNorm(token_dim, elementwise_affine=False)

    def forward(
        self, features: torch.Tensor, points: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features (B, L, C) to tokens (B, K, D).

        Args:
            points: (B, L, 3) where each feature is, in -1..1 of the object's cube; None where they are nowhere.
            mask: (B, L) bool, which features there are: objects of a batch differ in number.

        Raises:
            ValueError: the features are of another width, or an object has none.
        """
        if features.ndim != 3 or features.shape[-1] != self.config.feature_dim:
            raise ValueError(
                f"features of an object are {tuple(features.shape)}; this pool takes (B, L, {self.config.feature_dim})"
            )
        if features.shape[1] == 0 or (mask is not None and not mask.any(1).all()):
            raise ValueError("an object has no features to pool; leave absent objects out")
        context = self.features(features)
        if points is not None:
            context = context + self.points(fourier(points, self.config.point_frequencies).to(features.dtype))
        context = self.norm_context(context)
        found = self.queries.to(context.dtype).expand(len(features), -1, -1)
        for block in self.blocks:
            found = block(found, context, mask)
        return self.norm_out(self.out(found))


class _Layer(nn.Module):
    """Attention to the features, among the queries' findings none: K tokens differ by their queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width, heads)
        self.within = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, queries: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        queries = queries + self.attention(self.norm(queries), context, mask)
        return queries + self.within(queries)
