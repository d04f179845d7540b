"""The part `resample` of `neuralusd eval`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import DEFAULT_BACKEND
from ..datasets.world import open_world
from .lifts_command import finite
from .lifts_report import cells_text
from .resample_operations import MEANING, OPERATIONS

if TYPE_CHECKING:
    from ..datasets.furniture_assets import FurnitureAsset
    from ..datasets.room_latents import RoomLatents
    from ..pipelines.resample import ResamplePipeline
    from .command import Run
    from .renderer import Renderer
    from .resample_layouts import AlphaTable, LayoutTable
    from .resample_measures import Mean
    from .resample_rooms import Known, RoomCase
    from .resample_rows import Row

RESAMPLE = "resample"
GUIDANCES = (1.0, 2.0)
# Training rooms that the baselines draw from, and that novelty and roles are measured with.
TRAINING = 4000
LAID_OUT = 2000
# Rooms on a sheet; samples of each row on it.
SHOWN, EACH = 5, 2


@dataclass
class Resampling:
    """What the part needs: splits, pipelines by name, the library, the training rooms, and views of their models."""

    splits: list[str]
    priors: dict[str, ResamplePipeline]
    library: list[FurnitureAsset]


def prepare_resampling(current: Run, splits: list[str]) -> Resampling:
    """Opens all that was named.

    Raises:
        ValueError, FileNotFoundError, BackendError: what is wrong or cannot be opened, and the cure.
    """
    from ..api.resample_backend import open_prior
    from ..datasets.furniture_assets import open_library

    args = current.args
    if not args.orbits and not args.objects:
        raise ValueError(
            f"--part {RESAMPLE} needs views of the models that training's rooms show: --objects FILE, or --orbits DIR"
        )
    for option in ("objects", "room_latents"):
        file = getattr(args, option)
        if file and not Path(file).is_file():
            raise FileNotFoundError(f"there is no file {file}")
    priors: dict[str, ResamplePipeline] = {}
    for text in args.prior:
        name, _, location = text.rpartition("=")
        name = name or Path(location).name or location
        if name in priors:
            raise ValueError(f"two of --prior are named alike ({name}); name them: --prior NAME=DIR")
        priors[name] = open_prior(location)
    folder = Path(args.furniture or Path(args.rooms) / "assets")
    try:
        library = open_library(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. Name the models that the rooms are made of: --furniture DIR") from error
    return Resampling(splits, priors, library)


def run_resampling(current: Run, resampling: Resampling) -> None:
    """Writes the part's tables and sheets, a split after the other.

    Raises:
        ValueError: the rooms, the objects or the training rooms do not belong together.
    """
    from ..datasets.objects import load_objects, object_views
    from .resample_rooms import known_of, views_cutouts

    args, cache = current.args, current.output / RESAMPLE
    rooms = _training_rooms(current, resampling, cache)
    views = _opened(load_objects, args.objects) if args.objects else object_views(args.orbits, "train")
    spaces: dict[str, Known] = {}
    cutouts: dict[int, np.ndarray] = {}
    for name, pipeline in resampling.priors.items():
        size = pipeline.appearance_codec.config.picture_size
        if size not in cutouts:
            cutouts[size] = views_cutouts(views, size)
        spaces[name] = known_of(pipeline, rooms, cutouts[size], views.names, resampling.library)
    for split in resampling.splits:
        _split(current, resampling, spaces, split, cache)


def _opened(load: Callable[[str], Any], file: str) -> Any:
    try:
        return load(file)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not what it is given as, or damaged: {' '.join(str(error).split())}") from error


def _training_rooms(current: Run, resampling: Resampling, cache: Path) -> RoomLatents:
    from ..datasets.room_latents import load_room_latents, make_room_latents, save_room_latents

    args = current.args
    if args.room_latents:
        found = _opened(load_room_latents, args.room_latents)
    else:
        file = cache / f"training.{LAID_OUT}.npz"
        if not file.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            slots = max(pipeline.slots for pipeline in resampling.priors.values())
            save_room_latents(make_room_latents(resampling.library, LAID_OUT, slots), file)
        found = load_room_latents(file)
    arrays = ("pose", "model", "focal", "color", "depth")
    return replace(found, **{name: getattr(found, name)[:TRAINING] for name in arrays})


def _split(current: Run, resampling: Resampling, spaces: Mapping[str, Known], split: str, cache: Path) -> None:
    from .resample_layouts import evaluate_alpha, evaluate_layouts, reference_rooms
    from .resample_rows import TRUTH, MarginalRow, PriorRow, RetrievalRow

    args = current.args
    cases = read_cases(current, resampling, split, cache)
    if not cases:
        current.note(f"{split}: there is no room that can be sampled, so it is left out")
        return
    guidances = GUIDANCES if args.guidance is None else (args.guidance,)
    priors = [
        PriorRow(_row_name(name, guidance, guidances), space, guidance, args.steps)
        for name, space in spaces.items()
        for guidance in guidances
    ]
    first = next(iter(spaces.values()))
    rows: list[Row] = [*priors, MarginalRow(first), MarginalRow(first, True), RetrievalRow(first)]
    kinds = sorted({case.folder.about["kind"] for case in cases})
    # Ablations mostly share their codecs, but what tokens mean is each one's own.
    reference = {
        id(space): reference_rooms(resampling.library, split, kinds, space, args.seed, cache)
        for space in spaces.values()
    }
    text: list[str] = []
    tables: dict[str, LayoutTable] = {}
    content: dict[str, Any] = {}
    for operation in OPERATIONS:
        table = evaluate_layouts(
            cases, rows, operation, reference, cache / split, variants=args.variants, seed=args.seed
        )
        tables[operation] = table
        content[operation] = _json(table.rows)
        _plans(current, split, operation, cases, table, rows, TRUTH)
        text.append(_operation_text(split, operation, table))
    text.insert(0, _summary_text(tables))
    plain = [row for row in priors if row.guidance == guidances[0]]
    alpha = evaluate_alpha(cases, plain, cache / split, seed=args.seed)
    text.append(_alpha_text(current, split, alpha))
    content["alpha"] = {
        name: {what: {f"{a:g}": list(mean) for a, mean in line.items()} for what, line in lines.items()}
        for name, lines in alpha.rows.items()
    }
    content["alpha falls %"] = alpha.falls
    text.append(_novelty_text(spaces, content))
    text.append(_stage_text(current, resampling, split, cases, cache, content))
    text.append(_lamps_text(current, split, cache, content))
    content |= {
        "rooms": [case.name for case in cases],
        "variants": args.variants,
        "seed": args.seed,
        "command": current.command,
    }
    counted = f"{len(cases)} rooms, {args.variants} samples of each"
    current.add(RESAMPLE, split, finite(content), "\n\n".join(text), counted)


def read_cases(current: Run, resampling: Resampling, split: str, cache: Path) -> list[RoomCase]:
    """The rooms of a split that every prior can sample, as many as --cases, drawn with the seed."""
    from tqdm import tqdm

    from ..errors import SceneError
    from .lifts_cases import chosen_scenes
    from .resample_rooms import read_room

    args = current.args
    sizes = {pipeline.appearance_codec.config.picture_size for pipeline in resampling.priors.values()}
    if len(sizes) > 1:
        raise ValueError("these priors encode pictures of different sizes; evaluate them one after the other")
    [size] = sizes
    slots = min(pipeline.slots for pipeline in resampling.priors.values())
    cases = []
    for folder in tqdm(chosen_scenes(open_world(args.rooms, split), args.cases, args.seed), desc=f"{split}: rooms",
                       leave=False):  # fmt: skip
        try:
            case = read_room(folder, size, cache / "rooms")
        except SceneError as error:
            current.note(f"{folder.id} is left out: {error}")
            continue
        if len(case.latents.objects) > slots:
            current.note(f"{folder.id} is left out: it has {len(case.latents.objects)} objects, more than {slots}")
            continue
        cases.append(case)
    return cases


def _stage_text(
    current: Run, resampling: Resampling, split: str, cases: Sequence[RoomCase], cache: Path, content: dict[str, Any]
) -> str:
    from tqdm import tqdm

    from .report import contact_sheet
    from .resample_stage import AUTHORED, MOST, STAGE_COLUMNS, UNCHANGED, evaluate_stages

    name, pipeline = next(iter(resampling.priors.items()))
    drawn, backend = _backend(current)
    total = min(len(cases), MOST) * len(AUTHORED)
    with tqdm(total=total, desc=f"{split}: stages", leave=False) as bar:

        def show(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        table = evaluate_stages(
            cases, pipeline, backend, cache / split / "stages", seed=current.args.seed, progress=show
        )
    rows = {}
    for operation, row in table.rows.items():
        unchanged, of = table.counts[operation]
        rows[f"{operation}, {unchanged} of {of} rooms"] = row
    lines = [
        f"### What is kept, on the stage and in the image\n\nRooms in which all that is kept is the same to the bit in "
        f"every sample of {name}, drawn by {drawn}.\n",
        cells_text(rows, [column for column in STAGE_COLUMNS if column != UNCHANGED]),
    ]
    lines += ["", *(f"- {each}" for each in table.changed[:20]), *(f"- left out: {each}" for each in table.left_out)]
    for operation, images in table.images.items():
        file = f"resample_{split}_pictures_{operation}.png"
        each = len(images) // table.counts[operation][1]
        pictures = {f"room {n + 1}: the source; of each sample held, not held": images[n * each : (n + 1) * each]
                    for n in range(len(images) // each)}  # fmt: skip
        contact_sheet(pictures).save(current.output / file)
        lines.append(f"\n![{operation.capitalize()}]({file})")
    content["stages"] = {
        "unchanged": {operation: list(count) for operation, count in table.counts.items()},
        "changed": table.changed,
        "left out": table.left_out,
        "rows": _json(table.rows),
        "backend": drawn,
        "prior": name,
    }
    return "\n".join(lines)


def _lamps_text(current: Run, split: str, cache: Path, content: dict[str, Any]) -> str:
    from .report import contact_sheet
    from .resample_lamps import LAMP_COLUMNS, evaluate_lamps, lamp_truths, render_lamps
    from .truths import has_blender

    args = current.args
    title = "### The light of a lamp that is removed"
    size = next(iter(_plain_renderers(current).values())).size
    folder = Path(args.truths or current.output / "truths") / split
    truths = lamp_truths(open_world(args.rooms, split), folder, args.samples, size)
    if not truths:
        return f"{title}\n\nNo room of this split has a lamp that is lit."
    if not all(truth.done for truth in truths):
        if has_blender():
            failed = render_lamps(truths, args.samples, size, args.workers, folder / "failed.jsonl")
            if failed:
                current.note(f"{split}: {failed} rooms without lamps could not be rendered; see {folder}")
        else:
            current.note(f"{split}: without Blender there are no true pictures of rooms without their lamps")
    table = evaluate_lamps(_plain_renderers(current), truths, seed=args.seed)
    if not table.rooms:
        return f"{title}\n\nThere are no true pictures of a room with and without its lamps."
    contact_sheet(table.images).save(current.output / f"resample_{split}_lamps.png")
    content["lamps"] = {"rows": _json(table.rows), "rooms": table.rooms, "samples": args.samples}
    return (
        f"{title}\n\n{cells_text(table.rows, LAMP_COLUMNS)}\n\n{len(table.rooms)} rooms, all lamps that are lit "
        f"removed.\n\n![With and without](resample_{split}_lamps.png)"
    )


def _backend(current: Run) -> tuple[str, str]:
    """Name of what draws, and where it is."""
    name, _, location = (current.args.backend or [DEFAULT_BACKEND])[0].partition("=")
    return name, location or name


def _plain_renderers(current: Run) -> dict[str, Renderer]:
    """At their own steps and guidance: --steps and --guidance are the prior's here."""
    from .renderer import Renderer

    return {name: Renderer(pipeline) for name, pipeline in current.pipelines.items()}


