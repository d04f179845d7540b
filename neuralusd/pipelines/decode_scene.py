"""The full size's decoder as a diffusers pipeline: scene latents to an image (Anchored Generation, equation 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu, retrieve_timesteps
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from ..errors import BackendError
from ..latents import SceneLatents
from ..models.adapters.attention_pool import AttnPool
from ..models.adapters.backbone import (
    KLEIN,
    EmptyPrompt,
    as_backend_error,
    latent_images,
    load_backbone,
    pixels_of_latent,
    predict,
)
from ..models.adapters.background_token import BackgroundToken
from ..models.adapters.scene_adapters import SceneAdapters, SceneCondition, image_rays
from ..models.adapters.scene_tokens import SceneBatch, SceneTokenizer

OWN = ("scene_tokenizer", "adapters", "prompt", "appearance_pool", "background_token")


class SceneDecoderOutput(BaseOutput):
    """`images`: a list of PIL images; or (B, H, W, 3) float32 sRGB in 0..1 with `output_type="np"`; or the latents."""

    images: Any


class SceneDecoderPipeline(DiffusionPipeline):
    """D of equation 2: a frozen FLUX.2 Klein, and adapters through which it listens to scene latents.

    What is trained is saved, as safetensors; of the backbone only where it is from. `load_scene_decoder` has both.

    Args:
        scene_tokenizer, adapters: latents to tokens, and what attends to them. prompt: of no words.
        appearance_pool, background_token: equations 7 and 8, which make the latents; None where others do.
        transformer, vae, scheduler: the backbone's; None until `load_backbone`.
        backbone: its hub id or folder. sample_size: pixels of a side of a square image of the size that is drawn.
        guidance_scale, num_inference_steps: what `__call__` takes where nothing is said, Klein base's own.
        revision: of the weights.
    """

    model_cpu_offload_seq = "scene_tokenizer->transformer->vae"
    # Their forward is called in the backbone's, where nobody would move them.
    _exclude_from_cpu_offload = ["adapters", "prompt", "appearance_pool", "background_token"]
    _optional_components = ["appearance_pool", "background_token", "transformer", "vae", "scheduler"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        scene_tokenizer: SceneTokenizer,
        adapters: SceneAdapters,
        prompt: EmptyPrompt,
        appearance_pool: AttnPool | None = None,
        background_token: BackgroundToken | None = None,
        transformer: Flux2Transformer2DModel | None = None,
        vae: AutoencoderKLFlux2 | None = None,
        scheduler: FlowMatchEulerDiscreteScheduler | None = None,
        backbone: str = KLEIN,
        sample_size: int = 512,
        guidance_scale: float = 4.0,
        num_inference_steps: int = 50,
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        self.register_modules(
            scene_tokenizer=scene_tokenizer,
            adapters=adapters,
            prompt=prompt,
            appearance_pool=appearance_pool,
            background_token=background_token,
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
        )
        self.register_to_config(
            backbone=str(backbone),
            sample_size=sample_size,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            revision=revision,
        )
        if scene_tokenizer.config.context_dim != adapters.config.context_dim:
            raise ValueError(
                f"`scene_tokenizer` makes tokens {scene_tokenizer.config.context_dim} wide, and `adapters` take "
                f"{adapters.config.context_dim}; these components are of different models"
            )

    def load_backbone(self, name: str | Path | None = None, *, dtype: torch.dtype = torch.float32) -> None:
        """Loads the backbone, by the hub id or folder that the adapters were trained on, or a copy of it elsewhere.

        Raises:
            BackendError: it cannot be had, or is none that these adapters fit.
        """
        backbone = load_backbone(name or self.config.backbone, dtype=dtype)
        try:
            with self.adapters.attached(backbone.transformer):
                pass
        except ValueError as error:
            raise BackendError(f"{backbone.name} is not the backbone of this decoder: {error}") from error
        self.register_modules(transformer=backbone.transformer, vae=backbone.vae, scheduler=backbone.scheduler)

    def save_pretrained(self, save_directory: str | os.PathLike, **options: Any) -> None:
        """Saves what is trained, and where the backbone is from."""
        settings = {name: self.config[name] for name in SETTINGS}
        own = type(self)(**{name: getattr(self, name) for name in OWN}, **settings)
        DiffusionPipeline.save_pretrained(own, save_directory, safe_serialization=True, **options)

    @torch.no_grad()
    def encode(
        self,
        latents: SceneLatents,
        features: Sequence[np.ndarray],
        points: Sequence[np.ndarray],
        patches: np.ndarray,
        behind: np.ndarray,
    ) -> SceneLatents:
        """The same latents with tokens (equations 7 and 8): those that this decoder was trained with.

        Args:
            features, points: of each present object in their order, see `AttnPool`. patches, behind: see
                `BackgroundToken`. `photo_example` has all of them.

        Raises:
            ValueError: this decoder was trained on tokens of another encoder.
        """
        pool, background = self.appearance_pool, self.background_token
        if pool is None or background is None:
            own = self.scene_tokenizer.config
            raise ValueError(f"this decoder reads tokens of {own.encoder} {own.revision}; encode the scene with that")

        def given(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.asarray(array)).unsqueeze(0).to(pool.device)

        present = [each for each in latents.objects if each.presence]
        objects = []
        for each, its, where in zip(present, features, points, strict=True):
            tokens = pool(given(its).to(pool.dtype), given(where).to(pool.dtype))
            objects.append(replace(each, appearance=tokens[0].float().cpu().numpy()))
        token = background(given(patches).to(pool.dtype), given(behind))[0].float().cpu().numpy()
        return replace(
            latents,
            objects=objects,
            background=token,
            encoder=pool.config.identifier,
            revision=pool.config.revision,
        )

    @torch.no_grad()
    def __call__(
        self,
        scenes: SceneLatents | Sequence[SceneLatents],
        *,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        on_step: Callable[[float], None] = lambda done: None,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> SceneDecoderOutput:
        """Draws scenes.

        Args:
            scenes: one, or some of one size of image.
            height, width: pixels. What is not given follows from the camera's focal lengths, whose ratio is the image's
                aspect where pixels are square, and from `sample_size`.
            guidance_scale: of classifier-free guidance away from what the backbone draws when nothing is told; 1 is
                none, and half the work.
            latents: (B, C, h, w) noise to start from, in place of the generator's.
            output_type: "pil", "np" or "latent".
            on_step: called with how much is done, 0 to 1; raises to stop it.
            callback_on_step_end: as diffusers calls it.

        Raises:
            ValueError: a scene cannot be drawn, see `SceneTokenizer.batch`; a number is out of range; or there is no
                backbone yet.
        """
        scenes = [scenes] if isinstance(scenes, SceneLatents) else list(scenes)
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        self._check(scenes, steps, guidance, output_type)
        device = self._execution_device
        batch = self.scene_tokenizer.batch(scenes).to(device)
        rows, columns = self._size(scenes, height, width)
        shape = (len(scenes), self.transformer.config.in_channels, rows, columns)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        elif latents.shape != shape:
            raise ValueError(f"`latents` are {tuple(latents.shape)}; those of this image are {shape}")
        latents = latents.to(device, torch.float32)
        rays = image_rays(rows, columns, batch.focal)
        told, untold = self._condition(batch, rays), self._condition(batch, rays, told=False)
        timesteps, _ = retrieve_timesteps(
            self.scheduler,
            steps,
            device,
            sigmas=np.linspace(1.0, 1 / steps, steps),
            mu=compute_empirical_mu(image_seq_len=rows * columns, num_steps=steps),
        )
        self.scheduler.set_begin_index(0)
        with self.adapters.attached(self.transformer), self.progress_bar(total=steps) as bar:
            for index, timestep in enumerate(timesteps):
                sigma = timestep.expand(len(scenes)) / 1000
                velocity = self._predict(latents, sigma, told)
                if guidance != 1:
                    away = self._predict(latents, sigma, untold)
                    velocity = away + guidance * (velocity - away)
                latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    latents = callback_on_step_end(self, index, timestep, {"latents": latents}).get("latents", latents)
                bar.update()
                on_step(0.95 * (index + 1) / steps)
        if output_type == "latent":
            images: Any = latents
        else:
            found = latent_images(self.vae, latents)
            array = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
            images = array if output_type == "np" else self.numpy_to_pil(array)
        self.maybe_free_model_hooks()
        on_step(1.0)
        return SceneDecoderOutput(images=images)

    def _condition(self, batch: SceneBatch, rays: torch.Tensor, *, told: bool = True) -> SceneCondition:
        tokens, mask = self.scene_tokenizer(batch, batch.presence.new_full((len(batch),), told))
        return SceneCondition(tokens, mask, rays)

    def _predict(self, latents: torch.Tensor, sigma: torch.Tensor, condition: SceneCondition) -> torch.Tensor:
        self.adapters.condition = condition
        return predict(self.transformer, latents, sigma, self.prompt.embedding)

    def _check(self, scenes: list[SceneLatents], steps: int, guidance: float, output_type: str) -> None:
        if self.transformer is None or self.vae is None or self.scheduler is None:
            raise ValueError("the decoder has no backbone yet; call load_backbone(), or use load_scene_decoder")
        if not scenes:
            raise ValueError("there is no scene to draw")
        if steps < 1:
            raise ValueError(f"`num_inference_steps` is {steps}; give 1 or more")
        if not np.isfinite(guidance):
            raise ValueError(f"`guidance_scale` is {guidance}; give a finite number, 1 is none")
        if output_type not in ("pil", "np", "latent"):
            raise ValueError(f"`output_type` is '{output_type}'; it is 'pil', 'np' or 'latent'")

    def _size(self, scenes: list[SceneLatents], height: float | None, width: float | None) -> tuple[int, int]:
        """Rows and columns of latents."""
        cell = pixels_of_latent(self.vae)
        for name, value in (("height", height), ("width", width)):
            if value is not None and (value < cell or value % cell):
                raise ValueError(f"`{name}` is {value} pixels; give a multiple of {cell}")
        aspects = [float(scene.focal[1] / scene.focal[0]) for scene in scenes]  # width by height
        if (height is None or width is None) and max(aspects) / min(aspects) > 1.01:
            raise ValueError("the scenes' images differ in aspect; draw them one by one, or give height and width")
        if height is None:
            height = self.config.sample_size / aspects[0] ** 0.5 if width is None else width / aspects[0]
        if width is None:
            width = height * aspects[0]
        return max(round(height / cell), 1), max(round(width / cell), 1)


SETTINGS = ("backbone", "sample_size", "guidance_scale", "num_inference_steps", "revision")


def load_scene_decoder(
    folder: str | Path,
    *,
    backbone: str | Path | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> SceneDecoderPipeline:
    """A trained decoder with its backbone, on `device` (None takes the GPU where there is one).

    Args:
        folder: of the trained decoder, or its hub id. backbone: a copy of the backbone; None takes the hub id or folder
            that the decoder was trained on. dtype: of the backbone; None is bfloat16 on a GPU, else float32.

    Raises:
        BackendError: either cannot be had, is damaged, or is no safetensors.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
    if Path(folder).is_dir() and not (Path(folder) / "model_index.json").is_file():
        raise BackendError(f"{folder} has no model_index.json, so it is not a folder of a diffusers pipeline")
    with as_backend_error(str(folder), "a scene decoder"):
        pipeline = SceneDecoderPipeline.from_pretrained(str(folder), use_safetensors=True)
    pipeline.load_backbone(backbone, dtype=dtype)
    return pipeline.to(device)
