"""The scene crosses as USD: what Blender's exporter and importer carry of the schema, and which prim is whose."""

import numpy as np
import pytest
from blender_process import blenders, installed
from pxr import Usd, UsdGeom

import neuralusd  # noqa: F401 - registers the schema
from neuralusd import stage as stages
from neuralusd.schema import NeuralAssetAPI, NeuralSurfaceAPI, NeuralTokensAPI, NeuralViewAPI
from neuralusd.validators import validate


@pytest.fixture(scope="module", params=blenders())
def blender(request, blender_python, tmp_path_factory):
    return installed(request.param or blender_python, tmp_path_factory.mktemp("blender"))


# What a file of somebody else says: every property that objects can have.
FOREIGN = """#usda 1.0
(
    defaultPrim = "World"
    upAxis = "{up}"
    metersPerUnit = {unit}
    renderSettingsPrimPath = "/Render/Neural"
)

def Xform "World"
{{
    def Xform "Cup" (
        prepend apiSchemas = [
            "NeuralAssetAPI", "NeuralTokensAPI:appearance", "NeuralTokensAPI:geometry", "NeuralAnchorAPI"
        ]
    )
    {{
        float neural:presence = 0.5
        string neural:text = "a cup"
        string neural:text.timeSamples = {{ 1: "a cup", 5: "a mug" }}
        half[] neural:tokens:appearance:values = [1, 2, 3, 4.5] (
            customData = {{ dictionary neuralusd = {{ string digest = "abc" }} }}
        )
        uniform int2 neural:tokens:appearance:shape = (2, 2)
        uniform int2 neural:tokens:appearance:grid = (1, 2)
        point3f[] neural:tokens:appearance:points = [(0, 0, 0), (nan, nan, nan)]
        float3[] neural:tokens:appearance:extent = [(0, 0, 0), (1, 1, 0)]
        float4 neural:tokens:appearance:crop = (0.1, 0.2, 0.3, 0.4)
        matrix4d neural:tokens:appearance:viewTransform = ( (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, -5, 1) )
        uniform string neural:tokens:appearance:encoder = "mini/appearance"
        uniform string neural:tokens:appearance:revision = "1"
        asset neural:tokens:appearance:source = @./photos/cup.png@
        rel neural:tokens:geometry:from = </World/Bottle>
        uniform float neural:anchor:pose = 0.25
        double3 xformOp:translate = (10, 20, 30)
        uniform token[] xformOpOrder = ["xformOp:translate"]

        def Mesh "Shape"
        {{
            int[] faceVertexCounts = [3]
            int[] faceVertexIndices = [0, 1, 2]
            point3f[] points = [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
        }}
    }}

    def Xform "Bottle" (
        prepend apiSchemas = ["NeuralAssetAPI", "NeuralTokensAPI:geometry", "NeuralProvenanceAPI"]
    )
    {{
        float neural:presence.timeSamples = {{ 1: 0, 11: 1 }}
        float4 neural:box2d = (0.1, 0.1, 0.5, 0.5)
        half[] neural:tokens:geometry:values = [5, 6]
        uniform int2 neural:tokens:geometry:shape = (1, 2)
        uniform string neural:tokens:geometry:encoder = "mini/geometry"
        uniform token neural:provenance:verb = "lift"
        uniform int64 neural:provenance:seed = 9007199254740993
        uniform string[] neural:provenance:versions = ["neuralusd==0.1.0"]
    }}

    def NeuralVolume "Cloud" (
        prepend apiSchemas = ["NeuralAssetAPI"]
    )
    {{
        float[] neural:embedding = [1, 2, 3]
        uniform int4 neural:latentShape = (1, 1, 1, 3)
        float3[] extent = [(0, 0, 0), (1, 1, 1)]
        double3 xformOp:translate = (0, 0, 7)
        uniform token[] xformOpOrder = ["xformOp:translate"]
    }}

    def Xform "Background" (
        prepend apiSchemas = ["NeuralAssetAPI"]
    )
    {{
        uniform token neural:role = "background"
    }}
}}

def Scope "Render"
{{
    def RenderSettings "Neural" (
        prepend apiSchemas = ["NeuralRenderSettingsAPI"]
    )
    {{
        uniform string neural:backend = "mini"
        uniform int neural:steps = 4
        uniform float neural:guidance = 2.5
        uniform int64 neural:seed = 123456789012
    }}
}}
"""