def _row_name(name: str, guidance: float, guidances: Sequence[float]) -> str:
    return name if len(guidances) == 1 else f"{name}, guidance {guidance:g}"


def _json(rows: Mapping[str, Mapping[str, Mean]]) -> dict[str, Any]:
    return {name: {column: list(value) for column, value in row.items()} for name, row in rows.items()}


def _operation_text(split: str, operation: str, table: LayoutTable) -> str:
    from .resample_layouts import TWO_SAMPLE
    from .resample_measures import DIVERSITY, PLAUSIBILITY

    plausible = cells_text(table.rows, PLAUSIBILITY)
    others = {name: row for name, row in table.rows.items() if any(c in row for c in (*TWO_SAMPLE, *DIVERSITY))}
    text = f"### {operation.capitalize()}: {MEANING[operation]}\n\n{plausible}"
    if others:
        text += f"\n\n{cells_text(others, (*TWO_SAMPLE, *DIVERSITY))}"
    return f"{text}\n\n![Rooms from above](resample_{split}_{operation}.png)"


def _summary_text(tables: Mapping[str, LayoutTable]) -> str:
    """Rows by operations, of the two columns that say the most."""
    from .resample_layouts import APART
    from .resample_measures import CLEAN

    text = []
    for column, meaning in ((CLEAN, "plausible, % of the samples"), (APART, "told apart, %; 50 is best")):
        names = dict.fromkeys(name for table in tables.values() for name in table.rows)
        rows = {
            name: {op: table.rows[name][column] for op, table in tables.items() if column in table.rows.get(name, {})}
            for name in names
        }
        if any(rows.values()):
            text.append(f"### {meaning.capitalize()}\n\n{cells_text(rows, OPERATIONS)}")
    return "\n\n".join(text)


