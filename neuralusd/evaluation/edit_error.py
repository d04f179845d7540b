"""Edits against their true answers: error inside of the footprint, and change outside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from ..pipelines.compositing import footprint
from ..scene import APPEARANCE, Tokens
from .baselines import splat_source
from .edits import BACKGROUND, KINDS, MOVED, RECOLOURED, ROTATED, Edit
from .lpips import Lpips
from .metrics import psnr, ssim
from .pairs import Frame, Pair
from .renderer import AssetTokens, Renderer, with_asset_tokens
from .truths import CaseTruths, Truth

NOT_EDITED, SPLAT, TRUTH = "not edited", "splat", "(truth)"
COLUMNS = (
    "PSNR inside",
    "SSIM inside",
    "LPIPS inside",
    "PSNR outside, before",
    "PSNR outside, picture",
    "PSNR outside, truth",
)
# An image that is the same has no finite PSNR.
IDENTICAL = 99.0


@dataclass
class EditTable:
    """Kind of edit to row to `COLUMNS`, means over cases; `counts`: cases a kind; `images`: kind to row to pictures."""

    rows: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    images: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def evaluate_edits(
    renderers: Mapping[str, Renderer],
    truths: Sequence[CaseTruths],
    world: Mapping[tuple[str, float], Frame],
    *,
    seed: int = 0,
    lpips: Lpips | None = None,
    shown: int = 8,
) -> EditTable:
    """Makes every edit with every renderer, held and not held, and compares with what Cycles made of it.

    Tokens are those of Cycles' picture before the edit; an edit that brings a new look brings the tokens of it as seen
    from `Case.view` (recoloured, background) or in another scene (replaced), never of the true answer.

    Rows are "not edited" (the picture before), "splat" where something only moved, and "<name>, held" and
    "<name>, not held". Held to is the picture before; a background takes the whole image, so it has no held row.

    Columns, against the truth inside of the footprint; outside of it against the image of this row before the edit (the
    picture where held), against the picture before, and against the truth, which has the edit's shadows. Where the
    background is replaced, inside is what shows the background, outside what shows objects.

    Args:
        truths: rendered; those that are missing are left out. world: (file of a stage, time) to its frame, for donors.

    Raises:
        ValueError: a backend renders another size than the pictures have.
    """
    scores: dict[str, dict[str, list[list[float]]]] = {}
    pictures: dict[str, dict[str, list[np.ndarray]]] = {}
    for index, found in enumerate(tqdm(truths, desc="edits", leave=False)):
        if not found.before.done:
            continue
        before = found.frame(found.before)
        check_sizes(renderers, before)
        tokens = {name: renderer.encode(before) for name, renderer in renderers.items()}
        own = {
            name: renderer.render(
                with_asset_tokens(before.scene, tokens[name]), seed + index, size=before.passes.ids.shape
            )
            for name, renderer in renderers.items()
        }
        for kind, truth in found.edits.items():
            edit = found.case.edits[kind]
            donor = donor_frame(found, truth, edit, world) if truth.done else None
            if not truth.done or (edit.donor is not None and donor is None):
                continue
            after = found.frame(truth)
            where = edited_region(edit, before, after)
            images = {NOT_EDITED: (before.picture, before.picture)}
            if kind in (MOVED, ROTATED):
                images[SPLAT] = (splat_source(Pair(before, after)), before.picture)
            for name, renderer in renderers.items():
                scene = with_asset_tokens(after.scene, edited_tokens(renderer, edit, tokens[name], donor))
                images[f"{name}, not held"] = (
                    renderer.render(scene, seed + index, size=where.shape),
                    own[name],
                )
                # The product's own footprint decides what is held, and not a word of the truth.
                mask = footprint(with_asset_tokens(before.scene, tokens[name]), scene, *where.shape)
                if not mask.all():
                    held = renderer.render(scene, seed + index, held=before.picture, footprint=mask)
                    images[f"{name}, held"] = (held, before.picture)
            for row, (image, earlier) in images.items():
                values = _score(image, earlier, before.picture, after.picture, where, lpips)
                scores.setdefault(kind, {}).setdefault(row, []).append(values)
            sheet = {"(before)": before.picture, TRUTH: after.picture, **{row: pair[0] for row, pair in images.items()}}
            for row, picture in sheet.items():
                pictures.setdefault(kind, {}).setdefault(row, []).append(picture)
    table = EditTable()
    for kind in KINDS:
        if kind in scores:
            table.rows[kind] = {row: _mean(values) for row, values in scores[kind].items()}
            table.counts[kind] = len(scores[kind][NOT_EDITED])
            whole = {row: images for row, images in pictures[kind].items() if len(images) == table.counts[kind]}
            table.images[kind] = {row: np.stack(images[:shown]) for row, images in whole.items()}
    return table


def donor_frame(found: CaseTruths, truth: Truth, edit: Edit, world: Mapping[tuple[str, float], Frame]) -> Frame | None:
    """The frame that an edit's new tokens are seen in; None where it needs none, or the frame does not show them."""
    view = edit.donor
    if view is None:
        return None
    frame = world.get((view.stage, view.time)) if view.stage else found.frame(truth, view.time)
    if frame is None:
        return None
    assets = frame.scene.assets
    seen = [i for i, asset in enumerate(assets) if asset.path == view.path and (frame.passes.ids == i).any()]
    return frame if seen else None


