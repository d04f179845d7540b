"""The quick picture by Cycles that encoding looks at, and the base colours in it."""

import numpy as np
import pytest
from blender_process import SCENE, blenders, installed, pixels


@pytest.fixture(scope="module", params=blenders())
def blender(request, blender_python, tmp_path_factory):
    return installed(request.param or blender_python, tmp_path_factory.mktemp("blender"))


# A box, a golden ball, a wall whose colours nodes compute, and a lamp.
LIT = (
    SCENE
    + """
wall = bpy.data.objects["Wall"].data.materials[0].node_tree
checker = wall.nodes.new("ShaderNodeTexChecker")
checker.inputs["Color1"].default_value, checker.inputs["Color2"].default_value = (0.8, 0.8, 0.1, 1), (0.1, 0.1, 0.8, 1)
wall.links.new(checker.outputs["Color"], wall.nodes["Principled BSDF"].inputs["Base Color"])
gold = bpy.data.objects["Ball"].data.materials[0].node_tree.nodes["Principled BSDF"]
gold.inputs["Base Color"].default_value, gold.inputs["Metallic"].default_value = (0.8, 0.6, 0.2, 1), 1
lamp = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
lamp.data.energy, lamp.rotation_euler = 3, (1, 0, 0.3)
scene.collection.objects.link(lamp)
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 384, 216, 50
scene.cycles.samples = 3

def shoot(longest=96, task=None):
    layer = bpy.context.view_layer
    shot = module("cycles").Shot(scene, layer, ARGUMENTS["folder"], longest, samples=8)
    return shot.take(task or module("tasks").Task("Encode", lambda task: None), 0.0)
"""
)


def linear(path) -> np.ndarray:
    """(H, W, 3) of linear light from a picture."""
    srgb = pixels(path) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def test_a_picture_and_the_base_colours_in_it(blender, tmp_path):
    found = blender.run(LIT + "result['files'] = shoot()", tmp_path)
    lit, albedo = (linear(file) for file in found["files"])
    assert lit.shape == albedo.shape == (54, 96, 3)
    box, ball = np.s_[26:30, 33:37], np.s_[23:27, 58:62]
    assert np.abs(albedo[box].mean((0, 1)) - (0.7, 0.1, 0.05)).max() < 0.03
    assert np.abs(albedo[ball].mean((0, 1)) - (0.8, 0.6, 0.2)).max() < 0.06  # metals have theirs, too
    wall = albedo[:8].reshape(-1, 3)
    colors = np.array([(0.8, 0.8, 0.1), (0.1, 0.1, 0.8)])
    assert (np.abs(wall[:, None] - colors).max(2).min(1) < 0.05).mean() > 0.8
    assert np.ptp(lit[box].mean(2) / albedo[box].mean(2)) > 0 and lit[box].mean() < 0.9 * albedo[box].mean()


def test_nothing_of_the_scene_is_changed(blender, tmp_path):
    found = blender.run(
        LIT
        + """
scene.camera.data.dof.use_dof, scene.camera.data.dof.aperture_fstop = True, 0.02
other = scene.view_layers.new("Other.Layer")
scene.render.use_border, scene.render.border_max_x, scene.render.film_transparent = True, 0.5, True
scene.render.filepath, scene.render.image_settings.file_format = "//mine", "JPEG"
scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 1
scene.timeline_markers.new("Cut", frame=1).camera = scene.camera

def state():
    out = {}
    for name, block in (("render", scene.render), ("cycles", scene.cycles), ("view", scene.view_settings),
                        ("image", scene.render.image_settings), ("layer", scene.view_layers[0]), ("other", other)):
        for each in block.bl_rna.properties:
            if each.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"} and not getattr(each, "is_array", False):
                out[f"{name}.{each.identifier}"] = repr(getattr(block, each.identifier))
    for kind in ("scenes", "objects", "cameras", "images", "worlds"):
        out[kind] = sorted(each.name for each in getattr(bpy.data, kind) if each.name != "Render Result")
    out["camera"], out["display"] = scene.camera.name, bpy.context.preferences.view.render_display_type
    return out

before = state()
result["files"] = shoot()
result["changed"] = {name: [value, state()[name]] for name, value in before.items() if state()[name] != value}
# As when it is cancelled, and when Blender has no Cycles.
stopped = module("tasks").Task("Encode", lambda task: None)
stopped.cancel()
try:
    shoot(task=stopped)
except module("tasks").Stopped:
    result["stopped"] = True
addon_utils.disable("cycles")
try:
    shoot()
except module("problems").Problem as error:
    result["without"] = str(error)
addon_utils.enable("cycles")
result["changed after"] = {name: value for name, value in before.items() if state()[name] != value}
""",
        tmp_path,
    )
    assert found["changed"] == {} and found["stopped"]
    assert "has no Cycles" in found["without"] and "materials' colours" in found["without"]
    assert {name for name in found["changed after"] if not name.startswith("cycles.")} == set()
    # Sharp in spite of the camera, whole in spite of the border; the scene's exposure is its light.
    lit, albedo = (linear(file) for file in found["files"])
    assert np.abs(albedo[26:30, 33:37].mean((0, 1)) - (0.7, 0.1, 0.05)).max() < 0.03
    assert albedo[:, 60:].max() > 0.5 and lit[:, 60:].max() > 0.5


def test_a_copy_that_an_undo_step_brought_back_goes(blender, tmp_path):
    found = blender.run(
        LIT
        + """
cycles = module("cycles")
scene.copy()[cycles.MARK] = True
bpy.ops.ed.undo_push(message="while Cycles rendered")
bpy.ops.ed.undo_push(message="later")
bpy.ops.ed.undo()
result["brought"] = len(bpy.data.scenes)
cycles.sweep()  # a timer does it
result["left"] = [each.name for each in bpy.data.scenes]
""",
        tmp_path,
    )
    assert found["brought"] == 2 and found["left"] == ["Scene"]
