"""The small autoencoder whose latents `mini` denoises. The full size takes Stable Diffusion's."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from .pairs import PairSampler


def train_autoencoder(
    vae: AutoencoderKL,
    sampler: PairSampler,
    accelerator: Accelerator,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    kl_weight: float = 1e-5,
    seed: int = 0,
    max_minutes: float | None = None,
) -> AutoencoderKL:
    """Trains on the frames of `sampler`: L1 of the image and of its gradients, and a small KL term.

    Sets `scaling_factor` so that latents have unit variance. Returns the moving average of the weights.
    """
    vae = vae.to(accelerator.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    average = EMAModel(vae.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    generator = torch.Generator(accelerator.device).manual_seed(seed)
    colors = sampler.frames["color"]
    started = time.monotonic()
    bar = tqdm(range(steps), desc="autoencoder", disable=not accelerator.is_main_process, mininterval=10)
    for step in bar:
        elapsed = 0.0 if max_minutes is None else (time.monotonic() - started) / 60 / max_minutes
        progress = max(step / steps, elapsed)
        if progress >= 1:
            break
        optimizer.param_groups[0]["lr"] = lr * min(1.0, step / 200) * (1 - progress)
        index = (torch.rand(batch_size, generator=generator, device=colors.device) * len(colors)).long()
        image = colors[index].permute(0, 3, 1, 2).float() / 127.5 - 1
        channels = torch.randperm(3, generator=generator, device=colors.device)
        image = image[:, channels].contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            posterior = vae.encode(image).latent_dist
            latent = posterior.mean + posterior.std * torch.randn(
                posterior.mean.shape, generator=generator, device=image.device
            )
            result = vae.decode(latent, return_dict=False)[0].float()
        loss = F.l1_loss(result, image) + sum(
            F.l1_loss(result.diff(dim=dim), image.diff(dim=dim)) for dim in (2, 3)
        )
        loss = loss + kl_weight * posterior.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.step(vae.parameters())
        if step % 200 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    average.copy_to(vae.parameters())
    vae = vae.eval()
    with torch.no_grad():
        sample = colors[:: max(1, len(colors) // 256)][:256].permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = torch.cat([vae.encode(part).latent_dist.mode() for part in sample.split(64)])
        vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae
