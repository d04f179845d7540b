"""Objects followed through a video: by SAM 2's memory, or by how much masks of successive frames cover each other."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .errors import ModelError
from .hub import load_config, load_model, load_processor

TRACKER = "sam2_video"
# Masks of two frames that share this much of their union may be the same object.
SAME_TRACK = 0.3
# After so many frames without it, an object is taken to be gone; what comes then is another one.
LONGEST_GAP = 3


def track(
    images: Sequence[Image.Image],
    tracker: str | os.PathLike,
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    device: str | None = None,
) -> list[list[np.ndarray]]:
    """Masks of the objects that are in boxes in the first image, in that and all that follow, by SAM 2 (its section 4).

    Args:
        images: T of one size.
        tracker: hub id or local folder of a SAM 2 (or 2.1) for video.
        boxes: N of (left, top, right, bottom) in pixels of the first image.

    Returns:
        T lists of N masks (H, W) bool, empty where the object is not seen.

    Raises:
        ModelError: the model cannot be had, or is no SAM 2 for video.
    """
    import torch
    import torch.nn.functional as F
    from transformers import AutoModel, Sam2VideoInferenceSession

    config = load_config(tracker, "tracker")
    if config.model_type != TRACKER:
        raise ModelError(
            f"the tracker {tracker} is of type {config.model_type}; give a SAM 2 for video ({TRACKER}), such as "
            "facebook/sam2.1-hiera-tiny, or none: masks are then followed by their overlap"
        )
    processor = load_processor(tracker, "tracker")
    model = load_model(AutoModel, tracker, "tracker", device)
    pixels = torch.cat([processor(images=image, return_tensors="pt")["pixel_values"] for image in images])
    width, height = images[0].size
    session = Sam2VideoInferenceSession(
        video=pixels, video_height=height, video_width=width, inference_device=model.device, dtype=torch.float32
    )
    # A box is two points, labelled 2 and 3; it was stretched with its picture to the model's input.
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 1, 1, 2, 2)
    corners = corners * torch.tensor([pixels.shape[-1] / width, pixels.shape[-2] / height])
    labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
    for number, corner in enumerate(corners):
        index = session.obj_id_to_idx(number)
        session.add_point_inputs(index, 0, {"point_coords": corner, "point_labels": labels})
    session.obj_with_new_inputs = list(range(len(boxes)))
    masks = []
    with torch.inference_mode():
        for output in model.propagate_in_video_iterator(session, start_frame_idx=0):
            logits = F.interpolate(output.pred_masks.float().cpu(), (height, width), mode="bilinear")
            masks.append(list((logits[:, 0] > 0).numpy()))
    return masks


def associate(frames: Sequence[tuple[Sequence[str], Sequence[np.ndarray]]]) -> tuple[list[str], list[list[int]]]:
    """Which masks of successive frames are of one object: those of one label that cover each other most.

    Each frame's masks are assigned to the objects seen in the `LONGEST_GAP` frames before it such that the sum of
    intersections over unions is largest; pairs below `SAME_TRACK` are none.

    Args:
        frames: of each frame the labels and the masks (H, W) bool.

    Returns:
        labels of the objects, and for each frame the object of each of its masks.
    """
    from scipy.optimize import linear_sum_assignment

    labels: list[str] = []
    last: list[tuple[int, np.ndarray]] = []  # of each object: when, and where it was seen last
    assigned = []
    for number, (names, masks) in enumerate(frames):
        open_tracks = [index for index, (when, _) in enumerate(last) if number - when <= LONGEST_GAP + 1]
        overlap = np.zeros((len(masks), len(open_tracks)))
        for row, (name, mask) in enumerate(zip(names, masks, strict=True)):
            for column, index in enumerate(open_tracks):
                if labels[index] == name:
                    union = int((mask | last[index][1]).sum())
                    overlap[row, column] = (mask & last[index][1]).sum() / union if union else 0.0
        rows, columns = linear_sum_assignment(-overlap)
        found = {
            int(row): open_tracks[column]
            for row, column in zip(rows, columns, strict=True)
            if overlap[row, column] >= SAME_TRACK
        }
        objects = []
        for row, (name, mask) in enumerate(zip(names, masks, strict=True)):
            if row not in found:
                found[row] = len(labels)
                labels.append(name)
                last.append((number, mask))
            last[found[row]] = (number, mask)
            objects.append(found[row])
        assigned.append(objects)
    return labels, assigned
