"""`lift`: pictures of an object, words, or nothing, to a prim with a mesh, colours and tokens."""

from __future__ import annotations

import importlib.metadata
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
from ..errors import BackendError, SceneError
from ..images import save_image
from ..lifting import (
    DEFAULT_HEIGHT,
    Candidate,
    Cutout,
    Lifted,
    Lifter,
    Request,
    TexturedMesh,
    cut_out,
    default_lifter,
    open_lifter,
    place_camera,
    spread,
    textured,
    typical_height,
)
from ..lifting.cutout import Mask, Picture
from ..lifting.gaussians import gaussians_of
from ..lifting.glb import write_glb
from ..lifting.sheet import contact_sheet
from ..lifting.viewpoint import portrait
from ..scene import Camera, Tokens
from ..stage.asset import LAYERS, Provenance, add_camera, build_asset, write_asset
from ..stage.gaussians import offer_gaussians
from ..stage.volume import write_volume
from . import lift_request as asked
from .encoding import encode
from .outputs import sheet_target
from .progress import Progress, report

# Of the reported steps: cutting out, lifting to a solid, its textured mesh, tokens, writing.
_STEPS, _CUT, _LIFTED, _MADE, _ENCODED = 100, 5, 75, 92, 97


class LiftWarning(UserWarning):
    """Something about a picture or about the object in it was assumed or left out."""


