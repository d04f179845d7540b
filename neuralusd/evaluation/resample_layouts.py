"""Operations of anchored generation on held-out rooms: samples of each row, and what is measured of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..api.resample_request import MOST_SAMPLES
from ..api.resample_tries import draw_to_stand
from ..datasets.furniture_assets import FurnitureAsset, asset_folder_name
from ..datasets.rooms import room_latents, sample_room
from ..datasets.rooms_models import Models
from ..datasets.rooms_view import background_view
from ..latents import SceneLatents
from ..models.prior.background import SIZE
from .lifts_rows import load_arrays, save_arrays
from .resample_features import discrepancy, layout_features, told_apart
from .resample_frames import room_frame
from .resample_measures import (
    DISTANCES,
    DIVERSITY,
    PLAUSIBILITY,
    Mean,
    Seen,
    columns_of,
    distance,
    diversity,
    plausibility,
)
from .resample_operations import MOVING, UNCONDITIONAL, Task, alpha_task, make_task
from .resample_rooms import OTHER, Known, RoomCase, as_arrays, from_arrays
from .resample_rows import TRUTH, PriorRow, Row, digest_of

APART, ARRANGED, MMD = TWO_SAMPLE = ("told apart %", "told apart by arrangement %", "MMD")
# How often `resample` draws a sample that does not stand, by default.
TRIES = 4
SETTLED, BEST = "{}, settled", f"{{}}, settled, best of {TRIES}"
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Rooms of the grammar that samples are told from.
REFERENCE = 400
_VERSION = 5


@dataclass
class LayoutTable:
    """`rows`: row to column to (mean, error); `shown`: row to samples, and where each stands, of each room."""

    rows: dict[str, dict[str, Mean]] = field(default_factory=dict)
    shown: dict[str, list[list[Seen]]] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)


@dataclass
class Reference:
    """Rooms of the grammar that nobody trained on, as the features of one codec's space: `own`, with floor and walls
    as they are, and `seen`, with those that the codec's picture of the background shows."""

    own: np.ndarray
    seen: np.ndarray


def reference_rooms(
    library: Sequence[FurnitureAsset], split: str, kinds: Sequence[str], space: Known, seed: int, cache: Path
) -> Reference:
    """`REFERENCE` rooms that are laid out with models of a split."""
    known = [split, list(kinds), digest_of(space.pipeline), seed, REFERENCE, len(library), _VERSION]
    file = cache / f"reference.{_digest(known)}.npz"
    arrays = load_arrays(file) if file.is_file() else None
    if arrays is None:
        models = Models(library, split)
        own, seen = [], []
        for number in tqdm(range(REFERENCE), desc=f"{split}: rooms of the grammar", leave=False):
            # Far from the numbers that worlds and training are seeded with.
            rng = np.random.default_rng([seed, 77_000_000 + number])
            room = sample_room(models, rng, kind=kinds[number % len(kinds)], split=split)
            scene, ids = room_latents(room)
            kinds_here = [space.by_name.get(asset_folder_name(name), OTHER) for name in ids]
            own.append(layout_features(scene, (room.camera_to_room, room.floor), kinds_here))
            token = space.pipeline.encode_background(*background_view(room, SIZE))
            frame = room_frame(space.pipeline.decode_background(token)[1], scene.focal)
            if frame is not None:
                seen.append(layout_features(scene, frame, kinds_here))
        arrays = {"own": np.array(own), "seen": np.array(seen).reshape(-1, len(own[0]))}
        save_arrays(file, **arrays)
    return Reference(arrays["own"], arrays["seen"])


