"""Object control (Neural USD, Figure 7): how near the rendered target frame is to the true one, against baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..pipelines.render import NeuralUSDPipeline
from .baselines import copy_source, splat_source
from .metrics import psnr, ssim
from .pairs import Pair, with_tokens

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
METRICS = ("PSNR", "PSNR foreground", "PSNR background", "SSIM", "SSIM foreground", "SSIM background")


@dataclass
class ControlTable:
    """`rows`: name of the row to `METRICS` to mean over pairs; `images`: row to (n, H, W, 3), the first pairs."""

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
    shown: int = 8,
) -> ControlTable:
    """Renders every pair with every pipeline and its ablations, and with the baselines that need no model.

    `baselines` are further rows, an image (H, W, 3) in 0..1 for each pair.
    """
    results: dict[str, list[np.ndarray]] = {
        "copy source": [copy_source(pair) for pair in pairs],
        "depth splat, holes from source": [splat_source(pair) for pair in pairs],
        **{name: list(images) for name, images in (baselines or {}).items()},
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
                rendered += list(
                    pipeline(
                        part,
                        num_inference_steps=steps,
                        guidance_scale=guidance,
                        generator=generators,
                        drop=drop,
                        output_type="np",
                    ).images
                )
            results[row.format(name)] = rendered
    rows = {name: score(images, pairs) for name, images in results.items()}
    rows["(truth)"] = {}
    images = {name: np.stack(part[:shown]) for name, part in results.items()}
    images["(truth)"] = np.stack([pair.truth for pair in pairs[:shown]])
    return ControlTable(rows, images, {"pairs": len(pairs), "seed": seed, "steps": steps, "guidance": guidance})


def score(images: Sequence[np.ndarray], pairs: Sequence[Pair]) -> dict[str, float]:
    """`METRICS` of images, means over pairs; a pair without foreground does not count for it."""
    masks: dict[str, Callable[[Pair], np.ndarray | None]] = {
        "": lambda pair: None,
        " foreground": lambda pair: pair.foreground,
        " background": lambda pair: ~pair.foreground,
    }
    out = {}
    for metric, function in (("PSNR", psnr), ("SSIM", ssim)):
        for part, mask in masks.items():
            values = [function(image, pair.truth, mask(pair)) for image, pair in zip(images, pairs, strict=True)]
            out[metric + part] = float(np.nanmean(values))
    return out
