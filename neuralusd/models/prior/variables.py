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

    def at(self, progress: float | torch.Tensor) -> Times:
        """Equation 12: tau(rho) = alpha + (1 - alpha) rho, these being alpha; of all scenes, or of each (B,)."""

        def moved(alpha: torch.Tensor) -> torch.Tensor:
            rho = torch.as_tensor(progress, dtype=alpha.dtype, device=alpha.device)
            return alpha + (1 - alpha) * rho.view(-1, *[1] * (alpha.dim() - 1))

        return self.map(moved)


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


def random_times(empty: torch.Tensor, generator: torch.Generator, anchored: float = 0.0) -> Times:
    """Diffusion times for training, of scenes whose slots are `empty` (B, N): uniform, each variable its own (section
    2.3).

    Args:
        anchored: this part of the scenes is at a moment of sampling with `random_anchors` instead. Not in the paper.
    """
    count, slots = empty.shape

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    own = Times(*(uniform(*shape) for shape in [(count, slots)] * 3 + [(count,)] * 2))
    sampled = random_anchors(empty, generator).at(uniform(count))
    chosen = uniform(count) < anchored
    pairs = ((getattr(own, each.name), getattr(sampled, each.name)) for each in fields(Times))
    return Times(*(torch.where(chosen.view(count, *[1] * (a.dim() - 1)), b, a) for a, b in pairs))


def random_anchors(empty: torch.Tensor, generator: torch.Generator) -> Times:
    """What people may anchor in scenes whose slots are `empty` (B, N): alphas of 0 and 1.

    In half of the scenes objects are kept or sampled as a whole, in the others each factor by itself: of all, of
    none, or of some objects. Empty slots stay empty, or may all be filled (`pack_anchors`).
    """
    count, slots = empty.shape

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    def some() -> torch.Tensor:
        kind = uniform(count, 1)
        share = torch.where(kind < 1 / 3, torch.zeros(()), torch.where(kind < 2 / 3, torch.ones(()), uniform(count, 1)))
        return uniform(count, slots) < share

    whole, together, closed = uniform(count, 1) < 0.5, some(), uniform(count, 1) < 0.5
    kept = [torch.where(empty, closed, torch.where(whole, together, some())) for _ in range(3)]
    kept += [uniform(count) < 2 / 3 for _ in range(2)]
    return Times(*(each.float() for each in kept))


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
