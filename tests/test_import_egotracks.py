"""`neuralusd data import egotracks`: boxes in the image over real video files.

Annotations are of the published schema, https://ego4d-data.org/docs/data/egotracks/; videos are encoded by FFmpeg.
"""

import json
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from pxr import UsdSemantics
from safetensors.torch import load_file
from tiny_backend import TINY_SPLAT

from neuralusd.cli import main
from neuralusd.datasets.frames import frames
from neuralusd.datasets.imported import DatasetError, DatasetWarning
from neuralusd.datasets.imported.run import import_dataset
from neuralusd.datasets.packed import pack
from neuralusd.datasets.world import open_world
from neuralusd.scene import pose_2d
from neuralusd.schema import NeuralAssetAPI
from neuralusd.training.config import CONFIGS

WIDTH, HEIGHT, FPS, STEP = 96, 64, 30, 6
CLIP, OTHER = "0a1b2c3d-0000-4000-8000-00000000c11b", "0a1b2c3d-0000-4000-8000-00000000beef"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command in the test's own folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "bug" not in err
        return status, out, err

    return call


def place(number):
    """Left and top of the red square (24 pixels) at a frame of the clip."""
    return 20 + number // STEP, 10 + number // STEP


def write_clip(path, count=150):
    """A red square that moves over grey, and a blue one that stands still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for number in range(count):
            picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
            picture[44:60, 60:76] = 30, 30, 220
            x, y = place(number)
            picture[y : y + 24, x : x + 24] = 220, 30, 30
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def box(number, x, y, width, height):
    """One entry of a track, as the annotators' tool wrote it: of a picture twice as large as the exported clip."""
    return {
        "frame_number": number // STEP,
        "x": 2.0 * x,
        "y": 2.0 * y,
        "width": 2.0 * width,
        "height": 2.0 * height,
        "rotation": 0,
        "original_width": 2 * WIDTH,
        "original_height": 2 * HEIGHT,
        "video_frame_number": 1000 + number,
        "exported_clip_frame_number": number,
    }


def query(title, track, **changes):
    return {
        "is_valid": True,
        "errors": [],
        "warnings": [],
        "object_title": title,
        "visual_crop": track[0],
        "visual_clip": track[:1],
        "lt_track": track,
        **changes,
    }


def red(numbers):
    return [box(number, *place(number), 24, 24) for number in numbers]


def annotations(*query_sets, clip=CLIP, split="train"):
    sets = {str(number): entry for number, entry in enumerate(query_sets, 1)}
    clips = [
        {
            "clip_uid": f"{clip}-canonical",
            "exported_clip_uid": clip,
            "video_start_sec": 10.0,
            "clip_fps": float(FPS),
            "annotation_complete": True,
            "annotations": [{"query_sets": sets, "warnings": []}],
        }
    ]
    return {"version": "1", "date": "", "description": "", "manifest": "",
            "videos": [{"video_uid": "v", "split": split, "clips": clips}]}  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    """A download with one clip: the red square in annotated frames 0 to 19, a blue one that is small, one not valid."""
    folder = tmp_path / "v2"
    numbers = range(0, 20 * STEP, STEP)
    content = annotations(
        query("Red box", red(numbers)),
        query("blue box", [box(number, 60, 44, 16, 16) for number in list(numbers)[2:6]]),
        query("grain of rice", [box(number, 50, 30, 8, 8) for number in numbers]),
        query("not there", red(numbers), is_valid=False),
    )
    (folder / "egotracks").mkdir(parents=True)
    (folder / "egotracks/egotracks_train.json").write_text(json.dumps(content))
    write_clip(folder / f"clips/{CLIP}.mp4")
    return folder


def to_world(dataset, out, **options):
    return import_dataset("egotracks", dataset, out, resolution=32, progress=False, **options)


def annotate(dataset, content, split="train"):
    (dataset / f"egotracks/egotracks_{split}.json").write_text(json.dumps(content))


