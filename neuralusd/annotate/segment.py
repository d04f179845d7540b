"""Masks of boxes, by SAM and its kin (Neural USD, section 3.1: SAM with bounding box conditioning)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .errors import ModelError
from .hub import load_config, load_model, load_processor


def segment(
    image: Image.Image,
    segmenter: str | os.PathLike,
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    device: str | None = None,
) -> list[np.ndarray]:
    """A mask (H, W) bool for each box (left, top, right, bottom) in pixels; empty where the model sees no object.

    Args:
        segmenter: hub id or local folder of a model that takes boxes: SAM, SAM-HQ, SAM 2, SAM 3's tracker.

    Raises:
        ModelError: the model cannot be had or takes no boxes.
    """
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForMaskGeneration
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES as TAKE_BOXES

    config = load_config(segmenter, "segmenter")
    if config.model_type not in TAKE_BOXES:
        raise ModelError(
            f"the segmenter {segmenter} is of type {config.model_type}, which takes no boxes; "
            f"these do: {', '.join(TAKE_BOXES)}"
        )
    processor = load_processor(segmenter, "segmenter")
    model = load_model(AutoModelForMaskGeneration, segmenter, "segmenter", device)
    inputs = processor(images=image, return_tensors="pt")
    pixels = inputs["pixel_values"]
    # SAM 1 keeps the aspect and pads; its kin stretch the image to the whole input.
    padded = "reshaped_input_sizes" in inputs
    reshaped = inputs["reshaped_input_sizes"][0].tolist() if padded else pixels.shape[-2:]
    width, height = image.size
    scale = torch.tensor([reshaped[1] / width, reshaped[0] / height] * 2)
    prompt = (torch.tensor(boxes, dtype=torch.float32) * scale)[None]
    with torch.inference_mode():
        outputs = model(
            pixel_values=pixels.to(model.device), input_boxes=prompt.to(model.device), multimask_output=False
        )
    masks = []
    for logits in outputs.pred_masks[0].float().cpu():  # (1, h, w) each; one at a time, for at full size they are large
        logits = logits[None]
        if padded:
            logits = F.interpolate(logits, pixels.shape[-2:], mode="bilinear")[..., : reshaped[0], : reshaped[1]]
        masks.append((F.interpolate(logits, (height, width), mode="bilinear")[0, 0] > 0).numpy())
    return masks
