"""Held-out rooms as `resample` reads them off their stages, and what is known of the rooms that were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.furniture_assets import FurnitureAsset, asset_folder_name
from ..datasets.objects import ObjectViews
from ..datasets.room_latents import RoomLatents
from ..datasets.rooms_models import Models
from ..datasets.world import SceneFolder
from ..latents import ObjectLatents, SceneLatents
from ..scene import Camera, Scene
from .lifts_rows import load_arrays, save_arrays

if TYPE_CHECKING:
    from ..pipelines.resample import ResamplePipeline

# What a thing is, for tables and drawings: the roles of the grammar, by kind.
KINDS = {
    "bed": ("bed",),
    "nightstand": ("nightstand",),
    "lamp": ("table lamp", "desk lamp", "floor lamp"),
    "storage": ("wardrobe", "dresser", "bookcase", "clothes rack", "trunk", "television stand", "fireplace", "piano"),
    "table": ("desk", "dressing table", "dining table", "coffee table"),
    "seat": ("desk chair", "chair", "armchair", "stool", "sofa"),
}
OTHER = "other"
_BATCH = 64


@dataclass
class RoomCase:
    """A room of a world.

    Attributes:
        folder: where its stage is. latents: without appearance and background. camera: of the stage, in metres.
        cutouts: (N, 4, R, R) and color (S, S, 3), depth (S, S): what the codecs encode (see `Views`); a cutout that
            could not be made is NaN.
        camera_to_room: (4, 4) for row vectors; the room is the stage's world. floor: (4, 2) metres.
        names: of the models, as training knows them. digest: of the stage.
    """

    folder: SceneFolder
    latents: SceneLatents
    camera: Camera
    cutouts: np.ndarray
    color: np.ndarray
    depth: np.ndarray
    camera_to_room: np.ndarray
    floor: np.ndarray
    names: list[str]
    digest: str

    @property
    def name(self) -> str:
        return self.folder.id

    @property
    def scene(self) -> Scene:
        """An empty stage that this camera looks at."""
        return Scene([], self.camera, up_axis="Z")

    def encoded(self, pipeline: ResamplePipeline) -> SceneLatents:
        """The room with the tokens of a pipeline's codecs."""
        objects = list(self.latents.objects)
        seen = np.flatnonzero(np.isfinite(self.cutouts).all((1, 2, 3)))
        if len(seen):
            for index, tokens in zip(seen, pipeline.encode_objects(self.cutouts[seen]), strict=True):
                objects[index] = replace(objects[index], appearance=tokens)
        background = pipeline.encode_background(self.color, self.depth)
        return SceneLatents(objects, self.latents.focal, background, *pipeline.encoder)


def read_room(folder: SceneFolder, size: int, cache: Path) -> RoomCase:
    """Reads a room as `resample` does; its pictures are kept in `cache`.

    Args:
        size: side of the cutouts.

    Raises:
        ValueError: the folder is no room of `neuralusd data rooms`, or its stage shows no objects.
    """
    from .. import stage as stages
    from ..errors import SceneError
    from ..stage.latents import read_latents
    from ..stage.views import Views

    about = folder.about
    missing = [key for key in ("camera_to_room", "floor", "objects", "assets") if key not in about]
    if missing:
        raise ValueError(
            f"{folder.path} is no furnished room: its scene.json does not say '{missing[0]}'. `neuralusd data rooms` "
            "makes worlds of rooms"
        )
    stage = stages.open_stage(folder.stage_path)
    scene = stages.read(stage)
    try:
        latents = read_latents(scene).latents
    except SceneError as error:
        raise ValueError(str(error)) from error
    if not latents.objects:
        raise ValueError(f"{folder.stage_path} shows no objects")
    names = {path: asset_folder_name(name) for path, name in zip(about["objects"], about["assets"], strict=True)}
    digest = hashlib.sha256(folder.stage_path.read_bytes()).hexdigest()[:12]
    file = cache / f"{folder.id}.{digest}.{size}.npz"
    arrays = load_arrays(file) if file.is_file() else None
    if arrays is None:
        views = Views(stage, scene)
        found = [views.cutout(scene.asset(one.path), size) for one in latents.objects]
        empty = np.full((4, size, size), np.nan, np.float32)
        background = views.background()
        if background is None:
            raise ValueError(f"{folder.stage_path} shows no background")
        cutouts = np.stack([empty if each is None else each for each in found])
        arrays = {"cutouts": cutouts, "color": background[0], "depth": background[1]}
        save_arrays(file, **arrays)
    return RoomCase(
        folder,
        latents,
        scene.camera,
        **arrays,
        camera_to_room=np.asarray(about["camera_to_room"], np.float64),
        floor=np.asarray(about["floor"], np.float64),
        names=[names.get(one.path, "") for one in latents.objects],
        digest=digest,
    )


