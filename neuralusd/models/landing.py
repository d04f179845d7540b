"""Tokens know where they land: splatting tokens to their places in the target image.

A token is a cell of a crop with depth, so a point in its asset's local space. The asset's target pose and the target
camera place that point in the target image. There the tokens' features enter the denoiser as extra input channels, the
nearest in front, beside the paper's cross-attention. Pose control is then exact by construction, and the
network has to refine and to complete. The paper has no such channels; without them this is its plain recipe.

Landing takes no more than it is given: without geometry (no points, or geometry left out), or without the 3D pose, an
asset lands as a flat card in its 2D box; without any pose it does not land, having no place. A background without
its pose is a card that fills the image, as if the camera had not moved.

What the source did not see of an object may land all the same: most things are alike to their left and right, so where
nothing landed, points mirrored to the other side of their box may.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .crops import CROP_MARGIN
from .fill import fill_holes
from .tensors import CameraTensors, SceneTensors, TokenTensors

# Channels that accompany the features: landed, background, filled (1 from the coarse grid, -1 by mirrored points),
# relative log depth.
FACTS = 4
# Below this coverage a feature does not land at all.
_COVERED = 0.25
# Points this much farther than the nearest, as a part of its depth, still belong to the surface that a cell sees.
_THICKNESS = 0.02
# A surface that is nearer by more than this part of the depth hides what is seen through its gaps.
_GAP = 0.05
# A cell that points touch less than this takes the nearest one as it is.
_TOUCHED = 0.05
# A card of unknown depth is before everything, the background's card behind everything (metres).
_BEFORE, _BEHIND = 1e-3, 1e6


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


def within_outline(points: torch.Tensor, grid: tuple[int, int], factor: int) -> torch.Tensor:
    """How far inside of an asset's outline each finer cell is, 1 inside, 0 outside, a half on it, from which cells know
    a point alone. The outermost that do show the asset in part: the outline passes a quarter of a cell within them.

    Args:
        points: (M, K, 3), NaN where unknown. grid: (rows, columns) of the K cells.

    Returns:
        (M, rows * factor * columns * factor), in the order of `surface_points`.
    """
    known = torch.isfinite(points).all(-1).to(points.dtype).unflatten(1, grid).unsqueeze(1)
    known = F.pad(known, (1, 1, 1, 1))  # what the crop cuts off does not go on
    fine = F.interpolate(known, scale_factor=factor, mode="bilinear", align_corners=False)
    return (2 * fine[:, 0, factor:-factor, factor:-factor] - 1).clamp_min(0).flatten(1)


def card_places(scene: SceneTensors, cells: tuple[int, int], known_depth: torch.Tensor) -> torch.Tensor:
    """Where the cells of a crop lie when it stands as a flat card in its asset's 2D box.

    Args:
        cells: (rows, columns). known_depth: (B, N), 1 where the 3D pose may tell the card's depth.

    Returns:
        (B, N, rows * columns, 3) of normalised h, normalised w, depth; NaN where an asset has no 2D box.
    """
    x, y, h, w = torch.where(scene.has_pose_2d.unsqueeze(-1) > 0, scene.pose_2d, torch.nan).unbind(-1)
    wider = 1 + 2 * CROP_MARGIN
    box = torch.stack([y - CROP_MARGIN * h, x - CROP_MARGIN * w, wider * h, wider * w], -1)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=box.device)
    background = torch.arange(box.shape[1], device=box.device) == 0
    box = torch.where(background[:, None], whole, box)
    rows, columns = ((torch.arange(count, device=box.device) + 0.5) / count for count in cells)
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    low, size = box[:, :, None, :2], box[:, :, None, 2:]
    hw = low + torch.stack([down.flatten(), right.flatten()], -1) * size
    middle = scene.pose_3d.unflatten(-1, (4, 3))[..., 2].mean(-1)
    # Of two cards without a depth the one that stands lower in the image is nearer.
    lower = _BEFORE * (3 - (box[..., 0] + box[..., 2]).clamp(-1, 2))
    depth = torch.where((known_depth * scene.has_pose_3d) > 0, middle, lower)
    depth = torch.where(background, _BEHIND, depth)
    return torch.cat([hw, depth[..., None, None].expand(*hw.shape[:-1], 1)], -1)


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


def in_gaps(fine: torch.Tensor, coarse: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Which cells see between the points of a nearer surface that came so near that its points stand apart.

    These cells lie in gaps of one or two cells (a morphological closing of the depths finds them), and the coarser grid
    knows a nearer point.

    Args:
        fine, coarse: (images, resolution * resolution), the point that each cell sees on the grid and on the coarser
            one, -1 for none. depth: (P,) of the points.

    Returns:
        (images, resolution * resolution) bool.
    """
    side = round(fine.shape[1] ** 0.5)
    seen, nearer = (torch.where(grid >= 0, depth[grid.clamp_min(0)], _BEHIND) for grid in (fine, coarse))
    opened = -F.max_pool2d(-seen.view(-1, 1, side, side), 3, 1, 1)
    closed = F.max_pool2d(opened, 3, 1, 1).view_as(seen)
    return (fine >= 0) & (torch.maximum(closed, nearer) < (1 - _GAP) * seen)


