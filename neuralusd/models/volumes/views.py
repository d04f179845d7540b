"""Cameras that look at a canonical cube through a window, as a few numbers that can be searched and learned."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from ...window import WINDOW_MARGIN

# Of the eye from the cube's middle, in canonical units, where nothing is known of the lens: as an orbit's cameras.
DISTANCE = 4.0


@dataclass
class WindowCameras:
    """B upright cameras that look at the middle of the cube, and the square part of their picture that is shown.

    Attributes: each (B,).
        turn: radians about +Z, from +X. elevation: radians above the horizon. log_distance: of the eye from the middle,
        in canonical units. right, up: the window's middle, and log_half: half its side, as tangents of angles from the
        viewing axis.
    """

    turn: torch.Tensor
    elevation: torch.Tensor
    log_distance: torch.Tensor
    right: torch.Tensor
    up: torch.Tensor
    log_half: torch.Tensor

    def axes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The eye (B, 3) in the cube's space, and rows (B, 3, 3): right, up and backwards."""
        around = torch.stack([self.turn.cos(), self.turn.sin(), torch.zeros_like(self.turn)], -1)
        right = torch.stack([-self.turn.sin(), self.turn.cos(), torch.zeros_like(self.turn)], -1)
        lift, level = self.elevation.sin().unsqueeze(-1), self.elevation.cos().unsqueeze(-1)
        vertical = torch.zeros_like(around)
        vertical[:, 2] = 1
        back = level * around + lift * vertical
        above = level * vertical - lift * around
        return self.log_distance.exp().unsqueeze(-1) * back, torch.stack([right, above, back], 1)

    def rays(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Origins and directions (B, size * size, 3) through the middles of the window's pixels, row by row."""
        eye, axes = self.axes()
        place = (torch.arange(size, device=eye.device) + 0.5) / size * 2 - 1
        half = self.log_half.exp().unsqueeze(-1)
        x, y = self.right.unsqueeze(-1) + half * place, self.up.unsqueeze(-1) - half * place
        local = torch.stack(
            [x.unsqueeze(1).expand(-1, size, -1), y.unsqueeze(2).expand(-1, -1, size), -x.new_ones(len(x), size, size)],
            -1,
        ).flatten(1, 2)
        directions = local @ axes
        return eye.unsqueeze(1).expand_as(directions), directions

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """Tangents (B, N, 2), rightwards and upwards of the viewing axis, at which points (B, N, 3) are seen."""
        eye, axes = self.axes()
        local = (points - eye.unsqueeze(1)) @ axes.transpose(1, 2)
        return local[..., :2] / (-local[..., 2:]).clamp_min(1e-3)

    def framed(self, points: torch.Tensor, margin: float = WINDOW_MARGIN) -> WindowCameras:
        """The same cameras, their windows about what they see of points (N, 3)."""
        seen = self.project(points.expand(len(self.turn), *points.shape[-2:]))
        low, high = seen.amin(1), seen.amax(1)
        middle, half = (low + high) / 2, margin * (high - low).amax(-1) / 2
        return WindowCameras(
            self.turn, self.elevation, self.log_distance, middle[:, 0], middle[:, 1], half.clamp_min(1e-4).log()
        )

    def __getitem__(self, index) -> WindowCameras:
        return WindowCameras(*(getattr(self, field.name)[index] for field in fields(self)))

    def learnable(self) -> list[torch.Tensor]:
        """The numbers, made leaves that gradients are kept for."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name).detach().clone().requires_grad_())
        return [getattr(self, field.name) for field in fields(self)]


def orbit_cameras(turn: torch.Tensor, elevation: torch.Tensor, distance: float = DISTANCE) -> WindowCameras:
    """Cameras at these angles (B,), with windows as wide as the cube about their axes."""
    zero = torch.zeros_like(turn)
    distance_ = torch.full_like(turn, distance)
    return WindowCameras(turn, elevation, distance_.log(), zero, zero, (1 / distance_).log())
