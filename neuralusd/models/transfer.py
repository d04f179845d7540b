"""One asset's appearance on another's geometry: a cell of the geometry takes the donor's cell at its place in the box.

The paper's tokens leave this to cross-attention; landing needs to know where a donor's look goes, and the geometry
says where.
"""

from __future__ import annotations

import torch

from .tensors import TokenTensors

# How far, as a part of the box, a donor's cells blend.
_REACH = 0.04


def transfer_appearance(appearance: TokenTensors, geometry: TokenTensors) -> TokenTensors:
    """Appearance tokens placed by the geometry tokens, for the assets whose two sets are of different assets.

    Places are compared within the boxes, from 0 to 1 along each axis. Assets whose sets belong together, and those
    without points, stay as they are.
    """
    other = ~torch.isclose(appearance.extent, geometry.extent, rtol=1e-4, atol=1e-7).flatten(2).all(-1)
    other &= (appearance.present > 0) & (geometry.present > 0)
    known = torch.isfinite(appearance.points).all(-1).any(-1) & torch.isfinite(geometry.points).all(-1).any(-1)
    image, slot = (other & known).nonzero(as_tuple=True)
    if not len(image):
        return appearance
    donor = _in_box(appearance, image, slot)
    wanted = _in_box(geometry, image, slot)
    # Cells at an outline show little of the donor; of the near cells those with neighbours all around are better.
    distance = torch.cdist(wanted.nan_to_num(0.0), donor.nan_to_num(1e3)) + 0.3 * _rim(donor).unsqueeze(1)
    # A mean over near cells: single cells side by side would show their edges.
    share = (-distance / _REACH).softmax(-1)
    values, points, extent = appearance.values.clone(), appearance.points.clone(), appearance.extent.clone()
    values[image, slot] = share @ appearance.values[image, slot]
    points[image, slot] = geometry.points[image, slot]
    extent[image, slot] = geometry.extent[image, slot]
    borrowed = torch.zeros_like(appearance.present)
    borrowed[image, slot] = 1
    return TokenTensors(values, points, extent, appearance.present, borrowed)


def _in_box(tokens: TokenTensors, image: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """(M, K, 3) points of assets, 0 to 1 along each axis of their box."""
    low, high = tokens.extent[image, slot].unsqueeze(2).unbind(1)
    return (tokens.points[image, slot] - low) / (high - low).clamp_min(1e-9)


def _rim(points: torch.Tensor) -> torch.Tensor:
    """(M, K) of 0 and 1: cells of a square grid with a neighbour that saw nothing."""
    side = int(points.shape[1] ** 0.5)
    if side * side != points.shape[1]:
        return torch.zeros(points.shape[:2])
    known = torch.isfinite(points).all(-1).to(points.dtype).view(-1, 1, side, side)
    around = torch.nn.functional.avg_pool2d(known, 3, 1, 1, count_include_pad=True)
    return (around < 0.99).to(points.dtype).flatten(1)
