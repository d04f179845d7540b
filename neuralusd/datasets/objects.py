"""Views of single objects as arrays: what models that learn objects train on (3DVADER, sections 3.2 and 4.1).

Any world of scenes with one foreground asset each will do; `neuralusd.datasets.orbits` makes one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..scene import Scene
from ..window import WINDOW_MARGIN, window
from .frames import frames
from .orbits import MARGIN


@dataclass
class ObjectViews:
    """O objects, V views each.

    Attributes:
        color: (O, V, H, W, 3) uint8 sRGB, black where the object is not. mask: (O, V, H, W) bool.
        camera_to_canonical: (O, V, 4, 4) float32 for row vectors, from camera space (looking down -Z, +Y up) to the
            object's canonical cube, from -1 to 1; it scales too. intrinsics: (O, V, 4), see `Camera.lens`.
        scale: (O,) float32, metres that a canonical unit is. names, texts: of each object.
    """

    color: np.ndarray
    mask: np.ndarray
    camera_to_canonical: np.ndarray
    intrinsics: np.ndarray
    scale: np.ndarray
    names: list[str]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def rays(self, objects: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions (B, H, W, 3) in the canonical cube of the pixels' centres; a direction is as long as
        a metre along the viewing axis."""
        height, width = self.mask.shape[2:]
        fx, fy, ox, oy = (value[:, None, None] for value in self.intrinsics[objects, views].T)
        down, right = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        x, y = (right[None, None] - 0.5 + ox) / fx, (0.5 + oy - down[None, :, None]) / fy
        local = np.stack(np.broadcast_arrays(x, y, -1.0), -1)
        matrix = self.camera_to_canonical[objects, views]
        directions = np.einsum("bhwi,bij->bhwj", local, matrix[:, :3, :3])
        origins = np.broadcast_to(matrix[:, None, None, 3, :3], directions.shape)
        return origins.astype(np.float32), directions.astype(np.float32)

    def objects(self, chosen: Sequence[int] | np.ndarray) -> Self:
        """Some of the objects, by index, in that order."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        names, texts = ([each[index] for index in chosen] for each in (self.names, self.texts))
        return replace(self, **arrays, names=names, texts=texts)

    def split_views(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the views that are trained on, and of those held back for measuring: every fifth, since the
        cameras of an orbit climb with their number."""
        views = np.arange(self.mask.shape[1])
        return views[views % 5 != 2], views[views % 5 == 2]

    def cropped(self, size: int, margin: float = WINDOW_MARGIN) -> ObjectViews:
        """The same objects seen through square windows about their outlines, `size` pixels wide: what a model is shown
        of an object does not depend on how far away it stands.

        Args:
            margin: side of the window, as a multiple of the outline's longer side.
        """
        from PIL import Image

        count, number, height, width = self.mask.shape
        color = np.zeros((count, number, size, size, 3), np.uint8)
        mask = np.zeros((count, number, size, size), bool)
        intrinsics = self.intrinsics.copy()
        for index in np.ndindex(count, number):
            rows, columns = (np.flatnonzero(self.mask[index].any(axis)) for axis in (1, 0))
            if not len(rows):
                continue
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            left, top, side = window(box, margin)
            picture = np.dstack([self.color[index], self.mask[index].astype(np.uint8) * 255])
            seen = Image.fromarray(picture, "RGBA").transform(
                (2 * size, 2 * size),
                Image.Transform.EXTENT,
                (left, top, left + side, top + side),
                Image.Resampling.BILINEAR,
            )
            values = np.asarray(seen.resize((size, size), Image.Resampling.BOX))
            mask[index] = values[..., 3] > 127
            color[index] = np.where(mask[index][..., None], values[..., :3], 0)
            fx, fy, ox, oy = self.intrinsics[index]
            wide, high = side / width, side / height
            intrinsics[index] = (
                fx / wide,
                fy / high,
                (left / width - 0.5 + ox) / wide + 0.5,
                (0.5 + oy - top / height) / high - 0.5,
            )
        return replace(self, color=color, mask=mask, intrinsics=intrinsics)


def canonical_to_world(scene: Scene, margin: float = MARGIN) -> tuple[np.ndarray, float]:
    """The canonical cube of a scene's one object: (4, 4) to world space for row vectors, and metres a canonical unit.

    Raises:
        ValueError: the scene has no foreground asset, or several, or its box is empty.
    """
    if len(scene.foreground) != 1:
        raise ValueError(f"{scene.source} shows {len(scene.foreground)} objects; one is learned from one at a time")
    [asset] = scene.foreground
    if asset.extent is None or not np.ptp(asset.extent, axis=0).max() > 0:
        raise ValueError(f"{scene.source}: <{asset.path}> has no box, so there is no telling how large it is")
    rows = asset.local_to_world[:3, :3]
    half = margin * float((np.ptp(asset.extent, axis=0) * np.linalg.norm(rows, axis=1)).max()) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = half * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    matrix[3, :3] = asset.extent.mean(0) @ rows + asset.local_to_world[3, :3]
    return matrix, half


def object_views(world: str | os.PathLike, split: str = "train") -> ObjectViews:
    """Reads a split of a world. Objects with fewer views than most are left out.

    Raises:
        FileNotFoundError: no such world or split. ValueError: a scene shows no object or several.
    """
    rows: dict[str, list[dict]] = {}
    for name, scene, passes in frames(world, split):
        if passes.color is None:
            raise ValueError(f"{scene.source}: there are no pictures of it")
        matrix, half = canonical_to_world(scene)
        mask = passes.ids == scene.assets.index(scene.foreground[0])
        rows.setdefault(name, []).append(
            {
                "color": (np.where(mask[..., None], passes.color, 0) * 255).round().astype(np.uint8),
                "mask": mask,
                "camera_to_canonical": np.linalg.inv(matrix @ scene.camera.world_to_camera).astype(np.float32),
                "intrinsics": np.array(scene.camera.lens, np.float32),
                "scale": half,
                "text": scene.foreground[0].text,
            }
        )
    most = int(np.median([len(views) for views in rows.values()]))
    kept = {name: views[:most] for name, views in rows.items() if len(views) >= most}
    arrays = {
        field: np.stack([np.stack([view[field] for view in views]) for views in kept.values()])
        for field in ("color", "mask", "camera_to_canonical", "intrinsics")
    }
    return ObjectViews(
        **arrays,
        scale=np.array([views[0]["scale"] for views in kept.values()], np.float32),
        names=list(kept),
        texts=[views[0]["text"] for views in kept.values()],
    )


def save_objects(views: ObjectViews, path: str | os.PathLike) -> None:
    """Writes an .npz; `load_objects` reads it."""
    arrays = {name: value for name, value in vars(views).items() if isinstance(value, np.ndarray)}
    np.savez_compressed(path, names=np.array(views.names), texts=np.array(views.texts), **arrays)


def load_objects(path: str | os.PathLike) -> ObjectViews:
    """Raises ValueError where it is no file of `save_objects`."""
    with np.load(path, allow_pickle=False) as file:
        if "camera_to_canonical" not in file:
            raise ValueError(f"{path} holds no views of objects; give the folder that `neuralusd data orbits` made")
        arrays = {name: file[name] for name in file.files}
    names, texts = ([str(text) for text in arrays.pop(name)] for name in ("names", "texts"))
    return ObjectViews(**arrays, names=names, texts=texts)
