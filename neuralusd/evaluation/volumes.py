"""Volume models: how well training objects are rebuilt (table 2), and how like them samples are (tables 3 and 4)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..datasets.objects import ObjectViews
from ..datasets.orbits import MARGIN
from ..models.volumes.rendering import render_rays
from .lifts_rows import RUN, load_arrays, save_arrays
from .lpips import Lpips
from .metrics import psnr
from .point_clouds import SET_POINTS, chamfer_matrix, coverage_of, matching_distance_of, outer_points
from .volumes_kid import Features, kid
from .volumes_models import Volume, VolumeModel

HELD, TRAINED = "PSNR held back", "PSNR trained on"
IOU, LPIPS, FIRST = "IoU held back", "LPIPS held back", "PSNR to first"
RECONSTRUCTION = (HELD, TRAINED, IOU, LPIPS, FIRST)
KID, COVERAGE, MATCHING, EMPTY, SECONDS = GENERATION = (
    "KID x 1000",
    "COV %",
    "MMD x 1000",
    "empty %",
    "seconds, ratio",
)
STEPS = (16, 32, 64)
OTHERS, DIRECT = "(other training objects)", "{}, direct sampling"
# Pictures of every sample and of every training object that KID compares; their side; points a ray.
PICTURES, SIZE, SAMPLES = 5, 64, 64
# What lets less than this share of the light through, over a cell's side, is solid; as in `lift`.
SOLID = 0.5
_VERSION = 1

Mean = tuple[float, float]


@dataclass
class Set:
    """A set of objects, or samples.

    Attributes:
        pictures: (N, PICTURES, S, S, 3) uint8, black behind. coverage: (N, PICTURES, S, S) uint8.
        points: (M, SET_POINTS, 3), of those that have a surface; the true objects' longest side is 1.
        seconds: a sample, and the `run` in which they were measured.
    """

    pictures: np.ndarray
    coverage: np.ndarray
    points: np.ndarray
    seconds: float = 0.0
    run: str = ""


@dataclass
class VolumeTable:
    """Row to column to (mean, standard error); `images`: row to (n, S, S, 3) in 0..1."""

    rows: dict[str, dict[str, Mean]] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)


def resized(views: ObjectViews, size: int) -> ObjectViews:
    """The same views with pictures of `size` by `size`."""
    import PIL.Image

    shape = (*views.mask.shape[:2], size, size)
    color, mask = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
    for index in np.ndindex(shape[:2]):
        picture = PIL.Image.fromarray(views.color[index]).resize((size, size), PIL.Image.Resampling.BOX)
        covered = PIL.Image.fromarray(views.mask[index].astype(np.float32)).resize((size, size))
        mask[index] = np.asarray(covered) >= 0.5
        color[index] = np.where(mask[index][..., None], np.asarray(picture), 0)
    return replace(views, color=color, mask=mask)


# -- reconstruction ---------------------------------------------------------------------------------------------------


def evaluate_reconstruction(
    models: Sequence[VolumeModel],
    views: ObjectViews,
    *,
    count: int = 48,
    seed: int = 0,
    lpips: Lpips | None = None,
    shown: int = 8,
) -> VolumeTable:
    """How near the volumes of training objects are to their pictures, means over objects: pictures that were held back
    (`ObjectViews.split_views`), and as many that were trained on. Pictures are windows about the object, before black.

    Args:
        models: with embeddings of all objects of `views`, in their order. count: objects, drawn with `seed`.
    """
    objects = np.sort(np.random.default_rng([seed, 3]).permutation(len(views))[:count])
    trained, held = views.split_views()
    trained = trained[:: max(1, len(trained) // len(held))][: len(held)]
    part = views.objects(objects).cropped(SIZE)
    table, values = VolumeTable(), {}
    at = int(held[len(held) // 2])
    for model in models:
        scores: dict[str, list[float]] = {}
        images = []
        volumes = tqdm(model.objects(objects), total=len(objects), desc=f"{model.name}: reconstruction", leave=False)
        for number, volume in enumerate(volumes):
            found: dict[str, list[float]] = {}
            for column, group in ((HELD, held), (TRAINED, trained)):
                for view in group:
                    image, occupancy = look(volume, part, number, int(view))
                    truth, mask = part.color[number, view] / 255.0, part.mask[number, view]
                    found.setdefault(column, []).append(psnr(image, truth))
                    if column == HELD:
                        solid = occupancy >= 0.5
                        either = (solid | mask).sum()
                        found.setdefault(IOU, []).append((solid & mask).sum() / either if either else 1.0)
                        if lpips is not None:
                            found.setdefault(LPIPS, []).append(lpips.distance(image, truth))
                        if view == at and number < shown:
                            images.append(image)
            for column, each in found.items():
                scores.setdefault(column, []).append(float(np.mean(each)))
        values[model.name] = scores
        table.rows[model.name] = {column: _mean(each) for column, each in scores.items()}
        first = values[models[0].name]
        if model is not models[0]:
            table.rows[model.name][FIRST] = _mean(np.array(scores[HELD]) - first[HELD])
        table.images[model.name] = np.stack(images)
    table.images["(truth)"] = part.color[:shown, at] / 255.0
    return table


@torch.no_grad()
def look(volume: Volume, views: ObjectViews, index: int, view: int) -> tuple[np.ndarray, np.ndarray]:
    """What the camera of a view sees of a volume: (H, W, 3) in 0..1 before black, and occupancy (H, W)."""
    origins, directions = views.rays(np.array([index]), np.array([view]))
    height, width = views.mask.shape[2:]
    flat = (torch.from_numpy(rays).flatten(1, 2) for rays in (origins, directions))
    seen = render_rays(*volume, *flat, samples=SAMPLES)
    color = seen.color.view(height, width, 3).clamp(0, 1).numpy()
    return color, seen.occupancy.view(height, width).numpy()


# -- generation -------------------------------------------------------------------------------------------------------


def volume_points(density: np.ndarray, count: int = SET_POINTS, seed: int = 0) -> np.ndarray | None:
    """(count, 3) points on the surface of a density (S, S, S) per canonical unit, indexed z, y, x, from marching cubes
    (A.1), in units of a true object's longest side; None where nothing is solid."""
    from skimage.measure import marching_cubes

    opacity = 1 - np.exp(-np.pad(density, 1) * 2 / len(density))
    if opacity.max() <= SOLID:
        return None
    vertices, faces, _, _ = marching_cubes(opacity, SOLID, gradient_direction="ascent")
    canonical = (vertices[:, ::-1] - 0.5) * 2 / len(density) - 1
    try:
        return outer_points(canonical * MARGIN / 2, faces, count, seed)
    except ValueError:
        return None


