"""Keypoints of articulated objects: learned points in the canonical cube, and a network that sees them in pictures
(3DVADER, sections 3.2 and B.1).

The network is the U-Net of the First Order Motion Model (Siarohin et al., 2019): an hourglass whose heat maps' means
are the points (soft-argmax).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

TEMPERATURE = 0.1


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class KeypointUNet(ModelMixin, ConfigMixin):
    """Pictures to image points of N_p parts with N_k keypoints each.

    Args:
        parts: N_p. points: N_k. size: side that pictures are brought to.
        channels: of the first convolution, doubled at each of `depth` halvings up to `most`.
        reach: how far keypoints are looked for around where they are expected, where that is told; in units of half the
            picture. 0, as the paper, looks for them in all of the picture.
    """

    @register_to_config
    def __init__(
        self,
        parts: int = 10,
        points: int = 125,
        size: int = 64,
        channels: int = 32,
        depth: int = 5,
        most: int = 1024,
        reach: float = 0.0,
    ) -> None:
        super().__init__()
        if size % 2**depth:
            raise ValueError(f"pictures of {size} pixels cannot be halved {depth} times; take a multiple of {2**depth}")
        widths = [3, *(min(most, channels * 2**level) for level in range(1, depth + 1))]
        self.down = nn.ModuleList(_convolution(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList()
        inputs = widths[-1]
        for level in reversed(range(depth)):
            outputs = min(most, channels * 2**level)
            self.up.append(_convolution(inputs, outputs))
            inputs = outputs + widths[level]  # beside what the way down had there
        self.heat = nn.Conv2d(inputs, parts * points, 7, padding=3)
        if reach:  # all are seen where they are expected, until something is learned
            for parameter in self.heat.parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: torch.Tensor, expected: torch.Tensor | None = None) -> torch.Tensor:
        """Pictures (B, 3, H, W) in 0..1 to points (B, N_p, N_k, 2): x to the right, y upwards, from -1 to 1 at the
        picture's edges. `expected`, likewise, is where they may be, for a network with a `reach`."""
        size = self.config.size
        if image.shape[-2:] != (size, size):
            image = F.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)
        features, passed = image, []
        for block in self.down:
            passed.append(features)
            features = F.avg_pool2d(block(features), 2)
        for block in self.up:
            features = block(F.interpolate(features, scale_factor=2.0, mode="nearest"))
            features = torch.cat([features, passed.pop()], 1)
        heat = self.heat(features).float() / TEMPERATURE
        heat = heat.unflatten(1, (self.config.parts, self.config.points))
        if not self.config.reach or expected is None:
            return _means(heat)
        place = _places(heat) / self.config.reach
        near = expected.float() / self.config.reach
        across, down = place - near[..., :1], -place - near[..., 1:]
        prior = -0.5 * (across.square().unsqueeze(-2) + down.square().unsqueeze(-1))
        return expected + _means(heat + prior) - _means(prior)


def _places(heat: torch.Tensor) -> torch.Tensor:
    """Middles of the columns of a map, from -1 to 1 at its edges; rows have them downwards."""
    size = heat.shape[-1]
    return (torch.arange(size, device=heat.device, dtype=heat.dtype) + 0.5) / size * 2 - 1


def _means(heat: torch.Tensor) -> torch.Tensor:
    """Soft-argmax: (..., S, S) logits to points (..., 2)."""
    share, place = heat.flatten(-2).softmax(-1).view(heat.shape), _places(heat)
    return torch.stack([(share.sum(-2) * place).sum(-1), -(share.sum(-1) * place).sum(-1)], -1)


class CanonicalKeypoints(ModelMixin, ConfigMixin):
    """K^3D: (N_p, N_k, 3) learned points in the canonical cube, the same for all objects.

    They start as a grid in the cube, where N_k is a cube of a whole number (125 = 5^3), and at random otherwise.
    """

    @register_to_config
    def __init__(self, parts: int = 10, points: int = 125) -> None:
        super().__init__()
        side = round(points ** (1 / 3))
        if side**3 == points and side > 1:
            line = torch.linspace(-1, 1, side + 2)[1:-1]
            start = torch.cartesian_prod(line, line, line).expand(parts, points, 3)
        else:
            start = torch.rand(parts, points, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
        self.inverse = nn.Parameter(torch.atanh(start.clone()))

    def forward(self) -> torch.Tensor:
        return torch.tanh(self.inverse)


def on_image_plane(points: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Points (B, ..., 2) of pictures, from -1 to 1, to where their rays meet the plane z = -1 of camera space, as
    `solve_pnp` takes them; intrinsics (B, 4), see `neuralusd.scene.Camera.lens`."""
    focal, offset = (part.view(-1, *[1] * (points.ndim - 2), 2) for part in intrinsics.split(2, -1))
    return (points / 2 + offset) / focal


def in_picture(points: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """The inverse of `on_image_plane`."""
    focal, offset = (part.view(-1, *[1] * (points.ndim - 2), 2) for part in intrinsics.split(2, -1))
    return 2 * (points * focal - offset)
