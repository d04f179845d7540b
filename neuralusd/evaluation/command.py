"""`neuralusd eval`."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..pipelines.render import NeuralUSDPipeline
    from .lpips import Lpips
    from .pairs import Frame
    from .renderer import Renderer
    from .truths import CaseTruths

SPLITS = ("held_out_scenes", "held_out_models")
ORBIT_SPLITS = ("held_out_models", "held_out_categories")
CONTROL, RECONSTRUCTION, EDITS, SEQUENCE = WORLD_PARTS = ("control", "reconstruction", "edits", "sequence")
LIFT, VOLUMES, RESAMPLE = "lift", "volumes", "resample"
PARTS = (*WORLD_PARTS, LIFT, VOLUMES, RESAMPLE)
TITLES = {
    CONTROL: "Object control",
    RECONSTRUCTION: "Reconstruction against controllability",
    EDITS: "Edits against their true answers",
    SEQUENCE: "Five edits in sequence",
    LIFT: "Lifts of held-out models",
    VOLUMES: "Volume models",
    RESAMPLE: "Anchored generation of rooms",
}
NO_LPIPS = "LPIPS is left out: no weights of it were named (--lpips)."
Note = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `neuralusd eval`."""
    parser.add_argument(
        "--world", metavar="DIR", help="a furniture world, made by `neuralusd data furniture`, for all other parts"
    )
    parser.add_argument(
        "--orbits", metavar="DIR", help=f"models by themselves, made by `neuralusd data orbits`, for {LIFT}"
    )
    parser.add_argument(
        "--backend",
        action="append",
        metavar="[NAME=]BACKEND",
        help="weights to evaluate; may be repeated (default: mini)",
    )
    parser.add_argument(
        "--lifter",
        action="append",
        metavar="[NAME=]LIFTER",
        help=f"of {LIFT}, as `lift --backend` takes it; may be repeated (default: mini where it is, silhouette)",
    )
    parser.add_argument(
        "--pictures", default="1", metavar="N,...", help=f"pictures a {LIFT}er is given, 1 to 4 (default: 1)"
    )
    parser.add_argument(
        "--candidates", type=int, metavar="N", help=f"that a {LIFT}er samples and ranks (default: the lifter's)"
    )
    parser.add_argument(
        "--volumes",
        action="append",
        metavar="[NAME=]DIR",
        help=f"an autodecoder or a latent diffusion model that training wrote, for {VOLUMES}; may be repeated",
    )
    parser.add_argument(
        "--objects", metavar="FILE", help="views of the objects that those were trained on (default: of --orbits)"
    )
    parser.add_argument(
        "--prior",
        action="append",
        metavar="[NAME=]DIR",
        help=f"a prior over rooms that training wrote, for {RESAMPLE}; may be repeated",
    )
    parser.add_argument("--rooms", metavar="DIR", help=f"rooms, made by `neuralusd data rooms`, for {RESAMPLE}")
    parser.add_argument(
        "--furniture", metavar="DIR", help="the models that the rooms are made of (default: ROOMS/assets)"
    )
    parser.add_argument(
        "--room-latents", metavar="FILE", help="the rooms that a prior was trained on (default: such rooms, laid out)"
    )
    parser.add_argument("--variants", type=int, default=4, help="samples of each room (default: %(default)s)")
    parser.add_argument("--part", metavar="PART,...", help=f"of {', '.join(PARTS)} (default: all there is data for)")
    parser.add_argument(
        "--split",
        action="append",
        choices=tuple(dict.fromkeys((*SPLITS, *ORBIT_SPLITS))),
        help="may be repeated (default: all)",
    )
    parser.add_argument(
        "--size",
        type=int,
        action="append",
        metavar="PX",
        help=f"pixels of the pictures of {CONTROL}, of which the world's are a multiple; may be repeated (default: the "
        "world's)",
    )
    parser.add_argument("--pairs", type=int, default=96, help="source and target frames a split (default: %(default)s)")
    parser.add_argument(
        "--cases",
        type=int,
        default=48,
        help="frames a split that are edited, models that are lifted, samples a row (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="denoising steps (default: the backend's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the backend's)")
    parser.add_argument("--no-ablations", action="store_true", help="leave out the rows with a part zeroed")
    parser.add_argument(
        "--baseline",
        action="append",
        metavar="NAME[=MODEL]",
        help="a published model of the reconstruction part, and the folder that it is in: sd21, instruct-pix2pix, "
        "controlnet, t2i-adapter or 3dit; may be repeated (default: all, from the hub's cache)",
    )
    parser.add_argument("--lpips", metavar="DIR", help="safetensors of LPIPS; without them there is no such column")
    parser.add_argument(
        "--inception",
        metavar="DIR",
        help=f"safetensors of FID's Inception-v3, for KID of {VOLUMES}; without them KID is in mini's features",
    )
    parser.add_argument(
        "--truths", metavar="DIR", help="where Cycles' pictures of the edited stages are kept (default: OUTPUT/truths)"
    )
    parser.add_argument(
        "--samples", type=int, default=16, help="Cycles' samples a pixel of those (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that render those (default: %(default)s)")
    parser.add_argument("-o", "--output", default="out/eval", metavar="DIR", help="default: %(default)s")


@dataclass
class Run:
    """One run: its arguments, what it writes, and what it has to say."""

    args: argparse.Namespace
    output: Path
    pipelines: Mapping[str, NeuralUSDPipeline]
    lpips: Lpips | None
    note: Note
    published: dict[str, str | None] | None
    content: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return command_line(self.args)

    @property
    def renderers(self) -> dict[str, Renderer]:
        from .renderer import Renderer

        return {name: Renderer(pipe, self.args.steps, self.args.guidance) for name, pipe in self.pipelines.items()}

    def add(self, part: str, split: str, content: Any, text: str, counted: str) -> None:
        """Adds a split's tables to a part, and writes the part as it is now."""
        from .report import write_json, write_text

        title = split.replace("_", " ").capitalize()
        origin = f"{counted}, seed {self.args.seed}: `{self.command}`"
        self.content.setdefault(part, {})[split] = content
        self.texts.setdefault(part, []).append(f"## {title}\n\n{text}\n\n{origin}\n")
        write_json(self.output / f"{part}.json", self.content[part])
        write_text(self.output / f"{part}.md", "\n".join(self.texts[part]))
        self._join()

    def _join(self) -> None:
        """The report: all parts that are in the folder, also those of other runs; each says its command and seed."""
        from .report import write_text

        found = [(TITLES[part], self.output / f"{part}.md") for part in PARTS]
        text = [f"# {title}\n\n{path.read_text(encoding='utf-8')}" for title, path in found if path.is_file()]
        write_text(self.output / "report.md", "\n".join(text))


def run(args: argparse.Namespace, note: Note | None = None) -> dict[str, Any]:
    """Writes the tables as Markdown, JSON and plots, and contact sheets; returns their content by part and split.

    Args:
        args: of `add_arguments`. note: told what is left out, and why.

    Raises:
        ValueError, FileNotFoundError, BackendError: what is missing or wrong, and the cure.
    """
    from ..backends import DEFAULT_BACKEND, load_backend
    from ..datasets.frames import frames
    from .lifts_command import prepare_lifts, run_lifts
    from .pairs import Frame, resized
    from .resample_command import prepare_resampling, run_resampling
    from .volumes_command import prepare_volumes, run_volumes

    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib")):
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"neuralusd eval needs {package}, which is not installed: pip install 'neuralusd[train]'")
    parts = _parts(args)
    published = _published(args.baseline)
    for name in ("pairs", "cases", "samples", "workers", "candidates", "steps", "variants"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} has to be at least 1 but is {getattr(args, name)}")
    if args.seed < 0:
        raise ValueError(f"--seed has to be at least 0 but is {args.seed}")
    # Before anything that takes long: a folder that is not there shows at once.
    in_world = set(parts) & set(WORLD_PARTS)
    drawn = in_world or RESAMPLE in parts
    splits = _splits(args.split, SPLITS, args.world) if in_world else []
    lpips = _lpips(args.lpips)
    named = [text.partition("=") for text in args.backend or [DEFAULT_BACKEND]] if drawn else []
    pipelines = {name: load_backend(location or name) for name, _, location in named}
    output = Path(args.output)
    current = Run(args, output, pipelines, lpips, note or (lambda text: None), published)
    volumes = prepare_volumes(current) if VOLUMES in parts else None
    lifts = prepare_lifts(current, _splits(args.split, ORBIT_SPLITS, args.orbits)) if LIFT in parts else None
    resampling = None
    if RESAMPLE in parts:
        resampling = prepare_resampling(current, _splits(args.split, SPLITS, args.rooms))
    output.mkdir(parents=True, exist_ok=True)
    if lpips is None:
        current.note(NO_LPIPS)
    for split in splits:
        found = [Frame(*frame) for frame in frames(args.world, split)]
        if CONTROL in parts:
            for size in args.size or [None]:
                _control(current, split, found if size is None else [resized(frame, size) for frame in found], size)
        if RECONSTRUCTION in parts:
            _reconstruction(current, split, found)
        if EDITS in parts or SEQUENCE in parts:
            _edits(current, split, found, parts)
    if lifts is not None:
        run_lifts(current, lifts)
    if volumes is not None:
        run_volumes(current, volumes)
    if resampling is not None:
        run_resampling(current, resampling)
    return current.content


