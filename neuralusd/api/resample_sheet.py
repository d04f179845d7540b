"""Samples side by side with what they are samples of, for people to choose from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ..scene import Asset, Camera, pose_2d

TILE, LABEL, COLUMNS, GAP = 256, 24, 4, 6
PAPER, INK, KEPT = (250, 250, 250), (30, 30, 30), (30, 120, 60)


def contact_sheet(
    pictures: Sequence[tuple[str, PIL.Image.Image]], kept: Sequence[Asset], camera: Camera, legend: str
) -> PIL.Image.Image:
    """Pictures with their names below them; the first is the source, in which what is kept is outlined.

    Args:
        legend: a line that says what was kept, below all.
    """
    columns = min(COLUMNS, max(1, math.ceil(math.sqrt(len(pictures)))))
    rows = math.ceil(len(pictures) / columns)
    font = PIL.ImageFont.load_default(15)
    width = columns * TILE + (columns + 1) * GAP
    lines = _wrapped(legend, font, width - 2 * GAP)
    height = rows * (TILE + LABEL + GAP) + GAP + len(lines) * LABEL
    sheet = PIL.Image.new("RGB", (width, height), PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    for number, (name, picture) in enumerate(pictures):
        left = GAP + number % columns * (TILE + GAP)
        top = GAP + number // columns * (TILE + LABEL + GAP)
        tile = picture.convert("RGB").resize((TILE, TILE), PIL.Image.Resampling.LANCZOS)
        if number == 0:
            _outline(tile, kept, camera)
        sheet.paste(tile, (left, top))
        draw.text((left + TILE / 2, top + TILE + LABEL / 2), name, INK, font, "mm")
    for number, line in enumerate(lines):
        draw.text((GAP, height - (len(lines) - number) * LABEL + LABEL / 2), line, KEPT, font, "lm")
    return sheet


def _outline(tile: PIL.Image.Image, kept: Sequence[Asset], camera: Camera) -> None:
    draw = PIL.ImageDraw.Draw(tile)
    for asset in kept:
        box = pose_2d(asset, camera)
        if box is None:
            continue
        x, y, h, w = np.asarray(box) * TILE
        draw.rectangle((x, y, x + w - 1, y + h - 1), outline=KEPT, width=2)


def _wrapped(text: str, font: PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
