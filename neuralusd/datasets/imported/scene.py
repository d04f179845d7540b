"""What a reader of a dataset hands over: a scene, its objects, its camera and its frames, before they become USD.

Conventions are those of `neuralusd.scene`: metres, matrices on row vectors (`point @ matrix`), cameras that look down
-Z with +Y up, depth along the viewing axis. Pictures are as the dataset has them: the importer crops and scales them,
and camera, boxes, depth and ids with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, HELD_OUT_SCENES, HELD_OUT_MODELS = "train", "held_out_scenes", "held_out_models"
SPLITS = (TRAIN, HELD_OUT_SCENES, HELD_OUT_MODELS)


class DatasetError(ValueError):
    """A file of a dataset is missing, damaged, or not what was expected; the message names it and the cure."""


class DatasetWarning(UserWarning):
    """A scene of a dataset was left out; the others are imported."""


@dataclass
class ImportedFrame:
    """One picture of a scene.

    Attributes:
        color: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32, metres along the viewing axis, inf where nothing is seen. None where the dataset has
            none: then the frame's depth is inf everywhere.
        ids: (H, W) int, index into the scene's objects of what is seen, -1 for the background. None where the dataset
            has no masks: then the objects' 2D boxes are their masks, nearer ones in front.
    """

    color: np.ndarray
    depth: np.ndarray | None = None
    ids: np.ndarray | None = None


@dataclass
class ImportedCamera:
    """A pinhole camera over T frames.

    Attributes:
        size: (width, height) of the pictures in pixels.
        focal: (2,) or (T, 2), focal lengths across and down in pixels.
        center: (2,) or (T, 2), the principal point in pixels from the top left corner of the top left pixel, so the
            middle of a picture is (width / 2, height / 2).
        camera_to_world: (T, 4, 4) float64; the upper left 3x3 is a rotation.
    """

    size: tuple[int, int]
    focal: np.ndarray
    center: np.ndarray
    camera_to_world: np.ndarray

    @property
    def count(self) -> int:
        """T."""
        return len(self.camera_to_world)


@dataclass
class ImportedObject:
    """One object over T frames. It has a 3D box (`extent` and `local_to_world`) or 2D boxes (`boxes_2d`).

    Attributes:
        name: becomes the prim's name, with a number after it; any text.
        text: what it is, in words.
        labels: UsdSemantics labels by taxonomy, as {"category": ["chair"]}.
        extent: (2, 3), minimum and maximum of the box in the object's own space, metres.
        local_to_world: (T, 4, 4) float64: rotation, translation and, where sizes change in time, scale; no shear.
            What it is in frames where the object is not present is not read, and may be NaN.
        boxes_2d: (T, 4), x, y of the top left corner, height and width, normalised to the whole picture: the order of
            `neuralusd.scene.Box2D`. Frames where the object is not present may be NaN.
        presence: (T,) bool, the frames in which the object is annotated; None for all.
        about: more to write down in `scene.json`, as an id of the dataset; JSON.
    """

    name: str
    text: str = ""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extent: np.ndarray | None = None
    local_to_world: np.ndarray | None = None
    boxes_2d: np.ndarray | None = None
    presence: np.ndarray | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ImportedScene:
    """A scene of T frames.

    Attributes:
        camera: the camera.
        objects: the foreground.
        frames: called with ascending indices of frames (0 to T - 1), gives these frames in that order; so what is not
            asked for need not be decoded.
        up_axis: "Y" or "Z" of the world.
        frames_per_second: of the frames handed over.
        background: what the background is, in words.
        about: more to write down in `scene.json`, as the file it came from; JSON.
    """

    camera: ImportedCamera
    objects: list[ImportedObject]
    frames: Callable[[Sequence[int]], Iterator[ImportedFrame]]
    up_axis: str = "Z"
    frames_per_second: float = 24.0
    background: str = "background"
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """T."""
        return self.camera.count


@dataclass(frozen=True)
class SceneReference:
    """A scene that a dataset has, not yet read.

    Attributes:
        split: one of `SPLITS`.
        id: unique in its split, the same in every run: letters, digits, - and _. It names the scene's folder.
        load: reads it. Raises DatasetError where its files are missing or damaged, naming the file.
    """

    split: str
    id: str
    load: Callable[[], ImportedScene]


@dataclass(frozen=True)
class Reader:
    """A kind of dataset: `neuralusd data import KIND`.

    Attributes:
        kind: the word of the command line, as "movi-e". title: the dataset's name.
        summary: half a line. description: what SOURCE is, what is converted, how the splits are mapped; lines of up to
            80 characters.
        find: the scenes of a folder, in a fixed order, without reading much. Raises DatasetError where there are none.
    """

    kind: str
    title: str
    summary: str
    description: str
    find: Callable[[Path], list[SceneReference]]
