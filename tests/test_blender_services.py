"""Blender and the service: which one it finds, what happens when that dies, and how one gets there at all."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from blender_process import MODAL

from neuralusd.service import client

SCENE = """
scene = empty()
box("Box")
box("Other", (2, 0, 0))
"""

# Blender's own Python has no neuralusd; that of the module `bpy` may.
HIDDEN = """
import importlib.util
importlib.util.find_spec = lambda name: None
"""


class TestServices:
    def test_a_service_that_is_killed_in_the_middle(self, blender, tmp_path):
        state = tmp_path / "state"
        other = type(blender)(blender.python, blender.resources, {"NEURALUSD_STATE": str(state)})
        script = other.start(
            SCENE
            + """
scene.neuralusd.steps = 1000
result["error"] = refused(bpy.ops.neuralusd.render)
result["left"] = os.listdir(module("preferences").cache_folder() + "/work")
scene.neuralusd.steps = 1
result["next"] = list(bpy.ops.neuralusd.render())
""",
            tmp_path,
        )
        until = time.monotonic() + 200
        while not _rendering(state) and time.monotonic() < until:
            assert script.poll() is None, script.communicate()
            time.sleep(0.2)
        pid = json.loads((state / "service.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        found = other.read(*script.communicate(timeout=300))
        _stop(state)
        assert "Traceback" not in found["error"] and len(found["error"]) > 20
        assert found["left"] == [] and found["next"] == ["FINISHED"]

    def test_a_service_of_another_version(self, blender, tmp_path):
        state = tmp_path / "state"
        code = (
            "import neuralusd.service.client as c; c.PROTOCOL = 99\n"
            "from neuralusd.cli import main; import sys; sys.exit(main(['serve', '--port', '0']))"
        )
        environment = {**os.environ, "NEURALUSD_STATE": str(state)}
        newer = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 200
            while not (state / "service.json").exists() and time.monotonic() < until:
                time.sleep(0.1)
            other = type(blender)(blender.python, blender.resources, {"NEURALUSD_STATE": str(state)})
            found = other.run(
                SCENE
                + """
