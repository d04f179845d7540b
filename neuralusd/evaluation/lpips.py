"""LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924), version 0.1 on VGG-16, with published weights only.

The `lpips` package needs torchvision and reads pickles; this reads the same weights from safetensors. A folder holds
one or more safetensors files, which between them have the convolutions of VGG-16 trained on ImageNet by torchvision's
names (`features.0.weight` ... `features.28.bias`, as https://huggingface.co/timm/vgg16.tv_in1k has them) and the five
linear layers of LPIPS (`lin0.model.1.weight` ... `lin4.model.1.weight`, as in the `lpips` package's
`weights/v0.1/vgg.pth`).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, interpolate, max_pool2d

HUB_ID = "timm/vgg16.tv_in1k"
# VGG-16 (Simonyan and Zisserman, 2015): index of each convolution in torchvision's `features`, by block.
_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
# The published scaling of images in -1..1 (lpips.ScalingLayer).
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """The distance of two pictures in the features of a network.

    Args:
        weights: by the names above.

    Raises:
        ValueError: names the first weight that is missing or of another shape.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self.blocks: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        self.lines: list[torch.Tensor] = []
        channels = 3
        for number, block in enumerate(_BLOCKS):
            layers = []
            for index in block:
                weight = _take(weights, f"features.{index}.weight", (None, channels, 3, 3))
                channels = weight.shape[0]
                layers.append((weight, _take(weights, f"features.{index}.bias", (channels,))))
            self.blocks.append(layers)
            self.lines.append(_take(weights, f"lin{number}.model.1.weight", (1, channels, 1, 1)))

    @torch.no_grad()
    def layers(self, image: np.ndarray, truth: np.ndarray) -> list[torch.Tensor]:
        """(1, 1, h, w) of each of the five layers: the weighted difference of (H, W, 3) pictures in 0..1 at each
        place."""
        x = torch.from_numpy(np.stack([image, truth]).astype(np.float32)).permute(0, 3, 1, 2) * 2 - 1
        x = (x - torch.tensor(_SHIFT).view(1, 3, 1, 1)) / torch.tensor(_SCALE).view(1, 3, 1, 1)
        found = []
        for number, (layers, line) in enumerate(zip(self.blocks, self.lines, strict=True)):
            if number:
                x = max_pool2d(x, 2)
            for weight, bias in layers:
                x = conv2d(x, weight, bias, padding=1).relu()
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            found.append(conv2d((unit[:1] - unit[1:]).square(), line))
        return found

    def distance(self, image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
        """LPIPS of two pictures; over `mask` (H, W) the mean of its map enlarged to the picture, NaN over an empty
        one."""
        layers = self.layers(image, truth)
        if mask is None:
            return float(sum(layer.mean() for layer in layers))
        if not mask.any():
            return float("nan")
        size = image.shape[:2]
        enlarged = sum(interpolate(layer, size=size, mode="bilinear", align_corners=False) for layer in layers)
        assert isinstance(enlarged, torch.Tensor)
        return float(enlarged[0, 0].numpy()[mask].mean())


def load_lpips(folder: str | os.PathLike) -> Lpips:
    """LPIPS with the weights of a folder; the VGG-16 may instead be in the hub's cache (`HUB_ID`).

    Raises:
        ValueError: the folder has no such weights; says which is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is no folder with LPIPS weights; docs/evaluating.md says what belongs in it")
    files = sorted(Path(folder).glob("*.safetensors"))
    weights: dict[str, torch.Tensor] = {}
    for file in [*_cached(), *files]:
        try:
            weights |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{file} cannot be read as safetensors: {error}") from error
    try:
        return Lpips({name: weight.float() for name, weight in weights.items()})
    except ValueError as error:
        raise ValueError(f"{folder} has no weights of LPIPS: {error}; see docs/evaluating.md") from error


def _cached() -> list[Path]:
    """The VGG-16 of the hub's cache, if it is there; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(HUB_ID, "model.safetensors")
    return [Path(found)] if isinstance(found, str) else []


def _take(weights: dict[str, torch.Tensor], name: str, shape: tuple[int | None, ...]) -> torch.Tensor:
    weight = weights.get(name)
    if weight is None:
        raise ValueError(f"there is no {name}")
    if len(weight.shape) != len(shape) or any(s not in (None, w) for s, w in zip(shape, weight.shape, strict=True)):
        raise ValueError(f"{name} is of shape {tuple(weight.shape)}")
    return weight
