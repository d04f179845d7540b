"""What is read of a stage: which prims are assets, their boxes, poses, words and tokens."""

from __future__ import annotations

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdSemantics
from stages import add_camera, new_stage

from neuralusd.scene import BACKGROUND, Tokens
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.stage import discover_assets, read, render_passes, write_tokens
from neuralusd.stage.errors import ExtentError, SceneError, StageWarning, TokensError, TransformError


def add_object(stage, path: str, kind: str = "", place=(0, 0, 0)) -> UsdGeom.Xform:
    """An Xform with a cube of edge 2 in it."""
    xform = UsdGeom.Xform.Define(stage, path)
    xform.AddTranslateOp().Set(Gf.Vec3d(*map(float, place)))
    UsdGeom.Cube.Define(stage, f"{path}/Geometry")
    if kind:
        Usd.ModelAPI(xform.GetPrim()).SetKind(kind)
    return xform


def mark(stage, path: str, **values) -> NeuralAssetAPI:
    api = NeuralAssetAPI.Apply(stage.GetPrimAtPath(path))
    for name, value in values.items():
        getattr(api, f"Create{name}Attr")(value)
    return api


def paths(stage, **arguments) -> list[str]:
    return [asset.path for asset in read(stage, **arguments).assets]


def test_marked_prims_are_the_assets_with_all_that_is_authored():
    stage = new_stage("Z", 0.01)
    add_object(stage, "/World/Cup", place=(100, 0, 0))
    add_object(stage, "/World/Ignored")
    mark(stage, "/World/Cup", Presence=0.5, Text="a blue cup")
    labels = UsdSemantics.LabelsAPI.Apply(stage.GetPrimAtPath("/World/Cup"), "category")
    labels.CreateLabelsAttr(["cup", "crockery"])
    UsdGeom.Xform.Define(stage, "/World/Room")
    mark(stage, "/World/Room", Role=BACKGROUND)
    UsdGeom.Xform.Define(stage, "/World/Word")
    mark(stage, "/World/Word", Box2d=(0.1, 0.2, 0.3, 0.4))
    scene = read(stage)
    cup, room, word = scene.assets
    assert (cup.path, cup.presence, cup.text, cup.labels) == ("/World/Cup", 0.5, "a blue cup", ("cup", "crockery"))
    np.testing.assert_array_equal(cup.extent, [[-1] * 3, [1] * 3])
    np.testing.assert_allclose(cup.local_to_world, np.diag([0.01, 0.01, 0.01, 1]) + np.eye(4, k=-3) * 1.0)
    np.testing.assert_allclose(cup.corners()[7], [1.01, 0.01, 0.01])
    assert scene.background is room and room.extent is None
    assert word.extent is None and word.box2d is not None
    np.testing.assert_allclose(word.box2d.array(), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert (scene.up_axis, scene.meters_per_unit) == ("Z", 0.01)


def test_components_are_found_in_traversal_order():
    stage = new_stage()
    Usd.ModelAPI(UsdGeom.Xform.Define(stage, "/World").GetPrim()).SetKind("assembly")
    for path in ("/World/B", "/World/A"):
        add_object(stage, path, "component")
    add_object(stage, "/World/Loose")
    add_object(stage, "/World/B/Handle", "subcomponent")
    Usd.ModelAPI(UsdGeom.Xform.Define(stage, "/World/Empty").GetPrim()).SetKind("component")
    assert discover_assets(stage) == ["/World/B", "/World/A"]


def test_references_are_found_where_nothing_is_a_component(tmp_path):
    chair = new_stage(path=tmp_path / "chair.usda")
    add_object(chair, "/Chair")
    chair.SetDefaultPrim(chair.GetPrimAtPath("/Chair"))
    chair.Save()
    room = new_stage(path=tmp_path / "room.usda")
    for name in ("Left", "Right"):
        UsdGeom.Xform.Define(room, f"/Room/{name}").GetPrim().GetReferences().AddReference("./chair.usda")
    add_object(room, "/Room/Floor")
    room.SetDefaultPrim(room.GetPrimAtPath("/Room"))
    room.Save()
    assert discover_assets(room) == ["/Room/Left", "/Room/Right"]
    # One reference to the whole room is still the room's two chairs.
    shot = new_stage()
    UsdGeom.Xform.Define(shot, "/Shot").GetPrim().GetReferences().AddReference(str(tmp_path / "room.usda"))
    assert discover_assets(shot) == ["/Shot/Left", "/Shot/Right"]


def test_prims_side_by_side_are_found_where_nothing_is_referenced():
    stage = new_stage()
    UsdGeom.Xform.Define(stage, "/World")
    UsdGeom.Scope.Define(stage, "/World/Geo")
    add_object(stage, "/World/Geo/Table")
    UsdGeom.Sphere.Define(stage, "/World/Geo/Ball")
    add_camera(stage, (0, 0, 9), path="/World/Camera")
    assert discover_assets(stage) == ["/World/Geo/Table", "/World/Geo/Ball"]
    alone = new_stage()
    UsdGeom.Xform.Define(alone, "/Table")
    add_object(alone, "/Table/Parts")
    assert discover_assets(alone) == ["/Table"]
    bare = new_stage()
    UsdGeom.Mesh.Define(bare, "/Nothing")
    UsdGeom.Cube.Define(bare, "/Cube")
    assert discover_assets(bare) == ["/Nothing", "/Cube"]


def test_a_background_alone_does_not_stop_discovery():
    stage = new_stage()
    add_object(stage, "/Cup", "component")
    UsdGeom.Xform.Define(stage, "/Background")
    mark(stage, "/Background", Role=BACKGROUND)
    assert paths(stage) == ["/Cup", "/Background"]
    UsdGeom.Xform.Define(stage, "/Sky")
    mark(stage, "/Sky", Role=BACKGROUND)
    with pytest.raises(SceneError, match="several backgrounds: </Background> and </Sky>"):
        read(stage)


def test_native_instances_are_assets_of_their_own(tmp_path):
    stage = new_stage()
    add_object(stage, "/Library/Cup", "component")
    stage.GetPrimAtPath("/Library").SetSpecifier(Sdf.SpecifierClass)
    for index in range(3):
        cup = UsdGeom.Xform.Define(stage, f"/World/Cup{index}")
        cup.AddTranslateOp().Set((4 * index - 4, 0, 0))
        cup.GetPrim().GetReferences().AddInternalReference("/Library/Cup")
        cup.GetPrim().SetInstanceable(True)
    add_camera(stage, (0, 0, 20))
    scene = read(stage)
    assert [a.path for a in scene.assets] == ["/World/Cup0", "/World/Cup1", "/World/Cup2"]
    passes = render_passes(stage, scene, 60, 60, color=False)
    middles = [np.flatnonzero(passes.mask(i).any(0)).mean() for i in range(3)]
    assert middles[0] < middles[1] < middles[2] and middles[1] == pytest.approx(29.5)


def test_assets_inside_an_instance_are_proxies():
    stage = new_stage()
    Usd.ModelAPI(UsdGeom.Xform.Define(stage, "/Set").GetPrim()).SetKind("group")
    for name, x in (("A", -2), ("B", 2)):
        add_object(stage, f"/Set/{name}", "component", (x, 0, 0))
    stage.GetPrimAtPath("/Set").SetSpecifier(Sdf.SpecifierClass)
    prim = UsdGeom.Xform.Define(stage, "/World").GetPrim()
    prim.GetReferences().AddInternalReference("/Set")
    prim.SetInstanceable(True)
    scene = read(stage)
    assert [a.path for a in scene.assets] == ["/World/A", "/World/B"]
    tokens = Tokens(np.ones((1, 2), np.float16), "e", "r", (1, 1))
    with pytest.warns(StageWarning, match="</World> is made not instanceable"):
        write_tokens(stage, {"/World/A": {"appearance": tokens}, "/World/B": {"appearance": tokens}})
    assert [list(a.tokens) for a in read(stage).assets] == [["appearance"]] * 2


def test_a_point_instancer_belongs_to_its_asset():
    stage = new_stage()
    add_object(stage, "/World/Forest", "component", (0, 0, 0))
    stage.RemovePrim("/World/Forest/Geometry")
    instancer = UsdGeom.PointInstancer.Define(stage, "/World/Forest/Trees")
    UsdGeom.Cube.Define(stage, "/World/Forest/Trees/Protos/Cube")
    instancer.CreatePrototypesRel().SetTargets(["/World/Forest/Trees/Protos/Cube"])
    instancer.CreateProtoIndicesAttr([0, 0, 0])
    instancer.CreatePositionsAttr([(-5, 0, 0), (0, 0, 0), (5, 0, 0)])
    scene = read(stage)
    assert [a.path for a in scene.assets] == ["/World/Forest"]
    np.testing.assert_allclose(scene.assets[0].extent, [[-6, -1, -1], [6, 1, 1]])


def test_an_instancer_of_components_is_one_asset():
    stage = new_stage()
    Usd.ModelAPI(UsdGeom.Xform.Define(stage, "/World").GetPrim()).SetKind("group")
    instancer = UsdGeom.PointInstancer.Define(stage, "/World/Pawns")
    add_object(stage, "/World/Pawns/Protos/Pawn", "component")
    instancer.CreatePrototypesRel().SetTargets(["/World/Pawns/Protos/Pawn"])
    instancer.CreateProtoIndicesAttr([0, 0])
    instancer.CreatePositionsAttr([(0, 0, 0), (9, 0, 0)])
    add_object(stage, "/World/Board", "component")
    assert discover_assets(stage) == ["/World/Pawns", "/World/Board"]


def test_visibility_purpose_and_time():
    stage = new_stage()
    for name in ("Shown", "Hidden", "Blinks", "Guide", "Proxy"):
        add_object(stage, f"/World/{name}", "component")
    UsdGeom.Imageable(stage.GetPrimAtPath("/World/Hidden")).MakeInvisible()
    blinks = UsdGeom.Imageable(stage.GetPrimAtPath("/World/Blinks")).CreateVisibilityAttr()
    blinks.Set("inherited", 1)
    blinks.Set("invisible", 2)
    for name in ("Guide", "Proxy"):
        UsdGeom.Imageable(stage.GetPrimAtPath(f"/World/{name}")).CreatePurposeAttr(name.lower())
    assert paths(stage, time=1) == ["/World/Shown", "/World/Blinks", "/World/Proxy"]
    assert paths(stage, time=2) == ["/World/Shown", "/World/Proxy"]


def test_proxies_stand_back_for_what_they_stand_for():
    stage = new_stage()
    add_object(stage, "/World/Model", "component")
    proxy = UsdGeom.Cube.Define(stage, "/World/Model/Proxy")
    proxy.CreateSizeAttr(20.0)
    proxy.CreatePurposeAttr("proxy")
    add_camera(stage, (0, 0, 50))
    scene = read(stage)
    np.testing.assert_array_equal(scene.assets[0].extent, [[-1] * 3, [1] * 3])
    assert render_passes(stage, scene, 9, 9, color=False).depth[4, 4] == pytest.approx(49)
    stage.GetPrimAtPath("/World/Model/Geometry").SetActive(False)
    scene = read(stage)
    np.testing.assert_array_equal(scene.assets[0].extent, [[-10] * 3, [10] * 3])
    assert render_passes(stage, scene, 9, 9, color=False).depth[4, 4] == pytest.approx(40)


def test_the_innermost_asset_has_the_geometry():
    stage = new_stage()
    add_object(stage, "/Table")
    add_object(stage, "/Table/Cup", place=(0, 5, 0))
    for path in ("/Table", "/Table/Cup"):
        mark(stage, path)
    add_camera(stage, (0, 2.5, 30), (0, 2.5, 0))
    scene = read(stage)
    table, cup = scene.assets
    np.testing.assert_array_equal(table.extent, [[-1] * 3, [1] * 3])
    np.testing.assert_array_equal(cup.extent, [[-1] * 3, [1] * 3])
    passes = render_passes(stage, scene, 40, 40, color=False)
    assert passes.ids[:20].max() == 1 and passes.ids[20:].max() == 0


def test_an_extents_hint_stands_in_for_geometry_that_is_not_there():
    stage = new_stage()
    xform = UsdGeom.Xform.Define(stage, "/Far")
    UsdGeom.ModelAPI.Apply(xform.GetPrim()).SetExtentsHint([(0, 0, 0), (1, 2, 3)])
    mark(stage, "/Far")
    np.testing.assert_array_equal(read(stage).assets[0].extent, [[0, 0, 0], [1, 2, 3]])
    # Geometry that is there counts for more than the hint.
    UsdGeom.Cube.Define(stage, "/Far/Cube")
    np.testing.assert_array_equal(read(stage).assets[0].extent, [[-1] * 3, [1] * 3])


def test_variants_choose_what_is_read():
    stage = new_stage()
    xform = UsdGeom.Xform.Define(stage, "/Model")
    variants = xform.GetPrim().GetVariantSets().AddVariantSet("size")
    for name, size in (("small", 1.0), ("large", 4.0)):
        variants.AddVariant(name)
        variants.SetVariantSelection(name)
        with variants.GetVariantEditContext():
            UsdGeom.Cube.Define(stage, "/Model/Cube").CreateSizeAttr(size)
    assert read(stage).assets[0].extent[1, 0] == 2
    variants.SetVariantSelection("small")
    assert read(stage).assets[0].extent[1, 0] == 0.5


def test_time_samples_move_and_grow_assets():
    stage = new_stage()
    ball = UsdGeom.Sphere.Define(stage, "/Ball")
    move = ball.AddTranslateOp()
    for time, x, radius in ((1, 0, 1), (11, 10, 3)):
        move.Set(Gf.Vec3d(x, 0, 0), time)
        ball.GetRadiusAttr().Set(radius, time)
        ball.GetExtentAttr().Set([(-radius,) * 3, (radius,) * 3], time)
    asset = read(stage, time=6).assets[0]
    np.testing.assert_allclose(asset.local_to_world[3, :3], [5, 0, 0])
    np.testing.assert_allclose(asset.extent, [[-2] * 3, [2] * 3])


def test_an_asset_without_anything_to_see_is_left_out_with_a_warning():
    stage = new_stage()
    add_object(stage, "/Cup")
    UsdGeom.Xform.Define(stage, "/Gone")
    mark(stage, "/Cup"), mark(stage, "/Gone")
    with pytest.warns(StageWarning, match="</Gone> is left out"):
        assert paths(stage) == ["/Cup"]


@pytest.mark.parametrize(
    ("op", "value", "what"),
    [("AddScaleOp", (0, 1, 1), "singular"), ("AddTranslateOp", (np.nan, 0, 0), "not finite"),
     ("AddScaleOp", (np.inf, 1, 1), "not finite")],
)  # fmt: skip
def test_a_transform_that_is_none_names_the_prim(op, value, what):
    stage = new_stage()
    getattr(UsdGeom.Xform.Define(stage, "/World"), op)().Set(Gf.Vec3d(*value) if "T" in op[3:4] else Gf.Vec3f(*value))
    UsdGeom.Cube.Define(stage, "/World/Cup/Cube")
    mark(stage, "/World/Cup/Cube")
    with pytest.raises(TransformError, match=f"</World/Cup/Cube>: its local-to-world transform is {what}"):
        read(stage)


@pytest.mark.parametrize(
    ("extent", "what"),
    [([(0, 0, 0), (0, 0, 0)], "has no size"), ([(0, 0, 0), (0, 0, 1)], "has no size"),
     ([(0, 0, 0), (np.nan, 1, 1)], "not finite")],
)  # fmt: skip
def test_a_box_that_is_none_names_the_prim(extent, what):
    stage = new_stage()
    mesh = UsdGeom.Mesh.Define(stage, "/Cup")
    mesh.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (0, 1, 0)])
    mesh.CreateFaceVertexCountsAttr([3])
    mesh.CreateFaceVertexIndicesAttr([0, 1, 2])
    mesh.CreateExtentAttr(extent)
    with pytest.raises(ExtentError, match=f"</Cup>: its (box|extent).*{what}"):
        read(stage)


