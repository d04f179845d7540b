"""The trained components as one module, whose forward pass is the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..models.asset_tokenizer import Conditioning, Keep
from ..pipelines.render import NeuralUSDPipeline, add_base
from .build import condition
from .config import RenderTrainingConfig
from .looked_up import LookedUpPairs, edge_loss
from .pairs import Pairs

# Mean square error of a landed picture below which `relative_loss` counts it no more, that of 36 dB.
_FINE = 1e-3
TRAINED = ("unet", "asset_tokenizer", "appearance_encoder", "geometry_encoder")


class RenderModel(torch.nn.Module):
    """The trained components of a pipeline."""

    def __init__(self, pipeline: NeuralUSDPipeline, config: RenderTrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.pipeline = pipeline
        self.trained = torch.nn.ModuleDict({name: getattr(pipeline, name) for name in TRAINED})

    def forward(
        self,
        pairs: Pairs | LookedUpPairs,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        keep: Keep,
        mean_weight: float = 1.0,
    ) -> torch.Tensor:
        """The denoising loss, a mean over pairs.

        Args:
            latents, noise: (B, C, h, w). timesteps: (B,). keep: what is not dropped.
            mean_weight: of the loss's weights, over the whole batch that these pairs are a part of; so that the mean of
                the parts' losses is the loss of the batch.
        """
        conditions = condition(self.pipeline, pairs, self.config, keep)
        return self.loss(conditions, latents, noise, timesteps, pairs.foreground, mean_weight)

    def loss(
        self,
        conditions: Conditioning,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        foreground: torch.Tensor,
        mean_weight: float = 1.0,
    ) -> torch.Tensor:
        """As `forward`, of conditions; `foreground` (B, H, W) where the targets show foreground assets."""
        config, scheduler = self.config, self.pipeline.scheduler
        noisy = scheduler.add_noise(latents, noise, timesteps)
        if conditions.landing is not None:
            noisy = torch.cat([noisy, conditions.landing.to(noisy.dtype)], 1)
        prediction = self.trained["unet"](
            noisy.contiguous(memory_format=torch.channels_last),
            timesteps,
            encoder_hidden_states=conditions.tokens,
            encoder_attention_mask=conditions.mask,
            return_dict=False,
        )[0]
        prediction = add_base(prediction.float(), conditions, scheduler)
        error = (prediction - self._wanted(latents, noise, timesteps)).square().mean(1)
        area = F.interpolate(foreground.float().unsqueeze(1), size=error.shape[-2:], mode="area")[:, 0]
        if config.relative_loss and conditions.base is not None:
            left = (conditions.base.detach().float() - latents).square().mean((1, 2, 3)) + _FINE
            error = error / left[:, None, None]
        loss = (error * (1 + config.foreground_weight * area)).mean() / mean_weight
        if config.edge_weight:
            loss = loss + config.edge_weight * edge_loss(prediction, latents)
        return loss

    def _wanted(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        scheduler = self.pipeline.scheduler
        kind = scheduler.config.prediction_type
        if kind == "v_prediction":
            return scheduler.get_velocity(latents, noise, timesteps)
        return latents if kind == "sample" else noise
