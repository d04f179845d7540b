"""A G-buffer after an edit is the one that is made from nothing, whatever was made before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pxr import Gf, Sdf, UsdGeom, UsdShade, Vt

from neuralusd import stage as stages
from neuralusd.stage.errors import StageWarning
from neuralusd.stage.gbuffer import StageSurfaces
from neuralusd.surfaces import recent
from neuralusd.surfaces.gbuffer import gbuffer, passes_of
from tests.tiny_world import boxes_stage

SIZE = 48
FIELDS = ("points", "facing", "depth", "normals", "color", "emission", "roughness", "metallic", "shade")


def move(stage, by=0.3):
    stages.move(stage, "/World/Box1", (by, 0.0, 0.1), 1)


def turn(stage):
    stages.rotate(stage, "/World/Box1", 30.0, 1)


def paint(stage):
    UsdGeom.Gprim(stage.GetPrimAtPath("/World/Box0")).GetDisplayColorAttr().Set(Vt.Vec3fArray([Gf.Vec3f(0, 1, 0)]))


def hide(stage):
    UsdGeom.Imageable(stage.GetPrimAtPath("/World/Box1")).MakeInvisible()


def fade(stage):
    stages.set_presence(stage, "/World/Box0", 0.5)


def add(stage):
    UsdGeom.XformCommonAPI(UsdGeom.Sphere.Define(stage, "/World/Box1/Ball")).SetTranslate((0, 0, 1))


def reshape(stage):
    UsdGeom.Cube(stage.GetPrimAtPath("/World/Box1")).GetSizeAttr().Set(1.6)


def bind(stage):
    material = UsdShade.Material.Define(stage, "/World/Look")
    shader = UsdShade.Shader.Define(stage, "/World/Look/Surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set((1, 0, 1))
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(stage.GetPrimAtPath("/World/Box0")).Bind(material)


def repaint(stage):
    """Another value in a material that is bound, if it is."""
    shader = stage.GetPrimAtPath("/World/Look/Surface")
    if shader:
        UsdShade.Shader(shader).GetInput("diffuseColor").Set((0, 1, 1))


def floor(stage):
    UsdGeom.Gprim(stage.GetPrimAtPath("/World/Room/Floor")).GetDisplayColorAttr().Set([(0.1, 0.2, 0.3)])


EDITS = [move, turn, paint, hide, fade, add, reshape, bind, repaint, floor]


def made_anew(stage, time=1, size=SIZE):
    scene = stages.read(stage, "/World/Camera", time)
    return gbuffer(StageSurfaces(stage, scene, scene.camera.fitted(1.0)), size, size)


def images(made):
    """Every value of a G-buffer as an image, so that the order of samples says nothing."""
    weight = made.image(np.ones(len(made), np.float32))
    values = [made.image(np.nan_to_num(getattr(made, name)).clip(-1e3, 1e3)).reshape(*made.size, -1) for name in FIELDS]
    owner = made.image((made.asset + 1).astype(np.float32))
    return np.concatenate([weight[..., None], owner[..., None], *values], -1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(EDITS), min_size=1, max_size=4))
def test_edits_after_edits_are_as_if_made_from_nothing(edits):
    stage = boxes_stage()
    made = [stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)]
    for edit in edits:
        edit(stage)
        made.append(stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE))
    assert np.allclose(images(made[-1]), images(made_anew(stage)), atol=1e-4)
    assert (passes_of(made[-1]).ids == passes_of(made_anew(stage)).ids).mean() > 0.999


def test_an_edit_casts_again_what_it_changes_alone(monkeypatch):
    stage = boxes_stage(seed=7)
    cast: list[float] = []

    def counted(surfaces, height, width, antialias, only=None):
        cast.append(1.0 if only is None else float(only.mean()))
        return gbuffer(surfaces, height, width, antialias, only)

    monkeypatch.setattr(recent, "gbuffer", counted)
    for by in (0.0, 0.05, 0.05):
        move(stage, by)
        stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
    assert cast[0] == 1.0 and all(part < 0.6 for part in cast[1:])
    cast.clear()
    stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
    assert cast == []  # nothing has changed


@pytest.mark.parametrize("change", ["camera", "size", "time"])
def test_another_camera_size_or_time_is_made_anew(change):
    stage = boxes_stage()
    stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
    time, size = (2, SIZE) if change == "time" else (1, SIZE // 2 if change == "size" else SIZE)
    if change == "camera":
        UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera")).GetFocalLengthAttr().Set(50)
    made = stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", time), size, size)
    assert np.allclose(images(made), images(made_anew(stage, time, size)), atol=1e-4)


def test_a_picture_file_that_changes_is_seen(tmp_path):
    """The file of a texture is not on the stage; its date is looked at."""
    import os

    import PIL.Image

    PIL.Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "look.png")
    stage = boxes_stage()
    bind(stage)
    surface = UsdShade.Shader(stage.GetPrimAtPath("/World/Look/Surface"))
    texture = UsdShade.Shader.Define(stage, "/World/Look/Texture")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(str(tmp_path / "look.png"))
    reader = UsdShade.Shader.Define(stage, "/World/Look/Reader")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    surface.GetInput("diffuseColor").ConnectToSource(texture.ConnectableAPI(), "rgb")
    primvar = UsdGeom.PrimvarsAPI(stage.GetPrimAtPath("/World/Box0")).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.constant
    )
    primvar.Set([(0.5, 0.5)])
    stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
    PIL.Image.new("RGB", (8, 8), (0, 0, 250)).save(tmp_path / "look.png")
    os.utime(tmp_path / "look.png", (2e9, 2e9))
    made = stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
    assert np.allclose(images(made), images(made_anew(stage)), atol=1e-4)
    assert (made.color[:, 2] > 0.8).any() and not (made.color[:, 0] > 0.8).any()


def test_what_is_left_out_is_said_each_time():
    stage = boxes_stage(seed=11)
    bind(stage)
    UsdShade.Shader(stage.GetPrimAtPath("/World/Look/Surface")).CreateIdAttr("SomeOtherSurface")
    for _ in range(2):
        with pytest.warns(StageWarning, match="SomeOtherSurface is not evaluated"):
            stages.render_gbuffer(stage, stages.read(stage, "/World/Camera", 1), SIZE, SIZE)
