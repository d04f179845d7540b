"""Local boxes and transforms of prims."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pxr import Sdf, Usd, UsdGeom

from .errors import ExtentError, TransformError
from .skin import skinned_points
from .walk import Visible, time_code


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
        matrix = self.local_to_world(prim)
        if not np.isfinite(matrix).all():
            raise TransformError(
                f"<{prim.GetPath()}>: its local-to-world transform is not finite (NaN or infinity) in one of the "
                f"xformOps of "
                "the prim or its ancestors. Correct that op."
            )
        scale = np.linalg.norm(matrix[:3, :3], axis=1).max()
        if scale == 0 or abs(np.linalg.det(matrix[:3, :3] / scale)) < 1e-12:
            raise TransformError(
                f"<{prim.GetPath()}>: its local-to-world transform is singular, as by a scale of zero, so it has no "
                f"pose. "
                "Give it a scale that is not zero, or hide it with `visibility`."
            )
        return matrix


class Bounds:
    """Local boxes of prims at one time.

    Args:
        purposes: the purposes whose geometry counts.
    """

    def __init__(self, time: float | None = None, purposes: tuple[str, ...] = ("default", "render")):
        self._cache = UsdGeom.BBoxCache(time_code(time), list(purposes), useExtentsHint=False)
        self._xforms = UsdGeom.XformCache(time_code(time))
        self._skinned: dict[Usd.Prim, dict[Sdf.Path, np.ndarray]] = {}
        self._time, self._code = time, time_code(time)

    def extent(self, prim: Usd.Prim, geometry: Iterable[Visible]) -> np.ndarray | None:
        """(2, 3) float64, the axis-aligned box in the prim's local space of `geometry`, what is drawn at or below it.

        Without geometry, its authored `extentsHint`; None where it has neither.

        Raises:
            ExtentError: the box is not finite, or has no size.
        """
        # A union of the parts' boxes is never larger than the bound that BBoxCache makes of the whole prim.
        corners = [corner for v in geometry for corner in self._corners(prim, v)]
        extent = np.array([np.min(corners, axis=0), np.max(corners, axis=0)]) if corners else None
        if extent is None:
            hint = UsdGeom.ModelAPI(prim).GetExtentsHint(self._code)
            if hint is None or len(hint) < 2:
                return None
            extent = np.array(hint[:2], dtype=np.float64)
        if not np.isfinite(extent).all():
            raise ExtentError(
                f"<{prim.GetPath()}>: its extent {extent.tolist()} is not finite. Correct `extent`, the points or the "
                "xformOps of its geometry."
            )
        if (extent[1] - extent[0] > 0).sum() < 2:
            raise ExtentError(
                f"<{prim.GetPath()}>: its box has no size, {extent[0].tolist()} to {extent[1].tolist()}. Correct the "
                f"`extent` "
                "of its geometry, or remove NeuralAssetAPI from it."
            )
        return extent

    def _corners(self, prim: Usd.Prim, v: Visible) -> list[np.ndarray]:
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
        box = self._cache.ComputeRelativeBound(part, prim).ComputeAlignedRange()
        return [] if box.IsEmpty() else [np.array(box.min), np.array(box.max)]
