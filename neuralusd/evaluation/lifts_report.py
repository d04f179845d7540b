"""The lift part's tables and sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw

from .lifts import CHAMFER, COLUMNS, IOU, SECONDS, CaseResults, LiftTable
from .lifts_rows import TRUTH

_LABEL, _GAP = 14, 4
# Cases on a sheet.
SHOWN = 12


def table_text(table: LiftTable, missing: Mapping[str, str] | None = None) -> str:
    """The part's table; `missing`: row to why it is empty."""
    return cells_text(table.rows, (*COLUMNS, f"{CHAMFER} to first", f"{IOU} to first", SECONDS), missing)


def cells_text(
    rows: Mapping[str, Mapping[str, tuple[float, float]]],
    columns: Sequence[str],
    missing: Mapping[str, str] | None = None,
) -> str:
    """A Markdown table of means ± standard errors, with the columns that some row has; `missing`: row to why it has
    none."""
    columns = [column for column in columns if any(column in row for row in rows.values())]
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, row in rows.items():
        cells = [_cell(column, row.get(column)) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, reason in (missing or {}).items():
        lines.append(f"| {name} | {reason} |" + " |" * (len(columns) - 1))
    return "\n".join(lines)


def _cell(column: str, value: tuple[float, float] | None) -> str:
    if value is None or math.isnan(value[0]):
        return "–"
    digits = 3 if column.startswith(("IoU", "LPIPS")) else 1 if column.startswith(("F ", "COV", "empty")) else 2
    mean, error = (f"{number:.{digits}f}" for number in value)
    return mean if math.isnan(value[1]) else f"{mean} ± {error}"


def chosen_cases(found: Sequence[CaseResults], first: str, count: int = SHOWN) -> list[CaseResults]:
    """Cases from the best to the worst of the row `first`, evenly: good ones and failures alike."""
    order = sorted(found, key=lambda case: case.rows[first].scores.get(CHAMFER, math.inf))
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[place] for place in places]


def lift_sheet(cases: Sequence[CaseResults], rows: Sequence[str]) -> PIL.Image.Image:
    """A row a case: the picture, three unseen views of what each of `rows` made of it, and the true ones."""
    lines = []
    for case in cases:
        strips: dict[str, list] = {"picture": [case.picture]}
        for name in rows:
            result = case.rows[name]
            tiles = list(result.views) if result.views is not None else _empty(case.truth)
            score = result.scores.get(CHAMFER)
            strips[name] = [*tiles, "no lift" if score is None else f"{score:.1f} %"]
        strips["truth"] = list(case.truth)
        lines.append((case.text or case.name, strips))
    return _sheet(lines)


def turntable_sheet(cases: Sequence[CaseResults], rows: Sequence[str]) -> PIL.Image.Image:
    """What was made, all around: a line a case and row, the picture before it."""
    lines = []
    for case in cases:
        for name in rows:
            turn = case.rows[name].turn
            if turn is not None:
                size = (turn.shape[2], turn.shape[1])
                picture = np.asarray(PIL.Image.fromarray(case.picture).resize(size, PIL.Image.Resampling.BICUBIC))
                lines.append((f"{case.text or case.name}: {name}", {"picture": [picture], "all around": list(turn)}))
    return _sheet(lines)


def _sheet(lines: Sequence[tuple[str, Mapping[str, list]]]) -> PIL.Image.Image:
    if not lines:
        return PIL.Image.new("RGB", (64, _LABEL), "white")
    height, width = lines[0][1]["picture"][0].shape[:2]
    counts = {name: sum(isinstance(tile, np.ndarray) for tile in strip) for name, strip in lines[0][1].items()}
    across = sum(counts.values()) * width + len(counts) * _GAP
    sheet = PIL.Image.new("RGB", (across, _LABEL + len(lines) * (height + _LABEL)), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    left = 0
    for name, count in counts.items():
        draw.text((left + 2, 1), name, fill="black")
        left += count * width + _GAP
    for number, (title, strips) in enumerate(lines):
        top, left = _LABEL + number * (height + _LABEL), 0
        for name, strip in strips.items():
            said = title if name == "picture" else "".join(tile for tile in strip if isinstance(tile, str))
            for tile in strip:
                if isinstance(tile, np.ndarray):
                    sheet.paste(PIL.Image.fromarray(tile), (left, top + _LABEL))
                    left += width
            draw.text((left - counts[name] * width + 2, top + 1), said, fill=(90, 90, 90))
            left += _GAP
    return sheet


def _empty(like: np.ndarray) -> list[np.ndarray]:
    return [np.full(like.shape[1:], 235, np.uint8)] * len(like)


def default_rows(table: LiftTable) -> list[str]:
    """Rows that a sheet shows: all but the truth, which has columns of its own."""
    return [name for name in table.rows if name != TRUTH]