def command_line(args: argparse.Namespace) -> str:
    """The command that these arguments are of, without those that are as they are by default."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["neuralusd", "eval"]
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest == "help" or value == action.default:
            continue
        option = action.option_strings[-1]
        for each in value if isinstance(value, list) else [value]:
            words += [option] if each is True else [option, str(each)]
    return shlex.join(words)


def _control(current: Run, split: str, found: list[Frame], size: int | None = None) -> None:
    from .control import COLUMNS, evaluate_control
    from .locality import COLUMNS as LOCALITY_COLUMNS
    from .locality import evaluate_locality
    from .pairs import sample_pairs
    from .reconstruction import landed_rows
    from .report import contact_sheet, markdown

    args = current.args
    pairs = sample_pairs(found, args.pairs, args.seed)
    table = evaluate_control(
        current.pipelines,
        pairs,
        seed=args.seed,
        steps=args.steps,
        guidance=args.guidance,
        ablations=not args.no_ablations,
        baselines=landed_rows(pairs),
        lpips=current.lpips,
    )
    locality = evaluate_locality(
        next(iter(current.pipelines.values())), [pair.source for pair in pairs[:32]], seed=args.seed
    )
    name = split if size is None else f"{split}_{size}"
    contact_sheet(table.images).save(current.output / f"{name}.png")
    text = f"{markdown(table.rows, COLUMNS)}\n\n### Edit locality\n\n{markdown(locality, LOCALITY_COLUMNS)}"
    if current.lpips is None:
        text += f"\n\n{NO_LPIPS}"
    content = {"rows": table.rows, **table.settings, "locality": locality, "command": current.command}
    current.add(CONTROL, name, content, text, f"{len(pairs)} pairs")


def _reconstruction(current: Run, split: str, found: list[Frame]) -> None:
    from . import plots
    from .pairs import sample_pairs
    from .reconstruction import COLUMNS, evaluate_reconstruction
    from .report import contact_sheet, markdown

    args = current.args
    pairs = sample_pairs(found, args.pairs, args.seed)
    table = evaluate_reconstruction(current.renderers, pairs, published=current.published, seed=args.seed)
    contact_sheet(table.images).save(current.output / f"reconstruction_{split}.png")
    figure = plots.scatter(
        table.rows,
        *COLUMNS,
        f"Reconstruction against controllability, {split.replace('_', ' ')}",
        labels=("Reconstruction (1 / RMSE)", "Controllability (1 / RMSE)"),
    )
    plots.save(figure, current.output / f"figure8_{split}.png")
    notes = [f"- {name}: {note}" for name, note in table.notes.items() if table.rows.get(name)]
    for name, reason in table.notes.items():
        if not table.rows.get(name):
            current.note(f"{name}: {reason}")
    content = {
        "rows": table.rows,
        "notes": table.notes,
        "pairs": len(pairs),
        "seed": args.seed,
        "command": current.command,
    }
    text = "\n".join([markdown(table.rows, COLUMNS, table.notes), "", *notes])
    text += f"\n\n![1 / RMSE of both, a point a row](figure8_{split}.png)"
    current.add(RECONSTRUCTION, split, content, text, f"{len(pairs)} pairs")


def _edits(current: Run, split: str, found: list[Frame], parts: list[str]) -> None:
    """The parts that need Cycles' pictures of edited stages."""
    from ..datasets.world import open_world
    from .cases import plan_cases
    from .truths import has_blender, render_truths, write_stages

    args = current.args
    folders = {scene.id: scene.stage_path for scene in open_world(args.world, split)}
    height, width = found[0].passes.ids.shape
    if height != width:
        raise ValueError(f"the frames of {args.world} are {width} x {height}; edits are evaluated on square ones")
    cases = plan_cases(found, folders, args.cases, args.seed)
    folder = Path(args.truths or current.output / "truths") / split
    truths = write_stages(cases, folder, args.samples, height)
    if EDITS not in parts:
        truths = [replace(t, edits={}) for t in truths]
    if SEQUENCE not in parts:
        truths = [replace(t, sequence=()) for t in truths]
    missing = sum(not truth.done for each in truths for truth in each.all())
    if missing and not has_blender():
        current.note(
            f"{split}: {missing} true answers are not in {folder} and Blender is not installed to render them, so they "
            "are left out: pip install 'neuralusd[blender]' (Python 3.11)"
        )
    elif missing:
        failed = render_truths(truths, args.samples, height, args.workers, folder / "failed.jsonl")
        if failed:
            current.note(f"{split}: {failed} true answers could not be rendered and are left out; see {folder}")
    world = {(str(folders[f.name]), f.scene.time): f for f in found if f.scene.time is not None}
    if EDITS in parts:
        _edit_error(current, split, truths, world)
    if SEQUENCE in parts:
        _sequence(current, split, truths, world)


