"""Encoders of crops: one for appearance, one for geometry, never shared (Neural USD, section 3.3.1).

Both kinds have `crop_size`, `grid` and `token_dim`, and turn crops (M, C, S, S) into tokens (M, K, D).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class _Mixer(nn.Module):
    """Depthwise convolution between cells and an MLP within them, beside a skip; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.between = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        last = nn.Conv2d(2 * channels, channels, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.within = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.GELU(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.within(self.norm(self.between(x)))


class PatchCropEncoder(ModelMixin, ConfigMixin):
    """`mini`'s encoder: a patch embedding and a few mixing layers, trained with the denoiser.

    The embedding starts as the patch's own pixels, so that from the first step on a token can say all its cell shows.

    Args:
        in_channels: 4 for appearance crops (colour and mask), 2 for geometry crops (depth and mask). One of 4 channels
            also takes geometry crops, with depth repeated, so that both modalities may share it (an ablation).
        crop_size: S, pixels. patch_size: pixels of a token's side; the grid is S / patch_size squared.
        layers: mixing layers. token_dim: D.
        identifier, revision: what the tokens record as their encoder.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        crop_size: int = 128,
        patch_size: int = 8,
        layers: int = 1,
        token_dim: int = 192,
        identifier: str = "neuralusd/mini",
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        if crop_size % patch_size:
            raise ValueError(f"`crop_size` {crop_size} must be a multiple of `patch_size` {patch_size}")
        self.embed = nn.Conv2d(in_channels, token_dim, patch_size, stride=patch_size)
        pixels = torch.eye(in_channels * patch_size**2)[:token_dim].view(-1, in_channels, patch_size, patch_size)
        with torch.no_grad():
            for parameter in self.embed.parameters():
                parameter.mul_(0.02)
            self.embed.weight[: len(pixels)] += pixels
        self.position = nn.Parameter(torch.zeros(1, token_dim, *self.grid))
        self.mix = nn.Sequential(*[_Mixer(token_dim) for _ in range(layers)])

    @property
    def grid(self) -> tuple[int, int]:
        side = self.config.crop_size // self.config.patch_size
        return side, side

    @property
    def crop_size(self) -> int:
        return self.config.crop_size

    @property
    def token_dim(self) -> int:
        return self.config.token_dim

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (M, C, S, S) to tokens (M, K, D)."""
        if crops.shape[1] == 2 and self.config.in_channels == 4:
            crops = crops[:, [0, 0, 0, 1]]
        return self.mix(self.embed(crops) + self.position).flatten(2).transpose(1, 2)


# Of the pictures that DINO was trained on (ImageNet), in 0..1; transformers' processors of DINO have the same.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DinoCropEncoder(ModelMixin, ConfigMixin):
    """The full size's encoder: a DINO or DINOv2 vision transformer of transformers, fine-tuned with the image model.

    Args:
        dino: the transformers configuration as a dictionary with its `model_type` ("vit", "dinov2", "dinov3_vit", ...).
        in_channels: 4 for appearance crops, 2 for geometry crops; the mask cuts the crop out, depth is repeated to
            three channels. Both are scaled as DINO's training pictures were, what is cut out is their mean colour.
        crop_size: S, pixels (224 with ViT-B/8 gives the paper's 28 x 28 feature map, appendix C).
    """

    @register_to_config
    def __init__(
        self,
        dino: dict[str, Any],
        in_channels: int = 4,
        crop_size: int = 224,
        identifier: str = "facebook/dino-vitb8",
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        values = dict(dino)
        self.backbone = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))

    @property
    def grid(self) -> tuple[int, int]:
        side = self.config.crop_size // self.backbone.config.patch_size
        return side, side

    @property
    def crop_size(self) -> int:
        return self.config.crop_size

    @property
    def token_dim(self) -> int:
        return self.backbone.config.hidden_size

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (M, C, S, S) to tokens (M, K, D), the class and register tokens left out."""
        pixels, mask = crops[:, :-1], crops[:, -1:]
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        mean, deviation = (pixels.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        pixels = (pixels / 2 + 0.5 - mean) / deviation * mask
        rows, columns = self.grid
        extra = {"interpolate_pos_encoding": True} if self.backbone.config.model_type == "vit" else {}
        hidden = self.backbone(pixel_values=pixels, **extra).last_hidden_state
        return hidden[:, -rows * columns :]
