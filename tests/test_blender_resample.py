"""Resample in Blender, against a real service with tiny random weights: pins, samples, and taking one."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from blender_process import MODAL, SCENE
from pxr import Usd
from tiny_resample import save_tiny_prior

import neuralusd
from neuralusd import stage as stages
from neuralusd.api.resample_request import anchors_of
from neuralusd.latents import ObjectAnchors


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return str(save_tiny_prior(tmp_path_factory.mktemp("prior")))


# What is seen of a scene: every object's place, whether it is hidden, and what the camera's lens is.
LOOK = """
def look():
    bpy.context.view_layer.update()
    scene = bpy.context.scene
    return {each.name: {"place": [list(row) for row in each.matrix_basis], "presence": each.neuralusd.presence,
                        "hidden": [each.hide_viewport, each.hide_render], "lens": scene.camera.data.lens}
            for each in scene.objects}

def plain(sample):
    return {change.each.name: {"moves": change.moves, "place": list(change.matrix), "hides": change.hides}
            for change in sample.changes}
"""


def test_samples_are_taken_and_the_original_comes_back(blender, prior, tmp_path):
    found = blender.run(
        SCENE
        + LOOK
        + """
import shutil
folder, said = ARGUMENTS["folder"], scene.neuralusd
scene.unit_settings.scale_length = 0.5
said.resample_backend, said.resample_samples, said.resample_insert = ARGUMENTS["prior"], 2, True
said.anchor_background = scene.camera.neuralusd.anchor_camera = 0
box_, ball = bpy.data.objects["Red Box"], bpy.data.objects["Ball"]
ball.neuralusd.anchor_pose = 0
box_.neuralusd.anchor_appearance = box_.neuralusd.anchor_presence = 0
result["none"] = [bpy.ops.neuralusd.take.poll(), bpy.ops.neuralusd.forget_samples.poll()]
bpy.ops.neuralusd.resample()
result["before"] = look()
result["pictures"] = [said.source_picture.name, *(sample.picture.name for sample in said.samples)]
result["packed"] = [bool(bpy.data.images[name].packed_file) for name in result["pictures"]]
result["samples"] = [plain(sample) for sample in said.samples]
result["zoom"] = [sample.zoom for sample in said.samples]
bpy.ops.ed.undo_push(message="resampled")
result["taken"], result["new"], result["box"] = [], [], []
for number in (1, 2):
    bpy.ops.neuralusd.take(sample=number)
    result["taken"].append(look())
    new = bpy.data.collections["Resampled"].objects
    result["box"].append([[list(each.location), list(each.dimensions)] for each in new if "Red_Box" in each.name])
    result["new"].append([[each.type, each.neuralusd.role, len(each.data.color_attributes),
                           module("usd.records").has_tokens(module("store").record_of(scene, each))] for each in new])
bpy.ops.neuralusd.render(filepath=folder + "/taken.png")
bpy.ops.neuralusd.take(sample=0)
result["back"], result["collections"] = look(), [each.name for each in scene.collection.children]
result["left"] = [each.name for each in bpy.data.meshes]
# One step of undo.
bpy.ops.neuralusd.take("EXEC_DEFAULT", True, sample=2)
bpy.ops.ed.undo()
result["undone"] = look()
bpy.ops.ed.redo()
result["redone"] = look()
# Saved, and opened elsewhere, without the cache.
os.mkdir(folder + "/other")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/one.blend")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/other/two.blend")
shutil.rmtree(module("preferences").cache_folder() + "/samples")
bpy.ops.wm.open_mainfile(filepath=folder + "/other/two.blend")
result["opened"], result["still"] = look(), bpy.context.scene.neuralusd.taken
bpy.ops.neuralusd.take(sample=0)
result["opened back"] = look()
bpy.ops.neuralusd.take(sample=1)
# The file of what is new is gone: nothing changes.
bpy.ops.neuralusd.take(sample=0)
for name in os.listdir(folder + "/other"):
    if "samples-" in name:
        os.unlink(folder + "/other/" + name)
