"""`neuralusd eval`: how good a backend is."""

from __future__ import annotations

import argparse
from typing import Any

from .console import CommandError, Console
from .parser import Parser, add_command

SUMMARY = "measure a backend on scenes and models it has not seen"
DESCRIPTION = """\
Renders target frames of held-out scenes from tokens of their source frames, and
compares them with the truth and with baselines: PSNR and SSIM of the whole
image, the foreground and the background. Writes tables and pictures.
"""
EXAMPLES = """\
examples:
  neuralusd eval --world world
  neuralusd eval --world world --backend mine=out/mini --pairs 32 -o out/eval
"""


def add(commands: Any) -> None:
    add_command(commands, "eval", run, SUMMARY, DESCRIPTION, EXAMPLES, load=_arguments)


def _arguments(parser: Parser) -> None:
    from ..evaluation.command import add_arguments

    add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..evaluation.command import run as evaluate

    try:
        result = evaluate(args)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console.say(f"The tables and pictures are in {args.output}")
    return {"output": str(args.output), "results": result}
