"""Depth of an image, by ZoeDepth, Depth Anything, Depth Pro, DPT or GLPN of transformers (Neural USD, section 3.1)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .errors import ModelError
from .hub import load_config, load_model, load_processor

METRIC = "metric"
RELATIVE = "relative"
# A relative model's answer has no scale: its nearest and farthest points are taken to be this far, in metres.
RELATIVE_NEAREST, RELATIVE_FARTHEST = 1.0, 10.0
FARTHEST = 1e4

# What a model's numbers are, where its configuration does not say (`depth_estimation_type`).
KINDS = {"zoedepth": METRIC, "depth_pro": METRIC, "glpn": METRIC, "dpt": RELATIVE}


@dataclass
class Depth:
    """`metres` (H, W) float32 along the viewing axis; `field_of_view`, horizontal in degrees, if the model tells it."""

    metres: np.ndarray
    field_of_view: float | None
    notes: list[str]


def estimate_depth(
    image: Image.Image,
    depth: str | os.PathLike,
    *,
    field_of_view: float | None = None,
    kind: str | None = None,
    device: str | None = None,
) -> Depth:
    """Depth of every pixel.

    A relative model gives inverse depth up to a scale and a shift; its range is mapped to 1 to 10 metres, and a note
    says so.

    Args:
        depth: hub id or local folder of a depth estimation model.
        field_of_view: horizontal, in degrees, if it is known: Depth Pro's scale depends on it.
        kind: "metric" or "relative", for a model whose configuration does not say which it is.

    Raises:
        ModelError: the model cannot be had, or nothing says what its numbers are.
    """
    import torch
    from transformers import AutoModelForDepthEstimation

    config = load_config(depth, "depth model")
    model_type = config.model_type
    kind = kind or getattr(config, "depth_estimation_type", None) or KINDS.get(model_type)
    if kind not in (METRIC, RELATIVE):
        raise ModelError(
            f"the depth model {depth} is of type {model_type}, and nothing says what its numbers are; "
            'say kind="metric" (metres) or kind="relative" (inverse depth, larger is nearer)'
        )
    processor = load_processor(depth, "depth model")
    model = load_model(AutoModelForDepthEstimation, depth, "depth model", device)
    pixels = processor(images=image, return_tensors="pt")["pixel_values"].to(model.device)
    with torch.inference_mode():
        outputs = model(pixel_values=pixels)
    predicted = outputs.predicted_depth.float().cpu()
    width, height = image.size
    notes: list[str] = []
    if model_type == "depth_pro":
        metres, field_of_view = _depth_pro(predicted, outputs.field_of_view, field_of_view, (height, width))
    elif model_type == "zoedepth" and processor.do_pad:
        metres, field_of_view = _zoedepth(predicted, (height, width)), None
    else:
        metres, field_of_view = _resize(predicted, (height, width), "bicubic"), None
    if not np.isfinite(metres).all():
        raise ModelError(f"the depth model {depth} answered with values that are not finite; are its weights damaged?")
    if kind == RELATIVE:
        metres = from_relative(metres)
        notes.append(
            f"{depth} knows no metres: what it sees was taken to be between {RELATIVE_NEAREST:g} m and "
            f"{RELATIVE_FARTHEST:g} m away"
        )
    return Depth(metres.clip(1e-3, FARTHEST).astype(np.float32), field_of_view, notes)


def from_relative(inverse: np.ndarray) -> np.ndarray:
    """Relative inverse depth (larger is nearer, any scale and shift) to metres, by the assumed nearest and farthest.

    The range is taken between the 1st and the 99th percentile, so that single pixels don't decide it.
    """
    low, high = np.percentile(inverse, [1, 99])
    nearness = np.zeros_like(inverse) if high <= low else ((inverse - low) / (high - low)).clip(0, 1)
    return 1.0 / (1 / RELATIVE_FARTHEST + nearness * (1 / RELATIVE_NEAREST - 1 / RELATIVE_FARTHEST))


def _resize(values: Any, size: tuple[int, int], mode: str) -> np.ndarray:
    """(1, h, w) predictions at (height, width)."""
    import torch.nn.functional as F

    return F.interpolate(values[None], size, mode=mode, align_corners=False)[0, 0].numpy()


def _zoedepth(predicted: Any, size: tuple[int, int]) -> np.ndarray:
    """ZoeDepth sees the image with a reflected border, 3 sqrt(side / 2) wide, which is cut off again."""
    height, width = size
    down, right = int(math.sqrt(height / 2) * 3), int(math.sqrt(width / 2) * 3)
    whole = _resize(predicted, (height + 2 * down, width + 2 * right), "bicubic")
    return whole[down : down + height, right : right + width]


def _depth_pro(
    predicted: Any, predicted_view: Any, field_of_view: float | None, size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Depth Pro gives inverse depth for a focal length of one image width (its equation 1), and a field of view."""
    if field_of_view is None:
        if predicted_view is None:
            raise ModelError(
                "this Depth Pro has no field of view model (use_fov_model); give field_of_view, in degrees"
            )
        field_of_view = float(predicted_view.flatten()[0])
        if not 1 <= field_of_view <= 170:
            raise ModelError(
                f"Depth Pro saw a field of view of {field_of_view:.1f} degrees; give field_of_view yourself"
            )
    widths_per_focal_length = 2 * math.tan(math.radians(field_of_view) / 2)
    inverse = _resize(predicted, size, "bilinear") * widths_per_focal_length
    return 1.0 / inverse.clip(1 / FARTHEST, FARTHEST), field_of_view
