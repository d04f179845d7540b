"""The volumetric autodecoder: a vector an object to a volume of density and colour (sections 3.1 and B.1, table 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

# What the last convolution gives of each cell, before a part's weights: density, then red, green, blue.
DENSITY, COLOR = slice(0, 1), slice(1, 4)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions, each after batch normalisation, beside a 1 x 1 x 1 convolution; `up` doubles the
    sides."""

    def __init__(self, channels: int, outputs: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.first = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(), nn.Conv3d(channels, outputs, 3, padding=1))
        self.second = nn.Sequential(nn.BatchNorm3d(outputs), nn.ReLU(), nn.Conv3d(outputs, outputs, 3, padding=1))
        self.beside = nn.Conv3d(channels, outputs, 1) if channels != outputs else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.up:
            features = F.interpolate(features, scale_factor=2.0, mode="trilinear", align_corners=False)
        return self.beside(features) + self.second(self.first(features))


class SelfAttention(nn.Module):
    """Self-attention among the cells of a volume, added to it (section 3.1)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        cells = self.norm(features).flatten(2).transpose(1, 2)
        mixed = self.attention(cells, cells, cells, need_weights=False)[0]
        return features + mixed.transpose(1, 2).view_as(features)


class VolumeDecoder(ModelMixin, ConfigMixin):
    """G of section 3: `volume = decoder(embedding)`. It splits at every resolution: G1 is `features`, G2 `volume`.

    Args:
        embedding_dim: length of an object's vector. resolution: side of the first volume.
        channels: of each resolution, the first included; every further one doubles the sides.
        depth: residual blocks at each further resolution (4 in the paper, 1 in its ablation).
        attention_resolutions: sides of the volumes in which cells attend to each other; none is the ablation.
        parts: N_p of an articulated object, each with a weight in every cell (equation 8); 0 is a rigid one.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int = 1024,
        resolution: int = 4,
        channels: tuple[int, ...] = (512, 256, 128, 64, 32),
        depth: int = 4,
        attention_resolutions: tuple[int, ...] = (8, 16),
        attention_heads: int = 4,
        parts: int = 0,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(embedding_dim, channels[0] * resolution**3)
        self.stages = nn.ModuleList()
        side = resolution
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            side *= 2
            blocks: list[nn.Module] = [ResidualBlock(inputs, outputs, up=True)]
            blocks += [ResidualBlock(outputs, outputs, up=False) for _ in range(depth - 1)]
            if side in attention_resolutions:
                blocks.append(SelfAttention(outputs, attention_heads))
            self.stages.append(nn.Sequential(*blocks))
        self.last = nn.Sequential(nn.BatchNorm3d(channels[-1]), nn.ReLU(), nn.Conv3d(channels[-1], 4 + parts, 1))

    @property
    def resolutions(self) -> list[int]:
        """Sides of the volumes, the last that of density and colour."""
        return [self.config.resolution * 2**stage for stage in range(len(self.config.channels))]

    def latent_shape(self, resolution: int) -> tuple[int, int, int, int]:
        """(C, S, S, S) of the features at a resolution."""
        return (self.config.channels[self._stage(resolution)], resolution, resolution, resolution)

    def features(self, embedding: torch.Tensor, resolution: int) -> torch.Tensor:
        """G1: embeddings (B, embedding_dim) to features (B, C, S, S, S) at a resolution. ValueError where it has no
        such."""
        side = self.config.resolution
        volume = self.first(embedding).view(len(embedding), self.config.channels[0], side, side, side)
        for stage in self.stages[: self._stage(resolution)]:
            volume = stage(volume)
        return volume

    def volume(self, features: torch.Tensor) -> torch.Tensor:
        """G2: features of any resolution to a volume (B, 4 + parts, S, S, S), of numbers that `activate` bounds."""
        for stage in self.stages[self._stage(features.shape[-1]) :]:
            features = stage(features)
        return self.last(features)

    def with_embedding_dim(self, embedding_dim: int) -> VolumeDecoder:
        """The same decoder for embeddings of another length: all but `first`, which is zeros, is copied."""
        known = {name: value for name, value in self.config.items() if not name.startswith("_")}
        other = VolumeDecoder(**{**known, "embedding_dim": embedding_dim})
        for parameter in other.first.parameters():
            nn.init.zeros_(parameter)
        own = {f"first.{name}" for name in self.first.state_dict()}
        copied = {name: value for name, value in self.state_dict().items() if name not in own}
        other.load_state_dict({**other.state_dict(), **copied})
        return other.train(self.training)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.volume(self.features(embedding, self.config.resolution))

    def _stage(self, resolution: int) -> int:
        try:
            return self.resolutions.index(resolution)
        except ValueError:
            known = ", ".join(map(str, self.resolutions))
            raise ValueError(f"this decoder has no volume of side {resolution}; it has {known}") from None


def activate(volume: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Density (B, 1, S, S, S) per unit of the canonical cube, at least 0, and colour (B, 3, S, S, S) in 0..1."""
    # Where nothing is known yet a ray should pass: the shift makes the first volumes thin.
    return 10 * F.softplus(volume[:, DENSITY] - 2), torch.sigmoid(volume[:, COLOR])
