"""Cameras of a stage as `neuralusd.scene.Camera`."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdRender, UsdUtils

from ..scene import Camera
from .errors import CameraError, EmptyStageError
from .walk import time_code


def find_cameras(stage: Usd.Stage) -> list[str]:
    """Paths of all cameras on the stage, in traversal order, those inside instances too."""
    prims = Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies())
    return [str(prim.GetPath()) for prim in prims if prim.IsA(UsdGeom.Camera)]


def find_camera(stage: Usd.Stage, path: str | None = None) -> str | None:
    """The camera at `path`; without one, the camera that the stage itself would be rendered with.

    That is, in this order: the camera of the stage's render settings, of its render products, the camera a host last
    looked through (`customLayerData`'s `cameraSettings`), USD's primary camera name, the first camera found.

    Returns:
        The camera's path, or None where the stage has no camera.

    Raises:
        CameraError: `path` is not a camera; the message lists those there are.
    """
    if path is not None:
        prim = stage.GetPrimAtPath(str(path)) if str(path).startswith("/") else None
        if not prim or not prim.IsA(UsdGeom.Camera):
            kind = f"a {prim.GetTypeName() or 'prim without a type'}, no camera" if prim else "no prim"
            known = ", ".join(f"<{c}>" for c in find_cameras(stage)) or "none"
            raise CameraError(
                f"<{path}> is {kind} of {stage.GetRootLayer().identifier}. Name one of its cameras: {known}."
            )
        return str(prim.GetPath())
    for candidate in _preferred(stage):
        prim = stage.GetPrimAtPath(candidate)
        if prim and prim.IsA(UsdGeom.Camera):
            return str(prim.GetPath())
    cameras = find_cameras(stage)
    primary = [c for c in cameras if c.rsplit("/", 1)[-1] == UsdUtils.GetPrimaryCameraName()]
    return next(iter(primary or cameras), None)


def _preferred(stage: Usd.Stage) -> list[str]:
    """Paths that the stage's render settings and layer metadata name as their camera; they need not exist."""
    paths = []
    settings = UsdRender.Settings.GetStageRenderSettings(stage)
    if settings:
        paths += settings.GetCameraRel().GetForwardedTargets()
        for product in settings.GetProductsRel().GetForwardedTargets():
            paths += UsdRender.Product(stage.GetPrimAtPath(product)).GetCameraRel().GetForwardedTargets()
    host = stage.GetRootLayer().customLayerData.get("cameraSettings")
    if isinstance(host, dict) and str(host.get("boundCamera", "")).startswith("/"):
        paths.append(host["boundCamera"])
    return [str(p) for p in paths]


def read_camera(stage: Usd.Stage, path: str, time: float | None = None, aspect: float = 1.0) -> Camera:
    """The camera at `path`, its aperture fitted to `aspect` (width over height).

    As `Gf.Camera.frustum` does, the camera's scale and shear are dropped and a mirrored one is un-mirrored.

    Raises:
        CameraError: `path` is not a camera, or the camera's values make no picture.
    """
    path = find_camera(stage, path) or ""
    gf_camera = UsdGeom.Camera(stage.GetPrimAtPath(path)).GetCamera(time_code(time))
    return from_gf(gf_camera, UsdGeom.GetStageMetersPerUnit(stage), path).fitted(_checked(aspect))


def from_gf(camera: Gf.Camera, meters_per_unit: float, path: str = "") -> Camera:
    """A `Gf.Camera` in scene units as a `Camera` in metres.

    Raises:
        CameraError: its transform is singular or not finite, or an aperture, the focal length or the clipping range is
            not a positive number.
    """
    where = f"camera <{path}>"
    transform = np.array(camera.transform)
    if not np.isfinite(transform).all() or abs(np.linalg.det(transform[:3, :3])) < 1e-30:
        raise CameraError(f"{where}: its transform is singular or not finite. Give it a scale that is not zero.")
    world_to_camera = np.array(camera.frustum.ComputeViewMatrix())
    world_to_camera[3, :3] *= meters_per_unit
    orthographic = camera.projection == Gf.Camera.Orthographic
    # Orthographic apertures are tenths of scene units; perspective ones only ever meet the focal length, in the same
    # unit.
    unit = Gf.Camera.APERTURE_UNIT * meters_per_unit if orthographic else 1.0
    values = {
        "focalLength": camera.focalLength,
        "horizontalAperture": camera.horizontalAperture,
        "verticalAperture": camera.verticalAperture,
        "clippingRange": camera.clippingRange.max,
    }
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0) and not (orthographic and name == "focalLength"):
            raise CameraError(f"{where}: its {name} is {value}. Give it a positive number.")
    return Camera(
        world_to_camera=world_to_camera,
        focal_length=camera.focalLength,
        horizontal_aperture=camera.horizontalAperture * unit,
        vertical_aperture=camera.verticalAperture * unit,
        horizontal_aperture_offset=camera.horizontalApertureOffset * unit,
        vertical_aperture_offset=camera.verticalApertureOffset * unit,
        projection="orthographic" if orthographic else "perspective",
        clipping_range=(
            max(camera.clippingRange.min, 0.0) * meters_per_unit,
            camera.clippingRange.max * meters_per_unit,
        ),
        path=path,
    )


