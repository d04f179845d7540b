"""Scene latents as tokens that a denoiser can attend to (Anchored Generation, equations 1, 4, 5, 8 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ...latents import ObjectLatents, SceneLatents
from .attention import fourier, fourier_width

# Numbers of a pose: position on the ray's plane and its logarithm of depth, position, rotation matrix, log of scale.
_POSE = (3, 3, 9, 3)
# Nearer objects, and those behind the camera, are told as if they were here; metres.
_NEAREST = 0.05


@dataclass
class SceneBatch:
    """Latents of B scenes, N slots each; what an empty slot holds does not matter.

    Attributes:
        translation: (B, N, 3) metres, camera space. rotation: (B, N, 4) w, x, y, z. scale: (B, N, 3) metres.
        appearance: (B, N, K, D). presence: (B, N) bool. focal: (B, 2). background: (B, W). See `SceneLatents`.
    """

    translation: torch.Tensor
    rotation: torch.Tensor
    scale: torch.Tensor
    appearance: torch.Tensor
    presence: torch.Tensor
    focal: torch.Tensor
    background: torch.Tensor

    def __len__(self) -> int:
        return len(self.focal)

    def to(self, device: torch.device | str) -> SceneBatch:
        """The same on a device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


class SceneTokenizer(ModelMixin, ConfigMixin):
    """Scene latents to tokens: one that is always there, the camera's, the background's, K of each object.

    A token of an object is its appearance token and the embedding of its pose, summed with an embedding of which of
    the K it is. There is none of which slot: objects are a set. The pose is told as translation, rotation matrix (a
    quaternion and its negative are one rotation) and logarithm of the scale, and again as the picture has it: where
    the ray through the middle meets the plane at distance 1, and the logarithm of the depth. All but the matrix also as
    sines and cosines. The camera is told as the logarithms of f_x and f_y. All of these choices are ours.

    Args:
        slots: N_max. tokens, token_dim: K and D of the appearance. background_dim: of the background token.
        context_dim: width of the result. hidden_dim: of the MLPs. frequencies: of sines and cosines.
        encoder: whose appearance and background tokens these are; "" does not check.
    """

    @register_to_config
    def __init__(
        self,
        slots: int = 16,
        tokens: int = 4,
        token_dim: int = 256,
        background_dim: int = 768,
        context_dim: int = 1024,
        hidden_dim: int = 1024,
        frequencies: int = 8,
        encoder: str = "",
        revision: str = "",
    ) -> None:
        super().__init__()
        wide = [width if width == 9 else fourier_width(width, frequencies) for width in _POSE]
        self.pose = _mlp(sum(wide), hidden_dim, context_dim)
        self.camera = _mlp(fourier_width(2, frequencies), hidden_dim, context_dim)
        self.appearance = nn.Linear(token_dim, context_dim)
        self.which = nn.Parameter(torch.randn(tokens, context_dim) * 0.02)
        self.background = nn.Linear(background_dim, context_dim)
        self.nothing = nn.Parameter(torch.randn(1, 1, context_dim) * 0.02)
        self.kinds = nn.Parameter(torch.randn(3, context_dim) * 0.02)

    def batch(self, scenes: Sequence[SceneLatents]) -> SceneBatch:
        """Scenes as tensors.

        Raises:
            ValueError: a scene has more objects than slots, or tokens of another encoder or size, or none, or a number
                that is not finite.
        """
        config = self.config
        rows = []
        for scene in scenes:
            present = [each for each in scene.objects if each.presence]
            if len(present) > config.slots:
                raise ValueError(f"the scene has {len(present)} objects, and this decoder {config.slots} slots")
            self._check(scene, present)
            empty = _empty((config.tokens, config.token_dim))
            padded = [*present, *[empty] * (config.slots - len(present))]
            rows.append(
                (
                    np.stack([each.translation for each in padded]),
                    np.stack([each.rotation for each in padded]),
                    np.stack([each.scale for each in padded]),
                    np.stack([np.asarray(each.appearance) for each in padded]),
                    np.array([index < len(present) for index in range(config.slots)]),
                    scene.focal,
                    scene.background,
                )
            )
        columns = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        return SceneBatch(*(column if column.dtype == torch.bool else column.float() for column in columns))

    def _check(self, scene: SceneLatents, present: Sequence[ObjectLatents]) -> None:
        config = self.config
        if config.encoder and (scene.encoder, scene.revision) != (config.encoder, config.revision):
            raise ValueError(
                f"the scene's tokens are of {scene.encoder or 'no encoder'} {scene.revision}, and this decoder reads "
                f"{config.encoder} {config.revision}; encode the scene again with that"
            )
        for each in present:
            name = each.path or each.text or "an object"
            if each.appearance is None:
                raise ValueError(f"{name} has no appearance tokens; encode it first")
            shapes = {
                "appearance": (each.appearance, (config.tokens, config.token_dim)),
                "translation": (each.translation, (3,)),
                "rotation": (each.rotation, (4,)),
                "scale": (each.scale, (3,)),
            }
            for what, (value, shape) in shapes.items():
                _check_array(f"{name}: {what}", value, shape)
            if np.min(each.scale) <= 0:
                raise ValueError(f"{name}: scale is {each.scale}, and each side of a box is longer than 0")
            if not np.linalg.norm(each.rotation) > 1e-6:
                raise ValueError(f"{name}: rotation is {each.rotation}, which is no quaternion of a rotation")
        if scene.background is None:
            raise ValueError("the scene has no background token; encode its background first")
        _check_array("the background token", scene.background, (config.background_dim,))
        _check_array("the camera's focal lengths", scene.focal, (2,))
        if np.min(scene.focal) <= 0:
            raise ValueError(f"the camera's focal lengths are {scene.focal}, and have to be above 0")

    def forward(self, scene: SceneBatch, keep: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, T, context_dim) and which of them there are, (B, T) bool; T is 3 + N K.

        `keep` (B,) bool: of which scenes anything is told at all; None, of every one. Of the others only the token that
        is always there is left: that is what classifier-free guidance is away from.
        """
        scene = _without_absent(scene)
        dtype = self.nothing.dtype
        camera = fourier(scene.focal.float().log(), self.config.frequencies)
        camera = self.camera(camera.to(dtype)) + self.kinds[0]
        background = self.background(scene.background.to(dtype)) + self.kinds[1]
        pose = self.pose(self._pose(scene).to(dtype)) + self.kinds[2]
        objects = self.appearance(scene.appearance.to(dtype)) + self.which + pose.unsqueeze(2)
        context = torch.stack([camera, background], 1)
        tokens = torch.cat([self.nothing.expand(len(scene), -1, -1), context, objects.flatten(1, 2)], 1)
        told = scene.presence.new_ones(len(scene), 2)
        mask = torch.cat([told, scene.presence.repeat_interleave(objects.shape[2], 1)], 1)
        if keep is not None:
            mask = mask & keep.unsqueeze(1)
        return tokens, torch.cat([mask.new_ones(len(scene), 1), mask], 1)

    def _pose(self, scene: SceneBatch) -> torch.Tensor:
        translation = scene.translation.float()
        depth = (-translation[..., 2:]).clamp_min(_NEAREST)
        seen = torch.cat([translation[..., :2] / depth, depth.log()], -1)
        matrix = quaternion_matrix(scene.rotation.float()).flatten(-2)
        parts = (seen, translation / 4, scene.scale.float().clamp_min(1e-3).log())
        return torch.cat([*(fourier(part, self.config.frequencies) for part in parts), matrix], -1)


def quaternion_matrix(quaternion: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) w, x, y, z of any length above 0."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _without_absent(scene: SceneBatch) -> SceneBatch:
    """With empty slots that all hold the same: masked is not enough, for what is not finite passes through a mask."""
    there = scene.presence

    def kept(values: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
        return torch.where(there.view(*there.shape, *[1] * (values.ndim - 2)), values, empty.to(values))

    return replace(
        scene,
        translation=kept(scene.translation, torch.tensor([0.0, 0.0, -1.0])),
        rotation=kept(scene.rotation, torch.tensor([1.0, 0.0, 0.0, 0.0])),
        scale=kept(scene.scale, torch.ones(3)),
        appearance=kept(scene.appearance, torch.zeros(())),
    )


def _empty(shape: tuple[int, int]) -> ObjectLatents:
    return ObjectLatents(np.array([0.0, 0, -1]), np.array([1.0, 0, 0, 0]), np.ones(3), np.zeros(shape), presence=False)


def _check_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{name} is of {np.shape(value)}, and this decoder takes {shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} holds what is no finite number")


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))
