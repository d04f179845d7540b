"""What rays are cast against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np


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


@dataclass(eq=False)
class SheetPiece:
    """A sheet as it is placed.

    Attributes:
        seen: (V, 3) where its points are in the asset's local space; None where they are the sheet's own.
        outline: points (N, 3) in the asset's local space to how much the asset is there (N,), 0 to 1; None where it is
            everywhere.
    """

    path: str
    mesh: Sheet
    local_to_world: np.ndarray
    seen: np.ndarray | None = None
    outline: Callable[[np.ndarray], np.ndarray] | None = None
