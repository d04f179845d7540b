"""Training the prior over scene latents (Anchored Generation, sections 2.3 and 3.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import nn

from ..datasets.furniture_assets import FurnitureAsset, asset_folder_name
from ..datasets.objects import ObjectViews
from ..datasets.room_latents import RoomLatents, load_room_latents, make_room_latents, save_room_latents
from ..models.precision import best_precision
from ..models.prior.scene_prior import ScenePrior
from ..models.prior.variables import ABSENT, MASKED, PRESENT, Times, Variables, noise_like, noised, random_times
from ..pipelines.resample import ResamplePipeline
from .checkpoint import weights_digest
from .log import plot_log
from .loop import Losses, run_steps
from .scene_codecs import train_appearance_codec, train_background_codec


@dataclass(frozen=True)
class ScenePriorConfig:
    """How the prior and its codecs are built and trained.

    Attributes:
        prior, appearance, background: configurations of `ScenePrior`, `AppearanceCodec` and `BackgroundCodec`. What the
            prior has of tokens follows from the codecs.
        rooms: how many are laid out to train on. kinds: of rooms.
        codec_steps: of the appearance codec's network and of the background codec, each.
        batch_size, steps, lr, ema_decay: of AdamW, whose rate decays linearly, and of the average that is saved.
        anchored: see `random_times`; 0 is the paper's. shared_time: all variables of a scene have one time, the
            ablation of a time for each. presence_weight: of the cross-entropy of presence.
    """

    prior: dict[str, Any] = field(default_factory=dict)
    appearance: dict[str, Any] = field(default_factory=dict)
    background: dict[str, Any] = field(default_factory=dict)
    rooms: int = 97_000
    kinds: tuple[str, ...] = ("bedroom",)
    codec_steps: int = 20_000
    batch_size: int = 256
    steps: int = 500_000
    lr: float = 1e-4
    ema_decay: float = 0.9999
    anchored: float = 0.0
    shared_time: bool = False
    presence_weight: float = 0.5


FULL = ScenePriorConfig()
MINI = ScenePriorConfig(
    prior={"slots": 12, "width": 256, "layers": 6, "heads": 8, "frequencies": 6},
    appearance={"tokens": 4, "token_dim": 16, "channels": (16, 32, 64, 96)},
    background={"dim": 32},
    rooms=40_000,
    codec_steps=1500,
    batch_size=64,
    steps=16_000,
    lr=7e-4,
    ema_decay=0.999,
    anchored=0.75,
)
PRIOR_CONFIGS = {
    "prior": FULL,
    "prior-mini": MINI,
    # The paper's scheme, each variable at a time of its own in every scene; and one time for all, as plain diffusion.
    "prior-mini-own-times": replace(MINI, anchored=0.0),
    "prior-mini-shared-time": replace(MINI, anchored=0.0, shared_time=True),
}


class PriorLoss(nn.Module):
    """The prior, whose forward pass is the loss: squared error of velocities, cross-entropy of masked presence."""

    def __init__(self, prior: ScenePrior, config: ScenePriorConfig) -> None:
        super().__init__()
        self.prior, self.config = prior, config

    def forward(self, clean: Variables, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """The loss, and its parts: of pose, appearance, camera, background and presence."""
        times = random_times(clean.presence.cpu() == ABSENT, generator, self.config.anchored)
        if self.config.shared_time:
            shared = times.camera.unsqueeze(1).expand_as(clean.presence)
            times = Times(shared, shared, shared, times.camera, times.camera)
        times = times.map(lambda each: each.to(clean.pose.device))
        noise = noise_like(clean, generator)
        noisy = noised(clean, noise, times)
        velocity, logits = self.prior(noisy, times)
        parts = []
        for name in ("pose", "appearance", "camera", "background"):
            wanted = getattr(clean, name) - getattr(noise, name)
            # What is known is not asked for.
            asked = (getattr(times, name) < 1).unsqueeze(-1).expand_as(wanted)
            parts.append(((getattr(velocity, name).float() - wanted).square() * asked).sum() / asked.sum().clamp_min(1))
        masked = noisy.presence == MASKED
        each = F.binary_cross_entropy_with_logits(logits.float(), clean.presence.float(), reduction="none")
        parts.append((each * masked).sum() / masked.sum().clamp_min(1))
        return sum(parts[:4]) + self.config.presence_weight * parts[4], *parts


def train_scene_prior(
    views: ObjectViews,
    rooms: RoomLatents,
    autodecoder: str | Path,
    config: ScenePriorConfig,
    output: str | Path,
    *,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 500,
    log_steps: int = 50,
    mixed_precision: str | None = None,
) -> ResamplePipeline:
    """Trains the codecs and then the prior, and leaves a `ResamplePipeline` in `output`.

    Writes log.jsonl as it goes, and checkpoints, from which the same call resumes after a kill.

    Args:
        views: the objects of which the rooms are, in the order in which the autodecoder saw them.
        rooms: see `make_room_latents`. autodecoder: folder of `lift`'s.
        max_minutes: of the prior alone; ends the run early with the learning rate decayed all the same.

    Raises:
        ValueError: the rooms show a model that is not among the views; or see `train_appearance_codec`.
    """
    output = Path(output)
    set_seed(seed % 2**32)
    missing = sorted({rooms.names[index] for index in np.unique(rooms.model) if index >= 0} - set(views.names))
    if missing:
        raise ValueError(f"the rooms show {len(missing)} models that the objects' views lack, as {missing[0]}")
    for part in ("appearance", "background"):
        (output / part).mkdir(parents=True, exist_ok=True)
    precision = mixed_precision or best_precision()
    common: dict[str, Any] = {"steps": config.codec_steps, "mixed_precision": precision, "seed": seed}
    appearance_codec, known = train_appearance_codec(
        views, autodecoder, config.appearance, output / "appearance", **common
    )
    background_codec, shells = train_background_codec(rooms, config.background, output / "background", **common)
    tokens, token_dim = appearance_codec.shape
    told = {"tokens": tokens, "token_dim": token_dim, "background_dim": background_codec.config.dim}
    prior = ScenePrior(**{**config.prior, **told})
    data = _data(rooms, views, known.flatten(1), shells, prior)
    accelerator = Accelerator(mixed_precision=precision)
    model = PriorLoss(prior, config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.01)
    average = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(average)

    def loss_of(step: int) -> Losses:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(rooms), (config.batch_size,), generator=generator)
        clean = data.map(lambda value: value[rows].to(accelerator.device))
        loss, *parts = model(clean, generator)
        names = ("pose", "appearance", "camera", "background", "presence")
        return loss, {name: part.item() for name, part in zip(names, parts, strict=True)}

    step = run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="scene prior",
        steps=config.steps,
        lr=config.lr,
        clipped=list(model.parameters()),
        warmup_steps=min(200, config.steps // 10),
        max_minutes=max_minutes,
        checkpoint_steps=checkpoint_steps,
        log_steps=log_steps,
        after_step=lambda: average.step(model.parameters()),
    )
    found = accelerator.unwrap_model(model).eval()
    average.copy_to(found.parameters())
    revision = weights_digest([found.prior, appearance_codec, background_codec])
    appearance_codec.register_to_config(revision=revision)
    pipeline = ResamplePipeline(found.prior.cpu(), appearance_codec, background_codec, revision=revision)
    pipeline.save_pretrained(output)
    about = {**asdict(config), "seed": seed, "trained_steps": step}
    (output / "training_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    if (output / "log.jsonl").exists():
        plot_log(output)
    return pipeline


def training_rooms(
    library: Sequence[FurnitureAsset], views: ObjectViews, config: ScenePriorConfig, seed: int, cache: Path
) -> RoomLatents:
    """Rooms of the models that there are views of, or those that an earlier call left in `cache`.

    Raises:
        ValueError: see `make_room_latents`.
    """
    if cache.is_file():
        return load_room_latents(cache)
    known = set(views.names)
    chosen = [asset for asset in library if asset_folder_name(asset.id) in known and not asset.held_out]
    rooms = make_room_latents(chosen, config.rooms, config.prior.get("slots", 16), seed, config.kinds)
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_room_latents(rooms, cache)
    return rooms


def read_prior_config(values: dict[str, Any], path: str) -> ScenePriorConfig:
    """A configuration from the object of a JSON file, as `training_config.json` of a run has it.

    Raises:
        ValueError: it has a field that there is not.
    """
    known = {each.name for each in fields(ScenePriorConfig)}
    given: dict[str, Any] = {name: value for name, value in values.items() if name not in ("seed", "trained_steps")}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{path}: there is no field {', '.join(unknown)}; the fields are {', '.join(sorted(known))}")
    if "kinds" in given:
        given["kinds"] = tuple(given["kinds"])
    return ScenePriorConfig(**given)


def _data(
    rooms: RoomLatents, views: ObjectViews, known: torch.Tensor, shells: torch.Tensor, prior: ScenePrior
) -> Variables:
    """All rooms, standardised by statistics that the prior keeps."""
    there = torch.from_numpy(rooms.model >= 0)
    pose = torch.from_numpy(rooms.pose)
    values = pose[there]
    prior.pose_mean.copy_(values.mean(0))
    prior.pose_deviation.copy_(values.std(0).clamp_min(1e-3))
    camera = torch.from_numpy(rooms.focal).log()
    prior.camera_mean.copy_(camera.mean(0))
    prior.camera_deviation.copy_(camera.std(0).clamp_min(1e-3))
    place = {name: number for number, name in enumerate(views.names)}
    of_model = torch.tensor([place.get(name, -1) for name in rooms.names])
    index = of_model[torch.from_numpy(rooms.model).clamp_min(0).long()]
    appearance = torch.where(there.unsqueeze(-1), known[index], torch.zeros(()))
    standard = torch.where(there.unsqueeze(-1), (pose - prior.pose_mean) / prior.pose_deviation, torch.zeros(()))
    presence = torch.where(there, PRESENT, ABSENT)
    return Variables(standard, appearance, presence, (camera - prior.camera_mean) / prior.camera_deviation, shells)
