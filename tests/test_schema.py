"""The neural schemas, walked as a pipeline TD would: what applies where, what is authored, what comes back."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pxr import Gf, Plug, Sdf, Usd, UsdGeom, UsdRender, UsdShade

from neuralusd import schema
from neuralusd.schema import (
    NeuralAnchorAPI,
    NeuralAssetAPI,
    NeuralProvenanceAPI,
    NeuralRenderSettingsAPI,
    NeuralTokensAPI,
    NeuralVolume,
    to_usd,
)

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stage() -> Usd.Stage:
    return Usd.Stage.CreateInMemory()


@pytest.fixture
def cup(stage: Usd.Stage) -> Usd.Prim:
    return UsdGeom.Xform.Define(stage, "/World/Cup").GetPrim()


@pytest.fixture
def bottle(stage: Usd.Stage) -> Usd.Prim:
    return UsdGeom.Xform.Define(stage, "/World/Bottle").GetPrim()


# --- what applies where


@pytest.mark.parametrize(
    ("type_name", "identifier"),
    [
        ("UsdNeuralAssetAPI", "NeuralAssetAPI"),
        ("UsdNeuralTokensAPI", "NeuralTokensAPI"),
        ("UsdNeuralAnchorAPI", "NeuralAnchorAPI"),
        ("UsdNeuralRenderSettingsAPI", "NeuralRenderSettingsAPI"),
        ("UsdNeuralProvenanceAPI", "NeuralProvenanceAPI"),
        ("UsdNeuralVolume", "NeuralVolume"),
    ],
)
def test_usd_knows_the_schema(type_name, identifier):
    assert Plug.Registry().FindTypeByName(type_name).typeName == type_name
    assert Usd.SchemaRegistry.GetSchemaTypeName(type_name) == identifier
    assert schema.is_registered()


def test_an_asset_is_absent_before_it_is_applied(cup):
    asset = NeuralAssetAPI(cup)
    assert not asset
    assert not cup.HasAPI("NeuralAssetAPI")
    assert not asset.GetPresenceAttr()

    assert NeuralAssetAPI.Apply(cup)

    assert cup.GetAppliedSchemas() == ["NeuralAssetAPI"]
    assert asset  # the same accessor now sees it
    assert asset.GetPath() == "/World/Cup"
    assert NeuralAssetAPI.Get(cup.GetStage(), "/World/Cup").GetPrim() == cup
    assert not NeuralAssetAPI.Get(cup.GetStage(), "/World/Nothing")


def test_applying_twice_changes_nothing(cup):
    NeuralAssetAPI.Apply(cup)
    before = cup.GetStage().ExportToString()
    NeuralAssetAPI.Apply(cup)
    assert cup.GetStage().ExportToString() == before


def test_applying_writes_to_the_edit_target_only(cup):
    stage = cup.GetStage()
    stage.SetEditTarget(stage.GetSessionLayer())
    before = stage.GetRootLayer().ExportToString()
    NeuralTokensAPI.Apply(cup, "appearance").CreateEncoderAttr("dino")
    assert stage.GetRootLayer().ExportToString() == before
    assert cup.HasAPI("NeuralTokensAPI", "appearance")


def test_an_asset_can_be_removed(cup):
    NeuralAssetAPI.Apply(cup)
    cup.RemoveAPI("NeuralAssetAPI")
    assert not NeuralAssetAPI(cup)


@pytest.mark.parametrize("define", [UsdGeom.Xform, UsdGeom.Scope, UsdGeom.Mesh, UsdGeom.PointInstancer, UsdGeom.Camera])
def test_assets_and_anchors_apply_to_what_can_be_imaged(stage, define):
    prim = define.Define(stage, "/Prim").GetPrim()
    assert NeuralAssetAPI.CanApply(prim)
    assert NeuralAssetAPI.Apply(prim)
    assert NeuralAnchorAPI.Apply(prim)


@pytest.mark.parametrize("api", [NeuralAssetAPI, NeuralAnchorAPI])
def test_assets_and_anchors_do_not_apply_to_what_cannot(stage, api):
    untyped = stage.DefinePrim("/Group")
    material = UsdShade.Material.Define(stage, "/Material").GetPrim()
    subset = UsdGeom.Subset.Define(stage, "/Mesh/Subset").GetPrim()
    for prim in (untyped, material, subset):
        answer = api.CanApply(prim)
        assert not answer
        assert "Imageable" in answer.whyNot
        with pytest.raises(ValueError, match=f"cannot be applied to <{prim.GetPath()}>.*Imageable"):
            api.Apply(prim)
        assert prim.GetAppliedSchemas() == []


def test_render_settings_apply_to_render_settings_only(stage, cup):
    settings = UsdRender.Settings.Define(stage, "/Render/Neural").GetPrim()
    product = UsdRender.Product.Define(stage, "/Render/Product").GetPrim()
    assert NeuralRenderSettingsAPI.Apply(settings)
    for prim in (cup, product):
        with pytest.raises(ValueError, match="RenderSettings"):
            NeuralRenderSettingsAPI.Apply(prim)


def test_tokens_and_provenance_apply_to_a_library_without_types(stage):
    look = stage.CreateClassPrim("/_look")
    assert NeuralTokensAPI.Apply(look, "appearance")
    assert NeuralProvenanceAPI.Apply(look)


def test_nothing_applies_to_a_prim_that_is_not_there(stage):
    with pytest.raises(ValueError, match="there is no such prim"):
        NeuralAssetAPI.Apply(stage.GetPrimAtPath("/Nothing"))


def test_nothing_applies_inside_an_instance(stage):
    UsdGeom.Cube.Define(stage, "/Source/Cube")
    instance = UsdGeom.Xform.Define(stage, "/Instance").GetPrim()
    instance.GetReferences().AddInternalReference("/Source")
    instance.SetInstanceable(True)
    proxy = stage.GetPrimAtPath("/Instance/Cube")
    assert proxy.IsInstanceProxy()
    with pytest.raises(ValueError, match="</Instance/Cube>, which is inside an instance"):
        NeuralAssetAPI.Apply(proxy)
    assert NeuralAssetAPI.Apply(instance)


# --- properties: fallback while unauthored, then set, then authored

PROPERTIES = [
    # schema, property's name in the accessors, type, uniform, fallback, a value
    (NeuralAssetAPI, "Presence", "float", False, 1.0, 0.25),
    (NeuralAssetAPI, "Role", "token", True, "foreground", "background"),
    (NeuralAssetAPI, "Text", "string", False, "", "a blue cup"),
    (NeuralAssetAPI, "Box2d", "float4", False, None, Gf.Vec4f(0.25, 0.5, 0.125, 0.375)),
    (NeuralAnchorAPI, "Pose", "float", True, 1.0, 0.0),
    (NeuralAnchorAPI, "Appearance", "float", True, 1.0, 0.0),
    (NeuralAnchorAPI, "Geometry", "float", True, 1.0, 0.0),
    (NeuralAnchorAPI, "Presence", "float", True, 1.0, 0.0),
    (NeuralAnchorAPI, "Background", "float", True, 1.0, 0.0),
    (NeuralAnchorAPI, "Camera", "float", True, 1.0, 0.0),
    (NeuralRenderSettingsAPI, "Backend", "string", True, "mini", "weights/large"),
    (NeuralRenderSettingsAPI, "Steps", "int", True, 0, 30),
    (NeuralRenderSettingsAPI, "Guidance", "float", True, 3.0, 7.5),
    (NeuralRenderSettingsAPI, "Seed", "int64", True, 0, 2**40),
    (NeuralVolume, "Embedding", "float[]", False, None, [1.0, 2.0]),
    (NeuralVolume, "Latent", "half[]", False, None, [1.0, 2.0]),
    (NeuralVolume, "LatentShape", "int4", True, None, Gf.Vec4i(8, 8, 8, 256)),
    (NeuralVolume, "Decoder", "string", True, "", "autodecoder"),
    (NeuralVolume, "Revision", "string", True, "", "v1"),
    (NeuralProvenanceAPI, "Verb", "token", True, None, "lift"),
    (NeuralProvenanceAPI, "Prompt", "string", True, "", "a chair"),
    (NeuralProvenanceAPI, "Sources", "asset[]", True, [], [Sdf.AssetPath("./chair.png")]),
    (NeuralProvenanceAPI, "Backend", "string", True, "", "mini"),
    (NeuralProvenanceAPI, "Revision", "string", True, "", "v1"),
    (NeuralProvenanceAPI, "Seed", "int64", True, None, 7),
    (NeuralProvenanceAPI, "License", "string", True, "", "CC-BY-4.0"),
    (NeuralProvenanceAPI, "Versions", "string[]", True, [], ["neuralusd==0.1.0"]),
    (NeuralTokensAPI, "Values", "half[]", False, None, [1.0, 2.0]),
    (NeuralTokensAPI, "Shape", "int2", True, None, Gf.Vec2i(784, 768)),
    (NeuralTokensAPI, "Grid", "int2", True, None, Gf.Vec2i(28, 28)),
    (NeuralTokensAPI, "Points", "point3f[]", False, None, [Gf.Vec3f(1, 2, 3)]),
    (NeuralTokensAPI, "Extent", "float3[]", False, None, [Gf.Vec3f(-1), Gf.Vec3f(1)]),
    (NeuralTokensAPI, "Crop", "float4", False, None, Gf.Vec4f(0, 0, 1, 1)),
    (NeuralTokensAPI, "ViewTransform", "matrix4d", False, None, Gf.Matrix4d(2)),
    (NeuralTokensAPI, "Encoder", "string", True, "", "facebook/dinov2-base"),
    (NeuralTokensAPI, "Revision", "string", True, "", "v1"),
    (NeuralTokensAPI, "Source", "asset", False, Sdf.AssetPath(), Sdf.AssetPath("./cup.png")),
]


def with_schema(stage: Usd.Stage, kind):
    """The schema on a prim of a type that it applies to."""
    if kind is NeuralVolume:
        return NeuralVolume.Define(stage, "/Prim")
    define = UsdRender.Settings if kind is NeuralRenderSettingsAPI else UsdGeom.Xform
    prim = define.Define(stage, "/Prim").GetPrim()
    return kind.Apply(prim, "appearance") if kind is NeuralTokensAPI else kind.Apply(prim)


def plain(value):
    return list(value) if hasattr(value, "__len__") and not isinstance(value, (str, Gf.Matrix4d)) else value


@pytest.mark.parametrize(("kind", "name", "type_name", "uniform", "fallback", "value"), PROPERTIES)
def test_a_property(stage, kind, name, type_name, uniform, fallback, value):
    it = with_schema(stage, kind)
    attribute = getattr(it, f"Get{name}Attr")()
    assert attribute.GetTypeName() == type_name
    assert attribute.GetVariability() == (Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying)
    assert not attribute.IsCustom()
    assert not attribute.HasAuthoredValue()
    assert plain(attribute.Get()) == plain(fallback)

    assert getattr(it, f"Create{name}Attr")(value) == attribute

    assert attribute.HasAuthoredValue()
    assert plain(attribute.Get()) == plain(value)
    spec = stage.GetRootLayer().GetAttributeAtPath(attribute.GetPath())
    assert (str(spec.typeName), spec.custom) == (type_name, False)


def test_every_property_of_the_schema_has_its_row_above():
    for kind in {row[0] for row in PROPERTIES}:
        registry = Usd.SchemaRegistry()
        find = registry.FindConcretePrimDefinition if kind is NeuralVolume else registry.FindAppliedAPIPrimDefinition
        names = {name for name in find(kind.schemaIdentifier).GetPropertyNames() if name.startswith("neural:")}
        rows = [row for row in PROPERTIES if row[0] is kind]
        relationships = {"neural:tokens:__INSTANCE_NAME__:from"} if kind is NeuralTokensAPI else set()
        assert names == {n for n in kind.GetSchemaAttributeNames() if n.startswith("neural:")} | relationships
        assert len(rows) == len(names) - len(relationships)


def test_roles_and_verbs_list_what_they_allow(stage):
    role = with_schema(stage, NeuralAssetAPI).GetRoleAttr()
    assert list(role.GetMetadata("allowedTokens")) == ["foreground", "background"]
    verb = NeuralProvenanceAPI.Apply(role.GetPrim()).GetVerbAttr()
    assert "encode" in verb.GetMetadata("allowedTokens")


def test_presence_and_text_can_be_keyframed(cup):
    asset = NeuralAssetAPI.Apply(cup)
    presence = asset.CreatePresenceAttr()
    presence.Set(0.0, 1)
    presence.Set(1.0, 11)
    assert presence.Get(6) == 0.5
    text = asset.CreateTextAttr("a cup")
    text.Set("a broken cup", 10)
    assert text.Get(12) == "a broken cup"


def test_sparse_authoring_leaves_a_fallback_alone(cup):
    asset = NeuralAssetAPI.Apply(cup)
    assert not asset.CreatePresenceAttr(1.0, writeSparsely=True).HasAuthoredValue()
    assert asset.CreatePresenceAttr(0.5, writeSparsely=True).Get() == 0.5
    assert asset.CreatePresenceAttr(1.0, writeSparsely=True).Get() == 1.0  # over an authored value it must be written


def test_settings_and_provenance_do_not_collide(stage):
    settings = UsdRender.Settings.Define(stage, "/Render").GetPrim()
    NeuralRenderSettingsAPI.Apply(settings).CreateSeedAttr(1)
    NeuralProvenanceAPI.Apply(settings).CreateSeedAttr(2)
    assert NeuralRenderSettingsAPI(settings).GetSeedAttr().Get() == 1


def test_a_volume_is_a_gprim(stage):
    volume = NeuralVolume.Define(stage, "/Chair")
    assert volume and volume.GetPrim().IsA(UsdGeom.Gprim)
    volume.CreateExtentAttr([(-1, -1, -1), (1, 1, 1)])
    UsdGeom.XformCommonAPI(volume).SetTranslate((1, 0, 0))
    box = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_]).ComputeWorldBound(volume.GetPrim())
    assert box.ComputeAlignedRange() == Gf.Range3d((0, -1, -1), (2, 1, 1))
    assert NeuralAssetAPI.Apply(volume.GetPrim())
    assert not NeuralVolume(UsdGeom.Cube.Define(stage, "/Cube").GetPrim())


def test_accessors_are_schemas_to_the_rest_of_usd(cup):
    asset = NeuralAssetAPI.Apply(cup)
    assert isinstance(asset, Usd.SchemaBase)
    assert UsdGeom.Xformable(asset).GetPrim() == cup


@pytest.mark.parametrize("kind", sorted({row[0] for row in PROPERTIES}, key=lambda kind: kind.__name__))
def test_everything_is_documented(kind):
    assert kind.__doc__
    for name in dir(kind):
        if name.startswith(("Get", "Create")) and name.endswith(("Attr", "Rel")) and name not in dir(UsdGeom.Gprim):
            assert "neural:" in getattr(kind, name).__doc__, name
    registry = Usd.SchemaRegistry()
    find = registry.FindConcretePrimDefinition if kind is NeuralVolume else registry.FindAppliedAPIPrimDefinition
    definition = find(kind.schemaIdentifier)
    assert definition.GetDocumentation()  # what usdview and DCCs show
    assert all(definition.GetPropertyDocumentation(n) for n in definition.GetPropertyNames() if n.startswith("neural:"))


# --- tokens


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


# --- the files, and the ways in which USD finds them


def test_generated_files_are_up_to_date(tmp_path):
    pytest.importorskip("jinja2")
    made = subprocess.run(
        [sys.executable, "usdschemas/generate.py", "--to", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 + 6
    for file in files:
        stale = f"{file} is not what schema.usda says; run python usdschemas/generate.py"
        assert (tmp_path / file).read_text() == (PROJECT / file).read_text(), stale


def run(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs `code` in a Python of its own, in which nothing has touched USD."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PXR_PLUGINPATH_NAME")}
    command = [sys.executable, "-W", "default", "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**clean, **environment})


WITHOUT_NEURALUSD = """
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
prim.ApplyAPI("NeuralAssetAPI")
prim.ApplyAPI("NeuralTokensAPI", "appearance")
print(prim.GetAttribute("neural:presence").Get(), prim.HasAttribute("neural:tokens:appearance:values"))
print(stage.DefinePrim("/V", "NeuralVolume").IsA(UsdGeom.Gprim))
"""
WITH_NEURALUSD = """
import neuralusd
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI, register
register(); register()
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
tokens = NeuralTokensAPI.Apply(prim, "appearance")
tokens.CreateShapeAttr((3, 4))
print(NeuralAssetAPI.Apply(prim).GetPresenceAttr().Get(), tokens.GetShapeAttr().Get())
from neuralusd.validators import validate
print([issue.rule for issue in validate(stage)])
print(neuralusd.__file__, Usd.GetVersion())
"""


def assert_works(done: subprocess.CompletedProcess, *lines: str) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[: len(lines)] == list(lines)


@pytest.fixture(scope="session")
def blender_usd() -> str:
    """The folder of the pxr inside Blender's wheel; importing bpy is not needed for it."""
    bpy = importlib.util.find_spec("bpy")
    found = sorted(Path(bpy.origin).parent.glob("*/python/lib/python*/site-packages/pxr")) if bpy and bpy.origin else []
    if not found:
        pytest.skip("Blender's module is not installed: pip install 'neuralusd[blender]'")
    return str(found[0].parent)


