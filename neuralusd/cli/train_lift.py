"""`neuralusd train --config lift-mini`: the weights of `lift`."""

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
    from ..training.lift import LiftTrainingConfig

# Of `neuralusd.training.lift.LIFT_CONFIGS`, which is not imported for --help.
LIFT_NAMES = (
    "lift",
    "lift-mini",
    "lift-mini-16",
    "lift-mini-8",
    "lift-mini-deeper",
    "lift-mini-mean-deviation",
    "lift-mini-no-attention",
    "lift-mini-not-carved",
    "lift-mini-one-view",
    "lift-mini-plain-loss",
    "lift-mini-short-embedding",
)


def lift_config(args: argparse.Namespace) -> LiftTrainingConfig | None:
    """The configuration of `lift` that is named; None where it is one of `render`."""
    named = args.config in LIFT_NAMES
    values = {} if named else json_object(args.config)
    if not named and not {"autodecoder", "diffusion"} & set(values):
        return None
    from ..training.lift import LIFT_CONFIGS, read_lift_config

    try:
        config = LIFT_CONFIGS[args.config] if named else read_lift_config(values, args.config)
    except ValueError as error:
        raise CommandError(str(error)) from error
    for flag, given in (
        ("--diffusion", args.diffusion),
        ("--dino", args.dino),
        ("--from-scratch", args.from_scratch or None),
        ("--per-device-batch", args.per_device_batch),
        ("--gradient-checkpointing", args.gradient_checkpointing),
        ("--batch-size", args.batch_size),
        ("--dry-run", args.dry_run or None),
    ):
        if given is not None:
            raise UsageError(args.parser, f"argument {flag}: configurations of `lift` do not take it")
    if args.steps is not None:
        part = min(config.autodecoder.carved_steps, args.steps // 2)
        config = replace(
            config,
            autodecoder=replace(config.autodecoder, steps=args.steps, carved_steps=part),
            diffusion=replace(config.diffusion, steps=args.steps),
        )
    return config


def train_lift(args: argparse.Namespace, config: LiftTrainingConfig, console: Console, leading: bool) -> dict[str, Any]:
    from ..training import lift

    check_folder(args.output)
    try:
        views = lift.load_views(args.world, Path(args.output) / "views.npz")
        lift.train_lift(
            views,
            config,
            args.output,
            trained_autodecoder=args.autodecoder,
            initial=args.initial,
            vgg=args.vgg,
            seed=args.seed,
            max_minutes=args.max_minutes,
            checkpoint_steps=args.checkpoint_steps,
            mixed_precision={"bf16": "bf16", "fp32": "no", None: None}[args.precision],
        )
    except (ValueError, zipfile.BadZipFile) as error:
        raise CommandError(f"{', '.join(args.world)}: {error}") from error
    if leading:
        console.say(f"{args.output}: trained on {len(views)} objects; use it with lift --backend {args.output}")
    return {"output": args.output, "objects": len(views), "config": args.config}