def frame_stage(stage: Usd.Stage, time: float | None = None, aspect: float = 1.0) -> Camera:
    """A camera that sees the whole stage from its front, placed as `usdrecord` places its own; its path is empty.

    Where usdrecord would crop a tall stage in a wide image, it is further away.

    Raises:
        EmptyStageError: there is nothing to frame.
    """
    purposes = [UsdGeom.Tokens.default_, UsdGeom.Tokens.render, UsdGeom.Tokens.proxy]
    cache = UsdGeom.BBoxCache(time_code(time), purposes, useExtentsHint=True)
    box_range = cache.ComputeWorldBound(stage.GetPseudoRoot()).ComputeAlignedRange()
    if box_range.IsEmpty() or not np.isfinite([box_range.min, box_range.max]).all():
        raise EmptyStageError(
            f"{stage.GetRootLayer().identifier} has no visible geometry with a finite extent, and no camera, so "
            f"there is "
            "nothing to see. Add geometry or a camera, or check visibility, purposes and missing payloads."
        )
    corners = np.array([box_range.GetCorner(i) for i in range(8)]) * UsdGeom.GetStageMetersPerUnit(stage)
    return frame_points(stage, corners, aspect)


def frame_points(stage: Usd.Stage, points: np.ndarray, aspect: float = 1.0) -> Camera:
    """`frame_stage` for the box of points (N, 3) in metres, in place of all that is on the stage."""
    points = points / UsdGeom.GetStageMetersPerUnit(stage)
    low, high = points.min(axis=0), points.max(axis=0)
    size, centre = high - low, Gf.Vec3d(*((low + high) / 2).tolist())
    camera = Gf.Camera()
    z_up = UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.z
    across, up, deep = (size[0], size[2], size[1]) if z_up else (size[0], size[1], size[2])
    half_view = np.radians(camera.GetFieldOfView(Gf.Camera.FOVHorizontal)) / 2
    front = np.hypot(across, up) / 2 / np.tan(half_view)
    # A wide image keeps the lens's height, into which a tall stage may not fit: usdrecord would crop it.
    height = max(camera.verticalAperture, camera.horizontalAperture / _checked(aspect))
    distance = float(max(front, up * camera.focalLength / height) + deep / 2)
    transform = Gf.Matrix4d(1)
    if z_up:
        transform.SetRotate(Gf.Rotation(Gf.Vec3d.XAxis(), 90))
        transform.SetTranslateOnly(centre + Gf.Vec3d(0, -distance, 0))
    else:
        transform.SetTranslate(centre + Gf.Vec3d(0, 0, distance))
    camera.transform = transform
    camera.clippingRange = Gf.Range1f(distance / 1000, distance * 1000)
    return from_gf(camera, UsdGeom.GetStageMetersPerUnit(stage)).fitted(aspect)


def _checked(aspect: float) -> float:
    if not (np.isfinite(aspect) and aspect > 0):
        raise CameraError(f"`aspect` is {aspect}. Give the image's width over its height, a positive number.")
    return aspect