result["gone"], result["kept"] = refused(bpy.ops.neuralusd.take, sample=1), look()
result["number"] = refused(bpy.ops.neuralusd.take, sample=9)
bpy.ops.neuralusd.forget_samples()
said = bpy.context.scene.neuralusd
result["forgotten"] = [len(said.samples), [each.name for each in bpy.data.images if "Sample" in each.name]]
""",
        tmp_path,
        prior=prior,
    )
    before = found["before"]
    assert found["none"] == [False, False] and all(found["packed"])
    assert found["pictures"] == ["Neural Sample Source", *(f"Neural Sample {number}" for number in (1, 2))]
    for sample, zoom, taken, new in zip(found["samples"], found["zoom"], found["taken"], found["new"], strict=True):
        assert sample["Ball"]["moves"] and sample["Ball"]["hides"] == "NO" and sample["Wall"]["hides"] == "REPLACE"
        np.testing.assert_allclose(np.ravel(taken["Ball"]["place"]), sample["Ball"]["place"], atol=1e-4)
        assert not np.allclose(taken["Ball"]["place"], before["Ball"]["place"], atol=1e-2)
        assert taken["Wall"]["hidden"] == taken["Red Box"]["hidden"] == [True, True]
        assert taken["Red Box"]["place"] == before["Red Box"]["place"]
        assert taken["Ball"]["lens"] == pytest.approx(50 * zoom, rel=1e-5) and abs(zoom - 1) > 1e-3
        assert all(kind == "MESH" and colors == 1 for kind, _, colors, _ in new)
        assert [role for _, role, _, _ in new].count("BACKGROUND") == 1
        assert len(new) == len(taken) - len(before) >= 1
    hides = [sample["Red Box"]["hides"] for sample in found["samples"]]
    assert hides == ["REPLACE" if box else "HIDE" for box in found["box"]] and "REPLACE" in hides
    [[place, size]] = found["box"][hides.index("REPLACE")]  # it stands in for the one that is hidden, and is as large
    np.testing.assert_allclose(place, (-1, 0, 0.5), atol=1e-5)
    assert 0.5 < max(size) < 1.3
    assert any(role == "ASSET" and tokens for new in found["new"] for _, role, _, tokens in new)
    with PIL.Image.open(tmp_path / "taken.png") as image:
        assert image.size == (128, 128)
    assert found["back"] == found["undone"] == found["opened back"] == found["kept"] == before
    assert found["collections"] == [name for name in found["collections"] if name != "Resampled"]
    assert not any("Sampled" in name for name in found["left"])
    assert found["redone"] == found["opened"] and found["still"] == 2
    assert found["redone"]["Ball"] == found["taken"][1]["Ball"]
    assert "Press Resample again" in found["gone"] and "There is no sample 9" in found["number"]
    assert found["forgotten"] == [0, []]


def test_pins_are_buttons_survive_and_cross_as_usd(blender, tmp_path):
    found = blender.run(
        SCENE
        + """
from types import SimpleNamespace
folder, said = ARGUMENTS["folder"], scene.neuralusd
box_, ball, wall = (bpy.data.objects[name] for name in ("Red Box", "Ball", "Wall"))
part = box("Lid", (0, 0, 0.6), 0.2, parent=box_)
result["refused"] = [refused(bpy.ops.neuralusd.resample)]
scene.camera.data.type = "ORTHO"
result["refused"].append(refused(bpy.ops.neuralusd.resample))
scene.camera.data.type = "PERSP"
bpy.ops.object.select_all(action="DESELECT")
result["refused"].append(refused(bpy.ops.neuralusd.pin, factor="POSE"))
# Of what is selected, a part stands for the whole.
part.select_set(True)
ball.select_set(True)
bpy.context.view_layer.objects.active = part
def alphas(each):
    return [round(getattr(each.neuralusd, "anchor_" + name), 3) for name in ("pose", "appearance", "presence")]
