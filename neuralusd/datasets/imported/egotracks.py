"""EgoTracks (Tang et al., 2023; Neural USD, appendix A.1): tracked 2D boxes over the clips of Ego4D.

The annotations' schema: https://ego4d-data.org/docs/data/egotracks/. What its numbers mean is in the published code,
https://github.com/EGO4D/episodic-memory/tree/main/EgoTracks: `tracking/dataset/eval_datasets/` and
`tools/preprocess/extract_ego4d_clip_frames.py` there. In short: a clip is `clips/<uid>.mp4`; a box is x, y, width and
height in pixels of a picture of original_width x original_height, at frame `exported_clip_frame_number` of the clip;
clips have 30 frames a second, of which every sixth is annotated.
"""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .scene import (
    HELD_OUT_SCENES,
    TRAIN,
    DatasetError,
    DatasetWarning,
    ImportedCamera,
    ImportedFrame,
    ImportedObject,
    ImportedScene,
    Reader,
    SceneReference,
)
from .video import video_frames, video_size

DESCRIPTION = """\
EgoTracks: objects tracked through Ego4D's videos from the head, by 2D boxes.
SOURCE is the folder that `ego4d --datasets egotracks clips` downloads to, with
egotracks/egotracks_train.json and so on, and clips/<uid>.mp4; clips that are not
there are left out.

A scene is 16 neighbouring annotated frames (3 seconds) of a clip, so that any two
are at most 15 apart. As in the paper, boxes of less than a tenth of the picture's
height or width are left out, and frames that then show no object. There is no
depth, no 3D box and no camera: objects are placed by neural:box2d, and their
boxes are their masks.

Splits: train becomes train; val and test become held_out_scenes.
"""
SPLITS = {"train": TRAIN, "val": HELD_OUT_SCENES, "test": HELD_OUT_SCENES}
# Neural USD, appendix A.1: smaller boxes are filtered out; shares of the picture's height and width.
SMALLEST = 0.1
# Neural USD, appendix A.1: source and target are at most so many (annotated) frames apart.
APART = 15
ANNOTATED_PER_SECOND = 5
CLIP_FRAMES_PER_SECOND = 30.0


@dataclass(frozen=True)
class Track:
    """One object in one window: its title, and per frame of the clip its box as x, y, h, w shares of the picture."""

    title: str
    number: str
    boxes: dict[int, tuple[float, float, float, float]]


def find_scenes(source: Path) -> list[SceneReference]:
    """The windows of all clips whose video is there.

    Raises:
        DatasetError: there are no annotations, they cannot be read, or no video of theirs is there.

    Warns:
        DatasetWarning: videos are missing.
    """
    annotations = sorted(p for p in source.rglob("*.json") if re.match(r"(?i)egotracks", p.name))
    if not annotations:
        raise DatasetError(
            f"{source} has no egotracks_train.json or the like. With a licence of Ego4D they are downloaded with "
            "`ego4d --output_directory DIR --datasets egotracks clips --benchmark EM --version v2`"
        )
    videos = {path.stem: path for path in sorted(source.rglob("*.mp4"))}
    out: list[SceneReference] = []
    clips = missing = 0
    for file in annotations:
        for video in _videos(file):
            split = SPLITS.get(str(video.get("split") or _split_of(file)))
            for clip in _listed(video, "clips", file):
                tracks = _tracks(clip, file)
                if not tracks:
                    continue
                clips += 1
                names = [str(clip[key]) for key in ("exported_clip_uid", "clip_uid", "source_clip_uid") if key in clip]
                path = next((videos[name] for name in names if name in videos), None)
                if path is None or split is None:
                    missing += path is None
                    continue
                step = max(1, round(float(clip.get("clip_fps") or CLIP_FRAMES_PER_SECOND) / ANNOTATED_PER_SECOND))
                for name, numbers in _windows(tracks, step):
                    parts = [_within(track, numbers) for track in tracks]
                    load = functools.partial(load_scene, path, numbers, [part for part in parts if part.boxes])
                    out.append(SceneReference(split, f"egotracks_{_safe(path.stem)}_{name}", load))
    if clips and missing == clips:
        raise DatasetError(
            f"{source} has no video of the {clips} clips that are annotated; they are expected as clips/<uid>.mp4. "
            "Download them with `ego4d --datasets clips --benchmark EM`"
        )
    if not out:
        raise DatasetError(
            f"{', '.join(map(str, annotations))}: no object is annotated in two neighbouring frames; "
            "name the folder that has egotracks_train.json or egotracks_val.json"
        )
    if missing:
        warnings.warn(
            f"{missing} of {clips} annotated clips are left out: no video of theirs is in {source}",
            DatasetWarning,
            stacklevel=2,
        )
    return out


