"""Meshes as their skeletons and blend shapes deform them (UsdSkel)."""

from __future__ import annotations

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdSkel, Vt

from .walk import time_code


def skinned_points(root: Usd.Prim, time: float | None = None) -> dict[Sdf.Path, np.ndarray]:
    """Path of each deformed mesh below a SkelRoot, to its points (V, 3) in the mesh's own local space at `time`."""
    out: dict[Sdf.Path, np.ndarray] = {}
    cache, predicate = UsdSkel.Cache(), Usd.TraverseInstanceProxies()
    if not cache.Populate(UsdSkel.Root(root), predicate):
        return out
    transforms = UsdGeom.XformCache(time_code(time))
    for binding in cache.ComputeSkelBindings(UsdSkel.Root(root), predicate):
        query = cache.GetSkelQuery(binding.GetSkeleton())
        joints = query.ComputeSkinningTransforms(time_code(time)) if query else None
        skeleton_to_world = np.array(transforms.GetLocalToWorldTransform(binding.GetSkeleton().GetPrim()))
        for target in binding.GetSkinningTargets():
            prim = target.GetPrim()
            points = UsdGeom.PointBased(prim).GetPointsAttr().Get(time_code(time)) if prim.IsA(UsdGeom.Mesh) else None
            to_local = np.array(transforms.GetLocalToWorldTransform(prim))
            if points is None or not len(points) or abs(np.linalg.det(to_local)) < 1e-30:
                continue
            points = _blended(target, query, points, time)
            moved = np.asarray(points, dtype=np.float64)
            if joints and target.HasJointInfluences() and target.ComputeSkinnedPoints(joints, points, time_code(time)):
                # Skinned points are in the skeleton's space.
                matrix = skeleton_to_world @ np.linalg.inv(to_local)
                moved = np.asarray(points, dtype=np.float64) @ matrix[:3, :3] + matrix[3, :3]
            out[prim.GetPath()] = moved
    return out


def _blended(
    target: UsdSkel.SkinningQuery, query: UsdSkel.SkeletonQuery, points: Vt.Vec3fArray, time: float | None
) -> Vt.Vec3fArray:
    """The points under the animated weights of the mesh's blend shapes; a copy."""
    points = Vt.Vec3fArray(points)
    animation = query.GetAnimQuery() if query else None
    if not animation or not target.HasBlendShapes() or not target.GetBlendShapeMapper():
        return points
    weights = target.GetBlendShapeMapper().Remap(animation.ComputeBlendShapeWeights(time_code(time)))
    shapes = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(target.GetPrim()))
    sub_weights, shape_indices, sub_shapes = shapes.ComputeSubShapeWeights(weights)
    offsets, indices = shapes.ComputeSubShapePointOffsets(), shapes.ComputeBlendShapePointIndices()
    shapes.ComputeDeformedPoints(sub_weights, shape_indices, sub_shapes, indices, offsets, points)
    return points