bpy.ops.neuralusd.pin(factor="POSE")
bpy.ops.neuralusd.pin(factor="APPEARANCE", object="Ball", keep=0.25)
bpy.ops.neuralusd.pin(factor="CAMERA", keep=0.5)
bpy.ops.neuralusd.pin(factor="BACKGROUND")
result["opened"] = [alphas(each) for each in (box_, ball, part, wall)]
bpy.ops.ed.undo_push(message="opened")
said.resample_index = list(scene.objects).index(ball)
result["clicked"] = [each.name for each in bpy.context.selected_objects]
bpy.ops.neuralusd.pin(factor="ALL", everything=True, keep=1)
result["pinned"] = [alphas(each) for each in (box_, ball)]
bpy.ops.ed.undo_push(message="pinned")
bpy.ops.ed.undo()
result["undone"] = [alphas(bpy.data.objects[name]) for name in ("Red Box", "Ball")]

# Every button, and what is said of it.
manager, panels = bpy.context.window_manager, module("panels")
def draw(function):
    layout, words = manager.popmenu_begin__internal("", icon="NONE").layout, []
    function(layout)
    def walk(items):
        for item in items:
            words.append(item.get("operator") or item.get("rna") or item.get("draw_string") or "")
            walk(item.get("items", ()))
    walk(layout.introspect())
    return words
area = next(area for area in bpy.context.screen.areas if area.type == "VIEW_3D")
region = next(region for region in area.regions if region.type == "UI")
scene, said = bpy.context.scene, bpy.context.scene.neuralusd
with bpy.context.temp_override(window=manager.windows[0], area=area, region=region):
    result["panel"] = draw(lambda to: panels.NEURALUSD_PT_resample.draw(SimpleNamespace(layout=to), bpy.context))
    line = panels.NEURALUSD_UL_pins.draw_item
    result["line"] = draw(lambda to: line(None, bpy.context, to, scene, bpy.data.objects["Ball"], 0, said, ""))
    said.source_picture = bpy.data.images.new("Source", 8, 8)
    said.samples.add().picture = said.samples.add().picture = said.source_picture
    result["strip"] = draw(lambda to: panels.draw_samples(to, scene))
    said.samples.clear()
filled = panels.NEURALUSD_UL_pins.filter_items(
    SimpleNamespace(bitflag_filter_item=1, filter_name=""), bpy.context, scene, "objects")
result["listed"] = sorted(each.name for each, shown in zip(scene.objects, filled[0]) if shown)

# Saved, and exported.
bpy.ops.wm.save_as_mainfile(filepath=folder + "/pins.blend")
bpy.ops.wm.open_mainfile(filepath=folder + "/pins.blend")
result["saved"] = [alphas(bpy.data.objects[name]) for name in ("Red Box", "Ball")]
bpy.ops.wm.usd_export(filepath=folder + "/pins.usda")
# Linked from another .blend, and overridden.
bpy.ops.wm.read_homefile(use_empty=True)
with bpy.data.libraries.load(folder + "/pins.blend", link=True) as (there, here):
    here.objects = ["Ball"]
