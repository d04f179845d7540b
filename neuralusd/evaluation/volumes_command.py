"""The part `volumes` of `neuralusd eval`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.objects import ObjectViews, load_objects, object_views
from ..datasets.world import World, open_world
from .lifts_command import finite
from .lifts_report import cells_text
from .lifts_rows import load_arrays, save_arrays

if TYPE_CHECKING:
    from .command import Run
    from .volumes import VolumeTable
    from .volumes_kid import Features
    from .volumes_models import VolumeModel

TRAIN = "train"


@dataclass
class Volumes:
    """What the part needs: models, the world of the training objects if there is one, and what KID is measured in."""

    models: list[VolumeModel]
    world: World | None
    features: Features


def prepare_volumes(current: Run) -> Volumes:
    """Opens all that was named.

    Raises:
        ValueError, FileNotFoundError: what cannot be opened, and the cure.
    """
    from .volumes_inception import InceptionFeatures
    from .volumes_kid import MiniFeatures
    from .volumes_models import load_volume_model

    args = current.args
    if not args.orbits and not args.objects:
        raise ValueError(
            "--part volumes needs the training objects: --orbits DIR, or --objects FILE, the views that the models "
            "were trained on"
        )
    if args.objects and not Path(args.objects).is_file():
        raise FileNotFoundError(f"there is no file {args.objects}")
    models = []
    for text in args.volumes:
        name, _, location = text.rpartition("=")
        models.append(load_volume_model(name or Path(location).name or location, location))
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"two of --volumes are named alike ({', '.join(names)}); name them: --volumes NAME=DIR")
    features: Features = InceptionFeatures(args.inception) if args.inception else MiniFeatures()
    return Volumes(models, open_world(args.orbits, TRAIN) if args.orbits else None, features)


def run_volumes(current: Run, volumes: Volumes) -> None:
    """Writes the part's tables, plots and sheets.

    Raises:
        ValueError: the objects are not those that the models were trained on.
    """
    views = load_objects(current.args.objects) if current.args.objects else object_views(current.args.orbits, TRAIN)
    for model in volumes.models:
        if model.embeddings is not None and model.embeddings.config.objects != len(views):
            raise ValueError(
                f"'{model.name}' was trained on {model.embeddings.config.objects} objects, and here are {len(views)}; "
                "give the views that it was trained on (--objects)"
            )
    _reconstruction(current, volumes, views)
    _generation(current, volumes, views)


def _reconstruction(current: Run, volumes: Volumes, views: ObjectViews) -> None:
    from .report import contact_sheet
    from .volumes import RECONSTRUCTION, evaluate_reconstruction

    args = current.args
    models = [model for model in volumes.models if model.embeddings is not None]
    if not models:
        current.note("volumes: none of the folders has embeddings of training objects, so nothing is rebuilt")
        return
    table = evaluate_reconstruction(models, views, count=args.cases, seed=args.seed, lpips=current.lpips)
    contact_sheet(table.images).save(current.output / "volumes_reconstruction.png")
    text = f"{cells_text(table.rows, RECONSTRUCTION)}\n\n![A row each model](volumes_reconstruction.png)"
    _add(current, "reconstruction", table, text, {}, f"{min(args.cases, len(views))} training objects")


def _generation(current: Run, volumes: Volumes, views: ObjectViews) -> None:
    from . import plots
    from .report import contact_sheet
    from .volumes import GENERATION, KID, STEPS, evaluate_generation

    args = current.args
    if not any(model.mean is not None or model.denoiser is not None for model in volumes.models):
        current.note("volumes: none of the folders can be sampled from")
        return
    if volumes.world is None:
        current.note("volumes: COV and MMD need the true meshes of the training objects, and so --orbits")
    steps = (args.steps,) if args.steps else STEPS
    cache = current.output / "volumes"
    table = evaluate_generation(
        volumes.models,
        views,
        _clouds(volumes.world, cache, args.seed),
        volumes.features,
        cache,
        count=args.cases,
        steps=steps,
        seed=args.seed,
    )
    contact_sheet(table.images).save(current.output / "volumes_samples.png")
    columns = [f"{number} steps" for number in steps]
    lines = {
        model.name: {
            column: table.rows[f"{model.name}, {column}"][KID][0]
            for column in columns
            if f"{model.name}, {column}" in table.rows
        }
        for model in volumes.models
    }
    text = f"{cells_text(table.rows, GENERATION)}\n\nKID in the features of {volumes.features.name}.\n"
    if any(lines.values()):
        figure = plots.lines({name: line for name, line in lines.items() if line}, columns, "Steps of the sampler", KID)
        plots.save(figure, current.output / "volumes_steps.png")
        text += "\n![KID against steps](volumes_steps.png)\n"
    text += "\n![Samples, a row each](volumes_samples.png)"
    _add(current, "generation", table, text, {"features": volumes.features.name}, f"{args.cases} samples a row")


def _add(current: Run, title: str, table: VolumeTable, text: str, about: Mapping[str, Any], counted: str) -> None:
    rows = {name: {column: list(value) for column, value in row.items()} for name, row in table.rows.items()}
    content = {"rows": rows, **about, "seed": current.args.seed, "command": current.command}
    current.add("volumes", title, finite(content), text, counted)


def _clouds(world: World | None, cache: Path, seed: int) -> Callable[[Sequence[str]], list[np.ndarray | None]]:
    """Points of the true surfaces of training objects by name; kept in a folder, since they take long."""
    from tqdm import tqdm

    from .lifts_cases import true_points
    from .point_clouds import SET_POINTS

    scenes = {} if world is None else {scene.id: scene for scene in world}

    def points(name: str) -> np.ndarray | None:
        if name not in scenes:
            return None
        file = cache / "points" / f"{name}.{seed}.npz"
        arrays = load_arrays(file) if file.is_file() else None
        if arrays is None:
            try:
                arrays = {"points": true_points(scenes[name], SET_POINTS, seed).astype(np.float32)}
            except ValueError:
                return None
            save_arrays(file, **arrays)
        return arrays["points"]

    return lambda names: [points(name) for name in tqdm(names, desc="true surfaces", leave=False)]