def _edit_error(current: Run, split: str, truths: list[CaseTruths], world: Mapping[tuple[str, float], Frame]) -> None:
    from . import plots
    from .edit_error import COLUMNS, evaluate_edits
    from .report import contact_sheet, markdown

    table = evaluate_edits(current.renderers, truths, world, seed=current.args.seed, lpips=current.lpips)
    if not table.rows:
        current.note(f"{split}: there is no edit with a true answer, so part '{EDITS}' is left out")
        return
    text = []
    for kind, rows in table.rows.items():
        name = kind.replace(" ", "_")
        contact_sheet(table.images[kind]).save(current.output / f"edits_{split}_{name}.png")
        text.append(f"### {kind.capitalize()} ({table.counts[kind]} cases)\n\n{markdown(rows, COLUMNS)}\n")
        text.append(f"![{kind}, a row each method](edits_{split}_{name}.png)\n")
    figure = plots.bars(table.rows, COLUMNS[0], f"Error inside of the footprint, {split.replace('_', ' ')}")
    plots.save(figure, current.output / f"edits_{split}.png")
    text.append(f"![Error inside of the footprint](edits_{split}.png)")
    if current.lpips is None:
        text.append(f"\n{NO_LPIPS}")
    content = {
        "rows": table.rows,
        "cases": table.counts,
        "seed": current.args.seed,
        "samples": current.args.samples,
        "command": current.command,
    }
    current.add(EDITS, split, content, "\n".join(text), f"up to {len(truths)} cases")


