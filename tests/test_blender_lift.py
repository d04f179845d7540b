"""Lift in Blender, against a real service: a picture or words become an object at the 3D cursor."""

import numpy as np
import PIL.Image
import pytest
from blender_process import MODAL
from tiny_shap_e import save_shap_e


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A lifter that takes words, with tiny weights."""
    return save_shap_e(tmp_path_factory.mktemp("shap-e"), "text")


def test_a_picture_becomes_an_object(blender, tmp_path):
    picture = PIL.Image.new("RGBA", (160, 200), (0, 0, 0, 0))
    picture.paste((200, 120, 30, 255), (40, 20, 120, 180))
    picture.save(tmp_path / "vase.png")
    found = blender.run(
        """
scene = empty()
scene.unit_settings.scale_length, scene.neuralusd.lift_backend = 0.1, "silhouette"
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
    with PIL.Image.open(tmp_path / "out.png") as image:
        assert image.size == (128, 128)
    assert "no such image" in found["nothing"] and "There is no file" in found["missing"]
    assert "script.py" in found["error"] and "Traceback" not in found["error"]


def test_words_become_an_object_and_undo_takes_it_away(blender, words, tmp_path):
    found = blender.run(
        """
scene = empty()
said = scene.neuralusd
said.lift_from, said.lift_text, said.lift_backend = "TEXT", "a red bag", ARGUMENTS["words"]
said.lift_candidates, said.lift_steps, said.lift_height, said.lift_seed = 2, 1, 0.3, 5
bpy.ops.ed.undo_push(message="before")
bpy.ops.neuralusd.lift()
root = bpy.context.object
meshes = [each for each in root.children_recursive if each.type == "MESH"]
bpy.context.view_layer.update()
heights = [(meshes[0].matrix_world @ __import__("mathutils").Vector(corner)).z for corner in meshes[0].bound_box]
result["name"], result["text"], result["height"] = root.name, root.neuralusd.text, max(heights) - min(heights)
sheet = bpy.data.images["Lift Candidates"]
result["sheet"] = [bool(sheet.packed_file), sheet.size[0] > sheet.size[1] > 0]
bpy.ops.ed.undo_push(message="lifted")
bpy.ops.ed.undo()
result["left"] = [each.name for each in bpy.data.objects if each.type != "CAMERA"]
bpy.ops.ed.redo()
result["again"] = result["name"] in bpy.data.objects
""",
        tmp_path,
        words=str(words),
    )
    assert found["name"] == "RedBag" and found["text"] == "red bag"
    assert found["height"] == pytest.approx(0.3, rel=0.02)
    assert found["sheet"] == [True, True]
    assert found["left"] == [] and found["again"]


def test_what_a_lifter_does_not_take_is_said(blender, words, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    found = blender.run(
        """
scene = empty()
lift, said = bpy.ops.neuralusd.lift, scene.neuralusd
said.lift_backend = "silhouette"
result["words"] = refused(lift, text="a red bag")
result["nothing"] = refused(lift, random=True, backend=ARGUMENTS["words"])
result["picture"] = refused(lift, filepath=ARGUMENTS["folder"] + "/empty.png")
result["lifter"] = refused(lift, text="a bag", backend="nobody")
said.lift_from = "TEXT"
result["unsaid"] = refused(lift)
said.lift_from, said.lift_image = "IMAGE", bpy.data.images.new("My Picture", 64, 64)
result["plain"] = refused(lift)
result["cache"] = module("preferences").cache_folder()
result["objects"] = [each.name for each in bpy.data.objects]
""",
        tmp_path,
        words=str(words),
    )
    assert "silhouette" in found["words"] and "takes no words" in found["words"]
    assert "makes things of words" in found["nothing"] and "empty (0 bytes)" in found["picture"]
    assert "nobody" in found["lifter"] and "No words" in found["unsaid"]
    assert (
        "My_Picture.png" in found["plain"]
        and str(tmp_path) not in found["plain"]
        and found["cache"] not in found["plain"]
    )
    assert found["objects"] == ["Camera"]
    assert not any("Traceback" in found[key] for key in ("words", "nothing", "picture", "lifter", "plain"))


def test_esc_in_the_middle_leaves_nothing(blender, words, tmp_path):
    found = blender.run(
        MODAL
        + """
scene = empty()
def look(task):
    return "ESC" if task.fraction > 0.05 else None
result["answer"] = list(press(bpy.ops.neuralusd.lift, "NEURALUSD_OT_lift", look, text="a bag",
                              backend=ARGUMENTS["words"], candidates=50))
result["objects"] = [each.name for each in bpy.data.objects]
client = module("connection").connect(module("export").where())
until = time.monotonic() + 200
while any(job["state"] in ("queued", "running") for job in client.jobs()) and time.monotonic() < until:
    time.sleep(0.1)
result["jobs"] = [job["state"] for job in client.jobs() if job["verb"] == "lift"][:1]
""",
        tmp_path,
        words=str(words),
    )
    assert found["answer"] == ["CANCELLED"] and found["objects"] == ["Camera"] and found["jobs"] == ["cancelled"]
