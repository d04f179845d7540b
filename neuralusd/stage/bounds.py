"""Local boxes and transforms of prims."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, Vt

from .errors import ExtentError, TransformError
from .skin import skinned_points
from .walk import PROXY, Visible, time_code


class Transforms:
    """Local-to-world matrices in metres at one time."""

    def __init__(self, stage: Usd.Stage, time: float | None = None):
        self._cache = UsdGeom.XformCache(time_code(time))
        self._meters_per_unit = UsdGeom.GetStageMetersPerUnit(stage)

    def local_to_world(self, prim: Usd.Prim) -> np.ndarray:
        """(4, 4) float64, row vectors, the prim's local space to metres. Nothing is checked."""
        matrix = np.array(self._cache.GetLocalToWorldTransform(prim))
        matrix[:, :3] *= self._meters_per_unit
        return matrix

    def checked(self, prim: Usd.Prim) -> np.ndarray:
        """`local_to_world` of a prim that must have a pose.

        Raises:
            TransformError: the matrix is not finite, or flattens the prim to a plane, a line or a point.
        """
        return self.all_checked([prim])[0]

    def all_checked(self, prims: Sequence[Usd.Prim]) -> np.ndarray:
        """(N, 4, 4), `checked` of each of the prims."""
        matrices = _stacked([self._cache.GetLocalToWorldTransform(prim) for prim in prims])
        matrices[:, :, :3] *= self._meters_per_unit
        finite = np.isfinite(matrices).all(axis=(1, 2))
        if not finite.all():
            raise TransformError(
                f"<{prims[int(finite.argmin())].GetPath()}>: its local-to-world transform is not finite (NaN or "
                "infinity) in one of the xformOps of the prim or its ancestors. Correct that op."
            )
        axes = matrices[:, :3, :3]
        scales = np.linalg.norm(axes, axis=2).max(axis=1)
        sizes = np.abs(np.linalg.det(axes / np.where(scales > 0, scales, 1.0)[:, None, None]))
        if (sizes < 1e-12).any():
            raise TransformError(
                f"<{prims[int((sizes < 1e-12).argmax())].GetPath()}>: its local-to-world transform is singular, as by "
                "a scale of zero, so it has no pose. Give it a scale that is not zero, or hide it with `visibility`."
            )
        return matrices


def _stacked(matrices: list[Gf.Matrix4d]) -> np.ndarray:
    """(N, 4, 4) float64, a copy; through the matrices' memory, which numpy by itself reads number by number."""
    return np.frombuffer(bytearray().join(matrices), dtype=np.float64).reshape(-1, 4, 4)