linked = here.objects[0]
scene = bpy.context.scene
scene.collection.objects.link(linked)
linked.select_set(True)
result["refused"].append(refused(bpy.ops.neuralusd.pin, factor="PRESENCE", object="Ball"))
own = linked.override_create(remap_local_usages=True)
own.neuralusd.anchor_presence = 0.75
bpy.ops.wm.save_as_mainfile(filepath=folder + "/override.blend")
bpy.ops.wm.open_mainfile(filepath=folder + "/override.blend")
result["override"] = [alphas(each) for each in bpy.data.objects if each.name == "Ball" and each.override_library]
# And read back.
bpy.ops.wm.read_homefile(use_empty=True)
scene = bpy.context.scene
bpy.ops.wm.usd_import(filepath=folder + "/pins.usda")
result["read"] = {each.name.split(".")[0]: alphas(each) for each in bpy.data.objects if each.neuralusd.role == "ASSET"}
result["read camera"] = [each.neuralusd.anchor_camera for each in bpy.data.objects if each.type == "CAMERA"]
result["read background"] = scene.neuralusd.anchor_background
""",
        tmp_path,
    )
    pinned, orthographic, nothing, linked = found["refused"]
    assert "Everything is pinned" in pinned and "orthographic" in orthographic and "No object is selected" in nothing
    assert "library override" in linked
    assert found["opened"] == [[0, 1, 1], [0, 0.25, 1], [1, 1, 1], [1, 1, 1]]
    assert found["pinned"] == [[1, 1, 1]] * 2 and found["undone"] == found["saved"] == found["opened"][:2]
    drawn = str(found["panel"])
    for word in ("POSE", "APPEARANCE", "PRESENCE", "CAMERA", "BACKGROUND", "neuralusd.resample()", "resample_insert"):
        assert word in drawn, word
    assert "anchor_pose" in drawn and "anchor_presence" not in drawn  # a slider where a pin is open
    assert str(found["line"]).count("neuralusd.pin") == 3
    assert str(found["strip"]).count("neuralusd.take") == 3 and "forget_samples" in str(found["strip"])
    assert found["clicked"] == ["Ball"] and found["listed"] == ["Ball", "Red Box"]
    for mistake in ("not found", "unknown operator", "enum", "rna_uiItem", "Traceback"):
        assert mistake not in found["stderr"] + found["stdout"].replace("RESULT", ""), mistake
    assert found["override"] == [[0, 0.25, 0.75]]
    # What `neuralusd resample pins.usda` is asked for then.
    stage = Usd.Stage.Open(str(tmp_path / "pins.usda"))
    scene = stages.read(stage)
    asked = anchors_of(stage, scene, [], {}, [], None)
    assert {path.rsplit("/", 1)[-1]: alpha for path, alpha in asked.objects.items()} == {
        "Red_Box": ObjectAnchors(0, 1, 1),
        "Ball": ObjectAnchors(0, 0.25, 1),
    }
    assert (asked.camera, asked.background) == (0.5, 0)
    assert found["read"] == {"Red_Box": [0, 1, 1], "Sphere": [0, 0.25, 1]} and found["read camera"] == [0.5]
    assert found["read background"] == 0


def test_objects_that_something_else_places(blender, prior, tmp_path):
    found = blender.run(
        SCENE
        + LOOK
        + """
from mathutils import Matrix
folder, said = ARGUMENTS["folder"], scene.neuralusd
for name in ("Red Box", "Ball"):
    bpy.data.objects.remove(bpy.data.objects[name])
# Of another .blend: one linked, one overridden.
bpy.ops.wm.save_as_mainfile(filepath=folder + "/main.blend")
bpy.ops.wm.read_homefile(use_empty=True)
box("Linked"), box("Overridden")
bpy.ops.wm.save_as_mainfile(filepath=folder + "/library.blend")
bpy.ops.wm.open_mainfile(filepath=folder + "/main.blend")
scene, said = bpy.context.scene, bpy.context.scene.neuralusd
with bpy.data.libraries.load(folder + "/library.blend", link=True) as (there, here):
    here.objects = ["Linked", "Overridden"]
for each in here.objects:
    scene.collection.objects.link(each)
overridden = here.objects[1].override_create(remap_local_usages=True)
overridden.location = (0, -2, 0.5)
# One in a group that is turned, one that is mirrored, one that follows another, one that is animated.
group = bpy.data.objects.new("Group", None)
scene.collection.objects.link(group)
group.location, group.rotation_euler, group.scale = (0, 0, 1), (0, 0, 0.7), (2, 2, 2)
child = box("Child", (-0.8, 0, 0), 0.4, parent=group)
child.matrix_parent_inverse, child.rotation_mode = Matrix.Translation((0, 0.2, 0)), "QUATERNION"
mirrored = box("Mirrored", (1.5, 0, 0.5))
mirrored.scale.x = -1
follower = box("Follower", (0, 0, 0), 0.3)
constraint = follower.constraints.new("COPY_LOCATION")
constraint.target, constraint.use_offset = child, True
follower.location = (0, -1, 0)
animated = box("Animated", (2, -1, 0.5), 0.6)
animated.keyframe_insert("location", frame=1)
animated.location.z = 2
animated.keyframe_insert("location", frame=20)
scene.frame_set(1)
hidden = box("Hidden", (0, 0, 0.5))
hidden.hide_render = True
names = ["Overridden", "Child", "Mirrored", "Follower", "Animated", "Hidden"]
for name in names:
    each = next(each for each in scene.objects if each.name == name and each.library is None)
    each.neuralusd.role, each.neuralusd.anchor_pose = "ASSET", 0
