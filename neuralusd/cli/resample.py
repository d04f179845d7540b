"""`neuralusd resample`: other versions of a stage around what is kept of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_output
from .parser import UsageError, add_command, count, number, seed

if TYPE_CHECKING:
    from ..stage.variations import SampleSummary

SUMMARY = "keep what you like of a stage, and sample the rest"
DESCRIPTION = """\
Samples other versions of a stage with tokens (`encode` makes them): where its
objects stand, what they look like, which there are, the background, the
camera's focal length. Each sample is a variant of the variant set
`neuralResample`, in a new layer that references the stage; `original` is the
stage as it was. The stage itself is not touched, and what is kept has no
opinion in any variant. What looks different or is new has a mesh and tokens.

NAME is one of
  /Room/Bed             an asset, or a prim that holds some. To keep or remove
                        one means what it holds, too; to vary it, it alone:
                        what it holds moves along
  /Room/Bed:pose        its place, turn and size; or :appearance (look and
                        shape), or :presence (whether it is there)
  layout, looks         all poses; all appearances
  objects               which objects there are: nothing new, nothing gone
  camera, background    the focal length; all that is no object
  everything
What is not named is resampled, the camera too; the closer name counts, as
/Room/Bed:pose before /Room/Bed before layout before everything. With no --keep,
--vary and --remove the stage's own anchors decide (NeuralAnchorAPI), and what
they do not say is kept.

What nearly stands is set upright, onto what is below it, and out of what it
reaches into (--no-settle leaves it as it was sampled). An object in the place of another, known one is an edit:
`neuralusd edit --replace`.
"""
EXAMPLES = """\
examples:
  completion: other rooms around a bed, seen by the same camera
    neuralusd resample room.usda --keep /Room/Bed --keep camera -n 8 \\
        -o variations.usda --sheet sheet.png
  unconditional: any room at all
    neuralusd resample room.usda --vary everything -o rooms.usda
  object variation: other chairs in the place of the chair
    neuralusd resample room.usda --keep everything \\
        --vary /Room/Chair:appearance -o chairs.usda
  a little different: the same chair more or less, not far from where it is
    neuralusd resample room.usda --keep everything --vary /Room/Chair=0.7 \\
        -o near.usda
  layout: the same things elsewhere
    neuralusd resample room.usda --keep everything --vary layout -o layout.usda
  camera, background
    neuralusd resample room.usda --keep everything --vary camera -o lens.usda
    neuralusd resample room.usda --keep everything --vary background \\
        -o places.usda
  insert: what else could stand there
    neuralusd resample room.usda --keep everything --insert -o more.usda
  remove, and let the others find new places
    neuralusd resample room.usda --remove /Room/Lamp --keep everything \\
        --vary layout -o less.usda
  swap: another stage's chair in the place of this one
    neuralusd edit room.usda --replace /Room/Chair=other.usda:/Room/Chair \\
        -o swap.usda
  look at one of the samples
    neuralusd render variations.usda --variant neuralResample=sample_3 -o 3.png
