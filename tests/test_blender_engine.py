"""NEURALUSD as Blender's render engine, against a real service with `mini`: F12, animations, passes, the viewport."""

import numpy as np
import pytest
from blender_process import SCENE, pixels


class TestEngine:
    def test_another_scene_of_the_file_is_rendered_with_its_own_objects(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
other = bpy.data.scenes.new("Other")
for each in (scene.camera, box("Green", color=(0.02, 0.5, 0.05, 1), link=False, size=2)):
    other.collection.objects.link(each)
other.camera, render = scene.camera, other.render
render.engine, render.resolution_x, render.resolution_y = "NEURALUSD", 128, 128
render.filepath, other.view_settings.view_transform = ARGUMENTS["folder"] + "/other.png", "Standard"
bpy.ops.render.render(write_still=True, scene="Other")
result["encoded"] = [bool(bpy.data.objects[name].neuralusd.record) for name in ("Green", "Red Box")]
result["backgrounds"] = [bool(each.neuralusd.background) for each in (other, scene)]
""",
            tmp_path,
        )
        red, green, blue = pixels(tmp_path / "other.png")[68:76, 60:68].mean((0, 1))
        assert green > 1.5 * red and green > 1.5 * blue
        assert found["encoded"] == [True, False] and found["backgrounds"] == [True, False]

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

    def test_every_pixel_of_the_resolution_is_asked_for(self, blender, tmp_path):
        blender.run(
            SCENE
            + """
folder, render = ARGUMENTS["folder"], scene.render
render.resolution_x, render.resolution_y, render.resolution_percentage = 384, 216, 50
bpy.ops.neuralusd.render(filepath=folder + "/operator.png")
bpy.ops.neuralusd.standard_view()
render.engine, render.dither_intensity = "NEURALUSD", 0
def f12(name):
    render.filepath = f"{folder}/{name}.png"
    bpy.ops.render.render(write_still=True)
f12("f12")
# A part of the frame; the others' pixels are empty.
render.use_border, render.border_min_x, render.border_max_x = True, 0.1, 0.7
render.border_min_y, render.border_max_y = 0.3, 1
f12("border")
render.use_border = False
# Of an anamorphic lens, whose pixels are shown twice as wide.
render.resolution_x, render.pixel_aspect_x = 192, 2
f12("anamorphic")
""",
            tmp_path,
        )
        f12 = pixels(tmp_path / "f12.png")
        assert f12.shape == (108, 192, 3) and abs(f12 - pixels(tmp_path / "operator.png")).max() <= 1
        border = pixels(tmp_path / "border.png")
        inside = np.zeros((108, 192), bool)
        inside[:76, 19:134] = True
        assert abs(border - f12)[inside].max() <= 1 and border[~inside].max() == 0
        narrow = pixels(tmp_path / "anamorphic.png")
        assert narrow.shape == (108, 96, 3)
        halved = f12.reshape(108, 96, 2, 3).mean(2)
        assert abs(narrow - halved).mean() < 4 < abs(narrow - f12[:, 48:144]).mean()

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

sizes = []
def wait(images=1):
    until = time.monotonic() + 200
    while images and not own.said.startswith("The") and time.monotonic() < until:
        last = own._image
        preview.tick_all()
        if own._image is not last:
            images -= 1
            sizes.append(own._image.shape[1::-1])
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
    result["camera"] = float(abs(part - wanted).mean())
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
# While something is dragged there are small ones, and then another of the viewport's size.
preview._dragging, preview.SLOW, preview.PART = lambda: True, 100, 100
for step in range(2):
    bpy.data.objects["Ball"].location.x += 0.1
    bpy.context.view_layer.update()
    own.touch()
    wait()
own.touch()  # without a change
for step in range(20):
    preview.tick_all()
    time.sleep(0.02)
result["asked without a change"] = own._task is not None
preview._dragging = lambda: False
wait()
result["sizes"] = list(sizes)
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
    rest, moved, *small, last = found["sizes"]
    assert rest == moved == last and max(rest) <= 768 and small == [small[0]] * 2 and max(small[0]) <= 256
    assert 2 * max(small[0]) <= max(rest) and not found["asked without a change"]
    # Images of two sizes, each drawn for itself: alike, not equal.
    assert found["camera"] < 8 and found["moved"] == "" and found["free"][0] == "" and found["filled"] > 5