def lift(
    images: Picture | Sequence[Picture] | None = None,
    output: str | Path | None = None,
    *,
    text: str | None = None,
    backend: str | Path | Lifter | None = None,
    name: str | None = None,
    height: float | None = None,
    mask: Mask | Sequence[Mask | None] | None = None,
    segmenter: str | Path | None = None,
    detector: str | Path | None = None,
    prompt: str | Sequence[str] | None = None,
    thickness: float | None = None,
    texture_size: int | None = None,
    tokens: str | Path | None = DEFAULT_BACKEND,
    gaussians: bool = False,
    seed: int = 0,
    candidates: int | None = None,
    steps: int | None = None,
    sheet: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Usd.Stage:
    """A 3D asset of what pictures show, of what words say, or of nothing at all: a stage whose default prim is an Xform
    with a closed, textured mesh.

    The asset is Y up, in metres, stands on y = 0 centred about x = z = 0, and faces +Z. It is a component with
    NeuralAssetAPI, its provenance, and tokens, so that `render` shows it beside encoded assets wherever it is
    referenced. A lifter that makes volumes leaves its own as a NeuralVolume; see `neuralusd.stage.read_volume`.

    docs/lift.md says what each lifter can do, and what it cannot know.

    Args:
        images: a picture of the object: a file, a PIL image, or an array (H, W, 3 or 4) of uint8, or of floats in
            0..1; sRGB. Or a list of them, as many as the lifter takes. None makes it of `text`, or without one of
            nothing.
        output: .usda, .usdc or .usd, with the texture beside it in `textures`; .usdz or .glb, which hold it. None
            keeps the stage in memory: its mesh has its colours point by point then.
        text: what to make, in words ("a red armchair"), for lifters that take words; with pictures, for those that
            take both.
        backend: the lifter: a name, a hub id or a local folder (see `open_lifter`), or one that is open. None takes
            "silhouette" for one picture alone, and "mini" for all else, also where `candidates`, `steps` or `sheet` are
            asked for.
        name: what the object is, in words ("red armchair"): its prim's name, its text, its semantics label. None takes
            `text`, or the detector's label, and else names the prim after the picture's file.
        height: in metres. None takes the typical one of what `name`, or else the file's name, says that it is; else
            the lifter's guess, or 1.
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
        gaussians: offer it as 3D Gaussian splats, too, as the variant "gaussians" of "representation".
        seed: of lifters that draw random numbers.
        candidates: how many such a lifter draws, of which the best match with the picture is taken. steps: of its
            sampler. None takes the lifter's own.
        sheet: a .png for a picture of the candidates, best first.
        overwrite: take the place of files at `output` and `sheet`.
        progress: called as the work goes on; may cancel.

    Returns:
        The stage at `output`, saved; of a .glb, the same asset as a stage in memory.

    Raises:
        ImageError, ModelError: what is wrong with the picture, the mask or a model.
        SceneError: an argument is out of range, the lifter makes nothing of such sources, or `output` exists or cannot
            be written. BackendError: there is no such lifter, or the weights are wrong. Cancelled: `progress` asked
            for it. Nothing is written then.

    Warns:
        LiftWarning: what was assumed or left out.
    """
    pictures, masks = asked.sources(images, mask)
    asked.check_numbers(height, texture_size, seed, candidates, steps)
    words = asked.check_text(text)
    target, sheet_file = asked.target(output, gaussians, overwrite), sheet_target(sheet, overwrite)
    if backend is None:
        sampled = any(value is not None for value in (candidates, steps, sheet))
        backend = default_lifter(len(pictures), words, sampled and thickness is None)
    lifter = _open(backend, thickness)
    asked.check_sources(lifter, len(pictures), words)
    asked.check_sampling(lifter, candidates=candidates, steps=steps, sheet=sheet)
    if tokens is not None:
        load_backend(tokens)  # before the work that takes long: a wrong backend shows at once
    report(progress, 0, _STEPS)
    cutouts = [
        cut_out(picture, mask=each, segmenter=segmenter, detector=detector, prompt=prompt)
        for picture, each in zip(pictures, masks, strict=True)
    ]
    report(progress, _CUT, _STEPS)
    first = cutouts[0] if cutouts else None
    source = first.source if first else ""
    label = (name or _thing(words) or (first.label if first else "")).strip()
    request = Request(cutouts, words, int(seed), candidates, steps)
    lifted = lifter(request, lambda done: report(progress, _CUT + int(done * (_LIFTED - _CUT)), _STEPS))
    height, note = _height(height, label, source, lifted.height)
    mesh, transform = textured(
        lifted,
        request,
        height,
        texture_size=texture_size,
        step=lambda done: report(progress, _LIFTED + int(done * (_MADE - _LIFTED)), _STEPS),
    )
    for said in [*(note for cutout in cutouts for note in cutout.notes), *lifted.notes, *note]:
        warnings.warn(said, LiftWarning, stacklevel=2)
    [prim] = prim_names([label or _stem(source)])
    view = place_camera(lifted.view, transform)
    found = {} if tokens is None else _tokens(mesh, view, first, prim, label, tokens)
    report(progress, _ENCODED, _STEPS)
    made = _provenance(lifter, request, words, cutouts, prim, target)
    stage, files = _build(mesh, lifted, transform, prim, label, made, target, gaussians)
    for each in found.values():
        each.source = next(iter(made.sources), "")
    if found:
        stages.write_tokens(stage, {f"/{prim}": found})
    if target is not None and target.suffix.lower() == ".usdz":
        files |= {path[2:]: cutout.rgba() for path, cutout in zip(made.sources, cutouts, strict=True)}
    stage = _save(stage, mesh, files, prim, label, made, target, sheet_file, lifted, cutouts)
    if progress is not None:  # too late to cancel: it is written
        progress(_STEPS, _STEPS)
    return stage


def _open(backend: str | Path | Lifter, thickness: float | None) -> Lifter:
    if not isinstance(backend, (str, Path)):
        return backend
    try:
        return open_lifter(backend, thickness=thickness)
    except ValueError as error:
        if isinstance(error, (SceneError, BackendError)) or thickness is None:
            raise
        raise SceneError(str(error)) from error


def _thing(text: str) -> str:
    """What a text names, without its article."""
    return re.sub(r"^(an?|the)\s+", "", text, flags=re.IGNORECASE).rstrip(".!")


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
    mesh: TexturedMesh, view: Camera, picture: Cutout | None, prim: str, label: str, backend: str | Path
) -> dict[str, Tokens]:
    """The tokens of an asset as the picture shows it, or without one as it looks itself; by modality."""
    scratch = build_asset(mesh, prim, label=label)
    camera = add_camera(scratch, "/View", view)
    image = None
    if picture is not None:
        # Pixels at the outline are partly background, and would be encoded as part of the object.
        color = spread(picture.color, picture.coverage >= 0.5)
        image = PIL.Image.fromarray((color * 255 + 0.5).astype(np.uint8))
    encode(scratch, camera, image=image, assets=[f"/{prim}"], backend=backend)
    return stages.read(scratch, camera).asset(f"/{prim}").tokens


