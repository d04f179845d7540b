"""EDM's sampler (Karras et al., 2022, algorithm 2), which the paper samples latents with (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# EDM's largest noise level: nothing of a latent is seen through it.
HIGHEST = 80.0


def sigma_schedule(steps: int, low: float = 0.002, high: float = HIGHEST, rho: float = 7.0) -> torch.Tensor:
    """(steps + 1,) noise levels from `high` to `low`, then 0."""
    place = torch.arange(steps) / max(1, steps - 1)
    sigmas = (high ** (1 / rho) + place * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


@torch.no_grad()
def sample_latents(
    denoise: Denoise,
    shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    steps: int = 64,
    churn: float = 0.0,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Latents of deviation `SIGMA_DATA` from noise, by Heun's second order method.

    Args:
        denoise: noisy latents and (B,) sigma to clean ones. generator: of the CPU.
        churn: S_churn, how much new noise a step adds; 0 is deterministic (the ablations of section 4.4), 40 is EDM's
            for images.
        on_step: called after each step with its number, from 1, and the clean latents as they are guessed.
    """
    sigmas = sigma_schedule(steps).tolist()

    def noise() -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    latents = noise() * sigmas[0]
    for step, (sigma, following) in enumerate(zip(sigmas, sigmas[1:], strict=False), 1):
        gamma = min(churn / steps, 2**0.5 - 1)
        raised = sigma * (1 + gamma)
        if gamma:
            latents = latents + (raised**2 - sigma**2) ** 0.5 * noise() * 1.003
        clean = denoise(latents, latents.new_full(shape[:1], raised))
        slope = (latents - clean) / raised
        moved = latents + (following - raised) * slope
        if following > 0:
            again = denoise(moved, latents.new_full(shape[:1], following))
            moved = latents + (following - raised) * (slope + (moved - again) / following) / 2
        latents = moved
        if on_step is not None:
            on_step(step, clean)
    return latents
