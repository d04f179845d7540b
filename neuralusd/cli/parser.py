"""Reading arguments: a parser whose errors are exceptions, and the types of values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..sizes import LARGEST_SIDE
from ..video import VIDEOS

# What may be written `--move PATH VALUE` as well as `--move PATH=VALUE`.
PAIRED = {"--move", "--rotate", "--scale", "--presence", "--appearance", "--geometry", "--replace"}
NUMBERS = re.compile(r"-[.\d][-+.,:x\deE]*")
EXIT_STATUS = "exit status: 0 done; 1 failed, the message says what and the cure; 2 wrong\nusage; 130 cancelled."


class UsageError(Exception):
    """Wrong usage; of which parser, and what is wrong."""

    def __init__(self, parser: argparse.ArgumentParser, message: str):
        super().__init__(message)
        self.parser, self.message = parser, message


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError, and can add its arguments when it is first used.

    Args:
        load: called with the parser when it is first used.
    """

    def __init__(self, *args: Any, load: Callable[[Parser], None] | None = None, **kwargs: Any):
        kwargs = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(*args, **kwargs)
        self._load = load

    def error(self, message: str) -> NoReturn:
        raise UsageError(self, message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        load, self._load = self._load, None
        if load is not None:
            load(self)
        return super().parse_known_args(args, namespace)


def add_command(
    commands: Any,
    name: str,
    run: Callable[..., dict[str, Any]],
    summary: str,
    description: str,
    examples: str,
    load: Callable[[Parser], None] | None = None,
) -> Parser:
    """A command's parser; `run` takes the arguments and the console, and returns the command's result."""
    parser: Parser = commands.add_parser(
        name, help=summary, description=description, epilog=f"{examples}\n{EXIT_STATUS}", load=load
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_global_options(parser: argparse.ArgumentParser, defaults: bool = False) -> None:
    """Options that stand before or after the command's name."""
    group = parser.add_argument_group("all commands")
    for flag, text in (
        ("--json", "print one JSON object on stdout: the result, or error and kind"),
        ("--quiet", "no notes and no progress"),
        ("--debug", "tracebacks, and the warnings of all libraries"),
    ):
        group.add_argument(flag, action="store_true", default=False if defaults else argparse.SUPPRESS, help=text)


def ready(arguments: Sequence[str]) -> list[str]:
    """Arguments as argparse can read them.

    `--move PATH VALUE` becomes `--move PATH=VALUE`, and numbers that begin with a minus get a space before them, or
    they would be options.
    """
    out: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        out.append(f" {word}" if NUMBERS.fullmatch(word) else word)
        if word in PAIRED and len(rest) > 1 and "=" not in rest[0] and not re.match(r"--?[A-Za-z]", rest[1]):
            out.append(f"{rest.pop(0)}={rest.pop(0)}")
    return out


# -- types of values ------------------------------------------------------------------------------------------------


def number(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{value} is not a finite number")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{value:g} is not above 0")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number of at least 1")
    return value


def few(text: str) -> int:
    """A whole number of 0 to 64."""
    value = int(text)
    if not 0 <= value <= 64:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number of 0 to 64")
    return value


def seed(text: str) -> int:
    """A whole number of 0 to 2**63 - 1, which is what a stage can hold."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number of 0 to 2**63 - 1")
    return value


def pair(kind: Callable[[str], Any], form: str) -> Callable[[str], tuple[str, Any]]:
    """A type that reads PATH=VALUE, the value by `kind`; `form` says to people how it is written."""

    def read(text: str) -> tuple[str, Any]:
        path, equals, value = text.partition("=")
        if not (equals and path.strip() and value.strip()):
            raise argparse.ArgumentTypeError(f"'{text.strip()}' is not of the form {form}")
        try:
            return path.strip(), kind(value.strip())
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{path.strip()}: {error}") from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text.strip()}' is not of the form {form}") from error

    return read


def vector(text: str) -> tuple[float, float, float]:
    """Three finite numbers, x,y,z."""
    x, y, z = (number(part) for part in text.split(","))
    return x, y, z


def box(text: str) -> tuple[float, float, float, float]:
    """Four finite numbers, x,y,h,w."""
    x, y, h, w = (number(part) for part in text.split(","))
    return x, y, h, w


def once(parser: argparse.ArgumentParser, flag: str, pairs: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Pairs as a dictionary. Raises UsageError where a path is there twice."""
    out: dict[str, Any] = {}
    for path, value in pairs or ():
        if path in out:
            raise UsageError(parser, f"argument {flag}: {path} is given twice")
        out[path] = value
    return out


def frames(text: str) -> list[float]:
    """Time codes of a specification as usdrecord's: 5, or 1:24, or 1:24x2, or several of these with commas."""
    out: list[float] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?[\d.]+)(?::(-?[\d.]+)(?:x(-?[\d.]+))?)?\s*", part)
        try:
            first, last, stride = (None if piece is None else number(piece) for piece in match.groups())  # type: ignore
        except (AttributeError, ValueError):
            raise argparse.ArgumentTypeError(f"'{text.strip()}' is not of the form 5, 1:24, 1:24x2 or 1,3,7") from None
        if first is None or last is None:
            out += [] if first is None else [first]
            continue
        step = stride if stride is not None else (1.0 if last >= first else -1.0)
        if step == 0 or (last - first) / step < 0:
            raise argparse.ArgumentTypeError(f"'{part.strip()}' never comes from {first:g} to {last:g}")
        out += [first + index * step for index in range(math.floor((last - first) / step + 1e-9) + 1)]
    return out


def size(text: str) -> tuple[int, int] | int:
    """Pixels: width and height as 1280x720, or the longer side alone."""
    match = re.fullmatch(r"\s*(\d{1,9})(?:\s*[xX×]\s*(\d{1,9}))?\s*", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text.strip()}' is not of the form 1280x720, or 720 for the longer side")
    sides = [int(side) for side in match.groups() if side is not None]
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise argparse.ArgumentTypeError(f"'{text.strip()}': a side has 1 to {LARGEST_SIDE} pixels")
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def png(text: str) -> Path:
    """A PNG file to write."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text} is not a PNG; end its name in .png")
    return path


def png_or_video(text: str) -> Path:
    """A PNG or a video to write."""
    path = Path(text)
    if path.suffix.lower() not in (".png", *VIDEOS):
        raise argparse.ArgumentTypeError(f"{text} is neither a PNG nor a video; end its name in .png, .mp4 or .mov")
    return path