def _provenance(
    lifter: Lifter, request: Request, words: str, cutouts: Sequence[Cutout], prim: str, target: Path | None
) -> Provenance:
    if target is not None and target.suffix.lower() == ".usdz":  # within, so that they are there wherever it goes
        sources = [f"./sources/{prim}{number or ''}.png" for number in range(len(cutouts))]
    else:
        sources = [_relative(cutout.source, target) for cutout in cutouts if cutout.source]
    return Provenance(
        verb="lift",
        prompt=words,
        backend=lifter.name,
        revision=lifter.revision,
        seed=request.seed if lifter.seeded else None,
        sources=sources,
        versions=_versions(lifter),
    )


def _build(
    mesh: TexturedMesh,
    lifted: Lifted,
    transform: np.ndarray,
    prim: str,
    label: str,
    made: Provenance,
    target: Path | None,
    gaussians: bool,
) -> tuple[Usd.Stage, dict[str, np.ndarray]]:
    """The asset as a stage, without its tokens; and its texture, by the path that it is written to."""
    files: dict[str, np.ndarray] = {}
    if target is not None and target.suffix.lower() != ".glb":
        packed = target.suffix.lower() == ".usdz"
        files[f"textures/{prim}.png" if packed else asked.texture_path(target)] = mesh.texture
    texture = next((f"./{path}" for path in files), None)
    stage = build_asset(mesh, prim, label=label, texture=texture, provenance=made)
    if lifted.code is not None:
        write_volume(stage, f"/{prim}/Volume", lifted.code, lifted.code.to_lifter @ transform)
    if gaussians:
        own = mesh.points @ np.linalg.inv(transform)[:3, :3] + np.linalg.inv(transform)[3, :3]
        splats = gaussians_of(lifted, own, mesh.faces, transform)
        offer_gaussians(stage, stage.GetDefaultPrim(), stage.GetPrimAtPath(f"/{prim}/Mesh"), splats)
    return stage, files


def _save(
    stage: Usd.Stage,
    mesh: TexturedMesh,
    files: dict[str, np.ndarray],
    prim: str,
    label: str,
    made: Provenance,
    target: Path | None,
    sheet: Path | None,
    lifted: Lifted,
    cutouts: Sequence[Cutout],
) -> Usd.Stage:
    """The stage, written to `target` where there is one, and the candidates to `sheet`; both, or neither."""
    new = sheet is not None and not sheet.exists()
    try:
        if sheet is not None:
            _save_sheet(sheet, lifted, cutouts)
        if target is None:
            return stage
        if target.suffix.lower() != ".glb":
            return write_asset(stage, target, files)
        extras: dict[str, Any] = {"verb": "lift", "backend": made.backend, "revision": made.revision, "label": label}
        extras |= {"prompt": made.prompt} if made.prompt else {}
        extras |= {} if made.seed is None else {"seed": made.seed}
        write_glb(mesh, target, prim, {"neuralusd": {**extras, "versions": list(made.versions)}})
        return stage
    except BaseException:
        if sheet is not None and new:
            sheet.unlink(missing_ok=True)
        raise


def _save_sheet(sheet: Path, lifted: Lifted, cutouts: Sequence[Cutout]) -> None:
    drawn = lifted.candidates or [
        Candidate(0.0, portrait(lifted.distance, lifted.origin, lifted.spacing, lifted.color, lifted.view))
    ]
    try:
        save_image(contact_sheet(drawn, cutouts), sheet)
    except OSError as error:
        raise SceneError(f"{sheet} cannot be written: {error.strerror}. Check its folder's permissions.") from error


def _relative(source: str, target: Path | None) -> str:
    """A picture's file as an asset path relative to the asset; absolute where that is in memory or a package."""
    path = os.path.abspath(source)
    if target is None or target.suffix.lower() not in LAYERS:
        return path.replace(os.sep, "/")
    relative = os.path.relpath(path, target.parent).replace(os.sep, "/")
    return relative if relative.startswith("../") else f"./{relative}"


def _versions(lifter: Lifter) -> list[str]:
    names = ["neuralusd", "usd-core", "scikit-image", "manifold3d", "xatlas"]
    found = []
    for name in [*names, "torch", "diffusers"] if lifter.seeded else names:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
