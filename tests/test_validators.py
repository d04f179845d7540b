"""What is wrong with a stage, found by the plain function and by USD's own validation."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pxr import Gf, Sdf, Usd, UsdGeom, UsdValidation

from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.validators import ERROR, WARNING, Issue, format_report, validate

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def stage() -> Usd.Stage:
    """A stage with nothing wrong: a cup with geometry and tokens, a bird that is only a box, a background."""
    stage = Usd.Stage.CreateInMemory()
    cup = UsdGeom.Xform.Define(stage, "/World/Cup").GetPrim()
    UsdGeom.Cube.Define(stage, "/World/Cup/Geom")
    NeuralAssetAPI.Apply(cup)
    add_tokens(cup)
    bird = UsdGeom.Xform.Define(stage, "/World/Bird").GetPrim()
    NeuralAssetAPI.Apply(bird).CreateBox2dAttr((0.1, 0.2, 0.3, 0.4))
    room = UsdGeom.Xform.Define(stage, "/World/Room").GetPrim()
    NeuralAssetAPI.Apply(room).CreateRoleAttr("background")
    return stage


def add_tokens(prim: Usd.Prim, modality: str = "appearance") -> NeuralTokensAPI:
    """Six tokens of four numbers, as an encoder would write them."""
    tokens = NeuralTokensAPI.Apply(prim, modality)
    tokens.CreateValuesAttr(np.linspace(-1, 1, 24, dtype=np.float16).reshape(6, 4))
    tokens.CreateShapeAttr((6, 4))
    tokens.CreateGridAttr((2, 3))
    tokens.CreatePointsAttr(np.array([[0, 0, 0]] * 5 + [[NAN] * 3]))
    tokens.CreateEncoderAttr("mini")
    tokens.CreateRevisionAttr("1")
    return tokens


def cup(stage: Usd.Stage) -> Usd.Prim:
    return stage.GetPrimAtPath("/World/Cup")


def cup_tokens(stage: Usd.Stage) -> NeuralTokensAPI:
    return NeuralTokensAPI(cup(stage), "appearance")


def bird(stage: Usd.Stage) -> NeuralAssetAPI:
    return NeuralAssetAPI.Get(stage, "/World/Bird")


def both_ways(stage: Usd.Stage) -> list[Issue]:
    """What is wrong by the plain function; by UsdValidation it is the same, where that takes validators in Python."""
    issues = validate(stage)
    if hasattr(UsdValidation.ValidationRegistry, "RegisterPluginPrimValidator"):
        assert by_usd(stage) == by_path(issues)
    return issues


def by_usd(stage: Usd.Stage) -> list[Issue]:
    """What is wrong by UsdValidation, as any program would use it."""
    usd = UsdValidation
    registry = usd.ValidationRegistry()
    names = [metadata.name for metadata in registry.GetValidatorMetadataForKeyword("neuralusd")]
    assert len(names) == 3
    errors = usd.ValidationContext(registry.GetOrLoadValidatorsByName(names)).Validate(stage)
    severities = {usd.ValidationErrorType.Error: ERROR, usd.ValidationErrorType.Warn: WARNING}
    return by_path(
        Issue(severities[e.GetType()], str(e.GetSites()[0].GetPrim().GetPath()), e.GetName(), e.GetMessage())
        for e in errors
    )


def by_path(issues: Iterable[Issue]) -> list[Issue]:
    """In an order of their own, since USD validates prims in parallel."""
    return sorted(issues, key=dataclasses.astuple)


def only_issue(stage: Usd.Stage) -> Issue:
    """The one thing that is wrong, on which both ways agree."""
    issues = both_ways(stage)
    assert len(issues) == 1, format_report(issues)
    return issues[0]


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


# --- tokens


def break_values(tokens: NeuralTokensAPI, value: float) -> None:
    values = np.array(tokens.GetValuesAttr().Get())
    values[[5, 6, 20]] = value  # in tokens 1 and 5
    tokens.GetValuesAttr().Set(values)


@pytest.mark.parametrize(
    ("damage", "rule", "hint"),
    [
        (lambda t: t.CreateValuesAttr(np.zeros(23)), "TokensShape", "23 values, but shape (6, 4) takes 24"),
        (lambda t: t.GetShapeAttr().Clear(), "TokensShape", "no shape, though there are 24"),
        (lambda t: t.CreateShapeAttr((-6, -4)), "TokensShape", "have shape (-6, -4)"),
        (lambda t: t.GetValuesAttr().Clear(), "TokensMissing", "have no values"),
        (lambda t: t.GetValuesAttr().Set([]), "TokensMissing", "have no values"),
        (lambda t: break_values(t, NAN), "TokensNotFinite", "in 2 of 6"),
        (lambda t: break_values(t, -INF), "TokensNotFinite", "in 2 of 6"),
        (lambda t: t.CreateGridAttr((2, 2)), "TokensGrid", "a grid of 2 x 2, but are 6"),
        (lambda t: t.CreateGridAttr((-2, -3)), "TokensGrid", "a grid of -2 x -3"),
        (lambda t: t.GetGridAttr().Clear(), "TokensGrid", "no grid"),
        (lambda t: t.CreatePointsAttr(np.zeros((5, 3))), "TokensPoints", "are 6, but have 5 points"),
        (lambda t: t.CreatePointsAttr(np.full((6, 3), INF)), "TokensPoints", "points at infinity"),
        (lambda t: t.CreateEncoderAttr(""), "TokensEncoder", "which encoder"),
    ],
)
def test_tokens_that_are_damaged(stage, damage, rule, hint):
    damage(cup_tokens(stage))
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Cup", rule)
    assert "Its 'appearance' tokens" in issue.message and hint in issue.message
    assert "Encode the prim" in issue.message


def test_tokens_without_a_revision_are_a_warning(stage):
    cup_tokens(stage).CreateRevisionAttr("")
    issue = only_issue(stage)
    assert (issue.severity, issue.rule) == (WARNING, "TokensRevision")


def test_points_may_be_unknown_or_left_out(stage):
    cup_tokens(stage).CreatePointsAttr(np.full((6, 3), NAN))
    assert validate(stage) == []
    cup_tokens(stage).GetPointsAttr().Clear()
    assert validate(stage) == []


def test_animated_tokens_are_checked_at_every_sample(stage):
    values = cup_tokens(stage).GetValuesAttr()
    good = np.zeros(24, np.float16)
    values.Set(good, 1)
    values.Set(good, 2)
    assert validate(stage) == []
    values.Set(np.full(24, NAN, np.float16), 3)
    assert "in 6 of 6 at time 3" in only_issue(stage).message


def test_each_modality_is_checked(stage):
    add_tokens(cup(stage), "geometry").CreateEncoderAttr("")
    assert "'geometry'" in only_issue(stage).message


@given(st.lists(st.floats(width=16), min_size=1, max_size=40))
def test_not_finite_is_what_numpy_says(values):
    stage = Usd.Stage.CreateInMemory()
    prim = UsdGeom.Cube.Define(stage, "/Cube").GetPrim()
    NeuralAssetAPI.Apply(prim)
    tokens = add_tokens(prim)
    tokens.CreateValuesAttr(np.array(values, np.float16))
    tokens.CreateShapeAttr((len(values), 1))
    tokens.CreateGridAttr((1, len(values)))
    tokens.GetPointsAttr().Clear()
    assert bool(validate(stage)) == (not np.isfinite(np.array(values, np.float16)).all())


numbers = st.one_of(st.floats(width=16), st.sampled_from([NAN, INF, -INF, 0.0, 1.0, -1.0]))
pairs = st.tuples(st.integers(-2, 7), st.integers(-2, 7))


@given(
    presence=numbers,
    box=st.tuples(numbers, numbers, numbers, numbers),
    values=st.lists(numbers, max_size=9),
    shape=st.none() | pairs,
    grid=st.none() | pairs,
    points=st.lists(st.tuples(numbers, numbers, numbers), max_size=9),
    translate=st.tuples(numbers, numbers, numbers),
)
def test_whatever_is_authored_is_judged(presence, box, values, shape, grid, points, translate):
    stage = Usd.Stage.CreateInMemory()
    xform = UsdGeom.Xform.Define(stage, "/A")
    xform.AddTranslateOp().Set(translate)
    asset = NeuralAssetAPI.Apply(xform.GetPrim())
    asset.CreatePresenceAttr(presence)
    asset.CreateBox2dAttr(box)
    tokens = NeuralTokensAPI.Apply(xform.GetPrim(), "appearance")
    tokens.CreateValuesAttr(values)
    tokens.CreateShapeAttr(shape)
    tokens.CreateGridAttr(grid)
    tokens.CreatePointsAttr(points)
    tokens.CreateEncoderAttr("mini")
    tokens.CreateRevisionAttr("1")

    rules = {issue.rule for issue in both_ways(stage)}

    assert ("PresenceOutOfRange" in rules) == (not 0 <= presence <= 1)
    assert ("BoxNotFinite" in rules) == (not np.isfinite(box).all())
    assert ("TransformNotFinite" in rules) == (not np.isfinite(translate).all())
    count, length = shape or (0, 0)
    whole = bool(values) and count > 0 and length > 0 and count * length == len(values)
    assert whole == (not rules & {"TokensMissing", "TokensShape"})
    if whole:
        assert ("TokensNotFinite" in rules) == (not np.isfinite(values).all())
        assert ("TokensGrid" in rules) == (not grid or min(grid) <= 0 or grid[0] * grid[1] != count)
        assert ("TokensPoints" in rules) == (len(points) not in (0, count) or bool(np.isinf(points).any()))


# --- tokens of others


def test_tokens_on_what_is_no_asset(stage):
    add_tokens(UsdGeom.Xform.Define(stage, "/World/Jug").GetPrim())
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (WARNING, "/World/Jug", "TokensWithoutAsset")


def test_a_library_of_looks_need_not_be_assets(stage):
    add_tokens(UsdGeom.Scope.Define(stage, "/Looks/Blue").GetPrim())
    cup_tokens(stage).CreateFromRel().SetTargets(["/Looks/Blue"])
    add_tokens(stage.CreateClassPrim("/_red"))
    bird(stage).GetPrim().GetInherits().AddInherit("/_red")
    assert validate(stage) == []


def test_tokens_taken_from_another_prim_need_no_values(stage):
    NeuralTokensAPI.Apply(bird(stage).GetPrim(), "appearance").CreateFromRel().SetTargets(["/World/Cup"])
    assert validate(stage) == []


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("/World/Nothing", "not on the stage"),
        ("/World/Room", "no 'appearance' tokens"),
        ("/World/Bird", "circle: </World/Bird> -> </World/Bird>"),
    ],
)
def test_a_source_that_leads_nowhere(stage, target, hint):
    NeuralTokensAPI.Apply(bird(stage).GetPrim(), "appearance").CreateFromRel().SetTargets([target])
    issue = only_issue(stage)
    assert (issue.severity, issue.path, issue.rule) == (ERROR, "/World/Bird", "TokensFrom")
    assert hint in issue.message


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
    stage.GetSessionLayer().TransferContent(Sdf.Layer.CreateAnonymous())
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
