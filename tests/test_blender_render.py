"""The verbs in Blender, against a real service with `mini`: encode, render, F12, lift, and what follows the object."""

import numpy as np
import PIL.Image
import pytest
from blender_process import blenders, installed, service
from pxr import Gf, Usd, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import open_shot
from neuralusd.images import read_provenance


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with service(tmp_path_factory.mktemp("state")) as found:
        yield found


@pytest.fixture(scope="module", params=blenders())
def blender(request, blender_python, running, tmp_path_factory):
    return installed(request.param or blender_python, tmp_path_factory.mktemp("blender"), running)


def pixels(path):
    return np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)


# A box and a ball before a wall; the camera looks at them from the front.
SCENE = """
scene = empty()
scene.camera.location.z = 1
scene.camera.rotation_euler.x -= 0.1
box("Red Box", (-1, 0, 0.5), color=(0.7, 0.1, 0.05, 1))
bpy.ops.mesh.primitive_uv_sphere_add(radius=0.6, location=(1, 0, 0.6))
ball = bpy.context.object
ball.name = "Ball"
material = bpy.data.materials.new("Blue")
material.use_nodes = True
material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.05, 0.1, 0.6, 1)
ball.data.materials.append(material)
wall = box("Wall", (0, 3, 2), size=14, color=(0.6, 0.6, 0.55, 1))
wall.scale.y = 0.01
scene.neuralusd.seed = 3
bpy.context.view_layer.update()
"""


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
result["own"] = middle("own")
said.appearance_from, said.appearance_object = "OBJECT", bpy.data.objects["Ball"]
result["ball"] = middle("ball")
bpy.data.objects["Ball"].hide_render = True
result["hidden"] = middle("hidden")
said.appearance_from, said.appearance_image = "IMAGE", bpy.data.images.load(folder + "/green.png")
result["image"] = middle("image")
said.appearance_from = "OWN"
result["back"] = middle("back")
said.presence = 0
result["gone"] = middle("gone")
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

    def test_a_picture_becomes_an_object(self, blender, tmp_path):
        picture = PIL.Image.new("RGBA", (160, 200), (0, 0, 0, 0))
        picture.paste((200, 120, 30, 255), (40, 20, 120, 180))
        picture.save(tmp_path / "vase.png")
        found = blender.run(
            """
scene = empty()
scene.unit_settings.scale_length = 0.1
scene.cursor.location = (3, 2, 1)
before = set(bpy.data.objects)
bpy.ops.neuralusd.lift(filepath=ARGUMENTS["folder"] + "/vase.png", name="vase", height=5)
def look(each):
    meshes = [o for o in [each, *each.children_recursive] if o.type == "MESH"]
    [mesh] = meshes
    bpy.context.view_layer.update()
    corners = [mesh.matrix_world @ __import__("mathutils").Vector(c) for c in mesh.bound_box]
    images = [n.image for n in mesh.active_material.node_tree.nodes if n.type == "TEX_IMAGE"]
    low, high = ([limit(c[i] for c in corners) for i in range(3)] for limit in (min, max))
    textures, uvs = [bool(i.packed_file) for i in images], len(mesh.data.uv_layers)
    return {"low": low, "high": high, "faces": len(mesh.data.polygons), "texture": textures, "uv": uvs}
root = bpy.context.object
result["name"], result["look"] = root.name, look(root)
result["new"] = len(set(bpy.data.objects) - before)
result["role"], result["text"] = root.neuralusd.role, root.neuralusd.text
result["tokens"] = module("usd.records").has_tokens(module("store").record_of(scene, root))
# The same picture as an image data-block, which is nowhere on disk.
image = bpy.data.images.load(ARGUMENTS["folder"] + "/vase.png")
image.pack()
os.rename(ARGUMENTS["folder"] + "/vase.png", ARGUMENTS["folder"] + "/moved.png")
scene.neuralusd.lift_image = image
bpy.ops.neuralusd.lift()
result["again"] = look(bpy.context.object)["faces"]
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/out.png")
result["nothing"] = refused(bpy.ops.neuralusd.lift, image="no such image")
result["missing"] = refused(bpy.ops.neuralusd.lift, filepath=ARGUMENTS["folder"] + "/none.png")
result["error"] = refused(bpy.ops.neuralusd.lift, filepath=ARGUMENTS["folder"] + "/script.py")
""",
            tmp_path,
        )
        look = found["look"]
        assert found["new"] == 2
        assert found["name"] == "vase" and found["role"] == "ASSET" and found["text"] == "vase" and found["tokens"]
        low, high = np.array(look["low"]), np.array(look["high"])
        assert low[2] == pytest.approx(1, abs=0.01) and high[2] - low[2] == pytest.approx(5, rel=0.02)
        np.testing.assert_allclose((low + high)[:2] / 2, (3, 2), atol=0.1)
        assert look["faces"] > 20 and look["texture"] == [True] and look["uv"] == 1 and found["again"] > 20
        assert pixels(tmp_path / "out.png").shape == (128, 128, 3)
        assert "no such image" in found["nothing"] and "There is no file" in found["missing"]
        assert "script.py" in found["error"] and "Traceback" not in found["error"]

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


