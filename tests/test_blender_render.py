"""Encode and render in Blender, against a real service with `mini`, and what follows the object."""

import numpy as np
import PIL.Image
from blender_process import MODAL, SCENE, pixels
from pxr import Gf, Usd, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import open_shot
from neuralusd.images import read_provenance


class TestOperators:
    def test_moving_an_object_is_moving_its_prim(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
bpy.ops.wm.save_as_mainfile(filepath=ARGUMENTS["folder"] + "/shot.blend")
result["encode"] = list(bpy.ops.neuralusd.encode())
result["records"] = {each.name: each.neuralusd.record for each in scene.objects}
bpy.ops.neuralusd.render(filepath="//before.png")
result["after render"] = {each.name: each.neuralusd.record for each in scene.objects}
bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + "/shot.usda")
bpy.data.objects["Red Box"].location.x += 0.8
bpy.data.objects["Red Box"].location.z += 0.4
bpy.ops.neuralusd.render(filepath="//after.png")
image = bpy.data.images["Neural Render"]
result["image"] = [list(image.size), bool(image.packed_file)]
import numpy as np
shown = 255 * np.array(image.pixels[:]).reshape(128, 128, -1)[::-1, :, :3]
result["shown"] = bool(abs(picture(ARGUMENTS["folder"] + "/after.png")[..., :3] - shown).max() < 1e-3)
""",
            tmp_path,
        )
        assert found["encode"] == ["FINISHED"] and found["image"] == [[128, 128], True] and found["shown"]
        assert found["records"]["Red Box"] and found["records"]["Ball"]
        assert not found["records"]["Wall"] and not found["records"]["Camera"]
        assert found["after render"] == found["records"]  # tokens are those of the first look, not encoded again
        before, after = pixels(tmp_path / "before.png"), pixels(tmp_path / "after.png")
        assert abs(before - after).max() > 60
        stage = Usd.Stage.Open(str(tmp_path / "shot.usda"))
        camera = str(next(prim.GetPath() for prim in stage.Traverse() if prim.IsA(UsdGeom.Camera)))
        same = np.asarray(neuralusd.render(stage, camera, seed=3)).astype(int)
        assert abs(same - before).max() <= 1
        place = stage.GetPrimAtPath("/root/Red_Box").GetAttribute("xformOp:translate")
        place.Set(place.Get() + Gf.Vec3d(0.8, 0, 0.4))
        moved = np.asarray(neuralusd.render(stage, camera, seed=3)).astype(int)
        assert abs(moved - after).max() <= 1
        made = read_provenance(tmp_path / "after.png")
        assert made["seed"] == 3 and made["backend"] == "mini" and made["verb"] == "render"

    def test_one_press_is_enough(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/out")
result["records"] = [bool(bpy.data.objects[name].neuralusd.record) for name in ("Red Box", "Ball")]
result["sidecar"] = module("store").path(scene)
""",
            tmp_path,
        )
        assert found["records"] == [True, True]
        red, green, blue = pixels(tmp_path / "out.png")[52:64, 34:48].mean((0, 1))
        assert red > 1.5 * green and red > 1.5 * blue  # the box is where it is, and red
        assert "unsaved" in found["sidecar"]  # there is no .blend to stand beside

    def test_tokens_stay_with_the_blend(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
folder = ARGUMENTS["folder"]
bpy.ops.neuralusd.render(filepath=folder + "/first.png")
names = {each.name: each.neuralusd.record for each in scene.objects}
bpy.ops.wm.save_as_mainfile(filepath=folder + "/one.blend")
assert os.path.isfile(folder + "/one.neural.usdc")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/two.blend")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/copy.blend", copy=True)
os.unlink(folder + "/one.neural.usdc")
for name in ("two", "copy"):
    bpy.ops.wm.open_mainfile(filepath=f"{folder}/{name}.blend")
    scene = bpy.context.scene
    result[name] = sorted(each.name for each in scene.objects if module("store").record_of(scene, each))
# Renamed, put below another, and copied, it keeps them.
ball, red = bpy.data.objects["Ball"], bpy.data.objects["Red Box"]
parent = bpy.data.objects.new("Parent", None)
scene.collection.objects.link(parent)
red.parent, red.name = parent, "Kiste"
twin = red.copy()
twin.location.x = 0
scene.collection.objects.link(twin)
bpy.context.view_layer.update()
stage, sent = shot()
result["missing"] = sent.missing
result["twin"] = len({tuple(stage.GetPrimAtPath(path).GetAttribute("neural:tokens:appearance:values").Get())
                      for path in sent.assets if sent.object(path) in (red, twin)})
