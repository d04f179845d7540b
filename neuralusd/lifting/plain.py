"""Cutting an object from a background of nearly one colour, as of a render or a product picture."""

from __future__ import annotations

import numpy as np

# Distances of CIELAB: what looks alike at the border, what is the object's, and what is the background's very colour.
ALIKE = 6.0
DIFFERENT = 9.0
SAME = 3.0
# How much of the picture's border has to look alike, and how wide the border is, as a part of the smaller side.
PLAIN = 0.9
BORDER = 0.02


def cut_plain(color: np.ndarray) -> np.ndarray | None:
    """The mask (H, W) bool of what stands before a background of one colour; None where the background is not plain.

    The background is what is connected with the picture's border, and what it closes in (between a chair's legs) where
    that has the very same colour.

    Args:
        color: (H, W, 3) float32 sRGB in 0..1.
    """
    from scipy.ndimage import binary_opening, label
    from skimage.color import rgb2lab

    lab = rgb2lab(color)
    width = max(1, round(BORDER * min(color.shape[:2])))
    inner = np.zeros(color.shape[:2], bool)
    inner[width:-width, width:-width] = True
    border = lab[~inner]
    background = np.median(border, axis=0)
    if (np.linalg.norm(border - background, axis=1) < ALIKE).mean() < PLAIN:
        return None
    distance = np.linalg.norm(lab - background, axis=-1)
    like, _ = label(distance < DIFFERENT)
    around = np.unique(like[~inner])
    outside = np.isin(like, around[around > 0])
    enclosed = binary_opening((distance < SAME) & ~outside, np.ones((3, 3)))
    return ~(outside | enclosed)
