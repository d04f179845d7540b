"""MOVi-E (Greff et al., 2022; Neural USD, appendix A.4): TFRecords as TensorFlow Datasets writes them.

Names, shapes and meanings of the features, and how depth is stored:
https://github.com/google-research/kubric/blob/main/challenges/movi/movi_e.py. Camera, depth and boxes:
kubric/core/cameras.py (`intrinsics`, `z_to_depth`) and kubric/core/objects.py (`matrix_world`, `bbox_3d`) there. How
nested features become flat ones:
https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/core/example_serializer.py.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from . import tfrecord
from .scene import (
    HELD_OUT_MODELS,
    HELD_OUT_SCENES,
    TRAIN,
    DatasetError,
    ImportedCamera,
    ImportedFrame,
    ImportedObject,
    ImportedScene,
    Reader,
    SceneReference,
)

DESCRIPTION = """\
MOVi-E: videos of 11 to 23 scanned objects that fall and collide while the camera
moves, simulated and rendered by Kubric. SOURCE is the folder of one resolution,
as movi_e/256x256/1.0.0, with its files movi_e-train.tfrecord-00000-of-01024 and
so on; a few of them are enough. TensorFlow is not needed. Imported are pictures,
depth, masks, boxes, poses and the camera of all 24 frames.

Splits: train becomes train; validation, held_out_scenes; test, whose objects and
backgrounds no other scene shows, held_out_models. MOVi-C, D and F have the same
features and can be read too.
"""
SPLITS = {"train": TRAIN, "validation": HELD_OUT_SCENES, "test": HELD_OUT_MODELS}
FILE = re.compile(r"(movi_[c-f])-([a-z]+)\.tfrecord-(\d+)-of-(\d+)")
# The classes of the feature instances/category, in the order of their numbers.
CATEGORIES = (
    "Action Figures", "Bag", "Board Games", "Bottles and Cans and Cups", "Camera", "Car Seat", "Consumer Goods",
    "Hat", "Headphones", "Keyboard", "Legos", "Media Cases", "Mouse", "None", "Shoe", "Stuffed Toys", "Toys",
)  # fmt: skip
FRAMES_PER_SECOND = 12


def find_scenes(source: Path) -> list[SceneReference]:
    """Every record of the dataset's files in a folder or below it.

    Raises:
        DatasetError: there are none, or they are of several datasets or resolutions.
    """
    files = [(path, match) for path in sorted(source.rglob("*.tfrecord-*")) if (match := FILE.fullmatch(path.name))]
    if not files:
        raise DatasetError(
            f"{source} has no files named like movi_e-train.tfrecord-00000-of-01024. They are downloaded with "
            "`gsutil -m cp -r gs://kubric-public/tfds/movi_e/256x256 DIR`"
        )
    places = sorted({(str(path.parent), match[1]) for path, match in files})
    if len(places) > 1:
        raise DatasetError(f"{source} has several datasets; name one: {', '.join(sorted({p for p, _ in places}))}")
    out = []
    for path, match in files:
        if match[2] not in SPLITS:
            raise DatasetError(f"{path}: {match[2]!r} is no split of {match[1]}; it has: {', '.join(SPLITS)}")
        split = SPLITS[match[2]]
        for record in _index(path):
            name = f"{match[1]}_{match[2]}_{match[3]}_{record.number:04d}"
            out.append(SceneReference(split, name, functools.partial(load_scene, record)))
    return out


def _index(path: Path) -> list[tfrecord.Record]:
    try:
        return tfrecord.index(path)
    except DatasetError:
        # one record that says what is wrong when it is read, so that the other files are imported
        return [tfrecord.Record(path, 0, 0, 1)]


def load_scene(record: tfrecord.Record) -> ImportedScene:
    """One video. Raises DatasetError where the record is damaged, or is not of this dataset."""
    where = f"{record.path}, record {record.number}"
    features = tfrecord.Features(record.read(), where)
    count, width, height, instances = (
        int(features.numbers(f"metadata/{name}", 1)[0]) for name in ("num_frames", "width", "height", "num_instances")
    )
    low, high = (float(value) for value in features.numbers("metadata/depth_range", 2))
    video, depth, masks = (features.strings(name, count) for name in ("video", "depth", "segmentations"))

    focal, sensor = (float(features.numbers(f"camera/{name}", 1)[0]) for name in ("focal_length", "sensor_width"))
    if focal <= 0 or sensor <= 0:
        raise DatasetError(f"{where}: its camera has a focal length of {focal} and a sensor of {sensor}")
    # Kubric's sensor_width spans the picture's width, and its pixels are square
    focal = focal / sensor * width
    camera = ImportedCamera(
        size=(width, height),
        focal=np.full(2, focal),
        center=np.array([width / 2, height / 2]),
        camera_to_world=pose_matrices(
            features.numbers("camera/positions", count, 3), features.numbers("camera/quaternions", count, 4), where
        ),
    )
    along = _ray_lengths(width, height, focal)

    def frames(indices: Sequence[int]) -> Iterator[ImportedFrame]:
        for index in indices:
            ids = _picture(masks[index], (height, width), f"{where}, segmentations {index}").astype(np.int64) - 1
            code = _picture(depth[index], (height, width), f"{where}, depth {index}").astype(np.float64)
            # stored is the distance from the camera's centre, wanted is that along its axis
            metres = (code / 65535 * (high - low) + low) / along
            color = _picture(video[index], (height, width, 3), f"{where}, video {index}")
            yield ImportedFrame(color, metres.astype(np.float32), ids)

    background = _text(features, "background")[:1]
    return ImportedScene(
        camera,
        _objects(features, instances, count, where),
        frames,
        up_axis="Z",
        frames_per_second=FRAMES_PER_SECOND,
        background=_words(background[0]) if background else "background",
        about={
            "source": record.path.name,
            "record": record.number,
            "video_name": "".join(_text(features, "metadata/video_name")[:1]),
            "hdri": "".join(background),
        },
    )


def _objects(features: tfrecord.Features, instances: int, count: int, where: str) -> list[ImportedObject]:
    positions = features.numbers("instances/positions", instances, count, 3)
    quaternions = features.numbers("instances/quaternions", instances, count, 4)
    corners = features.numbers("instances/bboxes_3d", instances, count, 8, 3).astype(np.float64)
    categories = features.numbers("instances/category", instances).astype(int)
    names = _text(features, "instances/asset_id")
    if len(names) != instances:
        raise DatasetError(f"{where}: the feature 'instances/asset_id' has {len(names)} entries, not {instances}")
    scale = features.numbers("instances/scale", instances)
    dynamic = features.numbers("instances/is_dynamic", instances) if "instances/is_dynamic" in features else None
    out = []
    for index, name in enumerate(names):
        pose = pose_matrices(positions[index], quaternions[index], where)
        # the world's corners, taken back to the object's space: the same box in every frame, up to rounding
        local = (corners[index] - pose[:, None, 3, :3]) @ pose[:, :3, :3].transpose(0, 2, 1)
        local = np.median(local, axis=0)
        category = CATEGORIES[categories[index]] if 0 <= categories[index] < len(CATEGORIES) else "None"
        label = [] if category == "None" else [category.lower()]
        about = {"asset_id": name, "category": category, "scale": float(scale[index])}
        if dynamic is not None:
            about["is_dynamic"] = bool(dynamic[index])
        out.append(
            ImportedObject(
                name=_words(name),
                text=_words(name).lower(),
                labels={"category": [_words(name).lower(), *label]},
                extent=np.stack([local.min(0), local.max(0)]),
                local_to_world=pose,
                about=about,
            )
        )
    return out


def pose_matrices(positions: np.ndarray, quaternions: np.ndarray, where: str = "the scene") -> np.ndarray:
    """(T, 4, 4) local-to-world matrices for row vectors, of positions (T, 3) and quaternions (T, 4) as w, x, y, z.

    Raises:
        DatasetError: a quaternion is zero; the message begins with `where`.
    """
    from scipy.spatial.transform import Rotation

    if (np.linalg.norm(quaternions, axis=1) < 1e-6).any():
        raise DatasetError(f"{where}: a quaternion is zero")
    out = np.tile(np.eye(4), (len(positions), 1, 1))
    out[:, :3, :3] = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]].astype(np.float64)).as_matrix().transpose(0, 2, 1)
    out[:, 3, :3] = positions
    return out


def _ray_lengths(width: int, height: int, focal: float) -> np.ndarray:
    """(H, W), how far the ray through each pixel's middle goes for a distance of 1 along the viewing axis."""
    across = (np.arange(width) + 0.5 - width / 2) / focal
    down = (np.arange(height) + 0.5 - height / 2) / focal
    return np.sqrt(1 + across[None, :] ** 2 + down[:, None] ** 2)


def _picture(data: bytes, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise DatasetError(f"{what}: its PNG cannot be decoded; get the file again") from error
    if pixels.shape != shape:
        raise DatasetError(f"{what}: its picture is {pixels.shape}, not {shape}")
    return pixels


def _text(features: tfrecord.Features, name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in features.strings(name)] if name in features else []


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


READER = Reader("movi-e", "MOVi-E", "simulated videos of scanned objects", DESCRIPTION, find_scenes)
