"""What the commands say, and to whom: results to stdout; notes, progress and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from .parser import UsageError

if TYPE_CHECKING:
    from tqdm import tqdm

DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130


class CommandError(Exception):
    """A command cannot do what it was asked for; the message is a sentence with the cure."""


class Console:
    """Where a command's words go.

    Args:
        as_json: one JSON object on stdout in place of text. quiet: no notes and no progress.
        debug: tracebacks, and every warning of every library.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False, debug: bool = False):
        self.as_json, self.quiet, self.debug = as_json, quiet, debug
        self.status = DONE
        self.notes: list[str] = []

    # -- while a command works ------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A line of the result, for people."""
        if not self.as_json:
            _write(text, sys.stdout)

    def note(self, text: str) -> None:
        """A line on stderr, once: what was assumed, found or left out."""
        text = " ".join(text.split())
        if text in self.notes:
            return
        self.notes.append(text)
        if not self.quiet:
            _write(f"note: {text}", sys.stderr)

    @contextmanager
    def bar(self, total: int | None, what: str, unit: str = "step") -> Iterator[tqdm]:
        """A progress bar on stderr, where that is a terminal."""
        from tqdm import tqdm

        hidden = self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, desc=what, unit=unit, disable=hidden, dynamic_ncols=True) as bar:
            yield bar

    # -- from the first to the last -------------------------------------------------------------------------------

    def run(self, command: Callable[[], dict[str, Any]]) -> int:
        """Runs a command and prints what it returns, or what went wrong. Returns the exit status."""
        try:
            with self._calm():
                result = command()
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, BrokenPipeError):
                raise
            if isinstance(error, UsageError):
                self.usage(error)
                return USAGE
            if self.debug:
                traceback.print_exc()
            return self.error(error)
        if self.as_json:
            print(json.dumps({**result, "notes": self.notes}, default=str), flush=True)
        return self.status

    def error(self, error: BaseException) -> int:
        """Says what went wrong. Returns the exit status."""
        kind, message, status = _explain(error)
        if self.as_json:
            print(json.dumps({"error": message, "kind": kind}), flush=True)
        _write(f"neuralusd: {'' if status == CANCELLED else 'error: '}{message}", sys.stderr)
        return status

    def usage(self, error: UsageError) -> None:
        """Says how a command is used."""
        if self.as_json:
            print(json.dumps({"error": error.message, "kind": "UsageError"}), flush=True)
        _write(f"{error.parser.prog}: error: {error.message}\nTry: {error.parser.prog} --help", sys.stderr)

    @contextmanager
    def _calm(self) -> Iterator[None]:
        """Our warnings become notes; those of libraries and of USD are for --debug."""
        if self.debug:
            yield
            return
        for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
            os.environ.setdefault(name, "error")
        if self.quiet or not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from ..stage.open import quiet

        with ExitStack() as stack:
            stack.enter_context(quiet())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.showwarning = self._show_warning
            yield

    def _show_warning(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.partition(".")[0] == "neuralusd":
            self.note(str(message))


def _write(text: str, stream: TextIO) -> None:
    if "tqdm" in sys.modules:  # a bar that is shown stays below
        from tqdm import tqdm

        tqdm.write(text, file=stream)
        stream.flush()
    else:
        print(text, file=stream, flush=True)


def _explain(error: BaseException) -> tuple[str, str, int]:
    """Kind, message in one line, and exit status."""
    from ..errors import BackendError, SceneError

    kind = type(error).__name__
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt) or kind == "Cancelled":
        return "Cancelled", "cancelled; what is finished is whole", CANCELLED
    if isinstance(error, (CommandError, SceneError, BackendError)):
        return kind, text, FAILED
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return kind, f"{os.fsdecode(where)}: {error.strerror}" if where else error.strerror, FAILED
    if isinstance(error, OSError) and text:
        return kind, text, FAILED
    if isinstance(error, ImportError):
        return kind, f"{text}. `neuralusd doctor` lists what is installed.", FAILED
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return kind, f"memory ran out ({text or kind}). Close something, or ask for less at a time.", FAILED
    return kind, f"a bug of neuralusd: {kind}: {text}. Run it again with --debug, and report what that says.", FAILED
