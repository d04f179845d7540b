"""Lifts of held-out models against their true shapes and their other views."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .lifts_cases import LiftCase
from .lifts_rows import Row, load_arrays, row_file, save_arrays
from .lifts_solid import Solid
from .lpips import Lpips
from .metrics import psnr
from .point_clouds import POINTS, SET_POINTS, Distances, outer_points, register

# F-scores' thresholds; lengths are of the true object's longest side.
THRESHOLDS = (0.02, 0.05)
ALIGNED = ", aligned"
CHAMFER, IOU, PSNR, LPIPS, SECONDS = "Chamfer %", "IoU", "PSNR", "LPIPS", "seconds, ratio"
F_SCORES = tuple(f"F {100 * threshold:g} %" for threshold in THRESHOLDS)
SURFACE = tuple(name + aligned for name in (CHAMFER, *F_SCORES) for aligned in ("", ALIGNED))
COLUMNS = (*SURFACE, IOU, PSNR, LPIPS)
# Equation 3's sums, in longest sides squared: in the JSON, since they say what Chamfer % says less readably.
EQUATION_3 = "Chamfer, equation 3"
TURNS, TURN_SIZE = 8, 128
_VERSION = 1


@dataclass
class Result:
    """What was measured of a row and a case.

    Attributes:
        scores: metric to value; empty where there is no lift. failure: why there is none.
        views: (3, H, W, 3) of three unseen views; turn: (TURNS, TURN_SIZE, TURN_SIZE, 3), the solid all around; uint8.
    """

    scores: dict[str, float] = field(default_factory=dict)
    views: np.ndarray | None = None
    turn: np.ndarray | None = None
    seconds: float | None = None
    run: str = ""
    note: str = ""
    failure: str = ""


@dataclass
class CaseResults:
    """A case's results by row, and its pictures, uint8: the one that was lifted, and what `Result.views` should be."""

    name: str
    text: str
    picture: np.ndarray
    truth: np.ndarray
    rows: dict[str, Result]


def evaluate_lifts(
    cases: Iterable[LiftCase],
    rows: Sequence[Row],
    cache: Path,
    *,
    total: int | None = None,
    seed: int = 0,
    lpips: Lpips | None = None,
) -> list[CaseResults]:
    """Makes every case with every row, and compares.

    Surfaces are compared by points of what can be seen of them from outside, twice: where the picture's camera puts the
    lift (see `lifts_align`), and after a small similarity that brings it nearer to the truth (see `register`). Views
    are compared without that similarity, at the orbit's resolution and before its backdrop.

    Args:
        cache: a folder; what is in it already is not made again. total: how many cases there are, for the bar.
    """
    found = []
    for case in tqdm(cases, total=total, desc="lifts", leave=False):
        folder = cache / case.model.name
        truth: np.ndarray | None = None
        results = {}
        for row in rows:
            file = row_file(folder, row, case, (_VERSION, seed, POINTS, THRESHOLDS, lpips is not None))
            result = _read(file)
            if result is None:
                if truth is None:
                    truth = outer_points(case.model.points, case.model.faces, POINTS, seed)
                result = _measured(case, row, folder, truth, seed, lpips)
                if not result.failure:  # what failed may be at hand the next time
                    _write(file, result)
            results[row.name] = result
        picture = case.picture
        shown = np.where(picture.mask[..., None], picture.color, 1)
        true = [case.model.views[index] for index in _shown(case)]
        found.append(
            CaseResults(
                case.model.name,
                case.model.text,
                _bytes(shown),
                np.stack([_bytes(np.where(view.mask[..., None], view.color, 1)) for view in true]),
                results,
            )
        )
    return found


