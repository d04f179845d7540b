"""Render passes agree with the poses that are read from the same stage, and with what geometry says they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade
from scipy.spatial import ConvexHull
from stages import add_camera, add_material, add_mesh, add_quad, bind, box_of, new_stage

from neuralusd.scene import pose_2d
from neuralusd.schema import NeuralAssetAPI
from neuralusd.stage import read, render_passes
from neuralusd.stage.errors import StageWarning

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
angles = st.floats(-180, 180)
sizes = st.floats(0.5, 2)
places = st.tuples(*[st.floats(-3, 3)] * 3)


def add_op(xform: UsdGeom.Xformable, draw, name: str, number: int) -> None:
    if name == "translate":
        xform.AddTranslateOp(opSuffix=f"t{number}").Set(Gf.Vec3d(*draw(places)))
    elif name == "rotate":
        kind = draw(st.sampled_from(["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"]))
        op = getattr(xform, f"AddRotate{kind}Op")(opSuffix=f"r{number}")
        op.Set(Gf.Vec3f(*(draw(angles) for _ in range(3))))
    elif name == "orient":
        rotation = Gf.Rotation(Gf.Vec3d(1, draw(angles), draw(angles)), draw(angles))
        xform.AddOrientOp(opSuffix=f"o{number}").Set(Gf.Quatf(rotation.GetQuat()))
    elif name == "scale":
        # One factor, so that a scale after a rotation is no shear and corners stay blunt enough to be seen.
        xform.AddScaleOp(opSuffix=f"s{number}").Set(Gf.Vec3f(draw(sizes)))
    else:
        pivot = xform.AddTranslateOp(opSuffix=f"pivot{number}")
        pivot.Set(Gf.Vec3d(*draw(places)))
        xform.AddRotateYOp(opSuffix=f"p{number}").Set(draw(angles))
        xform.AddTranslateOp(opSuffix=f"pivot{number}", isInverseOp=True)


@st.composite
def cubes(draw):
    """A cube below two prims, all with transforms in any order, and a camera that sees all of it."""
    stage = new_stage(draw(st.sampled_from("YZ")), draw(st.sampled_from([0.01, 0.3048, 1.0])))
    op = st.lists(st.sampled_from(["translate", "rotate", "orient", "scale", "pivot"]), max_size=3)
    for path in ("/World", "/World/Group"):
        xform = UsdGeom.Xform.Define(stage, path)
        for number, name in enumerate(draw(op)):
            add_op(xform, draw, name, number)
    cube = UsdGeom.Cube.Define(stage, "/World/Group/Cube")
    if draw(st.booleans()):
        cube.SetResetXformStack(True)
    for number, name in enumerate(draw(op)):
        add_op(cube, draw, name, number)
    NeuralAssetAPI.Apply(cube.GetPrim())
    to_world = UsdGeom.XformCache().GetLocalToWorldTransform(cube.GetPrim())
    centre, size = to_world.ExtractTranslation(), to_world.TransformDir(Gf.Vec3d(1, 0, 0)).GetLength()
    away = Gf.Vec3d(draw(st.floats(-1, 1)), draw(st.floats(-1, 1)), draw(st.floats(0.2, 1))).GetNormalized()
    wide = {"projection": "orthographic", "horizontalAperture": 60 * size, "verticalAperture": 45 * size}
    narrow = {"horizontalAperture": 24.0, "verticalAperture": 18.0, "focalLength": 20.0}
    narrow |= {"horizontalApertureOffset": draw(st.floats(-2, 2)), "verticalApertureOffset": draw(st.floats(-2, 2))}
    lens = wide if draw(st.booleans()) else narrow
    add_camera(stage, centre + away * 7 * size, centre, clippingRange=(0.1 * size, 100 * size), **lens)
    return stage


@given(cubes(), st.sampled_from([(96, 96), (80, 120), (120, 70)]))
@few
def test_a_cubes_mask_fills_its_2d_box_whatever_its_transforms_units_and_camera(stage, size):
    height, width = size
    scene = read(stage, aspect=width / height)
    cube = scene.asset("/World/Group/Cube")
    mask = render_passes(stage, scene, height, width, color=False).mask(0)
    h, w, _ = (scene.camera.project(cube.corners()) * [height, width, 1]).T
    x, y, box_h, box_w = pose_2d(cube, scene.camera) * [width, height, height, width]
    np.testing.assert_allclose([y, x, y + box_h, x + box_w], [h.min(), w.min(), h.max(), w.max()], atol=1e-6)
    # A pixel is of the cube where its centre is within the hull of the corners; on its edge rounding decides.
    rows, columns = np.mgrid[:height, :width] + 0.5
    outside = ConvexHull(np.stack([h, w], 1)).equations @ np.stack([rows, columns, np.ones(size)]).reshape(3, -1)
    outside = outside.max(axis=0).reshape(size)
    assert mask[outside < -0.01].all() and not mask[outside > 0.01].any()
    top, left, bottom, right = box_of(mask)
    assert top >= y - 0.5 and left >= x - 0.5 and bottom <= y + box_h + 0.5 and right <= x + box_w + 0.5


@given(cubes())
@few
def test_points_project_to_the_pixel_that_saw_them(stage):
    scene = read(stage)
    passes = render_passes(stage, scene, 48, 48, color=False)
    seen = passes.mask(0)
    matrix = scene.assets[0].local_to_world
    world = passes.points[seen] @ matrix[:3, :3] + matrix[3, :3]
    h, w, depth = scene.camera.project(world).T
    rows, columns = np.nonzero(seen)
    np.testing.assert_allclose(h * 48, rows + 0.5, atol=0.01)
    np.testing.assert_allclose(w * 48, columns + 0.5, atol=0.01)
    np.testing.assert_allclose(depth, passes.depth[seen], rtol=1e-5)
    low, high = scene.assets[0].extent
    slack = 1e-4 * (high - low)
    assert (passes.points[seen] >= low - slack).all() and (passes.points[seen] <= high + slack).all()


@pytest.mark.parametrize("meters_per_unit", [1.0, 0.01])
@pytest.mark.parametrize("far_away", [0.0, 1e6])
def test_depth_of_a_sphere_is_the_analytic_one(meters_per_unit, far_away):
    stage = new_stage("Y", meters_per_unit)
    sphere = UsdGeom.Sphere.Define(stage, "/Ball")
    sphere.CreateRadiusAttr(2.0)
    sphere.AddTranslateOp().Set(Gf.Vec3d(far_away, 0, 0))
    add_camera(stage, (far_away, 0, 10), (far_away, 0, 0), focalLength=20.0)
    passes = render_passes(stage, scene := read(stage), 101, 101, color=False)
    x, y = np.meshgrid((np.arange(101) + 0.5) / 101 - 0.5, 0.5 - (np.arange(101) + 0.5) / 101)
    # Rays (x, y, -1) * t from (0, 0, 10) meet |p| = 2 where t^2 (x^2 + y^2 + 1) - 20 t + 96 = 0.
    a = x**2 + y**2 + 1
    root = 400 - 4 * a * 96
    expected = np.where(root > 0, (20 - np.sqrt(np.maximum(root, 0))) / (2 * a), np.inf) * meters_per_unit
    sure = np.abs(root) > 4
    assert (np.isfinite(passes.depth) == np.isfinite(expected))[sure].all()
    inside = sure & (root > 0)
    np.testing.assert_allclose(passes.depth[inside], expected[inside], rtol=2e-3)
    assert scene.assets[0].path == "/Ball"
    toward = np.stack([-x, -y, np.ones_like(x)], -1)
    assert ((passes.normals * toward).sum(-1)[inside] > 0).all()
    np.testing.assert_allclose(np.linalg.norm(passes.normals[inside], axis=-1), 1, atol=1e-5)
    x, y, at = x[inside], y[inside], expected[inside]
    analytic = np.stack([x * at, y * at, 10 * meters_per_unit - at], -1) / (2 * meters_per_unit)
    np.testing.assert_allclose(passes.normals[inside], analytic, atol=0.02)


def test_the_near_and_far_planes_cut():
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    add_camera(stage, (0, 0, 5), clippingRange=(4.5, 5.5))
    depth = render_passes(stage, read(stage), 9, 9, color=False).depth
    assert np.isinf(depth).all()  # the front is at 4, the back at 6
    stage.GetPrimAtPath("/Camera").GetAttribute("clippingRange").Set((4.5, 6.5))
    depth = render_passes(stage, read(stage), 9, 9, color=False).depth
    np.testing.assert_allclose(depth[4, 4], 6, rtol=1e-6)


def test_what_belongs_to_no_asset_hides_and_has_no_id():
    stage = new_stage()
    UsdGeom.Xform.Define(stage, "/World")
    stage.SetMetadata("defaultPrim", "World")
    for name, place in (("Cup", (0, 0, 0)), ("Plate", (3, 0, 0))):
        prim = UsdGeom.Xform.Define(stage, f"/World/{name}")
        prim.AddTranslateOp().Set(Gf.Vec3d(*place))
        UsdGeom.Cube.Define(stage, f"/World/{name}/Cube")
        Usd.ModelAPI(prim.GetPrim()).SetKind("component")
    wall = UsdGeom.Cube.Define(stage, "/World/Wall")
    wall.AddTranslateOp().Set(Gf.Vec3d(0, 0, 3))
    add_camera(stage, (0, 0, 20))
    scene = read(stage)
    passes = render_passes(stage, scene, 40, 40, color=False)
    assert [a.path for a in scene.assets] == ["/World/Cup", "/World/Plate"]
    assert not passes.mask(0).any() and passes.mask(1).any()
    assert np.isfinite(passes.depth[20, 20]) and passes.ids[20, 20] == -1
    np.testing.assert_allclose(passes.points[20, 20, 2], 4, atol=1e-5)  # world metres where no asset


@pytest.fixture
def quadrants(tmp_path):
    """A picture whose quarters are red and green above, blue and white below."""
    from PIL import Image

    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32], pixels[:32, 32:], pixels[32:, :32], pixels[32:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        pixels[32:],
    )
    pixels[32:, 32:] = 255
    path = tmp_path / "bïld.png"
    Image.fromarray(pixels).save(path)
    return path


def seen_quarters(stage) -> list[str]:
    """Names of the colours seen up left, up right, down left, down right."""
    color = render_passes(stage, read(stage), 32, 32).color
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white", (0, 0, 0): "black"}
    return [names[tuple((color[r, c] > 0.4).astype(int))] for r, c in ((8, 8), (8, 24), (24, 8), (24, 24))]


def test_a_texture_is_the_right_way_up(quadrants):
    stage = new_stage()
    bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture=str(quadrants)))
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    assert seen_quarters(stage) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("repeat", ["red", "green", "blue", "white"]), ("black", ["black"] * 4), ("clamp", ["green"] * 4),
     ("mirror", ["green", "red", "white", "blue"])],
)  # fmt: skip
def test_wrap_modes_outside_the_picture(quadrants, mode, expected):
    stage = new_stage()
    quad = add_quad(stage, "/Quad")
    material = add_material(stage, "/Mat", texture=str(quadrants))
    bind(quad.GetPrim(), material)
    image = UsdShade.Shader(stage.GetPrimAtPath("/Mat/Image"))
    for name in ("wrapS", "wrapT"):
        image.CreateInput(name, Sdf.ValueTypeNames.Token).Set(mode if name == "wrapS" or mode == "clamp" else "repeat")
    st_values = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) + ([1, 1] if mode == "clamp" else [1, 0])
    UsdGeom.PrimvarsAPI(quad).GetPrimvar("st").Set([tuple(map(float, v)) for v in st_values])
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    assert seen_quarters(stage) == expected


def test_a_transform_2d_turns_scales_and_moves(quadrants):
    stage = new_stage()
    bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture=str(quadrants)))
    transform = UsdShade.Shader.Define(stage, "/Mat/Transform")
    transform.CreateIdAttr("UsdTransform2d")
    reader = UsdShade.Shader(stage.GetPrimAtPath("/Mat/Reader"))
    transform.CreateInput("in", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.GetOutput("result"))
    transform.CreateInput("rotation", Sdf.ValueTypeNames.Float).Set(90.0)
    transform.CreateInput("translation", Sdf.ValueTypeNames.Float2).Set((1.0, 0.0))
    result = transform.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    UsdShade.Shader(stage.GetPrimAtPath("/Mat/Image")).GetInput("st").ConnectToSource(result)
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    # st is turned a quarter against the clock: up left of the quad, (0, 1), reads (-1 + 1, 0), the picture's down left.
    assert seen_quarters(stage) == ["blue", "red", "white", "green"]


def test_a_texture_seen_small_is_its_average_not_noise(tmp_path):
    from PIL import Image

    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.dstack([checks] * 3)).save(tmp_path / "checks.png")
    stage = new_stage()
    bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture=str(tmp_path / "checks.png")))
    add_camera(stage, (0, 0, 5), focalLength=60.0)
    passes = render_passes(stage, read(stage), 48, 48, supersample=1)
    inner = passes.color[16:32, 16:32]
    assert inner.std() < 0.01 and 0.6 < inner.mean() < 0.8  # linear half, as sRGB


def test_source_color_space(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((4, 4, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    seen = {}
    for space in ("sRGB", "raw", "auto"):
        stage = new_stage()
        bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture=str(tmp_path / "grey.png")))
        image = UsdShade.Shader(stage.GetPrimAtPath("/Mat/Image"))
        image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(space)
        add_camera(stage, (0, 0, 5), focalLength=100.0)
        seen[space] = render_passes(stage, read(stage), 8, 8).color.mean()
    assert seen["auto"] == seen["sRGB"] < seen["raw"] - 0.1


def test_a_missing_texture_warns_and_falls_back(tmp_path):
    stage = new_stage()
    bind(add_quad(stage, "/Quad").GetPrim(), add_material(stage, "/Mat", texture=str(tmp_path / "gone.png")))
    image = UsdShade.Shader(stage.GetPrimAtPath("/Mat/Image"))
    image.CreateInput("fallback", Sdf.ValueTypeNames.Float4).Set((1, 0, 0, 1))
    add_camera(stage, (0, 0, 5), focalLength=100.0)
    with pytest.warns(StageWarning, match=r"gone\.png does not exist.*</Mat/Image.inputs:file>"):
        assert seen_quarters(stage) == ["red"] * 4


def test_geom_subsets_have_their_own_materials():
    stage = new_stage()
    points = [(x - 1, y - 0.5, 0) for y in (0, 1) for x in (0, 1, 2)]
    mesh = add_mesh(stage, "/Sheet", points, [(0, 1, 4, 3), (1, 2, 5, 4)])
    bind(mesh.GetPrim(), add_material(stage, "/Red", (1, 0, 0)))
    subset = UsdShade.MaterialBindingAPI(mesh).CreateMaterialBindSubset("right", [1])
    bind(subset.GetPrim(), add_material(stage, "/Green", (0, 1, 0)))
    add_camera(stage, (0, 0, 5), focalLength=40.0)
    color = render_passes(stage, read(stage), 32, 32).color
    assert color[16, 10].argmax() == 0 and color[16, 22].argmax() == 1


def test_display_color_is_inherited_and_interpolated():
    stage = new_stage()
    parent = UsdGeom.Xform.Define(stage, "/Model")
    color = UsdGeom.PrimvarsAPI(parent).CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray)
    color.Set([(1, 0, 0)])
    add_quad(stage, "/Model/Inherits").AddTranslateOp().Set((-1, 0, 0))
    own = add_quad(stage, "/Model/Own")
    own.AddTranslateOp().Set((1, 0, 0))
    own_color = UsdGeom.PrimvarsAPI(own).CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray)
    own_color.SetInterpolation(UsdGeom.Tokens.faceVarying)
    own_color.Set([(0, 0, 1), (0, 1, 0)])
    own_color.SetIndices([0, 1, 1, 0])
    add_camera(stage, (0, 0, 5), focalLength=20.0)
    seen = render_passes(stage, read(stage), 64, 64).color
    assert seen[32, 32 - 13].argmax() == 0
    assert seen[32, 32 + 8].argmax() == 2 and seen[32, 32 + 18].argmax() == 1


def test_each_instance_of_a_point_instancer_has_its_own_colour():
    stage = new_stage()
    instancer = UsdGeom.PointInstancer.Define(stage, "/Dots")
    UsdGeom.Cube.Define(stage, "/Dots/Protos/Dot")
    instancer.CreatePrototypesRel().SetTargets(["/Dots/Protos/Dot"])
    instancer.CreateProtoIndicesAttr([0, 0, 0])
    instancer.CreatePositionsAttr([(-3, 0, 0), (0, 0, 0), (3, 0, 0)])
    color = UsdGeom.PrimvarsAPI(instancer).CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray)
    color.SetInterpolation(UsdGeom.Tokens.vertex)
    color.Set([(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    add_camera(stage, (0, 0, 12), focalLength=20.0)
    seen = render_passes(stage, read(stage), 60, 60).color
    assert [seen[30, column].argmax() for column in (15, 30, 45)] == [0, 1, 2]


def test_primvars_that_do_not_fit_are_as_good_as_none():
    stage = new_stage()
    cube = UsdGeom.Cube.Define(stage, "/Cube")
    color = UsdGeom.PrimvarsAPI(cube).CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray)
    color.SetInterpolation(UsdGeom.Tokens.vertex)
    color.Set([(1, 0, 0)] * 5)
    add_camera(stage, (0, 0, 5))
    assert np.ptp(render_passes(stage, read(stage), 8, 8).color[4, 4]) < 1e-6


def test_opacity_cuts_out_and_blends(tmp_path):
    stage = new_stage()
    front = add_quad(stage, "/Front")
    front.AddTranslateOp().Set((0, 0, 1))
    bind(front.GetPrim(), add_material(stage, "/Glass", (1, 0, 0), opacity=0.5))
    back = add_quad(stage, "/Back")
    bind(back.GetPrim(), add_material(stage, "/Solid", (0, 0, 1)))
    add_camera(stage, (0, 0, 5), focalLength=60.0)
    scene = read(stage)
    passes = render_passes(stage, scene, 16, 16)
    assert passes.ids[8, 8] == 0  # glass is seen, and what is behind it shines through
    assert passes.color[8, 8, 0] > 0.3 and passes.color[8, 8, 2] > 0.3
    UsdShade.Shader(stage.GetPrimAtPath("/Glass/Surface")).GetInput("opacity").Set(0.0)
    passes = render_passes(stage, scene, 16, 16)
    assert passes.ids[8, 8] == 1 and passes.color[8, 8, 0] < 0.1
    np.testing.assert_allclose(passes.depth[8, 8], 5, rtol=1e-6)


def test_a_material_that_does_not_exist_is_named():
    stage = new_stage()
    quad = add_quad(stage, "/Quad")
    UsdShade.MaterialBindingAPI.Apply(quad.GetPrim())
    quad.GetPrim().CreateRelationship("material:binding").SetTargets(["/Nowhere/Mat"])
    add_camera(stage, (0, 0, 5))
    with pytest.warns(StageWarning, match="</Quad>: its material </Nowhere/Mat> does not exist"):
        render_passes(stage, read(stage), 8, 8)


def test_curves_are_left_out_with_a_warning():
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    curves = UsdGeom.BasisCurves.Define(stage, "/Hair")
    curves.CreatePointsAttr([(0, 0, 0), (1, 1, 1)])
    curves.CreateCurveVertexCountsAttr([2])
    with pytest.warns(StageWarning, match="1 BasisCurves not drawn"):
        render_passes(stage, read(stage), 8, 8, color=False)


def test_passes_do_not_depend_on_how_many_rays_are_worked_on_at_a_time(monkeypatch):
    from neuralusd.surfaces import samples as module

    stage = new_stage()
    UsdGeom.Sphere.Define(stage, "/Ball")
    add_camera(stage, (0, 0, 5))
    whole = render_passes(stage, read(stage), 24, 20)
    monkeypatch.setattr(module, "RAYS", 50)
    banded = render_passes(stage, read(stage), 24, 20)
    for name in ("ids", "depth", "points", "normals", "color"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(banded, name))


def test_an_image_without_pixels_is_refused():
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    with pytest.raises(ValueError, match="0 x 8"):
        render_passes(stage, read(stage), 0, 8)
