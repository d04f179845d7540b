"""MaterialX: base colours of documents that this build of USD cannot compose, and of networks that it can."""

from __future__ import annotations

import numpy as np
import pytest
from pxr import Gf, Sdf, UsdGeom, UsdShade
from stages import add_camera, add_quad, bind, new_stage

from neuralusd.stage import open_stage, read, render_passes
from neuralusd.stage.errors import StageWarning

DOCUMENT = """<?xml version="1.0"?>
<materialx version="1.38" colorspace="lin_rec709" fileprefix="tex/">
  <nodegraph name="NG">
    <input name="strength" type="float" value="1.0" />
    <image name="picture" type="color3">
      <input name="file" type="filename" value="half.png" colorspace="srgb_texture" />
    </image>
    <multiply name="dimmed" type="color3">
      <input name="in1" type="color3" nodename="picture" />
      <input name="in2" type="float" interfacename="strength" />
    </multiply>
    <output name="color" type="color3" nodename="dimmed" />
  </nodegraph>
  <standard_surface name="SR" type="surfaceshader">
    <input name="base" type="float" value="1.0" />
    <input name="base_color" type="color3" nodegraph="NG" output="color" />
  </standard_surface>
  <standard_surface name="SR_Plain" type="surfaceshader">
    <input name="base_color" type="color3" value="0, 0, 1" />
    <input name="transmission" type="float" value="{transmission}" />
    <input name="transmission_color" type="color3" value="1, 0, 0" />
  </standard_surface>
  <surfacematerial name="M_Picture" type="material">
    <input name="surfaceshader" type="surfaceshader" nodename="SR" />
  </surfacematerial>
  <surfacematerial name="M_Plain" type="material">
    <input name="surfaceshader" type="surfaceshader" nodename="SR_Plain" />
  </surfacematerial>
</materialx>
"""


def quad_with(tmp_path, material: str, transmission: float = 0.0):
    """A quad that binds a material of a MaterialX document brought in by reference."""
    from PIL import Image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 0], pixels[4:, :, 1] = 255, 255
    (tmp_path / "tex").mkdir()
    Image.fromarray(pixels).save(tmp_path / "tex" / "half.png")
    (tmp_path / "look.mtlx").write_text(DOCUMENT.format(transmission=transmission))
    stage = new_stage(path=tmp_path / "shot.usda")
    UsdGeom.Xform.Define(stage, "/Model")
    quad = add_quad(stage, "/Model/Quad")
    UsdShade.MaterialBindingAPI.Apply(quad.GetPrim())
    quad.GetPrim().CreateRelationship("material:binding").SetTargets([f"/Model/Materials/{material}"])
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    scope = UsdGeom.Scope.Define(stage, "/Model/Materials").GetPrim()
    scope.GetReferences().AddReference("./look.mtlx", "/MaterialX/Materials")
    stage.Save()
    return open_stage(tmp_path / "shot.usda")


def test_a_materialx_document_that_is_referenced_gives_its_colours(tmp_path):
    color = (passes_of(quad_with(tmp_path, "M_Picture")) > 0.4).astype(int)
    assert color[4, 8].tolist() == [1, 0, 0] and color[12, 8].tolist() == [0, 1, 0]  # red above, green below


@pytest.mark.parametrize(("transmission", "expected"), [(0.0, [0, 0, 1]), (1.0, [1, 0, 0])])
def test_what_light_goes_through_has_the_colour_of_what_it_leaves(tmp_path, transmission, expected):
    color = (passes_of(quad_with(tmp_path, "M_Plain", transmission)) > 0.4).astype(int)
    assert color[8, 8].tolist() == expected


def passes_of(stage):
    return render_passes(stage, read(stage), 16, 16).color


def test_a_material_that_the_document_lacks_is_named(tmp_path):
    stage = quad_with(tmp_path, "M_Nowhere")
    with pytest.warns(StageWarning, match="</Model/Materials/M_Nowhere> does not exist"):
        passes_of(stage)


def test_a_document_that_is_damaged_is_named(tmp_path):
    stage = quad_with(tmp_path, "M_Plain")
    (tmp_path / "look.mtlx").write_text("<materialx")
    with pytest.warns(StageWarning, match=r"look\.mtlx cannot be read"):
        passes_of(stage)


def networks(node: str, value_type, inputs: dict, output=Sdf.ValueTypeNames.Color3f):
    """A quad whose standard_surface takes its base colour from one MaterialX node."""
    stage = new_stage()
    quad = add_quad(stage, "/Quad")
    material = UsdShade.Material.Define(stage, "/Mat")
    surface = UsdShade.Shader.Define(stage, "/Mat/Surface")
    surface.CreateIdAttr("ND_standard_surface_surfaceshader")
    shader = UsdShade.Shader.Define(stage, "/Mat/Node")
    shader.CreateIdAttr(node)
    for name, value in inputs.items():
        shader.CreateInput(name, value_type).Set(value)
    base = surface.CreateInput("base_color", Sdf.ValueTypeNames.Color3f)
    base.ConnectToSource(shader.CreateOutput("out", output))
    material.CreateSurfaceOutput("mtlx").ConnectToSource(surface.CreateOutput("out", Sdf.ValueTypeNames.Token))
    bind(quad.GetPrim(), material)
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    return stage


