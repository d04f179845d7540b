"""Things on top of each other: flat tops are found, small objects dropped on them by Blender's rigid bodies.

As MOVi-E drops its objects, but upright and from a small height, so that most end upright.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralusd.datasets.furniture_assets import FurnitureAsset
from neuralusd.datasets.furniture_layout import FRAMES, Layout, Placement, euler_matrix, overlap

STEPS = 45
GRID = 9
# Bullet slows down with the corners of a hull
HULL_POINTS = 72


@dataclass(frozen=True)
class Top:
    """A flat top: `height` and (N, 2) `spots` on it, in the asset's space, metres."""

    height: float
    spots: np.ndarray


@functools.lru_cache(maxsize=256)
def load_mesh(path: str) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) points in the default prim's space and (F, 3) triangles of a USD asset."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(path)
    cache = UsdGeom.XformCache()
    to_root = np.linalg.inv(np.array(cache.GetLocalToWorldTransform(stage.GetDefaultPrim())))
    points, faces, count = [], [], 0
    for prim in Usd.PrimRange(stage.GetDefaultPrim(), Usd.TraverseInstanceProxies()):
        mesh = UsdGeom.Mesh(prim)
        if not mesh or not mesh.GetPointsAttr().Get():
            continue
        local = np.array(mesh.GetPointsAttr().Get(), dtype=np.float64)
        matrix = np.array(cache.GetLocalToWorldTransform(prim)) @ to_root
        sizes = np.array(mesh.GetFaceVertexCountsAttr().Get())
        indices = np.array(mesh.GetFaceVertexIndicesAttr().Get())
        first = np.cumsum(sizes) - sizes
        for k in range(1, int(sizes.max()) - 1):
            fan = first[sizes > k + 1]
            faces.append(np.stack([indices[fan], indices[fan + k], indices[fan + k + 1]], -1) + count)
        points.append(local @ matrix[:3, :3] + matrix[3, :3])
        count += len(local)
    if not points:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    return np.concatenate(points), np.concatenate(faces)


@functools.lru_cache(maxsize=4096)
def find_top(path: str, minimum: tuple[float, float, float], size: tuple[float, float, float]) -> Top | None:
    """The flat top of an asset (a table's, a bed's, a chair's seat), by rays from above; None without one."""
    import bpy  # noqa: F401  (it brings mathutils)
    from mathutils import Vector
    from mathutils.bvhtree import BVHTree

    points, faces = load_mesh(path)
    if len(faces) == 0:
        return None
    tree = BVHTree.FromPolygons(points.tolist(), faces.tolist(), all_triangles=True)
    steps = (np.arange(GRID) + 0.5) / GRID
    spots, heights = [], []
    for u in steps:
        for v in steps:
            x, y = minimum[0] + u * size[0], minimum[1] + v * size[1]
            hit, normal, *_ = tree.ray_cast(Vector((x, y, minimum[2] + size[2] + 1.0)), Vector((0, 0, -1)))
            if hit is not None and abs(normal.z) > 0.9:
                spots.append((x, y))
                heights.append(hit.z)
    if not heights:
        return None
    levels = np.array(heights)
    # the level that most rays agree on
    agreement = (np.abs(levels[:, None] - levels) < 0.03 * size[2]).sum(1)
    flat = np.abs(levels - levels[agreement.argmax()]) < 0.03 * size[2]
    if flat.sum() < 0.4 * GRID * GRID or levels[flat].mean() < minimum[2] + 0.15 * size[2]:
        return None
    # spots whose neighbours are flat too, so that things do not stand half over an edge
    kept = np.array(spots)[flat]
    middle = kept.mean(0)
    kept = kept[np.all(np.abs(kept - middle) <= 0.3 * np.array(size[:2]), axis=1)]
    return Top(float(levels[flat].max()), kept) if len(kept) else None


def add_carried(
    layout: Layout, assets: list[FurnitureAsset], library: Path, rng: np.random.Generator, most: int = 3
) -> None:
    """Put small objects a little above the flat tops of the layout; `settle` lets them drop."""
    room = min(most, 8 - len(layout.placements))
    small = [a for a in assets if max(a.size) < 0.7] or assets
    for index, carrier in enumerate(list(layout.placements)):
        if room <= 0 or rng.uniform() > 0.65:
            continue
        top = find_top(str(library / carrier.asset.path), carrier.asset.minimum, carrier.asset.size)
        if top is None:
            continue
        breadth = min(carrier.asset.size[:2]) * carrier.scale
        for _ in range(int(rng.integers(1, 3))):
            asset = small[int(rng.integers(len(small)))]
            target = np.clip(layout.unit * rng.uniform(0.35, 0.6), 0.0, 0.75 * breadth)
            scale = float(target / max(asset.size[0], asset.size[1], 0.6 * asset.size[2]))
            if scale * max(asset.size) < 0.2 * layout.unit:
                continue
            item = Placement(asset, scale, np.zeros((FRAMES, 3)), np.zeros((FRAMES, 3)), index, True)
            item.rotate[:, 2] = rng.uniform(-180, 180)
            spot = np.array([*top.spots[int(rng.integers(len(top.spots)))], top.height]) * carrier.scale
            item.translate[:] = spot @ euler_matrix(carrier.rotate[0]) + carrier.translate[0]
            item.translate[:, 2] += 0.02 * layout.unit - item.box[:, 2].min()
            mates = [p for p in layout.placements if p.support == index]
            if room > 0 and not any(overlap(item.footprint(0), p.footprint(0)) for p in mates):
                layout.placements.append(item)
                room -= 1