def _sequence(current: Run, split: str, truths: list[CaseTruths], world: Mapping[tuple[str, float], Frame]) -> None:
    from . import plots
    from .report import contact_sheet, markdown
    from .sequence import STEPS, evaluate_sequence

    table = evaluate_sequence(current.renderers, truths, world, seed=current.args.seed)
    if not table.count:
        current.note(f"{split}: there is no sequence with all its true answers, so part '{SEQUENCE}' is left out")
        return
    contact_sheet(table.images).save(current.output / f"sequence_{split}.png")
    title = f"What none of five edits touched, {split.replace('_', ' ')}"
    figure = plots.lines(table.never, STEPS, title, "PSNR to the first image (dB)")
    plots.save(figure, current.output / f"drift_{split}.png")
    text = (
        f"PSNR to the first image where none of the five edits reaches:\n\n{markdown(table.never, STEPS)}\n\n"
        f"The same where none of the edits so far reaches:\n\n{markdown(table.so_far, STEPS)}\n\n"
        f"![Drift](drift_{split}.png)\n\n![The first image and each edit](sequence_{split}.png)"
    )
    content = {
        "never edited": table.never,
        "not edited so far": table.so_far,
        "cases": table.count,
        "seed": current.args.seed,
        "command": current.command,
    }
    current.add(SEQUENCE, split, content, text, f"{table.count} cases")


