"""What `resample` keeps, on the stage to the bit, and in the image: the whole way, from a stage to pictures."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Sdf, Usd, UsdGeom

from .. import stage as stages
from ..api import encode, render
from ..api.resampling import ResampleWarning, resample
from ..errors import SceneError
from ..latents import SceneLatents
from ..pipelines.resample import ResamplePipeline
from ..scene import Scene
from ..stage.variations import ORIGINAL, list_samples, sample_name, select_variant, variant_set
from .lifts_rows import load_arrays, save_arrays
from .metrics import psnr
from .resample_measures import Mean, bootstrapped
from .resample_operations import BACKGROUND, CAMERA, COMPLETION, LAYOUT, OBJECT, make_task
from .resample_rooms import RoomCase
from .resample_rows import digest_of

UNCHANGED, COMPARED, HELD, FREE, NOISE = STAGE_COLUMNS = (
    "rooms unchanged",
    "values compared",
    "PSNR of what is kept, held",
    "PSNR of what is kept, not held",
    "PSNR of another seed",
)
# Operations that are authored; of those where the picture's own geometry stays, pictures are compared.
AUTHORED = (COMPLETION, LAYOUT, OBJECT, BACKGROUND, CAMERA)
DRAWN = (COMPLETION, OBJECT, BACKGROUND)
# Rooms that are authored, samples of each, and the least pixels that an object is compared on.
MOST, SAMPLES, _FEWEST = 6, 2, 12
_IDENTICAL = 99.0
_VERSION = 3


@dataclass
class StageTable:
    """Operation to column to (mean, error), over rooms; `counts`: rooms where all is kept, and rooms; `changed`: what
    was not, and `left_out`: what could not be resampled, in words; `images`: operation to (n, H, W, 3), as many a room.
    """

    rows: dict[str, dict[str, Mean]] = field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    images: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate_stages(
    cases: Sequence[RoomCase],
    pipeline: ResamplePipeline,
    backend: str,
    cache: Path,
    *,
    seed: int = 0,
    progress: Callable[[str], Any] = lambda what: None,
) -> StageTable:
    """Resamples the stages of up to `MOST` rooms, as people would, and compares what is kept with the source.

    Args:
        backend: that encodes and draws. cache: for stages and pictures; what is there is not made again.
        progress: called with what is being done.
    """
    table = StageTable()
    found: dict[str, list[dict[str, Any]]] = {operation: [] for operation in AUTHORED}
    pictures: dict[str, list[np.ndarray]] = {}
    for case in cases[:MOST]:
        for operation in AUTHORED:
            progress(f"{case.name}: {operation}")
            known = [case.digest, operation, digest_of(pipeline), backend, seed, SAMPLES, _VERSION]
            digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
            file = cache / f"{case.name}.{operation}.{digest}.npz"
            arrays = load_arrays(file) if file.is_file() else None
            if arrays is None:
                try:
                    arrays = _measured(case, operation, pipeline, backend, cache, digest, seed)
                except SceneError as error:
                    arrays = {"about": np.array(json.dumps({"left out": " ".join(str(error).split())}))}
                else:
                    save_arrays(file, **arrays)
            about = json.loads(str(arrays["about"]))
            if "left out" in about:
                table.left_out.append(f"{case.name}, {operation}: {about['left out']}")
                continue
            found[operation].append(about)
            table.changed += [f"{case.name}, {operation}: {each}" for each in about["changed"]]
            if "pictures" in arrays:
                pictures.setdefault(operation, []).extend(arrays["pictures"] / 255.0)
    for operation, rooms in found.items():
        table.counts[operation] = (sum(not room["changed"] for room in rooms), len(rooms))
        if not rooms:
            continue
        row: dict[str, Mean] = {COMPARED: (float(np.mean([room["compared"] for room in rooms])), float("nan"))}
        for column in (HELD, FREE, NOISE):
            values = [room[column] for room in rooms]
            if any(values):
                row[column] = bootstrapped(values, seed)
        table.rows[operation] = row
    table.images = {name: np.stack(images) for name, images in pictures.items()}
    return table


def _measured(
    case: RoomCase, operation: str, pipeline: ResamplePipeline, backend: str, cache: Path, digest: str, seed: int
) -> dict[str, np.ndarray]:
    base_path = encoded_stage(case, backend, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResampleWarning)
        base = stages.open_stage(base_path)
        made = resample(
            base,
            cache / f"{case.name}.{operation}.{digest}.usda",
            **asked_for(operation, case, case.latents, seed),
            samples=SAMPLES,
            seed=seed,
            backend=pipeline,
            render_backend=backend,
            overwrite=True,
        )
    source = stages.read(base)
    kept = kept_prims(operation, case, case.latents, source, seed)
    changed, compared = [], 0
    set_name = variant_set(made)
    assert set_name is not None and list_samples(made)
    about: dict[str, Any] = {HELD: [], FREE: [], NOISE: []}
    pictures = []
    before = other = None
    if operation in DRAWN:
        before = np.asarray(render(base, backend=backend, seed=seed, hold=False), np.float32) / 255
        other = np.asarray(render(base, backend=backend, seed=seed + 1, hold=False), np.float32) / 255
        pictures.append(before)
    for number in range(SAMPLES):
        select_variant(made, set_name, sample_name(number + 1))
        differing, count = differences(base, made, kept)
        changed += [f"{sample_name(number + 1)}: {each}" for each in differing]
        compared += count
        if before is None or other is None:
            continue
        free = np.asarray(render(made, backend=backend, seed=seed, hold=False), np.float32) / 255
        held = np.asarray(
            render(made, backend=backend, seed=seed, before=base, before_image=before), np.float32
        ) / 255  # fmt: skip
        pictures += [held, free]
        mask = _shown_by_both(base, made, [path for path, _ in kept], (before.shape[0], before.shape[1]))
        if mask.sum() >= _FEWEST:
            for column, image in ((HELD, held), (FREE, free), (NOISE, other)):
                about[column].append(min(psnr(image, before, mask), _IDENTICAL))
    select_variant(made, set_name, ORIGINAL)
    about |= {"changed": changed, "compared": compared // SAMPLES}
    arrays = {"about": np.array(json.dumps(about))}
    if pictures:
        arrays["pictures"] = (np.stack(pictures) * 255).round().astype(np.uint8)
    return arrays


def encoded_stage(case: RoomCase, backend: str, cache: Path) -> Path:
    """The room's stage with tokens in a layer over it: of its picture, where there is one."""
    name = hashlib.sha256(backend.encode()).hexdigest()[:8]
    path = cache / f"{case.name}.{case.digest}.{name}.neural.usdc"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        stage = stages.sidecar(case.folder.stage_path, path)
        frames = case.folder.frames
        picture = case.folder.rgb_path(frames[0]) if frames else None
        encode(stage, image=picture if picture is not None and picture.is_file() else None, backend=backend)
        stages.save(stage)
    return path