result["render"] = refused(bpy.ops.neuralusd.render)
result["check"] = list(bpy.ops.neuralusd.check())
result["found"] = [[each.name, each.ok, each.detail] for each in module("operators.setup").found]
""",
                tmp_path,
            )
        finally:
            newer.terminate()
            newer.wait()
        assert "protocol 99" in found["render"] and "Update this program" in found["render"]
        name, ok, detail = found["found"][-1]
        assert name == "Service" and not ok and "protocol 99" in detail

    def test_a_service_on_another_machine(self, blender, tmp_path):
        """It gets the scene as one package, and nothing of this machine's disk."""
        environment = {**os.environ, "NEURALUSD_STATE": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"}
        serve = [sys.executable, "-m", "neuralusd", "serve", "--tokens", str(tmp_path / "tokens")]
        said = subprocess.run(
            [*serve, "--new-token", "anna", "--json"], capture_output=True, text=True, env=environment
        )
        token = json.loads(said.stdout)["token"]
        with subprocess.Popen(
            [*serve, "--host", "127.0.0.1", "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                url = process.stdout.readline().split()[-1]
                found = blender.run(
                    SCENE
                    + """
local = ARGUMENTS["folder"] + "/local.png"
bpy.ops.neuralusd.render(filepath=local)
said = preferences()
said.service, said.url, said.token = "URL", ARGUMENTS["url"], ARGUMENTS["token"]
bpy.ops.neuralusd.render(filepath=ARGUMENTS["folder"] + "/remote.png")
result["difference"] = float(abs(picture(local) - picture(ARGUMENTS["folder"] + "/remote.png")).max())
bpy.ops.neuralusd.encode(force=True)
bpy.ops.neuralusd.check()
result["found"] = [each.detail for each in module("operators.setup").found if not each.ok]
said.token = "wrong"
result["token"] = refused(bpy.ops.neuralusd.render)
said.url, said.token = "http://127.0.0.1:9", ARGUMENTS["token"]
result["nobody"] = refused(bpy.ops.neuralusd.render)
said.url = ""
result["empty"] = refused(bpy.ops.neuralusd.render)
said.url, said.token = ARGUMENTS["url"], ""
result["no token"] = refused(bpy.ops.neuralusd.render)
""",
                    tmp_path,
                    url=url,
                    token=token,
                )
            finally:
                process.terminate()
        assert found["difference"] <= 1 and found["found"] == []
        assert "token" in found["token"] and "does not answer" in found["nobody"]
        assert "no address" in found["empty"] and "wants a token" in found["no token"]


class TestSetUp:
    def test_check_says_what_is_missing_and_how_to_get_it(self, blender, tmp_path):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        found = blender.run(
            HIDDEN
            + """
def check(python):
    preferences().python = python
    bpy.ops.neuralusd.check()
    return [[each.name, each.ok, each.detail, each.cure] for each in module("operators.setup").found]
result["none"] = check("")
result["missing"] = check("/no/such/python")
result["bare"] = check(ARGUMENTS["bare"])
result["good"] = check(ARGUMENTS["good"])
scene = empty()
box("Box")
preferences().python = "/no/such/python"
result["render"] = refused(bpy.ops.neuralusd.render)
""",
            tmp_path,
            bare=str(tmp_path / "bare/bin/python"),
            good=sys.executable,
        )
        [[_, ok, detail, cure]] = found["none"]
        assert not ok and "not installed" in detail and "Set Up" in cure
        [[_, ok, detail, cure]] = found["missing"]
        assert not ok and "/no/such/python" in detail and cure
        missing = {name: cure for name, ok, _, cure in found["bare"] if not ok}
        assert {"neuralusd", "torch", "usd-core"} <= missing.keys() and all(
            "Set Up" in cure for cure in missing.values()
        )
        assert all(ok for _, ok, _, _ in found["good"]) and found["good"][-1][:3] == [
            "Weights",
            True,
            "mini, mini-rooms",
        ]
        assert "encode" in found["good"][-2][2] and "not built yet: compose, depict" in found["good"][-2][2]
        assert "/no/such/python" in found["render"]

    def test_without_an_environment_a_button_says_what_to_press(self, blender, tmp_path):
        other = type(blender)(blender.python, blender.resources, {"NEURALUSD_STATE": str(tmp_path / "state")})
        found = other.run(
            SCENE
            + HIDDEN
            + """
preferences().python = ""
result["render"] = refused(bpy.ops.neuralusd.render)
""",
            tmp_path,
        )
        assert "Set Up" in found["render"] and "not installed" in found["render"]

    def test_set_up_makes_an_environment(self, blender, tmp_path):
        """With wheels of the test's own that need nothing, so that no network is needed."""
        wheels = tmp_path / "wheels"
        wheels.mkdir()
        _wheel(wheels, "torch", "9.0")
        _wheel(wheels, "neuralusd", "0.0.1", requires="torch")
        found = blender.run(
            MODAL
            + HIDDEN
            + """
os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=ARGUMENTS["wheels"], PIP_CONFIG_FILE=os.devnull)
bpy.context.preferences.system.use_online_access = True
module("preferences").WHEELS = ARGUMENTS["wheels"]
environment, tasks = module("environment"), module("tasks")
environment.NEEDED_BYTES = {"CPU": 1e6, "GPU": 1e6}
preferences().python = ""
folder = module("preferences").environment_folder()
seen = []
def look(task):
    seen.append([task.fraction, task.said])
result["answer"] = list(press(bpy.ops.neuralusd.setup, "NEURALUSD_OT_setup", look))
result["python"] = module("preferences").service_python()
result["seen"] = [seen[0], seen[-1], len({fraction for fraction, _ in seen})]
result["log"] = open(os.path.dirname(folder) + "/setup.log").read()
# Cancelled in the middle, the one before is still there.
def cancel(task):
    return "ESC" if "getting neuralusd" in task.said else None
result["cancelled"] = list(press(bpy.ops.neuralusd.setup, "NEURALUSD_OT_setup", cancel))
until = time.monotonic() + 200
while tasks.running and time.monotonic() < until:
    time.sleep(0.1)
result["after cancel"] = [module("preferences").service_python(), sorted(os.listdir(os.path.dirname(folder)))]
# So it is when the new one fails.
os.unlink(ARGUMENTS["wheels"] + "/torch-9.0-py3-none-any.whl")
result["error"] = refused(bpy.ops.neuralusd.setup)
result["after error"] = module("preferences").service_python()
bpy.context.preferences.system.use_online_access = False
result["offline"] = refused(bpy.ops.neuralusd.setup)
""",
            tmp_path,
            wheels=str(wheels),
        )
        assert found["answer"] == ["FINISHED"] and os.path.isfile(found["python"])
        assert "Successfully installed neuralusd-0.0.1" in found["log"] and found["seen"][2] > 4
        assert found["cancelled"] == ["CANCELLED"]
        assert found["after cancel"][0] == found["python"] == found["after error"]
        assert "environment.before" not in found["after cancel"][1]
        assert "No matching distribution found for torch" in found["error"] and "Traceback" not in found["error"]
        assert "may not use the internet" in found["offline"]


def _rendering(state: Path) -> bool:
    before = os.environ["NEURALUSD_STATE"]
    os.environ["NEURALUSD_STATE"] = str(state)
    try:
        jobs = client.connect(start=False).jobs()
    except client.ServiceError:
        return False
    finally:
        os.environ["NEURALUSD_STATE"] = before
    return any(job["state"] == "running" and job["progress"]["step"] > 20 for job in jobs)


def _stop(state: Path) -> None:
    before = os.environ["NEURALUSD_STATE"]
    os.environ["NEURALUSD_STATE"] = str(state)
    try:
        client.connect(start=False).shutdown()
    finally:
        os.environ["NEURALUSD_STATE"] = before


def _wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A wheel of one module that has a version."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