def edited_tokens(renderer: Renderer, edit: Edit, tokens: AssetTokens, donor: Frame | None) -> AssetTokens:
    """`tokens` (path to modality to tokens) with those that an edit brings, encoded from `donor`.

    A recoloured asset takes a new appearance and keeps its geometry; the others take both.
    """
    if donor is None or edit.donor is None:
        return tokens
    new: Mapping[str, Tokens] = renderer.encode(donor).get(edit.donor.path, {})
    old = tokens.get(edit.path, {})
    if edit.kind == RECOLOURED:
        new = {**old, APPEARANCE: new[APPEARANCE]} if APPEARANCE in new else old
    return {**tokens, edit.path: new}


def edited_region(edit: Edit, before: Frame, after: Frame) -> np.ndarray:
    """(H, W) bool, where an edit may change the picture: the product's footprint; what shows the background for it."""
    if edit.kind == BACKGROUND:
        return ~(foreground(before) | foreground(after))
    # Marked as changed by its presence: the tokens, which differ by backend, are not at hand.
    assets = [replace(a, presence=a.presence / 2) if a.path == edit.path else a for a in after.scene.assets]
    return footprint(before.scene, replace(after.scene, assets=assets), *before.passes.ids.shape)


def foreground(frame: Frame) -> np.ndarray:
    """(H, W) bool, where a frame shows foreground assets."""
    return np.isin(frame.passes.ids, [i for i, a in enumerate(frame.scene.assets) if a.role == "foreground"])


def check_sizes(renderers: Mapping[str, Renderer], frame: Frame) -> None:
    """Raises ValueError for a backend that renders another size than the frame has."""
    height, width = frame.passes.ids.shape
    for name, renderer in renderers.items():
        if not renderer.pipeline.looks_up and (height, width) != (renderer.size, renderer.size):
            raise ValueError(
                f"'{name}' renders {renderer.size} x {renderer.size} pixels, but the world's frames have "
                f"{width} x {height}; make a world of its size (neuralusd data furniture --resolution {renderer.size})"
            )


def _score(
    image: np.ndarray,
    earlier: np.ndarray,
    picture: np.ndarray,
    answer: np.ndarray,
    where: np.ndarray,
    lpips: Lpips | None,
) -> list[float]:
    """Values of `COLUMNS`."""
    return [
        min(psnr(image, answer, where), IDENTICAL),
        ssim(image, answer, where),
        lpips.distance(image, answer, where) if lpips else np.nan,
        *(min(psnr(image, other, ~where), IDENTICAL) for other in (earlier, picture, answer)),
    ]


def _mean(values: list[list[float]]) -> dict[str, float]:
    """Means of each column over the cases that have it; a column that none has is left out."""
    columns = zip(COLUMNS, np.array(values).T, strict=True)
    return {name: float(np.nanmean(column)) for name, column in columns if np.isfinite(column).any()}
