"""`neuralusd doctor`: what is wrong with this machine, or with a stage."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .console import FAILED, Console
from .parser import UsageError, add_command, number

if TYPE_CHECKING:
    from .._inspection import Inspection

SUMMARY = "what this machine has, or what is wrong with a stage"
DESCRIPTION = """\
Without a stage: looks at Python, USD and the neural schema, torch and its
devices, the other libraries, the weights of `mini`, and memory. It takes some
seconds.

With a stage: what neuralusd sees in it (cameras, assets, their tokens), what
could not be composed, and what is wrong with its neural prims. Tokens are looked
for in the stage's sidecar too, as `render` does. It loads no weights.

Each finding that matters comes with its cure.
"""
EXAMPLES = """\
examples:
  neuralusd doctor
  neuralusd doctor shot.usda
  neuralusd doctor shot.usda --camera /World/Cam --frame 12 --json

The exit status is 1 where there are problems; warnings alone are none.
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "doctor", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="a stage to look at, in place of the machine")
    parser.add_argument("--camera", metavar="PATH", help="camera prim (default: the stage's own)")
    parser.add_argument("--frame", type=number, metavar="N", help="time code (default: the earliest)")
    parser.add_argument("--backend", metavar="B", help="weights that are to read the tokens (default: mini)")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    if args.stage is None:
        if args.camera or args.backend or args.frame is not None:
            raise UsageError(args.parser, "--camera, --frame and --backend are for a stage: name one")
        return _machine(console)
    return _stage(args, console)


def _machine(console: Console) -> dict[str, Any]:
    from .._environment import check_environment

    checks = check_environment()
    width = max(len(check.name) for check in checks)
    for check in checks:
        console.say(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name:{width}}  {check.detail}")
        if check.cure and not check.ok:
            console.say(f"{'':{width + 9}}  {check.cure}")
    wrong = [check.name for check in checks if not check.ok]
    console.say(f"Problems: {', '.join(wrong)}." if wrong else "No problems found.")
    console.status = FAILED if wrong else console.status
    return {"ok": not wrong, "checks": [check._asdict() for check in checks]}


def _stage(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import warnings

    from .._inspection import inspect_stage
    from ..api import open_shot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what could not be composed is part of the inspection
        stage = open_shot(args.stage)
    found = inspect_stage(stage, args.camera, args.frame, args.backend)
    _tell(console, args.stage, found)
    console.status = console.status if found.ok else FAILED
    return {"ok": found.ok, **asdict(found)}


def _tell(console: Console, name: str, found: Inspection) -> None:
    from ..validators import format_report

    frames = f", frames {found.frames[0]:g} to {found.frames[1]:g}" if found.frames else ""
    console.say(f"{found.stage}: {found.up_axis} up, {found.meters_per_unit:g} m a unit{frames}")
    if os.path.basename(found.stage) != os.path.basename(name):
        console.note(f"the tokens of {name} are in {found.stage}")
    console.say(
        f"cameras: {', '.join(f'<{path}>' for path in found.cameras) or 'none, so it is framed from its front'}"
    )
    if found.assets:
        console.say("assets:" if found.marked else "assets that `neuralusd encode` would take:")
        width = max(len(asset["path"]) for asset in found.assets) + 2
        for asset in found.assets:
            tokens = "; ".join(
                f"{modality} {'x'.join(map(str, t['shape']))} of {t['encoder']}@{t['revision']}"
                for modality, t in sorted(asset["tokens"].items())
            )
            presence = f", presence {asset['presence']:g}" if asset["presence"] != 1 else ""
            kind = "background" if asset["role"] == "background" else asset["pose"]
            console.say(f"  {'<' + asset['path'] + '>':{width}}  {kind}{presence}; {tokens or 'no tokens'}")
    for note in found.notes:
        console.say(f"warning: {note}")
    for problem in found.problems:
        console.say(f"error: {problem}")
    if found.issues or not found.problems:
        console.say(format_report(found.issues))
