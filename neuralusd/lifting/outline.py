"""The outline of an object in a picture, cleaned and at an even resolution, and the picture's colours inside of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..annotate.errors import ImageError
from .shape import Cutout

# Empty cells around the object.
MARGIN = 8
# Half of the thinnest limb, in cells: less would fall between the samples of the solid.
THINNEST = 1.8
# The smallest object, in pixels of the picture: of its longer side.
SMALLEST = 8
# Parts smaller than this share of the largest are specks; holes narrower than this share of the object are closed.
SPECK = 0.005
PINHOLE = 0.012
# A pixel at the outline is partly background; colours are taken from this many pixels further in.
INSET = 1.5
# The steps of pixels are smoothed by so many pixels, except where that would move the outline by more than the slack.
SMOOTH = 1.0
SMOOTH_SLACK = 0.8


@dataclass
class Outline:
    """An object's outline on square cells.

    Attributes:
        radius: (R, C) float32, the largest ball about each cell that fits, in cells; 0 outside.
        size: height and width of the object in cells.
        cell: a cell's side in pixels of the picture.
        corner: x and y of the middle of cell (0, 0), in pixels from the picture's top left corner.
        color: (H, W, 3) float32, the picture, its colours spread from inside the object to all around it.
        notes: what was left out, a sentence each.
    """

    radius: np.ndarray
    size: tuple[float, float]
    cell: float
    corner: tuple[float, float]
    color: np.ndarray
    notes: list[str] = field(default_factory=list)

    def place(self, column: float, row: float) -> tuple[float, float]:
        """x and y of a cell's middle, in pixels from the picture's top left corner."""
        return self.corner[0] + column * self.cell, self.corner[1] + row * self.cell

    def color_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, 3) sRGB at (N,) pixels from the picture's top left corner; bilinear."""
        from scipy.ndimage import map_coordinates

        places = np.stack([y - 0.5, x - 0.5])
        return np.stack([map_coordinates(self.color[..., c], places, order=1, mode="nearest") for c in range(3)], -1)


def trace(picture: Cutout, cells: int) -> Outline:
    """The outline of a picture's object, its longer side `cells` cells.

    Raises:
        ImageError: there is no object, it is too small, or it is all of the picture.
    """
    from scipy.ndimage import distance_transform_edt

    name = picture.source or "the picture"
    notes: list[str] = []
    seen = _parts(picture.coverage >= 0.5, name, notes)
    mask = _without_pinholes(seen, notes)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    if mask.all():
        raise ImageError(
            f"{name}: the object covers all of the picture, so there is no outline to lift. Give a picture with some "
            "background around the object, and a mask or an alpha channel that leaves it out"
        )
    if max(bottom - top, right - left) < SMALLEST:
        raise ImageError(
            f"{name}: the object is {right - left} x {bottom - top} pixels, too few to lift. Give a larger picture"
        )
    if sides := _cut_off(mask):
        notes.append(f"the object reaches the picture's {' and '.join(sides)} edge, and is lifted as if it ended there")
    cell = max(bottom - top, right - left) / cells
    coverage = np.where(mask, np.maximum(picture.coverage, 0.5), np.minimum(picture.coverage, 0.49))
    solid = _resampled(coverage, mask, (top, left, bottom, right), cell)
    distance = distance_transform_edt(solid).astype(np.float32)
    # To the edge of the nearest empty cell, not to its middle.
    radius = np.where(solid, distance - 0.5, 0)
    radius = np.where(_ridge(solid), np.maximum(radius, THINNEST), radius)
    corner = (left - MARGIN * cell + cell / 2, top - MARGIN * cell + cell / 2)
    size = ((bottom - top) / cell, (right - left) / cell)
    return Outline(radius, size, cell, corner, spread(picture.color, seen), notes)


