"""Blender in a process of its own, with the built extension installed, and a real compute service beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

PROJECT = Path(__file__).resolve().parents[1]

SECOND = "NEURALUSD_SECOND_BLENDER"
MARK = "RESULT:"
EXTENSION = "bl_ext.user_default.neuralusd"

# What every script begins with. `result` is what the test gets.
PRELUDE = f"""
import json, os, sys
import bpy
import addon_utils
EXTENSION, ARGUMENTS, result = {EXTENSION!r}, json.loads(sys.argv[1]), {{}}

def enable():
    assert addon_utils.enable(EXTENSION, default_set=True), "the extension cannot be enabled"
    said = preferences()
    for name, value in ARGUMENTS["preferences"].items():
        setattr(said, name, value)

def preferences():
    return bpy.context.preferences.addons[EXTENSION].preferences

def module(name):
    return sys.modules[EXTENSION + "." + name]

def refused(operator, **arguments):
    "The message of an operator that fails."
    try:
        operator(**arguments)
    except RuntimeError as error:
        return str(error).strip()
    raise AssertionError("it did not fail")

def empty():
    "A scene with nothing but a camera at (0, -8, 0), which looks along +Y."
    for each in list(bpy.data.objects):
        bpy.data.objects.remove(each)
    scene = bpy.context.scene
    scene.render.resolution_x = scene.render.resolution_y = 128
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -8, 0), (1.5707963, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.context.view_layer.update()
    return scene

def box(name, location=(0, 0, 0), size=1.0, color=(0.8, 0.2, 0.1, 1), link=True, parent=None):
    "A cube with a material of that colour."
    mesh = bpy.data.meshes.new(name)
    h = size / 2
    corners = [(x, y, z) for x in (-h, h) for y in (-h, h) for z in (-h, h)]
    mesh.from_pydata(corners, [], [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = color
    mesh.materials.append(material)
    each = bpy.data.objects.new(name, mesh)
    each.location, each.parent = location, parent
    if link:
        bpy.context.scene.collection.objects.link(each)
    bpy.context.view_layer.update()
    return each

def picture(file):
    "An image file as a (height, width, 4) array of 0..255, its top row first."
    import numpy as np
    image = bpy.data.images.load(file)
    values = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], image.channels)[::-1]
    bpy.data.images.remove(image)
    return values * 255

def shot(**options):
    "The scene as it is sent to the service: a stage, and what was found of it."
    import tempfile
    from pxr import Usd
    scene = bpy.context.scene
    sent = module("export").send(scene, bpy.context.view_layer, tempfile.mkdtemp(dir=ARGUMENTS["folder"]), **options)
    return Usd.Stage.Open(sent.file), sent
"""

# For scripts: a box and a ball before a wall; the camera looks at them from the front. Nothing lights them.
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
scene.neuralusd.seed, scene.neuralusd.encode_from = 3, "MATERIALS"
bpy.context.view_layer.update()
"""

# Runs an operator as a button does: invoked, then modal, with timer events in place of a window's. In background mode
# Blender itself only ever executes, so the events come from within.
MODAL = """
import time
from types import SimpleNamespace
base = module("operators.base")
base.has_events = lambda context: True
base.Asking._listen = lambda self, context: None

def press(operator, name, each=lambda task: None, **arguments):
    cls, answers = getattr(bpy.types, name), []
    execute = cls.execute

    def events(self, context):
        cls.execute = execute
        answer = self.invoke(context, None)
        while answer in ({"RUNNING_MODAL"}, {"PASS_THROUGH"}):
            module("tasks").pump()
            key = each(self._task)
            answer = self.modal(context, SimpleNamespace(type=key or "TIMER", value="PRESS" if key else "NOTHING"))
            time.sleep(0.02)
        answers.append(answer)
        return answer

    cls.execute = events
    try:
        operator(**arguments)
    finally:
        cls.execute = execute
    return answers[0]
"""


def pixels(path: str | Path) -> np.ndarray:
    """(H, W, 3) int of a picture, 0 to 255."""
    return np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)


