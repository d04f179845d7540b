"""`neuralusd train --config scene-decoder`: the full size's decoder of anchored generation."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder, json_object
from .parser import UsageError

if TYPE_CHECKING:
    from ..training.scene_decoder import SceneDecoderConfig

# Of `neuralusd.training.scene_decoder.SCENE_DECODER_CONFIGS`, which is not imported for --help.
DECODER_NAMES = ("scene-decoder", "scene-decoder-no-rays", "scene-decoder-single-stream")


def decoder_config(args: argparse.Namespace) -> SceneDecoderConfig | None:
    """The configuration of the decoder that is named; None where it is another's."""
    named = args.config in DECODER_NAMES
    values = {} if named else json_object(args.config)
    if not named and not {"tokenizer", "adapters"} <= set(values):
        return None
    from ..training.scene_decoder import SCENE_DECODER_CONFIGS, read_scene_decoder_config

    for flag, given in (
        ("--dino", args.dino),
        ("--initial", args.initial),
        ("--from-scratch", args.from_scratch or None),
        ("--per-device-batch", args.per_device_batch),
        ("--autodecoder", args.autodecoder),
        ("--vgg", args.vgg),
    ):
        if given is not None:
            raise UsageError(args.parser, f"argument {flag}: configurations of the scene decoder do not take it")
    try:
        config = SCENE_DECODER_CONFIGS[args.config] if named else read_scene_decoder_config(values, args.config)
    except ValueError as error:
        raise CommandError(str(error)) from error
    changes = {"batch_size": args.batch_size, "gradient_checkpointing": args.gradient_checkpointing}
    if args.steps is not None:
        changes |= {"steps": args.steps, "warmup_steps": min(config.warmup_steps, args.steps // 10)}
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def train_decoder(
    args: argparse.Namespace, config: SceneDecoderConfig, console: Console, leading: bool
) -> dict[str, Any]:
    """Trains it, or says with --dry-run how much that would take."""
    from ..errors import BackendError
    from ..models.adapters.backbone import KLEIN
    from ..training.scene_decoder import train_scene_decoder
    from ..training.scene_decoder_estimate import estimate_scene_decoder
    from ..training.scene_examples import SceneExamples

    if len(args.world) != 1:
        raise CommandError("the scene decoder trains on one folder of examples; give one")
    [world] = args.world
    backbone = args.diffusion or KLEIN
    try:
        examples = SceneExamples(world)
        if args.dry_run:
            estimate = estimate_scene_decoder(
                config,
                examples.first,
                backbone=backbone,
                gpus=args.gpus,
                tflops=args.tflops,
                bf16=args.precision != "fp32",
            )
            console.say(estimate.table())
            return estimate.to_dict()
        check_folder(args.output)
        train_scene_decoder(
            examples,
            config,
            args.output,
            backbone=backbone,
            seed=args.seed,
            max_minutes=args.max_minutes,
            checkpoint_steps=args.checkpoint_steps,
            mixed_precision={"bf16": "bf16", "fp32": "no", None: None}[args.precision],
        )
    except BackendError as error:
        raise CommandError(str(error)) from error
    except TypeError as error:
        raise CommandError(f"{args.config} describes no model: {error}") from error
    except ValueError as error:
        said = str(error)
        raise CommandError(said if said.startswith(world) else f"{world}: {said}") from error
    if leading:
        console.say(f"{args.output}: trained on {len(examples)} pictures; load it with `load_scene_decoder`")
    return {"output": args.output, "examples": len(examples), "config": args.config}
