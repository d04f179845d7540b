"""Training `render` by paired frames (Neural USD, section 3.6)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from ..datasets.packed import PackedWorld
from ..models.asset_tokenizer import Keep
from ..pipelines.render import NeuralUSDPipeline, add_base
from .build import build_pipeline, condition, save_pipeline
from .config import RenderTrainingConfig
from .log import plot_log
from .pairs import Pairs, PairSampler

# Mean square error of a landed picture below which `relative_loss` counts it no more, that of 36 dB.
_FINE = 1e-3
TRAINED = ("unet", "asset_tokenizer", "appearance_encoder", "geometry_encoder")


class RenderModel(torch.nn.Module):
    """The trained components as one module, whose forward pass is the loss of a batch."""

    def __init__(self, pipeline: NeuralUSDPipeline, config: RenderTrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.pipeline = pipeline
        self.trained = torch.nn.ModuleDict({name: getattr(pipeline, name) for name in TRAINED})

    def forward(
        self, pairs: Pairs, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """The denoising loss, a mean over the batch; `latents` and `noise` (B, C, h, w), `timesteps` (B,)."""
        config, scheduler = self.config, self.pipeline.scheduler
        keep = Keep.sample(
            pairs.target,
            modality=config.modality_dropout,
            pose=config.pose_dropout,
            everything=config.all_dropout,
            landing=config.landing_dropout,
            nothing=config.no_dropout,
        )
        conditions = condition(self.pipeline, pairs, config, keep)
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
        foreground = F.interpolate(pairs.foreground.float().unsqueeze(1), size=error.shape[-2:], mode="area")[:, 0]
        weight = 1 + config.foreground_weight * foreground
        if config.relative_loss and conditions.base is not None:
            left = (conditions.base.detach().float() - latents).square().mean((1, 2, 3)) + _FINE
            error = error / left[:, None, None]
        return (error * weight).sum() / weight.sum()

    def _wanted(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        scheduler = self.pipeline.scheduler
        kind = scheduler.config.prediction_type
        if kind == "v_prediction":
            return scheduler.get_velocity(latents, noise, timesteps)
        return latents if kind == "sample" else noise


def train_render(
    world: PackedWorld,
    config: RenderTrainingConfig,
    output: str | Path,
    *,
    initial: str | Path | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    gradient_accumulation_steps: int = 1,
    mixed_precision: str | None = None,
    compile: bool = False,
    on_checkpoint: Callable[[NeuralUSDPipeline, int], None] | None = None,
) -> NeuralUSDPipeline:
    """Trains a pipeline on a world and saves it to `output`, in diffusers' folder format.

    Writes `output`/log.jsonl as it goes, a plot of it at the end (`loss.png`), and `output`/checkpoint, from which the
    same call resumes after a kill.

    Args:
        initial: folder of a pipeline to start from; its tensors are taken where name and shape are the same.
        max_minutes: ends the run early with the learning rate decayed all the same. checkpoint_steps: steps between
            checkpoints.
        gradient_accumulation_steps: parts `config.batch_size` is computed in. mixed_precision: "bf16" or "no"; None
            asks the machine.
        on_checkpoint: called with the averaged pipeline at each checkpoint.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(
        mixed_precision=mixed_precision or best_precision(), gradient_accumulation_steps=gradient_accumulation_steps
    )
    set_seed(seed, device_specific=True)
    sampler = PairSampler(world, accelerator.device, same_frame=config.same_frame, paired=config.paired)
    pipeline = build_pipeline(config)
    if initial is not None:
        _start_from(pipeline, initial)
    vae = pipeline.vae.requires_grad_(False).to(accelerator.device)
    pipeline.unet.to(memory_format=torch.channels_last)
    model = RenderModel(pipeline, config)
    # Both may be one encoder, which is optimised once.
    encoders = list(dict.fromkeys(p for name in TRAINED[2:] for p in getattr(pipeline, name).parameters()))
    others = [p for name in TRAINED[:2] for p in getattr(pipeline, name).parameters()]
    groups = [{"params": others, "lr": config.lr}, {"params": encoders, "lr": config.encoder_lr}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    model, optimizer = accelerator.prepare(model, optimizer)
    average = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    accelerator.register_for_checkpointing(average)
    step, spent = _resume(accelerator, output)
    generator = torch.Generator(accelerator.device).manual_seed(seed + 1000 * accelerator.process_index + step)
    step_model = torch.compile(model, dynamic=False) if compile else model
    size = max(1, config.batch_size // gradient_accumulation_steps // accelerator.num_processes)
    started = time.monotonic() - spent
    bar = tqdm(total=config.steps, initial=step, desc="render", disable=not accelerator.is_main_process, mininterval=10)
    losses: list[torch.Tensor] = []
    with (output / "log.jsonl").open("a") as log:
        while True:
            elapsed = 0.0 if max_minutes is None else (time.monotonic() - started) / 60 / max_minutes
            progress = max(step / config.steps, elapsed)
            if progress >= 1:
                break
            rate = min(1.0, (step + 1) / max(1, config.warmup_steps)) * (1 - progress)
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate
            for _ in range(gradient_accumulation_steps):
                with accelerator.accumulate(model):
                    pairs = sampler.sample(size, generator)
                    with torch.no_grad(), accelerator.autocast():
                        latents = vae.encode(pairs.color * 2 - 1).latent_dist.mode().float() * vae.config.scaling_factor
                    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
                    uniform = torch.rand(size, generator=generator, device=latents.device)
                    total = pipeline.scheduler.config.num_train_timesteps
                    timesteps = (uniform**config.timestep_exponent * total).long().clamp_max(total - 1)
                    with accelerator.autocast():
                        loss = step_model(pairs, latents, noise, timesteps)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
            average.step(model.parameters())
            losses.append(loss.detach())
            step += 1
            bar.update()
            if step % 50 == 0 and accelerator.is_main_process:
                value = torch.stack(losses).mean().item()
                losses.clear()
                entry = {"step": step, "loss": value, "lr": config.lr * rate, "seconds": time.monotonic() - started}
                log.write(json.dumps(entry) + "\n")
                log.flush()
                bar.set_postfix(loss=f"{value:.4f}")
            if step % checkpoint_steps == 0:
                accelerator.save_state(str(output / "checkpoint"))
                if accelerator.is_main_process:
                    _write_state(output, step, time.monotonic() - started)
                if on_checkpoint is not None:
                    average.store(model.parameters())
                    average.copy_to(model.parameters())
                    on_checkpoint(pipeline, step)
                    average.restore(model.parameters())
    average.copy_to(model.parameters())
    if accelerator.is_main_process:
        (output / "training_config.json").write_text(
            json.dumps({**config.to_dict(), "seed": seed, "trained_steps": step}, indent=2)
        )
        save_pipeline(pipeline, output)
        plot_log(output)
    return pipeline


def best_precision() -> str:
    """ "bf16" where the machine computes it in hardware, else "no"."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if capable else "no"


def _start_from(pipeline: NeuralUSDPipeline, folder: str | Path) -> None:
    given = NeuralUSDPipeline.from_pretrained(folder, use_safetensors=True)
    for name in TRAINED:
        own, other = getattr(pipeline, name).state_dict(), getattr(given, name).state_dict()
        same = {key: value for key, value in other.items() if key in own and own[key].shape == value.shape}
        getattr(pipeline, name).load_state_dict(same, strict=False)


def _resume(accelerator: Accelerator, output: Path) -> tuple[int, float]:
    state = output / "checkpoint" / "progress.json"
    if not state.is_file():
        return 0, 0.0
    accelerator.load_state(str(output / "checkpoint"))
    progress = json.loads(state.read_text())
    return progress["step"], progress["seconds"]


def _write_state(output: Path, step: int, seconds: float) -> None:
    # Written last: a checkpoint without it was not finished and is not resumed from.
    (output / "checkpoint" / "progress.json").write_text(json.dumps({"step": step, "seconds": seconds}))


def shortened(config: RenderTrainingConfig, steps: int) -> RenderTrainingConfig:
    """The configuration with fewer steps, for a trial."""
    return replace(config, steps=steps, warmup_steps=min(config.warmup_steps, steps // 10))
