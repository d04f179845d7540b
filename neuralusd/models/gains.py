"""How light falls on what no picture saw, told by what is beside it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..scene import GBuffer
from .fill import fill_holes

# sRGB values below this are too dark to say how bright the light is; and how much a place's light may differ.
_DARK, _RANGE = 0.03, 1.2
# Light is smooth: of larger images about so many cells along the shorter side are enough.
_CELLS = 256


def local_gains(samples: GBuffer, plain: np.ndarray, seen: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N, 3) how many times as bright as `plain` samples of one asset are, by those around that were seen.

    The gains of seen samples are carried over the image to the others, by each of the six directions of the world's
    axes for itself (an ambient cube's weights): a floor does not shine on a wall. Where nothing around is seen it is 1.

    Args:
        plain: (N, 3) sRGB, how the stage alone would show the samples. seen: (N, 3) sRGB, what a picture says.
        known: (N,) 0 to 1, how much `seen` is to be believed.
    """
    gains = np.ones_like(plain)
    told, asked = known > 0, known < 1
    if not told.any() or not asked.any():
        return gains
    log = np.log((seen + _DARK) / (plain + _DARK)).clip(-_RANGE, _RANGE)
    row, column = np.divmod(samples.pixel, samples.size[1])
    row, column = row - row.min(), column - column.min()
    cell = max(1, round(min(samples.size) / _CELLS))
    shape = (int(row.max()) // cell + 1, int(column.max()) // cell + 1)
    place = row // cell * shape[1] + column // cell
    directions = np.concatenate([samples.normals.clip(0) ** 2, samples.normals.clip(None, 0) ** 2], 1)
    wanted, there = directions[asked].sum(0), directions[told].sum(0)
    used = np.flatnonzero((wanted > 1e-3 * wanted.sum()) & (there > 1e-4 * there.sum()))
    if not len(used):
        return gains
    shares = directions[told][:, used] * (samples.weight * known)[told, None]
    layers = [shares, *(shares * log[told, channel, None] for channel in range(3))]
    grids = np.stack([_summed(place[told], layer, shape) for layer in layers], 1)  # (directions, 4, H, W)
    weight, total = (torch.from_numpy(part).float() for part in (grids[:, :1], grids[:, 1:]))
    mean = total.sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-9)
    field = fill_holes(total / weight.clamp_min(1e-9) - mean, (weight / cell**2).clamp(0, 1)) + mean
    here = _between(field, row[asked] / cell, column[asked] / cell, cell)  # (directions, 3, asked)
    # Directions that nothing was seen of leave the gain as it is.
    gains[asked] = np.exp(np.einsum("nd,dcn->nc", directions[asked][:, used], here))
    return gains


def _between(field: torch.Tensor, row: np.ndarray, column: np.ndarray, cell: int) -> np.ndarray:
    """(D, C, N) of cells (D, C, H, W) at places in cells, linearly between their middles."""
    inside = 0.5 / cell
    places = np.stack([(column + inside) * 2 / field.shape[3] - 1, (row + inside) * 2 / field.shape[2] - 1], 1)
    grid = torch.from_numpy(places.astype(np.float32)).expand(len(field), 1, -1, 2)
    return F.grid_sample(field, grid, align_corners=False, padding_mode="border")[:, :, 0].numpy()


def _summed(place: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(D, H, W) of values (N, D) at places (N,), added up."""
    count = shape[0] * shape[1]
    return np.stack([np.bincount(place, column, count).reshape(shape) for column in values.T])
