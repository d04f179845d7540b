"""A world in a folder, as `neuralusd data furniture` makes them: two rooms with a few blocks, seen by ray casting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, Vt

from neuralusd import stage as stages
from neuralusd.schema import NeuralAssetAPI

SPLIT = "held_out_scenes"
COLORS = {"red": (0.8, 0.1, 0.1), "green": (0.1, 0.7, 0.2), "blue": (0.1, 0.2, 0.8), "grey": (0.4, 0.4, 0.4)}
SCENES = {
    "room_0": {
        "RedBlock": ("red", (0.0, -0.4, 0.0), (0.5, 0.5, 0.5)),
        "Blue": ("blue", (0.1, 0.6, 0), (0.4, 0.5, 0.6)),
    },
    "room_1": {"Green": ("green", (0.1, -0.5, 0.0), (0.5, 0.4, 0.5)), "Grey": ("grey", (0.0, 0.5, 0), (0.5, 0.5, 0.6))},
}


def write_world(folder: Path, size: int = 32, frames: int = 3) -> Path:
    """Writes the world and returns `folder`."""
    (folder / "assets").mkdir(parents=True)
    (folder / "textures").mkdir()
    random = np.random.default_rng(0)
    for name in ("wood_0", "tiles_0"):
        noise = random.integers(60, 200, (8, 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((64, 64)).save(folder / "textures" / f"{name}.png")
    for name, color in COLORS.items():
        _write_block(folder / "assets" / f"{name}.usda", color)
    for number, (name, things) in enumerate(SCENES.items()):
        scene = folder / "scenes" / SPLIT / name
        scene.mkdir(parents=True)
        _write_stage(scene / "scene.usda", things, frames, 0.4 * number)
        _write_frames(scene, frames, size)
    return folder


def _write_block(file: Path, color: tuple[float, float, float]) -> None:
    """A cube of 1 m that stands on z = 0, with a look."""
    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/Block")
    stage.SetDefaultPrim(root.GetPrim())
    mesh = UsdGeom.Mesh.Define(stage, "/Block/Mesh")
    mesh.CreatePointsAttr([Gf.Vec3f(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
    mesh.CreateFaceVertexCountsAttr([4] * 6)
    mesh.CreateFaceVertexIndicesAttr([0, 1, 3, 2, 4, 6, 7, 5, 0, 4, 5, 1, 2, 3, 7, 6, 0, 2, 6, 4, 1, 5, 7, 3])
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    look, surface = _look(stage, "/Block/Look")
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*color))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)
    stage.Save()


def _write_stage(file: Path, things: dict, frames: int, turn: float) -> None:
    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    room = UsdGeom.Xform.Define(stage, "/World/Room")
    api = NeuralAssetAPI.Apply(room.GetPrim())
    api.CreateRoleAttr("background")
    api.CreateTextAttr("room")
    look, surface = _look(stage, "/World/Room/Look")
    reader = UsdShade.Shader.Define(stage, "/World/Room/Look/Primvar")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    texture = UsdShade.Shader.Define(stage, "/World/Room/Look/Texture")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set("../../../textures/wood_0.png")
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    base = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    base.ConnectToSource(texture.ConnectableAPI(), "rgb")
    corners = [(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)]
    floor = UsdGeom.Mesh.Define(stage, "/World/Room/Floor")
    floor.CreatePointsAttr([Gf.Vec3f(x, y, 0) for x, y in corners])
    floor.CreateFaceVertexCountsAttr([4])
    floor.CreateFaceVertexIndicesAttr([0, 1, 2, 3])
    floor.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    st = UsdGeom.PrimvarsAPI(floor).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    st.Set(Vt.Vec2fArray([Gf.Vec2f(x / 3, y / 3) for x, y in corners]))
    UsdShade.MaterialBindingAPI.Apply(floor.GetPrim()).Bind(look)
    for name, (asset, place, size) in things.items():
        block = UsdGeom.Xform.Define(stage, f"/World/{name}")
        block.GetPrim().GetReferences().AddReference(f"../../../assets/{asset}.usda")
        NeuralAssetAPI.Apply(block.GetPrim()).CreateTextAttr(f"{asset} block")
        translate = block.AddTranslateOp()
        if name == "Blue":
            for time in range(1, frames + 1):
                translate.Set(Gf.Vec3d(place[0] + 0.05 * time, *place[1:]), time)
        else:
            translate.Set(Gf.Vec3d(*place))
        block.AddScaleOp().Set(Gf.Vec3f(*size))
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    camera.CreateFocalLengthAttr(35.0)
    camera.CreateHorizontalApertureAttr(36.0)
    camera.CreateVerticalApertureAttr(36.0)
    matrix = camera.AddTransformOp()
    for time in range(1, frames + 1):
        angle = 0.2 * time + turn
        eye = Gf.Vec3d(2.8 * np.cos(angle), 2.8 * np.sin(angle), 1.6)
        matrix.Set(Gf.Matrix4d().SetLookAt(eye, Gf.Vec3d(0, 0, 0.2), Gf.Vec3d(0, 0, 1)).GetInverse(), time)
    stage.Save()


def _write_frames(scene: Path, frames: int, size: int) -> None:
    stage = stages.open_stage(scene / "scene.usda")
    for time in range(1, frames + 1):
        seen = stages.read(stage, "/World/Camera", time)
        passes = stages.render_passes(stage, seen, size, size)
        picture = np.round(passes.color * 255).astype(np.uint8)
        PIL.Image.fromarray(picture).save(scene / f"rgb.{time:04d}.png")
        paths = np.array([asset.path for asset in seen.assets])
        np.savez(scene / f"passes.{time:04d}.npz", depth=passes.depth, ids=passes.ids.astype(np.int8), paths=paths)
    (scene / "scene.json").write_text(json.dumps({"split": SPLIT, "frames": list(range(1, frames + 1))}))


def _look(stage: Usd.Stage, path: str) -> tuple[UsdShade.Material, UsdShade.Shader]:
    look = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    look.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    return look, surface
