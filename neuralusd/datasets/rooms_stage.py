"""A furnished room written as a USD stage."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .furniture_stage import APERTURE, add_asset_api, write_look, write_quad
from .furniture_textures import write_texture
from .rooms import Room, RoomLight, RoomLook
from .rooms_camera import View
from .rooms_grammar import RoomObject
from .rooms_view import shell_faces

# Watts per steradian and square metre over a bulb's sphere; see `_write_bulb`.
BULB = 36.0


def write_room(
    file: str | os.PathLike,
    room: Room,
    library: str | os.PathLike,
    textures: str | os.PathLike | None = None,
    others: Sequence[View] = (),
) -> None:
    """Writes the stage: /Room with Shell (the background), Camera, Lights and the objects, in metres, Z up.

    Objects reference the library's assets, relatively. A lamp that is lit has its light inside of it, so without the
    lamp there is no such light.

    Args:
        file: the stage to write. library: folder of the assets. textures: folder of floors' and walls' textures, made
            where they are missing; None takes `textures` beside the file. others: where the camera is at time codes
            2, 3, ...; at 1, and by default, it is the room's own.
    """
    from pxr import Gf, Kind, Usd, UsdGeom

    file, library = Path(file).absolute(), Path(library).absolute()
    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/Room")
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root).SetKind(Kind.Tokens.assembly)
    _write_shell(stage, file, room, Path(textures) if textures is not None else file.parent / "textures")
    camera = UsdGeom.Camera.Define(stage, "/Room/Camera")
    camera.CreateHorizontalApertureAttr(APERTURE)
    camera.CreateVerticalApertureAttr(APERTURE)
    focal = camera.CreateFocalLengthAttr(APERTURE * float(room.focal[0]))
    camera.CreateClippingRangeAttr(Gf.Vec2f(0.01, 100.0))
    place = camera.AddTransformOp()
    place.Set(_matrix(room.camera_to_room))
    if others:
        stage.SetStartTimeCode(1)
        stage.SetEndTimeCode(1 + len(others))
        for time, view in enumerate([View(room.camera_to_room, float(room.focal[0])), *others], 1):
            place.Set(_matrix(view.matrix), time)
            focal.Set(APERTURE * view.focal, time)
    UsdGeom.Scope.Define(stage, "/Room/Lights")
    for light in room.lights:
        _write_light(stage, light)
    for thing, name in zip(room.objects, room.names, strict=True):
        _write_object(stage, file, f"/Room/{name}", thing, library)
    stage.GetRootLayer().Save()


def _matrix(matrix: np.ndarray) -> Any:
    from pxr import Gf

    return Gf.Matrix4d(*matrix.reshape(-1).tolist())


def _write_shell(stage: Any, file: Path, room: Room, textures: Path) -> None:
    from pxr import UsdGeom

    shell = UsdGeom.Xform.Define(stage, "/Room/Shell")
    add_asset_api(shell.GetPrim(), "background", room.kind)
    UsdGeom.Scope.Define(stage, "/Room/Shell/Looks")
    looks: dict[int, Any] = {}
    for face in shell_faces(room):
        if id(face.look) not in looks:
            path = f"/Room/Shell/Looks/{face.name.split('_')[0]}"
            looks[id(face.look)] = _look(stage, file, path, face.look, textures)
        write_quad(stage, f"/Room/Shell/{face.name}", face.points, face.uv, looks[id(face.look)])


def _look(stage: Any, file: Path, path: str, look: RoomLook, textures: Path) -> Any:
    texture = write_texture(textures, look.texture) if look.texture else None
    return write_look(stage, file, path, texture, look.tint, look.roughness)


def _write_light(stage: Any, light: RoomLight) -> None:
    from pxr import Gf, UsdLux

    path = f"/Room/Lights/{light.kind.capitalize()}"
    if light.kind == "sky":
        made = UsdLux.DomeLight.Define(stage, path)
    else:
        made = UsdLux.RectLight.Define(stage, path)
        made.CreateWidthAttr(light.size[0])
        made.CreateHeightAttr(light.size[1])
        made.AddTransformOp().Set(_matrix(light.matrix))
    made.CreateIntensityAttr(light.intensity)
    made.CreateColorAttr(Gf.Vec3f(*light.color.tolist()))


def _write_object(stage: Any, file: Path, path: str, thing: RoomObject, library: Path) -> None:
    from pxr import Gf, UsdGeom

    xform = UsdGeom.Xform.Define(stage, path)
    prim = xform.GetPrim()
    asset = library / thing.asset.path
    prim.GetReferences().AddReference(Path(os.path.relpath(asset, file.parent)).as_posix())
    add_asset_api(prim, "foreground", thing.asset.name.lower())
    # An asset may bring xformOps of its own on its root; the room's pose replaces them.
    xform.ClearXformOpOrder()
    # From the box's middle below to the asset's origin.
    middle = (np.asarray(thing.asset.minimum) + np.asarray(thing.asset.size) * [0.5, 0.5, 0.0]) * thing.scale
    xform.AddTranslateOp().Set(Gf.Vec3d(*(thing.position - middle @ thing.turn).tolist()))
    xform.AddRotateXYZOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(0.0, 0.0, thing.yaw))
    xform.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*thing.scale.tolist()))
    if thing.glow:
        _write_bulb(stage, f"{path}/Bulb", asset, thing.glow)


def _write_bulb(stage: Any, path: str, asset: Path, glow: float) -> None:
    """The light of a lamp: a sphere around its shade, since the models' shades let no light through."""
    from pxr import Gf, UsdGeom, UsdLux

    middle, radius = shade(str(asset))
    light = UsdLux.SphereLight.Define(stage, path)
    UsdGeom.Xformable(light).AddTranslateOp().Set(Gf.Vec3d(*middle))
    light.CreateRadiusAttr(radius)
    light.CreateNormalizeAttr(True)
    light.CreateIntensityAttr(BULB * glow)
    light.CreateColorAttr(Gf.Vec3f(1.0, 0.78, 0.52))


@functools.lru_cache(maxsize=256)
def shade(asset: str) -> tuple[tuple[float, float, float], float]:
    """Middle and radius, in metres in the asset's space, of a sphere around the shade of a lamp.

    The shade is taken to be what is farthest from the lamp's axis in its upper 45 %.
    """
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(asset)
    root = stage.GetDefaultPrim()
    cache = UsdGeom.XformCache()
    points = []
    for prim in Usd.PrimRange(root):
        mesh = UsdGeom.Mesh(prim)
        if mesh and mesh.GetPointsAttr().Get():
            to_root = np.array(cache.ComputeRelativeTransform(prim, root)[0])
            points.append(np.asarray(mesh.GetPointsAttr().Get()) @ to_root[:3, :3] + to_root[3, :3])
    if not points:
        return (0.0, 0.0, 0.3), 0.05
    cloud = np.concatenate(points)
    low, high = cloud.min(0), cloud.max(0)
    upper = cloud[cloud[:, 2] > high[2] - 0.45 * (high[2] - low[2])]
    middle = 0.5 * (upper.min(0) + upper.max(0))
    away = np.linalg.norm((upper - middle)[:, :2], axis=1)
    shade_points = upper[away > 0.6 * away.max()]
    middle = 0.5 * (shade_points.min(0) + shade_points.max(0))
    # Where a mesh has no points between its ends, only the upper one is found.
    middle[2] = min(middle[2], high[2] - 0.05 * (high[2] - low[2]))
    radius = float(np.clip(1.05 * np.linalg.norm(shade_points - middle, axis=1).max(), 0.03, 0.25))
    return (float(middle[0]), float(middle[1]), float(middle[2])), radius
