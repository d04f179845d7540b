"""The extension as a user meets it: its zip, its panels, progress and Esc, and what it says when things are missing."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from blender_process import MODAL, PROJECT, build, install, variables

SCENE = """
scene = empty()
box("Box")
box("Other", (2, 0, 0))
"""


class TestZip:
    def test_blender_s_own_tool_finds_it_valid(self, blender_python, tmp_path):
        zip_file = build(tmp_path, "--without-wheel")
        code = (
            "import bpy, os; print(bpy.utils.system_resource('SCRIPTS')); import sys; sys.stdout.flush(); os._exit(0)"
        )
        environment = variables(tmp_path / "resources")
        said = subprocess.run([blender_python, "-c", code], capture_output=True, text=True, env=environment).stdout
        scripts = said.split("\n")[0]
        tool = Path(scripts) / "addons_core/bl_pkg/cli/blender_ext.py"
        done = subprocess.run([sys.executable, tool, "validate", zip_file], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        names = zipfile.ZipFile(zip_file).namelist()
        assert {"LICENSE", "blender_manifest.toml", "service/client.py", "schema/plugInfo.json"} <= set(names)
        assert "build.py" not in names and not any("__pycache__" in name for name in names)

    def test_the_same_files_make_the_same_zip(self, tmp_path):
        first = build(tmp_path / "a", "--without-wheel").read_bytes()
        assert build(tmp_path / "b", "--without-wheel").read_bytes() == first

    def test_a_manifest_that_blender_refuses_is_not_built(self, tmp_path):
        folder = tmp_path / "blender_addon"
        shutil.copytree(PROJECT / "blender_addon", folder, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "neuralusd").mkdir()
        shutil.copy(PROJECT / "neuralusd/_version.py", tmp_path / "neuralusd")
        manifest = folder / "blender_manifest.toml"
        text = manifest.read_text()
        text = text.replace('tagline = "', 'tagline = "' + 70 * "x").replace('version = "0.1.0"', 'version = "9.9.9"')
        manifest.write_text(text)
        done = subprocess.run([sys.executable, folder / "build.py"], capture_output=True, text=True)
        assert done.returncode == 1 and "tagline has" in done.stderr and "9.9.9" in done.stderr
        assert "Traceback" not in done.stderr and not list(tmp_path.rglob("*.zip"))

    def test_no_file_imports_what_blender_has_not(self):
        for file in (PROJECT / "blender_addon").rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "SPDX-License-Identifier: GPL-3.0-or-later" in text, file
            for word in ("import torch", "import neuralusd", "from neuralusd", "import PIL"):
                code = [line.strip() for line in text.splitlines() if line.strip().startswith(word)]
                assert code == [], file
        # It stands alone: nothing of the rest, which has another licence, imports it.
        for file in (PROJECT / "neuralusd").rglob("*.py"):
            assert "blender_addon" not in file.read_text(encoding="utf-8"), file

    def test_install_enable_disable(self, blender, tmp_path):
        zip_file, resources = build(tmp_path, "--without-wheel"), tmp_path / "resources"
        install(blender.python, zip_file, resources)
        again = type(blender)(blender.python, resources, blender.service)
        found = again.run(
            """
for turn in range(2):
    enable()
    assert hasattr(bpy.types.Scene, "neuralusd") and hasattr(bpy.types, "NEURALUSD_OT_render")
    bpy.context.scene.render.engine = "NEURALUSD"
    bpy.context.scene.render.engine = "CYCLES"
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    left = [name for name in dir(bpy.types) if name.startswith("NEURALUSD")]
    result.setdefault("left", []).extend(left + [name for name in ("neuralusd",) if hasattr(bpy.types.Scene, name)])
    for handlers in (bpy.app.handlers.save_post, bpy.app.handlers.load_post):
        result["left"].extend(str(each) for each in handlers if "neural" in getattr(each, "__module__", ""))
