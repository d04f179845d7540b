"""The weights that ship with neuralusd, each a folder in diffusers' format."""

from pathlib import Path


def mini() -> Path:
    """The folder of the `mini` weights: the Neural USD pipeline at 128x128, for a CPU."""
    return Path(__file__).parent / "mini"


def mini_rooms() -> Path:
    """The folder of the adapters that make `mini` draw furnished rooms better."""
    return Path(__file__).parent / "mini_rooms" / "renderer"
