"""How much memory and work training the full size's decoder takes; nothing is fetched, and nothing trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ..models.adapters.backbone import (
    KLEIN,
    KLEIN_TRANSFORMER,
    PROMPT_LENGTH,
    Backbone,
    EmptyPrompt,
    as_backend_error,
    image_latents,
    pixels_of_latent,
)
from ..models.adapters.scene_tokens import SceneBatch
from .estimate import ATTENTION_FLOPS, GIB, LiveBytes
from .scene_decoder import (
    ExampleBatch,
    SceneDecoder,
    SceneDecoderConfig,
    build_scene_decoder,
    check_size,
    with_examples,
)
from .scene_examples import SceneExample


@dataclass
class DecoderEstimate:
    """What a run takes.

    Attributes:
        frozen, trained: parameters of each component. memory: bytes on each GPU.
        batch_size: pictures a step of each GPU; size: (width, height) of them. step_flops: operations of a step of one
            GPU, a multiplication and an addition counted as two. steps: of the run.
        gpus, tflops: how many, and what each does in practice, in 10^12 operations a second.
    """

    frozen: dict[str, int]
    trained: dict[str, int]
    memory: dict[str, int]
    batch_size: int
    size: tuple[int, int]
    bf16: bool
    gradient_checkpointing: bool
    step_flops: float
    steps: int
    gpus: int
    tflops: float

    @property
    def seconds_a_step(self) -> float:
        return self.step_flops / (self.tflops * 1e12)

    @property
    def hours(self) -> float:
        return self.seconds_a_step * self.steps / 3600

    def to_dict(self) -> dict[str, Any]:
        total = {"memory_total": sum(self.memory.values())}
        return {**asdict(self), **total, "seconds_a_step": self.seconds_a_step, "hours": self.hours}

    def table(self) -> str:
        """For people."""
        again = ", checkpointed" if self.gradient_checkpointing else ""
        precision = "bf16" if self.bf16 else "fp32"
        rows = [("parameters, frozen", "")]
        rows += [(f"  {name}", f"{count / 1e6:,.1f} M") for name, count in self.frozen.items()]
        rows += [("parameters, trained", "")]
        rows += [(f"  {name}", f"{count / 1e6:,.1f} M") for name, count in self.trained.items()]
        width, height = self.size
        rows += [(f"memory of a GPU, {self.batch_size} pictures of {width}x{height}, {precision}{again}", "")]
        rows += [(f"  {name}", f"{size / GIB:,.2f} GiB") for name, size in self.memory.items()]
        rows += [
            ("  together", f"{sum(self.memory.values()) / GIB:,.2f} GiB"),
            ("work and time", ""),
            ("  a step: pictures = GPUs x at once", f"{self.gpus * self.batch_size:,}"),
            ("  a step of a GPU", f"{self.step_flops / 1e12:,.2f} TFLOP"),
            (f"  a step at {self.tflops:g} TFLOP/s", f"{self.seconds_a_step:,.2f} s"),
            (f"  {self.steps:,} steps", f"{self.hours:,.1f} h"),
        ]
        column = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{column}}  {value}".rstrip() for name, value in rows)


def estimate_scene_decoder(
    config: SceneDecoderConfig,
    example: SceneExample,
    *,
    backbone: str | Path = KLEIN,
    gpus: int = 1,
    tflops: float = 100.0,
    bf16: bool = True,
) -> DecoderEstimate:
    """Estimates training on pictures like `example`, of scenes that fill every slot.

    The backbone is what a folder says; of a hub id, Klein 4B's. Left out is what CUDA and the allocator's gaps take.
    Activations are an upper bound: real scenes do not fill every slot, and what is computed again may go earlier.

    Raises:
        ValueError: the example does not fit. BackendError: the folder's configuration cannot be read.
    """
    config = with_examples(config, example)
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.device("meta"):
        frozen = _skeleton(backbone, dtype)
        check_size(example, frozen)
        prompt = EmptyPrompt(PROMPT_LENGTH, frozen.transformer.config.joint_attention_dim)
        model = build_scene_decoder(config, example, frozen, prompt)
    parts: dict[str, torch.nn.Module] = {"scene_tokenizer": model.tokenizer, "adapters": model.adapters}
    if model.pool is not None and model.background is not None:
        parts |= {"appearance_pool": model.pool, "background_token": model.background}
    counts = {name: _count(module) for name, module in parts.items()}
    still = {"transformer": _count(frozen.transformer), "vae": _count(frozen.vae)}
    number = sum(counts.values())
    flops, peak = _measure(model, frozen, prompt, config, example, bf16)
    memory = {
        "backbone": (2 if bf16 else 4) * sum(still.values()),
        "trained weights": 4 * number,
        "gradients": 4 * number,
        "Adam's two moments": 8 * number,
        "averaged weights": 4 * number,
        "activations": peak,
    }
    if gpus > 1:
        memory["gradients' exchange"] = 4 * number
    height, width = example.color.shape[:2]
    return DecoderEstimate(
        frozen=still,
        trained=counts,
        memory=memory,
        batch_size=config.batch_size,
        size=(width, height),
        bf16=bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        step_flops=flops,
        steps=config.steps,
        gpus=gpus,
        tflops=tflops,
    )


def _skeleton(name: str | Path, dtype: torch.dtype) -> Backbone:
    """The backbone without storage for its weights."""
    transformer: dict[str, Any] = dict(KLEIN_TRANSFORMER)
    vae: dict[str, Any] = {}
    if Path(name).is_dir():
        with as_backend_error(str(name), "a FLUX.2 Klein"):
            transformer = Flux2Transformer2DModel.load_config(name, subfolder="transformer")
            vae = AutoencoderKLFlux2.load_config(name, subfolder="vae")
    backbone = Backbone(
        Flux2Transformer2DModel.from_config(transformer).to(dtype),
        AutoencoderKLFlux2.from_config(vae).to(dtype).eval(),
        FlowMatchEulerDiscreteScheduler(),
    )
    for module in (backbone.transformer, backbone.vae):
        module.requires_grad_(False)
    return backbone


def _measure(
    model: SceneDecoder,
    frozen: Backbone,
    prompt: EmptyPrompt,
    config: SceneDecoderConfig,
    example: SceneExample,
    bf16: bool,
) -> tuple[float, int]:
    """Operations of a step, and the most bytes its activations take."""
    flops = FlopCounterMode(display=False, custom_mapping=ATTENTION_FLOPS)
    alive = LiveBytes()
    batch, (height, width) = config.batch_size, example.color.shape[:2]
    cell = pixels_of_latent(frozen.vae)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in (model, frozen.transformer, frozen.vae, prompt):
            module.to_empty(device="cpu")
            alive.leave_out([*module.parameters(), *module.buffers()])
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(_forget)
        examples = _zeros(model, config, example)
        with flops, alive, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                image_latents(frozen.vae, examples.images)
            shape = (batch, frozen.transformer.config.in_channels, height // cell, width // cell)
            loss = model(torch.zeros(shape), torch.zeros(batch), examples).square().mean()
            loss.backward()
    return float(flops.get_total_flops()), alive.most


def _zeros(model: SceneDecoder, config: SceneDecoderConfig, example: SceneExample) -> ExampleBatch:
    """A batch of scenes that fill every slot."""
    batch, (height, width) = config.batch_size, example.color.shape[:2]
    own = model.tokenizer.config
    scene = SceneBatch(
        translation=torch.zeros(batch, own.slots, 3),
        rotation=torch.ones(batch, own.slots, 4),
        scale=torch.ones(batch, own.slots, 3),
        appearance=torch.zeros(batch, own.slots, own.tokens, own.token_dim),
        presence=torch.ones(batch, own.slots, dtype=torch.bool),
        focal=torch.ones(batch, 2),
        background=torch.zeros(batch, own.background_dim),
    )
    found = ExampleBatch(torch.zeros(batch, 3, height, width), scene)
    if model.pool is not None and example.patches is not None:
        objects = batch * own.slots
        found.features = torch.zeros(objects, config.features, model.pool.config.feature_dim)
        found.points = torch.zeros(objects, config.features, 3)
        found.slots = torch.arange(objects)
        found.patches = torch.zeros(batch, *example.patches.shape)
    return found


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _forget(parameter: torch.Tensor) -> None:
    # Gradients are counted apart.
    parameter.grad = None