def _parts(mask: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """A mask without specks and pinholes. Raises ImageError where nothing is left."""
    from scipy.ndimage import label

    everywhere = np.ones((3, 3))
    parts, count = label(mask, everywhere)
    if not count:
        raise ImageError(f"{name}: there is no object, all of it is background. Give another mask or another picture")
    areas = np.bincount(parts.ravel())[1:]
    keep = areas >= max(SPECK * areas.max(), 2)
    if not keep.any():
        raise ImageError(f"{name}: the object is a few pixels, too few to lift. Give a larger picture of it")
    if not keep.all():
        notes.append(f"{int((~keep).sum())} specks apart from the object were left out")
    if keep.sum() > 1:
        notes.append(
            f"the object is in {int(keep.sum())} parts that do not touch in the picture; each is a shell of its own"
        )
    return np.concatenate([[False], keep])[parts]


def _without_pinholes(mask: np.ndarray, notes: list[str]) -> np.ndarray:
    """A mask whose narrow holes are closed: of wickerwork, or of noise."""
    from scipy.ndimage import distance_transform_edt, label, maximum

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # What surrounds the object counts as one hole, of any width.
    holes, count = label(np.pad(~mask, 1, constant_values=True))
    width = 2 * np.asarray(maximum(distance_transform_edt(holes > 0), holes, np.arange(count + 1))) - 1
    narrow = width < PINHOLE * (max(np.ptp(rows), np.ptp(columns)) + 1)
    narrow[[0, holes[0, 0]]] = False
    if narrow.any():
        notes.append(f"{int(narrow.sum())} holes narrower than {PINHOLE:.1%} of the object were closed")
    return mask | narrow[holes][1:-1, 1:-1]


def _cut_off(mask: np.ndarray) -> list[str]:
    sides = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
    return [side for side, row in sides.items() if row.any()]


def _resampled(coverage: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int], cell: float) -> np.ndarray:
    """(R, C) bool of the box's cells with `MARGIN` empty ones around it; nothing thin is lost."""
    top, left, bottom, right = box
    rows, columns = (2 * math.ceil((b - a) / cell / 2) for a, b in ((top, bottom), (left, right)))
    pad = math.ceil(2 * cell) + 2
    window = np.pad(coverage, pad)[top : bottom + 2 * pad, left : right + 2 * pad].astype(np.float32)
    area = (pad, pad, pad + columns * cell, pad + rows * cell)

    def resized(values: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(values).resize((columns, rows), how, box=area)) >= 0.5

    if cell >= 1:
        solid = resized(window, Image.Resampling.BOX)
        # A limb thinner than a cell is kept as the cells that its middle line runs through.
        y, x = np.nonzero(_ridge(mask[top:bottom, left:right]))
        solid[np.minimum((y / cell).astype(int), rows - 1), np.minimum((x / cell).astype(int), columns - 1)] = True
        return np.pad(solid, MARGIN)
    sharp = np.pad(resized(window, Image.Resampling.BICUBIC), MARGIN)
    smooth = np.pad(resized(_blurred(window, SMOOTH), Image.Resampling.BICUBIC), MARGIN)
    # Without the steps of pixels, but with the limbs and the gaps that are as thin as a pixel.
    slack = SMOOTH_SLACK / cell
    return (smooth | _far(sharp & ~smooth, smooth, slack)) & ~_far(smooth & ~sharp, ~smooth, slack)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, sigma)


def _far(parts: np.ndarray, mask: np.ndarray, slack: float) -> np.ndarray:
    """Those connected parts of `parts` that are somewhere further than `slack` cells from `mask`."""
    from scipy.ndimage import distance_transform_edt, label, maximum

    labels, count = label(parts)
    away = np.asarray(maximum(distance_transform_edt(~mask), labels, np.arange(count + 1))) > slack
    away[0] = False
    return away[labels]


def _ridge(mask: np.ndarray) -> np.ndarray:
    """The middle lines of a mask, one pixel wide."""
    from skimage.morphology import skeletonize

    return skeletonize(mask)


def spread(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The colours (H, W, 3) well inside a mask (H, W) bool, spread to everywhere else from the nearest."""
    from scipy.ndimage import distance_transform_edt, maximum_filter

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    # Where all is thin, the deepest pixel around is the best there is.
    inside = mask & (depth >= np.minimum(INSET + 0.5, maximum_filter(depth, 3)))
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return color[tuple(nearest)]
