"""Robust normalisation of latent features (section 3.3, "Feature Processing", and B.2)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

# Of a normal distribution the interquartile range times this is the standard deviation.
NORMALIZED_IQR = 0.7413


class LatentNormalizer(ModelMixin, ConfigMixin):
    """Features less their centre, over their scale.

    Args:
        robust: the median and the normalised interquartile range; False takes mean and standard deviation, the
            ablation.
        deviation: that the features are brought to.
    """

    @register_to_config
    def __init__(self, robust: bool = True, deviation: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, features: torch.Tensor) -> LatentNormalizer:
        """Takes the statistics of features of any shape. ValueError where they are constant or not finite."""
        values = features.detach().float().flatten()
        if self.config.robust:
            # torch.quantile takes at most 16 million values, and the order of a part tells as much.
            part = values[:: max(1, len(values) // 2**23)].sort().values
            low, middle, high = (part[round((len(part) - 1) * q)] for q in (0.25, 0.5, 0.75))
            center, scale = middle, NORMALIZED_IQR * (high - low)
        else:
            center, scale = values.mean(), values.std()
        if not (torch.isfinite(scale) and scale > 0):
            raise ValueError("the features are constant or not finite, so they have no scale; train the decoder first")
        self.center.copy_(center)
        self.scale.copy_(scale / self.config.deviation)
        return self

    def normalize(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.center) / self.scale

    def denormalize(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.scale + self.center
