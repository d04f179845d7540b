"""An annotated photograph as a scene: the camera at the origin, every object a box in front of it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..scene import BACKGROUND, Asset, Box2D, Camera, Passes, Scene

if TYPE_CHECKING:
    from .annotation import Annotation

ROOT = "/World"
HORIZONTAL_APERTURE = 36.0


def photo_camera(field_of_view: float, width: int, height: int) -> Camera:
    """The camera of an image: at the origin, looking down -Z, +Y up. `field_of_view` is horizontal, in degrees."""
    return Camera(
        world_to_camera=np.eye(4),
        focal_length=HORIZONTAL_APERTURE / 2 / math.tan(math.radians(field_of_view) / 2),
        horizontal_aperture=HORIZONTAL_APERTURE,
        vertical_aperture=HORIZONTAL_APERTURE * height / width,
        path=f"{ROOT}/Camera",
    )


def to_scene(annotation: Annotation) -> tuple[Scene, Passes]:
    """The scene of an annotated photograph, and what its camera sees of it.

    World space is the camera's: Y up, metres. Each object is an asset whose local space is centred in its box and
    aligned with the world. The box is that of its visible points, and as deep as they are or as the smaller of their
    width and height, whichever is more, since nobody sees an object's back. An object without known depth has a 2D box
    instead. The background is the last asset; its local space is the world.

    Returns:
        the scene, its assets in the order of `annotation.labels`, and passes at the photograph's resolution: every
        pixel has an asset; depth is inf and points are NaN where depth is unknown, or bled over an object's outline
        from what is behind or before it; no normals.
    """
    height, width = annotation.ids.shape
    camera = photo_camera(annotation.field_of_view, width, height)
    depth = np.full((height, width), np.inf, np.float32) if annotation.depth is None else annotation.depth.copy()
    known = np.isfinite(depth)
    origins, directions = camera.rays(height, width)
    points = origins + directions * np.where(known, depth, np.nan)[..., None]
    names = prim_names(annotation.labels)
    # A pixel's sides at a depth of one metre.
    pixel = np.array([camera.horizontal_aperture / width, camera.vertical_aperture / height]) / camera.focal_length

    assets = []
    for index, (name, label) in enumerate(zip(names, annotation.labels, strict=True)):
        mask = annotation.ids == index
        asset = Asset(path=f"{ROOT}/{name}", text=label, labels=(label,) if label else ())
        seen = _solid(depth, mask & known, pixel)
        if seen.any():
            low, high = _visible_box(points[seen], depth[seen], pixel)
            center = (low + high) / 2
            asset.extent = np.stack([low - center, high - center])
            asset.local_to_world = np.eye(4)
            asset.local_to_world[3, :3] = center
            points[mask] -= center
            depth[mask & ~seen], points[mask & ~seen] = np.inf, np.nan
        elif mask.any():
            asset.box2d = _image_box(mask)
        assets.append(asset)
    assets.append(Asset(path=f"{ROOT}/Background", role=BACKGROUND, text="background"))

    ids = np.where(annotation.ids < 0, len(assets) - 1, annotation.ids).astype(np.int32)
    passes = Passes(ids=ids, depth=depth, points=points.astype(np.float32), color=annotation.color)
    return Scene(assets=assets, camera=camera, source=annotation.source), passes


def prim_names(labels: Iterable[str]) -> list[str]:
    """A valid prim name for each label, each once: `office chair` becomes OfficeChair, the next one OfficeChair2.

    ASCII, since older USD takes nothing else; a label that leaves nothing becomes Object.
    """
    names: list[str] = []
    taken = {"Background", "Camera"}
    for label in labels:
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        stem = "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", plain)) or "Object"
        if stem[0].isdigit():
            stem = f"Object{stem}"
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}{count}"
        taken.add(name)
        names.append(name)
    return names


def _solid(depth: np.ndarray, mask: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """The part of a mask (H, W) whose depth is the object's: it bleeds over outlines, from behind and from before."""
    from scipy.ndimage import binary_erosion

    if not mask.any():
        return mask
    core = binary_erosion(mask, iterations=max(1, round(max(mask.shape) / 256)))
    low, high = np.percentile(depth[core if core.any() else mask], [2, 98])
    # What the percentiles and the erosion took off: of a round object its outline, half of its width behind its front.
    width, height = np.ptp(np.argwhere(mask), axis=0)[::-1] + 1
    slack = 0.1 * (high - low) + 0.5 * float(np.median(depth[mask])) * min(width * pixel[0], height * pixel[1])
    return mask & (depth >= low - slack) & (depth <= high + slack)


def _visible_box(points: np.ndarray, depth: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner, (3,) each, of what pixels with sides `pixel` (at one metre) see at points (M, 3)."""
    half = depth[:, None] * pixel / 2
    low = np.concatenate([(points[:, :2] - half).min(0), points[:, 2:].min(0)])
    high = np.concatenate([(points[:, :2] + half).max(0), points[:, 2:].max(0)])
    low[2] = min(low[2], high[2] - min(high[0] - low[0], high[1] - low[1]))
    return low, high


def _image_box(mask: np.ndarray) -> Box2D:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return Box2D(
        x=columns[0] / width,
        y=rows[0] / height,
        h=(rows[-1] + 1 - rows[0]) / height,
        w=(columns[-1] + 1 - columns[0]) / width,
    )
