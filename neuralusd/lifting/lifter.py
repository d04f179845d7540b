"""Which lifters there are, and from what one makes to a textured mesh in metres: the same for all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..annotate.errors import ImageError
from ..errors import BackendError
from .mesh import surface
from .projection import seen_colors
from .shape import Cutout, Lifted, Lifter, Request, Step, TexturedMesh, place, to_metres
from .silhouette import THICKNESS, SilhouetteLifter
from .unwrap import bake, unwrap

DEFAULT_LIFTER = "silhouette"
TEXTURE_SIZES = (256, 2048)
# Of what no picture shows: texels about as wide as the cells of a volume.
TEXELS = 512
# xatlas takes half a minute for as many, and far longer for noise.
MOST_FACES = 80_000


def open_lifter(backend: str = DEFAULT_LIFTER, *, thickness: float | None = None) -> Lifter:
    """The lifter of a name.

    Args:
        thickness: of "silhouette", see `SilhouetteLifter`; None takes its own.

    Raises:
        BackendError: there is no such lifter; lists those there are.
        ValueError: the thickness is none.
    """
    lifters: dict[str, Callable[[], Lifter]] = {
        "silhouette": lambda: SilhouetteLifter(THICKNESS if thickness is None else thickness)
    }
    if str(backend) not in lifters:
        raise BackendError(f"'{backend}' is no lifter; there is: {', '.join(lifters)}")
    return lifters[str(backend)]()


def textured(
    lifted: Lifted,
    request: Request,
    height: float,
    *,
    texture_size: int | None = None,
    step: Step = lambda done: None,
) -> tuple[TexturedMesh, np.ndarray]:
    """A mesh of what a lifter made, `height` metres high, standing on y = 0, its front towards +Z.

    Args:
        request: what it was made of.
        texture_size: about how many texels the texture is wide and high; None takes as many as the first picture asks
            for.
        step: called with how much is done, 0 to 1.

    Returns:
        The mesh, and the (4, 4) transform for row vectors from the lifter's space to the mesh's.

    Raises:
        ImageError: the solid is too ragged.
    """
    points, faces, normals = surface(lifted.distance, lifted.spacing, lifted.origin)
    if len(faces) > MOST_FACES:
        name = (request.pictures[0].source if request.pictures else "") or "the picture"
        raise ImageError(
            f"{name}: the object is too ragged to lift, a surface of {len(faces)} "
            f"triangles where {MOST_FACES} are the most. Give a mask without noise, or a smaller part of the object"
        )
    step(0.3)
    texels = texture_size or (_texels(request.pictures[0]) if request.pictures else TEXELS)
    unwrapped = unwrap(points, faces, normals, texels)
    step(0.7)
    texture = bake(unwrapped, points, faces, normals, seen_colors(lifted.seen, points, faces, lifted.color))
    transform = to_metres(points, height)
    mesh = place(TexturedMesh(points, faces, normals, unwrapped.uv, unwrapped.faces, texture), transform)
    step(1.0)
    return mesh, transform


def _texels(picture: Cutout) -> int:
    """Texels for front and back of what a picture shows, one a pixel, as a power of two."""
    seen = picture.coverage >= 0.5
    longer = max(np.ptp(np.flatnonzero(seen.any(axis))) for axis in (0, 1)) + 1
    return int(np.clip(2 ** np.ceil(np.log2(1.5 * longer)), *TEXTURE_SIZES))
