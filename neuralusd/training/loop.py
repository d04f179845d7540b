"""The steps of a training run that all volume models share: learning rate, log, checkpoints."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from .checkpoint import load_checkpoint, save_checkpoint

Losses = tuple[torch.Tensor, dict[str, Any]]


def run_steps(
    accelerator: Accelerator,
    optimizer: Any,
    output: Path,
    loss_of: Callable[[int], Losses],
    *,
    name: str,
    steps: int,
    lr: float,
    clipped: Sequence[torch.nn.Parameter],
    warmup_steps: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    log_steps: int = 25,
    after_step: Callable[[], None] = lambda: None,
) -> int:
    """Trains from the last checkpoint in `output` to the end.

    The rate decays linearly to 0, over the steps or the minutes, whichever end first. A group of the optimizer may say
    in "times" by how much its own is larger.

    Args:
        optimizer: prepared. loss_of: given a step's number, from 0, the loss, and what the log says beside it: numbers,
            whose means are written, and words. A line is of one word alone: "of", say, tells kinds of loss apart.
            Whatever is random in it depends on the step.
        name: of the progress bar. clipped: parameters whose gradient's norm is at most 1.
        max_minutes: counted over all parts of a run that was resumed.
        after_step: called after the optimizer's step.

    Returns:
        How many steps the weights have seen.

    Raises:
        ValueError: the loss is not finite any more, or the checkpoint does not fit.
    """
    step, spent = load_checkpoint(accelerator, output)
    started = time.monotonic() - spent
    bar = tqdm(total=steps, initial=step, desc=name, mininterval=10)
    seen: list[dict[str, float]] = []
    words: dict[str, str] = {}
    while True:
        elapsed = 0.0 if max_minutes is None else (time.monotonic() - started) / 60 / max_minutes
        progress = max(step / steps, elapsed)
        if progress >= 1:
            break
        rate = lr * min(1 - progress, (step + 1) / warmup_steps if warmup_steps else 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group.get("times", 1.0) * rate
        with _quick_attention(accelerator.device):
            with accelerator.autocast():
                loss, about = loss_of(step)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(clipped, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after_step()
        step += 1
        bar.update()
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(f"the loss is {value} after step {step}; {output} keeps its last checkpoint")
        said = {key: each for key, each in about.items() if isinstance(each, str)}
        if said != words:
            seen, words = [], said
        seen.append({"loss": value, **{key: each for key, each in about.items() if key not in said}})
        if step % log_steps == 0:
            means = {key: float(np.mean([each[key] for each in seen])) for key in seen[0]}
            entry = {"step": step, **means, **words, "seconds": time.monotonic() - started}
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            bar.set_postfix({**words, **{key: f"{mean:.4f}" for key, mean in means.items()}})
            seen = []
        if step % checkpoint_steps == 0 or step == steps:
            save_checkpoint(accelerator, output, step, time.monotonic() - started)
    bar.close()
    return step


def _quick_attention(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Plain attention on a CPU: of few tokens it takes half as long as the fused one, whose way back is slow."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
