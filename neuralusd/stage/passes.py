"""What a camera sees of a stage's geometry: ids, depth, points, normals and a shaded view, by ray casting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pxr import Usd

from ..colors import linear_to_srgb
from ..scene import Camera, Passes, Scene
from ..surfaces.gbuffer import BACKDROP, facing_normals, illumination
from .gbuffer import StageSurfaces


def render_passes(
    stage: Usd.Stage,
    scene: Scene,
    height: int,
    width: int,
    supersample: int = 2,
    color: bool = True,
    everywhere: bool = True,
    sheets: bool = False,
) -> Passes:
    """The passes of `scene`, which was read from `stage`, through the centres of the image's pixels.

    Geometry that belongs to no asset has id -1, and hides what is behind it. Surfaces are seen from both sides; a
    surface whose opacity is zero, or below its material's opacityThreshold, is not seen at all.

    Args:
        scene: gives the assets, the time and the camera, whose aperture is fitted to height and width.
        supersample: the shaded view averages supersample x supersample rays a pixel: each, or only those that an
            outline crosses, if not `everywhere`.
        color: whether to make the shaded view; without it `Passes.color` is None, and so is `Passes.base`, the plain
            base colours.
        sheets: assets without geometry have the surface that they were seen with.

    Warns:
        StageWarning: geometry or textures were left out.
    """
    if height <= 0 or width <= 0 or supersample <= 0:
        raise ValueError(f"an image of {height} x {width}, supersample {supersample}, is none; give positive numbers")
    camera = scene.camera.fitted(width / height)
    # An asset that is only partly there is seen all the same.
    scene = replace(scene, assets=[replace(asset, presence=1.0) for asset in scene.assets])
    shown = StageSurfaces(stage, scene, camera, sheets=sheets)
    ids = np.full(height * width, -1, np.int32)
    depth = np.full(height * width, np.inf, np.float32)
    points = np.full((height * width, 3), np.nan, np.float32)
    normals = np.zeros((height * width, 3), np.float32)
    for part in shown.samples(height, width, 1):
        seen, hits = part.pixel[part.first], part.hits[part.first]
        asset = shown.owners[hits.piece] if len(seen) else hits.piece
        ids[seen], depth[seen] = asset, hits.depth
        points[seen] = _local_points(hits.points + shown.caster.eye, asset, scene)
        normals[seen] = facing_normals(hits, shown.pieces, camera)
    size = (height, width)
    light, base = _light(shown, camera, size, supersample, everywhere) if color else (None, None)
    return Passes(
        ids=ids.reshape(size),
        depth=depth.reshape(size),
        points=points.reshape(*size, 3),
        normals=normals.reshape(*size, 3),
        color=light,
        base=base,
    )


def _light(
    shown: StageSurfaces, camera: Camera, size: tuple[int, int], supersample: int, everywhere: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The shaded view and the base colours (height, width, 3), both as sRGB values."""
    height, width = size
    light, base = np.zeros((2, height * width, 3))
    covered = np.zeros(height * width)
    fine = (height * supersample, width * supersample) if everywhere else size
    for part in shown.samples(height, width, supersample, everywhere):
        hits = replace(part.hits, ray=np.arange(len(part.pixel)))
        look = shown.look(hits, part.origins, part.directions, fine)
        normals = facing_normals(hits, shown.pieces, camera)
        lit = look.color * illumination(hits, camera, normals, shown.up())[:, None] + look.emission
        covered += np.bincount(part.pixel, part.weight, height * width)
        for channel in range(3):
            light[:, channel] += np.bincount(part.pixel, part.weight * lit[:, channel], height * width)
            base[:, channel] += np.bincount(part.pixel, part.weight * look.color[:, channel], height * width)
    light += np.clip(1 - covered, 0, 1)[:, None] * BACKDROP
    base = base / np.maximum(covered, 1e-6)[:, None]
    return (linear_to_srgb(values).reshape(*size, 3).astype(np.float32) for values in (light, base))  # type: ignore


def _local_points(points: np.ndarray, asset: np.ndarray, scene: Scene) -> np.ndarray:
    for index in np.unique(asset[asset >= 0]):
        here = asset == index
        inverse = np.linalg.inv(scene.assets[index].local_to_world)
        points[here] = points[here] @ inverse[:3, :3] + inverse[3, :3]
    return points
