"""Checkpoints of a run: whole or not there, whenever it is killed."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

# A checkpoint is written under the first name, and moved to the second when it is whole; meanwhile the one before it
# has the third.
_PART, _WHOLE, _BEFORE = "checkpoint.part", "checkpoint", "checkpoint.previous"
_PROGRESS = "progress.json"


def save_checkpoint(accelerator: Accelerator, output: Path, step: int, seconds: float) -> None:
    """Saves weights, optimizer and averages after `step` steps to `output`/checkpoint. All processes call it."""
    part, whole, before = (output / name for name in (_PART, _WHOLE, _BEFORE))
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (part / _PROGRESS).write_text(json.dumps({"step": step, "seconds": seconds}))
        if whole.exists():
            shutil.rmtree(before, ignore_errors=True)
            whole.rename(before)
        part.rename(whole)
        shutil.rmtree(before, ignore_errors=True)
    accelerator.wait_for_everyone()


def find_checkpoint(output: Path) -> Path | None:
    """The folder of the last whole checkpoint."""
    folders = (output / name for name in (_WHOLE, _BEFORE))
    return next((folder for folder in folders if (folder / _PROGRESS).is_file()), None)


def load_checkpoint(accelerator: Accelerator, output: Path) -> tuple[int, float]:
    """Goes back to the last checkpoint. Returns its step and seconds; (0, 0) where there is none.

    Raises:
        ValueError: it is damaged, or of another model.
    """
    folder = find_checkpoint(output)
    if folder is None:
        return 0, 0.0
    try:
        progress = json.loads((folder / _PROGRESS).read_text())
        accelerator.load_state(str(folder))
        step, seconds = int(progress["step"]), float(progress["seconds"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError,
            SafetensorError) as error:  # fmt: skip
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{folder} is damaged, or of another model than this run's ({reason[:200]}); train to another folder, or "
            "remove it to start anew"
        ) from error
    accelerator.step = 0  # a step's parts are counted from here on, and may be other parts than before
    return step, seconds


def weights_digest(modules: Iterable[nn.Module]) -> str:
    """Twelve digits that identify weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
