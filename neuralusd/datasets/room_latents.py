"""Rooms as arrays of scene latents, for training the prior (Anchored Generation, sections 2.3 and 3.1)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..models.prior.background import SIZE
from ..models.prior.packing import pose_vector
from ..models.prior.variables import POSE_DIM
from .furniture_assets import FurnitureAsset, asset_folder_name
from .rooms import room_latents, sample_room
from .rooms_view import background_view


@dataclass
class RoomLatents:
    """R rooms of at most N objects.

    Attributes:
        pose: (R, N, POSE_DIM) float32, see `pose_vector`; 0 in empty slots. model: (R, N) int32, index into `names`;
            -1 in empty slots. focal: (R, 2) float32, see `SceneLatents`.
        color: (R, S, S, 3) uint8 sRGB and depth: (R, S, S) float32 in metres, of the room without its objects.
        names: of the models, as `ObjectViews` has them.
    """

    pose: np.ndarray
    model: np.ndarray
    focal: np.ndarray
    color: np.ndarray
    depth: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.pose)


def make_room_latents(
    library: Sequence[FurnitureAsset], count: int, slots: int, seed: int = 0, kinds: Sequence[str] = ("bedroom",)
) -> RoomLatents:
    """Lays out rooms, as many of each kind; nothing is rendered but their shells.

    Args:
        library: the models. slots: N_max; what is smallest in the picture is left out of a fuller room.

    Raises:
        ValueError: the library has no models that such rooms need.
    """
    library = list(library)
    names = [asset_folder_name(asset.id) for asset in library]
    index = {asset.id: number for number, asset in enumerate(library)}
    made = RoomLatents(
        np.zeros((count, slots, POSE_DIM), np.float32),
        np.full((count, slots), -1, np.int32),
        np.zeros((count, 2), np.float32),
        np.zeros((count, SIZE, SIZE, 3), np.uint8),
        np.zeros((count, SIZE, SIZE), np.float32),
        names,
    )
    for number in tqdm(range(count), desc="rooms", mininterval=5):
        rng = np.random.default_rng([seed, number])
        room = sample_room(library, rng, kind=kinds[number % len(kinds)])
        scene, ids = room_latents(room)
        order = sorted(range(len(ids)), key=lambda at: -_share(scene.objects[at].translation, scene.objects[at].scale))
        for slot, at in enumerate(order[:slots]):
            made.pose[number, slot] = pose_vector(scene.objects[at])
            made.model[number, slot] = index[ids[at]]
        made.focal[number] = scene.focal
        color, depth = background_view(room, SIZE)
        made.color[number] = (color.clip(0, 1) * 255).round()
        made.depth[number] = depth
    return made


def _share(translation: np.ndarray, scale: np.ndarray) -> float:
    return float(np.prod(np.sort(scale)[1:]) / max(-translation[2], 0.1) ** 2)


def save_room_latents(rooms: RoomLatents, path: str | os.PathLike) -> None:
    """Writes an .npz, whole or not at all; `load_room_latents` reads it."""
    path = Path(path)
    part = path.with_name(path.stem + ".part.npz")
    arrays = {name: value for name, value in vars(rooms).items() if isinstance(value, np.ndarray)}
    np.savez_compressed(part, names=np.array(rooms.names), **arrays)
    part.replace(path)


def load_room_latents(path: str | os.PathLike) -> RoomLatents:
    """Raises ValueError where it is no file of `save_room_latents`."""
    with np.load(path, allow_pickle=False) as file:
        if "pose" not in file or "model" not in file:
            raise ValueError(f"{path} holds no latents of rooms")
        arrays = {name: file[name] for name in file.files}
    return RoomLatents(names=[str(name) for name in arrays.pop("names")], **arrays)