def test_usd_finds_the_schema_by_its_environment_variable(tmp_path):
    assert_works(run(WITHOUT_NEURALUSD, tmp_path, PXR_PLUGINPATH_NAME=str(PROJECT)), "1.0 True", "True")
    assert schema.plugin_path() == PROJECT


def test_importing_neuralusd_registers_the_schema(tmp_path):
    assert_works(run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(PROJECT)), "1.0 (3, 4)", "['NoPlace', 'TokensMissing']")


def test_the_variable_and_the_import_together_are_harmless(tmp_path):
    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(PROJECT), PXR_PLUGINPATH_NAME=str(PROJECT))
    assert_works(done, "1.0 (3, 4)")


def test_blenders_usd_finds_the_schema_by_its_environment_variable(tmp_path, blender_usd):
    done = run(WITHOUT_NEURALUSD, tmp_path, PYTHONPATH=blender_usd, PXR_PLUGINPATH_NAME=str(PROJECT))
    assert_works(done, "1.0 True", "True")


def test_importing_neuralusd_registers_the_schema_with_blenders_usd(tmp_path, blender_usd):
    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=os.pathsep.join([blender_usd, str(PROJECT)]))
    assert_works(done, "1.0 (3, 4)", "['NoPlace', 'TokensMissing']")
    assert done.stdout.splitlines()[-1].endswith("(0, 25, 8)")


