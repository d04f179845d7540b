"""A Neural USD backend with tiny random weights, saved as `mini` is; what `--backend DIR` and `backend=` take."""

from dataclasses import replace
from pathlib import Path

import torch

from neuralusd.pipelines.render import NeuralUSDPipeline
from neuralusd.training.build import build_pipeline, save_pipeline
from neuralusd.training.config import MINI, RenderTrainingConfig

TINY: RenderTrainingConfig = replace(
    MINI,
    unet={
        "block_out_channels": (16, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    asset_tokenizer={"cross_attention_dim": 16, "hidden_dim": 16, "pose_dim": 8, "attention_pool": 2, "lookup": 4},
    encoder={"token_dim": 24},
    geometry_dim=8,
    resolution=32,
    guidance_scale=3.0,
    num_inference_steps=2,
)
# The same, whose tokens are thrown onto a grid: the ablation.
TINY_SPLAT = replace(
    TINY, asset_tokenizer={"cross_attention_dim": 16, "hidden_dim": 16, "pose_dim": 8, "attention_pool": 2}
)


def tiny_pipeline(seed: int = 0) -> NeuralUSDPipeline:
    """A pipeline of 32x32 pixels and 2 steps with random weights; another `seed` is another encoder."""
    torch.manual_seed(seed)
    pipeline = build_pipeline(TINY)
    pipeline.unet.conv_out.reset_parameters()  # it starts at zero, and then noise makes no difference
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_backend(folder: Path, seed: int = 0) -> Path:
    """Saves a `tiny_pipeline`."""
    save_pipeline(tiny_pipeline(seed), folder)
    return folder
