"""What a camera sees of a stage's geometry: ids, depth, points, normals and a shaded view, by ray casting."""

from __future__ import annotations

import numpy as np
from pxr import Sdf, Usd

from ..scene import Camera, Passes, Scene
from .geometry import Piece, gather_meshes
from .rays import Hits, RayCaster
from .walk import PROXY, Owners


def render_passes(
    stage: Usd.Stage, scene: Scene, height: int, width: int, supersample: int = 2, color: bool = True
) -> Passes:
    """The passes of `scene`, which was read from `stage`, through the centres of the image's pixels.

    Geometry that belongs to no asset has id -1, and hides what is behind it. Surfaces are seen from both sides; a
    surface whose opacity is zero, or below its material's opacityThreshold, is not seen at all.

    Args:
        scene: gives the assets, the time and the camera, whose aperture is fitted to height and width.
        supersample: the shaded view averages supersample x supersample rays a pixel.
        color: whether to make the shaded view; without it `Passes.color` is None.

    Warns:
        StageWarning: geometry or textures were left out.
    """
    if height <= 0 or width <= 0 or supersample <= 0:
        raise ValueError(f"an image of {height} x {width}, supersample {supersample}, is none; give positive numbers")
    camera = scene.camera.fitted(width / height)
    pieces = drawn(gather_meshes(stage, scene.time), scene)
    owners = _owners(pieces, scene)
    caster = RayCaster(pieces, camera)
    ids = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf, np.float32)
    points = np.full((height, width, 3), np.nan, np.float32)
    normals = np.zeros((height, width, 3), np.float32)

    hits = _first_hits(caster, camera, height, width)
    rows, columns = np.divmod(hits.ray, width)
    asset = owners[hits.piece] if len(hits.piece) else hits.piece
    ids[rows, columns] = asset
    depth[rows, columns] = hits.depth
    points[rows, columns] = _local_points(hits, asset, scene, caster.eye)
    normals[rows, columns] = facing_normals(hits, pieces, camera)
    return Passes(ids=ids, depth=depth, points=points, normals=normals)


def drawn(pieces: list[Piece], scene: Scene) -> list[Piece]:
    """The pieces without the proxies of assets (and of what belongs to none) that have other geometry."""
    owners = _owners(pieces, scene)
    usual = {int(o) for o, piece in zip(owners, pieces, strict=True) if piece.purpose != PROXY}
    return [p for o, p in zip(owners, pieces, strict=True) if p.purpose != PROXY or int(o) not in usual]


def _owners(pieces: list[Piece], scene: Scene) -> np.ndarray:
    owners = Owners([asset.path for asset in scene.assets])
    return np.array([owners.index(Sdf.Path(piece.path)) for piece in pieces], np.int32)


def _first_hits(caster: RayCaster, camera: Camera, height: int, width: int) -> Hits:
    origins, directions = camera.rays(height, width)
    near, far = camera.clipping_range
    origins = (origins - caster.eye + near * directions).reshape(-1, 3)
    hits = caster.cast(origins, directions.reshape(-1, 3), np.arange(height * width))
    return hits[hits.depth <= far]


def _local_points(hits: Hits, asset: np.ndarray, scene: Scene, eye: np.ndarray) -> np.ndarray:
    points = hits.points + eye
    for index in np.unique(asset[asset >= 0]):
        here = asset == index
        inverse = np.linalg.inv(scene.assets[index].local_to_world)
        points[here] = points[here] @ inverse[:3, :3] + inverse[3, :3]
    return points


def facing_normals(hits: Hits, pieces: list[Piece], camera: Camera) -> np.ndarray:
    """(N, 3) unit shading normals in world space, turned to the camera."""
    normals = hits.normals.copy()
    for index in np.unique(hits.piece):
        piece, here = pieces[index], hits.piece == index
        if piece.mesh.normals is not None:
            local = np.einsum("nik,ni->nk", piece.mesh.normals[hits.triangle[here]], hits.weights[here])
            matrix = piece.local_to_world[:3, :3]
            # Normals go by the inverse transpose; the adjugate exists even where the inverse does not.
            shading = local @ np.cross(np.roll(matrix, -1, axis=0), np.roll(matrix, -2, axis=0))
            length = np.linalg.norm(shading, axis=1, keepdims=True)
            flat = normals[here]
            shading = np.where(length > 1e-30, shading / np.maximum(length, 1e-30), flat)
            normals[here] = shading * np.where((shading * flat).sum(1, keepdims=True) < 0, -1, 1)
    view = -hits.points
    if camera.projection == "orthographic":
        view = np.broadcast_to(np.linalg.inv(camera.world_to_camera)[2, :3], hits.points.shape)
    flat = hits.normals * np.where((hits.normals * view).sum(1, keepdims=True) < 0, -1, 1)
    normals = normals * np.where((normals * flat).sum(1, keepdims=True) < 0, -1, 1)
    return np.where((normals * view).sum(1, keepdims=True) > 0, normals, flat)