def load_scene(path: Path, numbers: Sequence[int], tracks: Sequence[Track]) -> ImportedScene:
    """The window of a clip's frames `numbers`. Raises DatasetError where the video is damaged."""
    size = video_size(path)
    objects = []
    for track in tracks:
        boxes = np.full((len(numbers), 4), np.nan)
        for row, number in enumerate(numbers):
            if number in track.boxes:
                boxes[row] = track.boxes[number]
        objects.append(
            ImportedObject(
                name=track.title or "object",
                text=track.title,
                labels={"category": [track.title.lower()]} if track.title else {},
                boxes_2d=boxes,
                presence=np.isfinite(boxes[:, 0]),
                about={"query_set": track.number},
            )
        )

    def frames(indices: Sequence[int]) -> Iterator[ImportedFrame]:
        for color in video_frames(path, [numbers[index] for index in indices]):
            yield ImportedFrame(color)

    # neither lens nor motion are known: a camera that stands still, with a view of 53 degrees across
    camera = ImportedCamera(
        size=(size.width, size.height),
        focal=np.full(2, float(size.width)),
        center=np.array([size.width / 2, size.height / 2]),
        camera_to_world=np.tile(np.eye(4), (len(numbers), 1, 1)),
    )
    about = {"source": path.name, "clip_frames": list(numbers), "camera": "unknown"}
    return ImportedScene(camera, objects, frames, "Y", ANNOTATED_PER_SECOND, about=about)


def _videos(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{file} is no JSON: {error}; get the file again") from error
    return _listed(content, "videos", file)


def _listed(content: Any, key: str, file: Path) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DatasetError(f"{file} has no list {key!r} where EgoTracks has one; is it of another dataset?")
    return found


def _split_of(file: Path) -> str:
    return next((split for split in SPLITS if split in file.stem.lower()), "")


def _tracks(clip: dict[str, Any], file: Path) -> list[Track]:
    """The valid tracks of a clip with the boxes that are large enough."""
    out = []
    for annotation in clip.get("annotations") or []:
        for number, queries in sorted((annotation.get("query_sets") or {}).items()):
            if not queries.get("is_valid", True) or not queries.get("lt_track"):
                continue
            # as in the published code, what the object was asked by belongs to its track
            entries = [*queries["lt_track"], *(queries.get("visual_clip") or []), queries.get("visual_crop") or {}]
            boxes = dict(filter(None, (_box(entry, file) for entry in entries)))
            title = " ".join(str(queries.get("object_title") or "").split())
            if boxes:
                out.append(Track(title, str(number), boxes))
    return out


def _box(entry: dict[str, Any], file: Path) -> tuple[int, tuple[float, float, float, float]] | None:
    """Frame and box of an entry; None for one without a frame of the clip, or that is too small."""
    if "exported_clip_frame_number" not in entry:
        return None
    try:
        number = int(entry["exported_clip_frame_number"])
        x, y, width, height, across, down = (
            float(entry[key]) for key in ("x", "y", "width", "height", "original_width", "original_height")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file}: the box {json.dumps(entry)[:200]} lacks {error}; get the file again") from error
    if not all(map(math.isfinite, (x, y, width, height))) or across <= 0 or down <= 0 or number < 0:
        raise DatasetError(f"{file}: the box {json.dumps(entry)[:200]} is not one in a picture; get the file again")
    # boxes may reach over the picture's edge; what counts is what is seen
    left, top = max(x / across, 0.0), max(y / down, 0.0)
    w, h = min((x + width) / across, 1.0) - left, min((y + height) / down, 1.0) - top
    small = min(w, h) < SMALLEST - 1e-9  # a box of just a tenth stays, whatever rounding says
    return None if small else (number, (left, top, h, w))


def _windows(tracks: Sequence[Track], step: int) -> Iterator[tuple[str, list[int]]]:
    """Names and frame numbers of windows: annotated frames, at most `APART` steps apart, at least two of them."""
    found = sorted({number for track in tracks for number in track.boxes})
    # tracks may begin at any frame of the clip; frames of other phases show objects that are not annotated there
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number in found:
        groups[number % step, number // step // (APART + 1)].append(number)
    for _, numbers in sorted(groups.items()):
        if len(numbers) > 1:
            yield f"{numbers[0]:06d}", numbers


def _within(track: Track, numbers: Sequence[int]) -> Track:
    wanted = set(numbers)
    return Track(track.title, track.number, {number: box for number, box in track.boxes.items() if number in wanted})


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


READER = Reader("egotracks", "EgoTracks", "2D tracks over Ego4D's videos", DESCRIPTION, find_scenes)
