"""`neuralusd train --config prior-mini`: the prior that `resample` draws from."""

from __future__ import annotations

import argparse
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder, json_object
from .parser import UsageError

if TYPE_CHECKING:
    from ..training.scene_prior import ScenePriorConfig

# Of `neuralusd.training.scene_prior.PRIOR_CONFIGS`, which is not imported for --help.
PRIOR_NAMES = ("prior", "prior-mini", "prior-mini-own-times", "prior-mini-shared-time")
# What no prior takes, by its name in the arguments.
OTHERS = ("diffusion", "dino", "initial", "vgg", "per_device_batch", "gradient_checkpointing", "precision")


def prior_config(args: argparse.Namespace) -> ScenePriorConfig | None:
    """The configuration of a prior that is named; None where another kind is."""
    named = args.config in PRIOR_NAMES
    values = {} if named else json_object(args.config)
    if not named and not {"prior", "codec_steps"} & set(values):
        return None
    from ..training.scene_prior import PRIOR_CONFIGS, read_prior_config

    try:
        config = PRIOR_CONFIGS[args.config] if named else read_prior_config(values, args.config)
    except ValueError as error:
        raise CommandError(str(error)) from error
    given = [name for name in OTHERS if getattr(args, name) is not None]
    given += [name for name in ("from_scratch", "dry_run") if getattr(args, name)]
    if given:
        flag = "--" + given[0].replace("_", "-")
        raise UsageError(args.parser, f"argument {flag}: configurations of `resample` do not take it")
    if args.autodecoder is None:
        raise UsageError(
            args.parser,
            "give --autodecoder DIR, that of a run of lift-mini on the same world (its folder autodecoder): "
            "objects are told by its volumes",
        )
    if args.steps is not None:
        config = replace(config, steps=args.steps, codec_steps=min(config.codec_steps, args.steps))
    return config if args.batch_size is None else replace(config, batch_size=args.batch_size)


def train_prior(args: argparse.Namespace, config: ScenePriorConfig, console: Console, leading: bool) -> dict[str, Any]:
    """Lays out rooms of the world's models, and trains."""
    from ..datasets.furniture_assets import open_library
    from ..training.lift import load_views
    from ..training.scene_prior import train_scene_prior, training_rooms

    check_folder(args.output)
    output = Path(args.output)
    try:
        [place] = args.world
        views = load_views([place], output / "views.npz")
        rooms = training_rooms(open_library(Path(place) / "assets"), views, config, args.seed, output / "rooms.npz")
        train_scene_prior(
            views,
            rooms,
            args.autodecoder,
            config,
            output,
            seed=args.seed,
            max_minutes=args.max_minutes,
            checkpoint_steps=args.checkpoint_steps,
        )
    except (ValueError, FileNotFoundError, zipfile.BadZipFile) as error:
        raise CommandError(f"{', '.join(args.world)}: {error}") from error
    if leading:
        console.say(f"{args.output}: trained on {len(rooms)} rooms; use it with resample --backend {args.output}")
    return {"output": args.output, "rooms": len(rooms), "config": args.config}
