"""Volume rendering of canonical volumes (equations 6 and 7, section B.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SAMPLES = 128


@dataclass
class Rendered:
    """What rays see. `color` (B, R, 3) before black, `occupancy` (B, R) in 0..1, `depth` (B, R) from the origin in
    units of the rays' directions, `normals` (B, R, 3) of unit length in canonical space where there is something."""

    color: torch.Tensor
    occupancy: torch.Tensor
    depth: torch.Tensor
    normals: torch.Tensor


def box_span(origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays (..., 3) enter and leave the cube from -1 to 1: t of `origin + t * direction`, (...,) each. Rays that
    miss it, or leave it behind them, have an empty span."""
    safe = torch.where(directions.abs() < 1e-9, 1e-9, directions)
    first, second = (-1 - origins) / safe, (1 - origins) / safe
    near = torch.minimum(first, second).amax(-1).clamp_min(0)
    far = torch.maximum(first, second).amin(-1)
    return near, torch.maximum(near, far)


def sample_volume(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Trilinear values (B, ..., C) of a volume (B, C, S, S, S) at points (B, ..., 3) of x, y, z in -1..1."""
    flat = points.reshape(len(points), 1, 1, -1, 3)
    values = F.grid_sample(volume, flat.to(volume.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return values.flatten(2).transpose(1, 2).reshape(*points.shape[:-1], -1)


def density_gradient(density: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S, S): central differences of a density (B, 1, S, S, S) along x, y, z, per cell."""
    padded = F.pad(density, (1, 1, 1, 1, 1, 1), mode="replicate")
    along = [
        padded[:, :, 1:-1, 1:-1, 2:] - padded[:, :, 1:-1, 1:-1, :-2],
        padded[:, :, 1:-1, 2:, 1:-1] - padded[:, :, 1:-1, :-2, 1:-1],
        padded[:, :, 2:, 1:-1, 1:-1] - padded[:, :, :-2, 1:-1, 1:-1],
    ]
    return torch.cat(along, 1) / 2


def render_rays(
    density: torch.Tensor,
    color: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    *,
    samples: int = SAMPLES,
    normals: bool = False,
    generator: torch.Generator | None = None,
    deform: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> Rendered:
    """Integrates volumes along rays.

    Args:
        density: (B, 1, S, S, S) per unit length, at least 0. color: (B, 3, S, S, S) in 0..1.
        origins, directions: (B, R, 3) in canonical space; directions of any length.
        samples: points a ray. normals: whether they are wanted; zeros otherwise.
        generator: moves each point within its part of the ray, for training; None takes the middles.
        deform: takes points (B, R, samples, 3) to where they are in the canonical volume, and to which share of the
            density there they have (B, R, samples), for articulated objects (see `InverseSkinning`). Rays and the cube
            are then in the frame's space; normals stay in the canonical one.
    """
    near, far = box_span(origins, directions)
    place = torch.arange(samples, device=origins.device, dtype=origins.dtype)
    within = 0.5 if generator is None else torch.rand(
        (*near.shape, samples), generator=generator, dtype=origins.dtype
    ).to(origins.device)  # fmt: skip
    step = (far - near) / samples
    along = near.unsqueeze(-1) + (place + within) * step.unsqueeze(-1)
    points = origins.unsqueeze(-2) + along.unsqueeze(-1) * directions.unsqueeze(-2)
    present = None
    if deform is not None:
        points, present = deform(points)
    values = sample_volume(torch.cat([density, color], 1), points).to(origins.dtype)
    length = step * directions.norm(dim=-1)
    thickness = values[..., 0] * length.unsqueeze(-1)
    if present is not None:
        thickness = thickness * present
    through = torch.exp(-(torch.cumsum(thickness, -1) - thickness))
    weight = through * (1 - torch.exp(-thickness))
    occupancy = weight.sum(-1)
    seen = occupancy.clamp_min(1e-6)
    normal = torch.zeros_like(origins)
    if normals:
        gradient = sample_volume(density_gradient(density), points).to(origins.dtype)
        normal = F.normalize(-(weight.unsqueeze(-1) * gradient).sum(-2), dim=-1)
    return Rendered(
        color=(weight.unsqueeze(-1) * values[..., 1:]).sum(-2),
        occupancy=occupancy,
        depth=(weight * along).sum(-1) / seen,
        normals=normal,
    )
