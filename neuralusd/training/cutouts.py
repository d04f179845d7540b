"""Cutouts of objects, as networks that see them are trained on them: all of them, and one a little different each time
it is shown."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..datasets.objects import ObjectViews

# Of a cutout whose outlines are cut by others, the largest part of its side.
LARGEST_HIDDEN = 0.5


def cutouts(views: ObjectViews) -> np.ndarray:
    """(O, V, 4, R, R) uint8: what `PictureEncoder` is shown, times 255."""
    return np.concatenate(
        [np.moveaxis(views.color, -1, 2), np.where(views.mask, np.uint8(255), np.uint8(0))[:, :, None]], 2
    )


def lit(pictures: torch.Tensor, rng: np.random.Generator, strength: float = 0.25) -> torch.Tensor:
    """Cutouts (B, 4, R, R) in another light: `strength` is the deviation of its logarithm, a third of that of its
    colour."""
    count = len(pictures)
    gain = np.exp(rng.normal(0, strength, (count, 1)) + rng.normal(0, strength / 3, (count, 3)))
    color = pictures[:, :3] * torch.from_numpy(gain).float()[..., None, None]
    return torch.cat([color.clamp(0, 1), pictures[:, 3:]], 1)


def hidden(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Cutouts (B, 4, R, R) of half of which a rectangle at the border is hidden."""
    out = pictures.clone()
    side = pictures.shape[-1]
    for index in np.flatnonzero(rng.random(len(pictures)) < 0.5):
        depth = int(rng.uniform(0.1, LARGEST_HIDDEN) * side)
        first, last = np.sort(rng.integers(0, side + 1, 2))
        edge = int(rng.integers(4))
        rows = (slice(0, depth), slice(side - depth, side), slice(first, last), slice(first, last))[edge]
        columns = (slice(first, last), slice(first, last), slice(0, depth), slice(side - depth, side))[edge]
        out[index, :, rows, columns] = 0
    return out


def framed(pictures: torch.Tensor, rng: np.random.Generator, strength: float = 0.06) -> torch.Tensor:
    """Cutouts (B, 4, R, R) in a window that is `strength` (a deviation, of its side) larger or smaller, and aside, and
    turned by as many radians."""
    count = len(pictures)
    size = np.exp(rng.normal(0, strength, count))
    turn = rng.normal(0, strength, count)
    matrix = np.zeros((count, 2, 3), np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = size * np.cos(turn)
    matrix[:, 0, 1] = -size * np.sin(turn)
    matrix[:, 1, 0] = size * np.sin(turn)
    matrix[:, :, 2] = rng.normal(0, strength, (count, 2))
    grid = F.affine_grid(torch.from_numpy(matrix), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False)
