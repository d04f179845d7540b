"""NeuralTokensAPI: modalities, arrays that come and go as numpy's, and tokens taken from other prims."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pxr import Gf, Sdf, Usd, UsdGeom

from neuralusd.schema import NeuralTokensAPI, to_usd


@pytest.fixture
def stage() -> Usd.Stage:
    return Usd.Stage.CreateInMemory()


@pytest.fixture
def cup(stage: Usd.Stage) -> Usd.Prim:
    return UsdGeom.Xform.Define(stage, "/World/Cup").GetPrim()


@pytest.fixture
def bottle(stage: Usd.Stage) -> Usd.Prim:
    return UsdGeom.Xform.Define(stage, "/World/Bottle").GetPrim()


def test_modalities_are_apart(cup):
    appearance = NeuralTokensAPI.Apply(cup, "appearance")
    appearance.CreateEncoderAttr("dino")
    assert not NeuralTokensAPI.Get(cup, "geometry")
    geometry = NeuralTokensAPI.Apply(cup, "geometry")
    assert cup.GetAppliedSchemas() == ["NeuralTokensAPI:appearance", "NeuralTokensAPI:geometry"]
    assert [tokens.GetName() for tokens in NeuralTokensAPI.GetAll(cup)] == ["appearance", "geometry"]
    assert appearance.GetEncoderAttr().GetName() == "neural:tokens:appearance:encoder"
    assert geometry.GetEncoderAttr().Get() == ""


@pytest.mark.parametrize("name", ["values", "from", "not a name", ""])
def test_names_that_no_modality_can_have(cup, name):
    with pytest.raises(ValueError, match="</World/Cup>.*instance name"):
        NeuralTokensAPI.Apply(cup, name)


def test_attribute_names_of_an_instance():
    assert "neural:tokens:text:values" in NeuralTokensAPI.GetSchemaAttributeNames(instanceName="text")


def test_tokens_of_many_assets_come_back_from_a_crate_as_views(stage, tmp_path):
    random = np.random.default_rng(0)
    values = {f"/Asset_{i}": random.standard_normal((784, 768)).astype(np.float16) for i in range(12)}
    for path, array in values.items():
        tokens = NeuralTokensAPI.Apply(UsdGeom.Xform.Define(stage, path).GetPrim(), "appearance")
        tokens.CreateValuesAttr(array)
        tokens.CreateShapeAttr(array.shape)
    stage.Export(str(tmp_path / "shot.usdc"))

    shot = Usd.Stage.Open(str(tmp_path / "shot.usdc"))
    for path, array in values.items():
        tokens = NeuralTokensAPI.Get(shot.GetPrimAtPath(path), "appearance")
        first, second = (np.asarray(tokens.GetValuesAttr().Get()) for _ in range(2))
        assert first.dtype == np.float16
        np.testing.assert_array_equal(first.reshape(tokens.GetShapeAttr().Get()), array)
        assert np.shares_memory(first, second)  # both look at the file, neither is a copy
        assert not first.flags.writeable


halves = hnp.arrays(np.float16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


@pytest.mark.parametrize("extension", ["usda", "usdc"])
@given(values=halves)
def test_any_tokens_survive_any_format(tmp_path_factory, extension, values):
    stage = Usd.Stage.CreateNew(str(tmp_path_factory.mktemp("tokens") / f"a.{extension}"))
    tokens = NeuralTokensAPI.Apply(UsdGeom.Xform.Define(stage, "/A").GetPrim(), "appearance")
    tokens.CreateValuesAttr(values)
    tokens.CreateShapeAttr(values.shape)
    stage.Save()
    stage.Reload()
    back = np.asarray(tokens.GetValuesAttr().Get()).reshape(tokens.GetShapeAttr().Get())
    np.testing.assert_array_equal(back, values)  # NaN equals NaN here


def test_points_keep_their_unknowns(cup):
    points = np.array([[0.1, 0.2, 0.3], [np.nan] * 3])
    tokens = NeuralTokensAPI.Apply(cup, "geometry")
    tokens.CreatePointsAttr(points)
    tokens.CreateExtentAttr(np.array([[0, 0, 0], [1, 2, 3]]))
    np.testing.assert_allclose(np.asarray(tokens.GetPointsAttr().Get()), points, rtol=1e-6)
    assert list(tokens.GetExtentAttr().Get()) == [Gf.Vec3f(0), Gf.Vec3f(1, 2, 3)]


def test_a_view_may_be_a_numpy_matrix_and_change_over_time(cup):
    tokens = NeuralTokensAPI.Apply(cup, "appearance")
    view = np.arange(16, dtype=np.float64).reshape(4, 4)
    attribute = tokens.CreateViewTransformAttr(view)
    np.testing.assert_array_equal(np.array(attribute.Get()), view)
    attribute.Set(to_usd(view.T, "matrix4d"), 5)
    np.testing.assert_array_equal(np.array(attribute.Get(5)), view.T)


def test_a_transposed_array_is_written_in_its_own_order(cup):
    values = np.arange(6, dtype=np.float16).reshape(2, 3).T
    attribute = NeuralTokensAPI.Apply(cup, "appearance").CreateValuesAttr(values)
    assert list(attribute.Get()) == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("half[]", np.random.default_rng(0).integers(0, 1 << 16, 1000).astype(np.uint16).view(np.float16)),
        ("half[]", np.linspace(-1, 1, 7)),
        ("uchar[]", np.arange(256, dtype=np.uint8)),
        ("int[]", np.arange(-3, 3, dtype=np.int32)),
        ("float[]", np.float32([1, np.nan, -np.inf])[::-1]),
        ("point3f[]", np.arange(12, dtype=np.float32).reshape(4, 3)),
        ("float3[]", np.zeros((0, 3), np.float32)),
    ],
)
def test_arrays_are_what_usd_itself_makes_of_them(cup, type_name, values):
    attribute = cup.CreateAttribute("numbers", Sdf.ValueTypeNames.Find(type_name))
    attribute.Set(np.ascontiguousarray(values))
    by_usd = np.array(attribute.Get())
    attribute.Set(to_usd(values, type_name))
    assert np.array(attribute.Get()).tobytes() == by_usd.tobytes()


@given(st.lists(st.integers(1, 4096), min_size=2, max_size=2))
@pytest.mark.parametrize("kind", [tuple, list, np.array, np.int16, lambda shape: Gf.Vec2i(*shape)])
def test_shapes_convert_from_whatever_they_come_in(kind, shape):
    assert to_usd(kind(shape), "int2") == Gf.Vec2i(*shape)


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        ((1, 2, 3), "int2"),
        ((0.5, 1.5), "int2"),
        ("ab", "int2"),
        (np.eye(3), "matrix4d"),
        ("x", "half[]"),
        (None, "float"),
    ],
)
def test_values_that_do_not_fit_say_so(value, type_name):
    with pytest.raises(ValueError, match=f"is not a USD {type_name.replace('[]', '')}"):
        to_usd(value, type_name)


def test_types_that_usd_lacks():
    with pytest.raises(ValueError, match="'tensor' is not the name of a USD value type"):
        to_usd(1, "tensor")


# --- taking the tokens of another prim


def tokens_of(prim: Usd.Prim, *sources: Usd.Prim) -> NeuralTokensAPI:
    tokens = NeuralTokensAPI.Apply(prim, "appearance")
    if sources:
        tokens.CreateFromRel().SetTargets([source.GetPath() for source in sources])
    return tokens


def test_tokens_without_a_source_are_a_prims_own(cup):
    assert tokens_of(cup).resolve().GetPrim() == cup


def test_tokens_are_followed_over_several_prims(stage, cup, bottle):
    jug = UsdGeom.Xform.Define(stage, "/World/Jug").GetPrim()
    tokens_of(jug)
    tokens_of(bottle, jug)
    assert tokens_of(cup, bottle).resolve().GetPrim() == jug


def test_a_source_survives_being_referenced(stage, cup, bottle):
    tokens_of(bottle)
    tokens_of(cup, bottle)
    copy = UsdGeom.Xform.Define(stage, "/Copy").GetPrim()
    copy.GetReferences().AddInternalReference("/World")
    resolved = NeuralTokensAPI(stage.GetPrimAtPath("/Copy/Cup"), "appearance").resolve()
    assert resolved.GetPrim().GetPath() == "/Copy/Bottle"


def test_tokens_come_through_an_inherited_class(stage, cup):
    look = stage.CreateClassPrim("/_look")
    NeuralTokensAPI.Apply(look, "appearance").CreateEncoderAttr("dino")
    cup.GetInherits().AddInherit("/_look")
    assert NeuralTokensAPI(cup, "appearance").resolve().GetEncoderAttr().Get() == "dino"


def test_a_circle_is_an_error_that_names_its_prims(cup, bottle):
    tokens_of(bottle, cup)
    tokens = tokens_of(cup, bottle)
    with pytest.raises(ValueError, match="circle: </World/Cup> -> </World/Bottle> -> </World/Cup>"):
        tokens.resolve()


def test_a_prim_that_takes_its_own_tokens_is_a_circle(cup):
    with pytest.raises(ValueError, match="circle: </World/Cup> -> </World/Cup>"):
        tokens_of(cup, cup).resolve()


def test_a_source_that_is_not_there_is_an_error(cup):
    tokens = NeuralTokensAPI.Apply(cup, "appearance")
    tokens.CreateFromRel().SetTargets(["/World/Nothing"])
    with pytest.raises(ValueError, match="</World/Cup.neural:tokens:appearance:from> targets </World/Nothing>"):
        tokens.resolve()


def test_a_source_of_another_modality_is_an_error(cup, bottle):
    NeuralTokensAPI.Apply(bottle, "geometry")
    with pytest.raises(ValueError, match="</World/Bottle>, which has no 'appearance' tokens .it has: geometry."):
        tokens_of(cup, bottle).resolve()


def test_several_sources_are_an_error(stage, cup, bottle):
    jug = UsdGeom.Xform.Define(stage, "/World/Jug").GetPrim()
    tokens_of(jug), tokens_of(bottle)
    with pytest.raises(ValueError, match="2 targets .</World/Bottle>, </World/Jug>."):
        tokens_of(cup, bottle, jug).resolve()


def test_tokens_that_are_not_applied_do_not_resolve(cup):
    with pytest.raises(ValueError, match="is not applied"):
        NeuralTokensAPI(cup, "appearance").resolve()