def test_a_flat_box_is_a_box():
    stage = new_stage()
    UsdGeom.Plane.Define(stage, "/Floor")
    np.testing.assert_array_equal(read(stage).assets[0].extent, [[-1, -1, 0], [1, 1, 0]])


def tokens_of(number: float) -> Tokens:
    return Tokens(np.full((4, 2), number, np.float16), "encoder", "r", (2, 2))


def test_tokens_come_from_the_prim_that_from_names():
    stage = new_stage()
    for name in ("Cup", "Bottle", "Jar"):
        add_object(stage, f"/World/{name}")
        write_tokens(stage, {f"/World/{name}": {"appearance": tokens_of(len(name)), "geometry": tokens_of(-len(name))}})
    NeuralTokensAPI(stage.GetPrimAtPath("/World/Cup"), "appearance").CreateFromRel().SetTargets(["/World/Bottle"])
    NeuralTokensAPI(stage.GetPrimAtPath("/World/Bottle"), "appearance").CreateFromRel().SetTargets(["/World/Jar"])
    scene = read(stage)
    values = {a.path: (a.tokens["appearance"].values[0, 0], a.tokens["geometry"].values[0, 0]) for a in scene.assets}
    assert values == {"/World/Cup": (3, -3), "/World/Bottle": (3, -6), "/World/Jar": (3, -3)}
    NeuralTokensAPI(stage.GetPrimAtPath("/World/Jar"), "appearance").CreateFromRel().SetTargets(["/World/Cup"])
    with pytest.raises(TokensError, match="circle.*</World/Jar>"):
        read(stage)
    NeuralTokensAPI(stage.GetPrimAtPath("/World/Jar"), "appearance").CreateFromRel().SetTargets(["/World/Nothing"])
    with pytest.raises(TokensError, match="</World/Nothing>"):
        read(stage)


