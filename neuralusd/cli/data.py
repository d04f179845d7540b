"""`neuralusd data`: worlds to train on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder, check_output
from .parser import Parser, UsageError, add_command, add_global_options, count, seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..scene import Passes, Scene

SUMMARY = "make worlds to train on, and pack them"
DESCRIPTION = """\
Data to train and evaluate on. `furniture` makes the furniture world: rooms with
furniture as USD stages, with frames rendered by Blender's Cycles beside them.
`import` makes a world of a dataset that you have: MOVi-E and others, with their
own pictures. `pack` makes one file of a world's split, to train from or to carry
elsewhere.
"""
EXAMPLES = """\
examples:
  neuralusd data furniture --out world --scenes 1000
  neuralusd data import movi-e ~/tfds/movi_e/256x256/1.0.0 --out movi
  neuralusd data pack world --split train -o world.npz
"""
FURNITURE = """\
Makes the furniture world, or goes on with one that is not finished: scenes of 2
to 8 of the models of Debian's package sweethome3d-furniture, or of a folder of
USD assets. Every scene is a stage with time samples of its camera and of what
moves, and rendered frames beside it. It needs Blender as a Python module (the
extra `blender`).
"""
FURNITURE_EXAMPLES = """\
examples:
  neuralusd data furniture --out world
  neuralusd data furniture --out world --scenes 5000 --workers 8 --resolution 128
"""
IMPORT = """\
Makes a world of a dataset that you have downloaded, or goes on with one that is
not finished. Every scene becomes a USD stage, with its objects' boxes and poses
and its camera as time samples, and the pictures, depth and masks beside it: the
form of the furniture world, so `data pack`, `train` and `eval` take it as it is.
Scenes whose files are damaged are left out, with a note.

Each kind says with --help what it reads.
"""
IMPORT_EXAMPLES = """\
examples:
  neuralusd data import movi-e ~/tfds/movi_e/256x256/1.0.0 --out movi --objects 8
  neuralusd data import egotracks ~/ego4d/v2 --out ego --split train --limit 100
  neuralusd data pack movi -o movi.npz && neuralusd train --world movi.npz -o out
"""
PACK = """\
Packs the frames of one split of a world into one file: pictures as WebP, depth
and ids as PNG. Scenes that are damaged are left out, with a note.
"""
PACK_EXAMPLES = """\
examples:
  neuralusd data pack world -o world.npz
  neuralusd data pack world --split held_out_models -o held_out.npz
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "data", _none, SUMMARY, DESCRIPTION, EXAMPLES)
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", dest="kind")
    furniture = add_command(kinds, "furniture", _furniture, "make the furniture world", FURNITURE, FURNITURE_EXAMPLES)
    furniture.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    furniture.add_argument(
        "--scenes", type=int, default=100, metavar="N", help="scenes to train on (default: %(default)s)"
    )
    for split, what in (
        ("scenes", "new scenes of the same models"),
        ("models", "scenes of models no other scene shows"),
    ):
        furniture.add_argument(
            f"--held-out-{split}", type=int, default=20, metavar="N", help=f"{what} (default: %(default)s)"
        )
    furniture.add_argument("--furniture", metavar="DIR", help="folder of .sh3f catalogues or of USD assets")
    furniture.add_argument("--workers", type=count, default=2, metavar="N", help="processes (default: %(default)s)")
    furniture.add_argument("--seed", type=seed, default=0, metavar="N")
    furniture.add_argument("--resolution", type=count, default=128, metavar="PX", help="a frame's side (default: 128)")
    furniture.add_argument("--samples", type=count, default=8, metavar="N", help="Cycles' samples a pixel (default: 8)")
    add_command(kinds, "import", _none_to_import, "make a world of a dataset", IMPORT, IMPORT_EXAMPLES, load=_readers)
    pack = add_command(kinds, "pack", _pack, "one file of a world's split", PACK, PACK_EXAMPLES)
    pack.add_argument("world", metavar="DIR", help="a world of `furniture` or `import`")
    pack.add_argument("-o", "--output", required=True, metavar="FILE", help="the .npz file")
    pack.add_argument("--split", default="train", help="train, held_out_scenes or held_out_models (default: train)")
    pack.add_argument("--objects", type=count, metavar="N", help="most objects of a scene (default: as there are)")
    for each in kinds.choices.values():
        add_global_options(each)


