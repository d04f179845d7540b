"""The tables as plots (matplotlib, the extra `train`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scatter(
    rows: Mapping[str, Mapping[str, float]], x: str, y: str, title: str, labels: tuple[str, str] | None = None
) -> Figure:
    """A point a row on two logarithmic axes; a row that lacks one of them is a triangle on the edge of the other."""
    figure, axes = _figure(title, (6.4, 5.2))
    known = {axis: [row[axis] for row in rows.values() if axis in row] for axis in (x, y)}
    low = {axis: min(values, default=1.0) / 1.6 for axis, values in known.items()}
    high = {axis: max(values, default=1.0) * 1.6 for axis, values in known.items()}
    for number, (name, row) in enumerate(item for item in rows.items() if item[1]):
        marker = "o" if x in row and y in row else ">" if x not in row else "^"
        axes.scatter(
            [row.get(x, low[x])],
            [row.get(y, low[y])],
            marker=marker,
            s=48,
            color=f"C{number % 10}",
            label=name,
            clip_on=False,
            zorder=3,
        )
    axes.set(xscale="log", yscale="log", xlim=(low[x], high[x]), ylim=(low[y], high[y]))
    axes.set_xlabel((labels or (x, y))[0])
    axes.set_ylabel((labels or (x, y))[1])
    axes.legend(fontsize=7, loc="best")
    return figure


def bars(groups: Mapping[str, Mapping[str, Mapping[str, float]]], column: str, title: str) -> Figure:
    """A group of bars for each of `groups`, a bar for each row that has `column`."""
    figure, axes = _figure(title, (8.0, 4.2))
    rows = list(dict.fromkeys(row for group in groups.values() for row in group))
    width = 0.8 / max(len(rows), 1)
    for number, row in enumerate(rows):
        heights = [group.get(row, {}).get(column, np.nan) for group in groups.values()]
        axes.bar(np.arange(len(groups)) + (number - (len(rows) - 1) / 2) * width, heights, width, label=row)
    axes.set_xticks(range(len(groups)), list(groups), fontsize=8)
    axes.set_ylabel(f"{column} (dB)" if column.startswith("PSNR") else column)
    axes.legend(fontsize=7)
    return figure


def lines(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str], title: str, unit: str) -> Figure:
    """A line a row over `columns`."""
    figure, axes = _figure(title, (6.4, 4.2))
    for name, row in rows.items():
        axes.plot(range(len(columns)), [row.get(column, np.nan) for column in columns], marker="o", label=name)
    axes.set_xticks(range(len(columns)), list(columns), fontsize=8)
    axes.set_ylabel(unit)
    axes.legend(fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Any]:
    # Not pyplot: its state and its choice of a display are the user's.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.grid(True, alpha=0.3)
    return figure, axes
