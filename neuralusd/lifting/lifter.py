"""Which lifters there are, and from what one makes to a textured mesh in metres: the same for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..annotate.errors import ImageError
from ..errors import BackendError
from .mesh import surface
from .projection import seen_colors
from .shape import Cutout, Lifted, Lifter, Request, Step, TexturedMesh, place, to_metres
from .silhouette import THICKNESS, SilhouetteLifter
from .unwrap import bake, unwrap

SILHOUETTE, MINI = "silhouette", "mini"
MINI_FOLDER = Path(__file__).parents[1] / "weights" / "mini_lift"
TEXTURE_SIZES = (256, 2048)
# Of what no picture shows: texels about as wide as the cells of a volume.
TEXELS = 512
# xatlas takes half a minute for as many, and far longer for noise.
MOST_FACES = 80_000


def default_lifter(pictures: int, text: str = "", sampled: bool = False) -> str:
    """The name of the lifter that is taken where none is named: of one picture alone the outline, which is quick and
    never fails; of several, of words, of nothing, or where candidates are asked for, the learned one."""
    return SILHOUETTE if pictures == 1 and not text and not sampled else MINI


def open_lifter(backend: str | Path, *, thickness: float | None = None) -> Lifter:
    """The lifter of a name, a folder, or a hub id.

    Args:
        backend: "mini", the learned one; "silhouette"; a folder of a `LiftPipeline` or of a diffusers pipeline of
            Shap-E; a hub id of Shap-E, as openai/shap-e (words) or openai/shap-e-img2img (pictures).
        thickness: of "silhouette", see `SilhouetteLifter`; None takes its own.

    Raises:
        BackendError: there is no such lifter, or its weights cannot be had or are of another kind.
        ValueError: the thickness is none, or it is not for this lifter.
    """
    name = str(backend)
    if name == SILHOUETTE:
        return SilhouetteLifter(THICKNESS if thickness is None else thickness)
    if thickness is not None:
        raise ValueError(
            f"a thickness is for the lifter '{SILHOUETTE}' alone, and '{name}' has its own. Leave it out, or take "
            f"'{SILHOUETTE}'."
        )
    if name == MINI:
        return _learned(MINI_FOLDER, MINI)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _of_folder(folder, name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from .shap_e import ShapELifter

        return ShapELifter(name)
    raise BackendError(
        f"'{name}' is no lifter; there is: {SILHOUETTE}, {MINI}; a folder of weights; or a hub id of Shap-E, as "
        "openai/shap-e"
    )


def _of_folder(folder: Path, name: str) -> Lifter:
    from .shap_e import KINDS, ShapELifter, pipeline_class, read_index

    kind = pipeline_class(read_index(str(folder))[0])
    if kind == "LiftPipeline":
        return _learned(folder, name)
    if kind in KINDS:
        return ShapELifter(folder)
    known = ", ".join(["LiftPipeline", *KINDS])
    raise BackendError(f"{name} holds a {kind or 'pipeline without a name'}, which does not lift; these do: {known}")


def _learned(folder: Path, name: str) -> Lifter:
    from .volume import VolumeLifter

    if not (folder / "model_index.json").is_file():
        raise BackendError(
            f"no weights of the lifter '{name}' are in {folder}. Those of '{MINI}' come along with neuralusd: install "
            f"it again; or train some with `neuralusd train --config lift-mini`, or take '{SILHOUETTE}'"
        )
    return VolumeLifter(folder, name)


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
        ImageError: the solid is empty, or too ragged.
    """
    name = (request.pictures[0].source or "the picture") if request.pictures else "what was drawn"
    drawn = "" if request.pictures else "another seed, or "
    try:
        points, faces, normals = surface(lifted.distance, lifted.spacing, lifted.origin)
    except ValueError as error:
        raise ImageError(f"{name}: {error}. Give {drawn}another picture or text") from error
    if len(faces) > MOST_FACES:
        raise ImageError(
            f"{name}: the object is too ragged to lift, a surface of {len(faces)} triangles where {MOST_FACES} are the "
            f"most. Give {drawn}a mask without noise, or a smaller part of the object"
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