def evaluate_layouts(
    cases: Sequence[RoomCase],
    rows: Sequence[Row],
    operation: str,
    reference: Mapping[int, Reference],
    cache: Path,
    *,
    variants: int,
    seed: int,
) -> LayoutTable:
    """Samples every room with every row, and measures.

    Rows are those given, each again settled, and once more as the best of some tries (`draw_to_stand`), where the
    operation moves objects; and the rooms themselves.

    Args:
        reference: by the identity of a row's space. cache: what is in it already is not sampled again.
        variants: samples of each room.
    """
    table = LayoutTable()
    encoded = {id(space): [case.encoded(space.pipeline) for case in cases] for space in _spaces(rows)}
    first = rows[0].space
    table.tasks = [
        make_task(operation, case, scene, seed) for case, scene in zip(cases, encoded[id(first)], strict=True)
    ]
    for row in rows:
        if operation == UNCONDITIONAL and getattr(row, "guidance", 1.0) != 1.0:
            continue  # nothing is kept that could guide
        raw: list[list[Seen]] = []
        settled: list[list[Seen]] = []
        best: list[list[Seen]] = []
        varied: list[dict[str, float]] = []
        scenes = encoded[id(row.space)]
        for case, scene in tqdm(
            list(zip(cases, scenes, strict=True)), desc=f"{operation}: {row.name}", leave=False, mininterval=2
        ):
            task = make_task(operation, case, scene, seed)
            drawn = kept_samples(row, task, case, variants * (TRIES if operation in MOVING else 1), seed, cache)
            samples = drawn[:variants]
            raw.append([Seen.of(task, sample, case, row.space) for sample in samples])
            varied.append(diversity(task, samples, row.space))
            if operation in MOVING:
                judge = partial(settled_sample, task, case=case, space=row.space)
                settled.append([Seen.of(task, judge(sample).sample, case, row.space) for sample in samples])
                stand = best_of(drawn, judge, len(samples))
                best.append([Seen.of(task, each.sample, case, row.space) for each in stand])
        parts = ((row.name, raw), (SETTLED.format(row.name), settled), (BEST.format(row.name), best))
        for name, found in parts:
            if found:
                columns = _columns(found, row.space, reference[id(row.space)], table.tasks[0].own_room, seed)
                if name == row.name:
                    columns |= columns_of([[each] for each in varied], DIVERSITY, seed)
                table.rows[name] = columns
                table.shown[name] = found
    own = [
        [Seen.of(task, scene, case, first)]
        for task, scene, case in zip(table.tasks, encoded[id(first)], cases, strict=True)
    ]
    # Of a room itself the background is known as the codec shows it, as those of samples are.
    table.rows[TRUTH] = _columns(own, first, reference[id(first)], table.tasks[0].own_room, seed)
    table.shown[TRUTH] = own
    return table


def _spaces(rows: Sequence[Row]) -> list[Known]:
    return list({id(row.space): row.space for row in rows}.values())


def _columns(
    found: Sequence[Sequence[Seen]], space: Known, reference: Reference, own_room: bool, seed: int
) -> dict[str, Mean]:
    columns = columns_of([[plausibility(seen) for seen in room] for room in found], PLAUSIBILITY, seed)
    features, rooms = [], []
    for number, room in enumerate(found):
        for seen in room:
            if seen.frame is not None and any(one.presence for one in seen.scene.objects):
                features.append(layout_features(seen.scene, seen.frame, seen.kinds, seen.facts))
                rooms.append(number)
    truth = reference.own if own_room else reference.seen
    if len(features) >= 10 and len(truth) >= 10 and len(set(rooms)) >= 5:
        given, of = np.array(features), np.array(rooms)
        columns[APART] = told_apart(given, of, truth, seed)
        columns[ARRANGED] = told_apart(given, of, truth, seed, contact=False)
        columns[MMD] = discrepancy(given, truth, seed)
    return columns


def kept_samples(row: Row, task: Task, case: RoomCase, count: int, seed: int, cache: Path) -> list[SceneLatents]:
    """A row's samples, from `cache` where they are there."""
    known = [row.known, task.operation, case.name, case.digest, count, seed, digest_of(row.space.pipeline), _VERSION]
    file = cache / f"{case.name}.{task.operation.replace(' ', '_')}.{_digest(known)}.npz"
    arrays = load_arrays(file) if file.is_file() else None
    if arrays is None:
        # Not one seed for all rooms, or the same would be drawn where nothing is kept.
        samples = row.sample(task, count, seed + int(case.digest[:6], 16))
        save_arrays(file, **as_arrays(samples))
        return samples
    return from_arrays(arrays)


@dataclass
class Settled:
    """A sample that is settled; `flaws` as `neuralusd.stage.settle.flaws` says."""

    sample: SceneLatents
    flaws: float


def best_of(drawn: Sequence[SceneLatents], judge: Callable[[SceneLatents], Settled], count: int) -> list[Settled]:
    """What `resample` takes of more samples than it was asked for: of the first try are the first `count` of them."""
    tries = len(drawn) // count

    def draw(numbers: Sequence[int], attempt: int) -> list[SceneLatents]:
        return [drawn[number % MOST_SAMPLES + attempt * count] for number in numbers]

    return draw_to_stand(draw, judge, count, tries)


