"""The pictures of docs/resample.md: python examples/resample_images.py LIBRARY [BACKEND]

LIBRARY is the folder of assets that `neuralusd data furniture` converts; BACKEND the weights of resample's prior. The
rooms are laid out of its models by `neuralusd.datasets.rooms`, and nothing is rendered but by neuralusd.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pxr import Usd, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import ResampleWarning, edit, edit_over
from neuralusd.backends import DEFAULT_BACKEND
from neuralusd.datasets.furniture_assets import open_library
from neuralusd.datasets.rooms import Room, sample_room
from neuralusd.datasets.rooms_stage import write_room
from neuralusd.evaluation.report import contact_sheet

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SIZE = 192
SAMPLES = 4
CAMERA = "/Room/Camera"
# Seeds of rooms (of models that are trained on, laid out anew) and the seed of the samples.
FIRST_ROOM, SECOND_ROOM, SEED = 100_004, 100_003, 0


def main(library: Path, backend: str) -> None:
    warnings.simplefilter("ignore", ResampleWarning)
    with tempfile.TemporaryDirectory() as folder:
        first = furnished(library, FIRST_ROOM, Path(folder) / "first.usda")
        second = furnished(library, SECOND_ROOM, Path(folder) / "second.usda")
        anchored(first, backend).save(IMAGES / "resample.jpg", quality=88)
        disentangled(first, second, backend, Path(folder)).save(IMAGES / "resample_factors.jpg", quality=88)
    print(IMAGES / "resample.jpg", IMAGES / "resample_factors.jpg")


def furnished(library: Path, seed: int, file: Path) -> Usd.Stage:
    """A room with tokens."""
    room: Room = sample_room(open_library(library), np.random.default_rng([0, seed]), split="held_out_scenes")
    write_room(file, room, library)
    stage = stages.sidecar(file)
    neuralusd.encode(stage, CAMERA)
    stages.save(stage)
    return stage


def anchored(stage: Usd.Stage, backend: str) -> PIL.Image.Image:
    """Figure 1 of the paper: what is kept, and what comes around it."""
    names = [str(prim.GetPath()) for prim in stage.GetDefaultPrim().GetChildren() if is_object(prim)]
    bed, others = names[0], names[1:]
    rows = {
        "the room, and its things elsewhere": samples(stage, backend, keep=["everything"], vary=["layout"]),
        "the bed and the place are kept, the rest is new": samples(stage, backend, keep=[bed, "background", "camera"]),
        "only the place is kept": samples(stage, backend, keep=["background", "camera"]),
        "other looks of all but the bed": samples(
            stage, backend, keep=["everything"], vary=[f"{other}:appearance" for other in others]
        ),
        "nothing is kept": samples(stage, backend, vary=["everything"]),
    }
    return contact_sheet(rows)


def disentangled(stage: Usd.Stage, other: Usd.Stage, backend: str, folder: Path) -> PIL.Image.Image:
    """Figure 2 of the paper: one factor at a time, by `edit` where it is said and by `resample` where it is drawn."""
    names = [str(prim.GetPath()) for prim in stage.GetDefaultPrim().GetChildren() if is_object(prim)]
    bed, last = names[0], names[-1]
    theirs = next(str(prim.GetPath()) for prim in other.GetDefaultPrim().GetChildren() if is_object(prim))
    donor = f"{other.GetRootLayer().realPath}:{theirs}"
    rows = {
        "removed, one after another": edits(
            stage, folder, [{"presence": dict.fromkeys(names[-n:], 0.0)} for n in (1, 2, 3, 4)]
        ),
        "the bed replaced by another room's; moved; turned": edits(
            stage,
            folder,
            [
                {"replace": {bed: donor}},
                {"move": {bed: (0.4, 0, 0)}},
                {"rotate": {bed: 25}},
                {"move": {last: (-0.3, 0, 0)}, "rotate": {last: -30}},
            ],
        ),
        "the camera's focal length resampled": samples(stage, backend, keep=["everything"], vary=["camera"]),
        "the background resampled": samples(stage, backend, keep=["everything"], vary=["background"]),
        "a little different (alpha 0.6)": samples(stage, backend, vary={"layout": 0.6}, keep=["everything"]),
    }
    return contact_sheet(rows)


def is_object(prim: Usd.Prim) -> bool:
    return prim.IsA(UsdGeom.Xform) and bool(prim.HasAuthoredReferences())


def samples(stage: Usd.Stage, backend: str, **asked: Any) -> np.ndarray:
    """The stage and its samples, (SAMPLES + 1, SIZE, SIZE, 3)."""
    pictures: list[PIL.Image.Image] = []
    neuralusd.resample(
        stage,
        samples=SAMPLES,
        seed=SEED,
        backend=backend,
        on_picture=lambda name, picture: pictures.append(picture),
        **asked,
    )
    return tiles(pictures)


def edits(stage: Usd.Stage, folder: Path, every: list[dict[str, Any]]) -> np.ndarray:
    pictures = [neuralusd.render(stage, CAMERA, backend=DEFAULT_BACKEND, seed=SEED)]
    for number, asked in enumerate(every):
        edited = edit_over(stage.GetRootLayer().realPath, folder / f"edit_{id(every)}_{number}.usda")
        edit(edited, **asked)
        pictures.append(neuralusd.render(edited, CAMERA, backend=DEFAULT_BACKEND, seed=SEED))
    return tiles(pictures)


def tiles(pictures: list[PIL.Image.Image]) -> np.ndarray:
    sized = [picture.convert("RGB").resize((SIZE, SIZE), PIL.Image.Resampling.LANCZOS) for picture in pictures]
    return np.stack([np.asarray(picture, np.float32) / 255 for picture in sized])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "mini")