# -- training -----------------------------------------------------------------------------------------------------


@dataclass
class Known:
    """Training rooms and models in the space of a pipeline's codecs.

    Attributes:
        rooms: that were trained on. models: (M, K * D) tokens of each of `rooms.names` that has views, else NaN: the
            mean over its views. other_views: (M, K * D) of one view of each, which that mean leaves out.
        kinds: of each model, see `KINDS`. by_name: name of a model of the library to its kind.
    """

    pipeline: ResamplePipeline
    rooms: RoomLatents
    models: np.ndarray
    other_views: np.ndarray
    kinds: list[str]
    by_name: dict[str, str] = field(default_factory=dict)
    _backgrounds: np.ndarray | None = field(default=None, repr=False)

    def nearest(self, appearance: np.ndarray | None) -> tuple[int, float]:
        """The model whose tokens are the nearest, and the root mean square of the difference (-1, NaN: nothing is
        known of how it looks)."""
        if appearance is None:
            return -1, float("nan")
        distances = np.sqrt(np.square(self.models - np.ravel(appearance)).mean(1))
        index = int(np.nanargmin(distances))
        return index, float(distances[index])

    def kind(self, one: ObjectLatents) -> str:
        """What an object looks like."""
        index, _ = self.nearest(one.appearance)
        return OTHER if index < 0 else self.kinds[index]

    @property
    def backgrounds(self) -> np.ndarray:
        """(R, B) tokens of the training rooms' shells."""
        if self._backgrounds is None:
            import torch

            found = []
            for start in range(0, len(self.rooms), _BATCH):
                color = torch.from_numpy(self.rooms.color[start : start + _BATCH]).permute(0, 3, 1, 2).float() / 255
                depth = torch.from_numpy(self.rooms.depth[start : start + _BATCH])
                with torch.no_grad():
                    on_device = (each.to(self.pipeline.device) for each in (color, depth))
                    found.append(self.pipeline.background_codec.encode(*on_device).cpu().numpy())
            self._backgrounds = np.concatenate(found)
        return self._backgrounds

    def object(self, room: int, slot: int) -> ObjectLatents:
        """An object of a training room."""
        return self.posed(self.rooms.pose[room, slot], int(self.rooms.model[room, slot]))

    def posed(self, pose: np.ndarray, model: int) -> ObjectLatents:
        """A model with the pose vector (10,) of another."""
        pose = np.asarray(pose, np.float64)
        tokens = self.models[model].reshape(self.pipeline.appearance_codec.shape).astype(np.float32)
        rotation = pose[3:7] / np.linalg.norm(pose[3:7])
        return ObjectLatents(pose[:3].copy(), rotation, np.exp(pose[7:]), tokens, text=self.kinds[model])