def sample_set(
    volumes: Callable[[], Iterator[Volume]], count: int, views: ObjectViews, seed: int, file: Path, what: str
) -> Set:
    """Samples as pictures, from random cameras of `views`, and as points; kept in `file`."""
    arrays = load_arrays(file) if file.is_file() else None
    if arrays is None:
        random = np.random.default_rng([seed, 4])
        pictures = np.zeros((count, PICTURES, *views.mask.shape[2:], 3), np.uint8)
        coverage = np.zeros(pictures.shape[:-1], np.uint8)
        points, spent, started = [], 0.0, time.perf_counter()
        for number, volume in enumerate(tqdm(volumes(), total=count, desc=what, leave=False)):
            spent += time.perf_counter() - started
            for place in range(PICTURES):
                camera = int(random.integers(len(views))), int(random.integers(views.mask.shape[1]))
                image, occupancy = look(volume, views, *camera)
                pictures[number, place] = (image * 255).round()
                coverage[number, place] = (occupancy.clip(0, 1) * 255).round()
            found = volume_points(volume[0][0, 0].numpy(), seed=seed)
            points += [found] if found is not None else []
            started = time.perf_counter()
        clouds = np.stack(points).astype(np.float32) if points else np.zeros((0, SET_POINTS, 3), np.float32)
        arrays = {"pictures": pictures, "coverage": coverage, "points": clouds}
        arrays |= {"seconds": np.array(spent / count), "run": np.array(RUN)}
        save_arrays(file, **arrays)
    seconds, run = float(arrays.pop("seconds")), str(arrays.pop("run"))
    return Set(**arrays, seconds=seconds, run=run)


