"""Tables as Markdown and JSON, and contact sheets."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw


def markdown(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    notes: Mapping[str, str] | None = None,
) -> str:
    """A Markdown table of the rows that have values or `notes`; columns that no row has are left out.

    A row without any value shows its note in place of them.
    """
    notes = notes or {}
    columns = [c for c in columns if any(c in values for values in rows.values())] or list(columns)
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in dict.fromkeys([*rows, *notes]):
        values = rows.get(name, {})
        if values:
            cells = [_cell(c, values.get(c)) for c in columns]
        elif name in notes:
            cells = [notes[name], *[""] * (len(columns) - 1)]
        else:
            continue
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(column: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3f}" if column.startswith(("SSIM", "LPIPS")) else f"{value:.2f}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON, all at once or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, all at once or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def contact_sheet(images: Mapping[str, np.ndarray], scale: int = 1) -> PIL.Image.Image:
    """A row of pictures for each name, (n, H, W, 3) in 0..1, with the name above it."""
    label = 16
    first = next(iter(images.values()))
    height, width = first.shape[1:3]
    count = max(len(pictures) for pictures in images.values())
    sheet = PIL.Image.new("RGB", (count * width * scale, len(images) * (height * scale + label)), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for row, (name, pictures) in enumerate(images.items()):
        top = row * (height * scale + label)
        draw.text((4, top + 2), name, fill="black")
        for column, picture in enumerate(pictures):
            tile = PIL.Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))
            if scale != 1:
                tile = tile.resize((width * scale, height * scale), PIL.Image.Resampling.NEAREST)
            sheet.paste(tile, (column * width * scale, top + label))
    return sheet
