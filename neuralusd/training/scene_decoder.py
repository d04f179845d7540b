"""Training the full size's decoder: adapters on a frozen FLUX.2 Klein (Anchored Generation, sections 2.1, 2.2, 3.1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel, compute_density_for_timestep_sampling
from torch import nn

from ..models.adapters.attention_pool import AttnPool
from ..models.adapters.backbone import (
    KLEIN,
    Backbone,
    EmptyPrompt,
    image_latents,
    load_backbone,
    load_empty_prompt,
    pixels_of_latent,
    predict,
)
from ..models.adapters.background_token import BackgroundToken
from ..models.adapters.scene_adapters import SceneAdapters, SceneCondition, image_rays
from ..models.adapters.scene_tokens import SceneBatch, SceneTokenizer
from ..models.precision import best_precision
from ..pipelines.decode_scene import SceneDecoderPipeline
from .checkpoint import weights_digest
from .log import plot_log
from .loop import Losses, run_steps
from .scene_examples import SceneExample, SceneExamples, thinned


@dataclass(frozen=True)
class SceneDecoderConfig:
    """How the decoder is built and trained. The paper gives the backbone and where adapters are; the rest is ours.

    Attributes:
        tokenizer, adapters, pool, background: configurations of `SceneTokenizer`, `SceneAdapters`, `AttnPool` and
            `BackgroundToken`. What follows from the backbone or from the examples need not be said.
        features: how many of an object's latent features a step looks at, a random choice.
        batch_size: pictures a step, of each process. steps, lr, warmup_steps, weight_decay: of AdamW, whose rate decays
            linearly. ema_decay: of the average that is saved.
        dropout: how often nothing is told of a scene, which classifier-free guidance needs.
        weighting_scheme, logit_mean, logit_deviation: how noise levels are drawn, as diffusers trains FLUX.2.
        gradient_checkpointing: activations of the backbone's blocks are computed again in the backward pass.
    """

    tokenizer: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    background: dict[str, Any] = field(default_factory=dict)
    features: int = 2048
    batch_size: int = 16
    steps: int = 100_000
    lr: float = 1e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    ema_decay: float = 0.9999
    dropout: float = 0.1
    weighting_scheme: str = "none"
    logit_mean: float = 0.0
    logit_deviation: float = 1.0
    gradient_checkpointing: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


FULL = SceneDecoderConfig()
SCENE_DECODER_CONFIGS: dict[str, SceneDecoderConfig] = {
    "scene-decoder": FULL,
    # Ours: adapters after the single-stream blocks too; and the paper's plain recipe, whose queries know no rays.
    "scene-decoder-single-stream": replace(FULL, adapters={"single_stream": True}),
    "scene-decoder-no-rays": replace(FULL, adapters={"ray_frequencies": None}),
}


@dataclass
class ExampleBatch:
    """B examples as tensors.

    Attributes:
        images: (B, 3, H, W) in -1..1. scene: their latents; without tokens where there are features.
        features: (P, L, C) of all P present objects, points: (P, L, 3), mask: (P, L) bool, which there are; slots: (P,)
            whose they are, index into (B x N). patches: (B, Q, C), behind: (B, Q) bool. See `SceneExample`.
    """

    images: torch.Tensor
    scene: SceneBatch
    features: torch.Tensor | None = None
    points: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    slots: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    behind: torch.Tensor | None = None

    def to(self, device: torch.device) -> ExampleBatch:
        """The same on a device."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.to(device) for name, value in given.items()})


