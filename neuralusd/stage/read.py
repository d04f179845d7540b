"""A stage, a camera and a time to a `Scene`."""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import Any

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdSemantics

from ..scene import BACKGROUND, FOREGROUND, Asset, Box2D, Camera, Scene
from ..schema import NeuralAssetAPI
from .bounds import Bounds, Transforms
from .cameras import find_camera, frame_points, frame_stage, read_camera
from .discover import discover
from .errors import EmptyStageError, SceneError, StageWarning
from .open import composition_problems
from .tokens import read_tokens
from .walk import GUIDE, PROXY, Owners, Visible, time_code, visible


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
    prims = list(visible(stage.GetPseudoRoot(), time))
    marked = [v for v in prims if v.purpose != GUIDE and _is_marked(v.prim)]
    found = {v.prim.GetPath(): v.prim for v in marked}
    if not any(_role(v.prim) == FOREGROUND for v in marked):
        found |= {Sdf.Path(path): stage.GetPrimAtPath(path) for path in discover(prims)}
    backgrounds = [path for path, prim in found.items() if _role(prim) == BACKGROUND]
    if len(backgrounds) > 1:
        names = " and ".join(f"<{path}>" for path in backgrounds)
        raise SceneError(f"{identifier} has several backgrounds: {names}. Leave `neural:role` = background on one.")
    paths = [v.prim.GetPath() for v in prims if v.prim.GetPath() in found]

    transforms = Transforms(stage, time)
    poses = {path: transforms.checked(found[path]) for path in paths}
    boxes = _extents([found[path] for path in paths], prims, time)
    assets = []
    for path in paths:
        asset = _asset(found[path], boxes[path], poses[path], time)
        if asset.role == FOREGROUND and asset.extent is None and asset.box2d is None:
            warnings.warn(
                f"<{path}> is left out: it has no visible geometry, no extentsHint and no neural:box2d. "
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


def _extents(assets: list[Usd.Prim], prims: list[Visible], time: float | None) -> dict[Sdf.Path, np.ndarray | None]:
    """Path to (2, 3) extent, or None, of each asset from the geometry that is its own."""
    paths = [prim.GetPath() for prim in assets]
    owners = Owners([str(path) for path in paths])
    own: dict[int, list[Visible]] = defaultdict(list)
    groups: dict[int, list[Visible]] = defaultdict(list)
    for v in prims:
        if v.kind and v.purpose != GUIDE:
            index = owners.index(v.prim.GetPath())
            own[index].append(v)
            # An asset that is nothing but a group of assets has the box of the group.
            while index >= 0:
                index = owners.index(paths[index].GetParentPath())
                groups[index].append(v)
    usual, proxies = Bounds(time), Bounds(time, ("default", PROXY))
    out = {}
    for index, prim in enumerate(assets):
        geometry = own[index] or groups[index]
        only_proxies = {v.purpose for v in geometry} == {PROXY}
        drawn = [v for v in geometry if only_proxies or v.purpose != PROXY]
        extent = (proxies if only_proxies else usual).extent(prim, drawn)
        out[prim.GetPath()] = None if _role(prim) == BACKGROUND else extent
    return out


def _is_marked(prim: Usd.Prim) -> bool:
    return NeuralAssetAPI.schemaIdentifier in prim.GetAppliedSchemas()


def _role(prim: Usd.Prim) -> str:
    attribute = NeuralAssetAPI(prim).GetRoleAttr()
    return (attribute.Get() if attribute else None) or FOREGROUND


def _asset(prim: Usd.Prim, extent: np.ndarray | None, pose: np.ndarray, time: float | None) -> Asset:
    code, api = time_code(time), NeuralAssetAPI(prim)

    def get(attribute: Usd.Attribute, fallback: Any) -> Any:
        value = attribute.Get(code) if attribute else None
        return fallback if value is None else value

    box = get(api.GetBox2dAttr(), None)
    return Asset(
        path=str(prim.GetPath()),
        local_to_world=pose,
        extent=extent,
        box2d=Box2D(*(float(b) for b in box)) if box is not None and extent is None else None,
        role=_role(prim),
        presence=float(get(api.GetPresenceAttr(), 1.0)),
        text=get(api.GetTextAttr(), ""),
        labels=_labels(prim, code),
        tokens=read_tokens(prim, time),
    )


def _labels(prim: Usd.Prim, code: Usd.TimeCode) -> tuple[str, ...]:
    labels: list[str] = []
    for taxonomy in UsdSemantics.LabelsAPI.GetDirectTaxonomies(prim):
        labels += [str(x) for x in UsdSemantics.LabelsAPI(prim, taxonomy).GetLabelsAttr().Get(code) or []]
    return tuple(dict.fromkeys(labels))
