"""KID (Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401) in a feature space that has a name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

# Halves of the pictures that its error is estimated by.
_HALVES = 40


class Features(Protocol):
    """A space that pictures are compared in; `name` says which, for the table."""

    name: str

    def __call__(self, pictures: np.ndarray, coverage: np.ndarray) -> np.ndarray:
        """(N, D) float64 of pictures (N, H, W, 3) of 0..1, black where no object is, and coverage (N, H, W)."""
        ...


class MiniFeatures:
    """The stand-in where Inception's weights are not at hand: mini's appearance tokens of the whole picture, of each
    of its four quarters the largest and the smallest value of each number.

    They know colours, edges and where these are, and tell what is blurred from what is sharp, which the means of the
    quarters hardly do. Of what things are they know little: these numbers compare with one another, with no paper's.
    """

    name = "mini's appearance tokens, the extremes of four quarters"

    def __init__(self) -> None:
        from ..models.encoders import PatchCropEncoder
        from ..weights import mini

        self.encoder = PatchCropEncoder.from_pretrained(
            str(mini()), subfolder="appearance_encoder", use_safetensors=True
        ).eval()

    @torch.no_grad()
    def __call__(self, pictures: np.ndarray, coverage: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(pictures), 64):
            part = torch.from_numpy(pictures[start : start + 64]).float().permute(0, 3, 1, 2)
            mask = torch.from_numpy(coverage[start : start + 64]).float().unsqueeze(1)
            crops = torch.cat([(2 * part - 1) * mask, mask], 1)  # what is not the object is 0, as in its training
            side = self.encoder.crop_size
            tokens = self.encoder(F.interpolate(crops, (side, side), mode="bilinear", align_corners=False))
            grid = tokens.transpose(1, 2).unflatten(2, self.encoder.grid)
            found.append(torch.cat([F.adaptive_max_pool2d(sign * grid, 2).flatten(1) for sign in (1, -1)], 1))
        return torch.cat(found).double().numpy()


def kid(generated: np.ndarray, truth: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, and its error.

    It may be below 0 where the two are as good as one distribution. The error is the deviation over random halves of
    the pictures, which is that of the estimate on all of them.

    Args:
        generated, truth: features (N, D) and (M, D).

    Raises:
        ValueError: there are fewer than four of either, or their lengths differ.
    """
    if min(len(generated), len(truth)) < 4 or generated.shape[1] != truth.shape[1]:
        raise ValueError(f"KID needs four features of each; here are {generated.shape} and {truth.shape}")
    both = np.concatenate([generated, truth])
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    count = len(generated)
    within, among, between = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    random = np.random.default_rng(seed)
    halves = []
    for _ in range(_HALVES):
        i, j = (random.permutation(number)[: number // 2] for number in (count, len(truth)))
        halves.append(_discrepancy(within[np.ix_(i, i)], among[np.ix_(j, j)], between[np.ix_(i, j)]))
    return _discrepancy(within, among, between), float(np.std(halves, ddof=1))


def _discrepancy(within: np.ndarray, among: np.ndarray, between: np.ndarray) -> float:
    """MMD_u^2 (equation 4 of Bińkowski et al.): kernels of a sample with itself leave out what is equal."""
    first, second = (
        (kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in (within, among)
    )
    return float(first + second - 2 * between.mean())
