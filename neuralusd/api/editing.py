"""`edit` on stages, and the layer that an edit is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pxr import Sdf, Usd, UsdGeom

from .. import stage as stages
from ..errors import EditError
from ..schema import NeuralAssetAPI
from .shots import BASE_KEY, open_shot


def edit(
    stage: Usd.Stage,
    *,
    move: Mapping[str, Sequence[float]] | None = None,
    rotate: Mapping[str, float] | None = None,
    scale: Mapping[str, float] | None = None,
    appearance: Mapping[str, str] | None = None,
    geometry: Mapping[str, str] | None = None,
    replace: Mapping[str, str] | None = None,
    presence: Mapping[str, float] | None = None,
    box: Mapping[str, Sequence[float]] | None = None,
    background: str | None = None,
    time: float | None = None,
) -> None:
    """Edits a stage, as USD opinions on its edit target.

    Args:
        move: prim to an offset in metres along the world's axes.
        rotate: prim to degrees about the up axis through its origin. scale: prim to a factor.
        presence: prim to 0 (gone) .. 1.
        box: prim without a place in space, as of a photograph without depth, to (x, y, h, w) in the image, normalised.
        appearance, geometry: prim to the prim whose tokens it takes; replace: both. A prim of another stage is written
            "other.usda:/World/Bottle"; its tokens may be in that stage's sidecar.
        background: the prim (of this or another stage) whose background replaces this one.
        time: time code of the poses read and written. None changes a prim's pose, or all of its motion where it is
            animated.

    Raises:
        EditError: what cannot be done, to which prim, and what could.
    """
    for path in {**(move or {}), **(rotate or {}), **(scale or {})}:
        _require_place(stage, path)
    for path, offset in (move or {}).items():
        for code in _pose_times(stage, path, time):
            stages.move(stage, path, offset, code)
    for path, degrees in (rotate or {}).items():
        for code in _pose_times(stage, path, time):
            stages.rotate(stage, path, degrees, code)
    for path, factor in (scale or {}).items():
        for code in _pose_times(stage, path, time):
            stages.scale(stage, path, factor, code)
    for path, value in (presence or {}).items():
        stages.set_presence(stage, path, value)
    for path, place in (box or {}).items():
        stages.set_box(stage, path, place, time)
    for modality, pairs in (("appearance", appearance), ("geometry", geometry)):
        for path, donor in {**(replace or {}), **(pairs or {})}.items():
            stages.take_tokens(stage, path, modality, _donor(donor))
    if background is not None:
        stages.replace_background(stage, _donor(background), time)


def edit_over(base: str | Path, output: str | Path, *, overwrite: bool = False) -> Usd.Stage:
    """A new layer at `output` over the stage `base`, as a stage that edits it.

    `render` keeps what the edit leaves alone. The layer stands over the base's sidecar where the tokens are there.
    Nothing is on disk before the stage is saved, and no other layer is touched.

    Args:
        overwrite: begin anew where there is an `output`; otherwise that is edited further.

    Raises:
        SceneError: `output` is part of the base, or exists and is not a layer over it; StageOpenError.
    """
    below = open_shot(base)
    source = below.GetRootLayer().realPath
    target = os.path.abspath(output)
    if any(os.path.realpath(target) == os.path.realpath(layer.realPath) for layer in below.GetUsedLayers()):
        raise EditError(f"{output} is part of {base}, so it cannot be an edit over it. Name another file to write to.")
    # Held, since USD forgets a layer that nobody holds.
    begun = _begin(target, source) if overwrite else None
    stage = stages.sidecar(source, target)
    layer = stage.GetRootLayer()
    [reference, *_] = (path for path in layer.subLayerPaths if layer.ComputeAbsolutePath(path) == source)
    # Not only where it is missing: `sidecar` copies the base's custom data, and an edit's base may be an edit.
    if layer.customLayerData.get(BASE_KEY) != reference:
        layer.customLayerData = {**layer.customLayerData, BASE_KEY: reference}
    del begun
    return stage


def _begin(target: str, source: str) -> Sdf.Layer | None:
    """An empty layer over `source` in place of the file at `target`, whatever that holds; on disk when it is saved."""
    layer = Sdf.Layer.Find(target)
    if layer is None and os.path.exists(target):
        file_format = Sdf.FileFormat.FindByExtension(target)
        if file_format is None or not file_format.SupportsWriting():
            return None
        layer = Sdf.Layer.New(file_format, target)
    if layer is not None:
        layer.Clear()
        layer.subLayerPaths.append("./" + os.path.relpath(source, os.path.dirname(target)).replace(os.sep, "/"))
    return layer


def _donor(name: str) -> str:
    """A donor's name, its file that of the sidecar where the tokens are there."""
    file, colon, path = name.rpartition(":")
    return f"{open_shot(file).GetRootLayer().realPath}:{path}" if colon and file else name


def _require_place(stage: Usd.Stage, path: str) -> None:
    """Raises EditError for an asset whose pose is a box in the image: an xformOp would change nothing."""
    prim = stage.GetPrimAtPath(path) if Sdf.Path.IsValidPathString(path) else None
    if not prim or not NeuralAssetAPI(prim) or not NeuralAssetAPI(prim).GetBox2dAttr().HasAuthoredValue():
        return
    if any(asset.path == path and asset.extent is None for asset in stages.read(stage).assets):
        raise EditError(
            f"<{path}> has a box in the image and no place in space, so it cannot be moved, turned or scaled. "
            "Change that box (--box), or encode its photograph with depth."
        )


def _pose_times(stage: Usd.Stage, path: str, time: float | None) -> list[float | None]:
    """The time codes at which a prim's pose is to be changed."""
    if time is not None or not Sdf.Path.IsValidPathString(path):
        return [time]
    prim = stage.GetPrimAtPath(path)
    samples = UsdGeom.Xformable(prim).GetTimeSamples() if prim and prim.IsA(UsdGeom.Xformable) else []
    return list(samples) or [None]
