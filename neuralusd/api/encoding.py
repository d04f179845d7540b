"""`encode` on stages and photographs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pxr import Usd

from .. import stage as stages
from ..annotate import annotate, to_scene
from ..backends import DEFAULT_BACKEND, load_backend
from ..errors import SceneError
from ..scene import APPEARANCE, BACKGROUND, GEOMETRY, Passes, Scene, reindexed
from ..schema import NeuralAssetAPI, NeuralTokensAPI
from ..stage.errors import EmptyStageError
from ..stage.tokens import DIGEST_KEY
from ..surfaces.capture import LARGEST as LARGEST_VIEW
from .pictures import LARGEST, open_picture
from .progress import Progress, report

_PHASES = 4


class PhotoWarning(UserWarning):
    """Something about a photograph was assumed, left out, or looks odd."""


@dataclass
class Encoded:
    """What `encode` did.

    Attributes:
        encoded: paths of the assets encoded anew. unchanged: of those whose tokens still hold. unseen: of those that
            the camera does not see.
        camera: path of the camera; empty where the stage has none and was framed (`framed`).
    """

    encoded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    camera: str = ""

    @property
    def framed(self) -> bool:
        """Whether the stage has no camera, so that it was framed as `usdrecord` would."""
        return not self.camera


def encode(
    stage: Usd.Stage,
    camera: str | None = None,
    time: float | None = None,
    *,
    image: str | Path | PIL.Image.Image | None = None,
    albedo: str | Path | PIL.Image.Image | None = None,
    views: int = 0,
    size: tuple[int, int] | int | None = None,
    passes: Passes | None = None,
    assets: Sequence[str] | None = None,
    backend: str | Path | None = None,
    force: bool = False,
    source: str | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """Gives every asset that a camera sees its tokens, on the stage's edit target.

    The picture is rendered from the stage's own geometry and base colours by ray casting, unless there is an image.

    Args:
        camera: path of a camera; None takes the stage's own, or frames the stage where it has none (`Encoded.framed`).
        time: time code; None reads the earliest.
        image: a photograph or a rendering of this stage by this camera, its colours in place of the base colours. The
            camera's aperture is expanded to its aspect.
        albedo: the plain base colours that the same camera sees, without light, beside `image`: of a renderer whose
            materials USD does not say. Display-referred sRGB, as `image`.
        views: how many more views are taken of each object, all around it, of its base colours: so that it knows its
            other sides also where another stage takes its look.
        size: (width, height) of the picture in pixels, or its longer side; None takes the image's own, else the stage's
            RenderSettings, else the camera's shape with 512 pixels on the longer side. At most 1024.
        passes: who is seen where and how deep, in place of ray casting (for a stage whose prims have boxes, not
            geometry); its `ids` index `read(stage, camera, time, aspect).assets`, where aspect is the passes' own.
        assets: paths of the assets to encode; None takes all. A prim that is none yet becomes one.
        backend: see `find_backend`; None takes the one of the stage's render settings, else `mini`.
        force: encode also what has not changed since it was last encoded with this backend.
        source: recorded in the tokens as what they were seen in; None takes the image's file.
        progress: called as the work goes on; may cancel.

    Raises:
        SceneError and its kin: what is wrong with which prim. BackendError: what is wrong with the weights.
    """
    pipeline = load_backend(backend or stages.render_settings(stage).get("backend") or DEFAULT_BACKEND)
    picture = None if image is None else open_picture(image)
    if source is None:
        source = _asset_path(stage, image) if isinstance(image, (str, Path)) else ""
    report(progress, 1, _PHASES)
    if albedo is not None and picture is None:
        raise SceneError("base colours (`albedo`) are of the picture that is encoded; give the `image` too.")
    if passes is None:
        width, height = _size(stage, camera, picture, size)
        aspect = width / height
    else:
        aspect = passes.ids.shape[1] / passes.ids.shape[0]
    found = scene = stages.read(stage, camera, time, aspect)
    if _mark(stage, found, assets or ()):
        scene = stages.read(stage, camera, time, aspect)
    for path in set(assets or ()) - {asset.path for asset in scene.assets}:
        raise SceneError(f"<{path}> has no visible geometry and no box, so there is nothing of it to encode.")
    report(progress, 2, _PHASES)
    # What is seen now is where it is now.
    scene.assets = [replace(asset, surfaces={}) for asset in scene.assets]
    if passes is None:
        passes = stages.render_passes(stage, scene, height, width, everywhere=False)
        passes = replace(passes, lit=False) if picture is None else replace(passes, base=None, shaded=passes.color)
    else:
        paths = [asset.path for asset in found.assets]
        passes = replace(passes, ids=reindexed(passes.ids, paths, scene))
    shape = (passes.ids.shape[1], passes.ids.shape[0])
    if picture is not None:
        passes = replace(passes, color=_resized(picture, shape))
    if albedo is not None:
        passes = replace(passes, base=_resized(open_picture(albedo), shape))
    if not (passes.ids >= 0).any() and not np.isfinite(passes.depth).any():
        raise EmptyStageError(
            f"camera <{scene.camera.path}> sees none of the geometry of {scene.source}. Name another camera or frame, "
            "or check its clipping range; the boxes of a photograph are encoded with the photograph."
        )
    report(progress, 3, _PHASES)
    known = {} if force else _digests(stage, scene)
    around = stages.orbit_views(stage, scene, views, assets) if views else {}
    result = pipeline.encode(scene, passes, assets=assets, source=source, known=known, views=around)
    stages.write_tokens(stage, result.tokens)
    surfaces = stages.surfaces_of(stage, scene)
    for path in result.tokens.keys() & surfaces.keys():
        stages.write_surfaces(stage.GetPrimAtPath(path), surfaces[path])
    report(progress, _PHASES, _PHASES)
    return Encoded(sorted(result.tokens), sorted(result.unchanged), sorted(result.unseen), scene.camera.path)


def encode_photo(
    image: str | Path,
    output: str | Path,
    *,
    backend: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Usd.Stage:
    """A photograph as a stage at `output`: a prim with a box and tokens for each object, the background, the camera.

    The stage is saved, and the photograph recorded in the tokens, relative to it.

    Args:
        image: a file. backend: see `find_backend`; None takes `mini`. overwrite: take the place of a file at `output`.
        progress: called as the work goes on; may cancel.
        options: of `neuralusd.annotate.annotate`: detector and segmenter, or masks; depth or depth_map; prompts;
            field_of_view; and more.

    Raises:
        ImageError, ModelError: what is wrong with the photograph, a mask, the depth or a model.
        SceneError: `output` exists, or cannot be written. BackendError: what is wrong with the weights.

    Warns:
        PhotoWarning: what was assumed about the photograph, or left out.
    """
    if not overwrite and os.path.exists(output):
        raise SceneError(f"{output} exists. Name another file, or ask for it to be overwritten (--overwrite).")
    load_backend(backend or DEFAULT_BACKEND)  # before the models that take long: a wrong backend shows at once
    annotation = annotate(image, **{"max_size": LARGEST, "progress": False, **options})
    for note in annotation.notes:
        warnings.warn(note, PhotoWarning, stacklevel=2)
    scene, passes = to_scene(annotation)
    paths = [asset.path for asset in scene.assets]
    for asset in scene.foreground:
        if asset.extent is None and asset.box2d is None:
            warnings.warn(f"<{asset.path}> is left out: others' masks cover all of it", PhotoWarning, stacklevel=2)
    scene.assets = [a for a in scene.assets if a.extent is not None or a.box2d is not None or a.role == BACKGROUND]
    stage = stages.create_stage(scene, output)
    found = stages.read(stage, scene.camera.path, aspect=passes.ids.shape[1] / passes.ids.shape[0])
    passes = replace(passes, ids=reindexed(passes.ids, paths, found))
    encode(
        stage,
        scene.camera.path,
        passes=passes,
        backend=backend,
        source=_asset_path(stage, image),
        progress=progress,
    )
    stages.save(stage)
    return stage


def _size(
    stage: Usd.Stage, camera: str | None, picture: PIL.Image.Image | None, size: tuple[int, int] | int | None
) -> tuple[int, int]:
    """Width and height of the passes."""
    width, height = stages.image_size(stage, camera, size) if picture is None or size is not None else picture.size
    every = max(1.0, max(width, height) / LARGEST_VIEW)
    return max(round(width / every), 1), max(round(height / every), 1)


def _resized(picture: PIL.Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) in 0..1 of a picture at `size` (width, height)."""
    resized = picture if picture.size == size else picture.resize(size, PIL.Image.Resampling.LANCZOS)
    return np.asarray(resized.convert("RGB"), np.float32) / 255


def _mark(stage: Usd.Stage, scene: Scene, named: Sequence[str]) -> bool:
    """Applies NeuralAssetAPI to the scene's assets and to prims that were named, and defines a background.

    All of them at once: on a stage with marked assets, prims that are not are none. Returns whether it did anything.
    """
    if scene.background is None:
        stages.ensure_background(stage)
    paths = dict.fromkeys([*(asset.path for asset in scene.assets), *named])
    new = [path for path in paths if not (path.startswith("/") and NeuralAssetAPI(stage.GetPrimAtPath(path)))]
    stages.write_tokens(stage, {path: {} for path in new})
    return bool(new) or scene.background is None


def _digests(stage: Usd.Stage, scene: Scene) -> Mapping[str, Mapping[str, str]]:
    """Path to modality to the digest of the asset's own tokens, which may not be those that it shows (`from`)."""
    out: dict[str, dict[str, str]] = {}
    for asset in scene.assets:
        prim = stage.GetPrimAtPath(asset.path)
        for tokens in (NeuralTokensAPI(prim, modality) for modality in (APPEARANCE, GEOMETRY)):
            digest = tokens.GetValuesAttr().GetCustomDataByKey(DIGEST_KEY) if tokens else None
            if digest:
                out.setdefault(asset.path, {})[tokens.GetName()] = digest
    return out


def _asset_path(stage: Usd.Stage, file: str | Path) -> str:
    """A file as an asset path relative to the layer that is written to; absolute where that is in memory."""
    layer = stage.GetEditTarget().GetLayer()
    target = os.path.abspath(file)
    if layer.anonymous:
        return target
    path = os.path.relpath(target, os.path.dirname(os.path.abspath(layer.realPath or layer.identifier)))
    path = path.replace(os.sep, "/")
    return path if path.startswith("../") else f"./{path}"