def prim_of(stage, name):
    """The prim that Blender made of the object of that name."""
    [found] = [p for p in stage.Traverse() if p.GetAttribute("userProperties:blender:object_name").Get() == name]
    return found


def said(prim):
    """All that a prim says in the schema: property to value, or targets' names, or samples."""
    out = {}
    for each in prim.GetAuthoredPropertiesInNamespace("neural"):
        if isinstance(each, Usd.Relationship):
            out[each.GetName()] = [path.name for path in each.GetTargets()]
        else:
            samples = {time: each.Get(time) for time in each.GetTimeSamples()}
            out[each.GetName()] = samples or each.Get()
    return out


class TestRoundTrip:
    @pytest.mark.parametrize(("up", "unit"), [("Z", 1), ("Y", 0.01)])
    @pytest.mark.parametrize("again", ["usda", "usdc"])
    def test_every_property_survives_import_and_export(self, blender, tmp_path, up, unit, again):
        source, target = tmp_path / "foreign.usda", tmp_path / f"again.{again}"
        source.write_text(FOREIGN.format(up=up, unit=unit))
        blender.run(
            """
scene = empty()
bpy.ops.wm.save_as_mainfile(filepath=ARGUMENTS["blend"])
bpy.ops.wm.usd_import(filepath=ARGUMENTS["source"], merge_parent_xform=False)
# As after another day: what was not saved is gone.
bpy.ops.wm.save_mainfile()
bpy.ops.wm.open_mainfile(filepath=ARGUMENTS["blend"])
bpy.ops.wm.usd_export(filepath=ARGUMENTS["target"], export_animation=True)
""",
            tmp_path,
            blend=str(tmp_path / "shot.blend"),
            source=str(source),
            target=str(target),
        )
        assert (tmp_path / "shot.neural.usdc").is_file()
        before, after = Usd.Stage.Open(str(source)), Usd.Stage.Open(str(target))
        for name in ("Cup", "Bottle", "Cloud", "Background"):
            old, new = before.GetPrimAtPath(f"/World/{name}"), prim_of(after, name)
            assert new.GetTypeName() == old.GetTypeName()
            assert set(old.GetAppliedSchemas()) <= set(new.GetAppliedSchemas())
            wanted, found = said(old), said(new)
            assert found.keys() == wanted.keys()
            source_key = "neural:tokens:appearance:source"
            if source_key in wanted:  # the same file, seen from elsewhere
                assert found.pop(source_key).path == str(tmp_path / "photos/cup.png")
                del wanted[source_key]
            for key, value in wanted.items():
                np.testing.assert_equal(_plain(found[key]), _plain(value), err_msg=f"{name} {key}")
        digest = prim_of(after, "Cup").GetAttribute("neural:tokens:appearance:values").GetCustomDataByKey
        assert digest("neuralusd:digest") == "abc"
        assert stages.render_settings(after) == {"backend": "mini", "steps": 4, "guidance": 2.5, "seed": 123456789012}

    def test_what_blender_edits_is_what_it_exports(self, blender, tmp_path):
        source, target = tmp_path / "foreign.usda", tmp_path / "again.usda"
        source.write_text(FOREIGN.format(up="Z", unit=1))
        blender.run(
            """
scene = empty()
bpy.ops.wm.usd_import(filepath=ARGUMENTS["source"], merge_parent_xform=False)
cup, bottle = bpy.data.objects["Cup"], bpy.data.objects["Bottle"]
assert (cup.neuralusd.text, cup.neuralusd.presence, cup.neuralusd.role) == ("a cup", 0.5, "ASSET")
assert (cup.neuralusd.geometry_from, cup.neuralusd.geometry_object) == ("OBJECT", bottle)
assert bpy.data.objects["Background"].neuralusd.role == "BACKGROUND"
cup.neuralusd.text, cup.neuralusd.presence, cup.neuralusd.geometry_from = "a red cup", 0.25, "OWN"
cup.neuralusd.appearance_from, cup.neuralusd.appearance_object = "OBJECT", bottle
cup.name = "Tasse"
scene.neuralusd.seed = 5
bpy.ops.wm.usd_export(filepath=ARGUMENTS["target"])
""",
            tmp_path,
            source=str(source),
            target=str(target),
        )
        stage = Usd.Stage.Open(str(target))
        cup = prim_of(stage, "Tasse")
        assert NeuralAssetAPI(cup).GetTextAttr().Get() == "a red cup"
        assert NeuralAssetAPI(cup).GetPresenceAttr().Get() == 0.25
        assert NeuralTokensAPI(cup, "geometry").GetFromRel().GetTargets() == []
        [donor] = NeuralTokensAPI(cup, "appearance").GetFromRel().GetTargets()
        assert stage.GetPrimAtPath(donor) == prim_of(stage, "Bottle")
        # The tokens of its own stay beside those that it shows.
        assert len(NeuralTokensAPI(cup, "appearance").GetValuesAttr().Get()) == 4
        assert stages.render_settings(stage)["seed"] == 5

    def test_a_scene_that_says_nothing_neural_is_exported_as_ever(self, blender, tmp_path):
        target = tmp_path / "plain.usda"
        blender.run(
            """
empty()
box("Box")
bpy.ops.wm.usd_export(filepath=ARGUMENTS["target"])
""",
            tmp_path,
            target=str(target),
        )
        assert "eural" not in target.read_text()

    def test_tokens_that_come_from_a_library_prim_come_along(self, blender, tmp_path):
        source, target = tmp_path / "foreign.usda", tmp_path / "again.usda"
        text = FOREIGN.format(up="Z", unit=1).replace("</World/Bottle>", "</Looks/Blue>")
        source.write_text(
            text
            + """
class Scope "Looks"
{
    class Scope "Blue" (
        prepend apiSchemas = ["NeuralTokensAPI:geometry"]
    )
    {
        half[] neural:tokens:geometry:values = [7, 8]
        uniform int2 neural:tokens:geometry:shape = (1, 2)
        uniform string neural:tokens:geometry:encoder = "mini/geometry"
    }
}
"""
        )
        blender.run(
            """
empty()
bpy.ops.wm.usd_import(filepath=ARGUMENTS["source"], merge_parent_xform=False)
bpy.ops.wm.usd_export(filepath=ARGUMENTS["target"])
""",
            tmp_path,
            source=str(source),
            target=str(target),
        )
        stage = Usd.Stage.Open(str(target))
        used = NeuralTokensAPI(prim_of(stage, "Cup"), "geometry").resolve()
        assert list(used.GetValuesAttr().Get()) == [7, 8]


