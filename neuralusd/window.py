"""The square window about an object that models of volumes are shown of a picture."""

from __future__ import annotations

# The window's side, over the outline's longer side.
WINDOW_MARGIN = 1.05


def window(box: tuple[float, float, float, float], margin: float = WINDOW_MARGIN) -> tuple[float, float, float]:
    """Left, top and side of the square about a box of left, top, right and bottom, in the box's units."""
    left, top, right, bottom = box
    side = margin * max(right - left, bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2, side
