"""`neuralusd demo`: the main job on a scene that ships."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import Console
from .files import check_folder
from .parser import add_command, seed

SUMMARY = "five edits of one scene, as five USD layers and five images"
DESCRIPTION = """\
Figure 1 of the Neural USD paper, on the weights that ship: a scene that they
have not seen, and edits of pose, appearance, geometry and background, each a
USD layer over the last, rendered to images and a contact sheet. On a CPU it
takes a minute or two.
"""
EXAMPLES = """\
examples:
  neuralusd demo
  neuralusd demo --output out/mine --backend out/mini --seed 3
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "demo", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("-o", "--output", default="out/demo", metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--backend", default="mini", metavar="B", help="weights (default: mini)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    check_folder(args.output)
    from ..demo import run_demo

    pictures = run_demo(Path(args.output), backend=args.backend, seed=args.seed, say=console.say)
    for picture in pictures:
        console.say(str(picture))
    console.say(f"The pictures are in {Path(args.output).resolve()}")
    return {"output": args.output, "pictures": [str(picture) for picture in pictures]}
