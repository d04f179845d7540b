"""Videos: what is written, by itself and by `neuralusd render -o shot.mp4`."""

import json
import os
import signal
import sys
from fractions import Fraction

import av
import numpy as np
import PIL.Image
import pytest
import torch
from pxr import Usd
from shots import two_boxes
from tiny_backend import save_tiny_backend
from tiny_world import boxes_stage

import neuralusd
from neuralusd.cli import main
from neuralusd.video import Video, read_about

COLORS = [(200, 40, 30), (30, 60, 220), (20, 180, 60)]


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
    """shot.usda in the test's folder, encoded: its camera moves from frame 1 to 3, 12 of them a second."""
    stage = boxes_stage(0)
    stage.SetTimeCodesPerSecond(12)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(3)
    stage.Export(str(tmp_path / "shot.usda"))
    assert run("encode", "shot.usda", "--frame", 1, "--size", 64, "--backend", backend)[0] == 0
    return tmp_path / "shot.usda"


def plain(color, size=(32, 24)):
    return PIL.Image.new("RGB", size, color)


def read(path):
    """The images of a video, (N, H, W, 3), and its frames a second."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24", src_colorspace="ITU709") for frame in file.decode(stream)]
        return np.stack(frames).astype(int), stream.average_rate


def patches(image):
    """The mean colours of 8 x 8 pixels."""
    height, width, _ = image.shape
    return image.reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))


class TestVideo:
    @pytest.mark.parametrize("name", ["shot.mp4", "shot.MOV"])
    def test_images_become_frames_in_their_order_and_colours(self, tmp_path, name):
        with Video(tmp_path / name, 24) as video:
            for color in COLORS:
                video.add(plain(color))
        frames, rate = read(tmp_path / name)
        assert frames.shape == (3, 24, 32, 3) and rate == 24
        assert np.abs(frames - np.array(COLORS)[:, None, None]).max() <= 4
        assert os.listdir(tmp_path) == [name]

    def test_odd_sides_get_a_copy_of_the_last_row_and_column(self, tmp_path):
        image = np.full((5, 7, 3), 255, np.uint8)
        image[-1], image[:, -1] = 0, 0
        with Video(tmp_path / "odd.mp4", 24) as video:
            video.add(PIL.Image.fromarray(image))
        [frame], _ = read(tmp_path / "odd.mp4")
        assert frame.shape == (6, 8, 3)
        assert frame[:3, :5].min() > 200 and frame[-2:].max() < 60 and frame[:, -2:].max() < 60

    def test_a_rate_need_not_be_whole(self, tmp_path):
        with Video(tmp_path / "film.mp4", 24000 / 1001) as video:
            for color in COLORS:
                video.add(plain(color))
        assert read(tmp_path / "film.mp4")[1] == Fraction(24000, 1001)

    def test_a_video_says_how_it_was_made(self, tmp_path):
        image = plain(COLORS[0])
        image.info["neuralusd"] = {"seed": 7, "time": 1.0, "stage": "Küche.usda", "versions": {"neuralusd": "0.1.0"}}
        with Video(tmp_path / "shot.mp4", 24, {"times": [1.0, 2.0]}) as video:
            video.add(image)
            video.add(plain(COLORS[1]))
        assert read_about(tmp_path / "shot.mp4") == {
            "seed": 7, "stage": "Küche.usda", "versions": {"neuralusd": "0.1.0"}, "times": [1.0, 2.0], "fps": 24.0,
        }  # fmt: skip

    def test_where_h264_is_not_to_be_had_it_is_mpeg_4(self, tmp_path, monkeypatch):
        monkeypatch.setattr("neuralusd.video._ENCODERS", ("no-such-encoder", "mpeg4"))
        with Video(tmp_path / "shot.mp4", 24) as video:
            video.add(plain(COLORS[0]))
        assert video.codec == "mpeg4"
        assert np.abs(read(tmp_path / "shot.mp4")[0] - COLORS[0]).max() <= 6

    def test_what_breaks_off_leaves_the_file_as_it_was(self, tmp_path):
        (tmp_path / "shot.mp4").write_bytes(b"the video before")
        with pytest.raises(KeyboardInterrupt), Video(tmp_path / "shot.mp4", 24) as video:
            video.add(plain(COLORS[0]))
            raise KeyboardInterrupt
        with pytest.raises(ValueError, match=r"\(8, 8\) pixels does not fit"), Video(tmp_path / "b.mp4", 24) as video:
            video.add(plain(COLORS[0]))
            video.add(plain(COLORS[0], (8, 8)))
        assert os.listdir(tmp_path) == ["shot.mp4"]
        assert (tmp_path / "shot.mp4").read_bytes() == b"the video before"

    @pytest.mark.parametrize(("name", "rate"), [("shot.gif", 24), ("shot.mp4", 0), ("shot.mp4", 1e6)])
    def test_what_is_no_video(self, tmp_path, name, rate):
        with pytest.raises(ValueError, match="cannot be written|can be written"):
            Video(tmp_path / name, rate)


class TestRender:
    def test_a_video_plays_all_of_the_stage_as_fast_as_the_stage(self, run, shot, backend, tmp_path):
        command = ["render", "shot.usda", "--size", "48x32", "--seed", 7, "--backend", backend]
        status, out, _ = run(*command, "-o", "out/shot.mp4")
        assert status == 0 and out.splitlines() == ["out/shot.mp4: 3 frames, 12 a second, libx264"]
        assert os.listdir(tmp_path / "out") == ["shot.mp4"]
        frames, rate = read("out/shot.mp4")
        assert frames.shape == (3, 32, 48, 3) and rate == 12
        about = read_about("out/shot.mp4")
        assert (about["seed"], about["times"], about["verb"]) == (7, [1.0, 2.0, 3.0], "render")
        run(*command, "-o", "f.png", "--frames", "1,3")
        for number, name in ((0, "f.0001.png"), (2, "f.0003.png")):
            with PIL.Image.open(name) as image:
                still = np.asarray(image).astype(int)
            # These weights make noise, and colours have half the resolution in a video: patches are compared.
            near, far = (np.abs(patches(frames[n]) - patches(still)).mean() for n in (number, 2 - number))
            assert near < 4 and near < far / 2

    @pytest.mark.parametrize(
        ("options", "times", "rate"),
        [
            (["--frames", "1:3x0.5"], [1, 1.5, 2, 2.5, 3], 24),
            (["--frames", "3:1"], [3, 2, 1], 12),
            (["--frames", "1,2,7"], [1, 2, 7], 12),
            (["--frames", "1:3", "--fps", "23.976"], [1, 2, 3], Fraction(2997, 125)),
        ],
    )
    def test_which_frames_and_how_fast(self, run, shot, backend, options, times, rate):
        status, out, _ = run(
            "render", "shot.usda", "-o", "a.mp4", "--size", 16, "--backend", backend, *options, "--json"
        )
        assert status == 0
        found = json.loads(out)
        assert [image["time"] for image in found["images"]] == times and "path" not in found["images"][0]
        assert found["video"] == {"path": "a.mp4", "frames": len(times), "fps": float(rate), "codec": "libx264"}
        assert read("a.mp4")[1] == rate

    def test_a_stage_that_does_not_say_which_frames_it_has(self, run, backend, tmp_path):
        two_boxes(tmp_path / "still.usda")
        assert run("encode", "still.usda", "--size", 64, "--backend", backend)[0] == 0
        status, _, err = run("render", "still.usda", "-o", "a.mp4", "--backend", backend)
        assert status == 1 and "startTimeCode" in err and "--frames 1:24" in err
        stage = Usd.Stage.Open(str(tmp_path / "still.neural.usdc"))
        stage.SetTimeCodesPerSecond(4800)
        stage.Save()
        del stage
        command = ["render", "still.usda", "-o", "a.mp4", "--size", 16, "--frames", "1:2", "--backend", backend]
        status, _, err = run(*command)
        assert status == 1 and "4800 of these frames a second" in err and "--fps" in err
        assert run(*command, "--fps", 24)[0] == 0

    def test_stills_are_kept_and_a_broken_off_video_goes_on_from_them(self, run, shot, backend, tmp_path):
        command = [
            "render", "shot.usda", "-o", "a.mp4", "--stills", "f.##.png", "--size", 16, "--backend", backend,
        ]  # fmt: skip
        status, out, _ = run(*command)
        assert status == 0 and out.split()[:3] == ["f.01.png", "f.02.png", "f.03.png"]
        whole, stills = read("a.mp4")[0], {name: (tmp_path / name).read_bytes() for name in out.split()[:3]}
        os.remove("a.mp4")
        os.remove("f.02.png")
        status, out, err = run(*command, "--resume")
        assert status == 0 and out.split()[0] == "f.02.png" and "f.01.png is there" in err
        assert {name: (tmp_path / name).read_bytes() for name in stills} == stills
        assert np.array_equal(read("a.mp4")[0], whole)
        assert read_about("a.mp4")["times"] == [1.0, 2.0, 3.0]

    def test_ctrl_c_leaves_the_stills_and_no_half_a_video(self, run, shot, backend, tmp_path, monkeypatch):
        render = neuralusd.api.render

        def interrupted(stage, camera, time, **options):
            if time == 3:
                signal.raise_signal(signal.SIGINT)
            return render(stage, camera, time, **options)

        monkeypatch.setattr("neuralusd.api.render", interrupted)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
        try:
            status, _, err = run(
                "render", "shot.usda", "-o", "a.mp4", "--stills", "f.png", "--size", 16, "--backend", backend
            )
        finally:
            signal.signal(signal.SIGINT, before)
        assert status == 130 and "cancelled" in err
        assert sorted(file.name for file in tmp_path.glob("f.*.png")) == ["f.0001.png", "f.0002.png"]
        assert not (tmp_path / "a.mp4").exists() and not list(tmp_path.glob(".*"))

    def test_without_pyav_it_says_what_to_install_before_the_work(self, run, shot, backend, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        status, _, err = run("render", "shot.usda", "-o", "a.mp4", "--stills", "f.png", "--backend", backend)
        assert status == 1 and "pip install 'neuralusd[video]'" in err
        assert not list(shot.parent.glob("*.png"))

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["-o", "a.gif"], "neither a PNG nor a video"),
            (["-o", "a.png", "--fps", "24"], "--fps: it is for videos"),
            (["-o", "a.png", "--stills", "b.png"], "--stills: it is for videos"),
            (["-o", "a.mp4", "--frame", "3"], "a video has several frames"),
            (["-o", "a.mp4", "--resume"], "--stills"),
            (["-o", "a.mp4", "--fps", "0"], "not above 0"),
            (["-o", "a.mp4", "--fps", "1e9"], "0.01 to 1000"),
        ],
    )
    def test_wrong_usage(self, run, arguments, says):
        status, out, err = run("render", "shot.usda", *arguments)
        assert status == 2 and out == "" and says in err