class TestEngine:
    def test_f12_is_the_picture_of_the_service(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
folder = ARGUMENTS["folder"]
bpy.ops.neuralusd.encode()
bpy.ops.neuralusd.render(filepath=folder + "/operator.png")
scene.render.engine, scene.render.filepath, scene.render.dither_intensity = "NEURALUSD", folder + "/f12.png", 0
result["plain before"] = module("operators.display").is_plain(scene)
bpy.ops.neuralusd.standard_view()
result["plain"] = module("operators.display").is_plain(scene)
bpy.ops.render.render(write_still=True)
# Half of the frame, as a border.
render = scene.render
render.use_border, render.border_min_x, render.border_max_x = True, 0.25, 0.75
render.border_min_y, render.border_max_y = 0, 0.5
render.use_crop_to_border, render.filepath = True, folder + "/border.png"
bpy.ops.render.render(write_still=True)
""",
            tmp_path,
        )
        assert not found["plain before"] and found["plain"]
        wanted = pixels(tmp_path / "operator.png")
        assert abs(pixels(tmp_path / "f12.png") - wanted).max() <= 1
        border = pixels(tmp_path / "border.png")
        assert border.shape == (64, 64, 3) and abs(border - wanted[64:, 32:96]).max() <= 1

    def test_passes_are_blender_s(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
import numpy as np
bpy.utils.expose_bundled_modules()
import OpenImageIO as oiio
folder, layer = ARGUMENTS["folder"], bpy.context.view_layer
scene.unit_settings.scale_length = 0.5
layer.use_pass_z = layer.use_pass_object_index = True
bpy.data.objects["Red Box"].pass_index, bpy.data.objects["Ball"].pass_index = 3, 7
scene.cycles.samples, scene.cycles.use_denoising = 1, False
scene.render.resolution_x, scene.render.resolution_y, scene.render.film_transparent = 96, 54, True
settings = scene.render.image_settings
if hasattr(settings, "media_type"):
    settings.media_type = "MULTI_LAYER_IMAGE"
settings.file_format, settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
def passes(engine):
    scene.render.engine, scene.render.filepath = engine, f"{folder}/{engine}.exr"
    bpy.ops.render.render(write_still=True)
    opened, channels, part = oiio.ImageInput.open(scene.render.filepath), {}, 0
    while opened.seek_subimage(part, 0):
        for number, name in enumerate(opened.spec().channelnames):
            channels[name] = opened.read_image("float")[..., number]
        part += 1
    return [next(values for name, values in channels.items() if f".{word}." in name.replace("Object Index", "IndexOB"))
            for word in ("Depth", "IndexOB")]
neural, cycles = passes("NEURALUSD"), passes("CYCLES")
for name in (3, 7):
    both = (neural[1] == name) & (cycles[1] == name)
    result[str(name)] = [float(both.sum() / ((neural[1] == name) | (cycles[1] == name)).sum()),
                         float(np.median(abs(neural[0][both] / cycles[0][both] - 1)))]
result["shape"] = neural[0].shape
result["wall"] = float(np.median(neural[0][:4] / cycles[0][:4]))
""",
            tmp_path,
        )
        assert found["shape"] == [54, 96]
        for name in ("3", "7"):
            overlap, difference = found[name]
            assert overlap > 0.85 and difference < 0.02
        assert found["wall"] == pytest.approx(1, abs=0.01)

    def test_an_animation(self, blender, tmp_path):
        blender.run(
            SCENE
            + """
each = bpy.data.objects["Red Box"]
each.keyframe_insert("location", frame=1)
each.location.x += 1.5
each.keyframe_insert("location", frame=2)
scene.frame_start, scene.frame_end = 1, 2
scene.frame_set(1)
bpy.ops.neuralusd.encode()
bpy.ops.neuralusd.standard_view()
scene.render.engine, scene.render.filepath, scene.render.dither_intensity = "NEURALUSD", ARGUMENTS["folder"] + "/f", 0
bpy.ops.render.render(animation=True)
scene.frame_set(2)
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/second.png")
""",
            tmp_path,
        )
        first, second = pixels(tmp_path / "f0001.png"), pixels(tmp_path / "f0002.png")
        assert abs(first - second).max() > 60
        assert abs(second - pixels(tmp_path / "second.png")).max() <= 1

    def test_errors_are_sentences(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
scene.render.engine = "NEURALUSD"
scene.neuralusd.backend = "no-such-weights"
result["backend"] = refused(bpy.ops.render.render)
result["operator"] = refused(bpy.ops.neuralusd.render)
scene.neuralusd.backend = ""
scene.camera = None
result["camera"] = refused(bpy.ops.neuralusd.render)
empty()
bpy.context.scene.render.engine = "NEURALUSD"
result["empty"] = refused(bpy.ops.render.render)
""",
            tmp_path,
        )
        assert "no-such-weights" in found["backend"] and "no-such-weights" in found["operator"]
        assert "no camera" in found["camera"] and "no object with a surface" in found["empty"]
        assert all("Traceback" not in found[key] for key in ("backend", "operator", "camera", "empty"))


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


def test_the_viewport_shows_the_image_once_things_have_come_to_rest(blender, tmp_path):
    found = blender.run(
        SCENE
        + """
import time
import gpu
import numpy as np
from mathutils import Matrix
bpy.ops.neuralusd.encode()
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/camera.png")
# A module has a GPU once something was drawn.
scene.render.engine = "BLENDER_WORKBENCH"
bpy.ops.render.render()
scene.render.engine = "NEURALUSD"
area = next(area for area in bpy.context.screen.areas if area.type == "VIEW_3D")
region = next(region for region in area.regions if region.type == "WINDOW")
view, preview = area.spaces.active.region_3d, module("engine.preview")
width, height = region.width, region.height
try:
    screen = gpu.types.GPUOffScreen(width, height, format="RGBA16F")
except Exception as error:
    screen, result["no gpu"] = None, str(error)
own = preview.Preview()

def look():
    with bpy.context.temp_override(area=area, region=region):
        own.look(bpy.context, scene, bpy.context.view_layer)

def wait():
    until, own._image = time.monotonic() + 60, None
    while own._image is None and not own.said.startswith("The") and time.monotonic() < until:
        preview.tick_all()
        time.sleep(0.01)

def drawn():
    with screen.bind():
        gpu.state.active_framebuffer_get().clear(color=(0, 0, 0, 1))
        with gpu.matrix.push_pop():
            gpu.matrix.load_matrix(Matrix.Identity(4))
            pixel = Matrix(((2 / width, 0, 0, -1), (0, 2 / height, 0, -1), (0, 0, -1, 0), (0, 0, 0, 1)))
            gpu.matrix.load_projection_matrix(pixel)
            own.draw()
        values = gpu.state.active_framebuffer_get().read_color(0, 0, width, height, 4, 0, "FLOAT")
    values.dimensions = width * height * 4
    return module("pixels").from_linear(np.array(values, np.float32).reshape(height, width, 4)[..., :3]) * 255

view.view_perspective = "CAMERA"
view.update()
look()
preview._dragging = lambda: True
time.sleep(0.3)
preview.tick_all()
result["asked while dragging"] = own._task is not None
preview._dragging = lambda: False
wait()
if screen is not None:
    x, y, w, h = own._place
    part, image = drawn()[y:y + h, x:x + w][::-1], picture(ARGUMENTS["folder"] + "/camera.png")[..., :3]
    wanted = module("pixels").frame(image / 255, w, h, 1.0).clip(0, 1) * 255
    result["camera"] = float(abs(part - wanted).max())
# The same again is not asked for; another place is.
before = own._task  # the last of the first request may still be under way
own.touch()
time.sleep(0.3)
preview.tick_all()
result["asked again"] = own._task not in (None, before)
bpy.data.objects["Ball"].location.x += 0.3
bpy.context.view_layer.update()
own.touch()
wait()
result["moved"] = own.said
view.view_perspective = "PERSP"
view.update()
look()
wait()
result["free"] = [own.said, list(own._place)]
if screen is not None:
    result["filled"] = float(drawn().min(axis=2).min())
own.close()
result["closed"] = preview.tick_all()
""",
        tmp_path,
    )
    if "no gpu" in found:
        pytest.skip(f"nothing can be drawn here: {found['no gpu']}")
    assert not found["asked while dragging"] and not found["asked again"] and found["closed"] is None
    assert found["camera"] < 2 and found["moved"] == "" and found["free"][0] == "" and found["filled"] > 5