def settle(layout: Layout, library: Path) -> None:
    """Drop the objects marked `dropped`. What falls off its carrier, or through it, is left out."""
    import bpy

    if not any(p.dropped for p in layout.placements):
        return
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = 60
    scene.frame_start, scene.frame_end = 1, STEPS
    bpy.ops.rigidbody.world_add()
    world = scene.rigidbody_world
    world.substeps_per_frame, world.solver_iterations = 8, 20
    world.point_cache.frame_end = STEPS
    ground = _add_mesh(
        "ground", np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]]) * 1.0, [[0, 1, 2], [0, 2, 3]]
    )
    _add_body(ground, "PASSIVE", "MESH", 0.001 * layout.unit)
    bodies = []
    for index, placement in enumerate(layout.placements):
        carries = any(p.support == index for p in layout.placements)
        points, faces = load_mesh(str(library / placement.asset.path))
        # an asset of primitives or points only falls as its box
        points = points * placement.scale if len(points) else placement.box
        if not carries or not len(faces):
            points, faces = _hull(points)
        # a body turns about its origin, so the origin goes to the box's centre
        centre = placement.box.mean(0)
        body = _add_mesh(f"body_{index}", points - centre, faces)
        body.rotation_mode = "XYZ"
        body.location = (placement.translate[0] + centre @ euler_matrix(placement.rotate[0])).tolist()
        body.rotation_euler = np.radians(placement.rotate[0]).tolist()
        _add_body(
            body,
            "ACTIVE" if placement.dropped else "PASSIVE",
            "MESH" if carries and not placement.dropped else "CONVEX_HULL",
            0.002 * layout.unit,
        )
        bodies.append(body)
    for step in range(1, STEPS + 1):
        scene.frame_set(step)
    view = bpy.context.evaluated_depsgraph_get()
    fallen = set()
    for index, (placement, body) in enumerate(zip(layout.placements, bodies, strict=True)):
        if not placement.dropped:
            continue
        matrix = np.array(body.evaluated_get(view).matrix_world, dtype=np.float64)
        before = placement.translate[0].copy()
        placement.translate[:] = matrix[:3, 3] - matrix[:3, :3] @ placement.box.mean(0)
        placement.rotate[:] = np.degrees(np.array(body.evaluated_get(view).matrix_world.to_euler("XYZ")))
        moved = placement.translate[0] - before
        if placement.support is None:
            if abs(moved[2]) > 2 * layout.unit or np.linalg.norm(moved[:2]) > 1.5 * layout.unit:
                fallen.add(index)
        elif not -0.1 * layout.unit < moved[2] < 0.05 * layout.unit or np.linalg.norm(moved[:2]) > 0.3 * layout.unit:
            fallen.add(index)
    _drop(layout, fallen)


def _drop(layout: Layout, fallen: set[int]) -> None:
    """Leave placements out and renumber what stands on what."""
    kept = [i for i in range(len(layout.placements)) if i not in fallen]
    kept = [i for i in kept if layout.placements[i].support not in fallen]
    number = {old: new for new, old in enumerate(kept)}
    layout.placements = [layout.placements[i] for i in kept]
    for placement in layout.placements:
        if placement.support is not None:
            placement.support = number[placement.support]


def _hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except QhullError:
        low, high = points.min(0), points.max(0)
        points = low + np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (high - low + 1e-3)
        hull = ConvexHull(points)
    corners = points[hull.vertices]
    if len(corners) > HULL_POINTS + 6:
        # the corners that lie furthest out in evenly spread directions
        k = np.arange(HULL_POINTS) + 0.5
        polar, turn = np.arccos(1 - 2 * k / HULL_POINTS), np.pi * (1 + 5**0.5) * k
        ways = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
        ways = np.concatenate([ways, np.eye(3), -np.eye(3)])
        return _hull(np.unique(corners[(corners @ ways.T).argmax(0)], axis=0))
    used = np.unique(hull.simplices)
    return points[used], np.searchsorted(used, hull.simplices)


def _add_mesh(name: str, points: np.ndarray, faces: Any) -> Any:
    import bpy

    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points.tolist(), [], np.asarray(faces).tolist())
    body = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(body)
    return body


def _add_body(body: Any, kind: str, shape: str, margin: float) -> None:
    import bpy

    bpy.context.view_layer.objects.active = body
    bpy.ops.rigidbody.object_add(type=kind)
    body.rigid_body.collision_shape = shape
    body.rigid_body.use_margin = True
    body.rigid_body.collision_margin = margin
    body.rigid_body.friction, body.rigid_body.restitution = 0.9, 0.0
    body.rigid_body.linear_damping = body.rigid_body.angular_damping = 0.3