def _plain(value):
    if isinstance(value, dict):
        return {time: _plain(each) for time, each in value.items()}
    if hasattr(value, "__len__") and not isinstance(value, str):
        return np.array(value)
    return value


SCENE = """
scene = empty()
"""


class TestWhichPrimIsWhose:
    def test_names_that_usd_does_not_have(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
names = ["Küche ☕ 1.a", "Kueche", "1 2", "Стул", "椅子", "a b", "a_b", "a.b", "Küche ☕ 1_a"]
for number, name in enumerate(names):
    box(name, (2 * number, 0, 0)).neuralusd.role = "ASSET"
stage, sent = shot()
for path in sent.assets:
    place = stage.GetPrimAtPath(path).GetAttribute("xformOp:translate").Get()
    result.setdefault("places", {})[sent.object(path).name] = list(place or (0, 0, 0))
result["wanted"] = {name: [2.0 * number, 0, 0] for number, name in enumerate(names)}
for unicode in (True, False):
    bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + f"/{unicode}.usda", allow_unicode=unicode,
                          author_blender_name=unicode)
""",
            tmp_path,
        )
        assert found["places"] == found["wanted"]
        for name in ("True", "False"):  # with the names that Blender records, and with those it makes alone
            stage = Usd.Stage.Open(str(tmp_path / f"{name}.usda"))
            assets = [prim for prim in stage.Traverse() if NeuralAssetAPI(prim)]
            assert len(assets) == 9 and all(prim.GetTypeName() == "Xform" for prim in assets)

    def test_children_belong_to_their_parent_unless_they_are_assets(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
table = box("Table")
box("Leg", (0, 0, -1), parent=table)
cup = box("Cup", (0, 0, 1), size=0.2, parent=table)
cup.neuralusd.role = "ASSET"
box("Chair", (3, 0, 0))
stage, sent = shot()
result["assets"] = sorted(sent.assets)
""",
            tmp_path,
        )
        assert found["assets"] == ["/root/Chair", "/root/Table", "/root/Table/Cup"]

    def test_an_instance_of_a_collection_is_one_asset(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
collection = bpy.data.collections.new("Set")
inner = box("Inner", link=False)
second = box("Second", (1, 0, 0), link=False, parent=inner)
collection.objects.link(inner)
collection.objects.link(second)
for number in range(2):
    each = bpy.data.objects.new(f"Instance{number}", None)
    each.instance_type, each.instance_collection, each.location = "COLLECTION", collection, (4 * number, 0, 0)
    scene.collection.objects.link(each)
    box(f"On{number}", (0, 0, 2), parent=each)
# The same object also stands by itself.
scene.collection.objects.link(inner)
inner.location.y = 5
bpy.context.view_layer.update()
stage, sent = shot()
result["assets"] = sorted(sent.object(path).name for path in sent.assets)
result["on"] = sorted(name for name, library in sent.paths.values() if name.startswith("On"))
""",
            tmp_path,
        )
        assert found["assets"] == ["Inner", "Instance0", "Instance1"]
        assert found["on"] == ["On0", "On1"]

    def test_what_is_not_rendered_is_not_sent(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
for name in ("Shown", "Render", "Group", "Layer"):
    box(name, (len(name), 0, 0))
bpy.data.objects["Render"].hide_render = True
for name in ("Group", "Layer"):
    collection = bpy.data.collections.new(name)
    scene.collection.children.link(collection)
    scene.collection.objects.unlink(bpy.data.objects[name])
    collection.objects.link(bpy.data.objects[name])
bpy.data.collections["Group"].hide_render = True
bpy.context.view_layer.layer_collection.children["Layer"].exclude = True
bpy.context.view_layer.update()
stage, sent = shot()
result["assets"] = sent.assets
result["mesh"] = [str(prim.GetPath()) for prim in stage.Traverse() if prim.GetTypeName() == "Mesh"]
bpy.data.objects["Shown"].hide_set(True)
bpy.data.objects["Render"].hide_render = False
stage, sent = shot(viewport=True)
result["viewport"] = sorted(sent.assets)
""",
            tmp_path,
        )
        assert found["assets"] == ["/root/Shown"]
        assert [path for path in found["mesh"] if "Shown" not in path] == []
        assert found["viewport"] == ["/root/Group", "/root/Render"]

    def test_the_room_is_scenery_and_what_is_in_it_are_assets(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
scene.camera.location = (0, -2.5, 1)
room = box("Room", (0, 0, 1.5), size=6)
floor = box("Floor", (0, 0, -0.01), size=5)
floor.scale.z = 0.004
table = box("Table", (0, 1, 0.4), size=0.8)
box("Vase", (0, 1, 1), size=0.3)
box("Chair", (1.4, 1, 0.5), size=0.9)
forced = box("Poster", (0, 2.9, 1.5), size=4)
forced.scale.y = 0.001
forced.neuralusd.role = "ASSET"
box("Wall", (0, 2.95, 1.5), size=5).scale.y = 0.001
box("Ignored", (-1, 1, 0)).neuralusd.role = "SCENERY"
stage, sent = shot()
result["assets"] = sorted(sent.object(path).name for path in sent.assets)
""",
            tmp_path,
        )
        assert found["assets"] == ["Chair", "Poster", "Table", "Vase"]

    def test_objects_that_are_linked_from_another_file(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
import shutil
box("Vase").neuralusd.text = "a vase"
box("Other", (3, 0, 0))
library, shot_file = ARGUMENTS["folder"] + "/library.blend", ARGUMENTS["folder"] + "/shot.blend"
bpy.ops.wm.save_as_mainfile(filepath=library)
bpy.ops.wm.read_homefile(use_empty=True)
scene = empty()
with bpy.data.libraries.load(library, link=True) as (source, target):
    target.objects = ["Vase"]
linked = target.objects[0]
scene.collection.objects.link(linked)
own = box("Vase", (3, 0, 0))
bpy.ops.wm.save_as_mainfile(filepath=shot_file)
stage, sent = shot()
result["assets"] = {path: [sent.object(path).name, bool(sent.object(path).library),
                           list(stage.GetPrimAtPath(path).GetAttribute("xformOp:translate").Get() or (0, 0, 0))]
                    for path in sent.assets}
result["texts"] = sorted(stage.GetPrimAtPath(path).GetAttribute("neural:text").Get() or "" for path in sent.assets)
""",
            tmp_path,
        )
        assert sorted(found["assets"].values()) == [["Vase", False, [3, 0, 0]], ["Vase", True, [0, 0, 0]]]
        assert found["texts"] == ["", "a vase"]

    def test_what_is_said_of_an_override_stays_with_the_file(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
library, shot_file = ARGUMENTS["folder"] + "/library.blend", ARGUMENTS["folder"] + "/shot.blend"
box("Vase").neuralusd.text = "a vase"
bpy.ops.wm.save_as_mainfile(filepath=library)
bpy.ops.wm.read_homefile(use_empty=True)
scene = empty()
with bpy.data.libraries.load(library, link=True) as (source, target):
    target.objects = ["Vase"]
scene.collection.objects.link(target.objects[0])
said = target.objects[0].override_create(remap_local_usages=True).neuralusd
said.text, said.role, said.presence, said.record = "a jug", "ASSET", 0.5, "r_1"
bpy.ops.wm.save_as_mainfile(filepath=shot_file)
bpy.ops.wm.open_mainfile(filepath=shot_file)
said = next(each for each in bpy.context.scene.objects if each.override_library).neuralusd
result["said"] = [said.text, said.role, said.presence, said.record]
""",
            tmp_path,
        )
        assert found["said"] == ["a jug", "ASSET", 0.5, "r_1"]

    def test_what_is_no_mesh_or_scaled_to_nothing_is_left_out(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
box("Box", (0, 0, 0))
box("Nothing", (3, 0, 0)).scale = (0, 0, 0)
for name, data in (("Tube", bpy.data.curves.new("Tube", "CURVE")), ("Path", bpy.data.curves.new("Path", "CURVE"))):
    data.dimensions = "3D"
    scene.collection.objects.link(bpy.data.objects.new(name, data))
tube = bpy.data.objects["Tube"].data
tube.splines.new("POLY").points.add(1)
tube.bevel_depth = 0.1
bpy.context.view_layer.update()
stage, sent = shot()
result["assets"] = sorted(sent.object(path).name for path in sent.assets)
result["left out"] = [sent.left_out, sent.said_of_left_out()]
result["meshes"] = [str(prim.GetPath()) for prim in stage.Traverse() if prim.GetTypeName() == "Mesh"]
""",
            tmp_path,
        )
        assert found["assets"] == ["Box"] and len(found["meshes"]) == 1
        assert found["left out"][0] == ["Tube"] and "Convert > Mesh" in found["left out"][1]

    def test_what_is_sent_is_what_shows(self, blender, tmp_path):
        """Modifiers are applied, bones bend, and what is being edited is as it is now."""
        found = blender.run(
            SCENE
            + """
import bmesh
from pxr import UsdGeom
edited = box("Edited", (-3, 0, 0))
box("Array").modifiers.new("Array", "ARRAY").count = 3
rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
scene.collection.objects.link(rig)
bpy.context.view_layer.objects.active = rig
bpy.ops.object.mode_set(mode="EDIT")
bone = rig.data.edit_bones.new("Bone")
bone.tail = (0, 0, 1)
bpy.ops.object.mode_set(mode="OBJECT")
body = box("Body", parent=rig)
body.vertex_groups.new(name="Bone").add(range(8), 1, "ADD")
body.modifiers.new("Armature", "ARMATURE").object = rig
rig.location, rig.pose.bones["Bone"].location = (0, 0, 5), (0, 2, 0)
bpy.context.view_layer.objects.active = edited
bpy.ops.object.mode_set(mode="EDIT")
mesh = bmesh.from_edit_mesh(edited.data)
bmesh.ops.translate(mesh, verts=mesh.verts, vec=(0, 0, 9))
bmesh.update_edit_mesh(edited.data)
bpy.context.view_layer.update()
stage, sent = shot()
cache = UsdGeom.BBoxCache(0, ["default"])
for path in sent.assets:
    box = cache.ComputeWorldBound(stage.GetPrimAtPath(path)).ComputeAlignedRange()
    result[sent.object(path).name] = [[round(x, 3) for x in corner] for corner in (box.GetMin(), box.GetMax())]
""",
            tmp_path,
        )
        assert found["Edited"] == [[-3.5, -0.5, 8.5], [-2.5, 0.5, 9.5]]
        assert found["Array"] == [[-0.5, -0.5, -0.5], [2.5, 0.5, 0.5]]
        assert found["Rig"] == [[-0.5, -0.5, 6.5], [0.5, 0.5, 7.5]]  # the bone lies along Z: its Y is the world's Z


