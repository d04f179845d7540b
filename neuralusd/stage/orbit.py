"""Views all around single assets, of their plain base colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pxr import Usd

from ..scene import ALBEDO, BACKGROUND, Asset, Camera, Scene, View
from ..surfaces.capture import capture
from ..surfaces.gbuffer import gbuffer, passes_of
from .gbuffer import StageSurfaces, drawn, owners_of
from .geometry import Piece, gather_meshes

# Pixels of a view's side, its field of view and the heights that views alternate between, in degrees.
SIDE, _FIELD, _HEIGHTS = 256, 30.0, (15.0, 40.0)


def orbit_views(
    stage: Usd.Stage, scene: Scene, count: int, assets: Sequence[str] | None = None
) -> dict[str, dict[str, View]]:
    """Path of each object to `count` views of it by name, at equal angles around the up axis; others are hidden.

    RefAny3D sees an asset so (section 3, eight views). What has no geometry has none.

    Args:
        assets: paths; None is every object.
    """
    pieces = drawn(gather_meshes(stage, scene.time), scene)
    owners = owners_of(pieces, scene)
    out = {}
    for index, asset in enumerate(scene.assets):
        own = [piece for piece, owner in zip(pieces, owners, strict=True) if owner == index]
        if asset.role == BACKGROUND or not own or (assets is not None and asset.path not in assets):
            continue
        found = {f"orbit{n}": _view(stage, scene, asset, own, n, count) for n in range(count)}
        out[asset.path] = {name: view for name, view in found.items() if view is not None}
    return out


def _view(stage: Usd.Stage, scene: Scene, asset: Asset, pieces: list[Piece], number: int, count: int) -> View | None:
    camera = _camera(pieces, 2 * np.pi * number / count, np.radians(_HEIGHTS[number % len(_HEIGHTS)]), scene.up_axis)
    alone = replace(scene, assets=[replace(asset, presence=1.0, surfaces={})], camera=camera)
    seen = passes_of(gbuffer(StageSurfaces(stage, alone, camera, False, pieces), SIDE, SIDE, 2))
    mask = seen.ids == 0
    return capture(asset, mask, seen, camera, ALBEDO) if mask.any() else None


def _camera(pieces: list[Piece], angle: float, height: float, up_axis: str) -> Camera:
    """A camera that sees all of some pieces from a direction."""
    points = np.concatenate([p.mesh.points @ p.local_to_world[:3, :3] + p.local_to_world[3, :3] for p in pieces])
    points = points[np.isfinite(points).all(1)]
    middle = (points.min(0) + points.max(0)) / 2
    radius = max(float(np.linalg.norm(points - middle, axis=1).max()), 1e-6)
    up = np.array([0.0, 0.0, 1.0]) if up_axis == "Z" else np.array([0.0, 1.0, 0.0])
    side = np.array([1.0, 0.0, 0.0])
    front = np.cross(up, side)
    back = np.cos(height) * (np.sin(angle) * side - np.cos(angle) * front) + np.sin(height) * up
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    distance = radius / np.sin(np.radians(_FIELD / 2))
    view = np.eye(4)
    view[0, :3], view[1, :3], view[2, :3], view[3, :3] = right, np.cross(back, right), back, middle + distance * back
    aperture = 2 * np.tan(np.radians(_FIELD / 2))
    return Camera(
        np.linalg.inv(view), 1.0, aperture, aperture, clipping_range=(distance - 1.1 * radius, distance + 1.1 * radius)
    )
