"""The training recipe on a world of boxes: it learns, it resumes, its ablations are switches."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from neuralusd.backends import backend_revision, load_backend
from neuralusd.datasets.packed import load_packed, save_packed
from neuralusd.errors import BackendError
from neuralusd.evaluation.pairs import Frame, sample_pairs, with_tokens
from neuralusd.models.tensors import scene_tensors
from neuralusd.pipelines.render import NeuralUSDPipeline
from neuralusd.training import pairs
from neuralusd.training.config import CONFIGS, SD21
from neuralusd.training.pairs import PairSampler
from neuralusd.training.render import train_render
from tests.tiny_backend import TINY_SPLAT
from tests.tiny_world import boxes_stage, boxes_world, frame

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
ADAPTERS_FILE = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def world():
    return boxes_world(TINY_SPLAT.resolution)


def small(**changes):
    return dataclasses.replace(TINY_SPLAT, **{"batch_size": 4, "steps": 4, "warmup_steps": 1, **changes})


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_learns_a_world(world, tmp_path):
    config = small(steps=150, batch_size=8, warmup_steps=5, lr=3e-3, encoder_lr=3e-3)
    train_render(world, config, tmp_path, mixed_precision="no", checkpoint_steps=1000)
    log = losses(tmp_path)
    assert len(log) == 3 and log[-1] < 0.8 * log[0]
    assert (tmp_path / "loss.png").stat().st_size > 5000
    assert NeuralUSDPipeline.from_pretrained(tmp_path).config.sample_size == config.resolution


def test_a_killed_run_goes_on_where_it_was(world, tmp_path):
    class Killed(Exception):
        pass

    def kill(pipeline, step):
        raise Killed

    with pytest.raises(Killed):
        train_render(world, small(), tmp_path, mixed_precision="no", checkpoint_steps=2, on_checkpoint=kill)
    seen = []
    train_render(
        world,
        small(),
        tmp_path,
        mixed_precision="no",
        checkpoint_steps=1,
        on_checkpoint=lambda p, step: seen.append(step),
    )
    assert seen == [3, 4]


def test_time_can_run_out_before_steps(world, tmp_path):
    train_render(world, small(steps=10**6), tmp_path, mixed_precision="no", max_minutes=0.02)
    steps = json.loads((tmp_path / "training_config.json").read_text())["trained_steps"]
    assert 0 < steps < 10**6


@pytest.mark.parametrize(
    "changes",
    [
        {"asset_tokenizer": {**TINY_SPLAT.asset_tokenizer, "appearance_landing": None, "geometry_landing": None}},
        {"paired": False},
        {"normalize_depth": False},
        {"mask_background": False},
        {"shared_encoder": True, "geometry_dim": None},
        {
            "asset_tokenizer": {
                **TINY_SPLAT.asset_tokenizer,
                "appearance_landing": None,
                "geometry_landing": None,
                "uses": ("appearance", "pose_3d"),
            },
            "sliced_features": True,
        },
        {"relative_loss": False, "no_dropout": 0.0},
        {"scheduler": {**TINY_SPLAT.scheduler, "prediction_type": "v_prediction"}},
    ],
    ids=[
        "plain recipe",
        "single images",
        "raw depth",
        "background not masked",
        "one encoder",
        "Neural Assets",
        "the paper's loss",
        "v-prediction",
    ],
)
def test_every_ablation_trains_and_renders_as_it_was_trained(world, tmp_path, changes):
    config = small(steps=1, **changes)
    train_render(world, config, tmp_path, mixed_precision="no")
    saved = NeuralUSDPipeline.from_pretrained(tmp_path, use_safetensors=True)
    for name in ("normalize_depth", "mask_background", "sliced_features"):
        assert saved.config[name] == getattr(config, name)
    seen = [Frame("boxes", *frame(boxes_stage(), time, config.resolution)) for time in (1, 2)]
    [pair] = sample_pairs(seen, 1, 0)
    image = saved(with_tokens(saved, pair), num_inference_steps=1, guidance_scale=1.0, output_type="np").images[0]
    assert image.shape == pair.truth.shape and np.isfinite(image).all()


def test_the_full_size_is_appendix_c():
    assert (SD21.batch_size, SD21.steps, SD21.warmup_steps, SD21.max_grad_norm) == (512, 50_000, 2_000, 1.0)
    assert (SD21.lr, SD21.encoder_lr, SD21.resolution, SD21.guidance_scale) == (1e-4, 5e-4, 256, 3.0)
    assert (SD21.modality_dropout, SD21.pose_dropout, SD21.all_dropout) == (0.25, 0.25, 0.1)
    assert SD21.asset_tokenizer["cross_attention_dim"] == 1024
    assert SD21.encoder["crop_size"] // SD21.encoder["dino"]["patch_size"] == 28
    assert CONFIGS["sd21"] is SD21


def test_pairs_are_of_one_scene_and_mirror_as_a_whole(world):
    sampler = PairSampler(world, "cpu", same_frame=0.0)
    index = torch.tensor([0, 1])
    plain = sampler.pairs(index, index, index)
    mirrored = sampler.pairs(index, index, index, mirror=torch.tensor([True, True]))
    torch.testing.assert_close(mirrored.color, plain.color.flip(-1))
    torch.testing.assert_close(mirrored.appearance.masks, plain.appearance.masks.flip(-1))
    # A point's place in the mirrored image is the mirror of its place.
    point = plain.target.local_to_world[:, 1, 3, :3].unsqueeze(1)
    h, w, depth = plain.target.camera.project(point).unbind(-1)
    other = mirrored.target.camera.project(point)
    torch.testing.assert_close(other, torch.stack([h, 1 - w, depth], -1))
    boxes = plain.target.pose_2d
    expected = torch.stack([1 - boxes[..., 0] - boxes[..., 3], *boxes[..., 1:].unbind(-1)], -1)
    torch.testing.assert_close(mirrored.target.pose_2d, expected * plain.target.has_pose_2d.unsqueeze(-1))


def test_training_and_rendering_see_the_same_poses(world):
    scene, _ = frame(boxes_stage(0), 2, TINY_SPLAT.resolution)
    rendered = scene_tensors([scene])
    trained = PairSampler(world, "cpu", same_frame=1.0).pairs(*[torch.tensor([1])] * 3).target
    for name in ("pose_2d", "pose_3d", "presence", "local_to_world", "extent"):
        torch.testing.assert_close(getattr(trained, name)[:, :3], getattr(rendered, name), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(trained.background_pose, torch.zeros(1, 12), atol=1e-5, rtol=0)


def test_a_packed_world_travels(world, tmp_path):
    save_packed(world, tmp_path / "world.npz")
    again = load_packed([tmp_path / "world.npz", tmp_path / "world.npz"])
    assert len(again) == 2 * len(world) and len(again.names) == 2 * len(world.names)
    half = slice(0, len(world))
    assert np.array_equal(again.ids[half], world.ids)
    assert np.abs(again.color[half].astype(int) - world.color).mean() < 4
    known = np.isfinite(world.depth)
    assert np.array_equal(np.isfinite(again.depth[half]), known)
    assert again.depth[half][known] == pytest.approx(world.depth[:][known], rel=2e-3)
    (tmp_path / "other.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="not a packed world"):
        load_packed([tmp_path / "other.npz"])


def test_a_world_that_is_too_large_for_memory_is_decoded_as_it_is_drawn(world, tmp_path, monkeypatch):
    save_packed(world, tmp_path / "world.npz")
    opened = load_packed([tmp_path / "world.npz"])
    assert world.decoded_nbytes > 4 * opened.nbytes
    kept = PairSampler(opened, "cpu", same_frame=0.2)
    monkeypatch.setattr(pairs, "DECODED_LIMIT", 0)
    drawn = PairSampler(opened, "cpu", same_frame=0.2)
    assert not isinstance(drawn.pictures["color"], np.ndarray)
    draw = kept.draw(4, torch.Generator().manual_seed(0))
    assert kept.foreground_share(draw) == drawn.foreground_share(draw)
    one, other = kept.of(draw), drawn.of(draw)
    torch.testing.assert_close(one.color, other.color, rtol=0, atol=0)
    torch.testing.assert_close(one.appearance.depth, other.appearance.depth, rtol=0, atol=0)
    torch.testing.assert_close(one.geometry.masks, other.geometry.masks, rtol=0, atol=0)


def test_a_damaged_picture_of_a_packed_world_says_so(world, tmp_path):
    save_packed(world, tmp_path / "world.npz")
    with np.load(tmp_path / "world.npz") as file:
        arrays = dict(file)
    arrays["depth"][-arrays["depth_sizes"][-1] :] = 7
    np.savez(tmp_path / "damaged.npz", **arrays)
    damaged = load_packed([tmp_path / "damaged.npz"])
    with pytest.raises(ValueError, match="damaged, pack it again"):
        damaged.depth[-1]
    np.savez(tmp_path / "short.npz", **{**arrays, "depth": arrays["depth"][:-9]})
    with pytest.raises(ValueError, match="its depth is cut short"):
        load_packed([tmp_path / "short.npz"])


def test_a_world_without_pairs_says_so(world):
    alone = dataclasses.replace(
        world, scene=np.arange(len(world), dtype=np.int32), names=[str(i) for i in range(len(world))]
    )
    with pytest.raises(ValueError, match="no scene of this world has two frames"):
        PairSampler(alone, "cpu", same_frame=0.0)


def test_a_run_starts_from_the_weights_of_another(world, tmp_path):
    first = train_render(world, small(steps=2), tmp_path / "first", mixed_precision="no")
    second = train_render(
        world,
        small(steps=1, lr=0.0, encoder_lr=0.0),
        tmp_path / "second",
        initial=tmp_path / "first",
        mixed_precision="no",
    )
    for name in ("unet", "asset_tokenizer", "appearance_encoder"):
        for key, value in getattr(first, name).state_dict().items():
            assert torch.equal(value, getattr(second, name).state_dict()[key]), (name, key)


ADAPTERS = {"r": 2, "lora_alpha": 2, "target_modules": ("conv1", "conv2", "conv_out")}


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory):
    """A pipeline, and a run that trained adapters on it."""
    folder = tmp_path_factory.mktemp("adapted")
    train_render(world, small(steps=2), folder / "base", mixed_precision="no")
    config = small(steps=30, lr=1e-2, adapters=ADAPTERS)
    train_render(world, config, folder / "run", initial=folder / "base", mixed_precision="no")
    return folder


def test_adapters_train_and_the_rest_stays_as_it_was(adapted):
    before, after = (NeuralUSDPipeline.from_pretrained(adapted / name) for name in ("base", "run"))
    for name in ("asset_tokenizer", "appearance_encoder", "geometry_encoder"):
        for key, value in getattr(before, name).state_dict().items():
            assert torch.equal(value, getattr(after, name).state_dict()[key]), (name, key)
    changed = {
        key.rsplit(".", 2)[-2]
        for key, value in before.unet.state_dict().items()
        if not torch.equal(value, after.unet.state_dict()[key])
    }
    assert changed == {"conv1", "conv2", "conv_out"}
    # Tokens of the one are tokens of the other.
    for name in ("appearance_encoder", "geometry_encoder"):
        assert getattr(before, name).config.revision == getattr(after, name).config.revision


def test_adapters_alone_are_a_backend(adapted):
    whole, alone = load_backend(adapted / "run"), load_backend(adapted / "run" / "adapters")
    for key, value in whole.unet.state_dict().items():
        assert torch.allclose(value, alone.unet.state_dict()[key], atol=1e-3), key
    sizes = [(adapted / "run" / part).stat().st_size for part in (UNET_FILE, f"adapters/{ADAPTERS_FILE}")]
    assert sizes[1] < sizes[0] / 3
    assert backend_revision(alone) != backend_revision(load_backend(adapted / "base"))


def test_adapters_of_another_pipeline_are_refused(adapted, tmp_path):
    about = json.loads((adapted / "run" / "adapters" / "adapters.json").read_text())
    shutil.copytree(adapted / "run" / "adapters", tmp_path / "other")
    (tmp_path / "other" / "adapters.json").write_text(json.dumps({**about, "base": "mini"}))
    with pytest.raises(BackendError, match="belong to revision .* train them on it"):
        load_backend(tmp_path / "other")
    shutil.copytree(adapted / "run" / "adapters", tmp_path / "torn")
    (tmp_path / "torn" / ADAPTERS_FILE).write_bytes(b"")
    with pytest.raises(BackendError, match="torn cannot be loaded"):
        load_backend(tmp_path / "torn")
    (tmp_path / "torn" / "adapters.json").write_text("{}")
    with pytest.raises(BackendError, match="does not say what the adapters belong to"):
        load_backend(tmp_path / "torn")


def test_adapters_need_something_to_adapt(world, tmp_path):
    with pytest.raises(ValueError, match="--initial"):
        train_render(world, small(adapters=ADAPTERS), tmp_path)
