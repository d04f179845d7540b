"""Masks made of boxes, for datasets that have boxes only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...scene import Camera


def ids_from_boxes_3d(camera: Camera, boxes: Sequence[tuple[np.ndarray, np.ndarray] | None], side: int) -> np.ndarray:
    """(side, side) int, index of the box that the ray through each pixel's middle meets first; -1 for none.

    Args:
        camera: a square perspective camera.
        boxes: of each object its extent (2, 3) and local_to_world (4, 4); None for one that is not there.
    """
    origins, directions = (rays.reshape(-1, 3) for rays in camera.rays(side, side))
    nearest = np.full(side * side, np.inf)
    ids = np.full(side * side, -1)
    for index, box in enumerate(boxes):
        if box is None:
            continue
        extent, local_to_world = box
        inverse = np.linalg.inv(local_to_world)
        start, along = origins @ inverse[:3, :3] + inverse[3, :3], directions @ inverse[:3, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            planes = (np.asarray(extent)[:, None, :] - start) / along
        # a ray that lies in a face's plane is 0/0; it meets nothing there
        enter, leave = np.nanmin(planes, 0).max(-1), np.nanmax(planes, 0).min(-1)
        met = np.maximum(enter, camera.clipping_range[0])
        hit = (leave > met) & (met < nearest)
        nearest[hit], ids[hit] = met[hit], index
    return ids.reshape(side, side)


def ids_from_boxes_2d(boxes: Sequence[np.ndarray | None], side: int) -> np.ndarray:
    """(side, side) int, index of the smallest box over each pixel's middle; -1 for none.

    Args:
        boxes: of each object x, y, h, w normalised to the square picture; None for one that is not there.
    """
    middles = (np.arange(side) + 0.5) / side
    ids = np.full((side, side), -1)
    there = [(index, np.asarray(box)) for index, box in enumerate(boxes) if box is not None]
    for index, (x, y, h, w) in sorted(there, key=lambda entry: -entry[1][2] * entry[1][3]):
        rows, columns = (middles >= y) & (middles < y + h), (middles >= x) & (middles < x + w)
        ids[np.ix_(rows, columns)] = index
    return ids
