"""A world as arrays: what training reads, and a compact file of it to carry to another machine.

Frames are flat (T of them); `scene` says which belong together. Slots are as in `neuralusd.models.tensors`: slot 0 is
the background, an id of 0 is everything that is no foreground asset. Colour, depth and ids stay compressed until they
are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..models.tensors import asset_poses, slots
from ..scene import Passes, Scene
from .compressed import KINDS, Pictures, encode_picture, mapped

# What an empty slot holds.
_EMPTY = {
    "local_to_world": np.eye(4),
    "extent": np.array([[-0.5] * 3, [0.5] * 3]),
    "presence": np.zeros(()),
    "pose_2d": np.zeros(4),
    "pose_3d": np.zeros(12),
    "has_pose_2d": np.zeros(()),
    "has_pose_3d": np.zeros(()),
}


@dataclass
class PackedWorld:
    """Frames of many scenes.

    Attributes:
        color: (T, H, W, 3) uint8 sRGB. depth: (T, H, W) float16 metres, inf where nothing is seen. ids: (T, H, W)
            uint8 slots. Compressed: index them for arrays.
        scene: (T,) int32, index into `names`.
        world_to_camera: (T, 4, 4); intrinsics: (T, 4), see `Camera.lens`.
        local_to_world: (T, N, 4, 4); extent: (T, N, 2, 3); presence: (T, N).
        pose_2d: (T, N, 4); pose_3d: (T, N, 12); has_pose_2d, has_pose_3d: (T, N), see `SceneTensors`. All float32.
        names: the scenes.
    """

    color: Pictures
    depth: Pictures
    ids: Pictures
    scene: np.ndarray
    world_to_camera: np.ndarray
    intrinsics: np.ndarray
    local_to_world: np.ndarray
    extent: np.ndarray
    presence: np.ndarray
    pose_2d: np.ndarray
    pose_3d: np.ndarray
    has_pose_2d: np.ndarray
    has_pose_3d: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, pictures compressed."""
        return sum(getattr(value, "nbytes", 0) for value in vars(self).values())

    @property
    def decoded_nbytes(self) -> int:
        """Bytes in memory with every picture decoded."""
        return self.nbytes + sum(p.decoded_nbytes - p.nbytes for p in (self.color, self.depth, self.ids))

    def frames_by_scene(self) -> list[np.ndarray]:
        """Indices of each scene's frames, scenes of fewer than two frames left out."""
        order = np.argsort(self.scene, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.scene[order])) + 1)
        return [group for group in groups if len(group) > 1]


def pack_frame(scene: Scene, passes: Passes, count: int | None = None) -> dict[str, np.ndarray]:
    """One frame's arrays with `count` slots (None: as the scene needs). Raises ValueError when it needs more."""
    entries = slots(scene)
    count = min(len(entries) if count is None else count, np.iinfo(np.uint8).max)
    if len(entries) > count:
        raise ValueError(f"{scene.source} has {len(entries) - 1} foreground assets, more than the {count - 1} packed")
    if passes.color is None:
        raise ValueError(f"{scene.source}: a frame without a picture cannot be packed")
    lookup = np.zeros(len(scene.assets) + 1, np.uint8)
    row = {name: _empty(name, count) for name in _EMPTY}
    for slot, asset in enumerate(entries):
        if asset is None:
            continue
        lookup[scene.assets.index(asset)] = slot
        row["local_to_world"][slot] = asset.local_to_world
        row["presence"][slot] = asset.presence
        if asset.extent is not None:
            row["extent"][slot] = asset.extent
        row["pose_2d"][slot], row["pose_3d"][slot], has_2d, has_3d = asset_poses(asset, scene.camera)
        row["has_pose_2d"][slot], row["has_pose_3d"][slot] = has_2d, has_3d
    row = {name: value.astype(np.float32) for name, value in row.items()}
    row["color"] = np.round(passes.color * 255).clip(0, 255).astype(np.uint8)
    row["depth"] = passes.depth.astype(np.float16)
    row["ids"] = lookup[passes.ids]  # the last entry, which -1 reads, is the background's 0
    row["world_to_camera"] = scene.camera.world_to_camera.astype(np.float32)
    row["intrinsics"] = np.array(scene.camera.lens, np.float32)
    return row


