"""A pipeline's components from a training configuration, and what one training step makes of a batch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from ..models.asset_tokenizer import AssetTokenizer, Conditioning, Keep
from ..models.crops import crop_assets, encode_crops, token_points, whole_images
from ..models.encoders import DinoCropEncoder, PatchCropEncoder
from ..models.patches import PatchAutoencoder
from ..models.tensors import TokenTensors
from ..pipelines.render import NeuralUSDPipeline
from .config import RenderTrainingConfig
from .looked_up import LookedUpPairs
from .pairs import Pairs, Sources


def build_pipeline(config: RenderTrainingConfig) -> NeuralUSDPipeline:
    """An untrained pipeline of a configuration."""
    if isinstance(config.vae, str):
        patch = config.asset_tokenizer.get("lookup") or 4
        vae: AutoencoderKL | PatchAutoencoder = PatchAutoencoder(patch, 3 * patch**2)
        latent_size = config.resolution // vae.scale_factor
    else:
        vae = AutoencoderKL(sample_size=config.resolution, **config.vae)
        latent_size = config.resolution // 2 ** (len(vae.config.block_out_channels) - 1)
    appearance = _encoder(config, "appearance")
    geometry = appearance if config.shared_encoder else _encoder(config, "geometry")
    tokenizer = AssetTokenizer(
        appearance_dim=appearance.token_dim,
        geometry_dim=geometry.token_dim,
        grid=appearance.grid,
        latent_size=latent_size,
        latent_channels=vae.config.latent_channels,
        **config.asset_tokenizer,
    )
    channels = vae.config.latent_channels
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=channels + tokenizer.landing_channels,
        out_channels=(2 if tokenizer.config.lookup else 1) * channels,
        cross_attention_dim=tokenizer.config.cross_attention_dim,
        **config.unet,
    )
    if tokenizer.landing_channels and config.scheduler.get("prediction_type") == "sample":
        # The prediction is what is added to the landed picture; training starts from that picture as it is.
        for parameter in unet.conv_out.parameters():
            torch.nn.init.zeros_(parameter)
    return NeuralUSDPipeline(
        vae=vae,
        unet=unet,
        scheduler=DDIMScheduler(**config.scheduler),
        asset_tokenizer=tokenizer,
        appearance_encoder=appearance,
        geometry_encoder=geometry,
        sample_size=config.resolution,
        normalize_depth=config.normalize_depth,
        mask_background=config.mask_background,
        sliced_features=config.sliced_features,
        guidance_scale=config.guidance_scale,
        num_inference_steps=config.num_inference_steps,
    )


def _encoder(config: RenderTrainingConfig, modality: str) -> PatchCropEncoder | DinoCropEncoder:
    channels = 4 if modality == "appearance" else 2
    if "dino" in config.encoder:
        # Fine-tuned, each is an encoder of its own, whose tokens the other does not read.
        identifier = f"{config.encoder.get('identifier', 'neuralusd/dino')}-{modality}"
        return DinoCropEncoder(in_channels=channels, **{**config.encoder, "identifier": identifier})
    size = config.crop_size or config.resolution
    settings = {**config.encoder, "crop_size": size, "identifier": f"neuralusd/mini-{modality}"}
    if modality == "geometry" and config.geometry_dim:
        settings["token_dim"] = config.geometry_dim
    return PatchCropEncoder(in_channels=channels, **settings)


def encode_sources(
    encoder: Any, source: Sources, extent: torch.Tensor, modality: str, config: RenderTrainingConfig
) -> TokenTensors:
    """One modality's tokens of all assets of source frames, with gradients to the encoder; `extent` (B, N, 2, 3)."""
    with torch.no_grad():
        masks = source.masks
        if not config.mask_background:
            masks = torch.cat([torch.ones_like(masks[:, :1]), masks[:, 1:]], 1)
        crops = crop_assets(
            source.color, source.depth, masks, encoder.crop_size, normalize_depth=config.normalize_depth
        )
        points = token_points(source.depth, source.masks, crops, encoder.grid, source.camera, source.local_to_world)
        whole = None
        if config.sliced_features:
            whole = whole_images(source.color, source.depth, encoder.crop_size, normalize_depth=config.normalize_depth)
    values = encode_crops(encoder, modality, crops, whole)
    every = values.new_zeros(*crops.present.shape, *values.shape[1:])
    every[crops.image, crops.slot] = values
    return TokenTensors(every, points, extent, crops.present)


def condition(
    pipeline: NeuralUSDPipeline, pairs: Pairs | LookedUpPairs, config: RenderTrainingConfig, keep: Keep
) -> Conditioning:
    """What the denoiser is conditioned on for a batch of pairs."""
    if isinstance(pairs, LookedUpPairs):
        conditions = pipeline.asset_tokenizer(pairs.target, pairs.appearance, pairs.geometry, keep)
        told = pairs.channels * keep.landing[:, :1, None, None]
        conditions.landing, conditions.base = pipeline.landed(told)
        return conditions
    appearance, geometry = (
        encode_sources(encoder, source, pairs.target.extent, name, config)
        for encoder, source, name in (
            (pipeline.appearance_encoder, pairs.appearance, "appearance"),
            (pipeline.geometry_encoder, pairs.geometry, "geometry"),
        )
    )
    return pipeline.asset_tokenizer(pairs.target, appearance, geometry, keep)


def save_pipeline(pipeline: NeuralUSDPipeline, folder: str | Path) -> None:
    """Saves as half-precision safetensors.

    Each encoder's revision is a digest of its weights, which its tokens will carry; the pipeline's is one of all.
    """
    whole = hashlib.sha256()
    modules: dict[str, Any] = {k: m for k, m in pipeline.components.items() if isinstance(m, torch.nn.Module)}
    for name, module in sorted(modules.items()):
        module.to("cpu", torch.float16)
        digest = hashlib.sha256()
        for key, value in sorted(module.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
        whole.update(digest.digest())
        if name.endswith("_encoder"):
            module.register_to_config(revision=digest.hexdigest()[:12])
    pipeline.register_to_config(revision=whole.hexdigest()[:12])
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in Path(folder).rglob("*.json"):
        # Where the weights lay on the machine that made them is nobody's business.
        content = json.loads(file.read_text())
        if content.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(content, indent=2) + "\n")
