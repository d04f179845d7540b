"""Each asset's own crop of a source image: what the encoders see (Neural USD, section 3.3.1).

Every crop is masked to its asset, so no feature of one object leaks into another's tokens; the background's crop
is the whole image with the foreground masked (section 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..scene import APPEARANCE
from .tensors import CameraTensors

# How much wider than its asset's box a crop is on each side, as a part of the box.
CROP_MARGIN = 0.04


@dataclass
class Crops:
    """Crops of the `M` assets that B source images show, of N slots each.

    Attributes:
        appearance: (M, 4, S, S), sRGB in -1..1 and the mask; 0 where the mask is 0.
        geometry: (M, 2, S, S), depth in -1..1 (nearest -1) and the mask; 0 where the mask is 0.
        image, slot: (M,) int64, whose crop it is. present: (B, N), 0 where nothing of the asset is seen.
        boxes: (B, N, 4) of x, y, h, w in the source image, normalised.
    """

    appearance: torch.Tensor
    geometry: torch.Tensor
    image: torch.Tensor
    slot: torch.Tensor
    present: torch.Tensor
    boxes: torch.Tensor

    def pixels(self, modality: str) -> torch.Tensor:
        """(M, C, S, S), what the encoder of "appearance" or "geometry" sees."""
        return self.appearance if modality == APPEARANCE else self.geometry

    def only(self, image: int, slot: int) -> Crops:
        """The one crop of an asset. Raises IndexError where the asset is not present."""
        row = self.row(image, slot)
        one = {name: getattr(self, name)[row : row + 1] for name in ("appearance", "geometry", "image", "slot")}
        return Crops(**one, present=self.present, boxes=self.boxes)

    def row(self, image: int, slot: int) -> int:
        """Index into M. Raises IndexError where the asset is not present."""
        return int(((self.image == image) & (self.slot == slot)).nonzero()[0, 0])


def mask_boxes(masks: torch.Tensor, margin: float = CROP_MARGIN) -> torch.Tensor:
    """Tight boxes (B, N, 4) of x, y, h, w around masks (B, N, H, W), a margin wider, normalised; 0 where a mask is
    empty."""

    def span(profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = profile.shape[-1]
        position = torch.arange(size, device=profile.device)
        low = torch.where(profile, position, size).amin(-1)
        high = torch.where(profile, position, -1).amax(-1) + 1
        pad = margin * (high - low).clamp_min(0) + 0.5
        low, high = (low - pad).clamp_min(0), (high + pad).clamp_max(size)
        return low / size, (high - low).clamp_min(0) / size

    occupied = masks > 0.5
    y, h = span(occupied.any(-1))
    x, w = span(occupied.any(-2))
    boxes = torch.stack([x, y, h, w], -1)
    return boxes * occupied.flatten(-2).any(-1).unsqueeze(-1)


def _grid(boxes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Normalised (h, w) image positions (..., rows, columns, 2) of the cell centres of crops (..., 4)."""
    x, y, h, w = (value[..., None, None] for value in boxes.unbind(-1))
    down = (torch.arange(rows, device=boxes.device) + 0.5)[:, None] / rows
    right = (torch.arange(columns, device=boxes.device) + 0.5)[None, :] / columns
    return torch.stack(torch.broadcast_tensors(y + down * h, x + right * w), -1)


def _sample(image: torch.Tensor, positions: torch.Tensor, mode: str) -> torch.Tensor:
    """`image` (M, C, H, W) at normalised (h, w) positions (M, R, S, 2) -> (M, C, R, S)."""
    return F.grid_sample(image, positions.flip(-1) * 2 - 1, mode=mode, padding_mode="border", align_corners=False)


