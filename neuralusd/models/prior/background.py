"""The background token: what a camera sees of a place without its objects (b of equation 8, at `mini`'s size)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

SIZE = 32


class BackgroundCodec(ModelMixin, ConfigMixin):
    """A picture with depth, as one vector and back.

    Where the paper's token attends to DINOv2's patches, this is an autoencoder's: what is sampled can be seen, and its
    depth says where floor and walls are.

    Args:
        dim: of the token. width: of the convolutions.
    """

    @register_to_config
    def __init__(self, dim: int = 32, width: int = 32) -> None:
        super().__init__()

        def down(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]

        def up(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]

        last = 4 * width * 4 * 4
        self.sees = nn.Sequential(*down(4, width), *down(width, 2 * width), *down(2 * width, 4 * width))
        self.says = nn.Linear(last, dim)
        self.opens = nn.Linear(dim, last)
        self.shows = nn.Sequential(
            *up(4 * width, 2 * width), *up(2 * width, width), nn.ConvTranspose2d(width, 4, 4, stride=2, padding=1)
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def encode(self, color: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Color (N, 3, SIZE, SIZE) sRGB in 0..1 and depth (N, SIZE, SIZE) in metres, inf where nothing is, to tokens
        (N, dim) of a deviation of 1."""
        seen = torch.cat([color * 2 - 1, nearness(depth).unsqueeze(1) * 2 - 1], 1)
        return (self.says(self.sees(seen).flatten(1)) - self.mean) / self.deviation

    def decode(self, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, dim) to color (N, 3, SIZE, SIZE) in 0..1 and depth (N, SIZE, SIZE) in metres."""
        seen = self.shows(self.opens(token * self.deviation + self.mean).unflatten(1, (-1, 4, 4)))
        return torch.sigmoid(seen[:, :3]), farness(torch.sigmoid(seen[:, 3]))

    def reconstruct(self, color: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What decodes from what is encoded."""
        return self.decode(self.encode(color, depth))


def nearness(depth: torch.Tensor) -> torch.Tensor:
    """Depth in metres to 1 (here) .. 0 (infinitely far), half at 3 m."""
    return 1 / (1 + depth / 3)


def farness(near: torch.Tensor) -> torch.Tensor:
    """The inverse of `nearness`."""
    return 3 * (1 / near.clamp_min(1e-4) - 1)
