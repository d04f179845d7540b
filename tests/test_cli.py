"""The command line as a user meets it: what it writes and says, exit statuses, and wrong inputs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from pxr import Gf, Usd, UsdGeom, UsdRender
from shots import add_box, photograph, two_boxes
from stages import add_camera, new_stage
from tiny_backend import TINY_SPLAT, save_tiny_backend
from tiny_world import boxes_stage, frame

from neuralusd._environment import Check
from neuralusd.cli import main
from neuralusd.datasets.packed import load_packed
from neuralusd.images import read_provenance
from neuralusd.training.config import CONFIGS

ALL = ["/World/Background", "/World/Bottle", "/World/Cup"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return str(save_tiny_backend(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command in the test's own folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


@pytest.fixture
def shot(run, tmp_path, backend):
    """shot.usda in the test's folder, which asks for images of 32 x 32, encoded."""
    stage = Usd.Stage.Open(str(two_boxes(tmp_path / "shot.usda")))
    UsdRender.Settings.Define(stage, "/Render").CreateResolutionAttr(Gf.Vec2i(32, 32))
    stage.SetMetadata("renderSettingsPrimPath", "/Render")
    stage.Save()
    del stage
    assert run("encode", "shot.usda", "--camera", "/World/Cam", "--size", 64, "--backend", backend)[0] == 0
    return tmp_path / "shot.usda"


def place(file, path):
    """Where a stage's file puts a prim, by its translate op."""
    stage = Usd.Stage.Open(file)
    return tuple(stage.GetPrimAtPath(path).GetAttribute("xformOp:translate").Get())


def pixels(path):
    return np.asarray(PIL.Image.open(path)).astype(int)


