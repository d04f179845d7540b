"""`neuralusd serve`: the compute service that DCCs use."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .console import CommandError, Console
from .parser import UsageError, add_command, count, number, positive

SUMMARY = "run the compute service that Blender and other programs use"
DESCRIPTION = """\
Runs the verbs as jobs over HTTP, in one worker process that keeps the models
loaded: with a queue, progress, intermediate pictures, cancel, results.

Without --host it is your own: on loopback, for programs that run as you, which
find it and its token by themselves. Programs start one when they need it, so
you seldom have to.

With --host it is shared, as on a machine with a GPU: every user has a token
(--tokens), sends files as uploads, and reads no file of this machine except
below --root. Without a certificate the tokens travel in the clear: on a network
that you do not trust give --certificate and --key, or use a tunnel.
"""
EXAMPLES = """\
examples:
  neuralusd serve
  neuralusd serve --stop
  neuralusd serve --tokens tokens.txt --new-token alice
  neuralusd serve --host 0.0.0.0 --port 8750 --tokens tokens.txt --root /srv/shots
"""
PORT = 8750


def add(commands: Any) -> None:
    parser = add_command(commands, "serve", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("--port", type=port, metavar="N", help=f"0 takes a free one (default: 0; with --host {PORT})")
    parser.add_argument("--cache", metavar="DIR", help="results, uploads and downloads (default: the state folder)")
    parser.add_argument("--stop", action="store_true", help="stop your own service that runs")
    parser.add_argument("--idle-exit", type=positive, metavar="MIN", help="stop when unused for so long")
    shared = parser.add_argument_group("shared services")
    shared.add_argument("--host", metavar="H", help="address to listen at: this machine's, or 0.0.0.0 for all it has")
    shared.add_argument("--tokens", type=Path, metavar="FILE", help="users and their tokens, a line 'name token' each")
    shared.add_argument("--new-token", metavar="NAME", help="add a user to --tokens, print the token, and end")
    shared.add_argument("--root", type=Path, metavar="DIR", help="folder that jobs may read (default: none)")
    shared.add_argument(
        "--allow-weights", action="append", metavar="B", help="a backend or model that jobs may name; may be repeated"
    )
    shared.add_argument(
        "--allow-host", action="append", metavar="NAME", help="a further name of this machine; may be repeated"
    )
    shared.add_argument("--certificate", type=Path, metavar="FILE", help="PEM, for https")
    shared.add_argument("--key", type=Path, metavar="FILE", help="its key")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--queue", type=count, metavar="N", help="jobs that may wait (default: 256)")
    limits.add_argument("--queue-each", type=count, metavar="N", help="jobs of one user that may wait (default: 64)")
    limits.add_argument("--keep", type=positive, metavar="HOURS", help="how long results stay (default: 24)")
    limits.add_argument("--keep-size", type=positive, metavar="GB", help="how much of them stays (default: 10)")
    limits.add_argument("--max-upload", type=positive, metavar="MB", help="largest file (default: 2000)")
    limits.add_argument("--cancel-after", type=number, metavar="S", help="seconds a cancel may take (default: 10)")
    limits.add_argument("--worker-memory", type=positive, metavar="GB", help="most that the worker may take")


def port(text: str) -> int:
    """A port, or 0."""
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"{value} is no port: 0 to 65535")
    return value


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..service.client import ServiceError

    try:
        if args.new_token:
            return _new_token(args, console)
        return _stop(console) if args.stop else _serve(args, console)
    except ServiceError as error:
        raise CommandError(str(error)) from error


def _serve(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..service.client import state_folder
    from ..service.server import Settings, serve
    from ..service.users import TokensFile

    shared = args.host is not None
    if shared and args.tokens is None:
        raise UsageError(args.parser, "--host needs --tokens: nobody uses a service of others without one")
    for name in () if shared else ("tokens", "root", "allow_weights", "allow_host", "certificate", "key"):
        if getattr(args, name) is not None:
            raise UsageError(args.parser, f"--{name.replace('_', '-')} is for shared services: give --host too")
    if (args.certificate is None) != (args.key is None):
        raise UsageError(args.parser, "--certificate and --key go together")
    for file in (args.certificate, args.key):
        if file is not None and not file.is_file():
            raise CommandError(f"{file} does not exist")
    if args.root is not None and not args.root.is_dir():
        raise CommandError(f"{args.root} is not a folder")
    chosen = (PORT if shared else 0) if args.port is None else args.port
    state = Path(state_folder())
    state = state / f"shared-{chosen}" if shared else state
    if args.cache and "HF_HOME" not in os.environ:
        os.environ["HF_HOME"] = os.path.join(os.path.abspath(args.cache), "huggingface")
    # A folder of ours in theirs: it is made unreadable for others.
    settings = Settings(Path(os.path.abspath(args.cache), "service") if args.cache else state)
    settings.shared, settings.idle_minutes = shared, args.idle_exit
    settings.root = None if args.root is None else Path(os.path.realpath(args.root))
    settings.weights = set(args.allow_weights or ())
    for name, field, scale in (
        ("queue", "queue", 1),
        ("queue_each", "queue_each", 1),
        ("keep", "keep_hours", 1),
        ("keep_size", "keep_bytes", 1e9),
        ("max_upload", "largest_upload", 1e6),
        ("cancel_after", "cancel_seconds", 1),
        ("worker_memory", "worker_memory", 1e9),
    ):
        if getattr(args, name) is not None:
            value = getattr(args, name) * scale
            setattr(settings, field, value if scale == 1 else int(value))
    why = serve(
        settings,
        state=state,
        host=args.host or "127.0.0.1",
        port=chosen,
        users=TokensFile(args.tokens) if shared else None,
        names=args.allow_host,
        certificate=(str(args.certificate), str(args.key)) if args.certificate else None,
        say=console.say,
    )
    console.say(f"stopped: {why}")
    return {"stopped": why}


def _stop(console: Console) -> dict[str, Any]:
    from ..service.client import ServiceUnavailable, connect

    try:
        connect(start=False).shutdown()
    except ServiceUnavailable as error:
        if error.code != "not_running":
            raise
        console.say("no service of yours runs")
        return {"stopped": False}
    console.say("stopped")
    return {"stopped": True}


def _new_token(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..service.users import add_user

    if args.tokens is None:
        raise UsageError(args.parser, "--new-token adds to a file: name it with --tokens FILE")
    token = add_user(args.tokens, args.new_token)
    console.say(token)
    return {"name": args.new_token, "token": token}