class TestUnitsAndCameras:
    @pytest.mark.parametrize("unit", [1.0, 0.01])
    def test_the_stage_is_in_metres(self, blender, tmp_path, unit):
        found = blender.run(
            SCENE
            + """
scene.unit_settings.scale_length = ARGUMENTS["unit"]
box("Box", (0, 0, 0), size=1 / ARGUMENTS["unit"])
scene.camera.location.y = -8 / ARGUMENTS["unit"]
scene.camera.data.clip_end = 100 / ARGUMENTS["unit"]
stage, sent = shot()
result["camera"] = sent.camera
stage.Export(ARGUMENTS["folder"] + "/out.usda")
""",
            tmp_path,
            unit=unit,
        )
        stage = Usd.Stage.Open(str(tmp_path / "out.usda"))
        assert UsdGeom.GetStageUpAxis(stage) == "Z"
        scene = stages.read(stage, found["camera"])
        box = scene.asset("/root/Box")
        size = (box.extent[1] - box.extent[0]) * np.linalg.norm(box.local_to_world[:3, :3], axis=1)
        np.testing.assert_allclose(size, 1, atol=1e-4)
        passes = stages.render_passes(stage, scene, 64, 64)
        assert passes.depth[32, 32] == pytest.approx(7.5, abs=1e-3)

    def test_a_camera_sees_what_blender_s_sees(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
box("Box")
data = scene.camera.data
points = result["points"] = [(0.3, 0, 0.4), (-1, 2, 0.1), (1, 1, -1)]
changes = ["pass", "scene.camera.hide_render = True", "scene.camera.hide_render = False",
           "data.sensor_fit = 'VERTICAL'", "data.shift_x, data.shift_y = 0.2, -0.1",
           "scene.render.resolution_y = 384", "data.sensor_fit = 'AUTO'", "scene.render.pixel_aspect_x = 2",
           "data.type, data.ortho_scale = 'ORTHO', 5", "data.shift_x, scene.render.resolution_y = 0.3, 64"]
for number, change in enumerate(changes):
    exec(change)
    bpy.context.view_layer.update()
    wanted = [list(world_to_camera_view(scene, scene.camera, Vector(point)))[:2] for point in points]
    stage, sent = shot()
    stage.Export(ARGUMENTS["folder"] + f"/{number}.usda")
    result.setdefault("cases", []).append([change, sent.camera, wanted])
""",
            tmp_path,
        )
        for number, (change, camera, wanted) in enumerate(found["cases"]):
            stage = Usd.Stage.Open(str(tmp_path / f"{number}.usda"))
            frustum = UsdGeom.Camera(stage.GetPrimAtPath(camera)).GetCamera(Usd.TimeCode.Default()).frustum
            matrix = np.array(frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix())
            clip = np.pad(np.array(found["points"], float), ((0, 0), (0, 1)), constant_values=1) @ matrix
            np.testing.assert_allclose((clip[:, :2] / clip[:, 3:] + 1) / 2, wanted, atol=1e-4, err_msg=change)
        assert len(found["cases"]) == 10

    def test_the_active_camera_of_several(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
box("Box")
other = bpy.data.objects.new("Kamera 2", bpy.data.cameras.new("Camera"))
other.location = (0, 0, 9)
scene.collection.objects.link(other)
result["first"] = shot()[1].camera
scene.camera = other
result["second"] = shot()[1].camera
scene.camera.data.type = "PANO"
result["panorama"] = refused(bpy.ops.neuralusd.render)
scene.camera = None
result["none"] = refused(bpy.ops.neuralusd.render)
""",
            tmp_path,
        )
        assert found["first"].startswith("/root/Camera/") and found["second"].startswith("/root/Kamera_2/")
        assert "Kamera 2 is a panoramic camera" in found["panorama"]
        assert "no camera" in found["none"] and "Add one" in found["none"]

    def test_presence_may_be_animated(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
each = box("Box")
each.neuralusd.presence = 0
each.keyframe_insert("neuralusd.presence", frame=1)
each.neuralusd.presence = 1
each.keyframe_insert("neuralusd.presence", frame=11)
each.neuralusd.role = "ASSET"
scene.frame_end = 11
bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + "/out.usda", export_animation=True)
scene.frame_set(6)
stage, sent = shot()
result["now"] = stage.GetPrimAtPath(sent.assets[0]).GetAttribute("neural:presence").Get()
""",
            tmp_path,
        )
        stage = Usd.Stage.Open(str(tmp_path / "out.usda"))
        presence = NeuralAssetAPI(prim_of(stage, "Box")).GetPresenceAttr()
        assert presence.Get(1) == 0 and presence.Get(11) == 1 and 0.3 < presence.Get(6) < 0.7
        assert 0.3 < found["now"] < 0.7
        assert [issue for issue in validate(stage) if issue.severity == "error"] == []


def test_what_is_encoded_again_keeps_nothing_of_what_was_seen_before(blender, tmp_path):
    """The views are replaced as a whole, as the tokens are; what else was said of the object stays."""
    stage = Usd.Stage.CreateInMemory()
    for name, views in (("First", ("a", "b")), ("Second", ("a",))):
        prim = UsdGeom.Xform.Define(stage, f"/{name}").GetPrim()
        NeuralTokensAPI.Apply(prim, "appearance").CreateValuesAttr([1.0, len(views)])
        for view in views:
            NeuralViewAPI.Apply(prim, view).CreateColorAttr([1, 2, 200 + len(views)])
    prim = stage.GetPrimAtPath("/First")
    NeuralSurfaceAPI.Apply(prim).CreatePathsAttr(["Body"])
    NeuralAssetAPI.Apply(prim).CreateTextAttr("a cup")
    stage.Export(str(tmp_path / "seen.usda"))
    found = blender.run(
        """
