"""Plain videos as a world: what detectors, trackers and depth models see in them (Neural USD, section 3.1)."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .scene import TRAIN, DatasetError, ImportedCamera, ImportedFrame, ImportedObject, ImportedScene, SceneReference

if TYPE_CHECKING:
    from ...annotate import Annotation

# Of a clip, pictures so many a second are looked at, and so many make a scene: pairs are of one scene.
PICTURES_PER_SECOND = 5.0
PICTURES_PER_SCENE = 30
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")


class ClipWarning(UserWarning):
    """What was assumed of a video."""


@dataclass(frozen=True)
class Annotators:
    """Models of transformers, by hub id or local folder, and how they are used; see `annotate_clip`."""

    detector: str
    segmenter: str | None = None
    tracker: str | None = None
    depth: str | None = None
    prompts: str | None = None
    field_of_view: float | None = None
    depth_kind: str | None = None
    threshold: float = 0.3
    device: str | None = None


@dataclass(frozen=True)
class Poses:
    """Where a moving camera was: (T, 4, 4) camera to world of every frame of a video, its horizontal field of view in
    degrees where it is known, and whose axis is up."""

    camera_to_world: np.ndarray
    field_of_view: float | None
    up_axis: str = "Z"


def find_clips(
    clips: Sequence[str | os.PathLike],
    annotators: Annotators,
    *,
    rate: float = PICTURES_PER_SECOND,
    poses: str | os.PathLike | None = None,
    max_size: int = 640,
) -> list[SceneReference]:
    """Scenes of videos: of each clip its pictures at `rate` a second, `PICTURES_PER_SCENE` a scene.

    Args:
        clips: video files, or folders of them.
        poses: see `read_poses`; of the one clip that there is. Without it the camera is taken to stand still.
        max_size: pictures' longer side is reduced to so many pixels.

    Raises:
        DatasetError: there is no video, or the poses are not the clip's.
    """
    files = [file for clip in clips for file in _files(Path(clip))]
    names = [re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem) or "clip" for file in files]
    if poses is not None and len(files) != 1:
        raise DatasetError(f"{poses} is of one clip, and there are {len(files)}; import them one by one")
    references = []
    for number, (file, name) in enumerate(zip(files, names, strict=True)):
        if names.count(name) > 1:
            name = f"{name}_{number}"
        try:
            count, frames_per_second = _length(file)
        except DatasetError as error:
            references.append(SceneReference(TRAIN, name, _failing(error)))
            continue
        motion = None if poses is None else read_poses(poses, count)
        step = max(frames_per_second / rate, 1.0)
        frames = [round(index * step) for index in range(math.floor((count - 1) / step) + 1)]
        if len(frames) < 2:
            frames = [0, count - 1]
        # What is left over at the end, if it is no pair, belongs to the last scene.
        starts = list(range(0, max(len(frames) - 1, 1), PICTURES_PER_SCENE))
        for part, (start, end) in enumerate(zip(starts, [*starts[1:], len(frames)], strict=True)):
            load = _loader(file, frames[start:end], frames_per_second / step, annotators, motion, max_size)
            references.append(SceneReference(TRAIN, name if len(starts) == 1 else f"{name}_{part:04d}", load))
    return references


def read_poses(path: str | os.PathLike, count: int) -> Poses:
    """Poses of a video's frames from a `transforms.json` as nerfstudio, instant-ngp and their tools write it.

    `frames[i].transform_matrix` is 4x4, camera to world on column vectors, of a camera that looks down -Z with +Y up;
    here one for every frame of the video, in their order, in metres. `fl_x` and `w`, or `camera_angle_x`, give the
    field of view. Source: https://docs.nerf.studio/quickstart/data_conventions.html.

    Args:
        count: frames of the video.

    Raises:
        DatasetError: the file is no such thing, or of another number of frames.
    """
    try:
        said = json.loads(Path(path).read_text())
        matrices = np.array([frame["transform_matrix"] for frame in said["frames"]], np.float64).reshape(-1, 4, 4)
        view = said.get("camera_angle_x") or (2 * math.atan(said["w"] / 2 / said["fl_x"]) if "fl_x" in said else None)
        view = None if view is None else math.degrees(float(view))
    except FileNotFoundError:
        raise DatasetError(f"there is no {path}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is no whole JSON file ({error})") from error
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        what = "frames, each with its 4x4 transform_matrix"
        raise DatasetError(f"{path} is no transforms.json: {what} ({error})") from error
    if len(matrices) != count:
        raise DatasetError(f"{path} has {len(matrices)} poses, its video {count} frames; it needs one for every frame")
    if not np.isfinite(matrices).all() or (np.abs(np.linalg.det(matrices[:, :3, :3]) - 1) > 0.01).any():
        raise DatasetError(f"{path} has poses that are no motion: their upper left 3x3 must be rotations")
    return Poses(matrices.transpose(0, 2, 1), view)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_ENDINGS)
        if not files:
            raise DatasetError(f"{path} has no video in it ({', '.join(VIDEO_ENDINGS)})")
        return files
    if not path.exists():
        raise DatasetError(f"there is no video {path}")
    return [path]


def _length(path: Path) -> tuple[int, float]:
    """Frames, and frames a second; counted where the file does not say."""
    from .video import count_frames, video_size

    size = video_size(path)
    if size.frames_per_second <= 0:
        raise DatasetError(f"{path} does not say how many frames a second it has; convert it with ffmpeg")
    count = size.count or count_frames(path)
    if count < 2:
        raise DatasetError(f"{path} has {count} frames, too few for a pair")
    return count, size.frames_per_second


def _failing(error: DatasetError) -> Callable[[], ImportedScene]:
    def load() -> ImportedScene:
        raise error

    return load


def _loader(
    file: Path, frames: list[int], rate: float, annotators: Annotators, motion: Poses | None, max_size: int
) -> Callable[[], ImportedScene]:
    def load() -> ImportedScene:
        pictures = list(_pictures(file, frames, max_size))
        return clip_scene(file, frames, pictures, rate, annotators, motion)

    return load


def _pictures(file: Path, frames: list[int], max_size: int) -> Iterator[np.ndarray]:
    from PIL import Image

    from .video import video_frames

    for picture in video_frames(file, frames):
        image = Image.fromarray(picture)
        image.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
        yield np.asarray(image)


def clip_scene(
    file: Path,
    frames: list[int],
    pictures: list[np.ndarray],
    rate: float,
    annotators: Annotators,
    motion: Poses | None = None,
) -> ImportedScene:
    """A scene of a clip's pictures, as the annotators see them; see `scene_of`.

    Args:
        frames: the pictures' numbers in the video. rate: pictures a second. motion: of all of the video's frames.

    Raises:
        DatasetError: nothing is found in the clip; names it.

    Warns:
        ClipWarning: what was assumed of camera or depth.
    """
    from ...annotate import ImageError
    from ...annotate.clip import annotate_clip

    try:
        annotations = annotate_clip(
            pictures,
            detector=annotators.detector,
            segmenter=annotators.segmenter,
            tracker=annotators.tracker,
            depth=annotators.depth,
            prompts=annotators.prompts,
            field_of_view=annotators.field_of_view or (None if motion is None else motion.field_of_view),
            depth_kind=annotators.depth_kind,
            threshold=annotators.threshold,
            device=annotators.device,
            source=f"{file}, frames {frames[0]} to {frames[-1]}",
        )
    except ImageError as error:
        raise DatasetError(str(error)) from error
    for note in annotations[0].notes:
        warnings.warn(f"{file}: {note}", ClipWarning, stacklevel=2)
    scene = scene_of(annotations, None if motion is None else motion.camera_to_world[frames])
    scene.up_axis = "Y" if motion is None else motion.up_axis
    scene.frames_per_second = rate
    scene.about = {
        "video": str(file),
        "video_frames": frames,
        "annotators": {name: value for name, value in vars(annotators).items() if value is not None},
        "camera": "standing still" if motion is None else "posed",
        "notes": annotations[0].notes,
    }
    return scene


def scene_of(annotations: Sequence[Annotation], camera_to_world: np.ndarray | None = None) -> ImportedScene:
    """Annotated pictures of one clip as a scene.

    An object's 3D box is aligned with the world, and turns with nothing. Its size is the median over the pictures that
    show it; its middle is that of what each picture shows, and as deep as `neuralusd.annotate.to_scene` takes it to be.
    Without depth an object has 2D boxes.

    Args:
        annotations: T with the same labels, see `neuralusd.annotate.clip.annotate_clip`.
        camera_to_world: (T, 4, 4) poses in metres. None for a camera that stands still: then the world is its space.
    """
    from ...annotate import to_scene

    count, labels = len(annotations), annotations[0].labels
    to_world = np.tile(np.eye(4), (count, 1, 1)) if camera_to_world is None else camera_to_world
    boxes = np.full((len(labels), count, 2, 3), np.nan)
    flat = np.full((len(labels), count, 4), np.nan)
    seen = []
    for number, annotation in enumerate(annotations):
        scene, passes = to_scene(annotation)
        picture = (annotation.color * 255 + 0.5).astype(np.uint8)
        seen.append(ImportedFrame(picture, None if annotation.depth is None else passes.depth, annotation.ids))
        for index, asset in enumerate(scene.foreground):
            mask = annotation.ids == index
            if asset.extent is not None:
                points = passes.points[mask] + asset.local_to_world[3, :3]
                boxes[index, number] = _world_box(points[np.isfinite(points).all(1)], asset.extent, to_world[number])
            if mask.any():
                flat[index, number] = _image_box(mask)
    height, width = annotations[0].ids.shape
    focal = width / 2 / math.tan(math.radians(annotations[0].field_of_view) / 2)
    return ImportedScene(
        camera=ImportedCamera((width, height), np.array([focal] * 2), np.array([width, height]) / 2, to_world),
        objects=[_object(label, boxes[index], flat[index]) for index, label in enumerate(labels)],
        frames=lambda indices: (seen[index] for index in indices),
    )


def _world_box(points: np.ndarray, extent: np.ndarray, to_world: np.ndarray) -> np.ndarray:
    """(2, 3) box in the world of what is seen of an object, camera-space points (M, 3), and of its unseen back.

    Args:
        extent: (2, 3), its box in the camera's space, which is as deep as it is taken to be.
    """
    unseen = np.array([0, 0, np.ptp(extent[:, 2]) - np.ptp(points[:, 2])])
    world = np.concatenate([points, points - unseen]) @ to_world[:3, :3] + to_world[3, :3]
    return np.stack([world.min(0), world.max(0)])


def _image_box(mask: np.ndarray) -> np.ndarray:
    """(4,) x, y, h, w of a mask's tight box, normalised."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return np.array(
        [
            columns[0] / width,
            rows[0] / height,
            (rows[-1] + 1 - rows[0]) / height,
            (columns[-1] + 1 - columns[0]) / width,
        ]
    )


def _object(label: str, boxes: np.ndarray, flat: np.ndarray) -> ImportedObject:
    """An object of (T, 2, 3) boxes in the world, or of (T, 4) boxes in the picture; NaN where there is none."""
    named: dict[str, Any] = {"name": label or "object", "text": label, "labels": {"category": [label]} if label else {}}
    known = np.isfinite(boxes).all((1, 2))
    if not known.any():
        return ImportedObject(**named, boxes_2d=flat, presence=np.isfinite(flat).all(1))
    size = np.median(boxes[known, 1] - boxes[known, 0], axis=0)
    matrices = np.tile(np.eye(4), (len(boxes), 1, 1))
    matrices[:, 3, :3] = boxes.mean(1)
    return ImportedObject(**named, extent=np.stack([-size / 2, size / 2]), local_to_world=matrices, presence=known)
