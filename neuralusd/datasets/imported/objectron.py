"""Objectron (Ahmadyan et al., 2020) as a world: its annotation protobufs and its videos.

The files and their conventions: https://github.com/google-research-datasets/Objectron, `README.md`, `index/README`,
`objectron/schema/*.proto` and `notebooks/objectron-geometry-tutorial.ipynb`. The 2D boxes are the tight boxes of the
projected 3D boxes, as the paper takes them (Neural USD, appendix A.2); the dataset has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .objectron_messages import message_classes
from .projection import picture_points
from .scene import (
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
SOURCE is a folder with the layout of Objectron's bucket:

  annotations/<class>/<batch>/<number>.pbdata
  videos/<class>/<batch>/<number>/video.MOV       (or video.mp4)
  index/<class>_annotations_test                  (or v1/index/...; may lack)

Every clip with both files becomes a scene: its camera in every frame, and its
objects' 3D boxes. 2D boxes are the projected 3D boxes; so are the masks, unless
--segmenter names a model. There is no depth, unless --depth names one. Clips of
an index's _test files become the split held_out_scenes; without any index, one
clip in five, by a hash of its name. The rest is train.
"""

# Largest distance, of a picture's longer side, between annotated keypoints and ours: above it the camera is misread.
KEYPOINT_TOLERANCE = 0.02
VIDEOS = ("video.MOV", "video.mov", "video.mp4", "video.MP4")
# ARKit's camera is that of the landscape picture; clips are upright. Landscape right is down in them, up is right.
UPRIGHT = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
# As Objectron numbers them: the middle, then the corners of the unit box, z fastest.
UNIT_BOX = np.array([[0, 0, 0], *([x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1))]) / 2


def find_scenes(source: Path) -> list[SceneReference]:
    """The clips of a folder that have an annotation. Raises DatasetError where there are none."""
    annotations = source / "annotations"
    files = sorted(annotations.glob("*/*/*.pbdata"))
    if not files:
        raise DatasetError(
            f"{source} has no Objectron annotations: {annotations}/<class>/<batch>/<number>.pbdata. Name the folder "
            "that holds Objectron's `annotations` and `videos`"
        )
    held_out = _held_out(source, {file.relative_to(annotations).parts[0] for file in files})
    references = []
    for file in files:
        name = file.relative_to(annotations).with_suffix("").as_posix()
        split = HELD_OUT_SCENES if held_out(name) else TRAIN
        references.append(SceneReference(split, name.replace("/", "_"), _loader(file, source / "videos" / name)))
    return references


def _loader(annotation: Path, folder: Path) -> Callable[[], ImportedScene]:
    return lambda: load_clip(annotation, folder)


def _held_out(source: Path, classes: set[str]) -> Callable[[str], bool]:
    """Whether a clip, as `cup/batch-16/47`, is held out."""
    names: set[str] = set()
    indexed = False
    for name in classes:
        for folder in (source / "index", source / "v1" / "index"):
            file = folder / f"{name}_annotations_test"
            if file.is_file():
                names |= {line.strip() for line in file.read_text(errors="replace").splitlines()}
                indexed = True
    if indexed:
        return names.__contains__
    return lambda name: hashlib.sha256(name.encode()).digest()[0] % 5 == 0


def load_clip(annotation: Path, folder: Path) -> ImportedScene:
    """A clip by its annotation and the folder of its video. Raises DatasetError that names the file."""
    from .video import video_size

    video = next((folder / name for name in VIDEOS if (folder / name).is_file()), None)
    if video is None:
        raise DatasetError(
            f"{folder} has no video.MOV, the clip of {annotation}; download it, or remove the annotation"
        )
    sequence = read_sequence(annotation)
    stored = video_size(video)
    size = (min(stored.width, stored.height), max(stored.width, stored.height))
    frames = list(sequence.frame_annotations)
    numbers = [frame.frame_id for frame in frames]
    if sorted(set(numbers)) != numbers:
        raise DatasetError(f"{annotation} does not number its frames in ascending order; download it again")
    if stored.count and numbers[-1] >= stored.count:
        raise DatasetError(
            f"{annotation} annotates frame {numbers[-1]}, but {video} has {stored.count} frames, 0 first: they do "
            "not belong together, or the video is incomplete. Download both again"
        )
    camera = _camera(frames, size, annotation)
    objects = _objects(sequence, frames, annotation)
    _check_keypoints(camera, objects, frames, annotation)

    def pictures(indices: Sequence[int]) -> Iterator[ImportedFrame]:
        from .video import video_frames

        for picture in video_frames(video, [numbers[index] for index in indices]):
            if picture.shape[1] > picture.shape[0]:  # stored as the sensor lies, and nothing says to turn it
                picture = np.ascontiguousarray(np.rot90(picture, -1))
            yield ImportedFrame(picture)

    return ImportedScene(
        camera=camera,
        objects=objects,
        frames=pictures,
        up_axis="Y",
        frames_per_second=stored.frames_per_second or 30.0,
        about={"annotation": str(annotation), "video": str(video)},
    )