def shared_among_cells(
    places: torch.Tensor, image: torch.Tensor, asset: torch.Tensor, winner: torch.Tensor, resolution: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How much of each point each cell shows: a point is shared by the four cells around it (bilinear splatting).

    One point a cell would alias; cells take part only in points of the surface that they see.

    Args:
        places, image: see `nearest_in_front`. asset: (P,) int64, whose point it is. winner: (images, resolution *
            resolution), the point that a cell sees, -1 where it sees none.

    Returns:
        cells, points, shares, (S,) each. The shares of a cell sum to 1; cells that are hardly touched have none.
    """
    area = resolution * resolution
    first = winner.flatten()
    front = torch.where(first >= 0, places[:, 2][first.clamp_min(0)], -torch.inf) * (1 + _THICKNESS)
    front_asset = torch.where(first >= 0, asset[first.clamp_min(0)], -1)
    position = places[:, :2] * resolution - 0.5
    near = (torch.isfinite(places).all(-1) & (places[:, 2] > 0)).nonzero()[:, 0]
    near = near[((position[near] > -1) & (position[near] < resolution)).all(-1)]
    corner = position[near].floor()
    fraction = position[near] - corner
    parts = []
    for down in (0, 1):
        for right in (0, 1):
            row, column = (corner + corner.new_tensor([down, right])).long().unbind(-1)
            weight = (fraction[:, 0] if down else 1 - fraction[:, 0]) * (
                fraction[:, 1] if right else 1 - fraction[:, 1]
            )
            inside = (row >= 0) & (row < resolution) & (column >= 0) & (column < resolution)
            cell = torch.where(inside, image[near] * area + row * resolution + column, 0)
            seen = inside & (front_asset[cell] == asset[near]) & (places[near, 2] <= front[cell])
            parts.append((cell[seen], near[seen], weight[seen]))
    cells, points, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    total = torch.zeros_like(front).index_add(0, cells, weights)
    touched = total[cells] > _TOUCHED
    cells, points, weights = cells[touched], points[touched], weights[touched]
    return cells, points, weights / total[cells]


def _soft_coverage(coverage: torch.Tensor) -> torch.Tensor:
    """0..1 from a feature that says how much an asset covers, of any shape: half at a half, steep around it."""
    return torch.sigmoid(8 * (coverage - 0.5))


class TokenLanding(nn.Module):
    """Splats one modality's tokens into the target.

    Args:
        token_dim: D. grid: the crop's cells. factor: each token unfolds to `factor` x `factor` features, so that the
            detail inside a token lands where it belongs. channels: features that land. resolution: side of the grid
            they land on.
        coverage: the last feature says how much of it the asset covers, as the crop's mask does; what is not covered is
            seen through, and does not hide what is behind.
        mirror: points that are mirrored along their asset's local x axis land where no other point does. Assets face
            along their z or y axis, by the conventions of USD, glTF and Blender, so that x is left and right.
    """

    def __init__(
        self,
        token_dim: int,
        grid: tuple[int, int],
        factor: int,
        channels: int,
        resolution: int,
        coverage: bool = False,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.factor, self.channels, self.resolution = grid, factor, channels, resolution
        self.coverage, self.mirror = coverage, mirror
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

    def forward(
        self,
        scene: SceneTensors,
        tokens: TokenTensors,
        keep: torch.Tensor,
        pointwise: torch.Tensor | None = None,
        depth: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Lands tokens of assets.

        Args:
            keep: (B, N), 0 for assets whose tokens must not land. pointwise: (B, N), 1 for assets whose tokens land
                by their points where they have any (None is all); the others are cards. depth: (B, N), 1 where the
                3D pose may tell a card's depth (None is all).

        Returns:
            (B, channels + FACTS, resolution, resolution).
        """
        images, side = len(keep), self.resolution
        pointwise = torch.ones_like(keep) if pointwise is None else pointwise
        depth = torch.ones_like(keep) if depth is None else depth
        image, slot = (keep > 0).nonzero(as_tuple=True)
        if not len(image):
            return keep.new_zeros(images, self.channels + FACTS, side, side)
        features = self.unfold(tokens.values[image, slot])
        rows, columns = self.grid
        features = features.view(-1, rows, columns, self.factor, self.factor, self.channels)
        features = features.transpose(2, 3).reshape(-1, self.channels)
        if self.coverage and tokens.borrowed is not None:
            # What another asset covered of its cells says nothing of this one's outline.
            outline = within_outline(tokens.points[image, slot].float(), self.grid, self.factor)
            borrowed = (tokens.borrowed[image, slot, None] > 0).expand_as(outline).reshape(-1, 1)
            coverage = torch.where(borrowed, outline.view(-1, 1).to(features.dtype), features[:, -1:])
            features = torch.cat([features[:, :-1], coverage], 1)
        with torch.no_grad(), torch.autocast(keep.device.type, enabled=False):
            points = surface_points(tokens.points[image, slot].float(), self.grid, self.factor)
            per_asset = points.shape[1]
            flat = torch.isnan(points).all(-1).all(-1) | (pointwise[image, slot] == 0)
            cards = card_places(scene, (rows * self.factor, columns * self.factor), depth)[image, slot]
            places = torch.where(flat[:, None, None], cards, self._places(scene, tokens, points, image, slot))
            # Points that do not land are left out: of flat assets and backgrounds the mirrored, of all the uncovered.
            places = places.flatten(0, 1)
            covered = features[:, -1:] > _COVERED if self.coverage else torch.ones_like(places[:, :1], dtype=torch.bool)
            places = torch.where(covered, places, torch.nan)
            of_image = image.repeat_interleave(per_asset)
            asset = torch.arange(len(image), device=keep.device).repeat_interleave(per_asset)
            fine = nearest_in_front(places, of_image, images, side)
            coarse = nearest_in_front(places, of_image, images, side // 2).view(images, side // 2, 1, side // 2, 1)
            coarse = coarse.expand(-1, -1, 2, -1, 2).reshape(images, -1)
            fine = torch.where(in_gaps(fine, coarse, places[:, 2]), -1, fine)
            filled = (fine < 0) & (coarse >= 0)
            winner = torch.where(filled, coarse, fine)
            how = filled.to(places.dtype)
            if self.mirror:
                solid = (~flat & (slot > 0)).repeat_interleave(per_asset).unsqueeze(-1)
                reflected = self._places(scene, tokens, points, image, slot, mirrored=True).flatten(0, 1)
                reflected = torch.where(covered & solid, reflected, torch.nan)
                unseen = nearest_in_front(reflected, of_image, images, side)
                mirrored = (winner < 0) & (unseen >= 0)
                winner = torch.where(mirrored, unseen + len(places), winner)
                how = torch.where(mirrored, -1.0, how)
                # As points of other assets, so that no cell mixes them with those that were seen.
                places, of_image = torch.cat([places, reflected]), of_image.repeat(2)
                asset = torch.cat([asset, asset + len(image)])
            landed = winner >= 0
            index = winner.clamp_min(0)
            metres = places[:, 2][index]
            measured = landed & (metres > 4 * _BEFORE) & (metres < _BEHIND)
            log_depth = torch.where(measured, metres, 1.0).log()
            mean = log_depth.sum(1, keepdim=True) / measured.sum(1, keepdim=True).clamp_min(1)
            cells, points, shares = shared_among_cells(places, of_image, asset, winner, side)
            index, points = index % len(features), points % len(features)
            background = (slot == 0)[index // per_asset]
            facts = torch.stack([landed, landed & background, how, (log_depth - mean) * measured], -1)
            alone = torch.ones(winner.numel(), 1, device=keep.device, dtype=features.dtype).index_fill(0, cells, 0.0)
        features = (features[index].flatten(0, 1) * alone).index_add(
            0, cells, features[points] * shares.to(features.dtype).unsqueeze(-1)
        )
        features = features.view(images, -1, self.channels).transpose(1, 2).unflatten(2, (side, side))
        facts = facts.transpose(1, 2).unflatten(2, (side, side)).to(features.dtype)
        share = facts[:, :1]
        if self.coverage:
            share = share * _soft_coverage(features[:, -1:])
        # What is uncovered is the background's, more often than not.
        background = share * facts[:, 1:2]
        around = torch.where(background.flatten(1).any(-1)[:, None, None, None], background, share)
        features = share * features + (1 - share) * fill_holes(features, around).to(features.dtype)
        return torch.cat([features, facts], 1)

    def summary(self, tokens: TokenTensors, keep: torch.Tensor) -> torch.Tensor:
        """(B, N, channels): the mean of what the asset covers of its features; 0 where `keep` (B, N) is 0."""
        image, slot = (keep > 0).nonzero(as_tuple=True)
        features = self.unfold(tokens.values[image, slot])
        features = features.view(*features.shape[:1], features.shape[1] * self.factor**2, self.channels)
        share = _soft_coverage(features[..., -1:]) if self.coverage else torch.ones_like(features[..., -1:])
        mean = (share * features).sum(1) / share.sum(1).clamp_min(1e-3)
        every = mean.new_zeros(*keep.shape, self.channels)
        every[image, slot] = mean
        return every

    def _places(
        self,
        scene: SceneTensors,
        tokens: TokenTensors,
        points: torch.Tensor,
        image: torch.Tensor,
        slot: torch.Tensor,
        mirrored: bool = False,
    ) -> torch.Tensor:
        """(M, fine cells, 3): where `points`, of the tokens of M assets, are in their target images."""
        target, source = scene.extent[image, slot], tokens.extent[image, slot]
        (low, high), (from_low, from_high) = target[:, None].unbind(2), source[:, None].unbind(2)
        # Tokens of another asset keep their place relative to the box; an asset's own tokens keep it exactly.
        moved = low + (points - from_low) / (from_high - from_low).clamp_min(1e-9) * (high - low)
        own = torch.isclose(source, target, rtol=1e-4, atol=1e-7).flatten(1).all(-1)
        points = torch.where(own[:, None, None], points, moved)
        if mirrored:
            points = torch.cat([(low + high)[..., :1] - points[..., :1], points[..., 1:]], -1)
        local_to_world = scene.local_to_world[image, slot]
        world = points @ local_to_world[:, :3, :3] + local_to_world[:, None, 3, :3]
        camera = CameraTensors(
            scene.camera.world_to_camera[image], scene.camera.intrinsics[image], scene.camera.orthographic[image]
        )
        return camera.project(world)