def settled_sample(task: Task, sample: SceneLatents, case: RoomCase, space: Known) -> Settled:
    """A sample as `resample` authors it: upright, on the ground, out of each other and of the walls of a kept room."""
    from ..stage.settle import Floor, Walls, flaws, floor_of_points, settle
    from ..stage.variation_edits import Backdrop, grid_of

    camera = case.camera
    if task.anchors.camera < 1:
        ratio = float(np.sqrt(np.prod(np.asarray(sample.focal) / np.asarray(task.scene.focal))))
        camera = replace(camera, focal_length=camera.focal_length * ratio)
    walls: Walls | None = None
    corners = case.floor
    sides = np.roll(corners, -1, 0) - corners
    inward = np.stack([-sides[:, 1], sides[:, 0]], 1)
    inward *= np.sign(((corners.mean(0) - corners) * inward).sum(1))[:, None]

    def level(point: np.ndarray) -> float | None:
        inside = (((point[:2] - corners) * inward).sum(1) >= -1e-6).all() if task.own_room else True
        return 0.0 if inside else None

    floor: Floor = level
    if task.own_room:
        walls = partial(_to_walls, case.floor)
    elif sample.background is not None:
        picture = Backdrop(*space.pipeline.decode_background(sample.background))
        floor = floor_of_points(grid_of(picture, camera)[0], "Z")
    scene = replace(case.scene, camera=camera)
    moved = task.moved(len(sample.objects))
    objects = settle(scene, sample.objects, moved, floor, walls)
    return Settled(replace(sample, objects=objects), flaws(scene, objects, moved, floor, walls))


def _to_walls(floor: np.ndarray, points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres (N,) from points along level directions to the walls of a room, and their normals (N, 3): on all sides of
    its floor (4, 2) but the first, which is open."""
    sides = (np.roll(floor, -1, 0) - floor)[1:]
    normals = np.stack([sides[:, 1], -sides[:, 0], np.zeros(3)], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals *= np.sign(((floor[1:] - floor.mean(0)) * normals[:, :2]).sum(1))[:, None]
    toward = directions @ normals.T
    left = (floor[1:] * normals[:, :2]).sum(1) - points @ normals.T
    far = np.where((toward > 1e-6) & (left >= 0), left / np.maximum(toward, 1e-6), np.inf)
    return far.min(1), normals[far.argmin(1)]


# -- partial anchors ----------------------------------------------------------------------------------------------


@dataclass
class AlphaTable:
    """`rows`: row to alpha to (mean, error), of each of `DISTANCES`; `falls`: row to distance to the share of rooms, in
    per cent, in which it does not grow with alpha."""

    rows: dict[str, dict[str, dict[float, Mean]]]
    falls: dict[str, dict[str, float]]


def evaluate_alpha(cases: Sequence[RoomCase], rows: Sequence[PriorRow], cache: Path, *, seed: int) -> AlphaTable:
    """Distance of samples to their room as a function of alpha, the same for all variables but presence."""
    table = AlphaTable({}, {})
    for row in rows:
        found: dict[float, list[dict[str, float]]] = {alpha: [] for alpha in ALPHAS}
        for case in tqdm(cases, desc=f"alpha: {row.name}", leave=False, mininterval=2):
            scene = case.encoded(row.space.pipeline)
            for alpha in ALPHAS:
                task = alpha_task(case, scene, alpha)
                samples = kept_samples(row, task, case, 2, seed, cache)
                values = [distance(sample, scene) for sample in samples]
                found[alpha].append(
                    {
                        name: float(np.mean([each[name] for each in values]))
                        for name in DISTANCES
                        if all(name in each for each in values)
                    }
                )
        table.rows[row.name] = {
            name: {alpha: columns_of([[each] for each in found[alpha]], (name,), seed)[name] for alpha in ALPHAS}
            for name in DISTANCES
            if any(name in each for each in found[0.0])
        }
        table.falls[row.name] = {
            name: 100 * float(np.mean([_falls([found[alpha][i][name] for alpha in ALPHAS]) for i in range(len(cases))]))
            for name in table.rows[row.name]
            if all(name in each for values in found.values() for each in values)
        }
    return table


def _falls(values: Sequence[float]) -> bool:
    return bool((np.diff(values) <= 1e-9).all())


# -- novelty's own measure ----------------------------------------------------------------------------------------


def novelty_floor(space: Known) -> dict[str, float]:
    """Distances of looks to the nearest training model that say what novelty means: of another view of the same model,
    and from model to model."""
    used = np.flatnonzero(~np.isnan(space.models).any(1))
    again = [space.nearest(space.other_views[index])[1] for index in used]
    between = []
    for index in used:
        others = used[used != index]
        if len(others):
            between.append(float(np.sqrt(np.square(space.models[others] - space.models[index]).mean(1)).min()))
    out = {"another view of a training model": float(np.mean(again))}
    if between:
        out["from one training model to the next"] = float(np.mean(between))
    return out


def _digest(known: object) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
