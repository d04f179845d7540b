"""The full size's classes, small: AutoencoderKL, the denoiser and DINO by cross-attention alone, and the folders that
Stable Diffusion 2.1 and DINO are published in."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import ViTConfig, ViTModel

from neuralusd.training.config import SD21, RenderTrainingConfig
from tests.tiny_published import _components

SIZE = 32
UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": (16, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 4,
}
DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8}

# `sd21` with small components: what else it says, appendix C's, is as it is.
SMALL: RenderTrainingConfig = replace(
    SD21,
    unet=UNET,
    vae=VAE,
    encoder={"dino": {**DINO, "model_type": "vit", "image_size": SIZE}, "crop_size": SIZE},
    asset_tokenizer={**SD21.asset_tokenizer, "cross_attention_dim": 24, "hidden_dim": 32, "pose_dim": 16},
    resolution=SIZE,
    batch_size=4,
    per_device_batch=None,
    gradient_checkpointing=False,
    steps=2,
    warmup_steps=1,
)


def save_config(path: Path, config: RenderTrainingConfig) -> str:
    """A configuration as `train --config` reads it."""
    path.write_text(json.dumps(dataclasses.asdict(config)))
    return str(path)


def save_diffusion(folder: Path, vae: AutoencoderKL | None = None, **unet) -> str:
    """A Stable Diffusion as it is published, with a text encoder and a tokenizer that nobody asked for."""
    parts = _components()
    parts["vae"] = vae or AutoencoderKL(sample_size=SIZE, **VAE)
    parts["scheduler"] = DDIMScheduler(**SD21.scheduler)
    settings = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 24, **UNET, **unet}
    denoiser = UNet2DConditionModel(**settings)
    StableDiffusionPipeline(
        **parts, unet=denoiser, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(folder)
    return str(folder)


def save_dino(folder: Path) -> str:
    """A DINO as it is published."""
    ViTModel(ViTConfig(image_size=SIZE, **DINO), add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def fitted_autoencoder(pictures: torch.Tensor, steps: int) -> AutoencoderKL:
    """An autoencoder that knows these pictures, (B, 3, H, W) in -1..1, as Stable Diffusion's knows photographs."""
    vae = AutoencoderKL(sample_size=SIZE, **VAE)
    optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
    for _ in range(steps):
        latents = vae.encode(pictures).latent_dist.mode()
        loss = (vae.decode(latents).sample - pictures).square().mean() + 1e-3 * latents.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        spread = vae.encode(pictures).latent_dist.mode().std().item()
    vae.register_to_config(scaling_factor=1 / spread)
    return vae.eval()
