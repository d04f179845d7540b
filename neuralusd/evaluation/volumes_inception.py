"""The feature space of KID's paper: the last pooled layer of Inception-v3 (Szegedy et al., 2016), with the weights that
FID and KID are published with.

These are TensorFlow's of 2015, as pytorch-fid and torch-fidelity have them (`pt_inception-2015-12-05-6726825d.pth`),
converted to safetensors under the same names; torchvision's own weights are others. Where the two networks differ, in
how borders are pooled, this follows the published one.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

_SIZE, _WIDTH = 299, 2048
_EPSILON = 1e-3  # of batch normalisation
# Of each kind of block its branches, and of each branch its convolutions one after another; two names in one place
# stand beside each other. A 2 ahead halves the sides. The last branch of a block pools first.
_DOUBLE = ("branch3x3dbl_1", "branch3x3dbl_2")
_A = (("branch1x1",), ("branch5x5_1", "branch5x5_2"), (*_DOUBLE, "branch3x3dbl_3"), ("branch_pool",))
_B = (("2branch3x3",), (*_DOUBLE, "2branch3x3dbl_3"), ())
_C = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    tuple(f"branch7x7dbl_{number}" for number in (1, 2, 3, 4, 5)),
    ("branch_pool",),
)
_D = (("branch3x3_1", "2branch3x3_2"), (*(f"branch7x7x3_{number}" for number in (1, 2, 3)), "2branch7x7x3_4"), ())
_E = (
    ("branch1x1",),
    ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
    (*_DOUBLE, ("branch3x3dbl_3a", "branch3x3dbl_3b")),
    ("branch_pool",),
)
_BLOCKS = {
    "Mixed_5b": _A, "Mixed_5c": _A, "Mixed_5d": _A, "Mixed_6a": _B, "Mixed_6b": _C, "Mixed_6c": _C, "Mixed_6d": _C,
    "Mixed_6e": _C, "Mixed_7a": _D, "Mixed_7b": _E, "Mixed_7c": _E,
}  # fmt: skip


class InceptionFeatures:
    """Pictures to the 2048 numbers of the last pooling. They stand before black, as they are rendered.

    Args:
        weights: a safetensors file, or a folder with one or more.

    Raises:
        ValueError: there are none, or some are missing or of another network; says which.
    """

    name = "Inception-v3's last pooling, with the weights of FID"

    def __init__(self, weights: str | os.PathLike) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(weights)
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
        found: dict[str, torch.Tensor] = {}
        try:
            for file in files:
                found |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{file} cannot be read as safetensors: {error}") from error
        self.weights = {name: weight.float() for name, weight in found.items()}
        try:
            blank = self(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8)))
        except (KeyError, RuntimeError) as error:
            said = f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise ValueError(f"{weights} has no weights of Inception-v3: {said}; see docs/evaluating.md") from error
        if blank.shape[1] != _WIDTH:
            raise ValueError(f"{weights} is another network: it has {blank.shape[1]} features and not {_WIDTH}")

    @torch.no_grad()
    def __call__(self, pictures: np.ndarray, coverage: np.ndarray) -> np.ndarray:
        """See `Features`."""
        found = []
        for start in range(0, len(pictures), 16):
            x = torch.from_numpy(pictures[start : start + 16]).float().permute(0, 3, 1, 2)
            found.append(self._pooled(F.interpolate(x, (_SIZE, _SIZE), mode="bilinear", align_corners=False) * 2 - 1))
        return torch.cat(found).double().numpy()

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        x = self._conv(x, "Conv2d_1a_3x3", 2, padded=False)
        x = self._conv(self._conv(x, "Conv2d_2a_3x3", padded=False), "Conv2d_2b_3x3")
        x = self._conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = F.max_pool2d(self._conv(x, "Conv2d_4a_3x3", padded=False), 3, 2)
        for name, branches in _BLOCKS.items():
            outputs = [self._chain(x, name, branch) for branch in branches[:-1]]
            outputs.append(self._chain(_pool(x, name), name, branches[-1]))
            x = torch.cat(outputs, 1)
        return x.mean((2, 3))

    def _chain(self, x: torch.Tensor, block: str, branch: tuple) -> torch.Tensor:
        for step in branch:
            if isinstance(step, tuple):
                x = torch.cat([self._conv(x, f"{block}.{each}") for each in step], 1)
            elif step.startswith("2"):
                x = self._conv(x, f"{block}.{step[1:]}", 2, padded=False)
            else:
                x = self._conv(x, f"{block}.{step}")
        return x

    def _conv(self, x: torch.Tensor, name: str, stride: int = 1, padded: bool = True) -> torch.Tensor:
        """A convolution, batch normalisation and ReLU; `padded` keeps the sides."""
        kernel = self.weights[f"{name}.conv.weight"]
        padding = tuple(side // 2 for side in kernel.shape[2:]) if padded else (0, 0)
        x = F.conv2d(x, kernel, stride=stride, padding=padding)
        mean, variance, scale, shift = (
            self.weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift, eps=_EPSILON).relu_()


def _pool(x: torch.Tensor, block: str) -> torch.Tensor:
    if _BLOCKS[block][-1] == ():
        return F.max_pool2d(x, 3, 2)
    if block == "Mixed_7c":
        return F.max_pool2d(x, 3, 1, 1)
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
