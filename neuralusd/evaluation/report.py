"""Tables as Markdown and JSON, and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw


def markdown(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """A Markdown table of the rows that have values."""
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, values in rows.items():
        if values:
            cells = [f"{values[c]:.3f}" if c.startswith("SSIM") else f"{values[c]:.2f}" for c in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def contact_sheet(images: Mapping[str, np.ndarray], scale: int = 1) -> PIL.Image.Image:
    """A row of pictures for each name, (n, H, W, 3) in 0..1, with the name above it."""
    label = 16
    first = next(iter(images.values()))
    count, height, width = first.shape[:3]
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
