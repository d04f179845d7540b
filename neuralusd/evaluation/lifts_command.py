"""The part `lift` of `neuralusd eval`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..datasets.world import open_world
from ..errors import BackendError
from ..lifting import Lifter, open_lifter
from ..lifting.shape import IMAGE
from .lifts import COLUMNS, THRESHOLDS, CaseResults, LiftTable, evaluate_lifts, summarize
from .lifts_cases import chosen_scenes, read_cases
from .lifts_report import chosen_cases, default_rows, lift_sheet, table_text, turntable_sheet
from .lifts_retrieval import FEATURE, picture_index
from .lifts_rows import RETRIEVAL, HullRow, LifterRow, RetrievalRow, Row, TruthRow

if TYPE_CHECKING:
    from .command import Run

# Those that are evaluated where nobody says which; the first is a note where its weights are not there.
DEFAULT_LIFTERS = ("mini", "silhouette")
SILHOUETTE = "silhouette"
MOST_PICTURES = 4
# Cases on the turntable.
TURNED = 8


@dataclass
class Lifts:
    """What the part needs: splits, the lifters' rows, and those that there are no weights for."""

    splits: list[str]
    rows: list[LifterRow]
    missing: dict[str, str]


def prepare_lifts(current: Run, splits: list[str]) -> Lifts:
    """Opens all that was named.

    Raises:
        ValueError, BackendError: what is wrong with an argument, or cannot be opened.
    """
    args = current.args
    try:
        pictures = sorted({int(number) for number in args.pictures.split(",")})
    except ValueError:
        pictures = [0]
    if not 1 <= pictures[0] <= pictures[-1] <= MOST_PICTURES:
        raise ValueError(f"--pictures takes numbers of 1 to {MOST_PICTURES}, with commas, and not '{args.pictures}'")
    lifters: dict[str, Lifter] = {}
    missing = {}
    for text in args.lifter or DEFAULT_LIFTERS:
        name, _, location = text.partition("=")
        try:
            lifters[name] = open_lifter(location or name)
        except BackendError as error:
            if args.lifter:
                raise
            missing[name] = f"weights not found ({error})"
            continue
        if IMAGE not in lifters[name].takes:
            raise ValueError(f"the lifter '{name}' takes no pictures, and pictures are what is lifted here")
    rows = [
        LifterRow(
            name if count == 1 else f"{name}, {count} pictures", lifter, args.seed, count, args.candidates, args.steps
        )
        for count in pictures
        for name, lifter in lifters.items()
        if count <= lifter.most
    ]
    if not rows:
        raise ValueError(f"none of the lifters takes {pictures[0]} pictures; --pictures 1 is for all of them")
    return Lifts(splits, rows, missing)


def run_lifts(current: Run, lifts: Lifts) -> None:
    """Writes the part's tables and sheets, a split after the other."""
    args = current.args
    for name, reason in lifts.missing.items():
        current.note(f"{name}: {reason}")
    rows: list[Row] = [*lifts.rows]
    cache = current.output / "lifts"
    try:
        train = open_world(args.orbits, "train")
        rows.append(RetrievalRow(picture_index(train, cache), train))
    except (FileNotFoundError, ValueError) as error:
        lifts.missing[RETRIEVAL] = "no training models"
        current.note(f"{RETRIEVAL}: there are no training models to retrieve ({error})")
    rows += [HullRow(1), HullRow(4), TruthRow()]
    for split in lifts.splits:
        folders = chosen_scenes(open_world(args.orbits, split), args.cases, args.seed)
        found = evaluate_lifts(
            read_cases(folders), rows, cache / split, total=len(folders), seed=args.seed, lpips=current.lpips
        )
        if not found:
            current.note(f"{split}: there is no model that can be compared with, so it is left out")
            continue
        _report(current, split, found, rows, lifts.missing)


def _report(
    current: Run, split: str, found: Sequence[CaseResults], rows: Sequence[Row], missing: Mapping[str, str]
) -> None:
    from . import plots

    first = rows[0].name
    table = summarize(found, first, SILHOUETTE)
    shown = chosen_cases(found, first)
    lift_sheet(shown, default_rows(table)).save(current.output / f"lift_{split}.png")
    turned = chosen_cases(found, first, TURNED)
    turntable_sheet(turned, [row.name for row in rows if isinstance(row, LifterRow)]).save(
        current.output / f"turntable_{split}.png"
    )
    figure = plots.bars(
        {column: _of_column(table, column) for column in COLUMNS if column.startswith("F ")},
        "F-score",
        f"Lifts, {split.replace('_', ' ')}",
    )
    plots.save(figure, current.output / f"lift_f_{split}.png")
    text = [table_text(table, missing), ""]
    text += [f"- {name}: {said}" for name, said in _notes(found, table, len(found)).items()]
    text.append(
        f"\n![Cases from the best to the worst of {first}: the picture, three unseen views of each row, the true ones]"
        f"(lift_{split}.png)\n\n![All around](turntable_{split}.png)\n\n![F-scores](lift_f_{split}.png)"
    )
    content: dict[str, Any] = {
        "rows": {name: {c: list(value) for c, value in row.items()} for name, row in table.rows.items()},
        "made": table.counts,
        "missing": dict(missing),
        "cases": [_case_json(case) for case in found],
        "unit": "the true object's longest side",
        "thresholds": list(THRESHOLDS),
        "retrieval": FEATURE,
        "seed": current.args.seed,
        "command": current.command,
    }
    current.add("lift", split, finite(content), "\n".join(text), f"{len(found)} models")


def _of_column(table: LiftTable, column: str) -> dict[str, dict[str, float]]:
    return {name: {"F-score": row[column][0]} for name, row in table.rows.items() if column in row}


def _notes(found: Sequence[CaseResults], table: LiftTable, total: int) -> dict[str, str]:
    """What is to be said of rows that did not make all cases."""
    notes = {}
    for name, count in table.counts.items():
        if count < total:
            failures = [f"{case.name}: {case.rows[name].failure}" for case in found if case.rows[name].failure]
            notes[name] = f"made {count} of {total}, and its means are of those ({failures[0]})"
    return notes


def _case_json(case: CaseResults) -> dict[str, Any]:
    rows = {}
    for name, result in case.rows.items():
        rows[name] = {**result.scores, "seconds": result.seconds}
        rows[name] |= {key: said for key in ("note", "failure") if (said := getattr(result, key))}
    return {"name": case.name, "text": case.text, "rows": rows}


def finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
