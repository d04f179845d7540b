"""What chance decides in an optimizer step: pairs, noise, times, dropouts.

It is drawn for the whole batch, from the run's seed and the step's number alone. Each process takes its rows of it. So
the same step is made by one process or by several, in one part or accumulated, at once or after a kill.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from ..models.asset_tokenizer import Keep
from .config import RenderTrainingConfig
from .looked_up import LookedUpDraw, LookedUpSampler
from .pairs import Draw, PairSampler


@dataclass
class StepDraw:
    """One step's chance, on the CPU.

    Attributes:
        pairs: which pairs. noise: (B, C, h, w). timesteps: (B,) int64. keep: what is not dropped.
        mean_weight: mean of the loss's weights over the whole batch, which the parts of a draw keep.
    """

    pairs: Draw | LookedUpDraw
    noise: torch.Tensor
    timesteps: torch.Tensor
    keep: Keep
    mean_weight: float

    def part(self, index: int, size: int) -> StepDraw:
        """Rows `index` * `size` and following."""
        rows = slice(index * size, (index + 1) * size)
        return StepDraw(
            self.pairs.part(rows), self.noise[rows], self.timesteps[rows], _kept_rows(self.keep, rows), self.mean_weight
        )

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, Keep]:
        """Noise, times and what is kept, on a device."""
        keep = Keep(*(getattr(self.keep, field.name).to(device) for field in fields(Keep)))
        return self.noise.to(device), self.timesteps.to(device), keep


def _kept_rows(keep: Keep, rows: slice) -> Keep:
    return Keep(*(getattr(keep, field.name)[rows] for field in fields(Keep)))


def draw_step(
    sampler: PairSampler | LookedUpSampler,
    config: RenderTrainingConfig,
    latent_shape: tuple[int, int, int],
    times: int,
    seed: int,
    step: int,
) -> StepDraw:
    """The chance of optimizer step `step` (from 0); `latent_shape` (C, h, w), `times` of the diffusion process."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))
    size = config.batch_size
    pairs = sampler.draw(size, generator)
    noise = torch.randn(size, *latent_shape, generator=generator)
    uniform = torch.rand(size, generator=generator)
    timesteps = (uniform**config.timestep_exponent * times).long().clamp_max(times - 1)
    with torch.random.fork_rng(devices=[]):  # dropouts are drawn from the global generator
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        keep = Keep.sample(
            cast(Any, SimpleNamespace(presence=torch.zeros(size, sampler.slots))),
            modality=config.modality_dropout,
            pose=config.pose_dropout,
            everything=config.all_dropout,
            landing=config.landing_dropout,
            nothing=config.no_dropout,
        )
    mean_weight = 1.0
    if config.foreground_weight:
        mean_weight += config.foreground_weight * sampler.foreground_share(pairs)  # type: ignore[arg-type]
    return StepDraw(pairs, noise, timesteps, keep, mean_weight)


def shared(batch_size: int, processes: int, per_device: int | None) -> tuple[int, int]:
    """(pairs computed at once, accumulation steps) of each process for a batch over all of them.

    A part is the largest that divides a process's share and is not above `per_device`; None takes the share whole.

    Raises:
        ValueError: the batch cannot be shared equally.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        raise ValueError(
            f"a batch of {batch_size} pairs cannot be shared equally by {processes} processes; choose a batch of "
            + (f"{below} or {below + processes}" if below else f"{processes}")
        )
    share = batch_size // processes
    limit = min(share, per_device or share)
    part = max(size for size in range(1, limit + 1) if share % size == 0)
    return part, share // part
