"""Clips of articulated objects as arrays: what models that learn how parts move train on (3DVADER, section 3.2).

Any world of scenes with one foreground asset each will do; `neuralusd.datasets.articulated` makes one. The parts of an
asset are the prims below it (or it itself) with `UsdPhysics.RigidBodyAPI`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .frames import frames
from .objects import ObjectViews
from .orbits import MARGIN
from .world import SceneFolder, open_world


@dataclass
class Clips(ObjectViews):
    """As `ObjectViews`, a view being a frame. The canonical cube is the same in all of a clip's frames, and holds the
    asset in every one of them; its axes are the world's.

    Attributes:
        motion: (O, V, P, 4, 4) float32 for row vectors, in canonical space: each part from where it is in the canonical
            pose to where it is in the frame. Rigid; identity for parts that an object does not have. The canonical pose
            is that of the stage's default values, or of the first frame where something has only samples.
        parts: (O,) how many each object has.
    """

    motion: np.ndarray
    parts: np.ndarray

    def frames(self, chosen: np.ndarray) -> Clips:
        """The same clips with some of their frames, by index."""
        fields = ("color", "mask", "camera_to_canonical", "intrinsics", "motion")
        return Clips(**{**vars(self), **{name: getattr(self, name)[:, chosen] for name in fields}})


def read_clips(world: str | os.PathLike, split: str = "train") -> Clips:
    """Reads a split of a world. Clips with fewer frames than most are left out.

    Raises:
        FileNotFoundError: no such world or split.
        ValueError: a scene shows no object or several, or has no rigid bodies, or no pictures.
    """
    folders = {folder.id: folder for folder in open_world(world, split)}
    found: dict[str, list[tuple]] = {}
    for name, scene, passes in frames(world, split):
        if len(scene.foreground) != 1 or passes.color is None:
            raise ValueError(
                f"{scene.source} shows {len(scene.foreground)} objects"
                f"{'' if passes.color is not None else ', and no pictures'}; a clip shows one, with pictures"
            )
        found.setdefault(name, []).append((scene, passes))
    if not found:
        raise ValueError(f"every scene of the split {split!r} of {world} is damaged")
    most = int(np.median([len(clip) for clip in found.values()]))
    clips = {name: _read_clip(folders[name], clip[:most]) for name, clip in found.items() if len(clip) >= most}
    parts = np.array([clip["motion"].shape[1] for clip in clips.values()])
    for clip in clips.values():
        missing = parts.max() - clip["motion"].shape[1]
        still = np.broadcast_to(np.eye(4, dtype=np.float32), (len(clip["motion"]), missing, 4, 4))
        clip["motion"] = np.concatenate([clip["motion"], still], 1)
    names = ("color", "mask", "camera_to_canonical", "intrinsics", "motion")
    return Clips(
        **{name: np.stack([clip[name] for clip in clips.values()]) for name in names},
        scale=np.array([clip["scale"] for clip in clips.values()], np.float32),
        names=list(clips),
        texts=[clip["text"] for clip in clips.values()],
        parts=parts,
    )


def save_clips(clips: Clips, path: str | os.PathLike) -> None:
    """Writes an .npz; `load_clips` reads it."""
    arrays = {name: value for name, value in vars(clips).items() if isinstance(value, np.ndarray)}
    np.savez_compressed(path, names=np.array(clips.names), texts=np.array(clips.texts), **arrays)


def load_clips(path: str | os.PathLike) -> Clips:
    """Raises ValueError where it is no file of `save_clips`."""
    with np.load(path, allow_pickle=False) as file:
        if {field.name for field in fields(Clips)} - set(file.files):
            raise ValueError(f"{path} holds no clips; `neuralusd.datasets.clips.save_clips` writes such a file")
        arrays = {field.name: file[field.name] for field in fields(Clips)}
    names, texts = ([str(text) for text in arrays.pop(name)] for name in ("names", "texts"))
    return Clips(**arrays, names=names, texts=texts)


def _read_clip(folder: SceneFolder, clip: list[tuple]) -> dict[str, Any]:
    stage = folder.open_stage()
    low, high = np.inf, -np.inf
    for scene, _ in clip:
        [asset] = scene.foreground
        if asset.extent is None:
            raise ValueError(f"{scene.source}: <{asset.path}> has no box, so there is no telling how large it is")
        corners = np.array([[asset.extent[i, 0], asset.extent[j, 1], asset.extent[k, 2]]
                            for i in (0, 1) for j in (0, 1) for k in (0, 1)])  # fmt: skip
        points = corners @ asset.local_to_world[:3, :3] + asset.local_to_world[3, :3]
        low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
    half = MARGIN * float(np.max(high - low)) / 2
    to_world = np.diag([half, half, half, 1.0])
    to_world[3, :3] = (low + high) / 2
    first = clip[0][0]
    times = folder.frames[: len(clip)]
    moved = part_motion(stage, first.foreground[0].path, times)
    return {
        "color": np.stack([_cut_out(passes.color, _mask(scene, passes)) for scene, passes in clip]),
        "mask": np.stack([_mask(scene, passes) for scene, passes in clip]),
        "camera_to_canonical": np.stack(
            [np.linalg.inv(to_world @ scene.camera.world_to_camera) for scene, _ in clip]
        ).astype(np.float32),
        "intrinsics": np.array([scene.camera.lens for scene, _ in clip], np.float32),
        "motion": (to_world @ moved @ np.linalg.inv(to_world)).astype(np.float32),
        "scale": half,
        "text": first.foreground[0].text,
    }


def _mask(scene: Any, passes: Any) -> np.ndarray:
    return passes.ids == scene.assets.index(scene.foreground[0])


def _cut_out(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (np.where(mask[..., None], color, 0) * 255).round().astype(np.uint8)


def part_motion(stage: Any, asset: str, times: tuple[float, ...] | list[float]) -> np.ndarray:
    """(T, P, 4, 4) float64 for row vectors: the rigid bodies of an asset from the canonical pose to each time, in
    metres of world space.

    Raises:
        ValueError: there is no rigid body at or below the asset, or one of them changes its size.
    """
    from pxr import Usd, UsdGeom, UsdPhysics

    prim = stage.GetPrimAtPath(asset)
    predicate = Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate)
    bodies = [each for each in Usd.PrimRange(prim, predicate) if each.HasAPI(UsdPhysics.RigidBodyAPI)]
    identifier = stage.GetRootLayer().identifier
    if not bodies:
        raise ValueError(
            f"{identifier}: nothing at or below <{asset}> is a rigid body; apply PhysicsRigidBodyAPI to its parts"
        )
    still = Usd.TimeCode.Default() if _has_defaults(bodies) else Usd.TimeCode(times[0])
    unit = UsdGeom.GetStageMetersPerUnit(stage)

    def places(time: Any) -> np.ndarray:
        cache = UsdGeom.XformCache(time)
        matrices = np.array([np.array(cache.GetLocalToWorldTransform(body)) for body in bodies])
        matrices[..., 3, :3] *= unit
        return matrices

    moved = np.linalg.inv(places(still)) @ np.stack([places(Usd.TimeCode(float(time))) for time in times])
    stretch = np.abs(moved[..., :3, :3] @ moved[..., :3, :3].swapaxes(-1, -2) - np.eye(3)).max((0, 2, 3))
    if stretch.max() > 1e-3:
        raise ValueError(f"{identifier}: <{bodies[int(stretch.argmax())].GetPath()}> changes its size; parts are rigid")
    return moved


def _has_defaults(prims: list[Any]) -> bool:
    """Whether all ops that place the prims have default values."""
    from pxr import Usd, UsdGeom

    for prim in prims:
        while not prim.IsPseudoRoot():
            if prim.IsA(UsdGeom.Xformable):
                for op in UsdGeom.Xformable(prim).GetOrderedXformOps():
                    if op.GetAttr().Get(Usd.TimeCode.Default()) is None:
                        return False
            prim = prim.GetParent()
    return True
