"""A dataset to a world, scene by scene."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..whole import begin_split, whole_folder
from .annotated import annotated
from .clips import PICTURES_PER_SECOND, Annotators, find_clips
from .scene import SPLITS, DatasetError, DatasetWarning, SceneReference
from .write import write_scene


def import_dataset(
    kind: str,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    frames: int | None = None,
    objects: int | None = None,
    resolution: int = 128,
    segmenter: str | os.PathLike | None = None,
    depth: str | os.PathLike | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Makes, or goes on making, a world of the scenes of a dataset.

    A scene appears in its place only when it is whole, so a run that was killed is taken up where it was. A scene whose
    files are damaged is left out and noted in `failed.jsonl`; the next run tries it again.

    Args:
        kind: of `neuralusd.datasets.imported.readers()`. source: folder of the dataset. out: folder of the world.
        splits: those to import; None for all there are. limit: at most so many scenes of each split.
        frames: at most so many of a scene, evenly spaced. objects: at most so many, those that most pixels show.
        resolution: side of the pictures in pixels; they are cut to the square in their middle.
        segmenter, depth: models for the masks and the depth that the dataset lacks, see `annotated`.

    Returns:
        split to the number of its scenes that are in the world now.

    Raises:
        DatasetError: no such kind, nothing of the dataset in the folder, not one scene of it can be read, or the world
            was made of something else or with other settings.
        ModelError: a model cannot be had or used.

    Warns:
        DatasetWarning: a scene was left out; names its file.
    """
    from . import readers

    known = readers()
    if kind not in known:
        raise DatasetError(f"there is no dataset {kind!r}; there are: {', '.join(known)}")
    source = Path(source)
    if not source.is_dir():
        raise DatasetError(f"there is no folder {source}; name the one that {known[kind].title} was downloaded to")
    references = _chosen(known[kind].find(source), splits, limit, source)
    options = {"resolution": resolution, "frames": frames, "objects": objects}
    named = {"segmenter": segmenter, "depth": depth}
    models = {role: None if name is None else os.fspath(name) for role, name in named.items()}
    settings = {"dataset": kind, **options, **models}
    return import_scenes(references, Path(out), settings, options, models, known[kind].title, progress)


def import_clips(
    clips: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    annotators: Annotators,
    *,
    poses: str | os.PathLike | None = None,
    rate: float = PICTURES_PER_SECOND,
    limit: int | None = None,
    frames: int | None = None,
    objects: int | None = None,
    resolution: int = 128,
    max_size: int = 640,
    progress: bool = True,
) -> dict[str, int]:
    """Makes, or goes on making, a world of plain videos; all of it is the split train.

    Args:
        clips, poses, rate, max_size: see `find_clips`. annotators: the models that look at them.
        out, limit, frames, objects, resolution: see `import_dataset`.

    Returns, Raises, Warns:
        as `import_dataset`.
    """
    references = find_clips(clips, annotators, rate=rate, poses=poses, max_size=max_size)[:limit]
    options = {"resolution": resolution, "frames": frames, "objects": objects}
    used = {name: value for name, value in vars(annotators).items() if name != "device"}
    settings = {"dataset": "video", **options, "rate": rate, "max_size": max_size, **used}
    settings["poses"] = None if poses is None else os.fspath(poses)
    return import_scenes(references, Path(out), settings, options, {}, "video", progress)


def import_scenes(
    references: Sequence[SceneReference],
    world: Path,
    settings: dict[str, Any],
    options: dict[str, Any],
    models: dict[str, str | None],
    title: str,
    progress: bool,
) -> dict[str, int]:
    """Imports scenes that are not there yet; see `import_dataset`.

    Args:
        settings: what must be the same whenever this world is gone on with; JSON. options: of `write_scene`.
        models: of `annotated`. title: what the bar says.
    """
    from tqdm import tqdm

    from ...annotate.hub import models_kept

    _settle(world, settings)
    kind = settings["dataset"]
    failed: list[dict[str, str]] = []
    hidden = not (progress and sys.stderr.isatty())
    with models_kept(), tqdm(references, desc=title, unit="scene", disable=hidden, dynamic_ncols=True) as bar:
        for reference in bar:
            try:
                _import_scene(reference, kind, world, options, models)
            except DatasetError as error:
                warnings.warn(f"{reference.id} is left out: {error}", DatasetWarning, stacklevel=3)
                failed.append({"split": reference.split, "scene": reference.id, "error": str(error)})
                _note(world / "failed.jsonl", failed)
    if not failed:
        (world / "failed.jsonl").unlink(missing_ok=True)
    there = {split: _count(world / "scenes" / split) for split in SPLITS}
    if not any(there.values()):
        raise DatasetError(f"not one of the {len(references)} scenes can be read. {failed[0]['error']}")
    return {split: number for split, number in there.items() if number}


def _chosen(
    references: list[SceneReference], splits: Sequence[str] | None, limit: int | None, source: Path
) -> list[SceneReference]:
    found = sorted({reference.split for reference in references}, key=SPLITS.index)
    for split in splits or ():
        if split not in found:
            raise DatasetError(f"{source} has no scenes of the split {split!r}; it has: {', '.join(found)}")
    out = []
    for split in splits or found:
        out += [reference for reference in references if reference.split == split][:limit]
    return out


def _settle(world: Path, settings: dict[str, Any]) -> None:
    """Scenes of one world are of one dataset and one size, or they cannot be packed together."""
    file = world / "world.json"
    if file.exists():
        before = json.loads(file.read_text())
        other = [f"{name} {before.get(name)}" for name, value in settings.items() if before.get(name) != value]
        if other:
            raise DatasetError(f"{world} was imported with {', '.join(other)}. Give the same, or name another folder.")
        return
    if (world / "scenes").exists():
        raise DatasetError(f"{world} holds another world. Name another folder.")
    world.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(".world.json.partial")
    partial.write_text(json.dumps(settings))
    os.replace(partial, file)


def _import_scene(
    reference: SceneReference, kind: str, world: Path, options: dict[str, Any], models: dict[str, str | None]
) -> None:
    parent = world / "scenes" / reference.split
    folder = parent / reference.id
    if folder.exists():
        return
    scene = annotated(reference.load(), **models)
    begin_split(parent, reference.id)
    with whole_folder(folder) as made:
        about = {"dataset": kind, "split": reference.split, "id": reference.id}
        write_scene(scene, made, about, **options)


def _note(file: Path, failed: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(entry) + "\n" for entry in failed))


def _count(folder: Path) -> int:
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0
