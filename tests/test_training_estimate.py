"""`train --dry-run`: what a run would take, without weights."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from neuralusd.cli import main
from neuralusd.datasets.packed import save_packed
from neuralusd.training.build import build_pipeline
from neuralusd.training.config import MINI_SPLAT, SD21
from neuralusd.training.estimate import estimate_training, skeleton
from tests.tiny_full_size import SIZE, SMALL, save_config, save_diffusion
from tests.tiny_world import boxes_world


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def world():
    return boxes_world(SIZE, scenes=1)


def test_the_full_size_has_the_published_sizes():
    pipeline = skeleton(SD21)
    # Stable Diffusion 2.1's denoiser and autoencoder, as their model cards and many counts have it.
    assert count(pipeline.unet) == 865_910_724
    assert count(pipeline.vae) == 83_653_863
    # ViT-B/8 (DINO's table 1: 85 M), and the pooler that transformers adds to it.
    assert count(pipeline.appearance_encoder) == 85_807_872 + 768 * 769
    assert all(parameter.is_meta for parameter in pipeline.unet.parameters())


def test_parameters_are_those_that_are_built(world):
    estimate = estimate_training(SMALL, world)
    built = build_pipeline(SMALL)
    assert estimate.parameters == {name: count(getattr(built, name)) for name in estimate.parameters}
    assert estimate.trained == sum(estimate.parameters.values()) - estimate.parameters["vae"]
    assert estimate.memory["Adam's two moments"] == 2 * estimate.memory["gradients"] == 8 * estimate.trained


def test_what_costs_more_and_what_less(world):
    plain = estimate_training(SMALL, world)
    again = estimate_training(replace(SMALL, gradient_checkpointing=True), world)
    parts = estimate_training(replace(SMALL, batch_size=16, per_device_batch=4), world, gpus=2, tflops=50.0)
    more = estimate_training(replace(SMALL, batch_size=16), world)
    assert parts.accumulation == 2 and parts.memory["activations"] == plain.memory["activations"]
    assert parts.memory["gradients' exchange"] == plain.memory["gradients"]
    assert parts.step_flops == 4 * plain.step_flops and parts.hours == pytest.approx(4 * plain.hours)
    assert more.memory["activations"] > 2.5 * plain.memory["activations"]
    assert more.step_flops == pytest.approx(4 * plain.step_flops, rel=0.02)
    assert again.memory["activations"] < plain.memory["activations"]
    assert 1.1 * plain.step_flops < again.step_flops < 1.5 * plain.step_flops


def test_the_command_prints_it_and_fetches_nothing(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_packed(world, tmp_path / "world.npz")
    config = save_config(tmp_path / "small.json", SMALL)
    assert main(["train", "--config", config, "--world", "world.npz", "--dry-run", "--gpus", "2"]) == 0
    out = capsys.readouterr().out
    assert "unet" in out and "activations" in out and "a step on 2 GPUs of 100 TFLOP/s" in out
    mini = save_config(tmp_path / "mini.json", replace(MINI_SPLAT, resolution=SIZE))
    assert main(["train", "--config", mini, "--world", "world.npz", "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["parameters"]["unet"] > 1e6 and result["hours"] > 0
    # Of published weights the architecture is read alone.
    save_diffusion(tmp_path / "diffusion")
    for file in (tmp_path / "diffusion").rglob("*.safetensors"):
        file.unlink()
    assert main(["train", "--config", config, "--world", "world.npz", "--dry-run", "--diffusion", "diffusion"]) == 0


def test_a_world_of_another_size(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_packed(world, tmp_path / "world.npz")
    assert main(["train", "--config", "sd21", "--world", "world.npz", "--dry-run"]) == 1
    assert "256x256" in capsys.readouterr().err
    assert main(["train", "--config", "mini-splat", "--world", "world.npz", "-o", "out"]) == 1
    assert "--resolution 128" in capsys.readouterr().err
    # What looks up learns from a folder of its own.
    assert main(["train", "--world", "world.npz", "-o", "out"]) == 1
    assert "neuralusd data look-up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"steps": "many"}, "steps is 'many', but has to be a whole number"),
        ({"paired": 1}, "paired is 1, but has to be true or false"),
        ({"step": 5}, "there is no field step"),
        ({"unet": {"width": 5}}, "describes no model"),
        ({"encoder": {"token_dim": 0}}, "describes no model"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path, monkeypatch, capsys, changes, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.json").write_text(json.dumps({**SMALL.to_dict(), **changes}))
    assert main(["train", "--config", "own.json", "--world", "world.npz", "--dry-run"]) == 1
    err = capsys.readouterr().err
    assert said in err and "own.json" in err and "bug" not in err


def test_of_adapters_little_is_trained(world):
    whole = estimate_training(SMALL, world)
    given = {"r": 1, "lora_alpha": 1, "target_modules": ("conv1", "conv2")}
    adapted = estimate_training(replace(SMALL, adapters=given), world)
    assert 0 < adapted.trained == adapted.parameters["adapters"] < 0.1 * whole.trained
    assert adapted.memory["gradients"] == 4 * adapted.trained
    assert sum(adapted.memory.values()) < sum(whole.memory.values())
