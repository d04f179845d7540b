"""A short text for an object: its name and the colour that most of it has, for models that are asked in words."""

from __future__ import annotations

import numpy as np

from .objects import ObjectViews

# sRGB of words that people use for furniture.
COLORS = {
    "black": (25, 25, 25),
    "grey": (125, 125, 125),
    "white": (225, 225, 225),
    "brown": (105, 65, 35),
    "beige": (205, 180, 140),
    "red": (165, 35, 35),
    "orange": (220, 120, 30),
    "yellow": (220, 195, 50),
    "green": (60, 120, 60),
    "blue": (50, 85, 150),
    "purple": (110, 60, 130),
    "pink": (220, 140, 160),
}


def color_word(colors: np.ndarray) -> str:
    """The word for most of these colours (N, 3) uint8 sRGB; empty where there are none."""
    from skimage.color import rgb2lab

    if not len(colors):
        return ""
    words = rgb2lab(np.array(list(COLORS.values()), np.uint8)[None])[0]
    found = rgb2lab(colors[None])[0]
    nearest = ((found[:, None] - words[None]) ** 2).sum(-1).argmin(1)
    return list(COLORS)[int(np.bincount(nearest, minlength=len(COLORS)).argmax())]


def captions(views: ObjectViews) -> list[list[str]]:
    """For each object what people may call it: its name, and its name with its colour; one at least, never empty."""
    found = []
    for index, name in enumerate(views.texts):
        name = name.strip() or "object"
        shown = views.color[index][views.mask[index]]
        word = color_word(shown[:: max(1, len(shown) // 2000)])
        found.append([name, f"{word} {name}", f"a {word} {name}"] if word else [name, f"a {name}"])
    return found
