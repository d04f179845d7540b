"""What rays are cast against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import map_coordinates

from ..scene import View


class Triangles(Protocol):
    """Triangles in a space of their own: `points` (V, 3), `triangles` (T, 3); `normals` (T, 3, 3) unit, a corner, or
    None for flat shading."""

    points: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray | None

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]: ...


class Placed(Protocol):
    """Triangles that stand somewhere: `local_to_world` (4, 4) to metres; `path` names them in messages."""

    @property
    def path(self) -> Any: ...
    @property
    def mesh(self) -> Triangles: ...
    @property
    def local_to_world(self) -> np.ndarray: ...


@dataclass(eq=False)
class Sheet:
    """Triangles without a prim: the surface of what has only been seen."""

    points: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray | None = None

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.points.min(0), self.points.max(0)


class Outline:
    """How much of an asset each point of its surface is, from the picture it was seen in.

    Attributes:
        mask: (H, W) float32, 1 where a pixel of the view shows the asset, else 0.
    """

    def __init__(self, view: View):
        self.view = view
        self.mask = (~np.isinf(view.depth)).astype(np.float32)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N,), 0 to 1, of points (N, 3) in the asset's local space."""
        height, width = self.mask.shape
        row, column, _ = self.view.project(points).T
        places = np.nan_to_num(np.stack([row * height - 0.5, column * width - 0.5]), nan=-1e6)
        found = map_coordinates(self.mask, places, order=1, mode="constant", prefilter=False)
        return np.clip((found - 0.5) * 2 + 0.5, 0, 1)


@dataclass(eq=False)
class SheetPiece:
    """A sheet as it is placed.

    Attributes:
        seen: (V, 3) where its points are in the asset's local space; None where they are the sheet's own.
        outline: how much the asset is there; None where it is everywhere.
    """

    path: str
    mesh: Sheet
    local_to_world: np.ndarray
    seen: np.ndarray | None = None
    outline: Outline | None = None
