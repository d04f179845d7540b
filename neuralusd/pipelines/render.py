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
from ..models.lookup import LookedUp, look_up, nothing_looked_up
from ..models.patches import PatchAutoencoder
from ..models.tensors import SceneTensors, TokenTensors, scene_tensors, slots, token_tensors
from ..models.transfer import transfer_appearance
from ..scene import (
    ALBEDO,
    APPEARANCE,
    BACKGROUND,
    GEOMETRY,
    PICTURE,
    Asset,
    Camera,
    GBuffer,
    Passes,
    Scene,
    Tokens,
    View,
)
from ..surfaces.capture import capture
from ..surfaces.gbuffer import gbuffer_of_views
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
        sample_size: pixels of the sides of the images that the weights were trained on. normalize_depth: see
            `crop_assets`. mask_background: False leaves the foreground in the background's crop. sliced_features: see
            `encode_crops`. The last three are ablations.
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
        views: Mapping[str, Mapping[str, View]] | None = None,
    ) -> Encoding:
        """Tokens and views of what a picture shows of a scene (section 3.3.1).

        Args:
            scene: the assets and the camera the picture was taken with.
            passes: the picture (`color`), who is seen where (`ids`, index into `scene.assets`) and at which `depth`.
            assets: paths of the assets to encode; None encodes all. source: recorded in the tokens.
            known: path to modality to the `digest` of tokens there are; an asset whose digests hold is left alone.
            views: path to name to further views of the assets.

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
        crops_of, whole = {}, {}
        for modality in MODALITIES:
            encoder = self.encoder(modality)
            size, normalize = encoder.crop_size, self.config.normalize_depth
            crops = crop_assets(color, depth, cropped, size, normalize_depth=normalize)
            points = token_points(depth, mask, crops, encoder.grid, tensors.camera, tensors.local_to_world)
            behind = token_points(placed, mask, crops, encoder.grid, tensors.camera, tensors.local_to_world)
            points[:, 0] = behind[:, 0]
            crops_of[modality] = crops, points
            whole[modality] = (
                whole_images(color, depth, size, normalize_depth=normalize) if self.config.sliced_features else None
            )
        result = Encoding({}, [], [])
        for slot, asset in entries:
            if assets is not None and asset.path not in assets:
                continue
            if not crops_of[APPEARANCE][0].present[0, slot]:
                result.unseen.append(asset.path)
                continue
            tokens = {}
            pictures = {
                **self._views(scene, asset, passes, masks[slot] > 0, source),
                **dict(views or {}).get(asset.path, {}),
            }
            for modality, (crops, points) in crops_of.items():
                around = whole[modality]
                pixels = (around or crops.only(0, slot)).pixels(modality)
                tokens[modality] = self._tokens(
                    modality, asset, scene.camera, pixels, points[0, slot], crops.boxes[0, slot], source, pictures
                )
            if {name: made.digest for name, made in tokens.items()} == dict((known or {}).get(asset.path, {})):
                result.unchanged.append(asset.path)
                continue
            for modality, made in tokens.items():
                values = encode_crops(
                    self.encoder(modality), modality, crops_of[modality][0].only(0, slot), whole[modality]
                )
                made.values = values[0].to(torch.float16).cpu().numpy()
            result.tokens[asset.path] = tokens
        return result

    def _views(self, scene: Scene, asset: Asset, passes: Passes, mask: np.ndarray, source: str) -> dict[str, View]:
        """What the picture shows of an asset: in its light, and its plain base colour where that is known."""
        height, width = passes.ids.shape
        if asset.role == BACKGROUND:
            shown = [number for number, each in enumerate(scene.assets) if each.role != BACKGROUND]
            mask = ~np.isin(passes.ids, shown)
        if not mask.any():
            return {}
        kinds = [*([PICTURE] if passes.lit else []), *([ALBEDO] if passes.base is not None else [])]
        camera = scene.camera.fitted(width / height)
        return {kind: capture(asset, mask, passes, camera, kind, source) for kind in kinds}

    def _tokens(
        self,
        modality: str,
        asset: Asset,
        camera: Camera,
        pixels: torch.Tensor,
        points: torch.Tensor,
        box: torch.Tensor,
        source: str,
        views: Mapping[str, View],
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
        for name, seen in views.items():
            digest.update(f"{name} {seen.kind} {seen.color.shape}".encode())
            digest.update((seen.color >> 2)[~np.isinf(seen.depth)].tobytes())
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
            views=views,
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
        surfaces: GBuffer | Sequence[GBuffer] | None = None,
        height: int | None = None,
        width: int | None = None,
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
            surfaces: what each scene's camera sees, as `neuralusd.stage.render_gbuffer` makes it; all of one size,
                which is the image's. None takes the surfaces that the assets' views know of.
            height, width: of the image in pixels, where there are no `surfaces`; None is the size that the weights
                were trained at.
            num_inference_steps: denoising steps. guidance_scale: classifier-free guidance; 1 is none, the paper's is 3.
            modality_guidance: further guidance of single modalities, "appearance", "geometry" or "pose": how many times
                the difference that modality makes is added.
            generator: makes the noise; the same generator state gives the same image. A single step of a pipeline that
                looks up and predicts the sample has none. latents: noise to use instead.
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
        given = [surfaces] if isinstance(surfaces, GBuffer) else None if surfaces is None else list(surfaces)
        height, width = self._size(scenes, given, height, width)
        if (hold_image is None) != (footprint is None):
            raise ValueError("`hold_image` and `footprint` have to be given together")
        self._interrupt = False
        device = self._execution_device
        conditions, weights = self._conditions(scenes, given, (height, width), scale, emphasis, drop, device)

        self.scheduler.set_timesteps(steps, device=device)
        rows, columns = (
            -(-length // self._multiple) * self._multiple // self.vae_scale_factor for length in (height, width)
        )
        shape = (len(scenes), self.vae.config.latent_channels, rows, columns)
        if latents is not None:
            noise = latents.to(device)
        elif steps == 1 and self.looks_up and self.scheduler.config.prediction_type == "sample":
            # One step predicts the mean of all pictures there could be; noise would only leave its grain in it.
            noise = torch.zeros(shape, device=device)
        else:
            noise = randn_tensor(shape, generator=generator, device=device)
        held = hole = None
        if hold_image is not None and footprint is not None:
            held, hole = self._held(hold_image, footprint, (height, width), device)
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
        images = self.decode(latents)[:, :height, :width]
        if hold_image is not None and footprint is not None:
            images = np.stack([composite(image, hold_image, feather(footprint)) for image in images])
        result = images if output_type == "np" else self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return NeuralUSDPipelineOutput(images=result)

    @property
    def looks_up(self) -> bool:
        """Whether it asks what views saw of the surfaces of an image (`surfaces`)."""
        return self.asset_tokenizer.config.lookup is not None

    @property
    def _multiple(self) -> int:
        """What the sides of a picture are padded to a multiple of."""
        return self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def _size(
        self, scenes: list[Scene], given: list[GBuffer] | None, height: int | None, width: int | None
    ) -> tuple[int, int]:
        """Height and width of the image."""
        if given is not None:
            sizes = {each.size for each in given}
            if len(given) != len(scenes) or len(sizes) != 1:
                raise ValueError(f"`surfaces` has to be one for each scene, of one size, but has sizes {sorted(sizes)}")
            return sizes.pop()
        height, width = (self.config.sample_size if length is None else length for length in (height, width))
        if height < 1 or width < 1:
            raise ValueError(f"`height` and `width` have to be at least 1 but are {height} and {width}")
        return height, width

    def _conditions(
        self,
        scenes: list[Scene],
        given: list[GBuffer] | None,
        size: tuple[int, int],
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
        if not self.looks_up:
            appearance = transfer_appearance(appearance, geometry)
        dropped: list[set[str]] = [set(drop)]
        weights = [float(scale)]
        if scale != 1.0:
            dropped.append(set(Keep.__dataclass_fields__))
            weights.append(1.0 - scale)
        for modality, weight in emphasis.items():
            dropped.append(set(drop) | ({"pose_2d", "pose_3d"} if modality == "pose" else {modality}))
            weights[0] += weight
            weights.append(-weight)
        nothing = torch.zeros_like(target.presence)
        keeps = [replace(Keep.all(target), **dict.fromkeys(names, nothing)) for names in dropped]
        keep = Keep(*(torch.cat([getattr(k, name) for k in keeps]) for name in Keep.__dataclass_fields__))
        times = len(keeps)
        conditions = self._tokenize(
            target.repeat(times), appearance.to(device).repeat(times), geometry.to(device).repeat(times), keep
        )
        if self.looks_up:
            found = [
                self._looked_up(scene, None if given is None else given[row], size, names)
                for names in dropped
                for row, scene in enumerate(scenes)
            ]
            channels = torch.stack([each.channels for each in found]).to(device)
            conditions.landing, conditions.base = self.landed(channels)
        elif conditions.landing is not None and conditions.base is not None:
            latent = tuple(-(-length // self._multiple) * self._multiple // self.vae_scale_factor for length in size)
            if conditions.landing.shape[-2:] != latent:  # what is splatted is so at one size
                conditions.landing = torch.nn.functional.interpolate(conditions.landing, latent, mode="bilinear")
                conditions.base = torch.nn.functional.interpolate(conditions.base, latent, mode="bilinear")
        return conditions, weights

    def _looked_up(self, scene: Scene, surfaces: GBuffer | None, size: tuple[int, int], dropped: set[str]) -> LookedUp:
        """What is looked up of a scene without what is dropped: no more than is given.

        Without geometry, or without the 3D pose, an asset is a flat card in its 2D box; without any pose it is nowhere.
        """
        height, width = size
        if "landing" in dropped or "asset" in dropped:
            return nothing_looked_up(height, width)
        unposed = {"pose_2d", "pose_3d"} <= dropped
        if unposed:
            scene = replace(scene, assets=[asset for asset in scene.assets if asset.role == BACKGROUND])
        if surfaces is None or dropped & {"geometry", "pose_3d"}:
            flat = bool(dropped & {"geometry", "pose_3d"})
            surfaces = gbuffer_of_views(scene, height, width, flat=flat)
        return look_up(scene, surfaces, [asset.path for asset in scene.assets] if "appearance" in dropped else ())

    def landed(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What was looked up (B, CHANNELS, H, W) as the denoiser's further channels and as the base of its prediction;
        padded to sides that it can halve."""
        height, width = channels.shape[-2:]
        down, right = -height % self._multiple, -width % self._multiple
        channels = torch.nn.functional.pad(channels, (0, right, 0, down), mode="replicate")
        base = self.vae.encode(channels[:, :3].to(self.vae.dtype)).latent_dist.mode() * self.vae.config.scaling_factor
        return torch.nn.functional.pixel_unshuffle(channels, self.asset_tokenizer.config.lookup), base

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
        self, image: np.ndarray, footprint: np.ndarray, size: tuple[int, int], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The held image's latents and (1, 1, h, w) bool where latents are free to change."""
        if image.shape != (*size, 3) or footprint.shape != size:
            raise ValueError(
                f"`hold_image` has to be {(*size, 3)} and `footprint` {size} but they are "
                f"{image.shape} and {footprint.shape}"
            )
        (height, width), multiple = size, self._multiple
        border = ((0, -height % multiple), (0, -width % multiple))
        padded = np.pad(footprint, border, mode="edge").astype(np.float32)
        hole = torch.nn.functional.max_pool2d(torch.from_numpy(padded)[None, None], self.vae_scale_factor)
        return self.encode_image(np.pad(image, (*border, (0, 0)), mode="edge")[None]), (hole > 0).to(device)


def add_base(prediction: torch.Tensor, conditions: Conditioning, scheduler: Any) -> torch.Tensor:
    """A denoiser that predicts the sample predicts what to add to the picture that landed; one of twice as many
    channels also how many times as bright that is, which is how light changes."""
    if conditions.base is None or scheduler.config.prediction_type != "sample":
        return prediction
    base = conditions.base.to(prediction.dtype)
    if prediction.shape[1] == base.shape[1]:
        return prediction + base
    more, times = prediction.chunk(2, 1)
    # Black, which is -1, stays black however bright it is.
    return (base + 1) * (1 + 0.7 * torch.tanh(times)) - 1 + more


def _area(grid: tuple[int, int]) -> int:
    return grid[0] * grid[1]
