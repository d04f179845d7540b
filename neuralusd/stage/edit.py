"""Making prims editable, and what is written on them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from pxr import Sdf, Usd, UsdGeom

from ..scene import APPEARANCE, BACKGROUND, GEOMETRY, Asset, Scene, Tokens
from ..schema import NeuralAssetAPI, NeuralTokensAPI
from ..schema.base import to_usd
from .discover import discover_assets
from .errors import SceneError, StageWarning, TokensError
from .open import quiet
from .tokens import DIGEST_KEY, all_finite
from .views_io import write_views
from .walk import authoring_time, time_code


def editable_prim(stage: Usd.Stage, path: str) -> Usd.Prim:
    """The prim at `path`, to be authored on in the edit target. Instances around it stop being instanceable there.

    Raises:
        SceneError: there is no such prim.

    Warns:
        StageWarning: an instance was made not instanceable; names it.
    """
    prim = stage.GetPrimAtPath(path)
    if not prim or prim.IsPseudoRoot():
        raise SceneError(f"<{path}> is no prim of {stage.GetRootLayer().identifier}. Check the path.")
    while prim.IsInstanceProxy():
        instance = prim.GetParent()
        while not instance.IsInstance() or instance.IsInstanceProxy():
            instance = instance.GetParent()
        warnings.warn(
            f"<{instance.GetPath()}> is made not instanceable, so that <{path}> in it can differ. "
            "Give the instance itself the edit to keep it shared.",
            StageWarning,
            stacklevel=3,
        )
        instance.SetInstanceable(False)
        prim = stage.GetPrimAtPath(path)
    return prim


def write_tokens(
    stage: Usd.Stage, tokens: Scene | Mapping[str, Mapping[str, Tokens]], time: float | None = None
) -> None:
    """Authors NeuralAssetAPI and NeuralTokensAPI in the stage's edit target, and nothing else anywhere.

    What an asset had before of a modality is replaced; what the new tokens lack (points, say) is removed. A
    modality's `from` is left
    as it is: whose tokens an asset uses is an edit, not what an encoder saw.

    Args:
        tokens: path to modality to tokens; or a scene, whose assets' role, presence, text and box2d are authored too
        where they
            are not the fallback.
        time: time code of the arrays; None authors default values.

    Raises:
        SceneError: a path is no prim, or is one that cannot be an asset.
        TokensError: values, grid or points contradict each other or are not finite.
    """
    with quiet():
        if isinstance(tokens, Scene):
            for asset in tokens.assets:
                _write_asset(_apply(stage, asset.path), asset, time)
            tokens = {asset.path: asset.tokens for asset in tokens.assets}
        for path, sets in tokens.items():
            prim = _apply(stage, path).GetPrim()
            for modality, given in sets.items():
                _write_set(prim, modality, given, time)
            if sets.keys() & {APPEARANCE, GEOMETRY}:
                # Before any is written: they may be read from the very prim.
                write_views(prim, dict(next((given.views for given in sets.values() if given.views), {})))


def ensure_background(stage: Usd.Stage) -> str:
    """The path of the stage's background asset; defined in the edit target, an Xform `Background`, where there is
    none.
    """
    for prim in stage.Traverse(Usd.TraverseInstanceProxies()):
        if NeuralAssetAPI.schemaIdentifier in prim.GetAppliedSchemas():
            if NeuralAssetAPI(prim).GetRoleAttr().Get() == BACKGROUND:
                return str(prim.GetPath())
    root = stage.GetDefaultPrim()
    # Below a root that is an asset itself, moving the asset would move the background.
    marked = [str(p.GetPath()) for p in stage.Traverse(Usd.TraverseInstanceProxies()) if NeuralAssetAPI(p)]
    group = root and not root.IsInstance() and str(root.GetPath()) not in (marked or discover_assets(stage))
    parent = root.GetPath() if group else Sdf.Path.absoluteRootPath
    path, number = parent.AppendChild("Background"), 1
    while stage.GetPrimAtPath(path):
        path, number = parent.AppendChild(f"Background{number}"), number + 1
    with quiet():
        NeuralAssetAPI.Apply(UsdGeom.Xform.Define(stage, path).GetPrim()).CreateRoleAttr(BACKGROUND)
    return str(path)


def _apply(stage: Usd.Stage, path: str) -> NeuralAssetAPI:
    prim = editable_prim(stage, path)
    try:
        return NeuralAssetAPI.Apply(prim)
    except ValueError as error:
        raise SceneError(f"{error}. Give the prim a type, as Xform.") from error


def _write_asset(api: NeuralAssetAPI, asset: Asset, time: float | None) -> None:
    code, at = authoring_time(time), time_code(time)
    if api.GetRoleAttr().Get() != asset.role:
        api.CreateRoleAttr(asset.role)
    if not np.isclose(api.GetPresenceAttr().Get(at), asset.presence):
        api.CreatePresenceAttr().Set(float(asset.presence), code)
    if api.GetTextAttr().Get(at) != asset.text:
        api.CreateTextAttr().Set(asset.text, code)
    if asset.box2d is not None:
        api.CreateBox2dAttr().Set(to_usd(asset.box2d.array(), "float4"), code)


def _write_set(prim: Usd.Prim, modality: str, tokens: Tokens, time: float | None) -> None:
    where = f"<{prim.GetPath()}>: {modality} tokens"
    values = np.asarray(tokens.values)
    if values.ndim != 2 or not values.size:
        raise TokensError(f"{where} must be (K, D), but are of shape {values.shape}.")
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16, copy=False)
    if not all_finite(halves):
        raise TokensError(f"{where} hold NaN, infinity, or numbers too large for half precision. Check the encoder.")
    count = len(values)
    if tokens.grid[0] * tokens.grid[1] != count:
        raise TokensError(f"{where} are {count}, but their grid is {tokens.grid[0]} x {tokens.grid[1]}.")
    if tokens.points is not None and np.shape(tokens.points) != (count, 3):
        raise TokensError(f"{where} are {count}, but their points are of shape {np.shape(tokens.points)}.")
    api, code = NeuralTokensAPI.Apply(prim, modality), authoring_time(time)
    api.CreateShapeAttr(values.shape)
    api.CreateGridAttr(tokens.grid)
    api.CreateEncoderAttr(tokens.encoder)
    api.CreateRevisionAttr(tokens.revision)
    api.CreateValuesAttr().Set(to_usd(halves, "half[]"), code)
    api.GetValuesAttr().SetCustomDataByKey(DIGEST_KEY, tokens.digest)
    optional = [
        (api.GetPointsAttr(), api.CreatePointsAttr, tokens.points, "point3f[]"),
        (api.GetExtentAttr(), api.CreateExtentAttr, tokens.extent, "float3[]"),
        (api.GetCropAttr(), api.CreateCropAttr, tokens.crop, "float4"),
        (api.GetViewTransformAttr(), api.CreateViewTransformAttr, tokens.view, "matrix4d"),
        (api.GetSourceAttr(), api.CreateSourceAttr, tokens.source or None, "asset"),
    ]
    for attribute, create, value, type_name in optional:
        if value is not None:
            value = np.asarray(value, np.float32) if type_name.endswith("[]") else value
            create().Set(to_usd(value, type_name), code)
        elif attribute and attribute.HasAuthoredValue():
            attribute.Clear()
            # A weaker layer's value would belong to the old tokens.
            if attribute.HasAuthoredValue():
                attribute.Block()