def asked_for(operation: str, case: RoomCase, scene: SceneLatents, seed: int) -> dict[str, Any]:
    """What `resample` is asked for, so that it does an operation on the objects that the tables are of."""
    task = make_task(operation, case, scene, seed)
    if operation == COMPLETION:
        kept = [one.path for one in task.scene.objects]
        gone = [one.path for one in scene.objects if one.path not in kept]
        return {"keep": [*kept, "camera", "background"], "remove": gone}
    if operation == OBJECT:
        path = scene.objects[task.changed[0]].path
        return {"keep": ["everything"], "vary": [f"{path}:pose", f"{path}:appearance"]}
    return {"keep": ["everything"], "vary": [operation]}


def kept_prims(
    operation: str, case: RoomCase, scene: SceneLatents, source: Scene, seed: int
) -> list[tuple[str, tuple[str, ...]]]:
    """Paths of what is kept of a stage, and the beginnings of names of properties that are not kept there."""
    task = make_task(operation, case, scene, seed)
    if operation == COMPLETION:
        objects = [one.path for one in task.scene.objects]
    else:
        objects = [
            one.path
            for one, alpha in zip(scene.objects, task.anchors.objects, strict=True)
            if min(alpha.appearance, alpha.presence) == 1
        ]
    free: tuple[str, ...] = ("xformOp",) if operation == LAYOUT else ()
    out: list[tuple[str, tuple[str, ...]]] = [(path, free) for path in objects]
    if task.anchors.camera == 1:
        out.append((source.camera.path, ()))
    if task.anchors.background == 1 and source.background is not None:
        out.append((source.background.path, ()))
    return out


