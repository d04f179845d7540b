"""The neural schemas, walked as a pipeline TD would: what applies where, what is authored, what comes back."""

from pathlib import Path

import pytest
from pxr import Gf, Plug, Sdf, Usd, UsdGeom, UsdRender, UsdShade

from neuralusd import schema
from neuralusd.schema import (
    NeuralAnchorAPI,
    NeuralAssetAPI,
    NeuralProvenanceAPI,
    NeuralRenderSettingsAPI,
    NeuralTokensAPI,
    NeuralVolume,
)

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stage() -> Usd.Stage:
    return Usd.Stage.CreateInMemory()


@pytest.fixture
def cup(stage: Usd.Stage) -> Usd.Prim:
    return UsdGeom.Xform.Define(stage, "/World/Cup").GetPrim()


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


def test_the_documentation_names_every_property():
    text = (PROJECT / "docs/schema.md").read_text()
    for kind in {row[0] for row in PROPERTIES}:
        assert f"## {kind.schemaIdentifier}\n" in text
        for name in kind.GetSchemaAttributeNames():
            short = name.replace("neural:tokens:__INSTANCE_NAME__", "…")
            assert f"`{short}`" in text or not name.startswith("neural:"), name
