"""What is wrong with the tokens of a stage, found by the plain function and by USD's own validation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neural_stage import INF, NAN, add_tokens, bird, both_ways, cup, cup_tokens, only_issue, whole_stage
from pxr import Usd, UsdGeom

from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.validators import ERROR, WARNING, validate


@pytest.fixture
def stage() -> Usd.Stage:
    return whole_stage()


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
