"""`neuralusd train`: weights of one's own."""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder
from .parser import Parser, add_command, count, positive, seed

if TYPE_CHECKING:
    from ..datasets.packed import PackedWorld

SUMMARY = "train a backend of your own"
DESCRIPTION = """\
Trains the weights of `render` on a world, by paired frames: tokens from one
frame of a scene, the image of another. DIR becomes a folder in diffusers' format
that --backend takes. A run that ended early goes on where its last checkpoint
was when the same command is given again; DIR/log.jsonl has the loss.

With --max-minutes the learning rate comes down in time, so that the weights are
finished when the time is over.
"""
EXAMPLES = """\
examples:
  neuralusd train --config mini --world world.npz -o out/mini
  neuralusd train --config mini --world a.npz b.npz -o out/mini --max-minutes 120
  neuralusd render shot.usda --backend out/mini -o out.png
"""


def add(commands: Any) -> None:
    add_command(commands, "train", run, SUMMARY, DESCRIPTION, EXAMPLES, load=_arguments)


def _arguments(parser: Parser) -> None:
    from ..training.config import CONFIGS

    parser.add_argument("--config", choices=sorted(CONFIGS), default="mini", help="what is trained (default: mini)")
    parser.add_argument(
        "--world",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE|DIR",
        help="files of `data pack`, or worlds",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder of the weights, the log and checkpoints"
    )
    parser.add_argument("--steps", type=count, metavar="N", help="optimizer steps (default: the configuration's)")
    parser.add_argument("--initial", metavar="DIR", help="start from the weights in this folder")
    parser.add_argument("--max-minutes", type=positive, metavar="M", help="end after this time")
    parser.add_argument("--seed", type=seed, default=0, metavar="N")
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        help="of the arithmetic (default: bf16 where the machine is fast at it)",
    )


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..training.config import CONFIGS

    check_folder(args.output)
    if console.quiet:
        os.environ["TQDM_DISABLE"] = "1"
    world = load_world(args.world, console)
    from ..training.render import shortened, train_render

    config = CONFIGS[args.config]
    if args.steps is not None:
        config = shortened(config, args.steps)
    try:
        train_render(
            world,
            config,
            args.output,
            initial=args.initial,
            seed=args.seed,
            max_minutes=args.max_minutes,
            mixed_precision={"bf16": "bf16", "fp32": "no", None: None}[args.precision],
        )
    except ValueError as error:
        raise CommandError(f"{', '.join(args.world)}: {error}") from error
    console.say(f"{args.output}: trained on {len(world)} frames; use it with --backend {args.output}")
    return {"output": args.output, "frames": len(world), "config": args.config}


def load_world(places: list[str], console: Console) -> PackedWorld:
    """Packed files, and the training splits of worlds, as one."""
    from ..datasets.packed import join, load_packed, pack
    from .data import read_frames

    worlds = []
    for place in places:
        try:
            folder = Path(place).is_dir()
            worlds.append(pack(read_frames(place, "train", console)) if folder else load_packed([place]))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CommandError(f"{place} is no world that can be read: {error}") from error
    return join(worlds)