from pxr import Usd
records, stage, before = module("usd.records"), Usd.Stage.Open(ARGUMENTS["folder"] + "/seen.usda"), None
file = ARGUMENTS["folder"] + "/of.neural.usdc"
for name in ("First", "Second"):
    draft = records.Draft()
    made = draft.record(stage.GetPrimAtPath("/" + name), before)
    draft.add_to(file)
    before = records.find(made, [file])
    result[name] = {"schemas": sorted(before.GetInfo("apiSchemas").prependedItems),
                    "properties": sorted(each.name for each in before.properties)}
again = Usd.Stage.CreateInMemory()
records.apply(before, again.DefinePrim("/Again"))
result["picture"] = list(again.GetPrimAtPath("/Again").GetAttribute("neural:view:a:color").Get())
""",
        tmp_path,
    )
    first, second = found["First"], found["Second"]
    assert {"NeuralViewAPI:a", "NeuralViewAPI:b", "NeuralSurfaceAPI"} < set(first["schemas"])
    assert second["schemas"] == ["NeuralAssetAPI", "NeuralTokensAPI:appearance", "NeuralViewAPI:a"]
    assert second["properties"] == ["neural:text", "neural:tokens:appearance:values", "neural:view:a:color"]
    assert found["picture"] == [1, 2, 201]


def test_meshes_that_change_their_shape_are_marked(blender, tmp_path):
    found = blender.run(
        """