def _parts(args: argparse.Namespace) -> list[str]:
    """The parts that are asked for; where none is, those that there is data for.

    Raises:
        ValueError: there is no such part, or no data for it.
    """
    needs = {
        **dict.fromkeys(WORLD_PARTS, ("world", "`neuralusd data furniture` makes one")),
        LIFT: ("orbits", "`neuralusd data orbits` makes one"),
        VOLUMES: ("volumes", "training an autodecoder or a latent diffusion model writes one"),
        RESAMPLE: ("prior", "training a prior over rooms writes one"),
    }
    if args.part is None:
        parts = [part for part in PARTS if getattr(args, needs[part][0])]
        if not parts:
            raise ValueError(
                "there is nothing to evaluate on: give --world DIR (`neuralusd data furniture` makes one), or --orbits "
                "DIR (`neuralusd data orbits`), or --volumes DIR, or --prior DIR and --rooms DIR"
            )
        if RESAMPLE in parts and not args.rooms:
            raise ValueError("--prior needs rooms to sample: --rooms DIR; `neuralusd data rooms` makes one")
        return parts
    parts = [part.strip() for part in args.part.split(",")]
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"--part knows {', '.join(PARTS)} but not '{part}'")
        option, source = needs[part]
        if not getattr(args, option):
            raise ValueError(f"--part {part} needs --{option} DIR; {source}")
        if part == RESAMPLE and not args.rooms:
            raise ValueError(f"--part {part} needs --rooms DIR; `neuralusd data rooms` makes one")
    return parts


def _splits(asked: list[str] | None, known: Sequence[str], folder: str) -> list[str]:
    """The splits of a world that are evaluated on: those asked for that there can be in it, or else all there can be.

    Raises:
        ValueError: none of those asked for can be in it. FileNotFoundError: one is not in it.
    """
    from ..datasets.world import open_world

    splits = [split for split in asked or known if split in known]
    if not splits:
        raise ValueError(f"{folder} has no split {asked[0] if asked else ''}; it may have {', '.join(known)}")
    return [split for split in splits if open_world(folder, split)]


def _published(texts: list[str] | None) -> dict[str, str | None] | None:
    from .diffusers_baselines import BASELINES

    if texts is None:
        return None
    named = {name: location or None for name, _, location in (text.partition("=") for text in texts)}
    unknown = [name for name in named if name not in BASELINES]
    if unknown:
        raise ValueError(f"--baseline knows {', '.join(BASELINES)} but not '{unknown[0]}'")
    return named


def _lpips(folder: str | None) -> Lpips | None:
    from .lpips import load_lpips

    return load_lpips(folder) if folder else None