@pytest.mark.parametrize(
    ("attribute", "value", "what"),
    [("shape", Gf.Vec2i(3, 2), r"8 values, but shape \(3, 2\)"), ("grid", Gf.Vec2i(3, 2), "4, but their grid is 3 x 2"),
     ("values", [float("nan")] * 8, "NaN"), ("points", [(0, 0, 0)] * 3, "4, but have 3 points"),
     ("extent", [(0, 0, 0)], "extent has 1")],
)  # fmt: skip
def test_tokens_that_contradict_themselves_name_the_prim(attribute, value, what):
    stage = new_stage()
    add_object(stage, "/Cup")
    write_tokens(stage, {"/Cup": {"appearance": tokens_of(1)}})
    kinds = {"points": Sdf.ValueTypeNames.Point3fArray, "extent": Sdf.ValueTypeNames.Float3Array}
    name = f"neural:tokens:appearance:{attribute}"
    prim = stage.GetPrimAtPath("/Cup")
    (prim.GetAttribute(name) or prim.CreateAttribute(name, kinds[attribute])).Set(value)
    with pytest.raises(TokensError, match=f"</Cup>.*{what}"):
        read(stage)


def test_without_a_time_what_is_only_animated_is_read_at_its_first_sample():
    stage = new_stage()
    ball = UsdGeom.Sphere.Define(stage, "/Ball")
    move = ball.AddTranslateOp()
    for time, x in ((10, 5), (20, 9)):
        move.Set(Gf.Vec3d(x, 0, 0), time)
    assert read(stage).assets[0].local_to_world[3, 0] == 5
