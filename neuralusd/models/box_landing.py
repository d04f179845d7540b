"""Boxes know where they land too: each pixel of the target sees the nearest asset's 3D box.

Tokens land only where the source saw something. Where an object turns a side to the camera that it never saw, its
box still says that it is there, and the mean of its tokens roughly what it looks like. Both enter the denoiser as
channels, beside what `neuralusd.models.landing` splats.
"""

from __future__ import annotations

import torch

from .tensors import SceneTensors

# Channels beside the features: hit, where the ray enters and leaves the box (0..1 along its axes), relative log depth.
BOX_FACTS = 8


def land_boxes(scene: SceneTensors, features: torch.Tensor, keep: torch.Tensor, resolution: int) -> torch.Tensor:
    """What each pixel's ray meets first of the foreground's boxes.

    Args:
        features: (B, N, C), of each asset as a whole. keep: (B, N), 0 for assets whose boxes must not land.

    Returns:
        (B, BOX_FACTS + C, resolution, resolution), 0 where no box is hit.
    """
    with torch.no_grad(), torch.autocast(keep.device.type, enabled=False):
        enters, leaves, origin, direction = _cast(scene, resolution)
        foreground = torch.arange(keep.shape[1], device=keep.device) > 0
        hit = (leaves > enters.clamp_min(0)) & ((keep > 0) & foreground)[..., None]
        first, slot = torch.where(hit, enters.clamp_min(1e-3), torch.inf).min(1)
        seen = torch.isfinite(first)
        index = slot[:, None, :, None].expand(-1, 1, -1, 3)
        origin, direction = origin.gather(1, index)[:, 0], direction.gather(1, index)[:, 0]
        last = leaves.gather(1, slot[:, None])[:, 0]
        first = torch.where(seen, first, 1.0)
        places = [(origin + direction * depth[..., None]).clamp(0, 1) for depth in (first, last)]
        log_depth = first.log()
        mean = (log_depth * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)
        facts = torch.cat([torch.ones_like(first)[..., None], *places, (log_depth - mean)[..., None]], -1)
        facts = torch.where(seen[..., None], facts, 0.0)
    of_slot = features.gather(1, slot[..., None].expand(-1, -1, features.shape[-1])) * seen[..., None]
    landed = torch.cat([facts.to(of_slot.dtype), of_slot], -1)
    return landed.transpose(1, 2).unflatten(2, (resolution, resolution))


def _cast(scene: SceneTensors, resolution: int) -> tuple[torch.Tensor, ...]:
    """Depths (B, N, P) at which the rays of P pixels enter and leave the boxes, and the rays in box coordinates.

    Rays are origin + depth * direction, (B, N, P, 3) each, from 0 to 1 along each axis of a box.
    """
    middle = (torch.arange(resolution, device=scene.presence.device) + 0.5) / resolution
    hw = torch.stack(torch.meshgrid(middle, middle, indexing="ij"), -1).view(1, -1, 2)
    hw = hw.expand(len(scene.presence), -1, -1)
    near, far = (scene.camera.unproject(torch.cat([hw, torch.full_like(hw[..., :1], d)], -1)) for d in (1.0, 2.0))
    direction = far - near
    origin = near - direction
    to_local = torch.linalg.inv(scene.local_to_world)
    low, high = scene.extent.unbind(2)
    size = (high - low).clamp_min(1e-6).unsqueeze(2)
    origin = (torch.einsum("bpi,bnij->bnpj", origin, to_local[..., :3, :3]) + to_local[..., None, 3, :3]) - low[
        :, :, None
    ]
    origin = origin / size
    direction = torch.einsum("bpi,bnij->bnpj", direction, to_local[..., :3, :3]) / size
    along = torch.where(direction.abs() < 1e-9, 1e-9, direction)
    first, second = -origin / along, (1 - origin) / along
    return torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1), origin, direction