import numpy as np
from pxr import UsdGeom
scene = empty()
box("Box", (3, 0, 0))
rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
scene.collection.objects.link(rig)
bpy.context.view_layer.objects.active = rig
bpy.ops.object.mode_set(mode="EDIT")
for name, low in (("Lower", 0), ("Upper", 1)):
    bone = rig.data.edit_bones.new(name)
    bone.head, bone.tail = (0, 0, low), (0, 0, low + 1)
rig.data.edit_bones["Upper"].parent = rig.data.edit_bones["Lower"]
bpy.ops.object.mode_set(mode="OBJECT")
bpy.ops.mesh.primitive_cylinder_add(vertices=8, radius=0.2, depth=2, location=(0, 0, 1))
arm = bpy.context.object
arm.name, arm.parent = "Arm", rig
arm.vertex_groups.new(name="Upper").add([v.index for v in arm.data.vertices if v.co.z > 0], 1, "REPLACE")
arm.vertex_groups.new(name="Lower").add([v.index for v in arm.data.vertices if v.co.z <= 0], 1, "REPLACE")
arm.modifiers.new("Armature", "ARMATURE").object = rig
smooth = arm.modifiers.new("Subdivision", "SUBSURF")
smooth.levels, smooth.render_levels = 1, 2
face = box("Face", (-3, 0, 0))
face.shape_key_add(name="Basis")
up = face.shape_key_add(name="Up")
up.data[0].co.z, up.value = 2, 0
# A character that comes with an instance of its collection.
extra = bpy.data.collections.new("Extra")
inside = box("Inside", link=False)
inside.shape_key_add(name="Basis")
extra.objects.link(inside)
instance = bpy.data.objects.new("Instance", None)
instance.instance_type, instance.instance_collection, instance.location = "COLLECTION", extra, (6, 0, 0)
scene.collection.objects.link(instance)

