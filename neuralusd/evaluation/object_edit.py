"""OBJect 3DIT (Michel et al., 2023, https://arxiv.org/abs/2307.11073) as a diffusers pipeline, in safetensors.

The interface is that of the published Multitask model (https://github.com/allenai/object-edit, its
`configs/sd-objaverse-multitask.yaml` and `run_generation.py`): a Zero-1-to-3 whose denoiser sees the source picture's
latents beside its own, and by cross-attention the CLIP embedding of that picture behind the CLIP states of a text; four
numbers that say where to or how far are joined to every state and projected back. Published is a checkpoint for its own
code; this loads one that was converted to a folder of diffusers' format.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch.nn.functional import interpolate

# CLIP's normalisation of pictures in 0..1 (Radford et al., 2021).
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PointProjection(ModelMixin, ConfigMixin):
    """The states joined with four numbers, to the denoiser's width (`cc_projection` of the published model)."""

    @register_to_config
    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.projection = torch.nn.Linear(width + 4, width)

    def forward(self, states: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """(B, K, width) states and (B, 4) numbers to (B, K, width)."""
        return self.projection(torch.cat([states, numbers[:, None].expand(-1, states.shape[1], -1)], -1))


class ObjectEditPipeline(DiffusionPipeline):
    """One edit of one object of a picture, said in words and numbers.

    Args:
        image_encoder: CLIP with its projection. text_encoder, tokenizer: CLIP's. unet: its `in_channels` are twice the
            latent's.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->point_projection->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        text_encoder: Any,
        tokenizer: Any,
        image_encoder: Any,
        point_projection: PointProjection,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            point_projection=point_projection,
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(
        self,
        image: np.ndarray,
        prompt: str,
        numbers: tuple[float, float, float, float],
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> np.ndarray:
        """The edited picture, (H, W, 3) in 0..1.

        Args:
            image: (H, W, 3) in 0..1. prompt: "move the chair", "rotate the chair".
            numbers: see `moving` and `rotating`.
        """
        device = self._execution_device
        pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
        pixels = pixels.to(device, self.unet.dtype)
        states = self._states(pixels, prompt)
        states = self.point_projection(states, torch.tensor([numbers], dtype=states.dtype, device=device))
        # The published code does not scale the source's latents.
        source = self.vae.encode(pixels * 2 - 1).latent_dist.mode()
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = randn_tensor(source.shape, generator=generator, device=device, dtype=source.dtype)
        latents = latents * self.scheduler.init_noise_sigma
        guided = guidance_scale != 1.0
        if guided:
            states = torch.cat([states, torch.zeros_like(states)])
        with self.progress_bar(total=num_inference_steps) as progress:
            for timestep in self.scheduler.timesteps:
                given = torch.cat([self.scheduler.scale_model_input(latents, timestep), source], 1)
                given = given.repeat(2, 1, 1, 1) if guided else given
                noise = self.unet(given, timestep, encoder_hidden_states=states, return_dict=False)[0]
                if guided:
                    with_edit, without = noise.chunk(2)
                    noise = without + guidance_scale * (with_edit - without)
                latents = self.scheduler.step(noise, timestep, latents, return_dict=False)[0]
                progress.update()
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return (decoded.float() / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).cpu().numpy()

    def _states(self, pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        """(1, K + 1, width): the text's states, and the picture's embedding as the last."""
        ids = self.tokenizer(
            prompt,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(pixels.device)
        text = self.text_encoder(ids)[0]
        size = self.image_encoder.config.image_size
        seen = interpolate(pixels.float(), size=(size, size), mode="bicubic", align_corners=True)
        seen = (seen - seen.new_tensor(_MEAN).view(1, 3, 1, 1)) / seen.new_tensor(_STD).view(1, 3, 1, 1)
        embedding = self.image_encoder(seen.to(pixels.dtype)).image_embeds
        return torch.cat([text, embedding[:, None]], 1)


def moving(w: float, h: float) -> tuple[float, float, float, float]:
    """The numbers of "move": where the object's centre comes to be, 0 to 1 from the left and from the top."""
    return 0.0, w, h, 0.0


def rotating(degrees: float) -> tuple[float, float, float, float]:
    """The numbers of "rotate"."""
    angle = math.radians(degrees)
    return math.pi / 2, math.sin(angle), math.cos(angle), 0.0