class Blender:
    """Runs scripts in Blender.

    Args:
        python: one that imports bpy. resources: folder of Blender's user, with the extension installed.
        service: variables of the environment that say where the service is.
    """

    def __init__(self, python: str, resources: Path, service: dict[str, str]):
        self.python, self.resources, self.service = python, resources, service
        self.preferences: dict[str, Any] = {"python": sys.executable}

    def run(self, script: str, folder: Path, *, installed: bool = True, **arguments: Any) -> dict[str, Any]:
        """Runs a script, and returns what it put into `result`."""
        process = self.start(script, folder, installed=installed, **arguments)
        out, err = process.communicate(timeout=600)
        return self.read(out, err)

    def start(self, script: str, folder: Path, *, installed: bool = True, **arguments: Any) -> subprocess.Popen[str]:
        """Starts a script."""
        file = folder / "script.py"
        begin = "enable()\n" if installed else ""
        # At its end 4.5 waits for threads of its USD that never end.
        end = "\nsys.stdout.flush(); sys.stderr.flush(); os._exit(0)\n"
        finish = f"\nprint({MARK!r} + json.dumps(result), flush=True)"
        guarded = "import traceback\ntry:\n    exec(compile(CODE, 'script', 'exec'))\nexcept BaseException:\n"
        guarded += "    traceback.print_exc()\n    sys.stderr.flush(); os._exit(1)\n"
        file.write_text(f"{PRELUDE}\nCODE = {begin + script + finish!r}\n{guarded}{end}", encoding="utf-8")
        given = {"preferences": self.preferences, "folder": str(folder), **arguments}
        environment = {
            **variables(self.resources),
            **self.service,
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [self.python, str(file), json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    @staticmethod
    def read(out: str, err: str) -> dict[str, Any]:
        """What a script put into `result`, from what it printed."""
        said = [line for line in out.splitlines() if line.startswith(MARK)]
        assert said, f"the script failed:\n{out[-3000:]}\n{err[-3000:]}"
        return {**json.loads(said[-1].removeprefix(MARK)), "stdout": out, "stderr": err}


def blenders() -> list[Any]:
    """The interpreters with a Blender: the project's, and a second one where the environment names one."""
    second = os.environ.get(SECOND)
    missing = pytest.mark.skipif(not second, reason=f"{SECOND} names no Python with another version of bpy (4.5 LTS)")
    return [pytest.param(None, id="newest"), pytest.param(second, id="second", marks=missing)]


def variables(resources: Path) -> dict[str, str]:
    """The environment of a Blender whose user's files are in `resources`, and its temporary ones beside them: it is
    ended by `os._exit`, so it leaves them behind.
    """
    temporary = resources.parent / f"{resources.name}-tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "BLENDER_USER_RESOURCES": str(resources), "TMPDIR": str(temporary)}


def install(python: str, zip_file: Path, resources: Path) -> None:
    """Installs the zip as a user does, and leaves it installed but not enabled."""
    code = (
        "import bpy, sys, os\n"
        "bpy.ops.extensions.package_install_files("
        f"filepath={str(zip_file)!r}, repo='user_default', enable_on_install=False)\n"
        "sys.stdout.flush(); os._exit(0)\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=variables(resources), timeout=300)
    assert (resources / "extensions/user_default/neuralusd/__init__.py").is_file(), done.stdout + done.stderr


@contextmanager
def service(state: Path) -> Iterator[dict[str, str]]:
    """A compute service, warm; the variables of the environment by which it is found."""
    from neuralusd.service import client

    before = os.environ.get("NEURALUSD_STATE")
    os.environ["NEURALUSD_STATE"] = str(state)
    try:
        client.connect(python=sys.executable, timeout=120)
        yield {"NEURALUSD_STATE": str(state)}
        try:
            client.connect(start=False).shutdown()
        except client.ServiceError:  # a test has ended it
            pass
    finally:
        if before is None:
            del os.environ["NEURALUSD_STATE"]
        else:
            os.environ["NEURALUSD_STATE"] = before


def installed(python: str, folder: Path, service: dict[str, str] | None = None) -> Blender:
    """A Blender with the built extension, without neuralusd's wheel, in a folder of its own."""
    zip_file = build(folder / "zip", "--without-wheel")
    resources = folder / "resources"
    install(python, zip_file, resources)
    return Blender(python, resources, service or {})


def build(folder: Path, *options: str) -> Path:
    """Builds the extension's zip, as `make extension` does."""
    command = [sys.executable, str(PROJECT / "blender_addon/build.py"), "--output", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
