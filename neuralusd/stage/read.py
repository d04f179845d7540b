"""A stage, a camera and a time to a `Scene`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdSemantics

from ..scene import BACKGROUND, FOREGROUND, Asset, Box2D, Camera, Scene
from ..schema import NeuralAssetAPI, NeuralSurfaceAPI
from .bounds import Bounds, Transforms
from .cameras import find_camera, frame_points, frame_stage, read_camera
from .discover import discover
from .errors import EmptyStageError, SceneError, StageWarning
from .open import composition_problems
from .tokens import read_tokens
from .views_io import read_surfaces
from .walk import GUIDE, Visible, time_code, visible


def read(stage: Usd.Stage, camera: str | None = None, time: float | None = None, aspect: float = 1.0) -> Scene:
    """The scene that `camera` sees at `time`.

    Its assets are the visible prims with NeuralAssetAPI; on a stage where no foreground prim has it, those that
    `discover_assets` finds. A point instancer or an instance belongs to the asset it is part of. Geometry belongs to
    the innermost asset at or above it, and an asset's extent is that of its own geometry, of purpose default and
    render (of purpose proxy where it has no other).

    Args:
        camera: path of a camera; None takes the stage's own (see `find_camera`), or frames the stage as `usdrecord`
        would
            where it has none (then `Scene.camera.path` is empty).
        time: time code; None reads the earliest: default values, and the first samples of what has only samples.
        aspect: width over height of the image; the camera's aperture is expanded to it.

    Raises:
        EmptyStageError: there is nothing to see.
        CameraError, TransformError, ExtentError, TokensError: by name what is wrong with a prim that is needed.

    Warns:
        StageWarning: an asset has neither geometry nor a box and is left out.
    """
    identifier = stage.GetRootLayer().identifier
    marked = _marked(stage)
    prims = list(visible(stage.GetPseudoRoot(), time, only=marked)) if marked else []
    roles = _roles(prims, marked)
    if FOREGROUND not in roles.values():
        prims = list(visible(stage.GetPseudoRoot(), time))
        roles = _roles(prims, marked) | {place: _role(prims[place].prim) for place in discover(prims)}
    # Traversal order, parents before children.
    places = sorted(roles)
    found = [prims[place].prim for place in places]
    backgrounds = [prims[place].prim for place in places if roles[place] == BACKGROUND]
    if len(backgrounds) > 1:
        names = " and ".join(f"<{prim.GetPath()}>" for prim in backgrounds)
        raise SceneError(f"{identifier} has several backgrounds: {names}. Leave `neural:role` = background on one.")

    poses = Transforms(stage, time).all_checked(found)
    extents = Bounds(time).extents(found, _geometry(places, prims))
    assets = []
    for place, prim, pose, extent in zip(places, found, poses, extents, strict=True):
        asset = _asset(prim, roles[place], None if roles[place] == BACKGROUND else extent, pose, time)
        if asset.role == FOREGROUND and asset.extent is None and asset.box2d is None:
            warnings.warn(
                f"<{asset.path}> is left out: it has no visible geometry, no extentsHint and no neural:box2d. "
                "Check its payloads and references, or give it one of these.",
                StageWarning,
                stacklevel=2,
            )
            continue
        assets.append(asset)
    if not assets:
        missing = " ".join(["", *composition_problems(stage)])
        raise EmptyStageError(
            f"{identifier} has no visible geometry and no prim with NeuralAssetAPI, so there is nothing to see. "
            f"Add geometry, or check visibility, purposes, variants, the time code and missing payloads.{missing}"
        )
    return Scene(
        assets=assets,
        camera=_camera(stage, camera, time, aspect, assets),
        time=time,
        source=identifier,
        up_axis=str(UsdGeom.GetStageUpAxis(stage)),
        meters_per_unit=UsdGeom.GetStageMetersPerUnit(stage),
    )


def _camera(stage: Usd.Stage, path: str | None, time: float | None, aspect: float, assets: list[Asset]) -> Camera:
    found = find_camera(stage, path)
    if found is not None:
        return read_camera(stage, found, time, aspect)
    try:
        return frame_stage(stage, time, aspect)
    except EmptyStageError:
        # No geometry to frame, but boxes: an extentsHint or a box2d is all that there is.
        corners = [asset.corners() for asset in assets if asset.extent is not None]
        return frame_points(stage, np.concatenate(corners) if corners else np.array([[-1.0] * 3, [1.0] * 3]), aspect)


def _geometry(places: list[int], prims: list[Visible]) -> list[list[Visible]]:
    """The geometry that is each asset's own; of an asset that is nothing but a group of assets, the group's."""
    own: list[list[Visible]] = [[] for _ in places]
    index, owners = {place: number for number, place in enumerate(places)}, [-1] * len(prims)
    for place, v in enumerate(prims):
        owner = owners[place] = index.get(place, owners[v.parent] if place else -1)
        if owner >= 0 and v.kind and v.purpose != GUIDE:
            own[owner].append(v)
    groups: dict[int, list[Visible]] = {number: [] for number, parts in enumerate(own) if not parts}
    out = [groups.get(number, parts) for number, parts in enumerate(own)]
    for number, parts in enumerate(own):
        above = number
        while groups and (above := owners[prims[places[above]].parent]) >= 0:
            if above in groups:
                groups[above] += parts
    return out


def _marked(stage: Usd.Stage) -> set[Sdf.Path]:
    name, prims = NeuralAssetAPI.schemaIdentifier, Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies())
    return {prim.GetPath() for prim in prims if name in prim.GetAppliedSchemas()}


def _roles(prims: list[Visible], marked: set[Sdf.Path]) -> dict[int, str]:
    """Place among the prims to role of those that are marked."""
    if not marked:
        return {}
    seen = ((place, v.prim) for place, v in enumerate(prims) if v.purpose != GUIDE)
    return {place: _role(prim) for place, prim in seen if prim.GetPath() in marked}


def _role(prim: Usd.Prim) -> str:
    return _value(prim, "neural:role", Usd.TimeCode.Default()) or FOREGROUND


def _asset(prim: Usd.Prim, role: str, extent: np.ndarray | None, pose: np.ndarray, time: float | None) -> Asset:
    code = time_code(time)
    asset = Asset(str(prim.GetPath()), pose, extent, role=role, labels=_labels(prim, code))
    # Most assets that are found have nothing authored, and so what the dataclass has by itself.
    if prim.GetAuthoredPropertiesInNamespace("neural"):
        box, presence = _value(prim, "neural:box2d", code), _value(prim, "neural:presence", code)
        if box is not None and extent is None:
            asset.box2d = Box2D(*(float(b) for b in box))
        asset.presence = 1.0 if presence is None else float(presence)
        asset.text = _value(prim, "neural:text", code) or ""
    asset.tokens = read_tokens(prim, time)
    shape = prim if asset.shape_prim == asset.path else prim.GetStage().GetPrimAtPath(asset.shape_prim)
    if asset.tokens and NeuralSurfaceAPI(shape):
        asset.surfaces = read_surfaces(shape, time)
    return asset


def _value(prim: Usd.Prim, name: str, code: Usd.TimeCode) -> Any:
    """None where there is no such attribute."""
    return prim.GetAttribute(name).Get(code)


def _labels(prim: Usd.Prim, code: Usd.TimeCode) -> tuple[str, ...]:
    labels: list[str] = []
    for taxonomy in UsdSemantics.LabelsAPI.GetDirectTaxonomies(prim):
        labels += [str(x) for x in UsdSemantics.LabelsAPI(prim, taxonomy).GetLabelsAttr().Get(code) or []]
    return tuple(dict.fromkeys(labels))