enable()
bpy.ops.extensions.package_uninstall(repo_index=1, pkg_id="neuralusd")
result["there"] = EXTENSION in bpy.context.preferences.addons
""",
            tmp_path,
            installed=False,
        )
        assert found["left"] == [] and not found["there"]


class TestPanels:
    def test_every_panel_draws(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
from types import SimpleNamespace
manager, said = bpy.context.window_manager, bpy.context.object or bpy.data.objects["Box"]
bpy.context.view_layer.objects.active = said
panels, tasks = module("panels"), module("tasks")

def draw(function):
    # A layout of Blender's own, which names every property and operator that it does not know on stderr.
    layout = manager.popmenu_begin__internal("", icon="NONE").layout
    function(layout)
    words = []
    def walk(items):
        for item in items:
            words.append(item.get("rna") or item.get("operator") or item.get("draw_string") or "")
            walk(item.get("items", ()))
    walk(layout.introspect())
    return words

area = next(area for area in bpy.context.screen.areas if area.type == "VIEW_3D")
region = next(region for region in area.regions if region.type == "UI")
states = ["pass", "said.neuralusd.appearance_from, said.neuralusd.geometry_from = 'OBJECT', 'IMAGE'",
          "scene.camera, scene.neuralusd.held = None, 'abc'", "scene.render.engine = 'NEURALUSD'",
          "preferences().python = ''"]
for state in states:
    exec(state)
    with bpy.context.temp_override(window=manager.windows[0], area=area, region=region):
        for panel in panels.CLASSES:
            if not hasattr(panel, "poll") or panel.poll(bpy.context):
                words = draw(lambda layout: panel.draw(SimpleNamespace(layout=layout), bpy.context))
                result.setdefault(panel.__name__, []).append(words)

task = tasks.Task("Something", lambda task: None)
task.fraction, task.said, task.log = 0.5, "half", ["a line"]
tasks.running.append(task)
module("operators.setup").found[:] = [module("environment").Finding("Python", False, "is not there", "Press Set Up")]
module("operators.setup").last_log[:] = ["> pip install"]
for service in ("LOCAL", "URL"):
    preferences().service = service
    result["preferences " + service] = draw(lambda layout: panels.draw_preferences(preferences(), bpy.context, layout))
result["running"] = draw(panels.draw_running)
""",
            tmp_path,
        )
        for mistake in ("not found", "unknown operator", "enum", "rna_uiItem", "Traceback"):
            assert mistake not in found["stderr"] + found["stdout"].replace("RESULT", ""), mistake
        drawn = json.dumps({name: value for name, value in found.items() if name not in ("stdout", "stderr")})
        assert len(found["NEURALUSD_PT_main"]) == 5 and len(found["NEURALUSD_PT_settings"]) == 2
        verbs = "render encode lift resample hold release check setup stop standard_view"
        for verb in verbs.split():
            assert f"neuralusd.{verb}()" in drawn, verb
        for word in (
            "Seed",
            "Role",
            "Presence",
            "Appearance",
            "Geometry",
            "Object",
            "Image",
            "Token",
            "Python",
            "Cache",
        ):
            assert word in drawn, word
        assert "is not there" in drawn and "bpy.ops.neuralusd.stop()" in found["running"]
        for verb in ("compose", "depict"):  # verbs that cannot be asked for yet have no buttons
            assert verb not in drawn


