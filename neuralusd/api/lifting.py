"""`lift`: pictures of an object to a prim with a mesh, colours and tokens."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pxr import Usd

from .. import stage as stages
from ..annotate.place import prim_names
from ..backends import DEFAULT_BACKEND, load_backend
from ..errors import SceneError
from ..lifting import (
    DEFAULT_HEIGHT,
    DEFAULT_LIFTER,
    Cutout,
    Lifter,
    Request,
    TexturedMesh,
    cut_out,
    open_lifter,
    place_camera,
    spread,
    textured,
    typical_height,
)
from ..lifting.cutout import Mask, Picture
from ..lifting.glb import write_glb
from ..scene import Camera, Tokens
from ..stage.asset import LAYERS, Provenance, add_camera, build_asset, write_asset
from .encoding import encode
from .progress import Progress, report

# Of the reported steps: cutting out, lifting to a solid, its textured mesh, tokens, writing.
_STEPS, _CUT, _LIFTED, _MADE, _ENCODED = 100, 5, 75, 92, 97
OUTPUTS = (*LAYERS, ".usdz", ".glb")
HIGHEST = 1e5


class LiftWarning(UserWarning):
    """Something about a picture or about the object in it was assumed or left out."""


def lift(
    images: Picture | Sequence[Picture],
    output: str | Path | None = None,
    *,
    backend: str = DEFAULT_LIFTER,
    name: str | None = None,
    height: float | None = None,
    mask: Mask | Sequence[Mask | None] | None = None,
    segmenter: str | Path | None = None,
    detector: str | Path | None = None,
    prompt: str | Sequence[str] | None = None,
    thickness: float | None = None,
    texture_size: int | None = None,
    tokens: str | Path | None = DEFAULT_BACKEND,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Usd.Stage:
    """A 3D asset of what a picture shows: a stage whose default prim is an Xform with a closed, textured mesh.

    The asset is Y up, in metres, stands on y = 0 centred about x = z = 0, and faces +Z, from where the picture was
    taken. It is a component with NeuralAssetAPI, its provenance, and tokens of the picture, so that `render` shows it
    beside encoded assets wherever it is referenced.

    The "silhouette" lifter, the only one yet, extrudes the outline to a rounded solid; docs/lift.md says what it
    cannot know.

    Args:
        images: a picture of the object: a file, a PIL image, or an array (H, W, 3 or 4) of uint8, or of floats in
            0..1; sRGB. Or a list of them, as many as the lifter takes; "silhouette" takes one.
        output: .usda, .usdc or .usd, with the texture beside it in `textures`; .usdz or .glb, which hold it. None
            keeps the stage in memory: its mesh has its colours point by point then.
        backend: the lifter's name.
        name: what the object is, in words ("red armchair"): its prim's name, its text, its semantics label. None takes
            the detector's label, and else names the prim after the picture's file.
        height: in metres. None takes the typical one of what `name`, or else the file's name, says that it is, or 1.
        mask: of the object, white where it is: a file, an image, or an array (H, W). None takes the picture's alpha;
            without any, see `segmenter`. For several pictures, a list.
        segmenter: hub id or local folder of a transformers model that takes boxes (SAM and its kin). None cuts pictures
            whose border is of nearly one colour by that, and refuses others.
        detector: likewise, of one that finds the object's box; `prompt` says what it looks for.
        thickness: of "silhouette": how thick the object is at most, as a part of its outline's smaller side, above 0
            to 1; 0.7 by default.
        texture_size: about how many texels the texture is wide and high, 64 to 8192; None takes as many as the picture
            is worth.
        tokens: the backend whose tokens the prim gets (see `find_backend`); None gives it none.
        seed: of lifters that draw random numbers.
        overwrite: take the place of files at `output`.
        progress: called as the work goes on; may cancel.

    Returns:
        The stage at `output`, saved; of a .glb, the same asset as a stage in memory.

    Raises:
        ImageError, ModelError: what is wrong with the picture, the mask or a model.
        SceneError: an argument is out of range, or `output` exists or cannot be written. BackendError: there is no such
            lifter, or the weights of `tokens` are wrong. Cancelled: `progress` asked for it. Nothing is written then.

    Warns:
        LiftWarning: what was assumed or left out.
    """
    pictures, masks = _inputs(images, mask)
    _check(height, texture_size, seed)
    try:
        lifter = open_lifter(backend, thickness=thickness)
    except ValueError as error:
        if isinstance(error, SceneError) or thickness is None:
            raise
        raise SceneError(str(error)) from error
    if len(pictures) > lifter.most:
        said = "one picture" if lifter.most == 1 else f"{lifter.most} pictures"
        raise SceneError(f"the lifter '{lifter.name}' takes {said}, and there are {len(pictures)}. Leave some out.")
    target = None if output is None else _target(output, overwrite)
    if tokens is not None:
        load_backend(tokens)  # before the work that takes long: a wrong backend shows at once
    report(progress, 0, _STEPS)
    cutouts = [
        cut_out(picture, mask=each, segmenter=segmenter, detector=detector, prompt=prompt)
        for picture, each in zip(pictures, masks, strict=True)
    ]
    report(progress, _CUT, _STEPS)
    first = cutouts[0]
    label = (name or first.label).strip()
    request = Request(cutouts, label, seed)
    lifted = lifter(request, lambda done: report(progress, _CUT + int(done * (_LIFTED - _CUT)), _STEPS))
    height, note = _height(height, label, first.source, lifted.height)
    mesh, transform = textured(
        lifted,
        request,
        height,
        texture_size=texture_size,
        step=lambda done: report(progress, _LIFTED + int(done * (_MADE - _LIFTED)), _STEPS),
    )
    view = place_camera(lifted.view, transform)
    for said in [*(note for cutout in cutouts for note in cutout.notes), *lifted.notes, *note]:
        warnings.warn(said, LiftWarning, stacklevel=2)
    [prim] = prim_names([label or _stem(first.source)])
    found = {} if tokens is None else _tokens(mesh, view, first, prim, label, tokens)
    report(progress, _ENCODED, _STEPS)
    stage = _finish(mesh, found, cutouts, prim, label, lifter, seed, target)
    report(progress, _STEPS, _STEPS)
    return stage


def _inputs(
    images: Picture | Sequence[Picture], mask: Mask | Sequence[Mask | None] | None
) -> tuple[list[Picture], list[Mask | None]]:
    pictures: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images]
    masks: list[Any] = list(mask) if isinstance(mask, (list, tuple)) else [mask]
    if mask is None:
        masks *= len(pictures)
    if not pictures:
        raise SceneError("there is no picture to lift. Give one.")
    if len(masks) != len(pictures):
        raise SceneError(f"there are {len(pictures)} pictures and {len(masks)} masks. Give a mask for each.")
    return pictures, masks


def _check(height: float | None, texture_size: int | None, seed: int) -> None:
    if height is not None and not (_is_number(height) and 0 < height <= HIGHEST):
        raise SceneError(f"a height of {height} is none. Give the object's height in metres, above 0.")
    if texture_size is not None and not (_is_number(texture_size) and 64 <= texture_size <= 8192):
        raise SceneError(f"a texture of {texture_size} texels is none. Give a size of 64 to 8192.")
    if not (_is_number(seed) and 0 <= seed < 2**63):
        raise SceneError(f"{seed} is no seed. Give a whole number of 0 to 2**63 - 1.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _target(output: str | Path, overwrite: bool) -> Path:
    """Where the asset goes. Raises SceneError where it cannot, or where files are there that nobody said to replace."""
    path = Path(os.path.abspath(output))
    if path.suffix.lower() not in OUTPUTS:
        names = ", ".join(suffix[1:] for suffix in OUTPUTS)
        raise SceneError(f"{output} cannot be written: its extension is none of {names}. Name it so.")
    files = [path, *([path.parent / _texture(path)] if path.suffix.lower() in LAYERS else [])]
    for file in files:
        if file.is_dir():
            raise SceneError(f"{file} is a folder. Name a file in it.")
        if file.exists() and not overwrite:
            raise SceneError(f"{file} exists. Name another file, or ask for it to be overwritten (--overwrite).")
    return path


def _texture(layer: Path) -> str:
    """Where a layer's texture stands, relative to it: its own name, without what asset paths do not take."""
    stem = re.sub(r"[^\w.-]+", "_", layer.stem)
    if stem != layer.stem:
        stem += "_" + hashlib.sha256(layer.stem.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"textures/{stem}.png"


def _stem(source: str) -> str:
    return Path(source).stem if source else ""


def _height(height: float | None, label: str, source: str, learned: float | None) -> tuple[float, list[str]]:
    """Metres, and where they come from when nobody said."""
    if height is not None:
        return float(height), []
    metres, word = typical_height(label)
    where = ""
    if not word:
        # A file's name runs words together: redChair_02.
        metres, word = typical_height(re.sub(r"([a-z])([A-Z])|[_\d]+", r"\1 \2", _stem(source)))
        where = ", by its file's name"
    said = f"as a {word} usually is{where}"
    if not word and learned is not None:
        metres, said = float(learned), "as the lifter guesses"
    elif not word:
        metres, said = DEFAULT_HEIGHT, "for want of a better guess"
    return metres, [f"the object was made {metres:.3g} m high, {said}; say how high it is"]


def _tokens(
    mesh: TexturedMesh, view: Camera, picture: Cutout, prim: str, label: str, backend: str | Path
) -> dict[str, Tokens]:
    """The tokens of an asset as the picture shows it, by modality."""
    scratch = build_asset(mesh, prim, label=label)
    camera = add_camera(scratch, "/View", view)
    # Pixels at the outline are partly background, and would be encoded as part of the object.
    color = spread(picture.color, picture.coverage >= 0.5)
    image = PIL.Image.fromarray((color * 255 + 0.5).astype(np.uint8))
    encode(scratch, camera, image=image, assets=[f"/{prim}"], backend=backend)
    return stages.read(scratch, camera).asset(f"/{prim}").tokens


def _finish(
    mesh: TexturedMesh,
    tokens: dict[str, Tokens],
    cutouts: Sequence[Cutout],
    prim: str,
    label: str,
    lifter: Lifter,
    seed: int,
    target: Path | None,
) -> Usd.Stage:
    """The asset as a stage, written to `target` where there is one."""
    pictures: dict[str, np.ndarray] = {}
    packed, extension = False, target.suffix.lower() if target else ""
    if extension in (*LAYERS, ".usdz"):
        packed = extension == ".usdz"
        pictures[f"textures/{prim}.png" if packed else _texture(target)] = mesh.texture  # type: ignore[arg-type]
    texture = next((f"./{path}" for path in pictures), None)
    if packed:  # what is within can be found again wherever the package goes
        sources = [f"./sources/{prim}{number or ''}.png" for number in range(len(cutouts))]
        pictures |= {path[2:]: cutout.rgba() for path, cutout in zip(sources, cutouts, strict=True)}
    else:
        sources = [_relative(cutout.source, target) for cutout in cutouts if cutout.source]
    made = Provenance(
        verb="lift",
        backend=lifter.name,
        revision=lifter.revision,
        seed=seed if lifter.seeded else None,
        sources=sources,
        versions=_versions(),
    )
    stage = build_asset(mesh, prim, label=label, texture=texture, provenance=made)
    for each in tokens.values():
        each.source = next(iter(sources), "")
    if tokens:
        stages.write_tokens(stage, {f"/{prim}": tokens})
    if target is None:
        return stage
    if extension == ".glb":
        extras = {"verb": "lift", "backend": lifter.name, "revision": lifter.revision, "label": label}
        write_glb(mesh, target, prim, {"neuralusd": {**extras, "versions": made.versions}})
        return stage
    return write_asset(stage, target, pictures)


def _relative(source: str, target: Path | None) -> str:
    """A picture's file as an asset path relative to the asset; absolute where that is in memory or a package."""
    path = os.path.abspath(source)
    if target is None or target.suffix.lower() not in LAYERS:
        return path.replace(os.sep, "/")
    relative = os.path.relpath(path, target.parent).replace(os.sep, "/")
    return relative if relative.startswith("../") else f"./{relative}"


def _versions() -> list[str]:
    found = []
    for name in ("neuralusd", "usd-core", "scikit-image", "manifold3d", "xatlas"):
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