"""
# What the API takes by the same name, and by None its own.
PASSED = ("backend", "render_backend", "steps", "guidance", "camera", "insert", "sheet", "tries")


def add(commands: Any) -> None:
    parser = add_command(commands, "resample", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("stage", metavar="STAGE", help="a stage with tokens, or its sidecar, or an edit")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the layer: .usda with crates beside it, or .usdc or .usd"
    )
    what = parser.add_argument_group("what is kept, and what is not")
    what.add_argument("--keep", action="append", default=[], metavar="NAME", help="as it is; may be repeated")
    what.add_argument(
        "--vary",
        action="append",
        default=[],
        type=alpha,
        metavar="NAME[=A]",
        help="from 0 (resample; what it is without A) to 1 (keep); may be repeated",
    )
    what.add_argument("--remove", action="append", default=[], metavar="PATH", help="an object goes; may be repeated")
    new = what.add_mutually_exclusive_group()
    new.add_argument("--insert", action="store_true", default=None, help="new objects may come")
    new.add_argument("--no-insert", action="store_false", dest="insert", help="none may come")
    what.add_argument("--camera", metavar="PATH", help="camera prim (default: the stage's own)")
    what.add_argument("--frame", type=number, metavar="N", help="time code that is read (default: the earliest)")
    drawn = parser.add_argument_group("samples")
    drawn.add_argument("-n", "--samples", type=count, default=8, metavar="N", help="how many (default: 8)")
    drawn.add_argument("--seed", type=seed, default=0, metavar="N", help="(default: 0)")
    drawn.add_argument("--steps", type=count, metavar="N", help="of the sampler (default: the backend's)")
    drawn.add_argument(
        "--guidance", type=number, metavar="G", help="towards what is kept; 1 is none (default: the backend's)"
    )
    drawn.add_argument("--no-settle", action="store_true", help="leave objects exactly where they were sampled")
    drawn.add_argument(
        "--tries",
        type=count,
        metavar="N",
        help="times a sample is drawn, at most, in which things do not stand or are in each other (default: 4)",
    )
    drawn.add_argument("--backend", metavar="B", help="weights of the prior: a name, a folder, a hub id")
    drawn.add_argument("--sheet", metavar="FILE", help="a .png of the stage and all samples, rendered")
    drawn.add_argument(
        "--render-backend",
        metavar="B",
        help="weights that make new tokens and the sheet (default: the stage's, or mini)",
    )
    parser.add_argument("--overwrite", action="store_true", help="take the place of existing files")


def alpha(text: str) -> tuple[str, float]:
    """NAME or NAME=ALPHA."""
    name, equals, value = text.partition("=")
    if not name.strip():
        raise argparse.ArgumentTypeError(f"'{text}' names nothing; write NAME or NAME=0.5")
    try:
        return name.strip(), number(value) if equals else 0.0
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(f"'{text.strip()}' is not of the form /Room/Bed:pose=0.5") from error


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    vary: dict[str, float] = {}
    for name, value in args.vary:
        if vary.setdefault(name, value) != value:
            raise UsageError(args.parser, f"argument --vary: {name} is given twice")
    for file in (args.output, args.sheet):
        if file is not None:
            check_output(file)
            if os.path.exists(file) and not args.overwrite:
                raise CommandError(f"{file} exists. Name another file, or give --overwrite.")

    from ..api import resample
    from ..stage.variations import list_samples, variant_set

    given = {name: getattr(args, name) for name in PASSED if getattr(args, name) is not None}
    with console.bar(None, "resample") as bar:

        def show(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        stage = resample(
            args.stage,
            args.output,
            keep=args.keep,
            vary=vary,
            remove=args.remove,
            samples=args.samples,
            seed=args.seed,
            time=args.frame,
            settle=not args.no_settle,
            overwrite=args.overwrite,
            progress=show,
            **given,
        )
    samples = list_samples(stage)
    for each in samples:
        console.say(f"{each.name}: {_said(each)}")
    chosen = variant_set(stage)
    console.say(f"{args.output}; render one with: neuralusd render {args.output} --variant {chosen}=sample_1 -o 1.png")
    made = {
        "output": str(Path(args.output).absolute()),
        "base": str(stage.GetRootLayer().customLayerData.get("neuralusd:base", "")),
        "variantSet": chosen,
        "samples": [dataclasses.asdict(each) for each in samples],
        "seed": args.seed,
    }
    return made | ({"sheet": str(Path(args.sheet).absolute())} if args.sheet else {})


def _said(sample: SampleSummary) -> str:
    parts = [
        f"{what} {', '.join(path.rsplit('/', 1)[-1] for path in paths)}"
        for what, paths in (
            ("moved", sample.moved), ("different", sample.changed), ("new", sample.new), ("gone", sample.gone),
        )
        if paths
    ]  # fmt: skip
    parts += ["another focal length"] if sample.camera else []
    return "; ".join(parts) or "as it was"
