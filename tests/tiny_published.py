"""The published models of Figure 8 with tiny random weights, saved as their real folders are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from neuralusd.evaluation.object_edit import ObjectEditPipeline, PointProjection

WIDTH, SIZE = 16, 32


def save_published(folder: Path) -> dict[str, str]:
    """Saves all of them below `folder`; returns name to what `--baseline NAME=...` takes."""
    torch.manual_seed(0)
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    base = {**_components(), "unet": _unet(4)}
    StableDiffusionImg2ImgPipeline(**base, **checker).save_pretrained(folder / "sd21")
    pix2pix = StableDiffusionInstructPix2PixPipeline(**{**base, "unet": _unet(8)}, **checker)
    pix2pix.save_pretrained(folder / "pix2pix")
    controlnet = ControlNetModel.from_unet(base["unet"], conditioning_embedding_out_channels=(4, 8))
    # It starts as if it were not there; a trained one is.
    for layer in (controlnet.controlnet_cond_embedding.conv_out, *controlnet.controlnet_down_blocks):
        layer.reset_parameters()
    StableDiffusionControlNetPipeline(**base, **checker, controlnet=controlnet).save_pretrained(folder / "controlnet")
    adapter = T2IAdapter(channels=[8, 16], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter")
    StableDiffusionAdapterPipeline(**base, **checker, adapter=adapter).save_pretrained(folder / "whole_adapter")
    adapter.save_pretrained(folder / "adapter")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=WIDTH,
    )
    edit = ObjectEditPipeline(
        **{**base, "unet": _unet(8)},
        image_encoder=CLIPVisionModelWithProjection(vision),
        point_projection=PointProjection(WIDTH),
    )
    edit.save_pretrained(folder / "3dit")
    return {
        "sd21": str(folder / "sd21"),
        "instruct-pix2pix": str(folder / "pix2pix"),
        "controlnet": str(folder / "controlnet"),
        "t2i-adapter": f"{folder / 'adapter'},{folder / 'sd21'}",
        "3dit": str(folder / "3dit"),
    }


def _components() -> dict[str, Any]:
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=SIZE,
    )
    text = CLIPTextConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=38,
        eos_token_id=39,
        pad_token_id=39,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {"vae": vae, "text_encoder": CLIPTextModel(text), "tokenizer": _tokenizer(), "scheduler": scheduler}


def _tokenizer() -> CLIPTokenizer:
    """Letters, each also at the end of a word."""
    letters = [chr(c) for c in range(ord("a"), ord("s"))]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|unk|>",
        "<|pad|>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocabulary, [], unk_token="<|unk|>", model_max_length=16)


def _unet(channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    )
