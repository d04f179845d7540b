"""What a camera sees of a stage's geometry: ids, depth, points, normals and a shaded view, by ray casting."""

from __future__ import annotations

import numpy as np
from pxr import Sdf, Usd

from ..scene import Camera, Passes, Scene
from .geometry import Piece, gather_meshes
from .rays import Hits, RayCaster
from .shade import Shader, facing_normals
from .texture import linear_to_srgb
from .walk import PROXY, Owners

# Rays that are worked on at a time.
RAYS = 400_000


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
    shader = Shader(pieces, caster, scene.time, scene.up_axis)
    ids = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf, np.float32)
    points = np.full((height, width, 3), np.nan, np.float32)
    normals = np.zeros((height, width, 3), np.float32)
    shaded = np.zeros((height, width, 3), np.float32) if color else None

    for top, bottom in _bands(height, width):
        hits = shader.visible(*_rays(camera, caster, (height, width), (top, bottom)), camera.clipping_range[1])
        rows, columns = np.divmod(hits.ray, width)
        rows += top
        asset = owners[hits.piece]
        ids[rows, columns] = asset
        depth[rows, columns] = hits.depth
        points[rows, columns] = _local_points(hits, asset, scene, caster.eye)
        normals[rows, columns] = facing_normals(hits, pieces, camera)
    if shaded is not None:
        size = (height * supersample, width * supersample)
        for top, bottom in _bands(height, size[1] * supersample):
            origins, directions, _ = _rays(camera, caster, size, (top * supersample, bottom * supersample))
            light = shader.radiance(origins, directions, camera, size)
            light = light.reshape(bottom - top, supersample, width, supersample, 3).mean(axis=(1, 3))
            shaded[top:bottom] = linear_to_srgb(light)
    return Passes(ids=ids, depth=depth, points=points, normals=normals, color=shaded)


def _bands(height: int, per_row: int) -> list[tuple[int, int]]:
    """Bands of rows (top, bottom) of so many rays that their arrays stay within some hundred megabytes."""
    rows = max(1, RAYS // per_row)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def drawn(pieces: list[Piece], scene: Scene) -> list[Piece]:
    """The pieces without the proxies of assets (and of what belongs to none) that have other geometry."""
    owners = _owners(pieces, scene)
    usual = {int(o) for o, piece in zip(owners, pieces, strict=True) if piece.purpose != PROXY}
    return [p for o, p in zip(owners, pieces, strict=True) if p.purpose != PROXY or int(o) not in usual]


def _owners(pieces: list[Piece], scene: Scene) -> np.ndarray:
    owners = Owners([asset.path for asset in scene.assets])
    return np.array([owners.index(Sdf.Path(piece.path)) for piece in pieces], np.int32)


def _rays(
    camera: Camera, caster: RayCaster, size: tuple[int, int], rows: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origins, relative to the camera, and directions (N, 3) of the rays of some rows of an image; and their
    numbers.
    """
    origins, directions = (rays[rows[0] : rows[1]] for rays in camera.rays(*size))
    # Rays begin at the near plane. A perspective camera's origins are the camera's place, exactly.
    start = origins - caster.eye if camera.projection == "orthographic" else np.zeros_like(origins)
    start = (start + camera.clipping_range[0] * directions).reshape(-1, 3)
    return start, directions.reshape(-1, 3), np.arange(len(start))


def _local_points(hits: Hits, asset: np.ndarray, scene: Scene, eye: np.ndarray) -> np.ndarray:
    points = hits.points + eye
    for index in np.unique(asset[asset >= 0]):
        here = asset == index
        inverse = np.linalg.inv(scene.assets[index].local_to_world)
        points[here] = points[here] @ inverse[:3, :3] + inverse[3, :3]
    return points
