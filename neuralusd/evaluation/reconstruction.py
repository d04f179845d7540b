"""Reconstruction against controllability (Neural USD, section 4.3 and Figure 8), both as 1 / RMSE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from ..training.config import MINI_SPLAT
from .baselines import copy_source, landed_tokens, splat_source
from .diffusers_baselines import BASELINES, STEPS, WeightsNotFound, load_baseline
from .edit_error import check_sizes
from .pairs import Pair, with_tokens
from .renderer import Renderer

RECONSTRUCTION, CONTROLLABILITY = COLUMNS = ("reconstruction", "controllability")
LANDED = "landed tokens, no denoiser"


@dataclass
class ReconstructionTable:
    """Row to `COLUMNS`; a row lacks the column that its model has no interface for, or that is exact by definition.

    `notes`: row to why it lacks a column. `images`: row to pictures of the first targets (of the first sources where a
    model only reconstructs).
    """

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)


def inverse_rmse(images: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """1 / RMSE over all pixels of all pictures (H, W, 3) in 0..1; infinite where they are the same."""
    errors = [np.square(image.astype(np.float64) - truth).mean() for image, truth in zip(images, truths, strict=True)]
    error = float(np.sqrt(np.mean(errors)))
    return 1 / error if error else float("inf")


def landed_rows(pairs: Sequence[Pair]) -> dict[str, list[np.ndarray]]:
    """The row of what lands without a denoiser, a picture a pair; none for frames that are not of `mini`'s size."""
    sizes = {pair.target.passes.ids.shape for pair in pairs}
    return {LANDED: landed_tokens(pairs)} if sizes == {(MINI_SPLAT.resolution, MINI_SPLAT.resolution)} else {}


def evaluate_reconstruction(
    renderers: Mapping[str, Renderer],
    pairs: Sequence[Pair],
    *,
    published: Mapping[str, str | None] | None = None,
    published_steps: int = STEPS,
    seed: int = 0,
    shown: int = 8,
) -> ReconstructionTable:
    """Every method on two axes.

    Reconstruction: all it can be told of a source frame, and the source frame is what it should make. Controllability:
    all it can be told of the way from the source frame to the target frame, and the target is what it should make.

    Args:
        published: names of `BASELINES` to a folder, or None for the published weights; None takes all of them.
        published_steps: their denoising steps.

    Raises:
        ValueError: a folder that was named cannot be loaded.
    """
    table = ReconstructionTable()
    check_sizes(renderers, pairs[0].source)
    still = [Pair(pair.source, pair.source) for pair in pairs]

    def add(name: str, rebuilt: list[np.ndarray] | None, controlled: list[np.ndarray] | None) -> None:
        row = {}
        for column, images, group in ((RECONSTRUCTION, rebuilt, still), (CONTROLLABILITY, controlled, pairs)):
            value = inverse_rmse(images, [pair.truth for pair in group]) if images is not None else None
            if value is not None and np.isfinite(value):
                row[column] = value
        table.rows[name] = row
        table.images[name] = np.stack((controlled or rebuilt or [])[:shown])

    add("copy source", None, [copy_source(pair) for pair in pairs])
    add("splat", None, [splat_source(pair) for pair in pairs])
    table.notes |= dict.fromkeys(table.rows, "reconstruction is the source picture itself")
    for name, landed in landed_rows(pairs).items():
        add(name, landed_rows(still)[name], landed)
    for name, renderer in renderers.items():
        made = [
            [
                renderer.render(with_tokens(renderer.pipeline, pair), seed + index, size=pair.truth.shape[:2])
                for index, pair in enumerate(tqdm(group, desc=f"{name}: {axis}", leave=False))
            ]
            for axis, group in zip(COLUMNS, (still, pairs), strict=True)
        ]
        add(name, *made)
    for key, location in (dict.fromkeys(BASELINES) if published is None else published).items():
        title = BASELINES[key].title if key in BASELINES else key
        try:
            model = load_baseline(key, location, published_steps)
        except WeightsNotFound as error:
            table.notes[title] = f"weights not found ({error})"
            continue
        rebuilt = _each(model.reconstruct, [pair.source for pair in pairs], seed, f"{title}: reconstruction")
        controlled = _each(model.control, pairs, seed, f"{title}: controllability")
        add(title, rebuilt, controlled)
        if rebuilt is None or controlled is None:
            table.notes[title] = f"no interface for {RECONSTRUCTION if rebuilt is None else CONTROLLABILITY}"
    table.images = {"(source)": np.stack([copy_source(pair) for pair in pairs[:shown]]), **table.images}
    table.images["(truth)"] = np.stack([pair.truth for pair in pairs[:shown]])
    return table


def _each(
    function: Callable[..., np.ndarray] | None, inputs: Sequence[object], seed: int, what: str
) -> list[np.ndarray] | None:
    if function is None:
        return None
    return [function(given, seed + index) for index, given in enumerate(tqdm(inputs, desc=what, leave=False))]