def _none(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    raise UsageError(args.parser, "name a kind: furniture, import or pack")


def _readers(parser: Parser) -> None:
    """A command for each dataset that can be imported."""
    from ..datasets.imported import readers
    from ..datasets.imported.scene import SPLITS

    kinds = parser.add_subparsers(title="datasets", metavar="DATASET", dest="dataset")
    for kind, reader in readers().items():
        examples = f"examples:\n  neuralusd data import {kind} SOURCE --out world --limit 100\n"
        each = add_command(kinds, kind, _import, reader.summary, reader.description, examples)
        each.add_argument("source", metavar="SOURCE", help="folder of the dataset, as downloaded")
        each.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
        each.add_argument(
            "--split", action="append", choices=SPLITS, help="import only this; may be given twice (default: all)"
        )
        each.add_argument("--limit", type=count, metavar="N", help="at most so many scenes of a split (default: all)")
        each.add_argument(
            "--frames", type=count, metavar="N", help="at most so many frames of a scene, evenly spaced (default: all)"
        )
        each.add_argument(
            "--objects",
            type=count,
            metavar="N",
            help="at most so many objects of a scene, largest first",
        )
        each.add_argument(
            "--resolution", type=count, default=128, metavar="PX", help="a frame's side; it is cropped (default: 128)"
        )
        add_global_options(each)


def _none_to_import(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.imported import readers

    raise UsageError(args.parser, f"name a dataset: {', '.join(readers())}")


def _import(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.imported import DatasetError
    from ..datasets.imported.run import import_dataset

    check_folder(args.out)
    options = {name: getattr(args, name) for name in ("limit", "frames", "objects", "resolution")}
    try:
        made = import_dataset(
            args.dataset, args.source, args.out, splits=args.split, progress=not console.quiet, **options
        )
    except DatasetError as error:
        raise CommandError(str(error)) from error
    console.say(f"{args.out}: {', '.join(f'{number} {split}' for split, number in made.items())}")
    return {"output": args.out, "scenes": made}


def _furniture(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.furniture_world import make_furniture_world

    check_folder(args.out)
    names = ("out", "scenes", "held_out_scenes", "held_out_models", "workers", "seed", "resolution", "samples")
    options = {name: getattr(args, name) for name in names}
    if args.furniture:
        options["furniture"] = args.furniture
    try:
        made = make_furniture_world(**options, progress=not console.quiet)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console.say(f"{args.out}: {', '.join(f'{number} {split}' for split, number in made.items())}")
    return {"output": args.out, "scenes": made}


def _pack(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    if not args.output.endswith(".npz"):
        raise UsageError(args.parser, f"argument -o: {args.output} is no .npz file; end its name so")
    check_output(args.output)
    from ..datasets.packed import pack, save_packed

    try:
        world = pack(read_frames(args.world, args.split, console), args.objects and args.objects + 1)
    except ValueError as error:
        raise CommandError(f"{args.world}: {error}") from error
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.partial.npz")
    try:
        save_packed(world, partial)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    console.say(f"{output}: {len(world)} frames of {len(world.names)} scenes, {output.stat().st_size / 1e6:.1f} MB")
    return {"output": str(output), "frames": len(world), "scenes": len(world.names)}


def read_frames(world: str | Path, split: str, console: Console) -> Iterator[tuple[str, Scene, Passes]]:
    """The frames of a world's split, with a progress bar."""
    from ..datasets.frames import frames
    from ..datasets.world import open_world

    with console.bar(len(open_world(world, split)), "pack", "scene") as bar:
        last = None
        for name, scene, passes in frames(world, split):
            bar.update(name != last)
            last = name
            yield name, scene, passes
