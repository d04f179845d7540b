"""`neuralusd edit`: an edit of a stage as a USD layer over it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .console import CommandError, Console
from .files import check_output
from .parser import UsageError, add_command, box, number, once, pair, positive, vector

SUMMARY = "move, turn, scale, swap or remove, as a layer over a stage"
DESCRIPTION = """\
Writes a new USD layer over a stage, or over its sidecar where its tokens are,
with the edit as ordinary USD opinions: xformOps, relationships, an attribute.
The stage itself is not touched. Any USD tool reads the layer; muting it undoes
the edit; an edit of an edit is another layer. `neuralusd render` keeps what the
edit leaves alone.

PATH is a prim. A DONOR is a prim of the same stage (/World/Bottle), or of
another that was encoded with the same backend (other.usda:/World/Bottle). PATH
VALUE and PATH=VALUE are the same, and every option may be repeated. Options are
applied in the order in which they are listed here.
"""
EXAMPLES = """\
examples:
  neuralusd edit shot.usda --move /World/Cup 0.2,0,0 -o edit.usda
  neuralusd edit shot.usda --appearance /World/Cup=/World/Bottle -o edit.usda
  neuralusd edit edit.usda --rotate /World/Chair 45 --remove /World/Cup -o next.usda
  neuralusd edit shot.usda --background other.usda:/World/Room -o edit.usda
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "edit", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("stage", metavar="STAGE", help="the stage, or another edit")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the layer (.usda, .usdc or .usd)")
    group = parser.add_argument_group("edits")

    def option(flag: str, kind: Any, metavar: str, form: str, help: str) -> None:
        group.add_argument(flag, action="append", type=pair(kind, form), metavar=metavar, help=help)

    option("--move", vector, "PATH X,Y,Z", "/World/Cup=0.2,0,0", "by metres along the world's axes")
    option("--rotate", number, "PATH DEG", "/World/Cup=45", "by degrees about the up axis, to the left seen from above")
    option("--scale", positive, "PATH FACTOR", "/World/Cup=1.5", "by a factor, about its origin")
    option("--box", box, "PATH X,Y,H,W", "/World/Cup=0.4,0.5,0.2,0.1", "place in the image, for what has none in space")
    option("--presence", number, "PATH P", "/World/Cup=0.5", "0 (gone) to 1")
    group.add_argument("--remove", action="append", metavar="PATH", help="the same as a presence of 0")
    option("--appearance", str, "PATH=DONOR", "/World/Cup=/World/Bottle", "look like the donor")
    option("--geometry", str, "PATH=DONOR", "/World/Cup=/World/Bottle", "have the donor's shape")
    option("--replace", str, "PATH=DONOR", "/World/Cup=/World/Bottle", "be the donor: its look and its shape")
    group.add_argument("--background", metavar="DONOR", help="have the donor as background")
    parser.add_argument(
        "--frame", type=number, metavar="N", help="the pose at this time code only (default: all of a prim's motion)"
    )
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--overwrite", action="store_true", help="begin anew where FILE exists")
    exists.add_argument("--append", action="store_true", help="edit further where FILE exists")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    edits: dict[str, Any] = {
        name: once(args.parser, f"--{name}", getattr(args, name))
        for name in ("move", "rotate", "scale", "box", "presence", "appearance", "geometry", "replace")
    }
    for path in args.remove or ():
        if edits["presence"].setdefault(path, 0.0) != 0:
            raise UsageError(args.parser, f"argument --remove: {path} has a --presence too")
    edits = {name: value for name, value in edits.items() if value}
    if args.background:
        edits["background"] = args.background
    if not edits:
        raise UsageError(args.parser, "name an edit, such as --move PATH X,Y,Z")
    check_output(args.output)
    if os.path.exists(args.output) and not (args.overwrite or args.append):
        raise CommandError(f"{args.output} exists. Name another file, or give --overwrite, or --append to add to it.")

    from .. import stage as stages
    from ..api import edit, edit_over

    stage = edit_over(args.stage, args.output, overwrite=args.overwrite)
    edit(stage, time=args.frame, **edits)
    path = str(stages.save(stage))
    base = stage.GetRootLayer().ComputeAbsolutePath(stage.GetRootLayer().subLayerPaths[0])
    console.say(f"{path}: over {os.path.basename(base)}; render it with: neuralusd render {args.output} -o out.png")
    return {"output": path, "base": base, "edits": edits}