# Gone with the file, they are made again.
os.unlink(folder + "/copy.neural.usdc")
result["lost"] = len(shot()[1].missing)
bpy.ops.neuralusd.render()
result["again"] = len(shot()[1].missing)
""",
            tmp_path,
        )
        assert found["two"] == found["copy"] == ["Ball", "Red Box"]
        assert found["missing"] == [] and found["twin"] == 1
        assert found["lost"] >= 2 and found["again"] == 0

    def test_encoding_again_and_only_what_is_selected(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
def names():
    return {name: bpy.data.objects[name].neuralusd.record for name in ("Red Box", "Ball")}
bpy.ops.neuralusd.encode()
first = names()
bpy.ops.neuralusd.encode()
result["unchanged"] = names() == first
for name in first:
    bpy.data.objects[name].location.x *= 0.5
bpy.ops.object.select_all(action="DESELECT")
bpy.data.objects["Ball"].select_set(True)
bpy.ops.neuralusd.encode(selected=True)
result["changed"] = [name for name, record in names().items() if record != first[name]]
bpy.data.objects["Ball"].select_set(False)
bpy.data.objects["Wall"].select_set(True)
result["wall"] = refused(bpy.ops.neuralusd.encode, selected=True)
bpy.data.objects["Red Box"].location.x = 500
bpy.ops.neuralusd.encode()
result["kept"] = names()["Red Box"] == first["Red Box"]
""",
            tmp_path,
        )
        assert found["unchanged"] and found["changed"] == ["Ball"]
        assert "None of the selected objects is an asset" in found["wall"]
        assert found["kept"] and "not seen by the camera: Red Box" in found["stdout"]

    def test_the_look_of_another_object_and_of_an_image(self, blender, tmp_path):
        PIL.Image.new("RGBA", (96, 96), (20, 160, 40, 255)).save(tmp_path / "green.png")
        found = blender.run(
            SCENE
            + """
import numpy as np
folder = ARGUMENTS["folder"]
def middle(name):
    bpy.ops.neuralusd.render(filepath=f"{folder}/{name}.png")
    return picture(f"{folder}/{name}.png")[52:64, 34:48, :3].mean((0, 1)).tolist()
said = bpy.data.objects["Red Box"].neuralusd
said.appearance_from, said.appearance_object = "OBJECT", bpy.data.objects["Ball"]
result["ball"] = middle("ball")  # which is encoded on the way
said.appearance_from = "OWN"
result["own"] = middle("own")
said.appearance_from = "OBJECT"
bpy.data.objects["Ball"].hide_render = True
result["hidden"] = middle("hidden")
said.appearance_from, said.appearance_image = "IMAGE", bpy.data.images.load(folder + "/green.png")
result["image"] = middle("image")
said.appearance_from = "OWN"
result["back"] = middle("back")
said.presence = 0
result["gone"] = middle("gone")
far = box("Far", (500, 0, 0))
said.appearance_from, said.appearance_object = "OBJECT", far
result["unseen"] = refused(bpy.ops.neuralusd.render)
""",
            tmp_path,
        )
        red, green, blue = found["own"]
        assert red > 1.5 * green and red > 1.5 * blue
        for name in ("ball", "hidden"):
            red, green, blue = found[name]
            assert blue > red and blue > green, name
        red, green, blue = found["image"]
        assert green > red and green > blue
        red, green, blue = found["back"]
        assert red > 1.5 * green and red > 1.5 * blue
        red, green, blue = found["gone"]
        assert red < 1.3 * green  # the wall
        assert "Far" in found["unseen"] and "does not see" in found["unseen"]

    def test_what_is_linked_from_another_file_is_encoded_here(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
library, folder = ARGUMENTS["folder"] + "/library.blend", ARGUMENTS["folder"]
bpy.ops.wm.save_as_mainfile(filepath=library)
bpy.ops.wm.read_homefile(use_empty=True)
scene = empty()
with bpy.data.libraries.load(library, link=True) as (source, target):
    target.objects = ["Ball", "Red Box"]
for each in target.objects:
    scene.collection.objects.link(each)
bpy.ops.wm.save_as_mainfile(filepath=folder + "/shot.blend")
bpy.ops.neuralusd.encode()
bpy.ops.wm.save_mainfile()
bpy.ops.wm.open_mainfile(filepath=folder + "/shot.blend")
result["missing"] = shot()[1].missing
result["links"] = sorted(link.each.name for link in bpy.context.scene.neuralusd.links)
result["files"] = sorted(name for name in os.listdir(folder) if name.endswith(".usdc"))
""",
            tmp_path,
        )
        assert found["missing"] == [] and found["links"] == ["Ball", "Red Box"]
        assert found["files"] == ["shot.neural.usdc"]

    def test_a_picture_in_place_of_base_colours(self, blender, tmp_path):
        PIL.Image.new("RGB", (64, 64), (30, 160, 60)).save(tmp_path / "green.png")
        blender.run(
            SCENE
            + """
scene.neuralusd.encode_image = bpy.data.images.load(ARGUMENTS["folder"] + "/green.png")
bpy.ops.neuralusd.encode()
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/out.png")
""",
            tmp_path,
        )
        red, green, blue = pixels(tmp_path / "out.png").mean((0, 1))
        assert green > 1.5 * red and green > 1.5 * blue

    def test_without_a_picture_cycles_takes_one(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + MODAL
            + """
shots, take = [], module("cycles").Shot.take
module("cycles").Shot.take = lambda self, *asked: shots.append(self.size) or take(self, *asked)
folder = ARGUMENTS["folder"]
light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
light.data.color, light.data.energy, light.rotation_euler = (0, 1, 0), 20, (0.8, 0, 0)
scene.collection.objects.link(light)
scene.render.resolution_x, scene.render.resolution_y = 256, 128
said = scene.neuralusd
said.encode_from, said.encode_samples, said.encode_size = "CYCLES", 2, 96
scene.camera.data.clip_end = 100
box("Far", (500, 0, 0)).neuralusd.role = "ASSET"
result["pressed"] = list(press(bpy.ops.neuralusd.render, "NEURALUSD_OT_render", filepath=folder + "/first.png"))
result["records"] = [bool(bpy.data.objects[name].neuralusd.record) for name in ("Red Box", "Ball", "Far")]
result["shots"] = list(shots)
bpy.ops.neuralusd.render(filepath=folder + "/second.png")  # what the camera does not see is no cause for another
result["again"] = len(shots)
bpy.ops.neuralusd.encode()
result["encoded"] = len(shots)
# Esc, while Cycles is at it.
result["esc"] = list(press(bpy.ops.neuralusd.encode, "NEURALUSD_OT_encode",
                           lambda task: "ESC" if "Cycles" in task.said else None))
import time
for _ in range(20):  # its thread may still be at the end of the picture
    module("tasks").pump()
    time.sleep(0.1)
result["left"] = [len(bpy.data.scenes), os.listdir(module("preferences").cache_folder() + "/work")]
# Blender does not render while it renders: F12 looks at materials, and says so.
bpy.data.objects["Ball"].neuralusd.record = ""
scene.render.engine, scene.render.filepath = "NEURALUSD", folder + "/f12.png"
bpy.ops.render.render(write_still=True)
result["f12"] = len(shots)
""",
            tmp_path,
        )
        assert found["pressed"] == ["FINISHED"] and found["records"] == [True, True, False]
        assert found["shots"] == [[96, 48]] and found["again"] == 1 and found["encoded"] == 2
        red, green, blue = pixels(tmp_path / "first.png").mean((0, 1))
        assert green > 1.3 * red and green > 1.3 * blue
        assert pixels(tmp_path / "first.png").shape == (128, 256, 3)
        assert found["esc"] == ["CANCELLED"] and found["left"] == [1, []]
        assert found["f12"] == 3 and "press Encode for a Cycles picture" in found["stdout"]

    def test_blender_s_own_render_as_the_picture(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
bpy.ops.neuralusd.standard_view()
scene.render.engine, scene.cycles.samples = "CYCLES", 1
light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
light.data.color, light.data.energy, light.rotation_euler = (0, 1, 0), 20, (0.8, 0, 0)
scene.collection.objects.link(light)
before = scene.render.image_settings.file_format = "JPEG"
bpy.ops.render.render()
scene.neuralusd.encode_image = bpy.data.images["Render Result"]
bpy.ops.neuralusd.encode()
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/out.png")
result["format"] = scene.render.image_settings.file_format == before
""",
            tmp_path,
        )
        red, green, blue = pixels(tmp_path / "out.png").mean((0, 1))
        assert green > 1.3 * red and green > 1.3 * blue and found["format"]