def differences(base: Usd.Stage, made: Usd.Stage, kept: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[list[str], int]:
    """What differs at or below kept prims, and how many values were compared: values of attributes, to the bit, at
    every time sample, targets of relationships, what prims there are and of what type, and where a prim that keeps its
    pose is in the world."""
    out: list[str] = []
    count = 0
    for path, free in kept:
        first, second = base.GetPrimAtPath(path), made.GetPrimAtPath(path)
        if not second:
            out.append(f"<{path}> is gone")
            continue
        own, other = ({str(p.GetPath()): p for p in Usd.PrimRange(root)} for root in (first, second))
        out += [f"<{name}> is in one of them only" for name in sorted(set(own) ^ set(other))]
        for name in sorted(set(own) & set(other)):
            skipped = free if name == path else ()
            for label, one, two in _values(own[name], other[name], skipped):
                count += 1
                if not _same(one, two):
                    out.append(f"<{name}>.{label}")
        if not free and first.IsA(UsdGeom.Xformable):
            one, two = (UsdGeom.Xformable(p).ComputeLocalToWorldTransform(Usd.TimeCode.Default()) for p in
                        (first, second))  # fmt: skip
            count += 1
            if one != two:
                out.append(f"<{path}> is elsewhere in the world")
    return out, count


def _values(first: Usd.Prim, second: Usd.Prim, skipped: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Label and both values of everything that two prims say."""
    yield "type", first.GetTypeName(), second.GetTypeName()
    if first.IsA(UsdGeom.Imageable):
        yield "visible", UsdGeom.Imageable(first).ComputeVisibility(), UsdGeom.Imageable(second).ComputeVisibility()
    names = sorted({prop.GetName() for prim in (first, second) for prop in prim.GetAuthoredProperties()})
    for name in names:
        if any(name.startswith(beginning) for beginning in skipped):
            continue
        attributes = [prim.GetAttribute(name) for prim in (first, second)]
        if any(attributes):
            times = [tuple(each.GetTimeSamples()) if each else () for each in attributes]
            yield f"{name}, time samples", times[0], times[1]
            for time in (Usd.TimeCode.Default(), *map(Usd.TimeCode, times[0])):
                one, two = (each.Get(time) if each else None for each in attributes)
                yield name, one, two
        else:
            pair = [prim.GetRelationship(name) for prim in (first, second)]
            one, two = (tuple(each.GetTargets()) if each else None for each in pair)
            yield name, one, two


def _same(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, Sdf.AssetPath):
        # Written relatively in one layer, found by another: the file is what counts.
        return one.resolvedPath == two.resolvedPath if one.resolvedPath else one.path == two.path
    try:
        a, b = np.asarray(one), np.asarray(two)
        if a.dtype != object:
            return a.shape == b.shape and a.tobytes() == b.tobytes()
    except (TypeError, ValueError):
        pass
    return bool(one == two)


def _shown_by_both(base: Usd.Stage, made: Usd.Stage, paths: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels well inside of what is kept, in the source and in the sample alike."""
    from scipy.ndimage import binary_erosion

    seen = []
    for stage in (base, made):
        scene = stages.read(stage)
        passes = stages.render_passes(stage, scene, *shape, color=False)
        places = {asset.path: index for index, asset in enumerate(scene.assets) if asset.role == "foreground"}
        owner = np.full(shape, -1)
        for number, path in enumerate(paths):
            if path in places:
                owner[passes.ids == places[path]] = number
        seen.append(owner)
    both = (seen[0] == seen[1]) & (seen[0] >= 0)
    inner = np.zeros(shape, bool)
    for number in np.unique(seen[0][both]):
        inner |= binary_erosion(both & (seen[0] == number))
    return inner
