"""Which lifters there are, and from what one makes to a textured mesh in metres: the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..annotate.errors import ImageError
from ..errors import BackendError
from ..scene import Camera
from .mesh import surface
from .shape import Cutout, Lifter, Step, TexturedMesh, place
from .silhouette import THICKNESS, SilhouetteLifter
from .unwrap import bake, unwrap

DEFAULT_LIFTER = "silhouette"
TEXTURE_SIZES = (256, 2048)
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
    lifter: Lifter,
    pictures: Sequence[Cutout],
    height: float,
    *,
    seed: int = 0,
    texture_size: int | None = None,
    step: Step = lambda done: None,
) -> tuple[TexturedMesh, Camera, list[str]]:
    """A mesh of what pictures of one object show, `height` metres high, standing on y = 0, seen from +Z.

    Args:
        texture_size: about how many texels the texture is wide and high; None takes as many as the first picture asks
            for.
        step: called with how much is done, 0 to 1.

    Returns:
        The mesh; the camera that took the first picture, in the same space; and what was assumed, a sentence each.

    Raises:
        ImageError: what is wrong with a picture.
    """
    lifted = lifter(pictures, seed=seed, step=lambda done: step(0.3 * done))
    points, faces, normals = surface(lifted.distance, lifted.spacing, lifted.origin)
    if len(faces) > MOST_FACES:
        raise ImageError(
            f"{pictures[0].source or 'the picture'}: the object is too ragged to lift, a surface of {len(faces)} "
            f"triangles where {MOST_FACES} are the most. Give a mask without noise, or a smaller part of the object"
        )
    step(0.5)
    unwrapped = unwrap(points, faces, normals, texture_size or _texels(pictures[0]))
    step(0.8)
    texture = bake(unwrapped, points, faces, normals, lifted.color)
    mesh = TexturedMesh(points, faces, normals, unwrapped.uv, unwrapped.faces, texture)
    mesh, view = place(mesh, lifted.view, height)
    step(1.0)
    return mesh, view, [*pictures[0].notes, *lifted.notes]


def _texels(picture: Cutout) -> int:
    """Texels for front and back of what a picture shows, one a pixel, as a power of two."""
    seen = picture.coverage >= 0.5
    longer = max(np.ptp(np.flatnonzero(seen.any(axis))) for axis in (0, 1)) + 1
    return int(np.clip(2 ** np.ceil(np.log2(1.5 * longer)), *TEXTURE_SIZES))