def test_a_look_stays_on_a_surface_that_an_armature_moves(blender, tmp_path):
    """The picture has a green forearm above a red upper arm; the elbow bends."""
    picture = PIL.Image.new("RGB", (128, 128), (170, 30, 20))
    picture.paste((20, 150, 30), (0, 0, 128, 64))
    picture.save(tmp_path / "arm.png")
    found = blender.run(
        """
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
scene = empty()
rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
scene.collection.objects.link(rig)
bpy.context.view_layer.objects.active = rig
bpy.ops.object.mode_set(mode="EDIT")
for name, low in (("Upper", -1.5), ("Fore", 0)):
    bone = rig.data.edit_bones.new(name)
    bone.head, bone.tail = (0, 0, low), (0, 0, low + 1.5)
rig.data.edit_bones["Fore"].parent = rig.data.edit_bones["Upper"]
bpy.ops.object.mode_set(mode="OBJECT")
rings = np.linspace(-1.5, 1.5, 13)
points = [(x, y, z) for z in rings for x, y in ((-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3))]
sides = ((0, 1), (1, 2), (2, 3), (3, 0))
faces = [(4 * r + a, 4 * r + b, 4 * r + 4 + b, 4 * r + 4 + a) for r in range(12) for a, b in sides]
mesh = bpy.data.meshes.new("Arm")
mesh.from_pydata(points, [], faces)
arm = bpy.data.objects.new("Arm", mesh)
scene.collection.objects.link(arm)
arm.parent = rig
for name, side in (("Upper", lambda z: z <= 0), ("Fore", lambda z: z > 0)):
    arm.vertex_groups.new(name=name).add([v.index for v in mesh.vertices if side(v.co.z)], 1, "REPLACE")
arm.modifiers.new("Armature", "ARMATURE").object = rig
wall = box("Wall", (0, 6, 0), size=30)
wall.scale.y = 0.01
scene.neuralusd.encode_image = bpy.data.images.load(ARGUMENTS["folder"] + "/arm.png")
bpy.ops.neuralusd.encode()
bend = rig.pose.bones["Fore"]
bend.rotation_mode, bend.rotation_euler = "XYZ", (0, 0, 1.4)
bpy.context.view_layer.update()
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/bent.png")
moved = arm.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.vertices
for name, part in (("fore", range(32, 48)), ("upper", range(4, 20))):
    place = world_to_camera_view(scene, scene.camera, sum((moved[i].co for i in part), moved[0].co * 0) / len(part))
    result[name] = [int(128 * (1 - place.y)), int(128 * place.x)]
""",
        tmp_path,
    )
    image = pixels(tmp_path / "bent.png")
    upper, fore = (image[r - 2 : r + 3, c - 2 : c + 3].mean((0, 1)) for r, c in (found["upper"], found["fore"]))
    assert abs(found["fore"][1] - found["upper"][1]) > 8  # beside the elbow now, not above it
    assert fore[1] > 1.5 * fore[0] and upper[0] > 1.5 * upper[1]