def true_set(views: ObjectViews, objects: np.ndarray, clouds: Sequence[np.ndarray | None], seed: int) -> Set:
    """Training objects as the same: random pictures of each, and points of their true meshes where there are any."""
    random = np.random.default_rng([seed, 5])
    each = np.stack([random.permutation(views.mask.shape[1])[:PICTURES] for _ in objects])
    points = [cloud for cloud in clouds if cloud is not None]
    which = np.asarray(objects)[:, None]
    return Set(
        views.color[which, each],
        (views.mask[which, each] * 255).astype(np.uint8),
        np.stack(points) if points else np.zeros((0, SET_POINTS, 3)),
    )


def samplers(
    model: VolumeModel, count: int, steps: Sequence[int], seed: int
) -> dict[str, Callable[[], Iterator[Volume]]]:
    """A model's rows: direct sampling, and diffusion in each number of steps, from the same noise."""
    rows: dict[str, Callable[[], Iterator[Volume]]] = {}
    if model.mean is not None:
        rows[DIRECT.format(model.name)] = lambda: model.direct(count, seed)
    if model.denoiser is not None:
        for number in steps:
            rows[f"{model.name}, {number} steps"] = lambda number=number: model.diffused(count, number, seed)  # type: ignore[misc]
    return rows


def evaluate_generation(
    models: Sequence[VolumeModel],
    views: ObjectViews,
    clouds: Callable[[Sequence[str]], list[np.ndarray | None]],
    features: Features,
    cache: Path,
    *,
    count: int = 48,
    steps: Sequence[int] = STEPS,
    seed: int = 0,
    shown: int = 12,
) -> VolumeTable:
    """Samples against training objects that are drawn with `seed`, as many as there are samples.

    Columns: KID between pictures; COV and MMD (equations 4 and 5) between points, MMD over the number of points of a
    cloud, so that it is in squares of a true object's longest side; the share of samples with no surface; and seconds a
    sample as a ratio to the first row of the same run. The row `OTHERS` is as many other training objects: what a
    perfect model would reach.

    Args:
        clouds: names of objects to points (SET_POINTS, 3) of their true surfaces; None where one has none.
    """
    drawn = np.random.default_rng([seed, 6]).permutation(len(views))
    count = min(count, len(drawn) // 2)
    if count < 2:
        raise ValueError(f"there are {len(views)} training objects, too few to compare samples with")
    small = resized(views.objects(drawn[: 2 * count]), SIZE)
    truth, others = (
        true_set(small, part, clouds([small.names[index] for index in part]), seed)
        for part in (np.arange(count), np.arange(count, 2 * count))
    )
    table = VolumeTable()
    true_features = _features(truth, features)
    base: Set | None = None
    made: dict[str, Set] = {OTHERS: others}
    for model in models:
        for row, volumes in samplers(model, count, steps, seed).items():
            known = [model.digest, row.removeprefix(model.name), count, seed, PICTURES, SIZE, SAMPLES, SOLID, _VERSION]
            known.append(hashlib.sha256(small.camera_to_canonical.tobytes()).hexdigest())
            digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
            made[row] = sample_set(volumes, count, small, seed, cache / f"{digest}.npz", row)
            base = base or made[row]
    for row, each in made.items():
        estimate, error = kid(_features(each, features), true_features, seed)
        columns: dict[str, Mean] = {KID: (1000 * estimate, 1000 * error)}
        if len(each.points) and len(truth.points):
            distances = chamfer_matrix(list(each.points), list(truth.points)) / SET_POINTS
            columns[COVERAGE] = (100 * coverage_of(distances), float("nan"))
            columns[MATCHING] = (1000 * matching_distance_of(distances), _mean(1000 * distances.min(0))[1])
        if row != OTHERS:
            columns[EMPTY] = (100 * (1 - len(each.points) / count), float("nan"))
            if base is not None and each.run == base.run and base.seconds:
                columns[SECONDS] = (each.seconds / base.seconds, float("nan"))
        table.rows[row] = columns
    shown = min(shown, count)
    table.images = {"(training objects)": truth.pictures[:shown, 0] / 255.0}
    table.images |= {row: each.pictures[:shown, 0] / 255.0 for row, each in made.items() if row != OTHERS}
    return table


def _features(each: Set, features: Features) -> np.ndarray:
    return features(
        each.pictures.reshape(-1, *each.pictures.shape[2:]) / 255.0,
        each.coverage.reshape(-1, *each.coverage.shape[2:]) / 255.0,
    )


def _mean(values: Sequence[float] | np.ndarray) -> Mean:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(np.mean(values)), error
