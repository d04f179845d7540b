"""`neuralusd doctor`, the environment's part."""

import json

import pytest
import torch
from safetensors.torch import save_file

from neuralusd._environment import check_environment, check_weights


@pytest.fixture
def weights(tmp_path):
    """A whole folder of weights: one denoiser and a scheduler, in diffusers' format."""
    folder = tmp_path / "weights"
    (folder / "unet").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet/config.json").write_text("{}")
    (folder / "scheduler/scheduler_config.json").write_text("{}")
    save_file({"weight": torch.ones(10, 10)}, folder / "unet/diffusion_pytorch_model.safetensors")
    return folder


def test_the_environment_of_the_tests_is_a_working_one():
    findings = {finding.name: finding for finding in check_environment()}
    for name in ("python", "usd", "torch", "libraries", "ray casting", "memory"):
        assert findings[name].ok, findings[name]
        assert findings[name].detail
    assert torch.__version__ in findings["torch"].detail


def test_whole_weights_are_counted(weights):
    finding = check_weights("mini weights", weights)
    assert finding.ok
    assert "0.0 million parameters in 1 files" in finding.detail


def truncate(folder):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def poison(folder):
    save_file({"weight": torch.tensor([1.0, float("nan")])}, folder / "unet/diffusion_pytorch_model.safetensors")


def pointer(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 400\n"
    (folder / "unet/diffusion_pytorch_model.safetensors").write_text(text)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "does not open"),
        (poison, "not finite"),
        (pointer, "Git LFS pointer"),
        (lambda folder: (folder / "unet/config.json").unlink(), "lacks the configuration of: unet"),
        (lambda folder: (folder / "model_index.json").unlink(), "no model_index.json"),
        (lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").unlink(), "no .safetensors file"),
    ],
)
def test_damaged_weights_say_what_is_wrong_and_what_to_do(weights, damage, says):
    damage(weights)
    finding = check_weights("mini weights", weights)
    assert not finding.ok
    assert says in finding.detail
    assert finding.cure