def test_blender_imports_no_torch(blender, tmp_path):
    found = blender.run(
        SCENE
        + """
bpy.ops.neuralusd.render()
result["modules"] = [name for name in ("torch", "neuralusd", "PIL", "diffusers") if name in sys.modules]
""",
        tmp_path,
    )
    assert found["modules"] == []


def test_tokens_of_blender_are_tokens_of_the_command_line(blender, tmp_path):
    """What Blender exports after encoding, `render` reads, and the other way round."""
    blender.run(
        SCENE
        + """
bpy.ops.neuralusd.encode()
bpy.ops.wm.usd_export(filepath=ARGUMENTS["folder"] + "/shot.usdc")
""",
        tmp_path,
    )
    stage = open_shot(tmp_path / "shot.usdc")
    scene = stages.read(stage)
    tokens = {asset.path: sorted(asset.tokens) for asset in scene.assets}
    assert tokens["/root/Red_Box"] == tokens["/root/Ball"] == ["appearance", "geometry"]
    assert scene.background is not None and scene.background.tokens
    neuralusd.encode(stage, force=True)
    stage.GetRootLayer().Export(str(tmp_path / "again.usdc"))
    found = blender.run(
        """
empty()
bpy.ops.wm.usd_import(filepath=ARGUMENTS["folder"] + "/again.usdc")
bpy.context.view_layer.update()
result["missing"] = shot()[1].missing
""",
        tmp_path,
    )
    assert found["missing"] == []
