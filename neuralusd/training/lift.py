"""Training `lift`: an autodecoder of a world's objects, then the latent diffusion model on what it learned."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..datasets.objects import ObjectViews, load_objects, object_views, save_objects
from . import autodecoder, latent_diffusion
from .autodecoder import AutodecoderConfig, train_autodecoder
from .latent_diffusion import LatentDiffusionConfig, train_latent_diffusion

# The part of a run's time that the autodecoder has.
AUTODECODER_SHARE = 0.5


@dataclass(frozen=True)
class LiftTrainingConfig:
    """How `lift`'s models are built and trained; see the two."""

    autodecoder: AutodecoderConfig = field(default_factory=AutodecoderConfig)
    diffusion: LatentDiffusionConfig = field(default_factory=LatentDiffusionConfig)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MINI = LiftTrainingConfig(autodecoder.MINI, latent_diffusion.MINI)


def _decoder(**changes: Any) -> LiftTrainingConfig:
    """`lift-mini` with another decoder."""
    length = changes.get("embedding_dim")
    embeddings = {} if length is None else {"embedding_dim": length}
    old = MINI.autodecoder
    return replace(
        MINI,
        autodecoder=replace(old, decoder={**old.decoder, **changes}, embeddings={**old.embeddings, **embeddings}),
    )


def _at(resolution: int, attention: tuple[int, ...], noise_mean: float) -> LiftTrainingConfig:
    """`lift-mini` with diffusion at another stage of the decoder, whose latents have more numbers."""
    old = MINI.diffusion
    unet = {**old.unet, "attention_resolutions": attention}
    return replace(MINI, diffusion=replace(old, resolution=resolution, unet=unet, noise_mean=noise_mean))


LIFT_CONFIGS: dict[str, LiftTrainingConfig] = {
    "lift-mini": MINI,
    "lift": LiftTrainingConfig(autodecoder.FULL, latent_diffusion.FULL),
    # Table 2: each of the autodecoder's design claims. `lift-mini` has one residual block a resolution, the paper four.
    "lift-mini-one-view": replace(MINI, autodecoder=replace(MINI.autodecoder, views=1)),
    "lift-mini-no-attention": _decoder(attention_resolutions=()),
    "lift-mini-deeper": _decoder(depth=2),
    "lift-mini-short-embedding": _decoder(embedding_dim=16),
    # What begins from carved volumes is ours, and so is the stand-in of the perceptual loss.
    "lift-mini-plain-loss": replace(MINI, autodecoder=replace(MINI.autodecoder, plain_loss=True)),
    "lift-mini-not-carved": replace(MINI, autodecoder=replace(MINI.autodecoder, carved_steps=0)),
    # Section 4.4 and B.2: where diffusion takes place, and how latents are normalised.
    "lift-mini-8": _at(8, (8, 4), noise_mean=1.2),
    "lift-mini-16": _at(16, (8,), noise_mean=1.7),
    "lift-mini-mean-deviation": replace(MINI, diffusion=replace(MINI.diffusion, robust=False)),
}


def train_lift(
    views: ObjectViews,
    config: LiftTrainingConfig,
    output: str | Path,
    *,
    trained_autodecoder: str | Path | None = None,
    initial: str | Path | None = None,
    vgg: str | Path | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    mixed_precision: str | None = None,
) -> None:
    """Trains both models, one after the other, and leaves a `LiftPipeline` in `output`.

    The autodecoder's run is in `output`/autodecoder. The same call resumes after a kill, and does nothing twice.

    Args:
        trained_autodecoder: folder of an autodecoder of the same objects, which is taken instead of training one.
        initial: folder of another run, whose autodecoder the new one starts from.
        max_minutes: of both together.

    Raises:
        ValueError: see `train_autodecoder` and `train_latent_diffusion`.
    """
    output = Path(output)
    minutes = max_minutes
    if trained_autodecoder is None:
        trained_autodecoder = output / "autodecoder"
        share = None if minutes is None else minutes * AUTODECODER_SHARE
        minutes = None if minutes is None else minutes * (1 - AUTODECODER_SHARE)
        if not (trained_autodecoder / "training_config.json").exists():  # which is written when it is done
            train_autodecoder(
                views,
                config.autodecoder,
                trained_autodecoder,
                initial=None if initial is None else Path(initial) / "autodecoder",
                vgg=vgg,
                seed=seed,
                max_minutes=share,
                checkpoint_steps=checkpoint_steps,
                mixed_precision=mixed_precision,
            )
    train_latent_diffusion(
        views,
        trained_autodecoder,
        config.diffusion,
        output,
        seed=seed,
        max_minutes=minutes,
        checkpoint_steps=checkpoint_steps,
        mixed_precision=mixed_precision,
    )
    written = json.dumps({**config.to_dict(), "seed": seed}, indent=2)
    (output / "training_config.json").write_text(written, encoding="utf-8")


def load_views(places: Sequence[str | os.PathLike], cache: Path | None = None) -> ObjectViews:
    """The training objects of a world (see `neuralusd data orbits`), or of a file of `save_objects`.

    Args:
        cache: where what was read of a world is kept for the next time.

    Raises:
        ValueError: there are several places, or it is no such file. FileNotFoundError: there is no such world.
    """
    if len(places) != 1:
        raise ValueError("lift trains on one world of objects; give one")
    [place] = map(Path, places)
    if not place.is_dir():
        return load_objects(place)
    if cache is not None and cache.is_file():
        return load_objects(cache)
    views = object_views(place)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        written = cache.with_name(cache.stem + ".part.npz")
        save_objects(views, written)
        written.replace(cache)
    return views


def read_lift_config(values: dict[str, Any], path: str) -> LiftTrainingConfig:
    """A configuration from the object of a JSON file, as `training_config.json` of a run has it.

    Raises:
        ValueError: it has a field that there is not, or a part that is no object.
    """
    parts = {"autodecoder": AutodecoderConfig, "diffusion": LatentDiffusionConfig}
    if unknown := sorted(set(values) - {*parts, "seed"}):
        raise ValueError(f"{path}: there is no field {', '.join(unknown)}; the fields are {', '.join(parts)}")
    found: dict[str, Any] = {}
    for name, kind in parts.items():
        given = values.get(name, {})
        known = {each.name for each in fields(kind)}
        if not isinstance(given, dict):
            raise ValueError(f"{path}: {name} is {given!r}, but has to be an object")
        if unknown := sorted(set(given) - known):
            raise ValueError(
                f"{path}: {name} has no field {', '.join(unknown)}; its fields are {', '.join(sorted(known))}"
            )
        found[name] = kind(**{key: tuple(value) if key == "betas" else value for key, value in given.items()})
    return LiftTrainingConfig(**found)