def process(*arguments, **options):
    """The command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "neuralusd", *map(str, arguments)]

    def listen_to_interrupts():  # which a test run that was itself started in the background does not
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=listen_to_interrupts,
        **options,
    )


class TestAsAProcess:
    def test_help_names_the_commands_and_says_what_exit_statuses_mean(self):
        done = process("--help")
        out, _ = done.communicate()
        assert done.returncode == 0
        for word in ("encode", "render", "edit", "doctor", "exit status", "130"):
            assert word in out

    @pytest.mark.parametrize("command", [["render", "--help"], ["doctor", "shot.usda"]])
    def test_torch_is_not_loaded_for_help_or_to_look_at_a_stage(self, tmp_path, command):
        two_boxes(tmp_path / "shot.usda")
        code = f"import sys, neuralusd.cli as c; s = c.main({command}); assert 'torch' not in sys.modules; sys.exit(s)"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    def test_failure_is_a_sentence_and_an_exit_status(self, tmp_path):
        done = process("render", "missing.usda", "-o", "out.png", cwd=tmp_path)
        out, err = done.communicate()
        assert (done.returncode, out) == (1, "")
        assert err.splitlines() == ["neuralusd: error: missing.usda does not exist. Check the path."]

    def test_ctrl_c_leaves_whole_files_only(self, shot, backend):
        running = process(
            "render", shot, "-o", shot.with_name("f.png"), "--frames", "1:100000", "--backend", backend, cwd=shot.parent
        )
        while len(list(shot.parent.glob("f.*.png"))) < 3:
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
        assert running.returncode == 130
        assert "cancelled" in err and "Traceback" not in err
        for file in shot.parent.glob("f.*.png"):
            PIL.Image.open(file).load()
        assert not list(shot.parent.glob(".*"))


class TestTheMainJob:
    def test_encode_edit_render(self, run, shot, backend, tmp_path):
        artist = shot.read_bytes()
        assert run("render", "shot.usda", "-o", "before.png", "--seed", 7, "--backend", backend)[0] == 0
        status, out, _ = run(
            "edit", "shot.usda", "--move", "/World/Cup", "-0.2,0,0", "--appearance", "/World/Cup=/World/Bottle",
            "-o", "edit.usda",
        )  # fmt: skip
        assert status == 0 and "edit.usda" in out
        assert run("render", "edit.usda", "-o", "after.png", "--seed", 7, "--backend", backend)[0] == 0
        assert shot.read_bytes() == artist
        assert place("edit.usda", "/World/Cup") == pytest.approx((-1.4, 0, 0))
        changed = (pixels("before.png") != pixels("after.png")).any(-1)
        assert changed[:, :14].any() and not changed[:, 18:].any()
        made = read_provenance("after.png")
        assert made["seed"] == 7 and made["camera"] == "/World/Cam" and made["held"] and made["backend"] == backend

    def test_the_same_command_makes_the_same_file(self, run, shot, backend):
        for name in ("a.png", "b.png"):
            run("render", "shot.usda", "-o", name, "--seed", 3, "--backend", backend)
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()

    def test_encoding_again_does_nothing(self, run, shot, backend, tmp_path):
        before = (tmp_path / "shot.neural.usdc").stat()
        status, out, _ = run("encode", "shot.usda", "--size", 64, "--backend", backend, "--json")
        assert status == 0
        assert json.loads(out)["unchanged"] == ALL and json.loads(out)["encoded"] == []
        assert (tmp_path / "shot.neural.usdc").stat() == before

    def test_where_the_tokens_are_is_said(self, run, shot, backend):
        _, _, err = run("render", "shot.usda", "-o", "a.png", "--backend", backend)
        assert "note: the tokens of shot.usda are in" in err and "shot.neural.usdc" in err
        assert run("render", "shot.usda", "-o", "a.png", "--backend", backend, "--quiet")[2] == ""

    def test_without_a_camera_it_says_how_it_was_framed(self, run, tmp_path, backend):
        stage = new_stage("Z", 0.01, path=str(tmp_path / "shot.usda"))
        add_box(stage, "/Left", (-100, 0, 50), size=100)
        add_box(stage, "/Right", (100, 0, 50), size=100)
        stage.Save()
        status, out, err = run("encode", "shot.usda", "--size", 64, "--backend", backend, "--json")
        assert status == 0 and "framed from its front, as usdrecord does" in err
        assert json.loads(out)["framed"] and json.loads(out)["encoded"] == ["/Background", "/Left", "/Right"]
        assert run("edit", "shot.usda", "--move", "/Left", "0,0,0.5", "-o", "edit.usda")[0] == 0
        assert place("edit.usda", "/Left") == (-100, 0, 100)  # half a metre is 50 of the stage's centimetres
        status, out, err = run("render", "edit.usda", "-o", "out.png", "--size", 32, "--backend", backend, "--json")
        assert status == 0 and "framed" in err and json.loads(out)["images"][0]["camera"] == "framed"

    def test_a_photograph(self, run, tmp_path, backend):
        photograph(tmp_path)
        status, out, err = run(
            "encode", "photo.png", "-o", "scene.usda", "--mask", "ids.png", "--depth", "depth.npy",
            "--prompt", "cup, bowl", "--backend", backend,
        )  # fmt: skip
        assert status == 0 and "</World/Bowl> bowl" in out and "note: the camera is not known" in err
        assert run("render", "scene.usda", "-o", "out.png", "--size", 32, "--backend", backend)[0] == 0
        assert run("encode", "photo.png", "-o", "scene.usda", "--mask", "ids.png", "--backend", backend)[0] == 1

    def test_names_that_are_not_ascii(self, run, tmp_path, backend):
        folder = tmp_path / "Küche ☕ '1'"
        folder.mkdir()
        two_boxes(folder / "szene ä.usda")
        options = ["--size", 32, "--backend", backend]
        assert run("encode", folder / "szene ä.usda", *options)[0] == 0
        status, out, _ = run("render", folder / "szene ä.usda", "-o", folder / "bild ö.png", *options, "--json")
        assert status == 0 and json.loads(out)["images"][0]["path"] == str(folder / "bild ö.png")
        assert "szene ä" in read_provenance(folder / "bild ö.png")["stage"]


class TestFrames:
    def test_several_frames_are_numbered(self, run, tmp_path, backend):
        boxes_stage(0).Export(str(tmp_path / "shot.usda"))
        options = ["--size", 32, "--backend", backend]
        assert run("encode", "shot.usda", "--frame", 1, *options)[0] == 0
        assert run("render", "shot.usda", "-o", "out/f.png", "--frames", "1:3x2", *options)[0] == 0
        assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["f.0001.png", "f.0003.png"]
        assert read_provenance(tmp_path / "out/f.0003.png")["time"] == 3.0
        # Poses are read at the frame: the camera moves.
        assert (pixels("out/f.0001.png") != pixels("out/f.0003.png")).any()

    @pytest.mark.parametrize(
        ("name", "spec", "files"),
        [
            ("f.png", "-1:0", ["f.-001.png", "f.0000.png"]),
            ("f.##.png", "7,9", ["f.07.png", "f.09.png"]),
            ("f%03d.png", "7", ["f007.png"]),
            ("f.####.##.png", "1:1.5x0.25", ["f.0001.00.png", "f.0001.25.png", "f.0001.50.png"]),
        ],
    )
    def test_numbers_stand_where_the_name_says(self, run, shot, backend, name, spec, files):
        assert run("render", "shot.usda", "-o", name, "--frames", spec, "--backend", backend)[0] == 0
        assert sorted(file.name for file in shot.parent.glob("*.png")) == files

    def test_resume_renders_what_is_missing_not_whole_or_made_otherwise(self, run, shot, backend, tmp_path):
        command = ["render", "shot.usda", "-o", "f.png", "--frames", "1:4", "--backend", backend, "--resume"]
        assert run(*command, "--seed", 1)[0] == 0
        first = {number: (tmp_path / f"f.000{number}.png").read_bytes() for number in (1, 2, 3, 4)}
        os.remove("f.0002.png")
        (tmp_path / "f.0003.png").write_bytes(first[3][:-40])
        run("render", "shot.usda", "-o", "f.0004.png", "--frame", 4, "--backend", backend, "--seed", 2)
        status, out, err = run(*command, "--seed", 1)
        assert status == 0 and out.split() == ["f.0002.png", "f.0003.png", "f.0004.png"]
        assert "f.0001.png is there" in err
        assert first == {number: (tmp_path / f"f.000{number}.png").read_bytes() for number in first}

    def test_resume_renders_again_what_is_older_than_the_stage(self, run, shot, backend):
        command = ["render", "shot.usda", "-o", "f.png", "--frames", "1", "--backend", backend, "--resume"]
        run(*command)
        os.utime(shot, (time.time() + 10, time.time() + 10))
        assert "f.0001.png" in run(*command)[1]


class TestEdits:
    @pytest.mark.parametrize("form", [["/World/Cup", "-.5,0,1e-1"], ["/World/Cup=-.5,0,0.1"]])
    def test_a_pair_may_be_written_in_two_ways(self, run, shot, form):
        assert run("edit", "shot.usda", "--move", *form, "-o", "edit.usda")[0] == 0
        assert place("edit.usda", "/World/Cup") == pytest.approx((-1.7, 0, 0.1))

    def test_all_edits_at_once(self, run, shot):
        status, out, _ = run(
            "edit", "shot.usda", "--rotate", "/World/Cup", "-45", "--scale=/World/Cup=2", "--remove", "/World/Bottle",
            "--geometry", "/World/Cup=/World/Bottle", "--background", f"{shot}:/World/Background",
            "-o", "edit.usda", "--json",
        )  # fmt: skip
        assert status == 0
        assert json.loads(out)["edits"]["presence"] == {"/World/Bottle": 0.0}
        stage = Usd.Stage.Open("edit.usda")
        bound = UsdGeom.BBoxCache(0, ["default"]).ComputeWorldBound(stage.GetPrimAtPath("/World/Cup"))
        assert bound.ComputeAlignedRange().GetSize() == pytest.approx((2 * 2**0.5, 2, 2 * 2**0.5))
        assert run("doctor", "edit.usda")[0] == 0

    def test_an_existing_layer_is_kept_unless_one_says_so(self, run, shot):
        command = ["edit", "shot.usda", "--move", "/World/Cup", "1,0,0", "-o", "edit.usda"]
        assert [run(*command)[0], run(*command)[0]] == [0, 1]
        places = []
        for flag in ("--append", "--overwrite"):
            assert run(*command, flag)[0] == 0
            places.append(place("edit.usda", "/World/Cup")[0])
        assert places == pytest.approx([0.8, -0.2])

    def test_a_failed_edit_leaves_no_file(self, run, shot):
        status, _, err = run(
            "edit", "shot.usda", "--remove", "/World/Cup", "--move", "/World/Cap", "1,0,0", "-o", "e.usda"
        )
        assert status == 1 and "</World/Cap>" in err and "/World/Cup, /World/Bottle" in err
        assert not os.path.exists("e.usda")


def nothing(path):
    stage = new_stage(path=path)
    UsdGeom.Xform.Define(stage, "/World")
    add_camera(stage, (0, 0, 5))
    stage.Save()


def not_a_number(path):
    stage = new_stage(path=path)
    add_box(stage, "/Box", (float("nan"), 0, 0))
    stage.Save()


class TestWrongInputs:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (nothing, "nothing to see"),
            (not_a_number, "</Box>: its local-to-world transform is not finite"),
            (lambda path: Path(path).touch(), "bad.usda is empty (0 bytes)"),
            (lambda path: Path(path).write_text("hello"), "bad.usda cannot be read"),
            (os.mkdir, "bad.usda is a folder"),
            (str, "bad.usda does not exist"),
        ],
    )
    def test_bad_stages(self, run, tmp_path, backend, make, says):
        make(str(tmp_path / "bad.usda"))
        for command in (["encode", "bad.usda", "--backend", backend], ["doctor", "bad.usda"]):
            status, out, err = run(*command)
            assert status == 1 and says in out + err
        assert not (tmp_path / "bad.neural.usdc").exists()

    def test_a_missing_payload_is_a_note_and_the_rest_is_encoded(self, run, tmp_path, backend):
        stage = new_stage(path=str(tmp_path / "shot.usda"))
        add_box(stage, "/Box", (0, 0, 0))
        layer = stage.GetRootLayer()
        layer.ImportFromString(layer.ExportToString() + '\ndef Xform "Gone" (payload = @./gone.usd@)\n{\n}\n')
        layer.Save()
        del stage, layer
        status, out, err = run("encode", "shot.usda", "--backend", backend, "--json")
        assert status == 0 and json.loads(out)["encoded"] == ["/Background", "/Box"]
        assert "gone.usd" in err and "gone.usd" in " ".join(json.loads(out)["notes"])
        assert run("doctor", "shot.usda")[0] == 1

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["render", "shot.usda", "-o", "a.png", "--camera", "/World/Cup"], "</World/Cup> is a Cube, no camera"),
            (["render", "shot.usda", "-o", "a.png", "--backend", "nowhere"], "'nowhere' is no backend"),
            (["render", "shot.usda", "-o", "shot.usda/a.png"], "shot.usda is a file"),
            (["render", "shot.usda", "-o", "a.png", "--before-image", "b.png"], "names no stage that it edits"),
            (["encode", "shot.usda", "--image", "ids.npy"], "ids.npy does not exist"),
            (["encode", "thing.fbx"], "neither a stage"),
            (["encode", "photo.png", "-o", "s.usda", "--mask", "no.png"], "photo.png does not exist"),
            (["encode", "shot.usda", "-o", "shot.usda"], "cannot be a layer over itself"),
            (["edit", "shot.usda", "--presence", "/World/Cup", "2", "-o", "e.usda"], "it is 0 (gone) to 1"),
            (["edit", "shot.usda", "--appearance", "/World/Cup=b.usda:/B", "-o", "e.usda"], "b.usda does not exist"),
            (["edit", "shot.usda", "--remove", "/World/Cup", "-o", "e.txt"], "its extension is none of"),
            (["doctor", "shot.usda", "--camera", "/World/Cup"], "no camera"),
            (["data", "pack", "nowhere", "-o", "w.npz"], "nowhere has no split"),
        ],
    )
    def test_what_is_wrong_and_the_cure_in_one_line(self, run, shot, backend, arguments, says):
        if arguments[0] in ("render", "encode") and "--backend" not in arguments:
            arguments = [*arguments, "--backend", backend]
        status, out, err = run(*arguments)
        assert status == 1 and says in out + err
        if arguments[0] != "doctor":
            assert err.splitlines()[-1].startswith("neuralusd: error: ") and "bug" not in err

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["rendr"],
            ["render", "shot.usda"],
            ["render", "shot.usda", "-o", "a.jpg"],
            ["render", "shot.usda", "-o", "a.png", "--seed", "-1"],
            ["render", "shot.usda", "-o", "a.png", "--steps", "0"],
            ["render", "shot.usda", "-o", "a.png", "--guidance", "nan"],
            ["render", "shot.usda", "-o", "a.png", "--guidance-for", "colour=1"],
            ["render", "shot.usda", "-o", "a.png", "--frames", "1:"],
            ["render", "shot.usda", "-o", "a.png", "--frames", "1:5x-1"],
            ["render", "shot.usda", "-o", "a.png", "--no-hold", "--before", "b.usda"],
            ["encode", "shot.usda", "--mask", "ids.png"],
            ["encode", "photo.png", "--camera", "/Cam", "-o", "s.usda"],
            ["encode", "photo.png"],
            ["edit", "shot.usda", "-o", "e.usda"],
            ["edit", "shot.usda", "--move", "/World/Cup", "1,2", "-o", "e.usda"],
            ["edit", "shot.usda", "--move", "/A=1,2,3", "--move", "/A=1,2,3", "-o", "e.usda"],
            ["edit", "shot.usda", "--scale", "/World/Cup", "-1", "-o", "e.usda"],
            ["data"],
            ["data", "pack", "world", "-o", "world.zip"],
            ["train", "--config", "maxi", "--world", "w.npz", "-o", "out"],
        ],
    )
    def test_wrong_usage(self, run, arguments):
        status, out, err = run(*arguments)
        assert status == 2 and out == "" and "error: " in err and "--help" in err
        status, out, _ = run(*arguments, "--json")
        assert status == 2 and json.loads(out)["kind"] == "UsageError"

    def test_errors_as_json(self, run):
        status, out, _ = run("--json", "encode", "no.usda")
        assert status == 1 and json.loads(out)["kind"] == "StageOpenError"
        assert json.loads(out)["error"].endswith("no.usda does not exist. Check the path.")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_a_folder_that_cannot_be_written_to(self, run, shot, backend, tmp_path):
        (tmp_path / "closed").mkdir(mode=0o500)
        status, _, err = run("render", "shot.usda", "-o", "closed/out.png", "--backend", backend)
        assert status == 1 and "closed cannot be written to" in err

    def test_a_bug_is_called_one_and_debug_shows_it(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr("neuralusd.api.open_shot", lambda path: 1 / 0)
        monkeypatch.chdir(tmp_path)
        assert main(["render", "a.usda", "-o", "a.png"]) == 1
        err = capsys.readouterr().err
        assert "a bug of neuralusd: ZeroDivisionError" in err and "--debug" in err and "Traceback" not in err
        assert main(["render", "a.usda", "-o", "a.png", "--debug"]) == 1
        assert "Traceback" in capsys.readouterr().err

    def test_nothing_is_printed_to_a_closed_pipe(self, shot):
        code = "import sys, neuralusd.cli; sys.exit(neuralusd.cli.main(['doctor', 'shot.usda']))"
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=shot.parent, stdout=write, stderr=subprocess.PIPE, text=True
        )
        os.close(write)
        assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


class TestDoctor:
    @pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
    def test_the_machine(self, run, monkeypatch, ok, status):
        checks = [Check("usd", True, "OpenUSD 26.11"), Check("mini weights", ok, "no index", "get them again")]
        monkeypatch.setattr("neuralusd._environment.check_environment", lambda: checks)
        done, out, _ = run("doctor")
        assert done == status and "OpenUSD 26.11" in out and ("get them again" in out) == (not ok)
        done, out, _ = run("doctor", "--json")
        assert done == status and json.loads(out)["ok"] == ok and json.loads(out)["checks"][1]["detail"] == "no index"

    def test_a_stage_that_can_be_encoded(self, run, tmp_path):
        two_boxes(tmp_path / "shot.usda")
        status, out, _ = run("doctor", "shot.usda")
        assert status == 0
        assert "assets that `neuralusd encode` would take:" in out and "</World/Cup>" in out and "no tokens" in out

    def test_an_encoded_stage(self, run, shot):
        status, out, _ = run("doctor", "shot.usda", "--json")
        found = json.loads(out)
        assert status == 0 and found["ok"] and found["marked"] and found["cameras"] == ["/World/Cam"]
        cup = next(asset for asset in found["assets"] if asset["path"] == "/World/Cup")
        assert cup["tokens"]["appearance"]["shape"] == [16, 24] and cup["pose"] == "geometry"

    def test_tokens_that_the_backend_does_not_read(self, run, shot, backend, tmp_path):
        other = save_tiny_backend(tmp_path / "other", seed=1)
        assert "another encoder's" not in run("doctor", "shot.usda", "--backend", backend)[1]
        status, out, _ = run("doctor", "shot.usda", "--backend", other)
        assert status == 0 and "warning: " in out and "another encoder's" in out
        status, _, err = run("render", "shot.usda", "-o", "a.png", "--backend", other)
        assert status == 1 and "encode the stage again" in err

    def test_what_is_wrong_with_neural_prims(self, run, shot):
        stage = Usd.Stage.Open("shot.neural.usdc")
        stage.GetPrimAtPath("/World/Cup").GetAttribute("neural:presence").Set(7.0)
        stage.GetRootLayer().Save()
        del stage
        status, out, _ = run("doctor", "shot.usda")
        assert status == 1 and "error: </World/Cup>" in out


@pytest.fixture
def world(tmp_path):
    """A furniture world of boxes: two scenes of three frames."""
    for seed in (0, 1):
        folder = tmp_path / f"world/scenes/train/train_{seed:05d}"
        folder.mkdir(parents=True)
        stage = boxes_stage(seed)
        stage.Export(str(folder / "scene.usda"))
        (folder / "scene.json").write_text(json.dumps({"frames": [1, 2, 3]}))
        for number in (1, 2, 3):
            scene, passes = frame(stage, number, 32)
            PIL.Image.fromarray((passes.color * 255).astype(np.uint8)).save(folder / f"rgb.{number:04d}.png")
            # In another order than the stage's, which must not matter.
            paths = [asset.path for asset in reversed(scene.assets)]
            ids = np.where(passes.ids < 0, -1, len(paths) - 1 - passes.ids).astype(np.int8)
            np.savez(folder / f"passes.{number:04d}.npz", depth=passes.depth, ids=ids, paths=np.array(paths))
    return tmp_path / "world"


class TestData:
    def test_a_world_is_packed_and_damaged_scenes_are_left_out(self, run, world):
        shutil.copytree(world / "scenes/train/train_00000", world / "scenes/train/train_00002")
        (world / "scenes/train/train_00002/passes.0002.npz").write_bytes(b"PK damaged")
        status, out, err = run("data", "pack", "world", "-o", "world.npz")
        assert status == 0 and "6 frames of 2 scenes" in out and "train_00002 is left out" in err
        packed = load_packed(["world.npz"])
        stage = Usd.Stage.Open(str(world / "scenes/train/train_00000/scene.usda"))
        scene, passes = frame(stage, 2, 32)
        names = ["/World/Room", "/World/Box0", "/World/Box1"]  # slots: the background, then the others
        assert np.array_equal(packed.ids[1], reindexed_to(passes.ids, scene, names))
        assert np.abs(packed.color[1] / 255 - passes.color).mean() < 0.02

    def test_training_makes_a_backend_that_renders(self, run, world, shot, monkeypatch):
        monkeypatch.setitem(CONFIGS, "mini", replace(TINY_SPLAT, batch_size=2))
        status, out, _ = run(
            "train", "--world", "world", "-o", "trained", "--steps", 2, "--precision", "fp32", "--quiet"
        )
        assert status == 0 and "6 frames" in out
        assert run("encode", "shot.usda", "--backend", "trained")[0] == 0
        assert run("render", "shot.usda", "-o", "out.png", "--backend", "trained")[0] == 0

    def test_what_is_no_world(self, run, tmp_path):
        (tmp_path / "a.npz").write_bytes(b"no world")
        np.savez(tmp_path / "b.npz", a=np.zeros(3))
        for name in ("a.npz", "b.npz", "c.npz"):
            status, _, err = run("train", "--world", name, "-o", "trained")
            assert status == 1 and name in err and "bug" not in err


def reindexed_to(ids, scene, names):
    """Ids that index `scene.assets` as indices into `names`; 0 where nothing is seen."""
    lookup = np.array([*(names.index(asset.path) for asset in scene.assets), 0])
    return lookup[ids]


def test_eval_reads_its_arguments_when_it_is_used(run):
    code = "import sys, neuralusd.cli; neuralusd.cli.main(['--help']); assert 'neuralusd.evaluation' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    status, out, _ = run("eval", "--help")
    assert status == 0 and "--world" in out
