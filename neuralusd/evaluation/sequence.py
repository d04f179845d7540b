"""Five edits one over the other (Neural USD, section 4.2): how far what was never edited drifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from ..pipelines.compositing import footprint
from .edit_error import IDENTICAL, TRUTH, check_sizes, donor_frame, edited_region, edited_tokens
from .metrics import psnr
from .pairs import Frame
from .renderer import AssetTokens, Renderer, with_asset_tokens
from .truths import CaseTruths

STEPS = ("1 pose", "2 appearance", "3 geometry", "4 background", "5 pose again")
# Pixels that a region needs to be measured on.
_FEWEST = 16


@dataclass
class SequenceTable:
    """`never`: row to `STEPS`, PSNR in dB to the first image where none of the five edits reaches; `so_far`: where none
    of the edits up to that step does. `count`: cases; `images`: row to (n * 6) pictures, the first image and each step.
    """

    never: dict[str, dict[str, float]] = field(default_factory=dict)
    so_far: dict[str, dict[str, float]] = field(default_factory=dict)
    count: int = 0
    images: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate_sequence(
    renderers: Mapping[str, Renderer],
    truths: Sequence[CaseTruths],
    world: Mapping[tuple[str, float], Frame],
    *,
    seed: int = 0,
    shown: int = 2,
) -> SequenceTable:
    """Renders each step of every case's sequence, each step's stage a layer over the one before.

    Rows are "<name>, held" (each step keeps to the image of the step before outside of its own footprint, as `render`
    does; the background's footprint is the whole image) and "<name>, not held", each to its own first image, and
    "(truth)": Cycles of the same stages, whose light reaches beyond the footprints.
    """
    never: dict[str, list[list[float]]] = {}
    so_far: dict[str, list[list[float]]] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    table = SequenceTable()
    for index, found in enumerate(tqdm(truths, desc="sequences", leave=False)):
        steps = found.sequence
        if not steps or not found.before.done or not all(step.done for step in steps):
            continue
        edits = found.case.sequence
        donors = [donor_frame(found, step, edit, world) for step, edit in zip(steps, edits, strict=True)]
        if any(edit.donor is not None and donor is None for edit, donor in zip(edits, donors, strict=True)):
            continue
        shots = [found.frame(truth) for truth in (found.before, *steps)]
        check_sizes(renderers, shots[0])
        touched = np.zeros(shots[0].passes.ids.shape, bool)
        regions = []
        for number, edit in enumerate(edits):
            touched = touched | edited_region(edit, shots[number], shots[number + 1])
            regions.append(~touched)
        if regions[-1].sum() < _FEWEST:
            continue
        runs = {TRUTH: [shot.picture for shot in shots]}
        for name, renderer in renderers.items():
            tokens: AssetTokens = renderer.encode(shots[0])
            scenes = [with_asset_tokens(shots[0].scene, tokens)]
            for number, edit in enumerate(edits):
                tokens = edited_tokens(renderer, edit, tokens, donors[number])
                scenes.append(with_asset_tokens(shots[number + 1].scene, tokens))
            first = renderer.render(scenes[0], seed + index, size=shots[0].passes.ids.shape)
            held, free = [first], [first]
            for earlier, later in zip(scenes[:-1], scenes[1:], strict=True):
                image = renderer.render(later, seed + index, size=shots[0].passes.ids.shape)
                free.append(image)
                mask = footprint(earlier, later, *touched.shape)
                kept = renderer.render(later, seed + index, held=held[-1], footprint=mask) if not mask.all() else image
                held.append(kept)
            runs[f"{name}, held"], runs[f"{name}, not held"] = held, free
        table.count += 1
        for row, images in runs.items():
            for scores, masks in ((never, [regions[-1]] * len(edits)), (so_far, regions)):
                drift = [
                    min(psnr(image, images[0], mask), IDENTICAL) for image, mask in zip(images[1:], masks, strict=True)
                ]
                scores.setdefault(row, []).append(drift)
            if table.count <= shown:
                pictures.setdefault(row, []).extend(images)
    for rows, scores in ((table.never, never), (table.so_far, so_far)):
        for row, values in scores.items():
            rows[row] = dict(zip(STEPS, np.mean(values, axis=0).tolist(), strict=True))
    table.images = {row: np.stack(images) for row, images in pictures.items()}
    return table
