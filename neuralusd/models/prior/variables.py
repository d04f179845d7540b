"""Scene latents as tensors, and the flow along which they are noised and drawn (equations 10 to 12)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

POSE_DIM = 10  # translation 3, quaternion 4, logarithm of the scale 3
ABSENT, PRESENT, MASKED = 0, 1, 2


@dataclass
class Variables:
    """B scenes of N slots, standardised. The poses and appearances of empty slots are 0.

    Attributes:
        pose: (B, N, POSE_DIM). appearance: (B, N, K * D). presence: (B, N) int64: ABSENT, PRESENT or MASKED.
        camera: (B, 2). background: (B, background_dim).
    """

    pose: torch.Tensor
    appearance: torch.Tensor
    presence: torch.Tensor
    camera: torch.Tensor
    background: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Variables:
        """All five, changed alike."""
        return Variables(*(change(getattr(self, each.name)) for each in fields(self)))


@dataclass
class Times:
    """tau of every variable, 0 (noise) to 1 (data); or alpha, where they begin.

    Attributes:
        pose, appearance, presence: (B, N). camera, background: (B,).
    """

    pose: torch.Tensor
    appearance: torch.Tensor
    presence: torch.Tensor
    camera: torch.Tensor
    background: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Times:
        """All five, changed alike."""
        return Times(*(change(getattr(self, each.name)) for each in fields(self)))

    def at(self, progress: float) -> Times:
        """Equation 12: tau(rho) = alpha + (1 - alpha) rho, these being alpha."""
        return self.map(lambda alpha: alpha + (1 - alpha) * progress)


CONTINUOUS = ("pose", "appearance", "camera", "background")


def noise_like(clean: Variables, generator: torch.Generator) -> Variables:
    """epsilon of equation 10 for the continuous variables; for presence a uniform number in 0..1 a slot."""

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like.device)

    uniform = torch.rand(clean.presence.shape, generator=generator).to(clean.presence.device)
    return Variables(
        *(uniform if each.name == "presence" else normal(getattr(clean, each.name)) for each in fields(clean))
    )


def noised(clean: Variables, noise: Variables, times: Times) -> Variables:
    """The variables at `times`: equation 10, and 11 for presence, which is masked where its number is not below tau."""
    out = {}
    for name in CONTINUOUS:
        value, tau = getattr(clean, name), getattr(times, name).unsqueeze(-1)
        out[name] = tau * value + (1 - tau) * getattr(noise, name)
    kept = noise.presence < times.presence
    presence = torch.where(kept | (times.presence >= 1), clean.presence, torch.full_like(clean.presence, MASKED))
    return Variables(presence=presence, **out)


def random_times(count: int, slots: int, generator: torch.Generator, anchored: float = 0.0) -> Times:
    """(B, N) and (B,) diffusion times for training: uniform, each variable its own (section 2.3).

    Args:
        anchored: of this part of the scenes a random subset of the variables is at 1, and the others share one time:
            what sampling meets. Not in the paper.
    """

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    pose, appearance, presence = (uniform(count, slots) for _ in range(3))
    times = Times(pose, appearance, presence, uniform(count), uniform(count))
    together, clean = uniform(count), uniform(count)
    chosen = uniform(count) < anchored

    def shared(own: torch.Tensor) -> torch.Tensor:
        shape = (count, *[1] * (own.dim() - 1))
        kept = uniform(*own.shape) < clean.view(shape)
        return torch.where(chosen.view(shape), torch.where(kept, torch.ones(()), together.view(shape)), own)

    return times.map(shared)


def unmasked(
    presence: torch.Tensor,
    probability: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Presence (N,) of a scene a step later: the reverse of equation 11.

    What is masked at tau `before` is drawn by its probability (N,) of being present, with a chance of
    (after - before) / (1 - before); what is known stays.
    """
    draws = torch.rand((2, *presence.shape), generator=generator).to(presence.device)
    chance = (after - before) / (1 - before).clamp_min(1e-6)
    now = (presence == MASKED) & ((draws[0] < chance) | (after >= 1))
    return torch.where(now, (draws[1] < probability).long(), presence)
