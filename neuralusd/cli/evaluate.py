"""`neuralusd eval`: how good a backend is."""

from __future__ import annotations

import argparse
from typing import Any

from .console import CommandError, Console
from .parser import Parser, add_command

SUMMARY = "measure a backend on scenes and models it has not seen"
DESCRIPTION = """\
Measures weights on what is held out, in seven parts. On scenes (--world):
  control         target frames from the tokens of source frames
  reconstruction  the source frame itself against the target frame
  edits           edits of a stage against Cycles' picture of the edited stage
  sequence        five edits one over the other: drift of what was not edited
On models by themselves (--orbits):
  lift            lifts of one picture against the true shape and other views
  volumes         volume models (--volumes): rebuilding, and samples
On furnished rooms (--rooms):
  resample        anchored generation: what is kept, plausibility, diversity
Writes tables, plots and pictures; report.md joins them.
"""
EXAMPLES = """\
examples:
  neuralusd eval --world world
  neuralusd eval --world world --backend mine=out/mini --pairs 32 -o out/eval
  neuralusd eval --world world --part edits,sequence --cases 16 --truths truths
  neuralusd eval --world world --part reconstruction --baseline sd21=models/sd21
  neuralusd eval --orbits orbits --lifter mine=out/lift --lifter silhouette --cases 16
  neuralusd eval --orbits orbits --volumes out/volumes --part volumes
  neuralusd eval --rooms rooms --prior out/prior --objects orbits.npz --part resample
"""


def add(commands: Any) -> None:
    add_command(commands, "eval", run, SUMMARY, DESCRIPTION, EXAMPLES, load=_arguments)


def _arguments(parser: Parser) -> None:
    from ..evaluation.command import add_arguments

    add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..evaluation.command import run as evaluate

    try:
        result = evaluate(args, console.note)
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error
    console.say(f"The tables and pictures are in {args.output}")
    return {"output": str(args.output), "results": result}
