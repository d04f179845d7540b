"""Training `render` by paired frames (Neural USD, section 3.6)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast, set_seed
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from ..backends import backend_revision, load_backend
from ..datasets.looked_up import LookedUpWorld
from ..datasets.packed import PackedWorld
from ..models.precision import best_precision
from ..pipelines.render import NeuralUSDPipeline
from .adapters import ADAPTERS, add_adapters, save_adapters
from .build import build_pipeline, save_pipeline
from .checkpoint import load_checkpoint, save_checkpoint
from .config import RenderTrainingConfig
from .draws import draw_step, shared
from .log import plot_log
from .looked_up import LookedUpSampler
from .model import TRAINED, RenderModel
from .pairs import PairSampler
from .published import load_published, with_published


def train_render(
    world: PackedWorld | LookedUpWorld,
    config: RenderTrainingConfig,
    output: str | Path,
    *,
    diffusion: str | None = None,
    dino: str | None = None,
    initial: str | Path | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    log_steps: int = 50,
    mixed_precision: str | None = None,
    compile: bool = False,
    on_checkpoint: Callable[[NeuralUSDPipeline, int], None] | None = None,
) -> NeuralUSDPipeline:
    """Trains a pipeline on a world and saves it to `output`, in diffusers' folder format.

    Writes `output`/log.jsonl as it goes, a plot of it at the end (`loss.png`), and `output`/checkpoint, from which the
    same call resumes after a kill. Started by `accelerate launch` or torchrun, every process computes its share of
    `config.batch_size`, and the first one writes. What is drawn depends on the seed and the step alone, not on how
    many processes there are.

    Args:
        diffusion, dino: hub ids or folders of a Stable Diffusion and of a DINO to start from; the model takes their
            architecture, see `with_published`.
        initial: a backend to start from (see `find_backend`); its tensors are taken where name and shape are the same.
        max_minutes: ends the run early with the learning rate decayed all the same. checkpoint_steps, log_steps: steps
            between checkpoints, and between lines of the log.
        mixed_precision: "bf16" or "no"; None asks the machine.
        on_checkpoint: called with the averaged pipeline at each checkpoint.

    Raises:
        BackendError: what `diffusion`, `dino` or `initial` names cannot be used.
        ValueError: the world, the batch or a checkpoint does not fit; the loss is not finite any more; or adapters are
            trained, and there is no `initial`.
    """
    output = Path(output)
    check_size(world, config)
    if config.adapters is not None and initial is None:
        raise ValueError("adapters are trained on a pipeline that is there: name its folder (--initial)")
    accelerator = Accelerator(
        mixed_precision=mixed_precision or best_precision(),
        # A pooler, a mask token, the encoders of a batch without assets in view: not all weights get a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    part, parts = shared(config.batch_size, accelerator.num_processes, config.per_device_batch)
    accelerator.gradient_accumulation_steps = parts
    sampler = _sampler(world, config, accelerator.device)
    set_seed(seed % 2**32)
    config = with_published(config, diffusion, dino)
    pipeline = build_pipeline(config)
    load_published(pipeline, diffusion, dino)
    start_revision = _start_from(pipeline, initial) if initial is not None else ""
    if config.adapters is not None:
        add_adapters(pipeline, config.adapters)
    output.mkdir(parents=True, exist_ok=True)
    (output / "log.jsonl").touch()
    vae = pipeline.vae.requires_grad_(False).to(accelerator.device)
    pipeline.unet.to(memory_format=torch.channels_last)
    if config.gradient_checkpointing:
        checkpoint_activations(pipeline)
    model = RenderModel(pipeline, config).train()
    optimizer = build_optimizer(pipeline, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    model, optimizer = accelerator.prepare(model, optimizer)
    average = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    accelerator.register_for_checkpointing(average)
    step, spent = load_checkpoint(accelerator, output)
    step_model = torch.compile(model, dynamic=False) if compile else model
    times = pipeline.scheduler.config.num_train_timesteps
    side = config.resolution // pipeline.vae_scale_factor
    shape = (vae.config.latent_channels, side, side)
    started = time.monotonic() - spent
    bar = tqdm(total=config.steps, initial=step, desc="render", disable=not accelerator.is_main_process, mininterval=10)
    losses: list[torch.Tensor] = []
    while True:
        elapsed = 0.0 if max_minutes is None else (time.monotonic() - started) / 60 / max_minutes
        progress = _agreed(accelerator, max(step / config.steps, elapsed))
        if progress >= 1:
            break
        rate = min(1.0, (step + 1) / max(1, config.warmup_steps)) * (1 - progress)
        for group, base in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = base * rate
        draw = draw_step(sampler, config, shape, times, seed, step)
        for index in range(parts):
            with accelerator.accumulate(model):
                mine = draw.part(index * accelerator.num_processes + accelerator.process_index, part)
                pairs = sampler.of(mine.pairs)  # type: ignore[arg-type]
                noise, timesteps, keep = mine.on(accelerator.device)
                with torch.no_grad(), accelerator.autocast():
                    latents = vae.encode(pairs.color * 2 - 1).latent_dist.mode().float() * vae.config.scaling_factor
                with accelerator.autocast():
                    loss = step_model(pairs, latents, noise, timesteps, keep, mine.mean_weight)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        average.step(model.parameters())
        step += 1
        bar.update()
        saves = step % checkpoint_steps == 0
        if saves or step % log_steps == 0:
            value = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
            losses.clear()
            if not math.isfinite(value):
                raise ValueError(
                    f"the loss is {value} after step {step}; {output} keeps its last checkpoint. Take a lower learning "
                    "rate, or --precision fp32"
                )
            if accelerator.is_main_process:
                seconds = time.monotonic() - started
                _log(output, {"step": step, "loss": value, "lr": config.lr * rate, "seconds": seconds})
                bar.set_postfix(loss=f"{value:.4f}")
        if saves:
            save_checkpoint(accelerator, output, step, time.monotonic() - started)
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
        if config.adapters is not None:
            save_adapters(pipeline, str(initial), start_revision, output / ADAPTERS)
        save_pipeline(pipeline, output)
        plot_log(output)
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:
        accelerator.end_training()
    return pipeline


def _sampler(
    world: PackedWorld | LookedUpWorld, config: RenderTrainingConfig, device: torch.device
) -> PairSampler | LookedUpSampler:
    if isinstance(world, LookedUpWorld):
        return LookedUpSampler(world, device, config)
    return PairSampler(
        world,
        device,
        same_frame=config.same_frame,
        paired=config.paired,
        separate_sources=config.separate_sources,
        mirror=config.mirror,
        recolor=config.recolor,
    )


def build_optimizer(pipeline: NeuralUSDPipeline, config: RenderTrainingConfig) -> torch.optim.AdamW:
    """Two learning rates: of the encoders, and of the denoiser and tokenizer (appendix C)."""
    # Both may be one encoder, which is optimised once.
    encoders, others = (
        list(dict.fromkeys(p for name in names for p in getattr(pipeline, name).parameters() if p.requires_grad))
        for names in (TRAINED[2:], TRAINED[:2])
    )
    groups: list[dict[str, Any]] = [
        {"params": others, "lr": config.lr},
        {"params": encoders, "lr": config.encoder_lr},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, betas=(0.9, config.beta2), weight_decay=config.weight_decay)


def checkpoint_activations(pipeline: NeuralUSDPipeline) -> None:
    """The denoiser and DINO keep few activations, and compute the others again for the backward pass."""
    pipeline.unet.enable_gradient_checkpointing()
    for encoder in (pipeline.appearance_encoder, pipeline.geometry_encoder):
        backbone = getattr(encoder, "backbone", None)  # `PatchCropEncoder` has none, and nothing to save
        if backbone is not None:
            # The name that transformers 5.23 gave it; older ones know the other.
            enable = getattr(backbone, "activation_checkpointing_enable", None)
            (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})


def check_size(world: PackedWorld | LookedUpWorld, config: RenderTrainingConfig) -> None:
    """Raises ValueError where the world is not what the configuration learns from, or of another size."""
    looks_up = config.asset_tokenizer.get("lookup") is not None
    if isinstance(world, LookedUpWorld) != looks_up:
        raise ValueError(
            "this configuration learns from what was looked up: name a folder of `neuralusd data look-up`"
            if looks_up
            else "this configuration learns from frames, not from what was looked up: name a world"
        )
    if isinstance(world, LookedUpWorld):
        return
    height, width = world.depth.shape[1:]
    if (height, width) != (config.resolution, config.resolution):
        raise ValueError(
            f"its frames are {width}x{height} pixels, and this configuration learns pictures of "
            f"{config.resolution}x{config.resolution}; make the world with --resolution {config.resolution}"
        )


def _start_from(pipeline: NeuralUSDPipeline, initial: str | Path) -> str:
    """Takes a backend's weights where they fit; its revision."""
    given = load_backend(initial, "cpu")
    for name in TRAINED:
        own, other = getattr(pipeline, name).state_dict(), getattr(given, name).state_dict()
        same = {key: value for key, value in other.items() if key in own and own[key].shape == value.shape}
        getattr(pipeline, name).load_state_dict(same, strict=False)
    return backend_revision(given)


def _agreed(accelerator: Accelerator, value: float) -> float:
    """The first process's value, for all: clocks differ, and all have to stop at the same step."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor([value], device=accelerator.device)).item())


def _log(output: Path, entry: dict[str, float]) -> None:
    with (output / "log.jsonl").open("a") as log:
        log.write(json.dumps(entry) + "\n")
