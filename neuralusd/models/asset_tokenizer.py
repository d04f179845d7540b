"""From tokens and poses to what a denoiser is conditioned on (Neural USD, sections 3.3.2 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .landing import FACTS, TokenLanding
from .tensors import SceneTensors, TokenTensors


@dataclass
class Keep:
    """What is not dropped, each (B, N) of 0 and 1: whole assets, modalities, the two poses, and landing."""

    asset: torch.Tensor
    appearance: torch.Tensor
    geometry: torch.Tensor
    pose_2d: torch.Tensor
    pose_3d: torch.Tensor
    landing: torch.Tensor

    @classmethod
    def all(cls, scene: SceneTensors) -> Keep:
        return cls(*(torch.ones_like(scene.presence) for _ in range(6)))

    @classmethod
    def none(cls, scene: SceneTensors) -> Keep:
        return cls(*(torch.zeros_like(scene.presence) for _ in range(6)))

    @classmethod
    def sample(
        cls, scene: SceneTensors, *, modality: float, pose: float, everything: float, landing: float = 0.0
    ) -> Keep:
        """Random dropout with these probabilities (section 3.5, appendix C).

        Each asset drops each modality, each of its poses and itself on its own; with probability `everything` a scene drops all.
        """
        shape, device = scene.presence.shape, scene.presence.device

        def kept(probability: float, size: tuple[int, ...]) -> torch.Tensor:
            return (torch.rand(size, device=device) >= probability).float()

        anything = kept(everything, (shape[0], 1))
        # An asset that lost both of its modalities, the pair of them by chance, is the asset that is dropped whole.
        appearance, geometry = kept(modality, shape) * anything, kept(modality, shape) * anything
        return cls(
            asset=torch.maximum(appearance, geometry),
            appearance=appearance,
            geometry=geometry,
            pose_2d=kept(pose, shape) * anything,
            pose_3d=kept(pose, shape) * anything,
            landing=kept(landing, (shape[0], 1)).expand(shape) * anything,
        )


@dataclass
class Conditioning:
    """`tokens` (B, T, M) for cross-attention; `mask` (B, T) bool, which of them are of present assets; `landing`
    (B, C, latent, latent), the extra input channels, or None in the plain recipe."""

    tokens: torch.Tensor
    mask: torch.Tensor
    landing: torch.Tensor | None


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class AssetTokenizer(ModelMixin, ConfigMixin):
    """Equations 1 to 7: pose MLPs, channel-wise concatenation, the asset MLP, token-wise concatenation.

    Args:
        appearance_dim, geometry_dim: D of the encoders. grid: their cells.
        pose_dim: D' of each pose embedding. hidden_dim: width of the MLPs. cross_attention_dim: width of the result.
        log_depth: the depth of a box corner enters as its logarithm, which serves stages of every size; False is the paper's metres.
        landing_channels: features an appearance token lands with; geometry lands with half of them. 0 is the paper's plain recipe.
        landing_factor: see `TokenLanding`. landing_resolution: side of the grid tokens land on, a multiple of `latent_size`.
        latent_size: side of the latent the denoiser works on.
    """

    @register_to_config
    def __init__(
        self,
        appearance_dim: int = 128,
        geometry_dim: int = 128,
        grid: tuple[int, int] = (16, 16),
        pose_dim: int = 128,
        hidden_dim: int = 512,
        cross_attention_dim: int = 256,
        log_depth: bool = True,
        landing_channels: int = 16,
        landing_factor: int = 4,
        landing_resolution: int = 64,
        latent_size: int = 32,
    ) -> None:
        super().__init__()
        self.pose_2d = _mlp(4, hidden_dim, pose_dim)
        self.pose_3d = _mlp(12, hidden_dim, pose_dim)
        self.background_pose = _mlp(12, hidden_dim, pose_dim)
        self.asset = _mlp(appearance_dim + geometry_dim + 2 * pose_dim, hidden_dim, cross_attention_dim)
        # Attention needs something to look at when a scene has no asset in view.
        self.nothing = nn.Parameter(torch.zeros(1, 1, cross_attention_dim))
        if landing_channels:
            if landing_resolution % latent_size:
                raise ValueError(f"`landing_resolution` {landing_resolution} must be a multiple of `latent_size` {latent_size}")
            grid = (grid[0], grid[1])
            self.appearance_landing = TokenLanding(
                appearance_dim, grid, landing_factor, landing_channels, landing_resolution
            )
            self.geometry_landing = TokenLanding(
                geometry_dim, grid, landing_factor, landing_channels // 2, landing_resolution
            )

    @property
    def landing_channels(self) -> int:
        """Extra input channels of the denoiser."""
        features = self.config.landing_channels
        if not features:
            return 0
        folded = (self.config.landing_resolution // self.config.latent_size) ** 2
        return (features + features // 2 + 2 * FACTS) * folded

    def forward(
        self, scene: SceneTensors, appearance: TokenTensors, geometry: TokenTensors, keep: Keep | None = None
    ) -> Conditioning:
        """Conditions of target scenes on tokens; `keep` drops parts of it."""
        keep = keep or Keep.all(scene)
        batch, count, length, _ = appearance.values.shape
        keep_appearance = keep.appearance * appearance.present
        keep_geometry = keep.geometry * geometry.present
        pose_3d = scene.pose_3d
        if self.config.log_depth:
            corners = pose_3d.unflatten(-1, (4, 3))
            pose_3d = torch.cat([corners[..., :2], corners[..., 2:].clamp_min(1e-3).log()], -1).flatten(-2)
        embedded_3d = self.pose_3d(pose_3d) * scene.has_pose_3d.unsqueeze(-1)
        background = F.pad(self.background_pose(scene.background_pose).unsqueeze(1), (0, 0, 0, count - 1))
        embedded_3d = (embedded_3d + background) * keep.pose_3d.unsqueeze(-1)
        embedded_2d = self.pose_2d(scene.pose_2d) * (scene.has_pose_2d * keep.pose_2d).unsqueeze(-1)
        parts = [
            appearance.values * keep_appearance[..., None, None],
            geometry.values * keep_geometry[..., None, None],
            embedded_3d.unsqueeze(2).expand(-1, -1, length, -1),
            embedded_2d.unsqueeze(2).expand(-1, -1, length, -1),
        ]
        assets = self.asset(torch.cat([part.to(embedded_2d.dtype) for part in parts], -1))
        assets = assets * (scene.presence * keep.asset)[..., None, None].to(assets.dtype)
        tokens = torch.cat([assets.flatten(1, 2), self.nothing.expand(batch, -1, -1).to(assets.dtype)], 1)
        mask = F.pad((scene.presence > 0).repeat_interleave(length, 1), (0, 1), value=True)
        landing = None
        if self.config.landing_channels:
            present = scene.presence * keep.asset * keep.landing
            landing = torch.cat(
                [
                    self.appearance_landing(scene, appearance, present * keep_appearance),
                    self.geometry_landing(scene, geometry, present * keep_geometry),
                ],
                1,
            )
            landing = F.pixel_unshuffle(landing, self.config.landing_resolution // self.config.latent_size)
        return Conditioning(tokens, mask, landing)
