"""A layout of the furniture world written as a USD stage."""

from __future__ import annotations

import colorsys
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from neuralusd.datasets.cycles import ASSET_API
from neuralusd.datasets.furniture_layout import FRAMES, Layout, Placement, build_room, camera_matrix
from neuralusd.datasets.furniture_textures import write_texture

APERTURE = 24.0


def write_stage(file: Path, layout: Layout, library: Path, textures: list[Path], rng: np.random.Generator) -> None:
    """Write the scene: /World with Room, Camera, Lights and the objects, which reference the library relatively.

    Frames are time codes 1 to 6. Metres, Z up.
    """
    from pxr import Kind, Usd, UsdGeom

    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(FRAMES)
    stage.SetTimeCodesPerSecond(24)
    world = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    Usd.ModelAPI(world).SetKind(Kind.Tokens.assembly)
    _write_room(stage, file, layout, textures, rng)
    _write_camera(stage, layout)
    _write_lights(stage, layout, rng)
    for number, placement in enumerate(layout.placements):
        name = re.sub(r"[^A-Za-z0-9]+", " ", placement.asset.name).title().replace(" ", "") or "Object"
        name = name if name[0].isalpha() else f"Object{name}"
        _write_object(stage, file, f"/World/{name}_{number}", placement, library, rng)
    stage.GetRootLayer().Save()


def add_asset_api(prim: Any, role: str, text: str) -> None:
    """NeuralAssetAPI with its role and its words, authored without the registered schema."""
    from pxr import Sdf

    prim.AddAppliedSchema(ASSET_API)
    attribute = prim.CreateAttribute("neural:role", Sdf.ValueTypeNames.Token, False, Sdf.VariabilityUniform)
    attribute.Set(role)
    prim.CreateAttribute("neural:text", Sdf.ValueTypeNames.String, False, Sdf.VariabilityUniform).Set(text)


def _write_object(
    stage: Any, file: Path, path: str, placement: Placement, library: Path, rng: np.random.Generator
) -> None:
    from pxr import Gf, UsdGeom

    xform = UsdGeom.Xform.Define(stage, path)
    prim = xform.GetPrim()
    reference = os.path.relpath(library / placement.asset.path, file.parent)
    prim.GetReferences().AddReference(Path(reference).as_posix())
    add_asset_api(prim, "foreground", placement.asset.name.lower())
    # an asset may bring xformOps of its own on its root; the scene's pose replaces them
    xform.ClearXformOpOrder()
    translate, rotate, scale = xform.AddTranslateOp(), xform.AddRotateXYZOp(), xform.AddScaleOp()
    for attribute, values, kind in (
        (translate, placement.translate, Gf.Vec3d),
        (rotate, placement.rotate, Gf.Vec3f),
    ):
        if np.ptp(values, axis=0).max() == 0:
            attribute.Set(kind(*values[0].tolist()))
        else:
            for frame, value in enumerate(values):
                attribute.Set(kind(*value.tolist()), frame + 1)
    scale.Set(Gf.Vec3f(placement.scale))
    if placement.tint is not None:
        _tint(prim, placement.tint, rng)


