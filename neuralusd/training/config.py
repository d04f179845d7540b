"""Training configurations: `mini`, which is shipped, its ablations, and the paper's full size."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class RenderTrainingConfig:
    """How `render`'s model is built and trained (Neural USD, section 3.6 and appendix C).

    Attributes:
        vae, unet, asset_tokenizer, encoder: configurations of the modules; `encoder` serves both modalities.
        scheduler: configuration of the diffusion process (DDIM).
        resolution: pixels. batch_size: pairs an optimizer step, over all processes and accumulation.
        steps: optimizer steps. vae_steps: steps of the autoencoder before it; 0 for a pretrained one.
        lr, encoder_lr: of the denoiser and tokenizer, and of the encoders. warmup_steps, then linear decay to 0.
        max_grad_norm: gradient clip. ema_decay: of the weights that are saved.
        modality_dropout, pose_dropout, all_dropout, landing_dropout: see `Keep.sample`.
        foreground_weight: how much more the loss counts where an object is. 0 is the paper's loss.
        same_frame: probability that source and target are one frame, so that an unedited scene reconstructs.
        paired: False trains on single images, the ablation of section 3.6.
        normalize_depth, mask_background: the ablations of sections 3.3.1 and 3.4.
        guidance_scale, num_inference_steps: what the saved pipeline takes by default.
    """

    vae: dict[str, Any] = field(
        default_factory=lambda: {
            "block_out_channels": (48, 96, 96),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "layers_per_block": 1,
            "latent_channels": 8,
            "norm_num_groups": 16,
            "mid_block_add_attention": False,
        }
    )
    unet: dict[str, Any] = field(
        default_factory=lambda: {
            "block_out_channels": (128, 160, 160),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "attention_head_dim": 32,
            "norm_num_groups": 32,
        }
    )
    asset_tokenizer: dict[str, Any] = field(default_factory=lambda: {"cross_attention_dim": 192, "hidden_dim": 384})
    encoder: dict[str, Any] = field(default_factory=lambda: {"channels": (64, 128), "token_dim": 96, "layers": 2})
    scheduler: dict[str, Any] = field(
        default_factory=lambda: {
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "clip_sample": False,
            "set_alpha_to_one": True,
        }
    )
    resolution: int = 128
    batch_size: int = 192
    steps: int = 20000
    vae_steps: int = 6000
    lr: float = 4e-4
    encoder_lr: float = 4e-4
    warmup_steps: int = 500
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    modality_dropout: float = 0.25
    pose_dropout: float = 0.25
    all_dropout: float = 0.1
    landing_dropout: float = 0.05
    foreground_weight: float = 1.0
    same_frame: float = 0.15
    paired: bool = True
    normalize_depth: bool = True
    mask_background: bool = True
    guidance_scale: float = 3.0
    num_inference_steps: int = 25

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MINI = RenderTrainingConfig()
CONFIGS: dict[str, RenderTrainingConfig] = {
    "mini": MINI,
    "mini-plain": replace(
        MINI, asset_tokenizer={**MINI.asset_tokenizer, "landing_channels": 0}, landing_dropout=0.0, foreground_weight=0.0
    ),
}