class Bounds:
    """Local boxes of prims at one time."""

    def __init__(self, time: float | None = None):
        self._time, self._code = time, time_code(time)
        self._xforms = UsdGeom.XformCache(self._code)
        purposes = {False: ["default", "render"], True: ["default", PROXY]}
        self._caches = {key: UsdGeom.BBoxCache(self._code, names, False) for key, names in purposes.items()}
        self._skinned: dict[Usd.Prim, dict[Sdf.Path, np.ndarray]] = {}

    def extents(self, prims: Sequence[Usd.Prim], geometry: Sequence[Sequence[Visible]]) -> list[np.ndarray | None]:
        """Of each prim the (2, 3) float64 axis-aligned box in its local space of `geometry[i]`, what is drawn at or
        below it, of purpose default and render (of purpose proxy where it has no other).

        Without geometry, its authored `extentsHint`; None where it has neither.

        Raises:
            ExtentError: a box is not finite, or has no size.
        """
        low, high = np.full((len(prims), 3), np.inf), np.full((len(prims), 3), -np.inf)
        # A union of the parts' boxes is never larger than the bound that BBoxCache makes of the whole prim, and parts
        # that need no more than their own `extent` are the most: all these at once.
        ranges, transforms, owners = [], [], []
        for owner, (prim, parts) in enumerate(zip(prims, geometry, strict=True)):
            proxies = {v.purpose for v in parts} == {PROXY}
            for v in parts:
                if v.purpose == PROXY and not proxies:
                    continue
                own = None
                if v.skeleton_root is None and v.purpose in ("default", "render", PROXY):
                    own = UsdGeom.Boundable(v.prim).ComputeExtent(self._code)
                if own is not None and len(own) == 2:
                    ranges.append(own)
                    transforms.append(self._xforms.GetLocalToWorldTransform(v.prim))
                    owners.append(owner)
                else:
                    for corner in self._corners(prim, v, proxies):
                        low[owner], high[owner] = np.minimum(low[owner], corner), np.maximum(high[owner], corner)
        if owners:
            to_owner = _stacked([self._xforms.GetLocalToWorldTransform(prim).GetInverse() for prim in prims])
            with np.errstate(invalid="ignore", over="ignore"):
                _add_boxes(low, high, np.array(owners), ranges, _stacked(transforms), to_owner)
        extents = np.stack([low, high], axis=1)
        return [self._checked(prim, extent) for prim, extent in zip(prims, extents, strict=True)]

    def _checked(self, prim: Usd.Prim, extent: np.ndarray) -> np.ndarray | None:
        if extent[0, 0] > extent[1, 0]:
            hint = UsdGeom.ModelAPI(prim).GetExtentsHint(self._code)
            if hint is None or len(hint) < 2:
                return None
            extent = np.array(hint[:2], dtype=np.float64)
        (x0, y0, z0), (x1, y1, z1) = extent.tolist()
        if not all(map(isfinite, (x0, y0, z0, x1, y1, z1))):
            raise ExtentError(
                f"<{prim.GetPath()}>: its extent {extent.tolist()} is not finite. Correct `extent`, the points or the "
                "xformOps of its geometry."
            )
        if (x1 > x0) + (y1 > y0) + (z1 > z0) < 2:
            raise ExtentError(
                f"<{prim.GetPath()}>: its box has no size, {extent[0].tolist()} to {extent[1].tolist()}. Correct the "
                "`extent` of its geometry, or remove NeuralAssetAPI from it."
            )
        return extent

    def _corners(self, prim: Usd.Prim, v: Visible, proxies: bool) -> list[np.ndarray]:
        """Minimum and maximum in the space of `prim` of a piece of geometry; none where it is empty."""
        root, part = v.skeleton_root, v.prim
        if root is not None and root.GetPath().HasPrefix(prim.GetPath()):
            if root.GetAttribute("extent").HasAuthoredValue():
                part = root
            else:
                if root not in self._skinned:
                    self._skinned[root] = skinned_points(root, self._time)
                points = self._skinned[root].get(part.GetPath())
                if points is not None:
                    to_prim = self._xforms.ComputeRelativeTransform(part, prim)[0]
                    moved = points @ np.array(to_prim)[:3, :3] + np.array(to_prim)[3, :3]
                    return [moved.min(axis=0), moved.max(axis=0)]
        box = self._caches[proxies].ComputeRelativeBound(part, prim).ComputeAlignedRange()
        return [] if box.IsEmpty() else [np.array(box.min), np.array(box.max)]


def _add_boxes(
    low: np.ndarray, high: np.ndarray, owners: np.ndarray, ranges: list[Vt.Vec3fArray], local: np.ndarray,
    to_owner: np.ndarray,
) -> None:  # fmt: skip
    """Grows the corners (N, 3) of boxes by the P `ranges`: each in a space that `local` (P, 4, 4) takes to world space,
    from where `to_owner` (N, 4, 4) goes to the space of the box that it belongs to, `owners` (P,), ascending.
    """
    corners = np.frombuffer(b"".join(ranges), dtype=np.float32).reshape(-1, 2, 3).astype(np.float64)
    full = ~(corners[:, 0] > corners[:, 1]).any(axis=1)
    owners, corners = owners[full], corners[full]
    matrices = local[full] @ to_owner[owners]
    # Each term of the product is least at one end of its range (Arvo, Graphics Gems 1990).
    at_low, at_high = (corners[:, end, :, None] * matrices[:, :3, :3] for end in (0, 1))
    at = matrices[:, 3, :3]
    if len(owners):
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        mine = owners[first]
        low[mine] = np.minimum(low[mine], np.minimum.reduceat(np.minimum(at_low, at_high).sum(1) + at, first))
        high[mine] = np.maximum(high[mine], np.maximum.reduceat(np.maximum(at_low, at_high).sum(1) + at, first))