bpy.context.view_layer.update()
bpy.ops.neuralusd.resample(samples=1, backend=ARGUMENTS["prior"])
said.samples[0].changes.add().each = bpy.data.objects["Linked", folder + "/library.blend"]
result["sample"] = {change.each.name: list(change.matrix) for change in said.samples[0].changes if change.moves}
def places():
    bpy.context.view_layer.update()
    return {name: [value for row in bpy.data.objects[name].matrix_world for value in row] for name in names}
result["before"] = look()
bpy.ops.neuralusd.take()
result["taken"] = places()
scene.frame_set(12)
result["later"] = places()
scene.frame_set(1)
result["muted"] = [constraint.mute]
bpy.ops.neuralusd.take(sample=0)
result["muted"].append(constraint.mute)
result["after"] = look()
scene.frame_set(20)
result["moves"] = animated.location.z
""",
        tmp_path,
        prior=prior,
    )
    assert set(found["sample"]) == {"Overridden", "Child", "Mirrored", "Follower", "Animated"}
    for name, place in found["sample"].items():
        np.testing.assert_allclose(found["taken"][name], place, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(found["later"][name], place, atol=1e-4, err_msg=name)
    assert np.linalg.det(np.reshape(found["taken"]["Mirrored"], (4, 4))) < 0
    assert found["after"] == found["before"] and found["muted"] == [True, False] and found["moves"] == 2
    said = found["stdout"]
    assert "hidden, or no assets (Role): Hidden" in said and "Linked is linked from another .blend" in said
    assert "The constraints of Follower are muted" in said and "The animation of Animated is muted" in said


def test_what_cannot_be_is_said_in_words_of_buttons(blender, prior, tmp_path):
    found = blender.run(
        SCENE
        + MODAL
        + """
said, resample = scene.neuralusd, bpy.ops.neuralusd.resample
bpy.data.objects["Ball"].neuralusd.anchor_pose = 0
result["weights"] = refused(resample, backend=ARGUMENTS["folder"] + "/none")
result["mini"] = refused(resample, backend=ARGUMENTS["mini"])
crowd = [box(f"Box {number}", (number % 4 - 1.5, number // 4, 0.3), 0.3) for number in range(8)]
for each in crowd:
    each.neuralusd.anchor_appearance = 0
result["crowd"] = refused(resample, backend=ARGUMENTS["prior"])
scene.camera.rotation_euler.x *= -1  # it looks away
result["unseen"] = refused(resample, backend=ARGUMENTS["prior"])
scene.camera.rotation_euler.x *= -1
for each in crowd:
    bpy.data.objects.remove(each)
scene.camera = None
result["camera"] = refused(resample)
scene.camera = bpy.data.objects["Camera"]
# Esc in the middle leaves nothing.
def look(task):
    return "ESC" if task.fraction > 0.2 else None
result["answer"] = list(press(resample, "NEURALUSD_OT_resample", look, backend=ARGUMENTS["prior"], samples=50))
result["left"] = [len(said.samples), [each.name for each in bpy.data.images if "Sample" in each.name]]
client = module("connection").connect(module("export").where())
until = time.monotonic() + 200
while any(job["state"] in ("queued", "running") for job in client.jobs()) and time.monotonic() < until:
    time.sleep(0.1)
result["jobs"] = [job["state"] for job in client.jobs() if job["verb"] == "resample"][:1]
""",
        tmp_path,
        prior=prior,
        mini=str(Path(neuralusd.__file__).parent / "weights/mini"),
    )
    reasons = {key: found[key] for key in ("weights", "mini", "crowd", "unseen", "camera")}
    for key, reason in reasons.items():
        assert "--" not in reason and "`" not in reason and "Traceback" not in reason and "scene.usdc" not in reason, (
            key
        )
    assert "none" in reasons["weights"] and "no prior over scenes" in reasons["mini"]
    assert "Pin some of them" in reasons["crowd"] and "no camera" in reasons["camera"]
    assert "sees none of the geometry of the scene" in reasons["unseen"]
    assert found["answer"] == ["CANCELLED"] and found["left"] == [0, []] and found["jobs"] == ["cancelled"]