def crop_assets(
    color: torch.Tensor, depth: torch.Tensor, masks: torch.Tensor, size: int, *, normalize_depth: bool = True
) -> Crops:
    """Crops of all assets of source images.

    Args:
        color: (B, 3, H, W) sRGB in 0..1. depth: (B, H, W) in metres; inf where nothing is seen.
        masks: (B, N, H, W) of 0 and 1.
        size: S, pixels of a crop's side.
        normalize_depth: nearest to farthest depth of the object become -1 to 1 (section 3.3.1: raw depth ties the
            object to a place in the scene). False keeps log metres, the ablation.
    """
    boxes = mask_boxes(masks)
    present = boxes[..., 2] > 0
    image, slot = present.nonzero(as_tuple=True)
    positions = _grid(boxes[image, slot], size, size)
    mask = masks[image, slot].unsqueeze(1).to(color.dtype)
    metres = depth[image].unsqueeze(1)
    known = torch.isfinite(metres)
    smooth = _sample(torch.cat([color[image] * mask, mask], 1), positions, "bilinear")
    covered = smooth[:, 3:]
    inside = (covered > 0.5).to(color.dtype)
    rgb = smooth[:, :3] / covered.clamp_min(1e-3)
    appearance = torch.cat([(rgb.clamp(0, 1) * 2 - 1) * inside, inside], 1)

    nearest = _sample(torch.cat([torch.where(known, metres, 0.0), mask * known], 1), positions, "nearest")
    metres, seen = nearest[:, :1], (nearest[:, 1:] > 0.5) & (inside > 0.5)
    if normalize_depth:
        low = torch.where(seen, metres, torch.inf).amin((1, 2, 3), keepdim=True)
        high = torch.where(seen, metres, -torch.inf).amax((1, 2, 3), keepdim=True)
        value = (metres - low) / (high - low).clamp_min(1e-6) * 2 - 1
    else:
        value = metres.clamp_min(1e-3).log()
    geometry = torch.cat([torch.where(seen, value, 0.0), seen.to(color.dtype)], 1)
    return Crops(appearance, geometry, image, slot, present.float(), boxes)


def whole_images(color: torch.Tensor, depth: torch.Tensor, size: int, *, normalize_depth: bool = True) -> Crops:
    """Source images as one unmasked crop each; arguments as of `crop_assets`."""
    everything = torch.ones_like(depth).unsqueeze(1)
    return crop_assets(color, depth, everything, size, normalize_depth=normalize_depth)


def encode_crops(encoder: Any, modality: str, crops: Crops, whole: Crops | None = None) -> torch.Tensor:
    """Tokens (M, K, D) of crops.

    Args:
        encoder: of this modality. whole: `whole_images` of the same sources; where given, a foreground asset's tokens
            are sliced from the feature map of its whole image, as Neural Assets does, and so know of what is around.
    """
    values = encoder(crops.pixels(modality).to(encoder.dtype))
    if whole is None:
        return values
    rows, columns = encoder.grid
    maps = encoder(whole.pixels(modality).to(encoder.dtype)).transpose(1, 2).unflatten(2, (rows, columns))
    boxes = crops.boxes[crops.image, crops.slot]
    sliced = _sample(maps[crops.image].float(), _grid(boxes, rows, columns), "bilinear").flatten(2).transpose(1, 2)
    return torch.where((crops.slot > 0)[:, None, None], sliced.to(values.dtype), values)


def token_points(
    depth: torch.Tensor,
    masks: torch.Tensor,
    crops: Crops,
    grid: tuple[int, int],
    camera: CameraTensors,
    local_to_world: torch.Tensor,
    samples: int = 4,
) -> torch.Tensor:
    """Where each cell of each crop lies in its asset's local space.

    A cell's point is at the cell's centre in the image, at the median depth of what the cell sees of the asset.

    Args:
        depth: (B, H, W) in metres. masks: (B, N, H, W). crops: of these. grid: the crops' cells.
        camera: the source cameras. local_to_world: (B, N, 4, 4) at the source's time.
        samples: positions looked at along each side of a cell.

    Returns:
        (B, N, K, 3), NaN where a cell sees nothing of its asset or no depth.
    """
    image, slot = crops.image, crops.slot
    rows, columns = grid
    boxes = crops.boxes[image, slot]
    metres = depth[image]
    metres = torch.where((masks[image, slot] > 0.5) & torch.isfinite(metres), metres, torch.nan).unsqueeze(1)
    cells = _sample(metres, _grid(boxes, rows * samples, columns * samples), "nearest")
    cells = cells.view(-1, rows, samples, columns, samples).transpose(2, 3).reshape(-1, rows * columns, samples**2)
    middle = cells.nanmedian(-1).values
    places = torch.cat([_grid(boxes, rows, columns).flatten(1, 2), middle.unsqueeze(-1)], -1)
    of_asset = CameraTensors(camera.world_to_camera[image], camera.intrinsics[image], camera.orthographic[image])
    world = of_asset.unproject(places)
    inverse = torch.linalg.inv(local_to_world[image, slot])
    local = world @ inverse[:, :3, :3] + inverse[:, None, 3, :3]
    points = local.new_full((*crops.present.shape, rows * columns, 3), torch.nan)
    points[image, slot] = torch.where(torch.isfinite(middle).unsqueeze(-1), local, torch.nan)
    return points
