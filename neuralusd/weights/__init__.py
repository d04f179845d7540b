"""The weights that ship with neuralusd, each a folder in diffusers' format."""

from pathlib import Path


def mini() -> Path:
    """The folder of the `mini` weights: the Neural USD pipeline, for a CPU."""
    return Path(__file__).parent / "mini"


def mini_rooms() -> Path:
    """What stages that were resampled with adapters of an earlier `mini` name: `mini`, which draws rooms as well."""
    return mini()
