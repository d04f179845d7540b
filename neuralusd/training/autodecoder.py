"""Training the volumetric autodecoder on views of objects (3DVADER, section 3.2 and C.2)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from ..datasets.objects import ObjectViews
from ..models.precision import best_precision
from ..models.volumes.decoder import VolumeDecoder, activate
from ..models.volumes.embeddings import ObjectEmbeddings
from ..models.volumes.perceptual import EdgePyramid, VggPyramid
from ..models.volumes.rendering import SAMPLES, render_rays
from .carved import carved_objects
from .log import plot_log
from .loop import Losses, run_steps


@dataclass(frozen=True)
class AutodecoderConfig:
    """How the autodecoder is built and trained (table 5; ablations of table 2 are other values).

    Attributes:
        decoder, embeddings: configurations of `VolumeDecoder` and `ObjectEmbeddings`.
        objects, views: objects a step, and views of each that are rendered (4; 1 is the ablation "multi-frame
            training", at as many pictures a step where `objects` is larger).
        resolution: of the pictures, which are windows about the object (`ObjectViews.cropped`).
        plain_loss: compares colours alone, the ablation of `EdgePyramid`.
        samples: points a ray. foreground_weight: lambda of the foreground loss (equation 2).
        embedding_weight: of the mean square of the embeddings, which keeps them where new ones can be found.
        carved_steps: steps at first that compare volumes with what the outlines carve (`neuralusd.datasets.carving`),
            with no rendering: not in the paper, many times as fast, and still 2D supervision. The embeddings begin as
            the principal components of what is carved, too. color_weight: of colours among these steps' losses.
        steps, lr, betas: of Adam; the rate decays linearly. embedding_lr: times `lr`, of the embeddings.
    """

    decoder: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[str, Any] = field(default_factory=dict)
    objects: int = 8
    views: int = 4
    resolution: int = 128
    plain_loss: bool = False
    samples: int = SAMPLES
    foreground_weight: float = 10.0
    embedding_weight: float = 0.0
    carved_steps: int = 0
    color_weight: float = 1.0
    steps: int = 4000
    lr: float = 5e-4
    embedding_lr: float = 1.0
    betas: tuple[float, float] = (0.5, 0.999)


FULL = AutodecoderConfig(objects=32, steps=500_000)
MINI = AutodecoderConfig(
    decoder={"embedding_dim": 256, "channels": (192, 64, 32, 16), "depth": 1, "attention_resolutions": (8,)},
    embeddings={"embedding_dim": 256},
    resolution=32,
    samples=32,
    foreground_weight=2.0,
    embedding_weight=1e-4,
    carved_steps=1500,
    steps=4500,
    lr=2e-3,
)


class Autodecoder(nn.Module):
    """Embeddings and decoder as one module, whose forward pass is the loss."""

    def __init__(self, config: AutodecoderConfig, objects: int, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.decoder = VolumeDecoder(**config.decoder).to(memory_format=torch.channels_last_3d)
        self.embeddings = ObjectEmbeddings(objects, **config.embeddings)
        nn.init.normal_(self.embeddings.table.weight, std=1 / math.sqrt(self.decoder.config.embedding_dim))
        self.perceptual = perceptual or EdgePyramid(config.plain_loss)

    def forward(
        self,
        objects: torch.Tensor,
        origins: torch.Tensor,
        directions: torch.Tensor,
        color: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The loss of equation 1 plus that of equation 2.

        Args:
            objects: (B,). origins, directions: (B, V, H, W, 3) in the canonical cube. color: (B, V, H, W, 3) in 0..1,
                black outside. mask: (B, V, H, W) of 0 and 1.
        """
        embedding = self.embeddings(objects)
        density, volume = activate(self.decoder(embedding).float())
        flat = origins.flatten(1, 3), directions.flatten(1, 3)
        seen = render_rays(density, volume, *flat, samples=self.config.samples, generator=generator)
        image = seen.color.view(color.shape).flatten(0, 1).permute(0, 3, 1, 2)
        truth = color.flatten(0, 1).permute(0, 3, 1, 2)
        outline = (seen.occupancy.view(mask.shape) - mask).abs().mean()
        return self.perceptual(image, truth) + self.config.foreground_weight * outline + self._small(embedding)

    def carved(self, objects: torch.Tensor, occupancy: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
        """The loss against carved volumes: occupancy (B, 1, S, S, S) in 0..1 and color (B, 3, S, S, S)."""
        embedding = self.embeddings(objects)
        density, volume = activate(self.decoder(embedding).float())
        thickness = (density * (2 / density.shape[-1])).clamp(1e-4, 20)  # along a cell
        solid = -(occupancy * torch.log(-torch.expm1(-thickness)) - (1 - occupancy) * thickness).mean()
        painted = ((volume - color).abs() * occupancy).sum() / (3 * occupancy.sum() + 1)
        return solid + self.config.color_weight * painted + self._small(embedding)

    def _small(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.config.embedding_weight * embedding.square().sum(-1).mean()


def train_autodecoder(
    views: ObjectViews,
    config: AutodecoderConfig,
    output: str | Path,
    *,
    initial: str | Path | None = None,
    vgg: str | Path | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    log_steps: int = 25,
    mixed_precision: str | None = None,
) -> Autodecoder:
    """Trains an autodecoder and saves `decoder` and `embeddings` to `output`, in diffusers' folder format.

    Every fifth view of each object is left out, for measuring (`ObjectViews.split_views`). Writes `output`/log.jsonl as
    it goes and `output`/checkpoint, from which the same call resumes after a kill.

    Args:
        initial: folder of an autodecoder of the same objects and configuration, whose weights it starts from.
        vgg: weights of the perceptual loss, see `VggPyramid`; None takes the stand-in, which the saved configuration
            says.
        max_minutes: ends the run early with the learning rate decayed all the same.
        mixed_precision: "bf16" or "no"; None asks the machine.

    Raises:
        ValueError: the VGG's weights, the views or a checkpoint do not fit; or the loss is not finite any more.
    """
    trained_views = views.split_views()[0]
    if len(trained_views) < config.views:
        raise ValueError(f"{len(trained_views)} views of an object are trained on, and a step renders {config.views}")
    output = Path(output)
    accelerator = Accelerator(mixed_precision=mixed_precision or best_precision())
    set_seed(seed % 2**32)
    model = Autodecoder(config, len(views), VggPyramid(vgg) if vgg else None).train()
    output.mkdir(parents=True, exist_ok=True)
    carved = None
    if config.carved_steps:
        carved = carved_objects(views, model.decoder.resolutions[-1], trained_views, output / "carved.npz")
        if not model.embeddings.config.codebooks and initial is None:
            model.embeddings.table.weight.data.copy_(carved.components(model.decoder.config.embedding_dim))
    if initial is not None:
        _start_from(model, initial)
    cropped = views.cropped(config.resolution)
    table = model.embeddings.table.weight
    others = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter is not table]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": [table], "times": config.embedding_lr}]
    optimizer = torch.optim.Adam(groups, lr=config.lr, betas=config.betas)
    model, optimizer = accelerator.prepare(model, optimizer)

    def loss_of(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        if carved is not None and step < config.carved_steps:
            batch = carved.batch(rng.permutation(len(views))[: config.objects])
            unwrapped = accelerator.unwrap_model(model)
            return unwrapped.carved(*(tensor.to(accelerator.device) for tensor in batch)), {"of": "carved"}
        drawn = draw(cropped, config, trained_views, rng)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return model(*(tensor.to(accelerator.device) for tensor in drawn), generator), {"of": "rendered"}

    step = run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="autodecoder",
        steps=config.steps,
        lr=config.lr,
        clipped=others,
        max_minutes=max_minutes,
        checkpoint_steps=checkpoint_steps,
        log_steps=log_steps,
    )
    found = accelerator.unwrap_model(model)
    settle_statistics(found)
    about = {**asdict(config), "seed": seed, "trained_steps": step, "perceptual": found.perceptual.name}
    (output / "training_config.json").write_text(json.dumps(about, indent=2))
    found.decoder.save_pretrained(output / "decoder")
    found.embeddings.save_pretrained(output / "embeddings")
    if (output / "log.jsonl").exists():
        plot_log(output)
    return found


def _start_from(model: Autodecoder, initial: str | Path) -> None:
    decoder = VolumeDecoder.from_pretrained(str(initial), subfolder="decoder", use_safetensors=True)
    embeddings = ObjectEmbeddings.from_pretrained(str(initial), subfolder="embeddings", use_safetensors=True)
    try:
        model.decoder.load_state_dict(decoder.state_dict())
        model.embeddings.load_state_dict(embeddings.state_dict())
    except RuntimeError as error:
        raise ValueError(f"{initial} is an autodecoder of other objects or another configuration: {error}") from error


@torch.no_grad()
def settle_statistics(model: Autodecoder) -> None:
    """Batch normalisation takes the statistics of all objects, in place of those that it met last."""
    norms = [module for module in model.decoder.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what follows
    model.train()
    device = model.embeddings.table.weight.device
    objects = torch.randperm(model.embeddings.config.objects, generator=torch.Generator().manual_seed(0)).to(device)
    for chunk in objects[:2048].split(16):
        model.decoder(model.embeddings(chunk))
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def draw(
    views: ObjectViews, config: AutodecoderConfig, among: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """A random batch of the views `among`: the first five arguments of `Autodecoder.forward`."""
    objects = rng.permutation(len(views))[: config.objects]
    chosen = np.stack([rng.permutation(among)[: config.views] for _ in objects])
    return views_of(views, objects, chosen)


def views_of(views: ObjectViews, objects: np.ndarray, chosen: np.ndarray) -> tuple[torch.Tensor, ...]:
    """The batch of these objects (B,) and of each these views (B, V)."""
    which = np.broadcast_to(objects[:, None], chosen.shape)
    origins, directions = views.rays(which.ravel(), chosen.ravel())
    shape = (*chosen.shape, *views.mask.shape[2:], 3)
    return (
        torch.from_numpy(np.asarray(objects, np.int64)),
        torch.from_numpy(origins).view(shape),
        torch.from_numpy(directions).view(shape),
        torch.from_numpy(views.color[which, chosen]).float() / 255,
        torch.from_numpy(views.mask[which, chosen]).float(),
    )