class SceneDecoder(nn.Module):
    """What is trained: tokenizer, adapters, and where tokens are trained too, pool and background token.

    The backbone is at hand, but no submodule: its weights are nobody's to train, to average or to save.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompt: EmptyPrompt,
        tokenizer: SceneTokenizer,
        adapters: SceneAdapters,
        pool: AttnPool | None = None,
        background: BackgroundToken | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer, self.adapters, self.pool, self.background = tokenizer, adapters, pool, background
        self._frozen = (backbone, prompt)
        adapters.attach(backbone.transformer)

    def forward(
        self, noisy: torch.Tensor, sigma: torch.Tensor, examples: ExampleBatch, keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Velocities of noisy latents (B, C, h, w) at noise levels sigma (B,); see `SceneTokenizer` for `keep`."""
        backbone, prompt = self._frozen
        scene = self.encoded(examples)
        tokens, mask = self.tokenizer(scene, keep)
        rows, columns = noisy.shape[2:]
        # It stays there until the next step: the backward pass may compute activations again.
        self.adapters.condition = SceneCondition(tokens, mask, image_rays(rows, columns, scene.focal))
        return predict(backbone.transformer, noisy, sigma, prompt.embedding)

    def encoded(self, examples: ExampleBatch) -> SceneBatch:
        """The scenes with tokens: those they came with, or what pool and background token make (equations 7 and 8)."""
        scene = examples.scene
        if self.pool is None or self.background is None or examples.features is None:
            return scene
        assert examples.slots is not None and examples.patches is not None
        pooled = self.pool(examples.features, examples.points, examples.mask)
        number = len(examples.slots)  # there is one to pool even where there is no object: all processes train the same
        empty = scene.appearance.flatten(0, 1).to(pooled.dtype) + 0 * pooled.sum()
        appearance = empty.index_copy(0, examples.slots, pooled[:number]).view(*scene.presence.shape, *pooled.shape[1:])
        return replace(scene, appearance=appearance, background=self.background(examples.patches, examples.behind))


