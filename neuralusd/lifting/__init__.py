"""A picture of an object to a textured mesh: cut out, lifted to a solid, meshed, unwrapped, baked. No USD, no torch.

`cut_out` gives the object without its background, `open_lifter` the way from a `Request` to a solid, and `textured`
does the rest, which is the same for every lifter.
"""

from .cutout import cut_out
from .lifter import default_lifter, open_lifter, textured
from .outline import spread
from .shape import (
    IMAGE,
    NOTHING,
    TEXT,
    Candidate,
    Cutout,
    Lifted,
    Lifter,
    Radiance,
    Request,
    TexturedMesh,
    VolumeCode,
    place_camera,
)
from .size import DEFAULT_HEIGHT, typical_height

__all__ = [
    "DEFAULT_HEIGHT",
    "IMAGE",
    "NOTHING",
    "TEXT",
    "Candidate",
    "Cutout",
    "Lifted",
    "Lifter",
    "Radiance",
    "Request",
    "TexturedMesh",
    "VolumeCode",
    "cut_out",
    "default_lifter",
    "open_lifter",
    "place_camera",
    "spread",
    "textured",
    "typical_height",
]