def known_of(
    pipeline: ResamplePipeline,
    rooms: RoomLatents,
    shown: np.ndarray,
    names: Sequence[str],
    library: Sequence[FurnitureAsset],
) -> Known:
    """What a pipeline's codecs make of the training data.

    Args:
        shown: (O, V, 4, R, R) uint8, cutouts of `views_cutouts`, of the objects `names`.

    Raises:
        ValueError: there are no views of the models that the rooms show.
    """
    place = {name: index for index, name in enumerate(names)}
    count = int(np.prod(pipeline.appearance_codec.shape))
    means, others = np.full((len(rooms.names), count), np.nan), np.full((len(rooms.names), count), np.nan)
    used = [index for index in np.unique(rooms.model) if index >= 0]
    lacking = [rooms.names[index] for index in used if rooms.names[index] not in place]
    if lacking:
        raise ValueError(
            f"{len(lacking)} models of the training rooms are not among the objects, as {lacking[0]}; give the views "
            "that the prior was trained with (--objects)"
        )
    for index in used:
        tokens = pipeline.encode_objects(shown[place[rooms.names[index]]].astype(np.float32) / 255).reshape(-1, count)
        others[index], means[index] = tokens[0], tokens[1:].mean(0) if len(tokens) > 1 else tokens[0]
    kinds = kinds_of(library)
    return Known(pipeline, rooms, means, others, [kinds.get(name, OTHER) for name in rooms.names], kinds)


def views_cutouts(views: ObjectViews, size: int, count: int = 5) -> np.ndarray:
    """(O, V, 4, size, size) uint8: `count` views of each object, as `AppearanceCodec.encode` takes them, less 255."""
    from ..training.cutouts import cutouts

    chosen = np.unique(np.linspace(0, views.mask.shape[1] - 1, count).round().astype(int))
    part = replace(
        views,
        color=views.color[:, chosen],
        mask=views.mask[:, chosen],
        camera_to_canonical=views.camera_to_canonical[:, chosen],
        intrinsics=views.intrinsics[:, chosen],
    )
    return cutouts(part.cropped(size))


def kinds_of(library: Sequence[FurnitureAsset]) -> dict[str, str]:
    """Name of a model, as training knows it, to its kind (see `KINDS`), by the first role that it can play."""
    by_role = Models(library).by_role
    out: dict[str, str] = {}
    for kind, roles in KINDS.items():
        for role in roles:
            for model in by_role[role]:
                out.setdefault(asset_folder_name(model.asset.id), kind)
    return out


# -- on disk ------------------------------------------------------------------------------------------------------


def as_arrays(scenes: Sequence[SceneLatents]) -> dict[str, np.ndarray]:
    """Scenes as arrays, which `from_arrays` reads; objects' texts are left out."""
    objects = [one for scene in scenes for one in scene.objects]
    shape = next((one.appearance.shape for one in objects if one.appearance is not None), (0, 0))
    looks = [np.full(shape, np.nan) if one.appearance is None else one.appearance for one in objects]
    backgrounds = [scene.background for scene in scenes]
    return {
        "count": np.array([len(scene.objects) for scene in scenes]),
        "pose": np.array([np.concatenate([o.translation, o.rotation, o.scale]) for o in objects]).reshape(-1, 10),
        "appearance": np.array(looks, np.float32).reshape(len(objects), *shape),
        "presence": np.array([one.presence for one in objects], bool),
        "path": np.array([one.path for one in objects], np.str_),
        "focal": np.array([scene.focal for scene in scenes]),
        "background": np.array([[] if each is None else each for each in backgrounds], np.float32),
        "encoder": np.array([scenes[0].encoder, scenes[0].revision] if scenes else ["", ""]),
    }


def from_arrays(arrays: dict[str, Any]) -> list[SceneLatents]:
    """The scenes of `as_arrays`."""
    out, at = [], 0
    for index, count in enumerate(arrays["count"]):
        objects = []
        for row in range(at, at + int(count)):
            pose, look = arrays["pose"][row], arrays["appearance"][row]
            known = None if not look.size or np.isnan(look).any() else look
            present, path = bool(arrays["presence"][row]), str(arrays["path"][row])
            objects.append(ObjectLatents(pose[:3], pose[3:7], pose[7:], known, present, path))
        at += int(count)
        background = arrays["background"][index]
        encoder, revision = (str(each) for each in arrays["encoder"])
        out.append(SceneLatents(objects, arrays["focal"][index], background if len(background) else None, encoder,
                                revision))  # fmt: skip
    return out