def train_scene_decoder(
    examples: SceneExamples,
    config: SceneDecoderConfig,
    output: str | Path,
    *,
    backbone: str | Path = KLEIN,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 500,
    log_steps: int = 25,
    mixed_precision: str | None = None,
) -> SceneDecoder:
    """Trains a decoder by rectified flow (equation 10, on images), and saves a `SceneDecoderPipeline` to `output`.

    Writes log.jsonl as it goes, and checkpoint, of what is trained alone, from which the same call resumes.

    Args:
        backbone: hub id or folder of a FLUX.2 Klein.
        max_minutes: ends the run early with the learning rate decayed all the same.
        mixed_precision: "bf16" or "no"; None asks the machine. The backbone's weights are held in it, too.

    Raises:
        BackendError: the backbone cannot be had. ValueError: the examples do not fit, a checkpoint does not, or the
            loss is not finite.
    """
    output = Path(output)
    accelerator = Accelerator(mixed_precision=mixed_precision or best_precision())
    set_seed(seed % 2**32)
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    frozen = load_backbone(backbone, dtype=dtype)
    config = with_examples(config, examples.first)
    check_size(examples.first, frozen)
    output.mkdir(parents=True, exist_ok=True)
    model = build_scene_decoder(config, examples.first, frozen, _prompt(output, backbone, dtype, accelerator)).train()
    for module in (frozen.transformer, frozen.vae, model._frozen[1]):
        module.to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    average = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    model, optimizer = accelerator.prepare(model, optimizer)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    tokenizer = accelerator.unwrap_model(model).tokenizer
    rank = accelerator.process_index
    width = config.pool.get("feature_dim", 0)

    def read(step: int) -> ExampleBatch:
        rng = np.random.default_rng([seed, step, rank])
        chosen = rng.choice(len(examples), config.batch_size, replace=len(examples) < config.batch_size)
        return collate([thinned(examples[index], config.features, rng) for index in chosen], tokenizer, width)

    ahead = _Ahead(read)

    def loss_of(step: int) -> Losses:
        batch = ahead(step).to(accelerator.device)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 4099 + rank)
        with torch.no_grad():
            clean = image_latents(frozen.vae, batch.images)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        sigma = noise_levels(config, len(clean), generator).to(clean.device)
        keep = (torch.rand(len(clean), generator=generator) >= config.dropout).to(clean.device)
        at = sigma.view(-1, 1, 1, 1)
        velocity = model((1 - at) * clean + at * noise, sigma, batch, keep)
        loss = (velocity.float() - (noise - clean)).square().mean()
        return loss, {"loss": loss.item()}

    try:
        step = run_steps(
            accelerator,
            optimizer,
            output,
            loss_of,
            name="scene decoder",
            steps=config.steps,
            lr=config.lr,
            clipped=list(model.parameters()),
            warmup_steps=config.warmup_steps,
            max_minutes=max_minutes,
            checkpoint_steps=checkpoint_steps,
            log_steps=log_steps if accelerator.is_main_process else config.steps + 1,
            after_step=lambda: average.step(model.parameters()),
        )
    finally:
        ahead.close()
    found = accelerator.unwrap_model(model).eval()
    average.copy_to(found.parameters())
    if accelerator.is_main_process:
        size = max(examples.first.color.shape[:2])
        _save(found, frozen, output, size)
        about = {**config.to_dict(), "seed": seed, "trained_steps": step, "backbone": frozen.name}
        (output / "training_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
        if (output / "log.jsonl").exists():
            plot_log(output)
    return found


def with_examples(config: SceneDecoderConfig, example: SceneExample) -> SceneDecoderConfig:
    """The configuration with what follows from the examples: sizes of tokens and features, and who made them."""
    latents = example.latents
    if example.encoded:
        tokens = next((each.appearance for each in latents.objects if each.appearance is not None), None)
        if tokens is None or latents.background is None:
            raise ValueError("the first example has no object, so it does not say what tokens are like; remove it")
        known = {
            "tokens": tokens.shape[0],
            "token_dim": tokens.shape[1],
            "background_dim": len(latents.background),
            "encoder": latents.encoder,
            "revision": latents.revision,
        }
        return replace(config, tokenizer={**config.tokenizer, **known})
    if not example.features or example.patches is None:
        raise ValueError("the first example has no object, so it does not say what features are like; remove it")
    pool = {**config.pool, "feature_dim": example.features[0].shape[1], "identifier": latents.encoder}
    background = {**config.background, "patch_dim": example.patches.shape[1]}
    return replace(config, pool=pool, background=background)


def build_scene_decoder(
    config: SceneDecoderConfig, example: SceneExample, backbone: Backbone, prompt: EmptyPrompt
) -> SceneDecoder:
    """An untrained decoder on a backbone. `config` is of `with_examples`."""
    tokenizer, pool, background = dict(config.tokenizer), None, None
    if not example.encoded:
        pool, background = AttnPool(**config.pool), BackgroundToken(**config.background)
        tokenizer.update(
            tokens=pool.config.tokens,
            token_dim=pool.config.token_dim,
            background_dim=background.config.token_dim,
        )
    tokens = SceneTokenizer(**tokenizer)
    settings = {**config.adapters, "context_dim": tokens.config.context_dim}
    if config.gradient_checkpointing:
        backbone.transformer.enable_gradient_checkpointing()
    adapters = SceneAdapters.of(backbone.transformer, **settings)
    return SceneDecoder(backbone, prompt, tokens, adapters, pool, background)


def noise_levels(config: SceneDecoderConfig, number: int, generator: torch.Generator) -> torch.Tensor:
    """(B,) in 0..1: 1 is noise alone (1 - tau of equation 10)."""
    return compute_density_for_timestep_sampling(
        config.weighting_scheme,
        number,
        logit_mean=config.logit_mean,
        logit_std=config.logit_deviation,
        mode_scale=1.29,
        generator=generator,
    )


def collate(examples: list[SceneExample], tokenizer: SceneTokenizer, width: int = 8) -> ExampleBatch:
    """Examples as tensors; `width` is that of features, which a batch without objects does not say.

    Raises:
        ValueError: one has more objects than slots, or what does not fit the tokenizer.
    """
    images = torch.from_numpy(np.stack([each.color for each in examples])).permute(0, 3, 1, 2).float() / 127.5 - 1
    if examples[0].encoded:
        return ExampleBatch(images, tokenizer.batch([each.latents for each in examples]))
    config = tokenizer.config
    empty = np.zeros((config.tokens, config.token_dim), np.float32)
    scenes = [
        replace(
            each.latents,
            objects=[replace(one, appearance=empty) for one in each.latents.objects],
            background=np.zeros(config.background_dim, np.float32),
            encoder=config.encoder,
            revision=config.revision,
        )
        for each in examples
    ]
    scene = tokenizer.batch(scenes)
    features = [array for each in examples for array in each.features]
    points = [array for each in examples for array in each.points]
    slots = [row * config.slots + index for row, each in enumerate(examples) for index in range(len(each.features))]
    if not features:
        features, points = [np.zeros((1, width))], [np.zeros((1, 3))]
    longest = max(map(len, features))
    mask = torch.tensor([[index < len(each) for index in range(longest)] for each in features])
    patches = [each.patches for each in examples if each.patches is not None]
    behind = [each.behind for each in examples if each.behind is not None]
    return ExampleBatch(
        images,
        scene,
        _padded(features, longest),
        _padded(points, longest),
        mask,
        torch.tensor(slots, dtype=torch.int64),
        torch.from_numpy(np.stack(patches)).float(),
        torch.from_numpy(np.stack(behind)),
    )


def check_size(example: SceneExample, backbone: Backbone) -> None:
    """Raises ValueError where the backbone takes no pictures of this size."""
    cell = pixels_of_latent(backbone.vae)
    height, width = example.color.shape[:2]
    if height % cell or width % cell:
        raise ValueError(f"the examples' pictures are {width}x{height}; both have to be multiples of {cell} pixels")


def read_scene_decoder_config(values: dict[str, Any], path: str) -> SceneDecoderConfig:
    """A configuration from the object of a JSON file, as `training_config.json` of a run has it.

    Raises:
        ValueError: it has a field that there is not.
    """
    known = {each.name for each in fields(SceneDecoderConfig)}
    if unknown := sorted(set(values) - {*known, "seed", "trained_steps", "backbone"}):
        raise ValueError(f"{path}: there is no field {', '.join(unknown)}; the fields are {', '.join(sorted(known))}")
    return SceneDecoderConfig(**{name: value for name, value in values.items() if name in known})


def _padded(arrays: list[np.ndarray], length: int) -> torch.Tensor:
    whole = np.zeros((len(arrays), length, arrays[0].shape[1]), np.float32)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(whole)


def _save(model: SceneDecoder, backbone: Backbone, output: Path, size: int) -> None:
    """Writes a `SceneDecoderPipeline`; tokens of the pool are known by a hash of the weights that make them."""
    encoders = [module for module in (model.pool, model.background) if module is not None]
    if model.pool is not None:
        revision = weights_digest(encoders)
        model.pool.register_to_config(revision=revision)
        model.tokenizer.register_to_config(encoder=model.pool.config.identifier, revision=revision)
    SceneDecoderPipeline(
        model.tokenizer,
        model.adapters,
        model._frozen[1],
        model.pool,
        model.background,
        backbone=backbone.name,
        sample_size=size,
        revision=weights_digest([*encoders, model.tokenizer, model.adapters]),
    ).save_pretrained(output)


def _prompt(output: Path, backbone: str | Path, dtype: torch.dtype, accelerator: Accelerator) -> EmptyPrompt:
    """What the text encoder says of no words, from `output` where a run has begun."""
    folder = output / "prompt"
    if accelerator.is_main_process and not (folder / "diffusion_pytorch_model.safetensors").is_file():
        load_empty_prompt(backbone, dtype=dtype).save_pretrained(folder)
    accelerator.wait_for_everyone()
    return EmptyPrompt.from_pretrained(folder, use_safetensors=True)


class _Ahead:
    """Reads the next step's examples while this one is computed."""

    def __init__(self, read: Callable[[int], ExampleBatch]) -> None:
        self._read, self._pool = read, ThreadPoolExecutor(1)
        self._next: dict[int, Future[ExampleBatch]] = {}

    def __call__(self, step: int) -> ExampleBatch:
        future = self._next.pop(step, None) or self._pool.submit(self._read, step)
        found = future.result()
        self._next = {step + 1: self._pool.submit(self._read, step + 1)}
        return found

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
