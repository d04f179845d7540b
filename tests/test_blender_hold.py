"""What an edit does not touch stays as it was: `hold`, against a real service with `mini`."""

import numpy as np
import PIL.Image
from blender_process import SCENE, pixels

from neuralusd.images import read_provenance

RENDER = """
def render(name):
    bpy.ops.neuralusd.render(filepath=f"{ARGUMENTS['folder']}/{name}.png")
"""


def test_what_is_not_edited_keeps_its_pixels(blender, tmp_path):
    found = blender.run(
        SCENE
        + RENDER
        + """
result["hold"] = list(bpy.ops.neuralusd.hold())  # nothing was encoded before
result["records"] = [bool(bpy.data.objects[name].neuralusd.record) for name in ("Red Box", "Ball")]
render("before")
bpy.data.objects["Red Box"].location.z += 0.6
render("moved")
scene.render.engine, scene.render.filepath, scene.render.dither_intensity = "NEURALUSD", ARGUMENTS["folder"] + "/f12", 0
bpy.ops.neuralusd.standard_view()
bpy.ops.render.render(write_still=True)
bpy.ops.neuralusd.release()
render("alone")
bpy.ops.neuralusd.hold()
scene.camera.location.x += 0.2
render("camera")
""",
        tmp_path,
    )
    assert found["hold"] == ["FINISHED"] and found["records"] == [True, True]
    before, moved, alone = (pixels(tmp_path / f"{name}.png") for name in ("before", "moved", "alone"))
    right = np.s_[:, 70:]  # the ball's side: the box is left of the middle
    assert abs(moved - before).max() > 60 and abs((moved - before)[right]).max() == 0
    assert abs((alone - before)[right]).max() > 0
    assert abs(pixels(tmp_path / "f12.png") - moved).max() <= 1
    held = {name: read_provenance(tmp_path / f"{name}.png")["held"] for name in ("before", "moved", "alone", "camera")}
    assert held == {"before": True, "moved": True, "alone": False, "camera": False}
    assert found["stdout"].count("nothing could be held") == 1


def test_a_picture_of_what_is_held_keeps_its_pixels(blender, tmp_path):
    PIL.Image.new("RGB", (128, 128), (30, 160, 60)).save(tmp_path / "green.png")
    blender.run(
        SCENE
        + RENDER
        + """
bpy.ops.neuralusd.hold()
scene.neuralusd.hold_image = bpy.data.images.load(ARGUMENTS["folder"] + "/green.png")
bpy.data.objects["Red Box"].location.z += 0.6
render("moved")
""",
        tmp_path,
    )
    moved = pixels(tmp_path / "moved.png")
    assert abs(moved[:, 80:] - (30, 160, 60)).max() <= 1
    assert abs(moved[20:60, 30:50] - (30, 160, 60)).max() > 60


def test_what_is_held_goes_where_the_blend_goes(blender, tmp_path):
    found = blender.run(
        SCENE
        + RENDER
        + """
folder = ARGUMENTS["folder"]
os.mkdir(folder + "/other")
bpy.ops.neuralusd.hold()
bpy.ops.wm.save_as_mainfile(filepath=folder + "/one.blend")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/other/two.blend")
def files(where):
    return sorted(name for name in os.listdir(where) if name.endswith(".usdz"))
result["files"] = [files(folder), files(folder + "/other")]
import shutil
shutil.rmtree(module("preferences").cache_folder() + "/held")
bpy.ops.wm.open_mainfile(filepath=folder + "/other/two.blend")
render("reopened")
# Held anew, and undone: the state before is held again.
bpy.ops.ed.undo_push(message="first")
first = bpy.context.scene.neuralusd.held
bpy.data.objects["Ball"].location.z += 1
bpy.ops.neuralusd.hold()
bpy.ops.ed.undo_push(message="second")
bpy.ops.wm.save_mainfile()
result["anew"] = bpy.context.scene.neuralusd.held != first
result["one"] = files(folder + "/other") == [f"two.neural.held-{bpy.context.scene.neuralusd.held}.usdz"]
bpy.ops.ed.undo()
result["undone"] = bpy.context.scene.neuralusd.held == first
render("undone")
# Other weights do not read its tokens; and it may be gone.
bpy.context.scene.neuralusd.backend = "others"
result["weights"] = refused(bpy.ops.neuralusd.render)
bpy.context.scene.neuralusd.backend = ""
shutil.rmtree(module("preferences").cache_folder() + "/held")
result["gone"] = refused(bpy.ops.neuralusd.render)
""",
        tmp_path,
    )
    assert len(found["files"][0]) == len(found["files"][1]) == 1
    assert found["files"][0][0].startswith("one.neural.held-") and found["files"][1][0].startswith("two.neural.held-")
    assert read_provenance(tmp_path / "reopened.png")["held"] and read_provenance(tmp_path / "undone.png")["held"]
    assert found["anew"] and found["one"] and found["undone"]
    assert "tokens of mini" in found["weights"] and "Press Hold" in found["weights"]
    assert "neither beside the .blend nor in the cache" in found["gone"]