class TestProgressAndCancel:
    def test_a_button_works_beside_the_window_and_ends_by_itself(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + MODAL
            + """
seen = []
def look(task):
    seen.append((round(task.fraction, 2), task.said, len(module("tasks").running)))
scene.neuralusd.steps = 40
result["answer"] = list(press(bpy.ops.neuralusd.render, "NEURALUSD_OT_render", look))
result["image"] = "Neural Render" in bpy.data.images
result["fractions"] = sorted({fraction for fraction, _, _ in seen})
result["said"] = sorted({said for _, said, _ in seen})
result["running"] = [max(count for _, _, count in seen), len(module("tasks").running)]
result["left"] = os.listdir(module("preferences").cache_folder() + "/work")
result["record"] = bool(bpy.data.objects["Box"].neuralusd.record)
""",
            tmp_path,
        )
        assert found["answer"] == ["FINISHED"] and found["image"] and found["record"]
        assert len(found["fractions"]) > 5 and "rendering" in found["said"]
        assert found["running"] == [1, 0] and found["left"] == []

    def test_esc_cancels_in_the_middle(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + MODAL
            + """
bpy.ops.neuralusd.encode()
scene.neuralusd.steps = 1000
begun = []
def look(task):
    if task.said == "rendering" and task.fraction > 0.01:
        begun.append(time.monotonic())
        return "ESC"
result["answer"] = list(press(bpy.ops.neuralusd.render, "NEURALUSD_OT_render", look))
result["seconds"] = time.monotonic() - begun[0]
result["image"] = "Neural Render" in bpy.data.images
connection = module("connection")
client = connection.connect(module("export").where())
until = time.monotonic() + 200
while any(job["state"] in ("queued", "running") for job in client.jobs()) and time.monotonic() < until:
    time.sleep(0.1)
result["jobs"] = [job["state"] for job in client.jobs() if job["verb"] == "render"][:1]
while module("tasks").running and time.monotonic() < until:
    time.sleep(0.1)
result["left"] = os.listdir(module("preferences").cache_folder() + "/work")
# And the next is as ever.
scene.neuralusd.steps = 0
result["next"] = list(press(bpy.ops.neuralusd.render, "NEURALUSD_OT_render"))
""",
            tmp_path,
        )
        assert found["answer"] == ["CANCELLED"] and not found["image"]
        assert found["jobs"] == ["cancelled"] and found["left"] == [] and found["next"] == ["FINISHED"]

    def test_f12_cancels_in_the_middle(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
bpy.ops.neuralusd.encode()
scene.neuralusd.steps, scene.render.engine = 1000, "NEURALUSD"
cls = module("engine.engine").NEURALUSD_RenderEngine
asked = []
# As Esc in the render window: Blender says so when it is asked.
stopped = cls.stopped
cls.stopped = lambda self: (asked.append(1), len(asked) > 12)[1]
result["render"] = list(bpy.ops.render.render())
cls.stopped = stopped
client = module("connection").connect(module("export").where())
import time
until = time.monotonic() + 200
while any(job["state"] in ("queued", "running") for job in client.jobs()) and time.monotonic() < until:
    time.sleep(0.1)
result["jobs"] = [job["state"] for job in client.jobs() if job["verb"] == "render"][:1]
result["left"] = os.listdir(module("preferences").cache_folder() + "/work")
""",
            tmp_path,
        )
        assert found["jobs"] == ["cancelled"] and found["left"] == []

    def test_an_encode_is_one_undo_step(self, blender, tmp_path):
        found = blender.run(
            SCENE
            + """
bpy.ops.ed.undo_push(message="before")
bpy.ops.neuralusd.encode()
first = bpy.data.objects["Box"].neuralusd.record
bpy.ops.ed.undo_push(message="encoded")
bpy.data.objects["Box"].location.x -= 1
bpy.ops.neuralusd.encode(force=True)
result["changed"] = bpy.data.objects["Box"].neuralusd.record != first
bpy.ops.ed.undo_push(message="encoded again")
bpy.ops.ed.undo()
result["back"] = bpy.data.objects["Box"].neuralusd.record == first
result["missing"] = shot()[1].missing
""",
            tmp_path,
        )
        assert found["changed"] and found["back"] and found["missing"] == []

    def test_other_threads_reach_the_main_one_and_give_up_when_stopped(self, blender, tmp_path):
        found = blender.run(
            """
import threading, time
tasks = module("tasks")
answers, waits, stop = [], threading.Event(), threading.Event()
def work():
    answers.append(tasks.on_main(lambda: len(bpy.data.objects)))
    waits.wait()
    try:
        tasks.on_main(lambda: answers.append("too late"), stop.is_set)
    except tasks.Stopped:
        answers.append("stopped")
thread = threading.Thread(target=work)
thread.start()
while not answers:
    tasks.pump()
waits.set()
stop.set()  # the main thread waits for the other one, as when a render is cancelled
thread.join(10)
tasks.pump()
result["answers"] = answers
""",
            tmp_path,
        )
        assert found["answers"][0] >= 0 and found["answers"][1:] == ["stopped"]
