"""Tokens know where they land: splatting tokens to their places in the target image.

A token is a cell of a crop with depth, so a point in its asset's local space. The asset's target pose and the target camera
place that point in the target image. There the tokens' features enter the denoiser as extra input channels, the
nearest in front, beside the paper's cross-attention. Pose control is then exact by construction, and the
network has to refine and to complete. The paper has no such channels; without them this is its plain recipe.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .tensors import SceneTensors, TokenTensors

# Channels that accompany the features: landed, background, filled from the coarse grid, relative log depth.
FACTS = 4


def surface_points(points: torch.Tensor, grid: tuple[int, int], factor: int) -> torch.Tensor:
    """Every cell's point as `factor` x `factor` points on the plane through it and its nearest neighbours.

    Args:
        points: (M, K, 3), NaN where unknown. grid: (rows, columns) of the K cells.

    Returns:
        (M, rows * factor * columns * factor, 3) in the row-major order of the finer grid; NaN where the cell was.
    """
    rows, columns = grid
    cells = points.unflatten(1, (rows, columns))

    def tangent(dimension: int) -> torch.Tensor:
        # Of the differences to both neighbours the shorter one stays on the surface where the other crosses a depth edge.
        step = torch.diff(cells, dim=dimension)
        missing = torch.full_like(cells.narrow(dimension, 0, 1), torch.nan)
        both = torch.stack([torch.cat([missing, step], dimension), torch.cat([step, missing], dimension)])
        length = both.square().sum(-1, keepdim=True).nan_to_num(torch.inf)
        shorter = torch.where(length[:1] <= length[1:], both[:1], both[1:])[0]
        return shorter.nan_to_num(0.0)

    offset = (torch.arange(factor, device=points.device, dtype=points.dtype) + 0.5) / factor - 0.5
    down, right = tangent(1)[:, :, None, :, None], tangent(2)[:, :, None, :, None]
    fine = cells[:, :, None, :, None] + offset[:, None, None, None] * down + offset[:, None] * right
    return fine.reshape(len(points), -1, 3)


def nearest_in_front(places: torch.Tensor, valid: torch.Tensor, resolution: int) -> torch.Tensor:
    """Which point each cell of the target sees.

    Args:
        places: (B, P, 3) of normalised h, normalised w, depth. valid: (B, P) bool.

    Returns:
        (B, resolution * resolution) int64 index into P, -1 where no point lands.
    """
    batch, count = valid.shape
    inside = valid & (places[..., :2] >= 0).all(-1) & (places[..., :2] < 1).all(-1) & (places[..., 2] > 0)
    row_column = (places[..., :2].nan_to_num(0.0).clamp(0, 1) * resolution).long().clamp_max(resolution - 1)
    spare = resolution * resolution
    cell = torch.where(inside, row_column[..., 0] * resolution + row_column[..., 1], spare)
    depth = torch.where(inside, places[..., 2], torch.inf)
    front = torch.full((batch, spare + 1), torch.inf, device=places.device, dtype=places.dtype)
    front = front.scatter_reduce(1, cell, depth, "amin")
    order = torch.arange(count, device=places.device).expand(batch, -1)
    candidate = torch.where(inside & (depth <= front.gather(1, cell)), order, count)
    seen = torch.full((batch, spare + 1), count, device=places.device).scatter_reduce(1, cell, candidate, "amin")
    seen = seen[:, :spare]
    return torch.where(seen == count, -1, seen)


class TokenLanding(nn.Module):
    """Splats one modality's tokens into the target.

    Args:
        token_dim: D. grid: the crop's cells. factor: each token unfolds to `factor` x `factor` features, so that the detail
            inside a token lands where it belongs. channels: features that land. resolution: side of the grid they land on.
    """

    def __init__(self, token_dim: int, grid: tuple[int, int], factor: int, channels: int, resolution: int) -> None:
        super().__init__()
        self.grid, self.factor, self.channels, self.resolution = grid, factor, channels, resolution
        self.unfold = nn.Sequential(
            nn.Linear(token_dim, 2 * token_dim), nn.SiLU(), nn.Linear(2 * token_dim, channels * factor * factor)
        )

    def forward(self, scene: SceneTensors, tokens: TokenTensors, keep: torch.Tensor) -> torch.Tensor:
        """(B, channels + FACTS, resolution, resolution); `keep` (B, N) is 0 for assets whose tokens must not land."""
        batch, count = keep.shape
        with torch.no_grad(), torch.autocast(keep.device.type, enabled=False):
            places = self._places(scene, tokens)
            valid = torch.isfinite(places).all(-1) & (keep > 0).repeat_interleave(places.shape[1] // count, 1)
            fine = nearest_in_front(places, valid, self.resolution)
            coarse = nearest_in_front(places, valid, self.resolution // 2).view(batch, 1, self.resolution // 2, -1)
            coarse = F.interpolate(coarse.float(), scale_factor=2).long().flatten(1)
            filled = (fine < 0) & (coarse >= 0)
            winner = torch.where(filled, coarse, fine)
            landed = winner >= 0
            index = winner.clamp_min(0)
            depth = places[..., 2].gather(1, index).clamp_min(1e-6).log()
            mean = (depth * landed).sum(1, keepdim=True) / landed.sum(1, keepdim=True).clamp_min(1)
            background = index < places.shape[1] // count
            facts = torch.stack([landed, landed & background, filled, (depth - mean) * landed], -1)
        features = self.unfold(tokens.values.flatten(0, 1))
        rows, columns = self.grid
        features = features.view(batch, count, rows, columns, self.factor, self.factor, self.channels)
        features = features.transpose(3, 4).reshape(batch, -1, self.channels)
        features = features.gather(1, index.unsqueeze(-1).expand(-1, -1, self.channels)) * landed.unsqueeze(-1)
        joined = torch.cat([features, facts.to(features.dtype)], -1)
        return joined.transpose(1, 2).unflatten(2, (self.resolution, self.resolution))

    def _places(self, scene: SceneTensors, tokens: TokenTensors) -> torch.Tensor:
        """(B, N * fine cells, 3): where the tokens' points are in the target image."""
        batch, count = tokens.present.shape
        points = surface_points(tokens.points.flatten(0, 1).float(), self.grid, self.factor).unflatten(0, (batch, count))
        low, high = scene.extent[..., 0, None, :], scene.extent[..., 1, None, :]
        from_low, from_high = tokens.extent[..., 0, None, :], tokens.extent[..., 1, None, :]
        # Tokens of another asset keep their place relative to the box; an asset's own tokens keep it exactly.
        moved = low + (points - from_low) / (from_high - from_low).clamp_min(1e-9) * (high - low)
        own = torch.isclose(tokens.extent, scene.extent, rtol=1e-4, atol=1e-7).all(-1).all(-1)
        points = torch.where(own[..., None, None], points, moved)
        world = points @ scene.local_to_world[..., :3, :3] + scene.local_to_world[..., 3, None, :3]
        return scene.camera.project(world.flatten(1, 2))