def meshes(**options):
    bpy.context.view_layer.update()
    stage, sent = shot(**options)
    prims = {str(prim.GetPath()): prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)}
    marked = sorted(path for path, prim in prims.items() if prim.GetCustomDataByKey("neuralusd:deforms"))
    return marked, {path: np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get()) for path, prim in prims.items()}

marked, points = meshes()
result["marked"] = marked
rig.pose.bones["Upper"].rotation_mode, rig.pose.bones["Upper"].rotation_euler = "XYZ", (1, 0, 0)
up.value = 1
_, posed = meshes()
result["moved"] = {path: float(abs(posed[path] - points[path]).max()) for path in points}
result["viewport"] = meshes(viewport=True)[1][marked[1]].shape == posed[marked[1]].shape
bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + "/own.usda")
""",
        tmp_path,
    )
    face, instance, arm = found["marked"]
    assert (face, arm) == ("/root/Face/Face", "/root/Rig/Arm/Cylinder") and instance.startswith("/root/Instance/")
    moved = found["moved"]
    assert moved[arm] > 0.3 and moved[face] > 0.5 and moved[instance] == moved["/root/Box/Box"] == 0
    assert found["viewport"]
    # A file of the user's own has skeletons and shapes themselves.
    assert "neuralusd:deforms" not in (tmp_path / "own.usda").read_text()


def test_an_exported_shot_says_how_large_its_images_are(blender, tmp_path):
    blender.run(
        """
scene = empty()
box("Box").neuralusd.role = "ASSET"
render = scene.render
render.resolution_x, render.resolution_y, render.resolution_percentage, render.pixel_aspect_x = 720, 480, 50, 1.5
bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + "/shot.usda")
""",
        tmp_path,
    )
    assert stages.image_size(Usd.Stage.Open(str(tmp_path / "shot.usda"))) == (540, 240)