def test_from_the_command_line_to_a_trained_backend(run, dataset, monkeypatch):
    status, out, err = run("data", "import", "egotracks", "v2", "--out", "world", "--resolution", 32)
    assert status == 0 and "world: 2 train" in out
    assert run("data", "pack", "world", "-o", "world.npz")[0] == 0
    monkeypatch.setitem(CONFIGS, "mini", replace(TINY_SPLAT, batch_size=2))
    trained = ("train", "--world", "world.npz", "-o", "trained", "--steps", 2, "--precision", "fp32", "--quiet")
    assert run(*trained)[0] == 0
    weights = load_file(dataset.parent / "trained/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_boxes_are_where_the_picture_shows_the_object(dataset, tmp_path):
    to_world(dataset, tmp_path / "world")
    read = list(frames(tmp_path / "world"))
    assert [name[-6:] for name, _, _ in read] == ["000000"] * 16 + ["000096"] * 4  # windows of 16 annotated frames
    for index, (_, scene, passes) in enumerate(read):
        asset = scene.foreground[0]
        assert asset.text == "Red box" and asset.extent is None
        # the clip's middle square, 64 pixels from the 16th on
        x, y = place(index * STEP)
        truth = np.array([(x - 16) / 64, y / 64, 24 / 64, 24 / 64])
        assert np.allclose(pose_2d(asset, scene.camera), truth, atol=1e-5)
        mask = passes.ids == scene.assets.index(asset)
        assert mask.sum() == 12 * 12
        assert np.median(passes.color[mask], 0) == pytest.approx([0.86, 0.12, 0.12], abs=0.04)
        assert not np.isfinite(passes.depth).any() and not np.isfinite(passes.points).any()


def test_an_object_is_absent_where_it_is_not_annotated(dataset, tmp_path):
    to_world(dataset, tmp_path / "world", limit=1)
    stage = open_world(tmp_path / "world")[0].open_stage()
    blue = NeuralAssetAPI(stage.GetPrimAtPath("/World/BlueBox_1"))
    assert [blue.GetPresenceAttr().Get(code) for code in range(1, 17)] == [0, 0, 1, 1, 1, 1] + [0] * 10
    assert list(UsdSemantics.LabelsAPI(blue.GetPrim(), "category").GetLabelsAttr().Get()) == ["blue box"]
    world = pack(frames(tmp_path / "world"))
    assert world.presence[:, 2].tolist() == [0, 0, 1, 1, 1, 1] + [0] * 10
    assert not world.has_pose_3d.any() and world.has_pose_2d[:, 1].all()
    assert (world.ids[:] == 2).any((1, 2)).tolist() == [False] * 2 + [True] * 4 + [False] * 10


class TestFilters:
    """Neural USD, appendix A.1."""

    def names(self, dataset, out):
        to_world(dataset, out)
        return {name for scene in open_world(out) for name in scene.about["assets"]}

    def test_boxes_of_less_than_a_tenth_of_the_picture_are_left_out(self, dataset, tmp_path):
        numbers = range(0, 5 * STEP, STEP)

        def still(name, width, height):
            return query(name, [box(number, 40, 20, width, height) for number in numbers])

        content = annotations(
            still("enough", WIDTH / 10, HEIGHT / 10),
            still("too low", WIDTH / 2, HEIGHT / 10 - 0.2),
            still("too narrow", WIDTH / 10 - 0.2, HEIGHT / 2),
        )
        annotate(dataset, content)
        assert self.names(dataset, tmp_path / "world") == {"enough"}

    def test_frames_without_an_object_are_left_out(self, dataset, tmp_path):
        annotate(dataset, annotations(query("red", red([0, 6, 12, 60, 66]))))
        to_world(dataset, tmp_path / "world")
        assert open_world(tmp_path / "world")[0].about["clip_frames"] == [0, 6, 12, 60, 66]

    def test_any_two_frames_of_a_scene_are_at_most_15_apart(self, dataset, tmp_path):
        annotate(dataset, annotations(query("red", red(range(3, 150, STEP)))))  # begins at the clip's fourth frame
        to_world(dataset, tmp_path / "world")
        for scene in open_world(tmp_path / "world"):
            numbers = scene.about["clip_frames"]
            assert numbers[-1] - numbers[0] <= 15 * STEP and all(number % STEP == 3 for number in numbers)

    def test_what_only_one_frame_shows_makes_no_scene(self, dataset, tmp_path):
        annotate(dataset, annotations(query("red", red([0]))))
        with pytest.raises(DatasetError, match="no object is annotated in two neighbouring frames"):
            to_world(dataset, tmp_path / "world")


class TestWhatIsWrong:
    def test_clips_that_are_not_there_are_left_out(self, dataset, tmp_path):
        annotate(dataset, annotations(query("red", red([0, 6])), clip=OTHER, split="val"), split="val")
        with pytest.warns(DatasetWarning, match="1 of 2 annotated clips are left out"):
            assert to_world(dataset, tmp_path / "world") == {"train": 2}
        write_clip(dataset / f"clips/{OTHER}.mp4", 12)
        assert to_world(dataset, tmp_path / "world") == {"train": 2, "held_out_scenes": 1}

    def test_no_clip_at_all(self, run, dataset):
        (dataset / f"clips/{CLIP}.mp4").unlink()
        status, _, err = run("data", "import", "egotracks", "v2", "--out", "world")
        assert status == 1 and "v2 has no video of the 1 clips" in err and "ego4d" in err

    def test_an_empty_video(self, run, dataset, tmp_path):
        (dataset / f"clips/{CLIP}.mp4").write_bytes(b"")
        status, _, err = run("data", "import", "egotracks", "v2", "--out", "world")
        assert status == 1 and f"{CLIP}.mp4 is empty" in err and "not one of the 2 scenes" in err

    @pytest.mark.parametrize("keep, says", [(0.9, "no video that can be read"), (0, "no video that can be read")])
    def test_a_damaged_video(self, dataset, tmp_path, keep, says):
        clip = dataset / f"clips/{CLIP}.mp4"
        data = clip.read_bytes()
        clip.write_bytes(data[: int(len(data) * keep)] or b"no video")
        with pytest.warns(DatasetWarning, match=says), pytest.raises(DatasetError, match=CLIP):
            to_world(dataset, tmp_path / "world")
        assert not list((tmp_path / "world").rglob("rgb.*"))

    def test_a_video_that_ends_early(self, dataset, tmp_path):
        write_clip(dataset / f"clips/{CLIP}.mp4", 100)
        with pytest.warns(DatasetWarning, match="ends before frame 102"):
            assert to_world(dataset, tmp_path / "world") == {"train": 1}

    @pytest.mark.parametrize(
        "content, says",
        [
            ("", "egotracks_train.json is no JSON"),
            ("{", "egotracks_train.json is no JSON"),
            ("[]", "has no list 'videos'"),
            (
                json.dumps(annotations(query("red", [{**box(0, 1, 1, 20, 20), "width": None}]))),
                "egotracks_train.json: the box",
            ),
            (
                json.dumps(annotations(query("red", [{**box(0, 1, 1, 20, 20), "original_width": 0}]))),
                "not one in a picture",
            ),
        ],
    )
    def test_damaged_annotations(self, run, dataset, content, says):
        (dataset / "egotracks/egotracks_train.json").write_text(content)
        status, _, err = run("data", "import", "egotracks", "v2", "--out", "world")
        assert status == 1 and says in err

    def test_no_annotations(self, run, tmp_path):
        (tmp_path / "v2").mkdir()
        status, _, err = run("data", "import", "egotracks", "v2", "--out", "world")
        assert status == 1 and "ego4d --output_directory DIR --datasets egotracks clips" in err
