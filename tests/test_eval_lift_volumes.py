"""`neuralusd eval --part volumes`: KID, rebuilding and sampling of volume models, on volumes that are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from neuralusd.cli import main
from neuralusd.datasets.carving import carve
from neuralusd.datasets.objects import ObjectViews, object_views, save_objects
from neuralusd.datasets.orbits import MARGIN
from neuralusd.datasets.world import open_world
from neuralusd.evaluation.lifts_cases import true_points
from neuralusd.evaluation.volumes import (
    COVERAGE,
    DIRECT,
    EMPTY,
    FIRST,
    HELD,
    IOU,
    KID,
    MATCHING,
    OTHERS,
    evaluate_generation,
    evaluate_reconstruction,
    volume_points,
)
from neuralusd.evaluation.volumes_inception import InceptionFeatures
from neuralusd.evaluation.volumes_kid import MiniFeatures, kid
from neuralusd.evaluation.volumes_models import VolumeModel, load_volume_model
from neuralusd.models.volumes.decoder import VolumeDecoder
from neuralusd.models.volumes.denoiser import VolumeUNet
from neuralusd.models.volumes.embeddings import ObjectEmbeddings
from neuralusd.models.volumes.normalization import LatentNormalizer
from tests.orbit_world import write_orbits

DECODER = {"embedding_dim": 8, "channels": (8, 4, 4), "depth": 1, "attention_resolutions": (8,), "attention_heads": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_orbits(tmp_path_factory.mktemp("orbits") / "world")


@pytest.fixture(scope="module")
def views(world):
    return object_views(world)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An autodecoder of the world's four training objects and a latent diffusion model, untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("volumes") / "tiny"
    VolumeDecoder(**DECODER).save_pretrained(folder / "decoder")
    ObjectEmbeddings(4, 8).save_pretrained(folder / "embeddings")
    unet = VolumeUNet(4, 8, 16, (1, 2), 1, (4,), 2)
    unet.save_pretrained(folder / "denoiser")
    LatentNormalizer().save_pretrained(folder / "normalizer")
    return folder


@dataclass
class CarvedModel(VolumeModel):
    """A model that knows its training objects as their outlines carve them, and samples nothing but them."""

    views: object = None

    def objects(self, indices):
        for index in indices:
            occupancy, color = carve(self.views, int(index), 16)
            density = 200.0 * torch.from_numpy(occupancy)
            yield density[None, None], torch.from_numpy(color).permute(3, 0, 1, 2)[None]

    def direct(self, count, seed):
        yield from self.objects(np.arange(count) % len(self.views))


@pytest.fixture(scope="module")
def carved(views):
    decoder = VolumeDecoder(**DECODER)
    return CarvedModel("carved", "0", decoder, object(), torch.zeros(8), torch.ones(8), views=views)


def test_kid_is_the_unbiased_estimate_of_the_paper():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 3)), random.normal(size=(5, 3)) + 1

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    pairs = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(pairs) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert kid(x, y)[0] == pytest.approx(expected)
    same = [kid(*random.normal(size=(2, 60, 3)))[0] for _ in range(40)]
    assert min(same) < 0 < max(same)  # unbiased, so not always above
    value, error = kid(random.normal(size=(60, 3)) + 1, random.normal(size=(60, 3)))
    assert value > 5 * np.mean(np.abs(same)) and 0 < error < value
    with pytest.raises(ValueError, match="four features"):
        kid(x[:3], y)


def test_the_stand_ins_features_tell_shapes_and_colours_apart():
    features = MiniFeatures()
    pictures = np.zeros((3, 64, 64, 3))
    pictures[0, 16:48, 16:48] = (1, 0, 0)
    pictures[1, 16:48, 16:48] = (0, 0, 1)
    pictures[2, :32, 16:48] = (1, 0, 0)
    found = features(pictures, (pictures > 0).any(-1).astype(float))
    assert found.shape[0] == 3 and np.isfinite(found).all()
    distances = np.linalg.norm(found[0] - found[1:], axis=1)
    assert (distances > 0.1).all() and "mini" in features.name


def test_kid_in_the_stand_in_tells_what_is_blurred_from_other_sharp_things():
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    pictures = np.zeros((36, 64, 64, 3))
    for picture in pictures:
        for _ in range(3):
            top, left = random.integers(8, 40, 2)
            height, width = random.integers(8, 20, 2)
            picture[top : top + height, left : left + width] = random.random(3) * 0.8 + 0.2
    features = MiniFeatures()

    def seen(part, blur=0.0):
        part = gaussian_filter(part, (0, blur, blur, 0)) if blur else part
        return features(part, (part > 0.02).any(-1).astype(float))

    truth, other, blurred = seen(pictures[:18]), seen(pictures[18:]), seen(pictures[18:], 2.0)
    (near, error), (far, _) = kid(other, truth), kid(blurred, truth)
    assert far > near + 5 * error


def test_points_of_a_density_lie_on_its_surface():
    side = 32
    place = (np.arange(side) + 0.5) / side * 2 - 1
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    ball = 100.0 * (np.sqrt((x - 0.3) ** 2 + y**2 + z**2) < 0.5)
    points = volume_points(ball, 500)
    radius = np.linalg.norm(points - np.array([0.3, 0, 0]) * MARGIN / 2, axis=1)
    assert points.shape == (500, 3)
    assert radius == pytest.approx(0.5 * MARGIN / 2, abs=0.03)
    assert volume_points(np.zeros((8, 8, 8))) is None


def test_true_points_are_in_units_of_the_longest_side(world):
    scene = next(scene for scene in open_world(world) if scene.id == "table_a")
    points = true_points(scene, 2000)
    assert np.ptp(points, axis=0) == pytest.approx([1, 0.5, 0.75 / 1.6], abs=0.02)
    assert points.max(0) == pytest.approx(-points.min(0), abs=0.02)


def test_volumes_of_the_objects_rebuild_their_pictures(views, carved, folder):
    tiny = load_volume_model("tiny", folder)
    table = evaluate_reconstruction([carved, tiny], views, count=2, shown=2)
    good, bad = table.rows["carved"], table.rows["tiny"]
    assert good[IOU][0] > 0.75 and good[HELD][0] > bad[HELD][0] + 3
    assert bad[FIRST][0] == pytest.approx(bad[HELD][0] - good[HELD][0]) and FIRST not in good
    assert table.images["carved"].shape == table.images["(truth)"].shape


def test_samples_that_are_the_training_objects_beat_noise(world, views, carved, folder, tmp_path):
    scenes = {scene.id: scene for scene in open_world(world)}

    def clouds(names):
        return [true_points(scenes[name], 2048) for name in names]

    models = [carved, load_volume_model("tiny", folder)]
    table = evaluate_generation(models, views, clouds, MiniFeatures(), tmp_path, count=2, steps=(2,))
    good, noise = table.rows[DIRECT.format("carved")], table.rows[DIRECT.format("tiny")]
    assert good[KID][0] < noise[KID][0]
    assert good[EMPTY] == (0, pytest.approx(np.nan, nan_ok=True))
    assert good[COVERAGE][0] in (50, 100) and good[MATCHING][0] > 0
    assert list(table.rows)[0] == OTHERS and "tiny, 2 steps" in table.rows
    stamps = [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("*.npz"))]
    again = evaluate_generation(models, views, clouds, MiniFeatures(), tmp_path, count=2, steps=(2,))
    assert again.rows[DIRECT.format("tiny")][KID] == noise[KID]
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("*.npz"))] == stamps


def test_eval_writes_both_tables_of_a_folder(world, views, folder, tmp_path, capsys):
    save_objects(views, tmp_path / "train.npz")
    out = tmp_path / "out"
    command = ["eval", "--volumes", f"tiny={folder}", "--objects", str(tmp_path / "train.npz"), "--cases", "2"]
    assert main([*command, "--steps", "2", "-o", str(out)]) == 0, capsys.readouterr().err
    assert "COV and MMD need the true meshes" in capsys.readouterr().err
    report = (out / "report.md").read_text()
    assert "# Volume models" in report and "## Reconstruction" in report and "## Generation" in report
    assert "| tiny, 2 steps |" in report and "| tiny, direct sampling |" in report and "mini's appearance" in report
    assert set(json.loads((out / "volumes.json").read_text())) == {"reconstruction", "generation"}
    assert (out / "volumes_samples.png").is_file() and (out / "volumes_reconstruction.png").is_file()
    few = tmp_path / "few.npz"
    save_objects(ObjectViews(**{name: value[:3] for name, value in vars(views).items()}), few)
    assert main(["eval", "--volumes", str(folder), "--objects", str(few), "-o", str(out)]) == 1
    assert "was trained on 4 objects, and here are 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "message"),
    [("normalizer", "a denoiser without its normalizer"), ("decoder", "there is no decoder in it")],
)
def test_a_folder_that_is_not_whole_is_refused(folder, tmp_path, part, message):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    shutil.rmtree(broken / part)
    with pytest.raises(ValueError, match=message):
        load_volume_model("broken", broken)


def test_weights_that_are_damaged_are_named(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    next((broken / "embeddings").glob("*.safetensors")).write_bytes(b"no weights")
    with pytest.raises(ValueError, match="embeddings cannot be loaded"):
        load_volume_model("broken", broken)


def test_inceptions_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match="no weights of Inception-v3: there is no Conv2d_1a_3x3.conv.weight"):
        InceptionFeatures(tmp_path)
    save_file({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "some.safetensors")
    with pytest.raises(ValueError, match="no weights of Inception-v3"):
        InceptionFeatures(tmp_path)
    (tmp_path / "some.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        InceptionFeatures(tmp_path)
