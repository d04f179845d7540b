"""Object control (Neural USD, Figure 7): how near the rendered target frame is to the true one, against baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..pipelines.render import NeuralUSDPipeline
from .baselines import copy_source, looked_up, splat_source
from .lpips import Lpips
from .metrics import psnr, ssim
from .pairs import Pair, with_tokens
from .surfaces import surfaces_of

# What each row leaves out of the condition.
ABLATIONS: dict[str, Sequence[str]] = {
    "{}": (),
    "{}, pose zeroed": ("pose_2d", "pose_3d"),
    "{}, 3D pose zeroed": ("pose_3d",),
    "{}, geometry zeroed": ("geometry",),
    "{}, appearance zeroed": ("appearance",),
    "{}, landing off": ("landing",),
    "{}, cross-attention off": ("attention",),
}
LOOKED_UP = "looked up, no network"
PARTS = {"": None, " foreground": True, " background": False}
METRICS = tuple(metric + part for metric in ("PSNR", "SSIM", "LPIPS") for part in PARTS)
# Mean over pairs of the difference in PSNR to the first pipeline's row, and the standard error of that mean.
DIFFERENCE, ERROR = "PSNR to first", "± its error"
COLUMNS = (*METRICS, DIFFERENCE, ERROR)


@dataclass
class ControlTable:
    """`rows`: name of the row to `COLUMNS` to mean over pairs; `images`: row to (n, H, W, 3), the first pairs."""

    rows: dict[str, dict[str, float]]
    images: dict[str, np.ndarray]
    settings: dict[str, Any]


def evaluate_control(
    pipelines: Mapping[str, NeuralUSDPipeline],
    pairs: Sequence[Pair],
    *,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int = 8,
    ablations: bool = True,
    baselines: Mapping[str, Sequence[np.ndarray]] | None = None,
    lpips: Lpips | None = None,
    shown: int = 8,
) -> ControlTable:
    """Renders every pair with every pipeline and its ablations, and with the baselines that need no model.

    `baselines` are further rows, an image (H, W, 3) in 0..1 for each pair. LPIPS is measured where `lpips` is given.
    """
    results: dict[str, list[np.ndarray]] = {
        "copy source": [copy_source(pair) for pair in pairs],
        "depth splat, holes from source": [splat_source(pair) for pair in pairs],
        **{name: list(images) for name, images in (baselines or {}).items()},
        LOOKED_UP: looked_up(next(iter(pipelines.values())), pairs),
    }
    for name, pipeline in pipelines.items():
        scenes = [with_tokens(pipeline, pair) for pair in tqdm(pairs, desc=f"{name}: encode", leave=False)]
        for row, drop in ABLATIONS.items():
            if drop and not ablations or "landing" in drop and not pipeline.asset_tokenizer.landing_channels:
                continue
            rendered: list[np.ndarray] = []
            for start in tqdm(range(0, len(scenes), batch_size), desc=row.format(name), leave=False):
                part = scenes[start : start + batch_size]
                generators = [torch.Generator("cpu").manual_seed(seed + start + i) for i in range(len(part))]
                height, width = pairs[start].truth.shape[:2]
                surfaces = [surfaces_of(scene, height, width) for scene in part] if pipeline.looks_up else [None]
                rendered += list(
                    pipeline(
                        part,
                        surfaces=None if None in surfaces else surfaces,  # type: ignore[arg-type]
                        height=height,
                        width=width,
                        num_inference_steps=steps,
                        guidance_scale=guidance,
                        generator=generators,
                        drop=drop,
                        output_type="np",
                    ).images
                )
            results[row.format(name)] = rendered
    values = {name: measure(images, pairs, lpips) for name, images in results.items()}
    rows = {name: summarize(each, values[next(iter(pipelines))]) for name, each in values.items()}
    rows["(truth)"] = {}
    images = {name: np.stack(part[:shown]) for name, part in results.items()}
    images["(truth)"] = np.stack([pair.truth for pair in pairs[:shown]])
    return ControlTable(rows, images, {"pairs": len(pairs), "seed": seed, "steps": steps, "guidance": guidance})


def measure(images: Sequence[np.ndarray], pairs: Sequence[Pair], lpips: Lpips | None = None) -> dict[str, np.ndarray]:
    """`METRICS` of images, a value a pair; NaN where a pair has no foreground, or all of it is."""
    functions = {"PSNR": psnr, "SSIM": ssim, **({"LPIPS": lpips.distance} if lpips else {})}
    measured = {}
    for metric, function in functions.items():
        for part, foreground in PARTS.items():
            measured[metric + part] = np.array(
                [
                    function(image, pair.truth, None if foreground is None else pair.foreground == foreground)
                    for image, pair in zip(images, pairs, strict=True)
                ]
            )
    return measured


def summarize(values: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]) -> dict[str, float]:
    """`COLUMNS` of what was measured, with the difference to what was measured of the first pipeline."""
    row = {metric: float(np.nanmean(each)) for metric, each in values.items()}
    difference = values["PSNR"] - first["PSNR"]
    if difference.any():
        row[DIFFERENCE] = float(difference.mean())
        if len(difference) > 1:
            row[ERROR] = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return row