def test_a_wheel_carries_the_schema(tmp_path):
    # From a copy, since building leaves files beside the sources.
    kept = ("neuralusd", "usdschemas", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in kept:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    built = subprocess.run([*pip, "--target", installed, source], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(installed))
    assert_works(done, "1.0 (3, 4)")
    assert str(installed) in done.stdout  # it was the installed one
    done = run("import neuralusd.schema; print(neuralusd.schema.plugin_path())", tmp_path, PYTHONPATH=str(installed))
    plugin_path = done.stdout.strip()
    assert plugin_path == str(installed / "neuralusd")
    assert_works(run(WITHOUT_NEURALUSD, tmp_path, PXR_PLUGINPATH_NAME=plugin_path), "1.0 True", "True")


TOO_LATE = """
import warnings
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
{forget}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import neuralusd.schema
print([str(w.message) for w in caught if w.category is RuntimeWarning])
from neuralusd.schema import NeuralAssetAPI, NeuralVolume, require
for attempt in (lambda: NeuralAssetAPI.Apply(prim), lambda: bool(NeuralAssetAPI(prim)),
                lambda: NeuralVolume.Define(stage, "/V"), require):
    try:
        attempt()
    except RuntimeError as error:
        print(error)
"""
CURE = "Import neuralusd before the first stage is opened, or set the environment variable "
CURE += f"PXR_PLUGINPATH_NAME={PROJECT}"


def test_importing_after_a_stage_was_opened_warns_with_the_cure(tmp_path):
    done = run(TOO_LATE.format(forget=""), tmp_path, PYTHONPATH=str(PROJECT))
    warning, *errors = done.stdout.splitlines()
    assert CURE in warning, done.stderr
    assert len(errors) == 4 and all(CURE in error for error in errors)


def test_using_the_schema_after_a_stage_was_opened_and_closed_is_an_error_with_the_cure(tmp_path):
    # No layer is open at the import, so that only the first use can tell.
    forget = "del stage, prim"
    again = 'stage = Usd.Stage.CreateInMemory(); prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()\nfor attempt'
    code = TOO_LATE.format(forget=forget).replace("\nfor attempt", "\n" + again)
    done = run(code, tmp_path, PYTHONPATH=str(PROJECT))
    warning, *errors = done.stdout.splitlines()
    assert warning == "[]", done.stderr
    assert len(errors) == 4 and all(CURE in error for error in errors)


def test_the_environment_variable_cures_it(tmp_path):
    done = run(TOO_LATE.format(forget=""), tmp_path, PYTHONPATH=str(PROJECT), PXR_PLUGINPATH_NAME=str(PROJECT))
    assert done.stdout.splitlines() == ["[]"], done.stderr


def test_other_schemas_can_still_register_after_ours(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    text = (PROJECT / "usdschemas/plugInfo.json").read_text()
    (folder / "plugInfo.json").write_text(text.replace("usdNeural", "usdOther").replace("Neural", "Other"))
    text = (PROJECT / "usdschemas/generatedSchema.usda").read_text()
    (folder / "generatedSchema.usda").write_text(text.replace("Neural", "Other").replace("neural:", "other:"))
    code = f"""
import neuralusd
from pxr import Plug, Usd, UsdGeom
Plug.Registry().RegisterPlugins({str(folder)!r})
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
print(prim.ApplyAPI("OtherAssetAPI"), prim.ApplyAPI("NeuralAssetAPI"))
"""
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "True True")


def test_importing_costs_no_torch_and_little_else(tmp_path):
    heavy = "{'torch', 'numpy', 'scipy', 'trimesh', 'diffusers', 'transformers', 'bpy'}"
    code = f"import sys, neuralusd, neuralusd.schema; print({heavy} & set(sys.modules))"
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "set()")


def test_neuralusd_can_be_imported_without_usd(tmp_path):
    hidden = "import sys; sys.modules['pxr'] = None; import importlib.util as u; find = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *rest: None if name == 'pxr' else find(name, *rest)\n"
    code = hidden + "import neuralusd.scene; print('ok')"
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "ok")


def test_the_documentation_names_every_property():
    text = (PROJECT / "docs/schema.md").read_text()
    for kind in {row[0] for row in PROPERTIES}:
        assert f"## {kind.schemaIdentifier}\n" in text
        for name in kind.GetSchemaAttributeNames():
            short = name.replace("neural:tokens:__INSTANCE_NAME__", "…")
            assert f"`{short}`" in text or not name.startswith("neural:"), name