def _plans(
    current: Run,
    split: str,
    operation: str,
    cases: Sequence[RoomCase],
    table: LayoutTable,
    rows: Sequence[Row],
    truth: str,
) -> None:
    from .resample_layouts import BEST
    from .resample_plans import plan_lines, plans_sheet

    chosen = []
    for row in rows:
        best = BEST.format(row.name)
        name = best if best in table.rows else row.name
        if name in table.rows:
            chosen.append((name, EACH if hasattr(row, "guidance") else 1))
    count = min(SHOWN, len(cases))
    names = [case.name for case in cases[:count]]
    shown = {name: found[:count] for name, found in table.shown.items()}
    lines = plan_lines(names, table.tasks[:count], shown, chosen, truth)
    plans_sheet(lines).save(current.output / f"resample_{split}_{operation}.png")


def _alpha_text(current: Run, split: str, alpha: AlphaTable) -> str:
    from . import plots
    from .resample_layouts import ALPHAS
    from .resample_measures import LOOK, PLACE

    columns = [f"alpha {each:g}" for each in ALPHAS]
    text = ["### Partial anchors: distance to the room, all but presence at one alpha"]
    for name, lines in alpha.rows.items():
        table = {
            what: {column: line[each] for column, each in zip(columns, ALPHAS, strict=True)}
            for what, line in lines.items()
        }
        falls = ", ".join(f"{what} {share:.0f} %" for what, share in alpha.falls[name].items())
        text.append(f"{name}:\n\n{cells_text(table, columns)}\n\nIt falls with every step of alpha in so many of the "
                    f"rooms: {falls}.")  # fmt: skip
    for what in (PLACE, LOOK):
        found = {
            name: {column: lines[what][each][0] for column, each in zip(columns, ALPHAS, strict=True)}
            for name, lines in alpha.rows.items()
            if what in lines
        }
        if found:
            word = what.partition(" ")[0]
            figure = plots.lines(found, columns, f"Distance to the room, {split.replace('_', ' ')}", what)
            plots.save(figure, current.output / f"resample_{split}_alpha_{word}.png")
            text.append(f"![Distance of {word} against alpha](resample_{split}_alpha_{word}.png)")
    return "\n\n".join(text)


def _novelty_text(spaces: Mapping[str, Known], content: dict[str, Any]) -> str:
    from .resample_layouts import novelty_floor

    found = {name: novelty_floor(space) for name, space in spaces.items()}
    content["distances of looks"] = found
    lines = [f"- {name}: " + ", ".join(f"{what} {value:.2f}" for what, value in each.items())
             for name, each in found.items()]  # fmt: skip
    return "Novelty is a distance of looks, to be read beside these:\n\n" + "\n".join(lines)
