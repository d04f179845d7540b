"""Embree's trees over triangles, kept as long as the meshes they are of: moving a mesh builds nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .pieces import Placed, Triangles

# A mesh of so many triangles has a tree of its own, which all its instances share. Smaller ones that stand together
# share one, since a tree costs a call for all the rays.
ALONE = 4_000
# Trees over meshes that stand together, of so many triangles in all, are kept between renders.
KEPT_TRIANGLES = 8_000_000

_alone: WeakKeyDictionary[Triangles, Tree] = WeakKeyDictionary()
_together: OrderedDict[tuple, tuple[Tree, list[Triangles]]] = OrderedDict()


class Tree:
    """Triangles that rays can be cast against, in a space of their own.

    Points are taken relative to their middle before Embree's single precision sees them, so that what lies far from
    the origin of its space loses nothing.

    Args:
        points: (V, 3). triangles: (T, 3).
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        used = points[triangles.ravel()] if len(triangles) else np.zeros((1, 3))
        self.low, self.high = used.min(0), used.max(0)
        self.middle = (self.low + self.high) / 2
        self.size = len(triangles)
        self._scene: Any = EmbreeScene(robust=True)
        TriangleMesh(self._scene, (points - self.middle).astype(np.float32), triangles.astype(np.int32))

    def nearest(self, origins: np.ndarray, directions: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first triangle on each ray (N,), -1 for none before `far` (N,); and where it is, as a multiple of
        `directions` (N,)."""
        found = self._scene.run(
            (origins - self.middle).astype(np.float32),
            directions.astype(np.float32),
            dists=far.astype(np.float32),
            output=1,
        )
        return found["primID"], found["tfar"]


@dataclass
class Group:
    """Pieces that share a tree: `tree` is in the space that `to_world` (4, 4) carries to metres; its triangles are
    those of `pieces`, from `starts` on."""

    tree: Tree
    to_world: np.ndarray
    pieces: np.ndarray
    starts: np.ndarray


def groups(pieces: Sequence[Placed], owners: np.ndarray, frames: list[np.ndarray]) -> list[Group]:
    """Trees over pieces.

    Args:
        owners: (P,) the asset that each piece moves with; -1 for none. frames: (4, 4) of each asset, local to metres.
    """
    out: list[Group] = []
    small: dict[int, list[int]] = {}
    for index, piece in enumerate(pieces):
        if len(piece.mesh.triangles) >= ALONE and invertible(piece.local_to_world):
            tree = _alone.get(piece.mesh)
            if tree is None:
                tree = _alone[piece.mesh] = Tree(piece.mesh.points, piece.mesh.triangles)
            out.append(Group(tree, piece.local_to_world, np.array([index]), np.zeros(1, np.int64)))
        else:
            small.setdefault(int(owners[index]), []).append(index)
    for owner, members in small.items():
        frame = frames[owner] if owner >= 0 and invertible(frames[owner]) else np.eye(4)
        out.append(_group([pieces[i] for i in members], np.array(members), frame))
    return out


def _group(pieces: Sequence[Placed], members: np.ndarray, frame: np.ndarray) -> Group:
    inverse = np.linalg.inv(frame)
    placed = [piece.local_to_world @ inverse for piece in pieces]
    # Rounding noise of a frame that moved must not look like a change.
    key = tuple((id(p.mesh), np.round(m, 9).tobytes()) for p, m in zip(pieces, placed, strict=True))
    counts = np.cumsum([0, *(len(piece.mesh.triangles) for piece in pieces)])
    kept = _together.get(key)
    if kept is None:
        points = [p.mesh.points @ m[:3, :3] + m[3, :3] for p, m in zip(pieces, placed, strict=True)]
        firsts = np.cumsum([0, *(len(part) for part in points)])
        triangles = [p.mesh.triangles + first for p, first in zip(pieces, firsts, strict=False)]
        # The meshes are kept beside their tree, so that no other can come to have the id of one that is gone.
        kept = Tree(np.concatenate(points), np.concatenate(triangles)), [p.mesh for p in pieces]
        _together[key] = kept
        while len(_together) > 1 and sum(tree.size for tree, _ in _together.values()) > KEPT_TRIANGLES:
            _together.popitem(last=False)
    _together.move_to_end(key)
    return Group(kept[0], frame, members, counts[:-1])


def invertible(matrix: np.ndarray) -> bool:
    """Whether a (4, 4) transform can be undone without losing what single precision holds."""
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return bool(scales[2] > 1e-6 * scales[0] > 0)
