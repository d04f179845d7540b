"""What a stage's RenderSettings prim says about neural rendering, and how large its images are."""

from __future__ import annotations

import math
import operator
from typing import Any

from pxr import Gf, Usd, UsdGeom, UsdRender

from ..errors import SceneError
from ..schema import NeuralRenderSettingsAPI
from ..sizes import LARGEST_SIDE
from .cameras import find_camera, from_gf
from .walk import time_code


def render_settings(stage: Usd.Stage) -> dict[str, Any]:
    """`backend`, `steps`, `guidance` and `seed` of the stage's render settings, those that are authored.

    The settings are those that the stage's metadata name, as for every renderer.
    """
    settings = UsdRender.Settings.GetStageRenderSettings(stage)
    prim = settings.GetPrim() if settings else None
    api = NeuralRenderSettingsAPI(prim) if prim else None
    if not api:
        return {}
    attributes = {
        "backend": api.GetBackendAttr(),
        "steps": api.GetStepsAttr(),
        "guidance": api.GetGuidanceAttr(),
        "seed": api.GetSeedAttr(),
    }
    return {name: attribute.Get() for name, attribute in attributes.items() if attribute.HasAuthoredValue()}


def image_size(
    stage: Usd.Stage, camera: str | None = None, size: tuple[int, int] | int | None = None, longest: int = 512
) -> tuple[int, int]:
    """(width, height) in pixels of an image of a stage.

    Where `size` says nothing, the resolution of the stage's render settings does, or of the first of their products
    that has one of its own and shows the camera; else the camera's aperture, `longest` pixels on the longer side.
    Pixels are square: where the settings' are not (`pixelAspectRatio`), the image is as much wider.

    Args:
        camera: path of the camera; None takes the stage's own, or the lens that a stage without one is framed with.
        size: (width, height); or one number, the longer side of an image of the shape that the stage has.

    Raises:
        SceneError: a side is not a whole number of 1 to 16384. CameraError: `camera` is none, or has no aperture.
    """
    if size is None or isinstance(size, int):
        path = find_camera(stage, camera)
        resolution = _resolution(stage, path)
        if size is None and resolution is not None:
            width, height, where = resolution
            return _side(math.floor(width + 0.5), where), _side(math.floor(height + 0.5), where)
        aspect = _aspect(stage, path) if resolution is None else resolution[0] / resolution[1]
        longer = _side(longest if size is None else size, "`size`")
        # A sliver is a pixel thin at least.
        shorter = max(1, math.floor(longer * min(aspect, 1 / aspect) + 0.5))
        return (longer, shorter) if aspect >= 1 else (shorter, longer)
    try:
        width, height = size
    except (TypeError, ValueError):
        raise SceneError(f"`size` is {size!r}. Give it as (width, height) in pixels.") from None
    return _side(width, "`size`"), _side(height, "`size`")


def _side(value: Any, where: str) -> int:
    try:
        side = operator.index(value)
    except TypeError:
        side = 0
    if not 1 <= side <= LARGEST_SIDE:
        raise SceneError(f"{where}: a side of {value} pixels cannot be rendered. Give 1 to {LARGEST_SIDE}.")
    return side


def _resolution(stage: Usd.Stage, camera: str | None) -> tuple[float, float, str] | None:
    """Width and height in square pixels that the stage's render settings ask for, and which prim says so."""
    settings = UsdRender.Settings.GetStageRenderSettings(stage)
    if not settings:
        return None
    own = settings.GetCameraRel().GetForwardedTargets()
    asked: list[UsdRender.SettingsBase] = [settings]
    for target in settings.GetProductsRel().GetForwardedTargets():
        product = UsdRender.Product(stage.GetPrimAtPath(target))
        if product and str(next(iter(product.GetCameraRel().GetForwardedTargets() or own), camera)) == str(camera):
            asked.insert(-1, product)
    for base in asked:
        resolution = _authored(base.GetResolutionAttr())
        if resolution is None:
            continue
        where = f"<{base.GetPath()}>"
        # A product that is silent about its pixels has those of the settings.
        ratios = (_authored(each.GetPixelAspectRatioAttr()) for each in (base, settings))
        ratio = next((value for value in ratios if value is not None), 1.0)
        width, height = (_side(side, f"{where}, resolution") for side in resolution)
        if not (math.isfinite(ratio) and ratio > 0):
            raise SceneError(f"{where}: its pixelAspectRatio is {ratio}. Give it a positive number.")
        return width * ratio, float(height), where
    return None


def _authored(attribute: Usd.Attribute) -> Any:
    return attribute.Get(time_code(None)) if attribute.HasAuthoredValue() else None


def _aspect(stage: Usd.Stage, path: str | None) -> float:
    """Width over height of a camera's aperture; without a path, of the lens that `frame_stage` has."""
    camera = Gf.Camera() if path is None else UsdGeom.Camera(stage.GetPrimAtPath(path)).GetCamera(time_code(None))
    read = from_gf(camera, UsdGeom.GetStageMetersPerUnit(stage), path or "")
    return read.horizontal_aperture / read.vertical_aperture
