"""The command line: arguments in, text or JSON out. What the commands do is in `neuralusd.api` and below."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .._version import __version__
from . import data, demo, doctor, edit, encode, evaluate, lift, render, resample, serve, train
from .console import CANCELLED, DONE, FAILED, USAGE, Console
from .parser import Parser, UsageError, add_global_options, ready

DESCRIPTION = """\
USD as the scene description of generative models: image = Decode(Edit(stage)).

A prim carries, beside its mesh, tokens of what it looks like and of its shape.
`encode` makes them, `edit` changes the stage as a USD layer, `render` makes the
image that a camera sees of it.
"""

EXAMPLES = """\
examples:
  neuralusd encode shot.usda --camera /World/Cam
  neuralusd edit shot.usda --move /World/Cup 0.2,0,0 -o edit.usda
  neuralusd render edit.usda --camera /World/Cam -o out.png --seed 7

exit status: 0 done; 1 failed, the message says what and the cure; 2 wrong
usage; 130 cancelled.
`neuralusd COMMAND --help` explains a command. --json, --quiet and --debug may
stand after it too.
"""

COMMANDS = (encode, render, edit, resample, lift, serve, doctor, demo, data, train, evaluate)


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="neuralusd", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"neuralusd {__version__}")
    add_global_options(parser, defaults=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    for each in commands.choices.values():
        add_global_options(each)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 cancelled."""
    if arguments is None:
        arguments = sys.argv[1:]
        # A file name may hold what a terminal cannot show.
        for stream in (sys.stdout, sys.stderr):
            getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    parser = build_parser()
    try:
        args = parser.parse_args(ready(arguments))
        if args.command is None:
            raise UsageError(parser, "name a command")
    except UsageError as error:
        Console(as_json="--json" in arguments).usage(error)
        return USAGE
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or DONE)
    except KeyboardInterrupt:
        return CANCELLED
    except ImportError as error:  # what a command's arguments need
        Console(as_json="--json" in arguments).error(error)
        return FAILED
    console = Console(as_json=args.json, quiet=args.quiet, debug=args.debug)
    try:
        return console.run(lambda: args.run(args, console))
    except BrokenPipeError:  # as of `neuralusd doctor | head`; nobody reads what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


__all__ = ["CANCELLED", "DONE", "FAILED", "USAGE", "build_parser", "main"]