def _measured(case: LiftCase, row: Row, cache: Path, truth: np.ndarray, seed: int, lpips: Lpips | None) -> Result:
    try:
        made = row.make(case, cache)
        points = outer_points(made.solid.placed_points, made.solid.faces, POINTS, seed + 1)
    except ValueError as error:
        return Result(failure=" ".join(str(error).split()))
    unit = case.model.longest
    points, truth = points / unit, truth / unit
    fitted = register(points[:SET_POINTS], truth[:SET_POINTS])
    scores = {}
    for name, cloud in (("", points), (ALIGNED, points @ fitted[:3, :3] + fitted[3, :3])):
        distances = Distances.between(cloud, truth)
        scores[CHAMFER + name] = 100 * distances.mean
        scores[EQUATION_3 + name] = Distances.between(cloud[:SET_POINTS], truth[:SET_POINTS]).chamfer
        for column, threshold in zip(F_SCORES, THRESHOLDS, strict=True):
            scores[column + name] = 100 * distances.f_score(threshold)
    pictures, seen = {}, []
    for index in case.unseen:
        view = case.model.views[index]
        color, depth = made.solid.see(view.camera, view.mask.shape[0], view.mask.shape[1])
        mask = np.isfinite(depth)
        image = np.where(mask[..., None], color, view.backdrop)
        either = (mask | view.mask).sum()
        values = [(mask & view.mask).sum() / either if either else 1.0, psnr(image, view.color)]
        seen.append([*values, lpips.distance(image, view.color) if lpips else np.nan])
        pictures[index] = _bytes(np.where(mask[..., None], color, 1))
    means = zip((IOU, PSNR, LPIPS), np.mean(seen, axis=0), strict=True)
    scores |= {name: float(value) for name, value in means if np.isfinite(value)}
    shown = np.stack([pictures[index] for index in _shown(case)])
    return Result(scores, shown, around(case, made.solid), made.seconds, made.run, made.note)


def _shown(case: LiftCase) -> list[int]:
    """Three unseen views: from low, from the middle, from high above."""
    return [case.unseen[len(case.unseen) * part // 6] for part in (1, 3, 5)]


def around(case: LiftCase, solid: Solid, size: int = TURN_SIZE) -> np.ndarray:
    """(TURNS, size, size, 3) uint8: what cameras all around see of what was made of a case, before white, shaded; the
    first is where the picture was taken."""
    camera = case.picture.camera
    middle = case.model.cube[3, :3]
    up = case.model.cube[2, :3] / np.linalg.norm(case.model.cube[2, :3])
    pictures = []
    for turn in np.arange(TURNS) / TURNS * 2 * np.pi:
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(up, turn)
        matrix[3, :3] = middle - middle @ matrix[:3, :3]
        turned = replace(camera, world_to_camera=matrix @ camera.world_to_camera).fitted(1.0)
        color, depth = solid.see(turned, size, size, shaded=True)
        pictures.append(_bytes(np.where(np.isfinite(depth)[..., None], color, 1)))
    return np.stack(pictures)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """(3, 3) for row vectors."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross).T


@dataclass
class LiftTable:
    """`rows`: row to column to (mean, standard error) over the cases it made; `counts`: row to how many those are."""

    rows: dict[str, dict[str, tuple[float, float]]]
    counts: dict[str, int]


def summarize(found: Sequence[CaseResults], first: str, fastest: str) -> LiftTable:
    """Means over cases, with the difference to the row `first` over the cases that both made, and seconds as a ratio to
    the row `fastest` over those that both made in one run."""
    names = list(dict.fromkeys(name for case in found for name in case.rows))
    table = LiftTable({}, {})
    for name in names:
        made = [case.rows[name] for case in found if case.rows[name].scores]
        table.counts[name] = len(made)
        columns = {
            column: _mean([result.scores[column] for result in made])
            for column in (*COLUMNS, EQUATION_3, EQUATION_3 + ALIGNED)
            if made and all(column in result.scores for result in made)
        }
        pairs = [(case.rows[name], case.rows[first]) for case in found if first in case.rows]
        both = [(one.scores, other.scores) for one, other in pairs if one.scores and other.scores]
        if name != first and both:
            for column in (CHAMFER, IOU):
                columns[f"{column} to first"] = _mean([one[column] - other[column] for one, other in both])
        ratio = _ratio([(case.rows[name], case.rows[fastest]) for case in found if fastest in case.rows])
        if ratio is not None:
            columns[SECONDS] = ratio
        table.rows[name] = columns
    return table


def _ratio(pairs: Sequence[tuple[Result, Result]]) -> tuple[float, float] | None:
    values = [
        one.seconds / other.seconds for one, other in pairs if one.seconds and other.seconds and one.run == other.run
    ]
    return _mean(values) if values else None


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; NaN for the latter where there is one value only."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(np.mean(values)), error


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _write(file: Path, result: Result) -> None:
    about: dict[str, Any] = {"scores": result.scores, "run": result.run, "note": result.note}
    about["seconds"] = result.seconds
    pictures = {name: value for name in ("views", "turn") if (value := getattr(result, name)) is not None}
    save_arrays(file, about=np.array(json.dumps(about)), **pictures)


def _read(file: Path) -> Result | None:
    arrays = load_arrays(file) if file.is_file() else None
    if arrays is None or "about" not in arrays:
        return None
    about: Mapping[str, Any] = json.loads(str(arrays["about"]))
    return Result(views=arrays.get("views"), turn=arrays.get("turn"), **about)