def read_sequence(path: Path) -> Any:
    """The `Sequence` message of an annotation file. Raises DatasetError where it is damaged or says nothing."""
    try:
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError("reading Objectron needs protobuf: pip install 'neuralusd[datasets]'") from error
    data = path.read_bytes()
    if not data:
        raise DatasetError(f"{path} is empty (0 bytes); download it again")
    try:
        sequence = message_classes()["Sequence"].FromString(data)
    except DecodeError as error:
        raise DatasetError(f"{path} is no whole Objectron annotation ({error}); download it again") from error
    if not sequence.objects or not sequence.frame_annotations:
        what = "objects" if not sequence.objects else "frames"
        raise DatasetError(f"{path} has no {what}: it is incomplete, or not an Objectron annotation")
    return sequence


def _numbers(values: Any, shape: tuple[int, ...], what: str, path: Path) -> np.ndarray:
    array = np.array(values, np.float64)
    if array.size != np.prod(shape) or not np.isfinite(array).all():
        found = "values that are not finite" if array.size == np.prod(shape) else f"{array.size} values"
        raise DatasetError(f"{path}: {what} has {found} where {np.prod(shape)} numbers belong; download it again")
    return array.reshape(shape)


def _camera(frames: list[Any], size: tuple[int, int], path: Path) -> ImportedCamera:
    """The upright camera of every frame.

    `view_matrix` goes from the world to the space of the landscape picture, `projection_matrix` from there to its
    normalised device coordinates; both act on column vectors. A point's place in the upright picture is
    ((1 + y) / 2, (1 + x) / 2) of its width and height, as in Objectron's geometry tutorial.
    """
    width, height = size
    matrices, focal, center = [], [], []
    for frame in frames:
        where = f"the camera of frame {frame.frame_id}"
        view = _numbers(frame.camera.view_matrix, (4, 4), f"{where} (view_matrix)", path)
        projection = _numbers(frame.camera.projection_matrix, (4, 4), f"{where} (projection_matrix)", path)
        if abs(abs(np.linalg.det(view[:3, :3])) - 1) > 0.01 or projection[0, 0] <= 0 or projection[1, 1] <= 0:
            raise DatasetError(f"{path}: {where} is no camera: its matrices are not a motion and a projection")
        matrices.append(np.linalg.inv(UPRIGHT @ view).T)
        focal.append([projection[1, 1] * width / 2, projection[0, 0] * height / 2])
        center.append([(1 - projection[1, 2]) * width / 2, (1 - projection[0, 2]) * height / 2])
    return ImportedCamera(size, np.array(focal), np.array(center), np.array(matrices))


def _objects(sequence: Any, frames: list[Any], path: Path) -> list[ImportedObject]:
    annotated = [{annotation.object_id for annotation in frame.annotations} for frame in frames]
    objects = []
    for thing in sequence.objects:
        where = f"object {thing.id}"
        rotation = _numbers(thing.rotation, (3, 3), f"{where} (rotation)", path)
        translation = _numbers(thing.translation, (3,), f"{where} (translation)", path)
        sides = _numbers(thing.scale, (3,), f"{where} (scale)", path)
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or (sides <= 0).any():
            raise DatasetError(f"{path}: the box of {where} has no rotation, or no size; download it again")
        matrix = np.eye(4)
        matrix[:3, :3], matrix[3, :3] = rotation.T, translation
        category = thing.category.replace("_", " ").strip() or "object"
        objects.append(
            ImportedObject(
                name=category,
                text=category,
                labels={"category": [category]},
                extent=np.stack([-sides / 2, sides / 2]),
                local_to_world=np.tile(matrix, (len(frames), 1, 1)),
                presence=np.array([thing.id in ids for ids in annotated]),
                about={"object_id": thing.id},
            )
        )
    return objects


def _check_keypoints(camera: ImportedCamera, objects: list[ImportedObject], frames: list[Any], path: Path) -> None:
    """Raises DatasetError where our boxes do not land on the annotated 2D keypoints."""
    by_id = {thing.about["object_id"]: thing for thing in objects}
    distances = []
    for number, frame in enumerate(frames):
        for annotation in frame.annotations:
            thing = by_id.get(annotation.object_id)
            if thing is None:
                raise DatasetError(
                    f"{path}: frame {frame.frame_id} annotates an object {annotation.object_id} it lacks"
                )
            if len(annotation.keypoints) != len(UNIT_BOX) or thing.local_to_world is None or thing.extent is None:
                continue
            matrix = thing.local_to_world[number]
            world = UNIT_BOX * (thing.extent[1] - thing.extent[0]) @ matrix[:3, :3] + matrix[3, :3]
            points = picture_points(camera, number, world)
            if (points[:, 2] <= 1e-3).any():
                continue
            said = np.array([[point.point_2d.x, point.point_2d.y] for point in annotation.keypoints]) * camera.size
            distances.append(np.median(np.linalg.norm(points[:, :2] - said, axis=1)))
    if not distances:
        return
    share = float(np.median(distances)) / max(camera.size)
    if not share <= KEYPOINT_TOLERANCE:
        raise DatasetError(
            f"{path}: its boxes land {100 * share:.1f} % of the picture away from its own 2D keypoints, so its camera "
            "is not as Objectron's definition says; the clip cannot be used"
        )


READER = Reader(
    kind="objectron",
    title="Objectron",
    summary="phone clips around an object: annotation protobufs and videos",
    description=DESCRIPTION,
    find=find_scenes,
)