@pytest.mark.parametrize(
    ("node", "inputs", "expected"),
    [
        ("ND_constant_color3", {"value": Gf.Vec3f(0.2, 0.4, 0.6)}, (0.2, 0.4, 0.6)),
        ("ND_multiply_color3", {"in1": Gf.Vec3f(0.5, 1, 1), "in2": Gf.Vec3f(0.5, 0.5, 0)}, (0.25, 0.5, 0)),
        ("ND_add_color3", {"in1": Gf.Vec3f(0.5, 0.1, 0), "in2": Gf.Vec3f(0.25)}, (0.75, 0.35, 0.25)),
        ("ND_mix_color3", {"fg": Gf.Vec3f(1, 0, 0), "bg": Gf.Vec3f(0, 1, 0), "mix": Gf.Vec3f(0.25)}, (0.25, 0.75, 0)),
        ("ND_invert_color3", {"in": Gf.Vec3f(0.25, 0.5, 1)}, (0.75, 0.5, 0)),
    ],
)
def test_arithmetic_of_networks(node, inputs, expected):
    seen = passes_of(networks(node, Sdf.ValueTypeNames.Color3f, inputs))[8, 8]
    plain = passes_of(networks("ND_constant_color3", Sdf.ValueTypeNames.Color3f, {"value": Gf.Vec3f(*expected)}))[8, 8]
    np.testing.assert_allclose(seen, plain, atol=1e-5)
    assert (np.argsort(seen) == np.argsort(expected)).all()


def test_a_node_that_is_not_known_is_named():
    stage = networks("ND_fractal3d_color3", Sdf.ValueTypeNames.Color3f, {})
    with pytest.warns(StageWarning, match="</Mat/Node>: node ND_fractal3d_color3 is not evaluated"):
        passes_of(stage)


def test_udim_tiles(tmp_path):
    from PIL import Image
    from stages import add_material

    for tile, color in ((1001, (255, 0, 0)), (1002, (0, 255, 0))):
        Image.fromarray(np.full((4, 4, 3), color, np.uint8)).save(tmp_path / f"skin.{tile}.png")
    stage = new_stage(path=tmp_path / "shot.usda")
    quad = add_quad(stage, "/Quad")
    UsdGeom.PrimvarsAPI(quad).GetPrimvar("st").Set([(0, 0), (2, 0), (2, 1), (0, 1)])
    bind(quad.GetPrim(), add_material(stage, "/Mat", texture="./skin.<UDIM>.png"))
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    stage.Save()
    color = (passes_of(stage) > 0.4).astype(int)
    assert color[8, 4].tolist() == [1, 0, 0] and color[8, 12].tolist() == [0, 1, 0]


def test_textures_inside_a_usdz(tmp_path):
    from PIL import Image
    from pxr import UsdUtils
    from stages import add_material

    Image.fromarray(np.full((4, 4, 3), (255, 0, 0), np.uint8)).save(tmp_path / "red.png")
    stage = new_stage(path=tmp_path / "shot.usda")
    bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture="./red.png"))
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    stage.Save()
    assert UsdUtils.CreateNewUsdzPackage(str(tmp_path / "shot.usda"), str(tmp_path / "shot.usdz"))
    assert (passes_of(open_stage(tmp_path / "shot.usdz"))[8, 8] > 0.4).tolist() == [True, False, False]


def test_materials_inherited_bound_by_collection_and_by_purpose():
    stage = new_stage()
    UsdGeom.Xform.Define(stage, "/Model")
    for name, x in (("Inherits", -1.2), ("Collected", 1.2)):
        add_quad(stage, f"/Model/{name}").AddTranslateOp().Set((x, 0, 0))
    from pxr import Usd
    from stages import add_material

    root = stage.GetPrimAtPath("/Model")
    api = UsdShade.MaterialBindingAPI.Apply(root)
    api.Bind(add_material(stage, "/Preview", (0, 0, 1)), materialPurpose=UsdShade.Tokens.preview)
    api.Bind(add_material(stage, "/All", (1, 0, 0)))
    collection = Usd.CollectionAPI.Apply(root, "green")
    collection.IncludePath("/Model/Collected")
    api.Bind(collection, add_material(stage, "/Green", (0, 1, 0)), "green")
    add_camera(stage, (0, 0, 5), focalLength=20.0)
    color = render_passes(stage, read(stage), 64, 64).color
    assert color[32, 32 - 15].argmax() == 0 and color[32, 32 + 15].argmax() == 1
