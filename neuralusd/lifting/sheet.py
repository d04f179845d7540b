"""Candidates side by side, best first, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from .shape import Candidate, Cutout

TILE, LABEL, COLUMNS = 192, 22, 6
# Around the object in a tile.
ROOM = 1.1
PAPER, INK = (250, 250, 250), (30, 30, 30)


def contact_sheet(candidates: Sequence[Candidate], pictures: Sequence[Cutout] = ()) -> PIL.Image.Image:
    """The pictures they were made from, then the candidates in their order, each with its rank and its score."""
    tiles = [(picture.rgba(), "the picture" if len(pictures) == 1 else f"picture {number}") for number, picture in
             enumerate(pictures, 1)]  # fmt: skip
    scored = any(candidate.score for candidate in candidates)
    tiles += [
        (candidate.picture, f"{rank}: {candidate.score:.3f}" if scored else str(rank))
        for rank, candidate in enumerate(candidates, 1)
    ]
    columns = min(len(tiles), COLUMNS)
    rows = math.ceil(len(tiles) / columns)
    sheet = PIL.Image.new("RGB", (columns * TILE, rows * (TILE + LABEL)), PAPER)
    draw, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(14)
    for number, (picture, label) in enumerate(tiles):
        left, top = number % columns * TILE, number // columns * (TILE + LABEL)
        tile = _over_paper(picture)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left + TILE / 2, top + TILE + LABEL / 2), label, INK, font, "mm")
    return sheet


def _over_paper(picture: np.ndarray) -> PIL.Image.Image:
    image = PIL.Image.fromarray(picture).convert("RGBA")
    image = image.crop(_framed(image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox(), image.size))
    scale = TILE / max(image.size)
    size = [max(round(side * scale), 1) for side in image.size]
    # Premultiplied, so that what is under an alpha of 0 does not show at the outline.
    resized = image.convert("RGBa").resize(size, PIL.Image.Resampling.LANCZOS).convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", resized.size, PAPER), resized).convert("RGB")


def _framed(box: tuple[int, int, int, int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square about the object's box; beyond the picture there is nothing."""
    left, top, right, bottom = box or (0, 0, *size)
    half = math.ceil(ROOM * max(right - left, bottom - top) / 2)
    x, y = (left + right) // 2, (top + bottom) // 2
    return x - half, y - half, x + half, y + half
