"""Filling what is not known from what is known around."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def fill_holes(features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Smooth values where nothing is known, from ever coarser means of what is known around (pull-push).

    Args:
        features: (B, C, H, W). known: (B, 1, H, W) of 0 to 1.
    """
    levels = [(features * known, known)]
    while max(levels[-1][0].shape[-2:]) > 1:
        total, weight = levels[-1]
        # An odd border is repeated, so that every cell is one of four.
        odd = (0, total.shape[-1] % 2, 0, total.shape[-2] % 2)
        total, weight = (F.pad(each, odd, mode="replicate") for each in (total, weight))
        levels.append((F.avg_pool2d(total, 2), F.avg_pool2d(weight, 2)))
    total, weight = levels.pop()
    filled = total / weight.clamp_min(1e-6)
    for total, weight in reversed(levels):
        filled = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = filled[..., : total.shape[-2], : total.shape[-1]]
        # A cell that only part of its area knows of is blended with the coarser level.
        share = weight.clamp(0, 1)
        filled = share * total / weight.clamp_min(1e-6) + (1 - share) * filled
    return filled