def pack(frames: Iterable[tuple[str, Scene, Passes]], count: int | None = None) -> PackedWorld:
    """(scene name, scene, passes) of every frame to arrays with `count` slots.

    None takes as many slots as the scene with most assets needs.

    Raises:
        ValueError: there are no frames, a scene has more assets than `count`, or frames are of different sizes.
    """
    rows: dict[str, list[Any]] = {}
    names: dict[str, int] = {}
    index: list[int] = []
    size: tuple[int, ...] | None = None
    for name, scene, passes in frames:
        frame = pack_frame(scene, passes, count)
        if size not in (None, frame["depth"].shape):
            sizes = {size, frame["depth"].shape}
            raise ValueError(f"its frames are of different sizes: {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}")
        size = frame["depth"].shape
        for field, value in frame.items():
            rows.setdefault(field, []).append(memoryview(KINDS[field].encode(value)) if field in KINDS else value)
        index.append(names.setdefault(name, len(names)))
    if size is None:
        raise ValueError("there are no frames to pack")
    most = max(len(value) for value in rows["presence"])
    arrays: dict[str, Any] = {
        name: Pictures(rows.pop(name), kind, (*size, 3) if name == "color" else size) for name, kind in KINDS.items()
    }
    arrays |= {field: np.stack([_widened(field, value[None], most)[0] for value in rows[field]]) for field in rows}
    return PackedWorld(scene=np.array(index, np.int32), names=list(names), **arrays)


def save_packed(world: PackedWorld, path: str | Path, quality: int = 90) -> None:
    """Writes a compact file: pictures as WebP, depth and ids as PNG inside of an .npz."""
    arrays = {f.name: getattr(world, f.name) for f in fields(world) if f.name not in (*KINDS, "names")}
    streams: dict[str, Sequence[Any]] = {name: getattr(world, name).streams for name in ("depth", "ids")}
    streams["color"] = [
        encode_picture(world.color[frame], "WEBP", quality=quality, method=4) for frame in range(len(world))
    ]
    for name, stream in streams.items():
        arrays[name] = np.frombuffer(b"".join(stream), np.uint8)
        arrays[f"{name}_sizes"] = np.array([len(part) for part in stream], np.int64)
    np.savez(Path(path), names=np.array(world.names), **arrays)


def load_packed(paths: Sequence[str | Path]) -> PackedWorld:
    """Opens one or several files of `save_packed` as one world; their pictures are read as they are looked at.

    Raises:
        ValueError: a file is not one, or its first picture is damaged.
    """
    worlds = []
    for path in paths:
        arrays: dict[str, Any] = {}
        with np.load(path, allow_pickle=False) as file:
            if "color_sizes" not in file:
                raise ValueError(f"{path} is not a packed world; make one with `neuralusd data pack`")
            arrays = {name: file[name] for name in file.files if name not in KINDS}
        names = [str(name) for name in arrays.pop("names")]
        for name, kind in KINDS.items():
            ends = np.cumsum(arrays.pop(f"{name}_sizes"))
            data = mapped(path, name).data
            if data.nbytes != ends[-1]:
                raise ValueError(f"its {name} is cut short")
            streams = [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            arrays[name] = Pictures(streams, kind, kind.decode(streams[0]).shape)
        worlds.append(PackedWorld(names=names, **arrays))
    return join(worlds)


def join(worlds: Sequence[PackedWorld]) -> PackedWorld:
    """Several worlds as one; scenes stay apart even where their names are the same.

    Raises:
        ValueError: their frames are of different sizes.
    """
    sizes = {world.depth.shape[1:] for world in worlds}
    if len(sizes) > 1:
        raise ValueError(f"worlds are of different sizes: {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}")
    most = max(world.presence.shape[1] for world in worlds)
    merged: dict[str, Any] = {
        f.name: np.concatenate([_widened(f.name, getattr(world, f.name), most) for world in worlds])
        for f in fields(PackedWorld)
        if f.name not in (*KINDS, "names")
    }
    merged |= {name: Pictures.join([getattr(world, name) for world in worlds]) for name in KINDS}
    offsets = np.cumsum([0, *(len(world.names) for world in worlds[:-1])])
    merged["scene"] = np.concatenate([world.scene + offset for world, offset in zip(worlds, offsets, strict=True)])
    return PackedWorld(names=[name for world in worlds for name in world.names], **merged)


def _empty(name: str, count: int) -> np.ndarray:
    """`count` empty slots of a field."""
    return np.broadcast_to(_EMPTY[name], (count, *_EMPTY[name].shape)).copy()


def _widened(name: str, values: np.ndarray, count: int) -> np.ndarray:
    """(T, N, ...) of a field with slots as (T, count, ...), the further ones empty; other fields as they are."""
    if name not in _EMPTY or values.shape[1] == count:
        return values
    more = np.broadcast_to(_empty(name, count - values.shape[1]), (len(values), count - values.shape[1],
                           *values.shape[2:]))  # fmt: skip
    return np.concatenate([values, more.astype(values.dtype)], axis=1)
