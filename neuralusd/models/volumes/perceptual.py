"""The pyramidal perceptual loss (equation 1), on VGG-19's features where its weights are at hand.

The stand-in for when they are not: at each level of the pyramid the mean absolute difference of colours and of their
differences to the neighbours, along both axes. It asks for edges in their places, as the first layers of a VGG do, and
knows nothing of what they mean.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = 4
# VGG-19 (Simonyan and Zisserman, 2015): channels of its convolutions by block, and, of the loss (Johnson et al., 2016),
# the first convolution of each block, by their index in torchvision's `features`.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EdgePyramid(nn.Module):
    """The stand-in; see the module. Pictures are (B, 3, H, W) in 0..1.

    Args:
        plain: its ablation, the mean absolute difference of colours alone, as heavy as all levels' together.
    """

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.name = "colours" if plain else "edges"

    def forward(self, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self.plain:
            return LEVELS * (image - truth).abs().mean()
        total = image.new_zeros(())
        for level in _levels(image - truth):
            parts = [level, level.diff(dim=-1), level.diff(dim=-2)]
            total = total + sum(part.abs().mean() for part in parts)
        return total


class VggPyramid(nn.Module):
    """Equation 1 on a VGG-19 of ImageNet.

    Args:
        weights: folder or file of safetensors by torchvision's names (`features.0.weight` ...), as
            https://huggingface.co/timm/vgg19.tv_in1k has them.

    Raises:
        ValueError: there are no such weights; names the first that is missing or of another shape.
    """

    name = "vgg19"

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        from safetensors.torch import load_file

        path = Path(weights)
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
        found: dict[str, torch.Tensor] = {}
        for file in files:
            found |= load_file(file)
        self.blocks = nn.ModuleList()
        index, inputs = 0, 3
        for block in _BLOCKS:
            layers = nn.ModuleList()
            for outputs in block:
                layer = nn.Conv2d(inputs, outputs, 3, padding=1)
                for part, wanted in (("weight", layer.weight), ("bias", layer.bias)):
                    name = f"features.{index}.{part}"
                    assert wanted is not None
                    if name not in found or found[name].shape != wanted.shape:
                        raise ValueError(
                            f"{weights} holds no VGG-19 in safetensors: {name} is missing or of another shape"
                        )
                    wanted.data.copy_(found[name].float())
                layers.append(layer)
                index, inputs = index + 2, outputs  # a ReLU after each
            self.blocks.append(layers)
            index += 1  # pooling
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        total = image.new_zeros(())
        for one, other in zip(_levels(image), _levels(truth), strict=True):
            for ours, theirs in zip(self._features(one), self._features(other), strict=True):
                total = total + (ours - theirs).abs().mean()
        return total

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        mean, deviation = (image.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
        features, found = (image - mean) / deviation, []
        for number, block in enumerate(self.blocks):
            if number:
                if min(features.shape[-2:]) < 2:
                    break
                features = F.max_pool2d(features, 2)
            for place, layer in enumerate(block.children()):
                features = layer(features).relu()
                if place == 0:
                    found.append(features)
        return found


def _levels(image: torch.Tensor) -> list[torch.Tensor]:
    """The picture, and each half as large as the one before (D_l of equation 1)."""
    levels = [image]
    while len(levels) < LEVELS and min(levels[-1].shape[-2:]) >= 8:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels
