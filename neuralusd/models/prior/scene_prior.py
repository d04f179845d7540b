"""G of Anchored Generation: a transformer over a scene's latents (section 2.3)."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .variables import POSE_DIM, Times, Variables

# Sines and cosines that tell a diffusion time.
WAVES = 32


class Level(nn.Module):
    """A diffusion time (...) in 0..1 as features (..., width)."""

    frequency: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))
        half = torch.arange(WAVES) / WAVES
        self.register_buffer("frequency", 1000 * torch.exp(-math.log(10_000) * half), persistent=False)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        angle = time.unsqueeze(-1) * self.frequency
        return self.layers(torch.cat([angle.cos(), angle.sin()], -1))


class Waves(nn.Module):
    """Numbers (..., D) with their sines and cosines (..., D * (1 + 2 * frequencies)), the wavelengths halving from 8:
    a transformer hears from them where things are to the centimetre long before it does from the numbers."""

    frequency: torch.Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("frequency", 2 * math.pi / 8 * 2.0 ** torch.arange(frequencies), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        angle = (values.unsqueeze(-1) * self.frequency).flatten(-2)
        return torch.cat([values, angle.cos(), angle.sin()], -1)


class ScenePrior(ModelMixin, ConfigMixin):
    """Velocities and presence of noised scene latents.

    A token an object (its pose, appearance and presence, each at a time of its own), one for the camera and one for the
    background; no positions, since the slots of a scene have no order.

    Args:
        slots: N_max. tokens, token_dim: K and D of the appearance. background_dim: of the background token.
        width, layers, heads: of the transformer. The paper's has 12 layers and 118 M parameters; its width, and N_max
            and K, it does not say.
        frequencies: of the poses' `Waves`; 0 has none, as the paper.
    """

    @register_to_config
    def __init__(
        self,
        slots: int = 16,
        tokens: int = 4,
        token_dim: int = 256,
        background_dim: int = 768,
        width: int = 876,
        layers: int = 12,
        heads: int = 12,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        appearance = tokens * token_dim
        sizes = {"pose": POSE_DIM, "appearance": appearance, "camera": 2, "background": background_dim}
        self.waves = Waves(frequencies)
        told = {**sizes, "pose": POSE_DIM * (1 + 2 * frequencies)}
        self.inputs = nn.ModuleDict({name: nn.Linear(size, width) for name, size in told.items()})
        self.presence = nn.Embedding(3, width)
        self.levels = nn.ModuleDict({name: Level(width) for name in (*sizes, "presence")})
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.outputs = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
        self.presence_logit = nn.Linear(width, 1)
        # What brings translations, quaternions and log scales, and log focal lengths, to a deviation of 1.
        for name in ("pose", "camera"):
            self.register_buffer(f"{name}_mean", torch.zeros(sizes[name]))
            self.register_buffer(f"{name}_deviation", torch.ones(sizes[name]))

    def forward(self, noisy: Variables, times: Times) -> tuple[Variables, torch.Tensor]:
        """The velocities u_0 - epsilon (`presence` of them has no meaning), and logits (B, N) of being present."""

        def told(name: str) -> torch.Tensor:
            value = self.waves(noisy.pose) if name == "pose" else getattr(noisy, name)
            return self.inputs[name](value) + self.levels[name](getattr(times, name))

        objects = (
            told("pose") + told("appearance") + self.presence(noisy.presence) + self.levels["presence"](times.presence)
        )
        tokens = torch.cat([objects, told("camera").unsqueeze(1), told("background").unsqueeze(1)], 1)
        features = self.transformer(tokens)
        objects, camera, background = features[:, :-2], features[:, -2], features[:, -1]
        velocity = Variables(
            self.outputs["pose"](objects),
            self.outputs["appearance"](objects),
            noisy.presence,
            self.outputs["camera"](camera),
            self.outputs["background"](background),
        )
        return velocity, self.presence_logit(objects).squeeze(-1)
