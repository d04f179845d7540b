"""The published models of Figure 8 that are told with text or depth: rows that run where their weights are at hand.

None of them was trained on the furniture world. Each is diffusers' own pipeline class with published weights; nothing
is downloaded, so a model is at hand when it is in the hub's cache or in a folder that was named. Weights are
safetensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from .pairs import Frame, Pair
from .words import describe, instruct, motions

STEPS = 50
_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# How much of the source picture Stable Diffusion's img2img is let to change.
_STRENGTH = 0.5


class WeightsNotFound(Exception):
    """A model is not at hand; the message says where it was looked for."""


@dataclass(frozen=True)
class BaselineKind:
    """One published model.

    Attributes:
        title: in tables. source: the hub id that is looked for where no folder is named; of an adapter that stands on
            another model, its own id and that model's, with a comma between. make: hub ids or folders, and steps, to a
            baseline.
    """

    title: str
    source: str
    make: Callable[[list[str], int], Baseline]


@dataclass
class Baseline:
    """A loaded model: what it makes of a frame from all it can be told of it, and of the way to another frame.

    A function that is None is not among the model's interfaces (Neural USD, section 4.3).
    """

    reconstruct: Callable[[Frame, int], np.ndarray] | None
    control: Callable[[Pair, int], np.ndarray] | None


def load_baseline(name: str, location: str | None = None, steps: int = STEPS) -> Baseline:
    """A model of `BASELINES`.

    Args:
        location: a folder in diffusers' format, or a hub id; None looks for the published id. ControlNet and
            T2I-Adapter also take "ADAPTER,MODEL".
        steps: of denoising.

    Raises:
        WeightsNotFound: it is not at hand. ValueError: a folder that was named cannot be loaded; says why.
    """
    if name not in BASELINES:
        raise ValueError(f"there is no baseline '{name}'; there are: {', '.join(BASELINES)}")
    kind = BASELINES[name]
    sources = (location or kind.source).split(",")
    if location:
        missing = [source for source in sources if _is_path(source) and not Path(source).is_dir()]
        if missing:
            raise ValueError(f"--baseline {name}: there is no folder {missing[0]}")
    try:
        return kind.make(sources, steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if location and any(_is_path(source) for source in sources):
            raise ValueError(f"--baseline {name}: {location} cannot be loaded as {kind.title}: {error}") from error
        raise WeightsNotFound(f"not in the hub's cache: {' and '.join(sources)}") from error


def _stable_diffusion(sources: list[str], steps: int) -> Baseline:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = _load(StableDiffusionImg2ImgPipeline, sources[0])

    def reconstruct(frame: Frame, seed: int) -> np.ndarray:
        return _run(pipe, frame, seed, steps, prompt=describe(frame), image=_picture(frame, pipe), strength=_STRENGTH)

    return Baseline(reconstruct, None)


def _instruct_pix2pix(sources: list[str], steps: int) -> Baseline:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipe = _load(StableDiffusionInstructPix2PixPipeline, sources[0])

    def control(pair: Pair, seed: int) -> np.ndarray:
        return _run(pipe, pair.source, seed, steps, prompt=instruct(pair), image=_picture(pair.source, pipe))

    return Baseline(None, control)


def _controlnet(sources: list[str], steps: int) -> Baseline:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    pipe = _load_with(StableDiffusionControlNetPipeline, "controlnet", ControlNetModel, sources)
    return _by_depth(pipe, steps)


def _t2i_adapter(sources: list[str], steps: int) -> Baseline:
    from diffusers import StableDiffusionAdapterPipeline, T2IAdapter

    pipe = _load_with(StableDiffusionAdapterPipeline, "adapter", T2IAdapter, sources)
    return _by_depth(pipe, steps)


def _by_depth(pipe: Any, steps: int) -> Baseline:
    """Text and depth to a picture. The paper proposes no way to edit their depth; here the stage gives the target's."""

    def reconstruct(frame: Frame, seed: int) -> np.ndarray:
        return _run(pipe, frame, seed, steps, prompt=describe(frame), image=_depth_picture(frame, pipe))

    def control(pair: Pair, seed: int) -> np.ndarray:
        return _run(
            pipe, pair.target, seed, steps, prompt=describe(pair.source), image=_depth_picture(pair.target, pipe)
        )

    return Baseline(reconstruct, control)


