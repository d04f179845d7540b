"""Training what makes scene latents of objects and backgrounds, and decodes them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ..datasets.objects import ObjectViews
from ..datasets.room_latents import RoomLatents
from ..models.prior.appearance import AppearanceCodec
from ..models.prior.background import BackgroundCodec, nearness
from ..models.volumes.decoder import VolumeDecoder
from ..models.volumes.embeddings import ObjectEmbeddings
from .cutouts import cutouts, hidden, lit
from .loop import Losses, run_steps

BATCH = 64


def train_appearance_codec(
    views: ObjectViews,
    autodecoder: str | Path,
    config: dict[str, Any],
    output: Path,
    *,
    steps: int,
    mixed_precision: str,
    lr: float = 1e-3,
    seed: int = 0,
) -> tuple[AppearanceCodec, torch.Tensor]:
    """A codec over the volumes of an autodecoder of the same objects, and the objects' tokens (O, K, D).

    The pooling follows from the objects' latents; what is trained is the network that sees a cutout and says tokens.
    Its cutouts vary in brightness and colour, and parts of them are hidden, since things in rooms stand in shadow and
    behind others. Every fifth view is left out.

    Raises:
        ValueError: the autodecoder is of other objects.
    """
    decoder = VolumeDecoder.from_pretrained(str(autodecoder), subfolder="decoder", use_safetensors=True).eval()
    embeddings = ObjectEmbeddings.from_pretrained(str(autodecoder), subfolder="embeddings", use_safetensors=True).eval()
    if embeddings.config.objects != len(views):
        raise ValueError(
            f"{autodecoder} was trained on {embeddings.config.objects} objects, here are {len(views)}; take the same"
        )
    # It decodes latents, never embeddings: what reads these, most of the decoder's weights, stays behind.
    small = decoder.with_embedding_dim(1)
    known = {name: value for name, value in small.config.items() if not name.startswith("_")}
    codec = AppearanceCodec(**{**config, "decoder": known})
    codec.volume_decoder.load_state_dict(small.state_dict())
    codec.volume_decoder.requires_grad_(False)
    with torch.no_grad():
        objects = torch.arange(len(views)).split(32)
        latents = torch.cat([decoder.features(embeddings(part), codec.config.resolution) for part in objects])
        tokens = codec.fit(latents).pool(latents)
    chosen = views.split_views()[0]
    shown = cutouts(views.cropped(codec.config.picture_size))
    # A wrong token costs what it changes of the volume.
    weight = (codec.scale / codec.scale.square().mean().sqrt()).view(codec.shape)
    trained = [*codec.sees.parameters(), *codec.says.parameters()]
    accelerator = Accelerator(mixed_precision=mixed_precision)
    model, optimizer = accelerator.prepare(codec.train(), torch.optim.AdamW(trained, lr=lr, weight_decay=0.01))

    def loss_of(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        which = rng.integers(len(views), size=BATCH)
        pictures = torch.from_numpy(shown[which, rng.choice(chosen, BATCH)]).float() / 255
        seen = hidden(lit(pictures, rng), rng).to(accelerator.device)
        found = accelerator.unwrap_model(model).encode(seen)
        wanted = tokens[torch.from_numpy(which)].to(accelerator.device)
        return ((found - wanted) * weight.to(found.device)).square().mean(), {}

    run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="appearance codec",
        steps=steps,
        lr=lr,
        clipped=trained,
        warmup_steps=min(100, steps // 10),
        checkpoint_steps=500,
    )
    return accelerator.unwrap_model(model).eval().cpu(), tokens


def train_background_codec(
    rooms: RoomLatents,
    config: dict[str, Any],
    output: Path,
    *,
    steps: int,
    mixed_precision: str,
    lr: float = 1e-3,
    seed: int = 0,
) -> tuple[BackgroundCodec, torch.Tensor]:
    """An autoencoder of the rooms' shells, and the rooms' tokens (R, B)."""
    codec = BackgroundCodec(**config)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    parameters = list(codec.parameters())
    model, optimizer = accelerator.prepare(codec.train(), torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01))

    def seen(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        color = torch.from_numpy(rooms.color[rows]).permute(0, 3, 1, 2).float() / 255
        return color.to(accelerator.device), torch.from_numpy(rooms.depth[rows]).to(accelerator.device)

    def loss_of(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        color, depth = seen(rng.integers(len(rooms), size=BATCH))
        found = accelerator.unwrap_model(model)
        code = found.encode(color, depth)
        painted, far = found.decode(code)
        # Depth is what the prior stands things on, so it weighs more.
        error = (painted - color).abs().mean() + 5 * (nearness(far) - nearness(depth)).abs().mean()
        return error + 1e-4 * code.square().mean(), {}

    run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="background codec",
        steps=steps,
        lr=lr,
        clipped=parameters,
        checkpoint_steps=500,
    )
    made = accelerator.unwrap_model(model).eval().cpu()
    with torch.no_grad():
        parts = np.array_split(np.arange(len(rooms)), max(1, len(rooms) // 256))
        raw = torch.cat([made.encode(*(value.cpu() for value in seen(part))) for part in parts])
        made.mean.copy_(raw.mean(0))
        made.deviation.copy_(raw.std(0).clamp_min(1e-3))
    return made, (raw - made.mean) / made.deviation
