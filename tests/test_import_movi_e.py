"""`neuralusd data import movi-e`: files of the true format become a world that everything reads as its own."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from movi_files import movi_video, write_movi
from pxr import Usd, UsdGeom, UsdSemantics
from safetensors.torch import load_file
from tiny_backend import TINY_SPLAT

from neuralusd.cli import main
from neuralusd.datasets.frames import frames
from neuralusd.datasets.imported import DatasetError, DatasetWarning
from neuralusd.datasets.imported.run import import_dataset
from neuralusd.datasets.packed import load_packed
from neuralusd.datasets.world import open_world
from neuralusd.scene import pose_2d
from neuralusd.training.config import CONFIGS

SIDE = 32


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


@pytest.fixture(scope="module")
def videos():
    return [movi_video(seed, side=SIDE) for seed in (0, 1)]


@pytest.fixture
def dataset(tmp_path, videos):
    """A download: two files to train on, one of each other split."""
    folder = tmp_path / "movi_e/256x256/1.0.0"
    write_movi(folder / "movi_e-train.tfrecord-00000-of-01024", videos)
    write_movi(folder / "movi_e-train.tfrecord-00001-of-01024", videos[:1])
    write_movi(folder / "movi_e-validation.tfrecord-00000-of-00032", videos[1:])
    write_movi(folder / "movi_e-test.tfrecord-00000-of-00128", videos[1:])
    return tmp_path / "movi_e"


def to_world(dataset, out, **options):
    return import_dataset("movi-e", dataset, out, resolution=SIDE, progress=False, **options)


class TestWorld:
    def test_from_the_command_line_to_a_trained_backend(self, run, dataset, monkeypatch):
        status, out, err = run("data", "import", "movi-e", dataset, "--out", "world", "--resolution", SIDE)
        assert status == 0 and "3 train, 1 held_out_scenes, 1 held_out_models" in out
        status, out, err = run("data", "pack", "world", "-o", "world.npz")
        assert status == 0 and "12 frames of 3 scenes" in out
        monkeypatch.setitem(CONFIGS, "mini", replace(TINY_SPLAT, batch_size=2))
        trained = ("train", "--world", "world.npz", "-o", "trained", "--steps", 1, "--precision", "fp32", "--quiet")
        assert run(*trained)[0] == 0
        weights = load_file(dataset.parent / "trained/unet/diffusion_pytorch_model.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())

    def test_frames_are_the_datasets(self, tmp_path, dataset, videos):
        to_world(dataset, tmp_path / "world")
        video = videos[0]
        read = [entry for entry in frames(tmp_path / "world") if entry[0] == "movi_e_train_00000_0000"]
        assert len(read) == 4
        for index, (_, scene, passes) in enumerate(read):
            assert [asset.role for asset in scene.assets] == ["background"] + ["foreground"] * 3
            assert np.array_equal(passes.ids, video.ids[index] + 1)
            # 16 bits of the range of depths
            assert np.abs(passes.depth - video.depth[index]).max() < 40 / 65535
            for number, asset in enumerate(scene.foreground, 1):
                assert np.allclose(asset.extent, video.bounds[number - 1], atol=1e-4)
                points = passes.points[passes.ids == number]
                # camera, depth, pose and box agree: what is seen of an object is on its box
                inside = np.abs(points - asset.extent.mean(0)) / np.ptp(asset.extent, axis=0)
                assert len(points) > 5 and np.abs(inside.max(1) - 0.5).max() < 0.01

    def test_boxes_are_around_their_masks(self, tmp_path, dataset):
        to_world(dataset, tmp_path / "world")
        checked = 0
        for _, scene, passes in frames(tmp_path / "world"):
            for number, asset in enumerate(scene.foreground, 1):
                x, y, h, w = pose_2d(asset, scene.camera) * SIDE
                rows, columns = np.nonzero(passes.ids == number)
                assert y - 0.51 <= rows.min() + 0.5 and rows.max() + 0.5 <= y + h + 0.51
                assert x - 0.51 <= columns.min() + 0.5 and columns.max() + 0.5 <= x + w + 0.51
                seen = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
                checked += seen > 0.75 * h * w
        assert checked > 25  # most are in nobody's way, and fill their boxes

    def test_the_stage_is_usd_for_everyone(self, tmp_path, dataset):
        to_world(dataset, tmp_path / "world")
        scene = open_world(tmp_path / "world")[0]
        stage = scene.open_stage()
        assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1
        assert stage.GetTimeCodesPerSecond() == 12 and stage.GetEndTimeCode() == 4
        shoe = stage.GetPrimAtPath("/World/Object11ProSlTrxFg_0")
        labels = UsdSemantics.LabelsAPI(shoe, "category").GetLabelsAttr().Get()
        assert list(labels) == ["11pro sl trx fg", "shoe"]
        ops = {op.GetOpName(): op.GetTimeSamples() for op in UsdGeom.Xformable(shoe).GetOrderedXformOps()}
        assert ops["xformOp:translate"] == ops["xformOp:orient"] == [1, 2, 3, 4] and ops["xformOp:scale"] == []
        # a box to look at, in any viewer that shows guides
        box = UsdGeom.BBoxCache(Usd.TimeCode(2), ["guide"]).ComputeWorldBound(shoe).ComputeAlignedRange()
        assert not box.IsEmpty()
        assert scene.about["objects"][0]["asset_id"] == "11pro_SL_TRX_FG" and scene.about["hdri"] == "abandoned_church"

    def test_other_sizes_fewer_frames_and_objects(self, tmp_path, dataset, videos):
        import_dataset("movi-e", dataset, tmp_path / "world", resolution=24, frames=3, objects=2, progress=False)
        scene = open_world(tmp_path / "world")[0]
        assert scene.about["source_frames"] == [0, 2, 3] and len(scene.about["assets"]) == 2
        for number in scene.frames:
            passes = scene.read(number)
            assert passes.rgb.shape == (24, 24, 3) and passes.ids.shape == (24, 24) and len(passes.paths) == 3
        pixels = (videos[0].ids[[0, 2, 3]].reshape(-1, 1) == np.arange(3)).sum(0)
        smallest = videos[0].features["instances/asset_id"][0][pixels.argmin()].decode()
        assert smallest.replace("_", " ") not in scene.about["assets"]


class TestGoingOn:
    def test_scenes_that_are_there_are_kept_and_the_others_made(self, tmp_path, dataset):
        world = tmp_path / "world"
        assert to_world(dataset, world, limit=1) == {"train": 1, "held_out_scenes": 1, "held_out_models": 1}
        first = next((world / "scenes/train").iterdir())
        stamp = (first / "scene.usda").stat().st_mtime_ns
        unfinished = world / "scenes/train/.making-movi_e_train_00000_0001-killed"
        unfinished.mkdir()
        assert to_world(dataset, world, splits=["train"])["train"] == 3
        assert (first / "scene.usda").stat().st_mtime_ns == stamp and not unfinished.exists()

    def test_a_world_is_of_one_dataset_and_size(self, run, tmp_path, dataset):
        to_world(dataset, tmp_path / "world", limit=1)
        status, _, err = run("data", "import", "movi-e", dataset, "--out", "world", "--resolution", 64)
        assert status == 1 and "world was imported with resolution 32" in err


class TestDamage:
    """What is damaged is named and left out; everything else is imported."""

    def imported(self, dataset, tmp_path):
        with pytest.warns(DatasetWarning) as caught:
            there = to_world(dataset, tmp_path / "world")
        failed = [json.loads(line) for line in (tmp_path / "world/failed.jsonl").read_text().splitlines()]
        assert len(failed) == len(caught) == 1
        assert not list((tmp_path / "world").rglob(".making-*"))
        return there["train"], str(caught[0].message)

    @pytest.fixture
    def file(self, dataset):
        return dataset / "256x256/1.0.0/movi_e-train.tfrecord-00000-of-01024"

    def test_a_truncated_file(self, file, dataset, tmp_path):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) - 1000])
        train, message = self.imported(dataset, tmp_path)
        assert train == 2 and str(file) in message and "record 1 is cut short" in message
        file.write_bytes(whole)  # downloaded again
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert to_world(dataset, tmp_path / "world")["train"] == 3
        assert not (tmp_path / "world/failed.jsonl").exists()

    def test_a_wrong_checksum(self, file, dataset, tmp_path):
        data = bytearray(file.read_bytes())
        data[1000] ^= 1
        file.write_bytes(data)
        train, message = self.imported(dataset, tmp_path)
        assert train == 2 and "record 0 is damaged (wrong checksum)" in message

    def test_a_damaged_length(self, file, dataset, tmp_path):
        data = bytearray(file.read_bytes())
        data[0] ^= 1
        file.write_bytes(data)
        train, message = self.imported(dataset, tmp_path)
        assert train == 1 and str(file) in message

    def test_an_empty_file(self, file, dataset, tmp_path):
        file.write_bytes(b"")
        train, message = self.imported(dataset, tmp_path)
        assert train == 1 and f"{file}" in message and "empty" in message

    @pytest.mark.parametrize(
        "feature, value, says",
        [
            ("camera/positions", None, "has no feature 'camera/positions'"),
            ("instances/bboxes_3d", ([1.0] * 8, "float"), "has 8 numbers"),
            ("instances/positions", ([float("nan")] * 36, "float"), "not finite"),
            ("video", ([b"no png"] * 4, "byte"), "its PNG cannot be decoded"),
            ("video", ([b""] * 3, "byte"), "has 3 entries, not 4"),
            ("instances/quaternions", ([0.0] * 48, "float"), "a quaternion is zero"),
            ("metadata/num_instances", (2, "int"), "36 numbers"),
        ],
    )
    def test_features_that_are_missing_or_wrong(self, file, dataset, tmp_path, videos, feature, value, says):
        features = {**videos[0].features, feature: value}
        if value is None:
            del features[feature]
        write_movi(file, [replace(videos[0], features=features), videos[1]])
        train, message = self.imported(dataset, tmp_path)
        assert train == 2 and says in message and str(file) in message


class TestNothingToImport:
    def test_no_such_files(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        for place, says in (("empty", "has no files named like movi_e-train"), ("nowhere", "there is no folder")):
            status, _, err = run("data", "import", "movi-e", place, "--out", "world")
            assert status == 1 and says in err
        assert not (tmp_path / "world").exists()

    def test_two_resolutions(self, dataset, tmp_path, videos):
        write_movi(dataset / "128x128/1.0.0/movi_e-train.tfrecord-00000-of-00001", videos[:1])
        with pytest.raises(DatasetError, match="name one: .*128x128.*256x256"):
            to_world(dataset, tmp_path / "world")

    def test_not_one_scene_can_be_read(self, tmp_path):
        folder = tmp_path / "tfds"
        folder.mkdir()
        (folder / "movi_e-train.tfrecord-00000-of-00001").write_bytes(b"no records in here")
        with pytest.warns(DatasetWarning), pytest.raises(DatasetError, match="not one of the 1 scenes"):
            to_world(folder, tmp_path / "world")

    def test_help_says_what_is_read(self, run):
        status, out, _ = run("data", "import", "movi-e", "--help")
        assert status == 0 and "movi_e-train.tfrecord-00000-of-01024" in out and "held_out_models" in out
        assert run("data", "import")[0] == 2


def test_packing_takes_as_many_objects_as_there_are(run, dataset):
    run("data", "import", "movi-e", dataset, "--out", "world", "--resolution", SIDE, "--limit", 1)
    assert run("data", "pack", "world", "-o", "world.npz")[0] == 0
    assert load_packed(["world.npz"]).presence.shape[1] == 4
