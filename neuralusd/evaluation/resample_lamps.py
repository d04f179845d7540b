"""Whether the light of a lamp goes with the lamp (Anchored Generation, section 3.3)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pxr import UsdGeom
from tqdm import tqdm

from .. import stage as stages
from ..api.editing import edit, edit_over
from ..datasets.workers import run_tasks
from ..datasets.world import SceneFolder
from ..pipelines.compositing import footprint
from .cycles_task import CyclesTask, render_task
from .renderer import Renderer, with_asset_tokens
from .resample_measures import Mean, bootstrapped
from .truths import BEFORE, PictureFrame, Truth

SHARE, ALL, FELT = LAMP_COLUMNS = (
    "change where the lamp lit, % of the true one",
    "change outside of the lamp, % of the true one",
    "correlation with the true change",
)
TRUTH, NOT_EDITED = "(truth)", "not edited"
# Rooms; linear light that a lamp has to give to a pixel for it to count as lit; the least of such pixels.
MOST, LIT, _FEWEST = 8, 0.02, 40
_TIME, _CAMERA = 1.0, "/Room/Camera"


@dataclass(frozen=True)
class LampTruth:
    """A room with its lamps, and without those that are lit, by Cycles."""

    folder: SceneFolder
    lamps: tuple[str, ...]
    before: Truth
    after: Truth

    @property
    def done(self) -> bool:
        return self.before.done and self.after.done


@dataclass
class LampTable:
    """Row to column to (mean, error); `rooms`: those that were measured; `images`: row to (n, H, W, 3)."""

    rows: dict[str, dict[str, Mean]] = field(default_factory=dict)
    rooms: list[str] = field(default_factory=list)
    images: dict[str, np.ndarray] = field(default_factory=dict)


def lamp_truths(rooms: Iterable[SceneFolder], folder: Path, samples: int, resolution: int) -> list[LampTruth]:
    """Writes the stages of up to `MOST` rooms without their lit lamps; rooms first where these are the main light.

    Says where the pictures belong; `render_lamps` makes them.
    """
    lit = [room for room in rooms if room.about.get("lit_lamps")]
    lit.sort(key=lambda room: not room.about.get("evening"))
    out = []
    for room in lit[:MOST]:
        lamps = tuple(room.about["lit_lamps"])
        digest = hashlib.sha256(room.stage_path.read_bytes()).hexdigest()
        known = json.dumps([digest, lamps, samples, resolution])
        root = folder / f"{room.id}.lamps.{hashlib.sha256(known.encode()).hexdigest()[:12]}"
        root.mkdir(parents=True, exist_ok=True)
        stage = root / "after.usda"
        if not stage.is_file():
            over = edit_over(room.stage_path, stage, overwrite=True)
            edit(over, presence=dict.fromkeys(lamps, 0.0))
            for path in lamps:  # presence is ours; this is what every renderer knows
                UsdGeom.Imageable(over.GetPrimAtPath(path)).MakeInvisible()
            stages.save(over)
        before = Truth(room.stage_path, root / BEFORE, (_TIME,))
        out.append(LampTruth(room, lamps, before, Truth(stage, root / "after", (_TIME,))))
    return out


def render_lamps(truths: Sequence[LampTruth], samples: int, resolution: int, workers: int, failures: Path) -> int:
    """Renders what is missing; returns how many failed."""
    threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
    tasks = [
        CyclesTask(str(truth.stage), str(truth.folder), truth.times, _CAMERA, resolution, samples, threads)
        for found in truths
        for truth in (found.before, found.after)
        if not truth.done
    ]
    return run_tasks(render_task, tasks, workers, failures, "truths") if tasks else 0


def evaluate_lamps(renderers: Mapping[str, Renderer], truths: Sequence[LampTruth], *, seed: int = 0) -> LampTable:
    """Removes the lamps (presence 0) with every renderer, and compares how much darker it gets with what Cycles says.

    Rows: a renderer, from the tokens of Cycles' picture with the lamps on, against its own image of that; the same
    where `render` keeps to the picture outside of the edit's footprint; and, as the most that the renderer could, from
    the tokens of Cycles' picture without them. "not edited" is 0 by its nature.
    """
    table = LampTable()
    scores: dict[str, dict[str, list[list[float]]]] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    for number, found in enumerate(tqdm(truths, desc="lamps", leave=False)):
        if not found.done:
            continue
        name = found.folder.id
        before = found.before.frame(name, _CAMERA, _TIME)
        after = found.after.frame(name, _CAMERA, _TIME)
        change = luminance(before.picture) - luminance(after.picture)
        elsewhere = ~_lamps_pixels(before, found.lamps)
        lit = elsewhere & (change > LIT)
        if lit.sum() < _FEWEST:
            continue
        images = {TRUTH: (before.picture, after.picture)}
        for row, renderer in renderers.items():
            tokens = renderer.encode(before)
            scene, without = with_asset_tokens(before.scene, tokens), with_asset_tokens(after.scene, tokens)
            own = renderer.render(scene, seed + number, size=lit.shape)
            images[row] = (own, renderer.render(without, seed + number, size=lit.shape))
            mask = footprint(scene, without, *lit.shape)
            if not mask.all():
                held = renderer.render(without, seed + number, held=before.picture, footprint=mask)
                images[f"{row}, held"] = (before.picture, held)
            told = with_asset_tokens(after.scene, renderer.encode(after))
            images[f"{row}, from the tokens of the true answer"] = (
                own,
                renderer.render(told, seed + number, size=lit.shape),
            )
        for row, (with_lamps, without_lamps) in images.items():
            drawn = luminance(with_lamps) - luminance(without_lamps)
            values = {
                SHARE: 100 * float(drawn[lit].sum() / change[lit].sum()),
                ALL: 100 * float(drawn[elsewhere].sum() / change[elsewhere].sum()),
            }
            if row != TRUTH and drawn[elsewhere].std() > 1e-6:
                values[FELT] = float(np.corrcoef(drawn[elsewhere], change[elsewhere])[0, 1])
            for column, value in values.items():
                scores.setdefault(row, {}).setdefault(column, []).append([value])
            pictures.setdefault(f"{row}: with", []).append(with_lamps)
            pictures.setdefault(f"{row}: without", []).append(without_lamps)
        table.rooms.append(name)
    for row, columns in scores.items():
        table.rows[row] = {column: bootstrapped(values, seed) for column, values in columns.items()}
    table.images = {row: np.stack(found) for row, found in pictures.items()}
    return table


def luminance(picture: np.ndarray) -> np.ndarray:
    """(H, W) linear light of a picture (H, W, 3) sRGB in 0..1."""
    linear = np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def _lamps_pixels(frame: PictureFrame, lamps: Sequence[str]) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    slots = [index for index, asset in enumerate(frame.scene.assets) if asset.path in lamps]
    return binary_dilation(np.isin(frame.passes.ids, slots), iterations=2)
