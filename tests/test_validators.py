"""What is wrong with a stage, found by the plain function and by USD's own validation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neural_stage import INF, NAN, bird, both_ways, cup, cup_tokens, only_issue, whole_stage
from pxr import Gf, Sdf, Usd, UsdGeom, UsdValidation

from neuralusd.schema import NeuralAssetAPI
from neuralusd.validators import ERROR, WARNING, format_report, validate


@pytest.fixture
def stage() -> Usd.Stage:
    return whole_stage()


def test_nothing_is_wrong(stage):
    assert both_ways(stage) == []


def test_a_stage_without_neural_prims_has_nothing_to_check():
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.Cube.Define(stage, "/Cube")
    assert validate(stage) == []


def test_usd_core_takes_validators_written_in_python():
    """Else nothing here would test them; older programs, such as Blender 5.0, do not."""
    if Usd.GetVersion() < (0, 26, 11):
        pytest.skip("an older USD")
    assert hasattr(UsdValidation.ValidationRegistry, "RegisterPluginPrimValidator")


# --- assets


@pytest.mark.parametrize("presence", [-0.1, 1.5, NAN, INF])
def test_presence_out_of_range(stage, presence):
    NeuralAssetAPI(cup(stage)).CreatePresenceAttr(presence)
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Cup", "PresenceOutOfRange")
    assert f"{presence:g}" in issue.message


def test_presence_out_of_range_at_one_frame_only(stage):
    presence = NeuralAssetAPI(cup(stage)).CreatePresenceAttr()
    for time, value in [(1, 0.0), (10, 1.1), (20, 1.2)]:
        presence.Set(value, time)
    assert "is 1.1 at time 10" in only_issue(stage).message


@given(presence=st.floats(0, 1, width=32))
def test_any_presence_in_range_is_right(presence):
    stage = Usd.Stage.CreateInMemory()
    asset = NeuralAssetAPI.Apply(UsdGeom.Cube.Define(stage, "/Cube").GetPrim())
    asset.CreatePresenceAttr(presence)
    assert validate(stage) == []


def test_an_unknown_role(stage):
    bird(stage).CreateRoleAttr("scenery")
    issue = only_issue(stage)
    assert issue.rule == "RoleUnknown"
    assert "'scenery'. Set it to foreground or background." in issue.message


@pytest.mark.parametrize(
    ("box", "rule", "severity", "hint"),
    [
        ((0.1, 0.2, 0.0, 0.4), "BoxWithoutSize", ERROR, "height or width is not positive"),
        ((0.5, 0.5, -0.3, 0.2), "BoxWithoutSize", ERROR, "top left corner"),
        ((NAN, 0.5, 0.3, 0.2), "BoxNotFinite", ERROR, "not finite"),
        ((12, 40, 128, 64), "BoxOutOfRange", ERROR, "looks like pixels"),
        ((1.2, 0.5, 0.3, 0.2), "BoxOutOfRange", ERROR, "outside of the image"),
        ((-0.4, 0.5, 0.3, 0.2), "BoxOutOfRange", ERROR, "outside of the image"),
        ((0.9, 0.5, 0.3, 0.2), "BoxOutOfRange", WARNING, "sticks out"),
        ((0.5, -0.1, 0.3, 0.2), "BoxOutOfRange", WARNING, "sticks out"),
    ],
)
def test_boxes_that_are_none(stage, box, rule, severity, hint):
    bird(stage).CreateBox2dAttr(box)
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (severity, "/World/Bird", rule)
    assert hint in issue.message


@given(st.data())
def test_any_box_inside_the_image_is_right(data):
    size = st.floats(2**-10, 1, width=32)
    h, w = data.draw(size), data.draw(size)
    x, y = data.draw(st.floats(0, 1)) * (1 - w), data.draw(st.floats(0, 1)) * (1 - h)
    stage = Usd.Stage.CreateInMemory()
    NeuralAssetAPI.Apply(UsdGeom.Xform.Define(stage, "/A").GetPrim()).CreateBox2dAttr((x, y, h, w))
    assert validate(stage) == []


def test_a_box_that_leaves_the_image_at_one_frame(stage):
    box = bird(stage).GetBox2dAttr()
    box.Set(Gf.Vec4f(0.1, 0.2, 0.3, 0.4), 1)
    box.Set(Gf.Vec4f(1.1, 0.2, 0.3, 0.4), 5)
    issue = only_issue(stage)
    assert issue.rule == "BoxOutOfRange" and "at time 5" in issue.message


def test_an_asset_without_a_place(stage):
    bird(stage).GetPrim().RemoveProperty("neural:box2d")
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Bird", "NoPlace")


def test_geometry_need_not_be_visible_or_at_the_default_time(stage):
    asset = UsdGeom.Xform.Define(stage, "/World/Hidden").GetPrim()
    NeuralAssetAPI.Apply(asset)
    points = UsdGeom.Points.Define(stage, "/World/Hidden/Points")
    points.CreatePointsAttr().Set([(0, 0, 0), (1, 1, 1)], 5)
    points.CreateExtentAttr().Set([(0, 0, 0), (1, 1, 1)], 5)
    UsdGeom.Imageable(asset).MakeInvisible()
    assert validate(stage) == []


def test_an_extents_hint_is_a_place(stage):
    prim = bird(stage).GetPrim()
    prim.RemoveProperty("neural:box2d")
    UsdGeom.ModelAPI.Apply(prim).SetExtentsHint([(0, 0, 0), (1, 1, 1)])
    assert validate(stage) == []


def test_geometry_without_a_finite_box(stage):
    mesh = UsdGeom.Mesh.Define(stage, "/World/Bird/Mesh")
    bird(stage).GetPrim().RemoveProperty("neural:box2d")
    assert "such as </World/Bird/Mesh>, has no finite box" in only_issue(stage).message
    mesh.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (1, 1, 0)])
    assert validate(stage) == []
    UsdGeom.XformCommonAPI(mesh).SetTranslate((0, NAN, 0))
    assert only_issue(stage).rule == "NoPlace"


def test_a_payload_that_is_not_loaded_is_a_likely_cause(stage, tmp_path):
    source = Usd.Stage.CreateNew(str(tmp_path / "bird.usda"))
    UsdGeom.Sphere.Define(source, "/Bird/Body")
    source.SetDefaultPrim(source.GetPrimAtPath("/Bird"))
    source.Save()
    bird(stage).GetPrim().RemoveProperty("neural:box2d")
    body = UsdGeom.Xform.Define(stage, "/World/Bird/Body").GetPrim()
    body.GetPayloads().AddPayload(source.GetRootLayer().identifier)
    assert validate(stage) == []
    stage.Unload("/World/Bird/Body")
    assert "Load its payloads" in only_issue(stage).message


@pytest.mark.parametrize("type_name", ["", "Material"])
def test_assets_that_a_file_makes_of_what_cannot_be_imaged(stage, type_name):
    stage.DefinePrim("/World/Thing", type_name).SetMetadata(
        "apiSchemas", Sdf.TokenListOp.CreateExplicit(["NeuralAssetAPI"])
    )
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Thing", "NotImageable")


def test_attributes_that_a_layer_declares_with_another_type(stage):
    layer = Sdf.Layer.CreateAnonymous("hand-written.usda")
    layer.ImportFromString("""#usda 1.0
        over "World" {
            over "Cup" {
                string neural:presence = "high"
            }
            over "Bird" {
                float3 neural:box2d = (0, 0, 1)
            }
        }""")
    stage.GetRootLayer().subLayerPaths.append(layer.identifier)
    issues = both_ways(stage)
    assert [(issue.path, issue.rule) for issue in issues] == [("/World/Cup", "WrongType"), ("/World/Bird", "WrongType")]
    assert "hand-written.usda@ declares `neural:presence` as string, but it is float" in issues[0].message


# --- transforms


def test_a_transform_that_is_not_finite(stage):
    UsdGeom.XformCommonAPI(cup(stage)).SetTranslate((NAN, 0, 0))
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Cup", "TransformNotFinite")


def test_a_singular_ancestor_is_named(stage):
    world = UsdGeom.Xform.Define(stage, "/World")
    world.AddScaleOp().Set(Gf.Vec3f(1, 0, 1), 24)
    issues = both_ways(stage)
    assert {issue.rule for issue in issues} == {"TransformSingular"}
    assert {issue.path for issue in issues} == {"/World/Cup", "/World/Bird", "/World/Room"}
    assert all("ancestor </World> is singular, as by a scale of zero at time 24" in issue.message for issue in issues)


def test_a_scale_of_zero_is_right_while_hidden(stage):
    xform = UsdGeom.Xformable(cup(stage))
    scale = xform.AddScaleOp()
    scale.Set(Gf.Vec3f(0), 1)
    scale.Set(Gf.Vec3f(1), 2)
    assert only_issue(stage).rule == "TransformSingular"
    visibility = UsdGeom.Imageable(cup(stage)).CreateVisibilityAttr()
    visibility.Set(UsdGeom.Tokens.invisible, 1)
    visibility.Set(UsdGeom.Tokens.inherited, 2)
    assert validate(stage) == []


def test_an_ancestor_above_a_reset_does_not_matter(stage):
    UsdGeom.Xform.Define(stage, "/World").AddScaleOp().Set(Gf.Vec3f(0))
    for path in ("/World/Cup", "/World/Bird", "/World/Room"):
        UsdGeom.Xformable(stage.GetPrimAtPath(path)).SetResetXformStack(True)
    assert validate(stage) == []


@given(st.tuples(*[st.floats(1e-3, 1e3)] * 3), st.tuples(*[st.floats(-1e6, 1e6)] * 3))
def test_tiny_flat_and_far_away_is_not_singular(scale, translate):
    stage = Usd.Stage.CreateInMemory()
    cube = UsdGeom.Cube.Define(stage, "/Cube")
    NeuralAssetAPI.Apply(cube.GetPrim())
    cube.AddTranslateOp().Set(translate)
    cube.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(scale)
    assert validate(stage) == []


# --- backgrounds


def test_two_backgrounds(stage):
    bird(stage).CreateRoleAttr("background")
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Room", "TwoBackgrounds")
    assert "</World/Bird>" in issue.message


def test_backgrounds_that_take_turns(stage):
    bird(stage).CreateRoleAttr("background")
    for path, first, then in [("/World/Bird", "inherited", "invisible"), ("/World/Room", "invisible", "inherited")]:
        visibility = UsdGeom.Imageable(stage.GetPrimAtPath(path)).CreateVisibilityAttr()
        visibility.Set(first, 1)
        visibility.Set(then, 10)
    assert validate(stage) == []


def test_a_background_that_is_switched_off(stage):
    bird(stage).CreateRoleAttr("background")
    bird(stage).GetPrim().SetActive(False)
    assert validate(stage) == []


# --- the whole


def test_prims_of_instances_are_checked(stage):
    UsdGeom.Cube.Define(stage, "/World/Source/Cube")
    NeuralAssetAPI.Apply(stage.GetPrimAtPath("/World/Source/Cube")).CreatePresenceAttr(2)
    instance = UsdGeom.Xform.Define(stage, "/World/Instance").GetPrim()
    instance.GetReferences().AddInternalReference("/World/Source")
    instance.SetInstanceable(True)
    issues = both_ways(stage)
    assert [issue.path for issue in issues] == ["/World/Source/Cube", "/World/Instance/Cube"]


def test_what_a_layer_overrides_is_what_counts(stage):
    cup_tokens(stage).CreateEncoderAttr("")
    assert only_issue(stage).rule == "TokensEncoder"
    stage.SetEditTarget(stage.GetSessionLayer())
    cup_tokens(stage).CreateEncoderAttr("mini")
    assert validate(stage) == []


def test_real_stages_have_no_neural_problems(usd_wg):
    chess = next(usd_wg.rglob("chess_set.usda"))
    stage = Usd.Stage.Open(str(chess))
    assert validate(stage) == []
    pieces = [prim for prim in stage.Traverse() if prim.GetName() in ("King", "Queen")]
    assert pieces
    for prim in pieces:
        NeuralAssetAPI.Apply(prim)
    assert validate(stage) == []


def test_the_report_lists_errors_first_and_counts(stage):
    cup_tokens(stage).CreateRevisionAttr("")
    NeuralAssetAPI(cup(stage)).CreatePresenceAttr(2)
    bird(stage).CreateBox2dAttr((0, 0, 0, 0))
    report = format_report(validate(stage), width=60)
    headings = [line for line in report.splitlines() if not line.startswith(" ")]
    assert headings == [
        "error: </World/Cup> PresenceOutOfRange",
        "error: </World/Bird> BoxWithoutSize",
        "warning: </World/Cup> TokensRevision",
        "2 errors, 1 warning",
    ]
    assert all(len(line) <= 60 for line in report.splitlines())
    assert "Set it between 0" in " ".join(report.split())


def test_the_report_of_nothing():
    assert format_report([]) == "No problems found."
