"""Boxes of objects: open vocabulary (Grounding DINO, OWL, OmDet) or closed (DETR and its kin), by transformers."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .errors import ModelError
from .hub import load_config, load_model, load_processor

# Two boxes that share more than this of their union are one object found twice.
SAME_OBJECT = 0.7


@dataclass
class Detection:
    """One object: `label` in words, `score` in 0..1, `box` (left, top, right, bottom) in pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


def detect(
    image: Image.Image,
    detector: str | os.PathLike,
    prompts: Sequence[str],
    *,
    threshold: float = 0.3,
    device: str | None = None,
) -> list[Detection]:
    """Objects in an image, best first, each once.

    Args:
        detector: hub id or local folder of an object detection model.
        prompts: what to look for. An open-vocabulary detector needs them; a closed one is restricted to those of its
            labels, all of them where there are no prompts.
        threshold: detections of a lower score are left out.

    Raises:
        ModelError: the model cannot be had, needs prompts, or does not know one.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES as OPEN_VOCABULARY,
    )

    config = load_config(detector, "detector")
    if config.model_type in OPEN_VOCABULARY:
        if not prompts:
            raise ModelError(f"the detector {detector} looks for what you name: give prompts, such as a chair, a cup")
        found = _open_vocabulary(image, detector, list(prompts), threshold, device)
    else:
        found = _closed_vocabulary(image, detector, config, list(prompts), threshold, device)
    width, height = image.size
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.score):
        box = np.clip(detection.box, 0, [width, height, width, height])
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            continue
        if all(_overlap(box, np.array(other.box)) < SAME_OBJECT for other in kept):
            left, top, right, bottom = box.tolist()
            kept.append(Detection(detection.label, detection.score, (left, top, right, bottom)))
    return kept


def _open_vocabulary(
    image: Image.Image, name: str | os.PathLike, prompts: list[str], threshold: float, device: str | None
) -> list[Detection]:
    import torch
    from transformers import AutoModelForZeroShotObjectDetection

    processor = load_processor(name, "detector", text=True)
    model = load_model(AutoModelForZeroShotObjectDetection, name, "detector", device)
    inputs = processor(images=image, text=[prompts], return_tensors="pt").to(model.device)
    with torch.inference_mode():
        outputs = model(**inputs)
    options: dict[str, Any] = {"threshold": threshold, "target_sizes": [image.size[::-1]], "text_labels": [prompts]}
    if "input_ids" in inputs and "grounding-dino" in model.config.model_type:
        options |= {"input_ids": inputs["input_ids"], "text_threshold": min(threshold, 0.25)}
    result = processor.post_process_grounded_object_detection(outputs, **options)[0]
    if not len(result["scores"]):  # Grounding DINO decodes no label to one empty label
        return []
    rows = zip(result["text_labels"], result["scores"].tolist(), result["boxes"].tolist(), strict=True)
    return [Detection(_nearest_prompt(label, prompts), score, tuple(box)) for label, score, box in rows]


def _closed_vocabulary(
    image: Image.Image, name: str | os.PathLike, config: Any, prompts: list[str], threshold: float, device: str | None
) -> list[Detection]:
    import torch
    from transformers import AutoModelForObjectDetection

    labels = {index: str(label) for index, label in config.id2label.items()}
    known = {label.lower() for label in labels.values()}
    for prompt in prompts:
        if prompt.lower() not in known:
            close = difflib.get_close_matches(prompt.lower(), known, n=5, cutoff=0.4) or sorted(known)[:8]
            raise ModelError(
                f"the detector {name} knows {len(known)} labels, and not {prompt!r}; near ones: {', '.join(close)}. "
                "An open-vocabulary detector (Grounding DINO, OWL) takes any words"
            )
    processor = load_processor(name, "detector")
    model = load_model(AutoModelForObjectDetection, name, "detector", device)
    inputs = processor(images=image, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        outputs = model(**inputs)
    result = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=[image.size[::-1]])[0]
    rows = zip(result["labels"].tolist(), result["scores"].tolist(), result["boxes"].tolist(), strict=True)
    found = [Detection(labels[index], score, tuple(box)) for index, score, box in rows]
    wanted = {prompt.lower() for prompt in prompts}
    return [detection for detection in found if not wanted or detection.label.lower() in wanted]


def _nearest_prompt(phrase: str, prompts: list[str]) -> str:
    """The prompt that a phrase is of: Grounding DINO answers with the words that fired, `chair` for `a red chair`."""
    words = set(phrase.lower().split())
    shared = [len(words & set(prompt.lower().split())) for prompt in prompts]
    if max(shared):
        return prompts[int(np.argmax(shared))]
    close = difflib.get_close_matches(phrase.lower(), [prompt.lower() for prompt in prompts], n=1, cutoff=0.0)
    return next(prompt for prompt in prompts if prompt.lower() == close[0])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two (left, top, right, bottom) boxes."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = sides.prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
