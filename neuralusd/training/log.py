"""The log of a training run as a picture."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path


def plot_log(folder: str | Path) -> Path | None:
    """Draws `folder`/log.jsonl, the loss over pairs of frames seen, to `folder`/loss.png.

    Returns the picture's path; None without matplotlib (the extra `train`) or without a logged step.
    """
    folder = Path(folder)
    lines = (folder / "log.jsonl").read_text().splitlines()
    if not lines or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in lines]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([entry["step"] for entry in entries], [entry["loss"] for entry in entries])
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=folder.name)
    axes.grid(alpha=0.3, which="both")
    path = folder / "loss.png"
    figure.savefig(path, dpi=120)
    return path
