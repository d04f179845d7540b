"""Tokens know where they land: splatting tokens to their places in the target image.

A token is a cell of a crop with depth, so a point in its asset's local space. The asset's target pose and the target
camera place that point in the target image. There the tokens' features enter the denoiser as extra input channels, the
nearest in front, beside the paper's cross-attention. Pose control is then exact by construction, and the
network has to refine and to complete. The paper has no such channels; without them this is its plain recipe.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .tensors import CameraTensors, SceneTensors, TokenTensors

# Channels that accompany the features: landed, background, filled from the coarse grid, relative log depth.
FACTS = 4
# Below this coverage a feature does not land at all.
_COVERED = 0.25


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
        # Of the differences to both neighbours the shorter one stays on the surface where the other crosses a depth
        # edge.
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


def nearest_in_front(places: torch.Tensor, image: torch.Tensor, images: int, resolution: int) -> torch.Tensor:
    """Which point each cell of each target image sees.

    Args:
        places: (P, 3) of normalised h, normalised w, depth in front of the camera; NaN where unknown.
        image: (P,) int64, the image each point lands in. images: how many there are.

    Returns:
        (images, resolution * resolution) int64 index into P, -1 where no point lands.
    """
    hw, depth = places[:, :2], places[:, 2]
    inside = ((hw >= 0) & (hw < 1)).all(-1) & (depth > 0)
    landing = inside.nonzero()[:, 0]
    row_column = (hw[landing] * resolution).long()
    area = resolution * resolution
    cell = image[landing] * area + row_column[:, 0] * resolution + row_column[:, 1]
    depth = depth[landing]
    front = torch.full((images * area,), torch.inf, device=places.device, dtype=places.dtype)
    front = front.scatter_reduce(0, cell, depth, "amin")
    first = depth <= front[cell]
    seen = torch.full((images * area,), len(places), device=places.device)
    seen = seen.scatter_reduce(0, cell[first], landing[first], "amin")
    return torch.where(seen == len(places), -1, seen).view(images, area)


def fill_holes(features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Smooth values where nothing is known, from ever coarser means of what is known around (pull-push).

    Args:
        features: (B, C, S, S). known: (B, 1, S, S) of 0 and 1.
    """
    levels = [(features * known, known)]
    while levels[-1][0].shape[-1] > 1:
        total, weight = levels[-1]
        levels.append((F.avg_pool2d(total, 2), F.avg_pool2d(weight, 2)))
    total, weight = levels.pop()
    filled = total / weight.clamp_min(1e-6)
    for total, weight in reversed(levels):
        filled = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        # A cell that only part of its area knows of is blended with the coarser level.
        share = weight.clamp(0, 1)
        filled = share * total / weight.clamp_min(1e-6) + (1 - share) * filled
    return filled


class TokenLanding(nn.Module):
    """Splats one modality's tokens into the target.

    Args:
        token_dim: D. grid: the crop's cells. factor: each token unfolds to `factor` x `factor` features, so that the
            detail inside a token lands where it belongs. channels: features that land. resolution: side of the grid
            they land on.
        coverage: the last feature says how much of it the asset covers, as the crop's mask does; what is not covered is
            seen through, and does not hide what is behind.
    """

    def __init__(
        self, token_dim: int, grid: tuple[int, int], factor: int, channels: int, resolution: int, coverage: bool = False
    ) -> None:
        super().__init__()
        self.grid, self.factor, self.channels, self.resolution = grid, factor, channels, resolution
        self.coverage = coverage
        self.unfold = nn.Linear(token_dim, factor * factor * channels)
        # As the encoder's tokens start as pixels, so what lands starts as them.
        cells = factor * factor
        shared = min(channels, token_dim // cells)
        with torch.no_grad():
            self.unfold.weight.mul_(0.02)
            self.unfold.bias.zero_()
            for channel in range(shared):
                for cell in range(cells):
                    self.unfold.weight[cell * channels + channel, channel * cells + cell] += 1

    def forward(self, scene: SceneTensors, tokens: TokenTensors, keep: torch.Tensor) -> torch.Tensor:
        """(B, channels + FACTS, resolution, resolution); `keep` (B, N) is 0 for assets whose tokens must not land."""
        images, side = len(keep), self.resolution
        image, slot = (keep > 0).nonzero(as_tuple=True)
        if not len(image):
            return keep.new_zeros(images, self.channels + FACTS, side, side)
        features = self.unfold(tokens.values[image, slot])
        rows, columns = self.grid
        features = features.view(-1, rows, columns, self.factor, self.factor, self.channels)
        features = features.transpose(2, 3).reshape(-1, self.channels)
        with torch.no_grad(), torch.autocast(keep.device.type, enabled=False):
            places = self._places(scene, tokens, image, slot)
            per_asset = places.shape[1]
            places = places.flatten(0, 1)
            if self.coverage:
                places = torch.where(features[:, -1:] > _COVERED, places, torch.nan)
            of_image = image.repeat_interleave(per_asset)
            fine = nearest_in_front(places, of_image, images, side)
            coarse = nearest_in_front(places, of_image, images, side // 2).view(images, side // 2, 1, side // 2, 1)
            coarse = coarse.expand(-1, -1, 2, -1, 2).reshape(images, -1)
            filled = (fine < 0) & (coarse >= 0)
            winner = torch.where(filled, coarse, fine)
            landed = winner >= 0
            index = winner.clamp_min(0)
            depth = torch.where(landed, places[:, 2][index], 1.0).log()
            mean = depth.sum(1, keepdim=True) / landed.sum(1, keepdim=True).clamp_min(1)
            background = (slot == 0)[index // per_asset]
            facts = torch.stack([landed, landed & background, filled, (depth - mean) * landed], -1)
        features = features[index].transpose(1, 2).unflatten(2, (side, side))
        facts = facts.transpose(1, 2).unflatten(2, (side, side)).to(features.dtype)
        share = facts[:, :1]
        if self.coverage:
            share = share * torch.sigmoid(8 * (features[:, -1:] - 0.5))
        # What is uncovered is the background's, more often than not.
        background = share * facts[:, 1:2]
        around = torch.where(background.flatten(1).any(-1)[:, None, None, None], background, share)
        features = share * features + (1 - share) * fill_holes(features, around).to(features.dtype)
        return torch.cat([features, facts], 1)

    def _places(
        self, scene: SceneTensors, tokens: TokenTensors, image: torch.Tensor, slot: torch.Tensor
    ) -> torch.Tensor:
        """(M, fine cells, 3): where the tokens' points of M assets are in their target images."""
        points = surface_points(tokens.points[image, slot].float(), self.grid, self.factor)
        target, source = scene.extent[image, slot], tokens.extent[image, slot]
        (low, high), (from_low, from_high) = target[:, None].unbind(2), source[:, None].unbind(2)
        # Tokens of another asset keep their place relative to the box; an asset's own tokens keep it exactly.
        moved = low + (points - from_low) / (from_high - from_low).clamp_min(1e-9) * (high - low)
        own = torch.isclose(source, target, rtol=1e-4, atol=1e-7).flatten(1).all(-1)
        points = torch.where(own[:, None, None], points, moved)
        local_to_world = scene.local_to_world[image, slot]
        world = points @ local_to_world[:, :3, :3] + local_to_world[:, None, 3, :3]
        camera = CameraTensors(
            scene.camera.world_to_camera[image], scene.camera.intrinsics[image], scene.camera.orthographic[image]
        )
        return camera.project(world)