def _object_edit(sources: list[str], steps: int) -> Baseline:
    from .object_edit import ObjectEditPipeline, moving, rotating

    pipe = _load(ObjectEditPipeline, sources[0])

    def edit(image: np.ndarray, prompt: str, numbers: tuple[float, float, float, float], seed: int) -> np.ndarray:
        size = _size(pipe)
        given = np.asarray(_resized(image, (size, size)), np.float32) / 255
        out = pipe(given, prompt, numbers, num_inference_steps=steps, generator=_generator(seed))
        return np.asarray(_resized(out, image.shape[1::-1]), np.float32) / 255

    def reconstruct(frame: Frame, seed: int) -> np.ndarray:
        assert frame.passes.color is not None
        still = motions(Pair(frame, frame))
        name, place = (still[0].name, still[0].target) if still else ("room", (0.5, 0.5))
        return edit(frame.passes.color, f"move the {name}", moving(*place), seed)

    def control(pair: Pair, seed: int) -> np.ndarray:
        # One edit moves or turns one object, so they are chained.
        assert pair.source.passes.color is not None
        image = pair.source.passes.color
        for motion in motions(pair):
            if motion.moves:
                image = edit(image, f"move the {motion.name}", moving(*motion.target), seed)
            if motion.turns:
                image = edit(image, f"rotate the {motion.name}", rotating(motion.degrees), seed)
        return image

    return Baseline(reconstruct, control)


BASELINES: dict[str, BaselineKind] = {
    "sd21": BaselineKind("Stable Diffusion 2.1", "stabilityai/stable-diffusion-2-1", _stable_diffusion),
    "instruct-pix2pix": BaselineKind("InstructPix2Pix", "timbrooks/instruct-pix2pix", _instruct_pix2pix),
    "controlnet": BaselineKind("ControlNet, depth", f"lllyasviel/sd-controlnet-depth,{_SD15}", _controlnet),
    "t2i-adapter": BaselineKind("T2I-Adapter, depth", f"TencentARC/t2iadapter_depth_sd15v2,{_SD15}", _t2i_adapter),
    "3dit": BaselineKind("OBJect 3DIT", "allenai/object-edit", _object_edit),
}


def _load(pipeline_class: Any, source: str, **components: Any) -> Any:
    """A pipeline from a folder or the hub's cache, quietly, on the GPU where there is one."""
    from diffusers.utils import logging

    gpu = torch.cuda.is_available()
    # A safety checker would black pictures out, which measures the checker.
    has_checker = "safety_checker" in inspect.signature(pipeline_class).parameters
    unwanted = {"safety_checker": None, "requires_safety_checker": False} if has_checker else {}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipe = pipeline_class.from_pretrained(
            source,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float16 if gpu else torch.float32,
            **unwanted,
            **components,
        )
    finally:
        logging.set_verbosity(verbosity)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if gpu else "cpu")


def _load_with(pipeline_class: Any, role: str, adapter_class: Any, sources: list[str]) -> Any:
    """A pipeline whose folder holds all of it, or an adapter and the model that it stands on."""
    if len(sources) == 1:
        return _load(pipeline_class, sources[0])
    dtype = torch.float16 if torch.cuda.is_available() else torch.float32
    adapter = adapter_class.from_pretrained(sources[0], local_files_only=True, use_safetensors=True, dtype=dtype)
    return _load(pipeline_class, sources[1], **{role: adapter})


def _run(pipe: Any, frame: Frame, seed: int, steps: int, **arguments: Any) -> np.ndarray:
    """(H, W, 3) in 0..1, of the frame's size."""
    out = pipe(**arguments, num_inference_steps=steps, generator=_generator(seed), output_type="np").images[0]
    height, width = frame.passes.ids.shape
    return np.asarray(_resized(out, (width, height)), np.float32) / 255


def _picture(frame: Frame, pipe: Any) -> PIL.Image.Image:
    assert frame.passes.color is not None
    return _resized(frame.passes.color, (_size(pipe),) * 2)


def _depth_picture(frame: Frame, pipe: Any) -> PIL.Image.Image:
    """Inverse depth, nearest white, as MiDaS makes it for these models' training."""
    near = np.divide(1.0, frame.passes.depth, out=np.zeros_like(frame.passes.depth), where=frame.passes.depth > 0)
    seen = near[np.isfinite(frame.passes.depth)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    grey = np.clip((near - low) / max(float(high - low), 1e-9), 0, 1)
    return _resized(np.repeat(grey[..., None], 3, -1), (_size(pipe),) * 2)


def _size(pipe: Any) -> int:
    """Pixels of the pictures that a model was trained at."""
    size = pipe.unet.config.sample_size
    return int(size if isinstance(size, int) else size[0]) * pipe.vae_scale_factor


def _resized(image: np.ndarray, size: tuple[int, ...]) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return picture if picture.size == size else picture.resize((size[0], size[1]), PIL.Image.Resampling.LANCZOS)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _is_path(source: str) -> bool:
    return source.count("/") != 1 or source.startswith((".", "/", "~")) or Path(source).exists()