def random_tint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Linear RGB of a clear colour."""
    return tuple(c**2.2 for c in colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.35, 0.95), rng.uniform(0.6, 1.0)))


def _tint(prim: Any, tint: tuple[float, float, float], rng: np.random.Generator) -> None:
    """Opinions over the looks of a referenced asset: plain colours turn to the tint, textures are multiplied by it."""
    from pxr import Gf, Sdf, Usd, UsdShade

    strength = rng.uniform(0.7, 0.95)
    color = np.array(tint)
    for child in Usd.PrimRange(prim):
        shader = UsdShade.Shader(child)
        if not shader:
            continue
        identifier = shader.GetIdAttr().Get()
        if identifier == "UsdPreviewSurface":
            diffuse = shader.GetInput("diffuseColor")
            if diffuse and not diffuse.HasConnectedSource() and diffuse.Get() is not None:
                old = np.array(diffuse.Get())
                new = (1 - strength) * old + strength * color * (0.35 + 0.65 * old.max())
                diffuse.Set(Gf.Vec3f(*new.tolist()))
        elif identifier == "UsdUVTexture":
            factor = 1 + strength * (color / max(color.max(), 1e-3) - 1)
            shader.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(*factor.tolist(), 1.0))


def _write_room(stage: Any, file: Path, layout: Layout, textures: list[Path], rng: np.random.Generator) -> None:
    from pxr import UsdGeom

    room = UsdGeom.Xform.Define(stage, "/World/Room")
    add_asset_api(room.GetPrim(), "background", "room")
    floor, walls = build_room(layout, rng)
    UsdGeom.Scope.Define(stage, "/World/Room/Looks")
    floor_look = _write_look(stage, file, "/World/Room/Looks/Floor", textures, rng)
    wall_look = _write_look(stage, file, "/World/Room/Looks/Walls", textures, rng)
    repeat = layout.unit * rng.uniform(0.8, 3.0)
    middle = floor.mean(0)
    points = np.c_[floor, np.zeros(4)]
    write_quad(stage, "/World/Room/Floor", points, (floor - middle) / repeat, floor_look)
    repeat = layout.unit * rng.uniform(1.0, 4.0)
    for number, wall in enumerate(walls):
        length = float(np.linalg.norm(wall.end - wall.start))
        # seen from the inside counter-clockwise: the floor's corners run counter-clockwise
        points = np.array([[*wall.end, 0.0], [*wall.start, 0.0], [*wall.start, wall.height], [*wall.end, wall.height]])
        across = np.array([[0, 0], [length, 0], [length, wall.height], [0, wall.height]]) / repeat
        write_quad(stage, f"/World/Room/Wall_{number}", points, across, wall_look)


def write_quad(stage: Any, path: str, points: np.ndarray, uv: np.ndarray, look: Any) -> None:
    """A mesh of one face, seen from both sides: `points` (4, 3) in metres, `uv` (4, 2), of the material `look`."""
    from pxr import Sdf, UsdGeom, UsdShade, Vt

    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr([4])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2, 3])
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    mesh.CreateExtentAttr(UsdGeom.Mesh.ComputeExtent(mesh.GetPointsAttr().Get()))
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    st.Set(Vt.Vec2fArray.FromNumpy(uv.astype(np.float32)))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)


def _write_look(stage: Any, file: Path, path: str, textures: list[Path], rng: np.random.Generator) -> Any:
    chosen = textures[int(rng.integers(len(textures)))]
    texture = write_texture(chosen.parent, chosen.name)
    scale = rng.uniform(0.7, 1.15) * rng.uniform(0.85, 1.0, 3)
    return write_look(stage, file, path, texture, scale, float(rng.uniform(0.5, 1.0)))


def write_look(stage: Any, file: Path, path: str, texture: Path | None, scale: np.ndarray, roughness: float) -> Any:
    """A UsdPreviewSurface material at `path`, and returns it.

    Args:
        file: the stage's, that the texture is told relatively to. texture: an image; None for a plain colour.
        scale: (3,) linear, multiplies the texture; the colour where there is none.
    """
    from pxr import Gf, Sdf, UsdShade

    look = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    look.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(roughness)
    color = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    if texture is None:
        color.Set(Gf.Vec3f(*scale.tolist()))
        return look
    reader = UsdShade.Shader.Define(stage, f"{path}/Primvar")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    image = UsdShade.Shader.Define(stage, f"{path}/Texture")
    image.CreateIdAttr("UsdUVTexture")
    relative = Path(os.path.relpath(texture, file.parent)).as_posix()
    image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(relative))
    image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    image.CreateInput("wrapS", Sdf.ValueTypeNames.Token).Set("repeat")
    image.CreateInput("wrapT", Sdf.ValueTypeNames.Token).Set("repeat")
    image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    image.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(*scale.tolist(), 1.0))
    image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    color.ConnectToSource(image.ConnectableAPI(), "rgb")
    return look


def _write_camera(stage: Any, layout: Layout) -> None:
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    camera.CreateHorizontalApertureAttr(APERTURE)
    camera.CreateVerticalApertureAttr(APERTURE)
    camera.CreateFocalLengthAttr(APERTURE / 2 / float(np.tan(np.radians(layout.fov) / 2)))
    camera.CreateClippingRangeAttr(Gf.Vec2f(0.01, 1000.0))
    transform = camera.AddTransformOp()
    for frame in range(FRAMES):
        matrix = camera_matrix(layout.eye[frame], layout.target[frame])
        transform.Set(Gf.Matrix4d(*matrix.reshape(-1).tolist()), frame + 1)


def _write_lights(stage: Any, layout: Layout, rng: np.random.Generator) -> None:
    """A sky of one colour, and mostly a sun, a window-like area light, or both, with soft shadows."""
    from pxr import Gf, UsdGeom, UsdLux

    UsdGeom.Scope.Define(stage, "/World/Lights")
    sky = UsdLux.DomeLight.Define(stage, "/World/Lights/Sky")
    kind = rng.choice(["sun", "area", "both", "sky"], p=[0.45, 0.3, 0.15, 0.1])
    sky.CreateIntensityAttr(float(rng.uniform(1.1, 1.7) if kind == "sky" else rng.uniform(0.45, 0.95)))
    sky.CreateColorAttr(Gf.Vec3f(*_light_color(rng, 0.22)))
    share = 0.5 if kind == "both" else 1.0
    toward = layout.eye.mean(0) - layout.target.mean(0)
    front = np.degrees(np.arctan2(toward[1], toward[0]))
    if kind in ("sun", "both"):
        sun = UsdLux.DistantLight.Define(stage, "/World/Lights/Sun")
        sun.CreateIntensityAttr(float(share * rng.uniform(0.45, 1.1)))
        sun.CreateColorAttr(Gf.Vec3f(*_light_color(rng, 0.15)))
        sun.CreateAngleAttr(float(rng.uniform(2, 15)))
        direction = _direction(front + rng.uniform(-100, 100), rng.uniform(42, 78))
        _look_down(sun, direction * 10, np.zeros(3))
    if kind in ("area", "both"):
        area = UsdLux.RectLight.Define(stage, "/World/Lights/Area")
        size, distance = layout.unit * rng.uniform(1.0, 2.5), layout.unit * rng.uniform(3.0, 5.0)
        area.CreateWidthAttr(float(size))
        area.CreateHeightAttr(float(size))
        # radiance that gives the same light whatever its size and distance
        area.CreateIntensityAttr(float(share * rng.uniform(0.3, 0.65) * distance**2 / size**2))
        area.CreateColorAttr(Gf.Vec3f(*_light_color(rng, 0.2)))
        middle = layout.target.mean(0)
        _look_down(area, middle + distance * _direction(front + rng.uniform(-90, 90), rng.uniform(45, 80)), middle)


def _light_color(rng: np.random.Generator, saturation: float) -> list[float]:
    warm_or_cold = rng.choice([0.09, 0.6])
    hue = (warm_or_cold + rng.normal(0, 0.05)) % 1.0
    return [float(c) for c in colorsys.hsv_to_rgb(hue, rng.uniform(0, saturation), 1.0)]


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def _look_down(light: Any, position: np.ndarray, target: np.ndarray) -> None:
    """Place a light whose rays leave along -Z."""
    from pxr import Gf

    light.AddTransformOp().Set(Gf.Matrix4d(*camera_matrix(position, target).reshape(-1).tolist()))
