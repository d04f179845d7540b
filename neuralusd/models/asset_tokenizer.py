"""From tokens and poses to what a denoiser is conditioned on (Neural USD, sections 3.3.2 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .box_landing import BOX_FACTS, land_boxes
from .landing import FACTS, TokenLanding
from .lookup import CHANNELS
from .tensors import SceneTensors, TokenTensors

USES = ("appearance", "geometry", "pose_2d", "pose_3d")


@dataclass
class Keep:
    """What is not dropped, each (B, N) of 0 and 1: whole assets, modalities, the two poses, and the two ways in.

    A modality or pose that is dropped is gone from both ways, cross-attention and landing. `attention` and `landing`
    close one way alone.
    """

    asset: torch.Tensor
    appearance: torch.Tensor
    geometry: torch.Tensor
    pose_2d: torch.Tensor
    pose_3d: torch.Tensor
    attention: torch.Tensor
    landing: torch.Tensor

    @classmethod
    def all(cls, scene: SceneTensors) -> Keep:
        return cls(**{part.name: torch.ones_like(scene.presence) for part in fields(cls)})

    @classmethod
    def none(cls, scene: SceneTensors) -> Keep:
        return cls(**{part.name: torch.zeros_like(scene.presence) for part in fields(cls)})

    @classmethod
    def sample(
        cls,
        scene: SceneTensors,
        *,
        modality: float,
        pose: float,
        everything: float,
        landing: float = 0.0,
        nothing: float = 0.0,
    ) -> Keep:
        """Random dropout with these probabilities (section 3.5, appendix C).

        Each asset drops each modality, each of its poses and itself on its own; with probability `everything` a scene
        drops all, with probability `nothing` it drops nothing.
        """
        shape, device = scene.presence.shape, scene.presence.device

        def kept(probability: float, size: tuple[int, ...]) -> torch.Tensor:
            return (torch.rand(size, device=device) >= probability).float()

        every = 1 - kept(nothing, (shape[0], 1))
        anything = torch.maximum(kept(everything, (shape[0], 1)), every)

        def kept_parts(probability: float) -> torch.Tensor:
            return torch.maximum(kept(probability, shape) * anything, every)

        # An asset that lost both of its modalities, the pair of them by chance, is the asset that is dropped whole.
        appearance, geometry = kept_parts(modality), kept_parts(modality)
        return cls(
            asset=torch.maximum(appearance, geometry),
            appearance=appearance,
            geometry=geometry,
            pose_2d=kept_parts(pose),
            pose_3d=kept_parts(pose),
            attention=torch.ones(shape, device=device),
            landing=torch.maximum(kept(landing, (shape[0], 1)).expand(shape) * anything, every),
        )


@dataclass
class Conditioning:
    """What a denoiser is conditioned on.

    `tokens` (B, T, M) for cross-attention; `mask` (B, T) bool, which of them are of present assets; `landing` (B, C,
    latent, latent), the extra input channels; `base` (B, latent channels, latent, latent), the picture that landed,
    to which the denoiser's prediction of the sample is added. The last two are None in the plain recipe.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    landing: torch.Tensor | None
    base: torch.Tensor | None


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class AssetTokenizer(ModelMixin, ConfigMixin):
    """Equations 1 to 7: pose MLPs, channel-wise concatenation, the asset MLP, token-wise concatenation.

    Args:
        appearance_dim, geometry_dim: D of the encoders. grid: their cells.
        pose_dim: D' of each pose embedding. hidden_dim: width of the MLPs. cross_attention_dim: width of the result.
        log_depth: the depth of a box corner enters as its logarithm, which serves stages of every size; False is the
            paper's metres.
        attention_pool: cells of a crop's side that cross-attention sees as one; 1 is the paper's.
        appearance_landing, geometry_landing: (channels, factor, resolution) of `TokenLanding`; None is the paper's
            plain recipe. box_landing: resolution at which boxes land; None leaves them out.
        latent_size, latent_channels: of what the denoiser works on.
        uses: modalities and poses that are used at all; Neural Assets uses "appearance" and "pose_3d" alone.
        mirror_landing: what the source did not see of an object lands as its other side, mirrored.
        lookup: pixels of a latent's side; the denoiser is told what was looked up of them (`neuralusd.models.lookup`),
            in place of what tokens land. None leaves it out.
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
        attention_pool: int = 1,
        appearance_landing: tuple[int, int, int] | None = (4, 8, 128),
        geometry_landing: tuple[int, int, int] | None = (4, 4, 64),
        box_landing: int | None = None,
        latent_size: int = 32,
        latent_channels: int = 48,
        uses: tuple[str, ...] = USES,
        mirror_landing: bool = False,
        lookup: int | None = None,
    ) -> None:
        super().__init__()
        self.pose_2d = _mlp(4, hidden_dim, pose_dim)
        self.pose_3d = _mlp(12, hidden_dim, pose_dim)
        self.background_pose = _mlp(12, hidden_dim, pose_dim)
        self.asset = _mlp(appearance_dim + geometry_dim + 2 * pose_dim, hidden_dim, cross_attention_dim)
        # Attention needs something to look at when a scene has no asset in view.
        self.nothing = nn.Parameter(torch.zeros(1, 1, cross_attention_dim))
        if lookup or appearance_landing is None or geometry_landing is None:
            return
        grid = (grid[0], grid[1])
        for name, width, (channels, factor, resolution) in (
            ("land_appearance", appearance_dim, appearance_landing),
            ("land_geometry", geometry_dim, geometry_landing),
        ):
            if resolution % latent_size:
                raise ValueError(
                    f"`{name}` lands at {resolution}, which must be a multiple of `latent_size` {latent_size}"
                )
            covers = name == "land_appearance"
            landing = TokenLanding(width, grid, factor, channels, resolution, covers, mirror_landing)
            setattr(self, name, landing)
        channels, _, resolution = appearance_landing
        patch = (resolution // latent_size) ** 2
        self.base = nn.Conv2d((channels + FACTS) * patch, latent_channels, 1)
        with torch.no_grad():
            for parameter in self.base.parameters():
                parameter.zero_()
            for channel in range(min(latent_channels, channels * patch)):
                self.base.weight[channel, channel] = 1

    @property
    def landing_channels(self) -> int:
        """Extra input channels of the denoiser."""
        if self.config.lookup:
            return CHANNELS * self.config.lookup**2
        shapes = (self.config.appearance_landing, self.config.geometry_landing)
        if None in shapes:
            return 0
        lands = [(c + FACTS, resolution) for c, _, resolution in shapes]
        if self.config.box_landing:
            lands.append((shapes[0][0] + BOX_FACTS, self.config.box_landing))
        return sum(c * (resolution // self.config.latent_size) ** 2 for c, resolution in lands)

    def forward(
        self, scene: SceneTensors, appearance: TokenTensors, geometry: TokenTensors, keep: Keep | None = None
    ) -> Conditioning:
        """Conditions of target scenes on tokens; `keep` drops parts of it."""
        unused = set(USES) - set(self.config.uses)
        keep = replace(keep or Keep.all(scene), **dict.fromkeys(unused, torch.zeros_like(scene.presence)))
        batch, count = scene.presence.shape
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
        values = [
            self._pooled(appearance.values * keep_appearance[..., None, None]),
            self._pooled(geometry.values * keep_geometry[..., None, None]),
        ]
        length = values[0].shape[2]
        parts = [*values, *(pose.unsqueeze(2).expand(-1, -1, length, -1) for pose in (embedded_3d, embedded_2d))]
        assets = self.asset(torch.cat([part.to(embedded_2d.dtype) for part in parts], -1))
        assets = assets * (scene.presence * keep.asset * keep.attention)[..., None, None].to(assets.dtype)
        tokens = torch.cat([assets.flatten(1, 2), self.nothing.expand(batch, -1, -1).to(assets.dtype)], 1)
        mask = F.pad((scene.presence > 0).repeat_interleave(length, 1), (0, 1), value=True)
        if self.config.lookup or not self.landing_channels:
            return Conditioning(tokens, mask, None, None)
        # By its points an asset lands with its 3D pose; as a card with either pose that it has; else nowhere. But a
        # background without a pose stays where it was seen.
        known = (torch.isfinite(appearance.points).all(-1) | torch.isfinite(geometry.points).all(-1)).any(-1)
        pointwise = keep.geometry * keep.pose_3d * known
        card = torch.maximum(keep.pose_3d * scene.has_pose_3d, keep.pose_2d * scene.has_pose_2d)
        placed = torch.maximum(pointwise, card)
        placed = torch.cat([torch.ones_like(placed[:, :1]), placed[:, 1:]], 1)
        present = scene.presence * keep.asset * keep.landing * placed
        # What has neither points nor a 3D pose has no box in space.
        boxed = keep.pose_3d * torch.maximum(scene.has_pose_3d, known.to(keep.pose_3d.dtype))
        landed = []
        for landing, of in ((self.land_appearance, appearance), (self.land_geometry, geometry)):
            kept = keep_appearance if of is appearance else keep_geometry
            picture = landing(scene, of, present * kept, pointwise, keep.pose_3d)
            landed.append(F.pixel_unshuffle(picture, landing.resolution // self.config.latent_size))
        if self.config.box_landing:
            look = self.land_appearance.summary(appearance, present * keep_appearance)
            boxes = land_boxes(scene, look, present * boxed, self.config.box_landing)
            landed.append(F.pixel_unshuffle(boxes, self.config.box_landing // self.config.latent_size))
        return Conditioning(tokens, mask, torch.cat(landed, 1), self.base(landed[0]))

    def _pooled(self, values: torch.Tensor) -> torch.Tensor:
        """(B, N, K, D) with the mean of each `attention_pool` squared cells in place of them."""
        pool = self.config.attention_pool
        if pool == 1:
            return values
        rows, columns = self.config.grid
        cells = values.unflatten(2, (rows // pool, pool, columns // pool, pool))
        return cells.mean((3, 5)).flatten(2, 3)
