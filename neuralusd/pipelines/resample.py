"""`resample` as a diffusers pipeline: anchored generation of scene latents (section 2.3, equation 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..latents import Anchors, SceneLatents
from ..models.prior.appearance import AppearanceCodec
from ..models.prior.background import BackgroundCodec
from ..models.prior.packing import pack, pack_anchors, unpack
from ..models.prior.scene_prior import ScenePrior
from ..models.prior.variables import CONTINUOUS, MASKED, Times, Variables, noise_like, noised, unmasked


class ResamplePipeline(DiffusionPipeline):
    """Attributes: prior, appearance_codec, background_codec; and, of the configuration, revision, num_inference_steps
    and guidance_scale."""

    def __init__(
        self,
        prior: ScenePrior,
        appearance_codec: AppearanceCodec,
        background_codec: BackgroundCodec,
        revision: str = "untrained",
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(prior=prior, appearance_codec=appearance_codec, background_codec=background_codec)
        self.register_to_config(
            revision=revision, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale
        )
        expected = (*appearance_codec.shape, background_codec.config.dim)
        found = (prior.config.tokens, prior.config.token_dim, prior.config.background_dim)
        if expected != found:
            raise ValueError(
                f"`prior` draws {found[0]} x {found[1]} appearance tokens and a background of {found[2]}, but the "
                f"codecs make {expected[0]} x {expected[1]} and {expected[2]}; these components are of different models"
            )
        for module in (prior, appearance_codec, background_codec):
            module.eval()

    @property
    def slots(self) -> int:
        """N_max, how many objects a scene may have."""
        return self.prior.config.slots

    @property
    def encoder(self) -> tuple[str, str]:
        """Id and revision of what makes appearance and background tokens."""
        return self.appearance_codec.config.identifier, self.appearance_codec.config.revision

    def check_inputs(
        self, scene: SceneLatents, anchors: Anchors, samples: int, steps: int, guidance_scale: float
    ) -> None:
        """Raises ValueError that says what is wrong and with which object."""
        if len(scene.objects) > self.slots:
            raise ValueError(
                f"the scene has {len(scene.objects)} objects, and this prior knows scenes of at most {self.slots}; "
                "leave out the smallest, or those that are far away"
            )
        if len(anchors.objects) != len(scene.objects):
            raise ValueError(f"{len(anchors.objects)} objects are anchored, the scene has {len(scene.objects)}")
        for name, value in (("samples", samples), ("num_inference_steps", steps)):
            if value < 1:
                raise ValueError(f"`{name}` is {value}; give 1 or more")
        if not np.isfinite(guidance_scale):
            raise ValueError(f"`guidance_scale` is {guidance_scale}; give a finite number, 1 is none")
        for what, alpha in _named(scene, anchors):
            if not 0 <= alpha <= 1:
                raise ValueError(f"the anchor of {what} is {alpha:g}; it is 0 (resample) to 1 (keep)")
        encoded = [one.appearance for one in scene.objects] + [scene.background]
        if any(each is not None for each in encoded) and (scene.encoder, scene.revision) != self.encoder:
            raise ValueError(
                f"the latents were encoded by '{scene.encoder}' revision '{scene.revision}', and this prior reads "
                f"'{self.encoder[0]}' revision '{self.encoder[1]}'; read them from the stage again with this backend"
            )
        if not (np.isfinite(scene.focal).all() and (np.asarray(scene.focal) > 0).all()):
            raise ValueError(f"the camera's focal length is {scene.focal}; both have to be above 0")
        for number, one in enumerate(scene.objects):
            values = [one.translation, one.rotation, one.scale]
            values += [] if one.appearance is None else [one.appearance]
            name = f"<{one.path}>" if one.path else f"object {number}"
            if not all(np.isfinite(value).all() for value in values):
                raise ValueError(f"{name} has latents that are not finite")
            if not (np.asarray(one.scale) > 0).all() or not np.linalg.norm(one.rotation) > 0:
                raise ValueError(f"{name} has a box without a size, or no rotation")
            if one.appearance is not None and one.appearance.shape != self.appearance_codec.shape:
                raise ValueError(
                    f"{name} has appearance tokens of {one.appearance.shape}, not {self.appearance_codec.shape}"
                )

    @torch.no_grad()
    def __call__(
        self,
        scene: SceneLatents,
        anchors: Anchors,
        *,
        samples: int | Sequence[int] = 1,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        on_step: Callable[[float], None] = lambda done: None,
    ) -> list[SceneLatents]:
        """Samples scenes that agree with what is anchored.

        Args:
            scene: what there is. anchors: alpha of each variable; those of `objects` in the scene's order.
            samples: how many, or their numbers, from 0; each depends on the seed and its own number alone, so more of
                them begin with the same (but for rounding).
            guidance_scale: how far samples go towards what is anchored, from where they would go without it; 1 is none.
            on_step: called with how much is done, 0 to 1; raises to stop it.

        Returns:
            Scenes with the objects of `scene` in their order, those that are gone among them (`presence` False), then
            those that were invented. A variable whose alpha is 1 is the array that came in.

        Raises:
            ValueError: see `check_inputs`.
        """
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        numbers = range(samples) if isinstance(samples, int) else samples
        self.check_inputs(scene, anchors, len(numbers), steps, guidance)
        alpha = pack_anchors(scene, anchors, len(numbers), self.prior)
        clean = pack([scene] * len(numbers), self.prior)
        generators = [torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63) for number in numbers]
        noise = _stacked(noise_like(row, each) for row, each in zip(_rows(clean), generators, strict=True))
        now = noised(clean, noise, alpha)
        for step in range(steps):
            before, after = alpha.at(step / steps), alpha.at((step + 1) / steps)
            velocity, logits = self._guided(now, before, alpha, noise, guidance)
            moved = {
                name: getattr(now, name)
                + getattr(velocity, name) * (getattr(after, name) - getattr(before, name)).unsqueeze(-1)
                for name in CONTINUOUS
            }
            drawn = [
                unmasked(present, chance, then, later, generator)
                for present, chance, then, later, generator in zip(
                    now.presence, logits.sigmoid(), before.presence, after.presence, generators, strict=True
                )
            ]
            now = Variables(presence=torch.stack(drawn), **moved)
            on_step((step + 1) / steps)
        return unpack(now, scene, anchors, self.prior, *self.encoder)

    def _guided(
        self, now: Variables, times: Times, alpha: Times, noise: Variables, guidance: float
    ) -> tuple[Variables, torch.Tensor]:
        velocity, logits = self.prior(now, times)
        if guidance == 1:
            return velocity, logits
        # As if nothing were anchored: what is, is noise.
        free = {
            name: torch.where(getattr(alpha, name).unsqueeze(-1) == 1, getattr(noise, name), getattr(now, name))
            for name in CONTINUOUS
        }
        free["presence"] = torch.where(alpha.presence == 1, torch.full_like(now.presence, MASKED), now.presence)
        open_times = Times(
            *(
                torch.where(getattr(alpha, each.name) == 1, torch.zeros(()), getattr(times, each.name))
                for each in fields(Times)
            )
        )
        other, other_logits = self.prior(Variables(**free), open_times)
        mixed = {
            name: getattr(other, name) + guidance * (getattr(velocity, name) - getattr(other, name))
            for name in CONTINUOUS
        }
        return Variables(presence=now.presence, **mixed), other_logits + guidance * (logits - other_logits)

    # -- what tokens say ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_objects(self, pictures: np.ndarray) -> np.ndarray:
        """Cutouts (N, 4, R, R), see `AppearanceCodec.encode`, to tokens (N, K, D) float32."""
        given = torch.from_numpy(np.asarray(pictures, np.float32)).to(self.device)
        return self.appearance_codec.encode(given).cpu().numpy()

    @torch.no_grad()
    def decode_object(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (K, D) to density (S, S, S) per unit of the canonical cube and colour (S, S, S, 3), indexed z, y,
        x."""
        given = torch.from_numpy(np.asarray(tokens, np.float32)).to(self.device).unsqueeze(0)
        density, color = self.appearance_codec.decode(given)
        return density[0, 0].cpu().numpy(), color[0].permute(1, 2, 3, 0).cpu().numpy()

    @torch.no_grad()
    def encode_background(self, color: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Color (S, S, 3) sRGB in 0..1 and depth (S, S) in metres, inf where nothing is, to a token (B,) float32."""
        given = torch.from_numpy(np.asarray(color, np.float32)).permute(2, 0, 1).unsqueeze(0).to(self.device)
        far = torch.from_numpy(np.asarray(depth, np.float32)).unsqueeze(0).to(self.device)
        return self.background_codec.encode(given, far)[0].cpu().numpy()

    @torch.no_grad()
    def decode_background(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A token (B,) to color (S, S, 3) and depth (S, S) in metres."""
        given = torch.from_numpy(np.asarray(token, np.float32)).to(self.device).unsqueeze(0)
        color, depth = self.background_codec.decode(given)
        return color[0].permute(1, 2, 0).cpu().numpy(), depth[0].cpu().numpy()


def _named(scene: SceneLatents, anchors: Anchors) -> Iterator[tuple[str, float]]:
    for number, (one, alpha) in enumerate(zip(scene.objects, anchors.objects, strict=True)):
        name = f"<{one.path}>" if one.path else f"object {number}"
        for each in fields(alpha):
            yield f"{name}'s {each.name}", getattr(alpha, each.name)
    yield from (("the camera", anchors.camera), ("the background", anchors.background))
    yield "empty slots", anchors.insertion


def _rows(variables: Variables) -> Iterator[Variables]:
    for row in range(len(variables.camera)):
        yield variables.map(lambda value, row=row: value[row : row + 1])  # type: ignore[misc]


def _stacked(rows: Iterator[Variables]) -> Variables:
    every = list(rows)
    return Variables(*(torch.cat([getattr(row, each.name) for row in every]) for each in fields(Variables)))
