"""What the lift part compares: lifters, retrieval, visual hulls, and the truth itself as the ceiling."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..datasets.world import SceneFolder, World
from ..lifting import Lifter, Request
from ..lifting.lifter import MOST_FACES
from ..lifting.mesh import surface
from ..lifting.projection import seen_colors
from ..scene import Camera
from .lifts_align import by_camera
from .lifts_cases import LiftCase, OrbitModel, read_model
from .lifts_retrieval import FEATURE, PictureIndex, picture_feature
from .lifts_solid import Solid, painted_solid, surface_samples

RETRIEVAL, TRUTH = "retrieval", "(truth)"
# Seconds are compared within one run only: another day the machine may be busier.
RUN = f"{time.time():.3f}"


@dataclass
class Made:
    """A solid in the true world; the `seconds` that it took and the `run` they were measured in; `note`: what it is."""

    solid: Solid
    seconds: float | None = None
    run: str = RUN
    note: str = ""


class Row(Protocol):
    """A way to a solid. `known`: what decides what it makes, as JSON."""

    @property
    def name(self) -> str: ...

    @property
    def known(self) -> Any: ...

    def make(self, case: LiftCase, cache: Path) -> Made:
        """Raises ValueError (an ImageError is one) where it cannot."""
        ...


@dataclass
class LifterRow:
    """A lifter, given the first `pictures` views; what it makes is kept in the case's cache.

    `candidates` and `steps` are of lifters that sample (see `Request`), and change nothing for others.
    """

    name: str
    lifter: Lifter
    seed: int
    pictures: int = 1
    candidates: int | None = None
    steps: int | None = None

    @property
    def known(self) -> Any:
        sampled = [self.seed, self.candidates, self.steps] if self.lifter.seeded else None
        return [self.lifter.name, self.lifter.revision, sampled, self.pictures]

    def make(self, case: LiftCase, cache: Path) -> Made:
        digest = _digest([self.known, case.digest, case.given[: self.pictures]])
        file = cache / f"{_plain(self.name)}.{digest}.lift.npz"
        lift = _Lift.read(file) if file.is_file() else None
        if lift is None:
            lift = self._lift(case)
            lift.write(file)
        solid = painted_solid(lift.points, lift.faces, lift.samples, lift.colors / 255.0, nearest=1)
        placed = by_camera(solid, lift.view, case.picture.camera, case.picture.depth)
        return Made(placed, lift.seconds, lift.run)

    def _lift(self, case: LiftCase) -> _Lift:
        pictures = [case.model.views[index].cutout() for index in case.given[: self.pictures]]
        request = Request(pictures, seed=self.seed, candidates=self.candidates, steps=self.steps)
        started = time.perf_counter()
        lifted = self.lifter(request, lambda done: None)
        points, faces, normals = surface(lifted.distance, lifted.spacing, lifted.origin)
        if len(faces) > MOST_FACES:
            raise ValueError(f"its surface has {len(faces)} triangles, more than `lift` makes an asset of")
        # Texture coordinates take as long for every lifter, and change neither shape nor colours.
        samples, (face, weights) = surface_samples(points, faces)
        at = np.einsum("nc,ncd->nd", weights, normals[faces[face]])
        at /= np.maximum(np.linalg.norm(at, axis=1, keepdims=True), 1e-9)
        colors = seen_colors(lifted.seen, points, faces, lifted.color)(samples, at)
        seconds = time.perf_counter() - started
        colors = np.clip(colors * 255, 0, 255).round().astype(np.uint8)
        return _Lift(points.astype(np.float32), faces, samples.astype(np.float32), colors, lifted.view, seconds, RUN)


@dataclass
class RetrievalRow:
    """The training model of the nearest picture, posed as that picture shows it."""

    index: PictureIndex
    train: World
    name: str = RETRIEVAL

    @property
    def known(self) -> Any:
        features = hashlib.sha256(self.index.features.tobytes()).hexdigest()
        return [FEATURE, features]

    def make(self, case: LiftCase, cache: Path) -> Made:
        started = time.perf_counter()
        name, frame = self.index.nearest(picture_feature(case.picture.color, case.picture.mask))
        folder = next(scene for scene in self.train if scene.id == name)
        model = _model(folder)
        seconds = time.perf_counter() - started
        view = model.views[folder.frames.index(frame)]
        return Made(by_camera(model.solid, view.camera, case.picture.camera, case.picture.depth), seconds, note=name)


@dataclass
class HullRow:
    """What the outlines of the first `pictures` views leave of the canonical cube."""

    pictures: int

    @property
    def name(self) -> str:
        return f"visual hull, {self.pictures} picture{'s' if self.pictures > 1 else ''}"

    @property
    def known(self) -> Any:
        from .lifts_hull import CELLS

        return ["hull", self.pictures, CELLS]

    def make(self, case: LiftCase, cache: Path) -> Made:
        from .lifts_hull import visual_hull

        started = time.perf_counter()
        solid = visual_hull(case.model, case.given[: self.pictures])
        return Made(solid, time.perf_counter() - started)


@dataclass
class TruthRow:
    """The true mesh, in the mean colours of its own pictures: what this renderer and these points can reach."""

    name: str = TRUTH

    @property
    def known(self) -> Any:
        return ["truth"]

    def make(self, case: LiftCase, cache: Path) -> Made:
        return Made(case.model.solid)


@lru_cache(maxsize=4)
def _model(folder: SceneFolder) -> OrbitModel:
    return read_model(folder)


@dataclass
class _Lift:
    """A lift on disk, in its own space."""

    points: np.ndarray
    faces: np.ndarray
    samples: np.ndarray
    colors: np.ndarray
    view: Camera
    seconds: float
    run: str

    def write(self, file: Path) -> None:
        view = {name: value for name, value in vars(self.view).items() if name != "world_to_camera"}
        arrays = {name: getattr(self, name) for name in ("points", "faces", "samples", "colors")}
        save_arrays(
            file,
            **arrays,
            world_to_camera=self.view.world_to_camera,
            view=np.array(json.dumps(view)),
            seconds=np.array(self.seconds),
            run=np.array(self.run),
        )

    @classmethod
    def read(cls, file: Path) -> _Lift | None:
        """None where the file is damaged."""
        arrays = load_arrays(file)
        if arrays is None:
            return None
        view = json.loads(str(arrays["view"]))
        view["clipping_range"] = tuple(view["clipping_range"])
        camera = replace(Camera(arrays["world_to_camera"]), **view)
        points, faces, samples, colors = (arrays[name] for name in ("points", "faces", "samples", "colors"))
        return cls(points, faces, samples, colors, camera, float(arrays["seconds"]), str(arrays["run"]))


def save_arrays(file: Path, **arrays: np.ndarray) -> None:
    """An .npz, all at once or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, file)


def load_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """What `save_arrays` wrote; None where there is none, or it is damaged."""
    import zipfile

    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _digest(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def row_file(cache: Path, row: Row, case: LiftCase, settings: Sequence[Any]) -> Path:
    """Where what is measured of a row and a case is kept; other settings, weights or pictures, another file."""
    return cache / f"{_plain(row.name)}.{_digest([row.known, case.digest, case.given, list(settings)])}.npz"
