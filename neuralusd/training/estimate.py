"""What a training run would take, found without weights: `neuralusd train --dry-run`.

The model is built without storage (torch's meta device), and one part of a batch goes forward and backward through it
as fake tensors, which have shapes and no values. Counted are its matrix products and convolutions (torch's
FlopCounterMode) and the bytes of the tensors that are alive. The attention is a CPU's, which keeps as much as a GPU's.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from ..datasets.packed import PackedWorld
from ..models.asset_tokenizer import AssetTokenizer, Keep
from ..models.tensors import CameraTensors, SceneTensors, TokenTensors
from ..pipelines.render import NeuralUSDPipeline
from .adapters import add_adapters
from .build import build_pipeline
from .config import RenderTrainingConfig
from .draws import shared
from .model import RenderModel
from .pairs import stays_decoded
from .render import check_size, checkpoint_activations

GIB = 2**30
# Frames of a world that are looked at to see how many assets are in view.
_FRAMES = 500


@dataclass
class Estimate:
    """What a run takes.

    Attributes:
        parameters: of each component. trained: how many of them are trained, in all.
        assets: slots of a scene. in_view: assets that a frame shows, on average and at most.
        batch_size: pairs a step. per_device: pairs that a GPU computes at once. accumulation: parts a step has on it.
        memory: bytes on each GPU: weights, gradients, optimizer, averages, activations (with the weights' copies in
            half precision), and with several GPUs the buffers that gradients are exchanged in.
        world: bytes of the world in each process's host memory.
        step_flops: operations of a step over all GPUs, a multiplication and an addition counted as two. steps: of the
            run.
        gpus, tflops: how many, and what each does in practice, in 10^12 operations a second.
    """

    parameters: dict[str, int]
    trained: int
    assets: int
    in_view: tuple[float, int]
    batch_size: int
    per_device: int
    accumulation: int
    bf16: bool
    gradient_checkpointing: bool
    memory: dict[str, int]
    world: int
    step_flops: float
    steps: int
    gpus: int
    tflops: float

    @property
    def seconds_a_step(self) -> float:
        return self.step_flops / (self.gpus * self.tflops * 1e12)

    @property
    def hours(self) -> float:
        return self.seconds_a_step * self.steps / 3600

    def to_dict(self) -> dict[str, Any]:
        total = {"memory_total": sum(self.memory.values())}
        return {**asdict(self), **total, "seconds_a_step": self.seconds_a_step, "hours": self.hours}

    def table(self) -> str:
        """For people."""
        rows = [("parameters", "")]
        rows += [(f"  {name}", f"{count / 1e6:,.1f} M") for name, count in self.parameters.items()]
        rows += [("  trained of them", f"{self.trained / 1e6:,.1f} M")]
        precision = "bf16" if self.bf16 else "fp32"
        again = ", checkpointed" if self.gradient_checkpointing else ""
        rows += [(f"memory of a GPU, {self.per_device} pairs at once, {precision}{again}", "")]
        rows += [(f"  {name}", f"{size / GIB:,.2f} GiB") for name, size in self.memory.items()]
        rows += [("  together", f"{sum(self.memory.values()) / GIB:,.2f} GiB")]
        rows += [("memory of the host, each process: this world", f"{self.world / GIB:,.2f} GiB")]
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"
        rows += [
            ("work and time", ""),
            ("  assets a frame shows", f"{self.in_view[0]:.1f} (at most {self.in_view[1]}) of {self.assets} slots"),
            ("  a step: pairs = GPUs x at once x accumulated",
             f"{self.batch_size:,} = {self.gpus} x {self.per_device} x {self.accumulation}"),
            ("  a step", f"{self.step_flops / 1e12:,.2f} TFLOP"),
            (f"  a step on {gpus} of {self.tflops:g} TFLOP/s", f"{self.seconds_a_step:,.2f} s"),
            (f"  {self.steps:,} steps", f"{self.hours:,.1f} h"),
        ]  # fmt: skip
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def estimate_training(
    config: RenderTrainingConfig, world: PackedWorld, *, gpus: int = 1, tflops: float = 100.0, bf16: bool = True
) -> Estimate:
    """Estimates training on a world, on `gpus` that do `tflops` 10^12 operations a second in practice.

    Memory is for a part of the batch whose every frame shows the most assets, work for the average. Left out is what
    CUDA, other libraries and the allocator's gaps take (1 to 2 GiB), the crops that are cut before the encoders, and
    what landed tokens keep for the backward pass.

    Raises:
        ValueError: the world or the batch does not fit the configuration.
    """
    check_size(world, config)
    part, parts = shared(config.batch_size, gpus, config.per_device_batch)
    pipeline = skeleton(config)
    counts = {name: _count(module) for name, module in pipeline.components.items() if _is_module(module)}
    pipeline.vae.requires_grad_(False)
    if config.adapters is not None:
        with torch.device("meta"):
            add_adapters(pipeline, config.adapters)
        counts["adapters"] = _count(pipeline.unet) - counts["unet"]
    every = {parameter for component in pipeline.components.values() if _is_module(component)
             for parameter in component.parameters()}  # fmt: skip
    trained = sum(parameter.numel() for parameter in every if parameter.requires_grad)  # both encoders may be one
    frozen = sum(parameter.numel() for parameter in every) - trained
    looked_at = np.linspace(0, len(world) - 1, min(len(world), _FRAMES)).astype(int)
    seen = [len(np.unique(world.ids[frame])) for frame in looked_at]
    mean, most = float(np.mean(seen)), max(seen)
    slots = world.presence.shape[1]
    whole = part if config.sliced_features else 0  # whole pictures are encoded besides
    flops, peak = _measure(config, part, slots, max(1, most * part) + whole, bf16)
    if round(mean * part) != most * part:
        flops, _ = _measure(config, part, slots, max(1, round(mean * part)) + whole, bf16)
    memory = {
        "weights": 4 * (trained + frozen),
        "gradients": 4 * trained,
        "Adam's two moments": 8 * trained,
        "averaged weights": 4 * (trained + frozen - counts["vae"]),
        "activations": peak,
    }
    if gpus > 1:
        memory["gradients' exchange"] = 4 * trained
    return Estimate(
        parameters=counts,
        trained=trained,
        assets=slots,
        in_view=(mean, most),
        batch_size=config.batch_size,
        per_device=part,
        accumulation=parts,
        bf16=bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        memory=memory,
        world=world.decoded_nbytes if stays_decoded(world) else world.nbytes,
        step_flops=flops / part * config.batch_size,
        steps=config.steps,
        gpus=gpus,
        tflops=tflops,
    )


def skeleton(config: RenderTrainingConfig) -> NeuralUSDPipeline:
    """The pipeline of a configuration without storage for its weights."""
    with torch.device("meta"):
        pipeline = build_pipeline(config)
    pipeline.scheduler = type(pipeline.scheduler)(**config.scheduler)
    return pipeline


def _is_module(component: Any) -> bool:
    return isinstance(component, torch.nn.Module)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, `now`, and the most there were, of those made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: Any = WeakIdKeyDictionary()

    def leave_out(self, tensors: Iterable[torch.Tensor]) -> None:
        """These were there before, though views of them are made within it."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()] = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._made, result)
        return result

    def _made(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        weakref.finalize(storage, self._gone, size)
        self.now += size
        self.most = max(self.most, self.now)

    def _gone(self, size: int) -> None:
        self.now -= size


def _attention(query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad, query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# The CPU's attention, which FlopCounterMode does not know.
ATTENTION_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def _measure(config: RenderTrainingConfig, part: int, slots: int, crops: int, bf16: bool) -> tuple[float, int]:
    """Operations of a part of a batch, and the most bytes its activations take; `crops` assets are seen in it."""
    pipeline = skeleton(config)
    plain = {**pipeline.asset_tokenizer.config, "appearance_landing": None, "geometry_landing": None}
    plain = {name: value for name, value in plain.items() if not name.startswith("_")}
    if config.gradient_checkpointing:
        checkpoint_activations(pipeline)
    flops = FlopCounterMode(display=False, custom_mapping=ATTENTION_FLOPS)
    alive = LiveBytes()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.to_empty(device="cpu")
        pipeline.vae.requires_grad_(False)
        model = RenderModel(pipeline, config).train()
        # Where tokens land depends on their values, which there are none of; cross-attention does not.
        tokenizer = AssetTokenizer(**plain)
        for parameter in [*model.parameters(), *tokenizer.parameters()]:
            parameter.register_post_accumulate_grad_hook(_forget)
        with flops, alive:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = _loss(model, tokenizer, part, slots, crops)
            loss.backward()
    return float(flops.get_total_flops()), alive.most


def _forget(parameter: torch.Tensor) -> None:
    # Gradients are counted apart: with several parts they are there from the second on.
    parameter.grad = None


def _loss(model: RenderModel, tokenizer: AssetTokenizer, part: int, slots: int, crops: int) -> torch.Tensor:
    """The loss of a part of a batch of zeros."""
    pipeline, config = model.pipeline, model.config
    with torch.no_grad():
        picture = torch.zeros(part, 3, config.resolution, config.resolution)
        latents = pipeline.vae.encode(picture).latent_dist.mode().float()
    scene = _empty_scene(part, slots)
    tokens = [_tokens(encoder, scene, crops) for encoder in (pipeline.appearance_encoder, pipeline.geometry_encoder)]
    conditions = tokenizer(scene, *tokens, Keep.all(scene))
    if channels := pipeline.asset_tokenizer.landing_channels:
        landings = (pipeline.asset_tokenizer.land_appearance, pipeline.asset_tokenizer.land_geometry)
        features = [landing.unfold(each.values) for landing, each in zip(landings, tokens, strict=True)]
        landed = torch.zeros(part, channels, *latents.shape[2:])
        conditions.landing = landed + sum(feature.mean() for feature in features)
    timesteps = torch.zeros(part, dtype=torch.int64)
    return model.loss(conditions, latents, torch.zeros_like(latents), timesteps, picture[:, 0])


def _tokens(encoder: Any, scene: SceneTensors, crops: int) -> TokenTensors:
    values = encoder(torch.zeros(crops, encoder.config.in_channels, encoder.crop_size, encoder.crop_size))
    every = values.new_zeros(*scene.presence.shape, *values.shape[1:])
    rows = torch.zeros(crops, dtype=torch.int64)
    every[rows, rows] = values
    points = torch.zeros(*every.shape[:3], 3)
    return TokenTensors(every, points, scene.extent, scene.presence)


def _empty_scene(part: int, slots: int) -> SceneTensors:
    flags = torch.ones(part, slots)
    camera = CameraTensors(torch.zeros(part, 4, 4), torch.zeros(part, 4), torch.zeros(part, dtype=torch.bool))
    return SceneTensors(
        camera=camera,
        local_to_world=torch.zeros(part, slots, 4, 4),
        extent=torch.zeros(part, slots, 2, 3),
        presence=flags,
        pose_2d=torch.zeros(part, slots, 4),
        pose_3d=torch.zeros(part, slots, 12),
        has_pose_2d=flags,
        has_pose_3d=flags,
        background_pose=torch.zeros(part, 12),
    )
