"""A picture of an object to a textured mesh: cut out, lifted to a solid, meshed, unwrapped, baked. No USD, no torch.

`cut_out` gives the object without its background, `open_lifter` the way from pictures to a solid, and `textured` does
the rest, which is the same for every lifter.
"""

from .cutout import cut_out
from .lifter import DEFAULT_LIFTER, open_lifter, textured
from .outline import spread
from .shape import Cutout, Lifted, Lifter, TexturedMesh
from .size import DEFAULT_HEIGHT, typical_height

__all__ = [
    "DEFAULT_HEIGHT",
    "DEFAULT_LIFTER",
    "Cutout",
    "Lifted",
    "Lifter",
    "TexturedMesh",
    "cut_out",
    "open_lifter",
    "spread",
    "textured",
    "typical_height",
]
