"""`render`: image = Decode(Edit(stage)), the Neural USD pipeline (paper sections 3.3 to 3.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from scipy.ndimage import maximum_filter

from ..errors import EncoderMismatchError, TokensError
from ..models.asset_tokenizer import AssetTokenizer, Conditioning, Keep
from ..models.crops import crop_assets, encode_crops, token_points, whole_images
from ..models.encoders import DinoCropEncoder, PatchCropEncoder
from ..models.patches import PatchAutoencoder
from ..models.tensors import SceneTensors, TokenTensors, scene_tensors, slots, token_tensors
from ..models.transfer import transfer_appearance
from ..scene import APPEARANCE, GEOMETRY, Asset, Camera, Passes, Scene, Tokens
from .compositing import composite, feather

MODALITIES = (APPEARANCE, GEOMETRY)
# The sky is this many times as far as the farthest thing that is seen.
_SKY = 4.0


@dataclass
class NeuralUSDPipelineOutput(BaseOutput):
    """`images`: a list of PIL images; or (B, H, W, 3) float32 sRGB in 0..1 with `output_type="np"`; or the latents."""

    images: Any


@dataclass
class Encoding:
    """`tokens`: path to modality to `Tokens`, of the assets encoded anew. `unchanged`, `unseen`: paths of the
    others."""

    tokens: dict[str, dict[str, Tokens]]
    unchanged: list[str]
    unseen: list[str]


class NeuralUSDPipeline(DiffusionPipeline):
    """Renders scenes with tokens, and encodes pictures of scenes to tokens.

    `mini` and Stable Diffusion 2.1 are both this class, with other components and weights. It is saved and loaded as
    every diffusers pipeline is, `save_pretrained` and `from_pretrained`.

    Args:
        vae: image to latents. unet: the denoiser, conditioned by cross-attention on asset tokens in place of text.
            Its `in_channels` are the latent's and the asset tokenizer's `landing_channels`.
        scheduler: any of diffusers' with `set_timesteps`, `step` and `add_noise`.
        asset_tokenizer: poses and tokens to cross-attention tokens and landing channels.
        appearance_encoder, geometry_encoder: crops to tokens.
        sample_size: pixels of the image's sides. normalize_depth: see `crop_assets`. mask_background: False leaves the
            foreground in the background's crop. sliced_features: see `encode_crops`. The last three are ablations.
        guidance_scale, num_inference_steps: what `__call__` takes where nothing is said. revision: of the weights.
    """

    model_cpu_offload_seq = "appearance_encoder->geometry_encoder->asset_tokenizer->unet->vae"
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoder,
        unet: UNet2DConditionModel,
        scheduler: Any,
        asset_tokenizer: AssetTokenizer,
        appearance_encoder: PatchCropEncoder | DinoCropEncoder,
        geometry_encoder: PatchCropEncoder | DinoCropEncoder,
        sample_size: int = 128,
        normalize_depth: bool = True,
        mask_background: bool = True,
        sliced_features: bool = False,
        guidance_scale: float = 3.0,
        num_inference_steps: int = 25,
        revision: str = "untrained",
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            asset_tokenizer=asset_tokenizer,
            appearance_encoder=appearance_encoder,
            geometry_encoder=geometry_encoder,
        )
        self.register_to_config(
            sample_size=sample_size,
            normalize_depth=normalize_depth,
            mask_background=mask_background,
            sliced_features=sliced_features,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            revision=revision,
        )
        expected = vae.config.latent_channels + asset_tokenizer.landing_channels
        if unet.config.in_channels != expected:
            raise ValueError(
                f"`unet` takes {unet.config.in_channels} channels, but the latents ({vae.config.latent_channels}) and "
                f"the landed tokens ({asset_tokenizer.landing_channels}) are {expected}; these components are of "
                "different models"
            )
        if appearance_encoder.grid != geometry_encoder.grid:
            raise ValueError(
                f"the encoders' grids differ, {appearance_encoder.grid} and {geometry_encoder.grid}; channel-wise "
                "concatenation needs as many appearance as geometry tokens"
            )
        self.vae_scale_factor = (
            vae.scale_factor if isinstance(vae, PatchAutoencoder) else 2 ** (len(vae.config.block_out_channels) - 1)
        )

    # -- encode ---------------------------------------------------------------------------------------------------

    def encoder(self, modality: str) -> PatchCropEncoder | DinoCropEncoder:
        """The encoder of "appearance" or "geometry"."""
        return self.appearance_encoder if modality == APPEARANCE else self.geometry_encoder

    @torch.no_grad()
    def encode(
        self,
        scene: Scene,
        passes: Passes,
        *,
        assets: Sequence[str] | None = None,
        source: str = "",
        known: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Encoding:
        """Tokens of what a picture shows of a scene (section 3.3.1).

        Args:
            scene: the assets and the camera the picture was taken with.
            passes: the picture (`color`), who is seen where (`ids`, index into `scene.assets`) and at which `depth`.
            assets: paths of the assets to encode; None encodes all. source: recorded in the tokens.
            known: path to modality to the `digest` of tokens there are; an asset whose digests hold is left alone.

        Raises:
            TokensError: there is no picture.
        """
        if passes.color is None:
            raise TokensError(f"{source or scene.source}: there is no picture to encode; `passes.color` is None")
        entries = [(slot, asset) for slot, asset in enumerate(slots(scene)) if asset is not None]
        device = self._execution_device
        masks = np.zeros((len(slots(scene)), *passes.ids.shape), np.float32)
        for slot, asset in entries:
            masks[slot] = passes.ids == scene.assets.index(asset)
        # What belongs to no asset belongs to the background, but for the outlines, where a pixel shows both.
        masks[0] = 1 - maximum_filter(masks[1:].sum(0), size=3)
        tensors = scene_tensors([scene]).to(device)
        color = torch.from_numpy(np.ascontiguousarray(passes.color)).permute(2, 0, 1)[None].float().to(device)
        depth = torch.from_numpy(np.ascontiguousarray(passes.depth, dtype=np.float32))[None].to(device)
        mask = torch.from_numpy(masks)[None].to(device)
        known_depth = depth[torch.isfinite(depth)]
        # What the background sees through to nothing is far away, so that it lands where it was seen.
        far = _SKY * known_depth.max() if len(known_depth) else torch.tensor(_SKY, device=depth.device)
        placed = torch.where(torch.isfinite(depth), depth, far)
        cropped = mask.clone()
        if not self.config.mask_background:
            cropped[:, 0] = 1
        views, whole = {}, {}
        for modality in MODALITIES:
            encoder = self.encoder(modality)
            size, normalize = encoder.crop_size, self.config.normalize_depth
            crops = crop_assets(color, depth, cropped, size, normalize_depth=normalize)
            points = token_points(depth, mask, crops, encoder.grid, tensors.camera, tensors.local_to_world)
            behind = token_points(placed, mask, crops, encoder.grid, tensors.camera, tensors.local_to_world)
            points[:, 0] = behind[:, 0]
            views[modality] = crops, points
            whole[modality] = (
                whole_images(color, depth, size, normalize_depth=normalize) if self.config.sliced_features else None
            )
        result = Encoding({}, [], [])
        for slot, asset in entries:
            if assets is not None and asset.path not in assets:
                continue
            if not views[APPEARANCE][0].present[0, slot]:
                result.unseen.append(asset.path)
                continue
            tokens = {}
            for modality, (crops, points) in views.items():
                around = whole[modality]
                pixels = (around or crops.only(0, slot)).pixels(modality)
                tokens[modality] = self._tokens(
                    modality, asset, scene.camera, pixels, points[0, slot], crops.boxes[0, slot], source
                )
            if {name: made.digest for name, made in tokens.items()} == dict((known or {}).get(asset.path, {})):
                result.unchanged.append(asset.path)
                continue
            for modality, made in tokens.items():
                values = encode_crops(
                    self.encoder(modality), modality, views[modality][0].only(0, slot), whole[modality]
                )
                made.values = values[0].to(torch.float16).cpu().numpy()
            result.tokens[asset.path] = tokens
        return result

    def _tokens(
        self,
        modality: str,
        asset: Asset,
        camera: Camera,
        pixels: torch.Tensor,
        points: torch.Tensor,
        box: torch.Tensor,
        source: str,
    ) -> Tokens:
        """All of an asset's tokens but their values, and the digest of what the values depend on."""
        encoder = self.encoder(modality)
        place = points.cpu().numpy()
        x, y, h, w = box.tolist()
        view = asset.local_to_world @ camera.world_to_camera
        digest = hashlib.sha256(f"{encoder.config.identifier} {encoder.config.revision}".encode())
        # Eight bits of colour or depth: rounding noise between machines must not look like a change.
        digest.update((pixels * 127).round().to(torch.int8).cpu().numpy().tobytes())
        digest.update(np.round(np.nan_to_num(place), 4).astype(np.float32).tobytes())
        digest.update(np.round(view, 5).tobytes())
        return Tokens(
            values=np.zeros((0, 0), np.float16),
            encoder=encoder.config.identifier,
            revision=encoder.config.revision,
            grid=encoder.grid,
            points=place if np.isfinite(place).any() else None,
            extent=None if asset.extent is None else np.asarray(asset.extent, np.float32),
            crop=(x, y, h, w),
            view=view,
            source=source,
            digest=digest.hexdigest()[:16],
        )

    # -- render ---------------------------------------------------------------------------------------------------

    def check_inputs(
        self, scenes: Sequence[Scene], guidance: Mapping[str, float], steps: int, drop: Sequence[str] = ()
    ) -> None:
        """Raises `TokensError`, `EncoderMismatchError` or ValueError that name the prim, the argument and the cure."""
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"`num_inference_steps` has to be a whole number of at least 1 but is {steps!r}")
        if set(drop) - set(Keep.__dataclass_fields__):
            raise ValueError(f"`drop` knows {sorted(Keep.__dataclass_fields__)} but has {sorted(drop)}")
        unknown = set(guidance) - {*MODALITIES, "pose"}
        if unknown:
            raise ValueError(f"`modality_guidance` knows 'appearance', 'geometry' and 'pose' but has {sorted(unknown)}")
        for scene in scenes:
            if not any(asset.tokens for asset in scene.assets):
                raise TokensError(
                    f"{scene.source or 'the scene'} has no tokens on any prim; make them with `neuralusd encode`"
                )
            for asset in scene.assets:
                for modality in set(asset.tokens) & set(MODALITIES):
                    self._check_tokens(asset.path, modality, asset.tokens[modality])

    def _check_tokens(self, path: str, modality: str, tokens: Tokens) -> None:
        encoder = self.encoder(modality)
        theirs, ours = (tokens.encoder, tokens.revision), (encoder.config.identifier, encoder.config.revision)
        if theirs != ours:
            raise EncoderMismatchError(
                f"<{path}> has {modality} tokens of encoder '{theirs[0]}' revision '{theirs[1]}', but this backend "
                f"reads '{ours[0]}' revision '{ours[1]}'; encode the stage again with this backend: neuralusd encode"
            )
        expected = (encoder.grid[0] * encoder.grid[1], encoder.token_dim)
        if tokens.values.shape != expected:
            raise TokensError(
                f"<{path}> has {modality} tokens of shape {tokens.values.shape}, encoder '{ours[0]}' makes {expected}; "
                "the tokens are damaged: encode the stage again"
            )
        if not np.isfinite(tokens.values).all():
            raise TokensError(f"<{path}> has {modality} tokens that are not finite; encode the stage again")

    @torch.no_grad()
    def __call__(
        self,
        scene: Scene | Sequence[Scene],
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        modality_guidance: Mapping[str, float] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        drop: Sequence[str] = (),
        hold_image: np.ndarray | None = None,
        footprint: np.ndarray | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> NeuralUSDPipelineOutput:
        """Renders a scene, or several scenes as one batch.

        Args:
            scene: scenes with tokens; poses, presence and camera are read as they are now.
            num_inference_steps: denoising steps. guidance_scale: classifier-free guidance; 1 is none, the paper's is 3.
            modality_guidance: further guidance of single modalities, "appearance", "geometry" or "pose": how many times
                the difference that modality makes is added.
            generator: makes the noise; the same generator state gives the same image. latents: noise to use instead.
            drop: parts of `Keep` that are zeroed for all assets, as "appearance", "pose_3d" or "landing".
            hold_image: (H, W, 3) sRGB in 0..1, the image before an edit; what lies outside of `footprint` keeps to it.
            footprint: (H, W) bool, where the edit may change the image. Both or neither.
            output_type: "pil", "np" or "latent".
            callback_on_step_end: as in diffusers, with the latents; `pipe._interrupt = True` inside of it cancels.

        Raises:
            TokensError, EncoderMismatchError: see `check_inputs`.
        """
        scenes = [scene] if isinstance(scene, Scene) else list(scene)
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        emphasis = {name: value for name, value in (modality_guidance or {}).items() if value}
        self.check_inputs(scenes, emphasis, steps, drop)
        if (hold_image is None) != (footprint is None):
            raise ValueError("`hold_image` and `footprint` have to be given together")
        self._interrupt = False
        device = self._execution_device
        conditions, weights = self._conditions(scenes, scale, emphasis, drop, device)

        self.scheduler.set_timesteps(steps, device=device)
        side = self.config.sample_size // self.vae_scale_factor
        shape = (len(scenes), self.vae.config.latent_channels, side, side)
        noise = randn_tensor(shape, generator=generator, device=device) if latents is None else latents.to(device)
        held = hole = None
        if hold_image is not None and footprint is not None:
            held, hole = self._held(hold_image, footprint, device)
        latents = noise * self.scheduler.init_noise_sigma
        timesteps = self.scheduler.timesteps
        with self.progress_bar(total=len(timesteps)) as progress:
            for index, timestep in enumerate(timesteps):
                if self._interrupt:
                    break
                prediction = self._denoise(latents, timestep, conditions, weights)
                latents = self.scheduler.step(prediction, timestep, latents, return_dict=False)[0]
                if held is not None and hole is not None:
                    last = index + 1 == len(timesteps)
                    known = held if last else self.scheduler.add_noise(held, noise, timesteps[index + 1].reshape(1))
                    latents = torch.where(hole, latents, known.to(latents.dtype))
                if callback_on_step_end is not None:
                    latents = callback_on_step_end(self, index, timestep, {"latents": latents}).get("latents", latents)
                progress.update()
        if output_type == "latent":
            return NeuralUSDPipelineOutput(images=latents)
        images = self.decode(latents)
        if hold_image is not None and footprint is not None:
            images = np.stack([composite(image, hold_image, feather(footprint)) for image in images])
        result = images if output_type == "np" else self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return NeuralUSDPipelineOutput(images=result)

    def _conditions(
        self,
        scenes: list[Scene],
        scale: float,
        emphasis: Mapping[str, float],
        drop: Sequence[str],
        device: torch.device,
    ) -> tuple[Conditioning, list[float]]:
        """What the denoiser sees, the full condition first, and how much each prediction counts in their sum."""
        target = scene_tensors(scenes).to(device)
        appearance, geometry = (
            token_tensors(scenes, modality, (_area(self.encoder(modality).grid), self.encoder(modality).token_dim))
            for modality in MODALITIES
        )
        appearance = transfer_appearance(appearance, geometry)
        nothing = torch.zeros_like(target.presence)
        full = replace(Keep.all(target), **dict.fromkeys(drop, nothing))
        keeps, weights = [full], [float(scale)]
        if scale != 1.0:
            keeps.append(Keep.none(target))
            weights.append(1.0 - scale)
        for modality, weight in emphasis.items():
            parts = ("pose_2d", "pose_3d") if modality == "pose" else (modality,)
            keeps.append(replace(full, **dict.fromkeys(parts, nothing)))
            weights[0] += weight
            weights.append(-weight)
        keep = Keep(*(torch.cat([getattr(k, name) for k in keeps]) for name in Keep.__dataclass_fields__))
        times = len(keeps)
        return self._tokenize(
            target.repeat(times), appearance.to(device).repeat(times), geometry.to(device).repeat(times), keep
        ), weights

    def _tokenize(
        self, target: SceneTensors, appearance: TokenTensors, geometry: TokenTensors, keep: Keep
    ) -> Conditioning:
        tokenizer = self.asset_tokenizer
        with torch.autocast(
            self._execution_device.type, dtype=tokenizer.dtype, enabled=tokenizer.dtype != torch.float32
        ):
            return tokenizer(target, appearance, geometry, keep)

    def _denoise(
        self, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditioning, weights: list[float]
    ) -> torch.Tensor:
        inputs = self.scheduler.scale_model_input(latents, timestep).repeat(len(weights), 1, 1, 1)
        if conditions.landing is not None:
            inputs = torch.cat([inputs, conditions.landing.to(inputs.dtype)], 1)
        prediction = self.unet(
            inputs.to(self.unet.dtype),
            timestep,
            encoder_hidden_states=conditions.tokens.to(self.unet.dtype),
            encoder_attention_mask=conditions.mask,
            return_dict=False,
        )[0].float()
        prediction = add_base(prediction, conditions, self.scheduler)
        parts = prediction.chunk(len(weights))
        return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(0)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents (B, C, h, w) to images (B, H, W, 3), float32 sRGB in 0..1."""
        latents = latents / self.vae.config.scaling_factor
        image = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0].float()
        return (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()

    def encode_image(self, images: np.ndarray) -> torch.Tensor:
        """Images (B, H, W, 3) sRGB in 0..1 to latents (B, C, h, w)."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).permute(0, 3, 1, 2) * 2 - 1
        pixels = pixels.to(self._execution_device, self.vae.dtype)
        return self.vae.encode(pixels).latent_dist.mode().float() * self.vae.config.scaling_factor

    def _held(
        self, image: np.ndarray, footprint: np.ndarray, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The held image's latents and (1, 1, h, w) bool where latents are free to change."""
        side = self.config.sample_size
        if image.shape != (side, side, 3) or footprint.shape != (side, side):
            raise ValueError(
                f"`hold_image` has to be ({side}, {side}, 3) and `footprint` ({side}, {side}) but they are "
                f"{image.shape} and {footprint.shape}"
            )
        hole = torch.nn.functional.max_pool2d(
            torch.from_numpy(footprint.astype(np.float32))[None, None], self.vae_scale_factor
        )
        return self.encode_image(image[None]), (hole > 0).to(device)


def add_base(prediction: torch.Tensor, conditions: Conditioning, scheduler: Any) -> torch.Tensor:
    """A denoiser that predicts the sample predicts what to add to the picture that landed."""
    if conditions.base is None or scheduler.config.prediction_type != "sample":
        return prediction
    return prediction + conditions.base.to(prediction.dtype)


def _area(grid: tuple[int, int]) -> int:
    return grid[0] * grid[1]
