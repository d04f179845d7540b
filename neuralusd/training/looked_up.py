"""Pairs of frames of which everything was looked up before: the sampler of a `render` that looks up."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F

from ..datasets.looked_up import VARIANTS, LookedUpWorld, unpacked
from ..models.lookup import FOREGROUND
from ..models.tensors import CameraTensors, SceneTensors, TokenTensors
from .config import RenderTrainingConfig

# How often something is left out of what is looked up.
_LESS = 0.3


@dataclass
class LookedUpPairs:
    """A batch: target scenes, tokens of their source frames, what was looked up (B, CHANNELS, H, W).

    `color` (B, 3, H, W) are the targets in 0..1, `foreground` (B, H, W) where they show foreground assets.
    """

    target: SceneTensors
    appearance: TokenTensors
    geometry: TokenTensors
    channels: torch.Tensor
    color: torch.Tensor
    foreground: torch.Tensor


@dataclass
class LookedUpDraw:
    """Which pairs a batch is, each (B,) on the CPU: scene, its pair, which variant, whether mirrored, the corner of the
    crop (B, 2), and gains of the colours (B, 3)."""

    scene: torch.Tensor
    pair: torch.Tensor
    variant: torch.Tensor
    mirror: torch.Tensor
    corner: torch.Tensor
    gain: torch.Tensor

    def part(self, rows: slice) -> LookedUpDraw:
        return LookedUpDraw(*(getattr(self, field.name)[rows] for field in fields(self)))


class LookedUpSampler:
    """Samples crops of pairs.

    Args:
        config: `resolution` of the crops; `mirror`, `recolor`.

    Raises:
        ValueError: the pictures are smaller than the crops.
    """

    def __init__(self, world: LookedUpWorld, device: torch.device | str, config: RenderTrainingConfig) -> None:
        self.world, self.device, self.config = world, torch.device(device), config
        if min(world.size) < config.resolution:
            raise ValueError(f"its pictures are {world.size}, smaller than crops of {config.resolution} pixels")
        self.counts = torch.tensor([len(scene["source"]) for scene in world.scenes])
        self.slots = world.slots

    def draw(self, size: int, generator: torch.Generator) -> LookedUpDraw:
        """Which `size` pairs a random batch is; `generator` is of the CPU."""

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator)

        scene = (uniform(size) * len(self.counts)).long()
        pair = (uniform(size) * self.counts[scene]).long()
        less = uniform(size) < _LESS
        variant = torch.where(less, 1 + (uniform(size) * (VARIANTS - 1)).long(), 0)
        room = torch.tensor(self.world.size) - self.config.resolution + 1
        corner = (uniform(size, 2) * room).long()
        mirror = (uniform(size) < 0.5) & self.config.mirror
        gain = 0.85 + 0.3 * uniform(size, 3) if self.config.recolor else torch.ones(size, 3)
        return LookedUpDraw(scene, pair, variant, mirror, corner, gain)

    def foreground_share(self, draw: LookedUpDraw) -> float:
        """How much of the targets shows foreground assets, in 0..1."""
        side, shares = self.config.resolution, []
        for number, index, (top, left) in zip(
            draw.scene.tolist(), draw.pair.tolist(), draw.corner.tolist(), strict=True
        ):
            shown = self.world.scenes[number]["channels"][index, 0, FOREGROUND]
            shares.append((shown[top : top + side, left : left + side] > 191).mean())
        return float(np.mean(shares))

    def of(self, draw: LookedUpDraw) -> LookedUpPairs:
        """The pairs of a draw."""
        side = self.config.resolution
        rows: dict[str, list[np.ndarray]] = {}
        for number, index, variant, corner in zip(
            draw.scene.tolist(), draw.pair.tolist(), draw.variant.tolist(), draw.corner.tolist(), strict=True
        ):
            scene = self.world.scenes[number]
            source, target = int(scene["source"][index]), int(scene["target"][index])
            crop = np.s_[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
            row = {
                "channels": unpacked(scene["channels"][index, variant][(slice(None), *crop)]),
                "color": scene["color"][target][crop].astype(np.float32).transpose(2, 0, 1) / 255,
                "background_pose": scene["background_pose"][index],
            }
            for name in ("presence", "pose_2d", "pose_3d", "has_pose_2d", "has_pose_3d"):
                row[name] = self._padded(scene[name][target])
            for modality in ("appearance", "geometry"):
                row[modality] = self._padded(scene[f"{modality}_values"][source].astype(np.float32))
                row[f"{modality}_present"] = self._padded(scene[f"{modality}_present"][source])
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        found = {name: torch.from_numpy(np.stack(values)).to(self.device) for name, values in rows.items()}
        mirror = draw.mirror.to(self.device)
        channels, color = (_flipped(found[name], mirror) for name in ("channels", "color"))
        gain = draw.gain.to(self.device)[:, :, None, None]
        color = (color * gain).clamp(0, 1)
        colors = [((channels[:, at : at + 3] + 1) * gain - 1).clamp(-1, 1) for at in (0, 5)]
        normals = channels[:, 8:11].clone()
        normals[:, 0] = torch.where(mirror[:, None, None], -normals[:, 0], normals[:, 0])
        channels = torch.cat([colors[0], channels[:, 3:5], colors[1], normals, channels[:, 11:]], 1)
        appearance, geometry = (
            self._tokens(found[name], found[f"{name}_present"]) for name in ("appearance", "geometry")
        )
        foreground = channels[:, FOREGROUND] > 0.5
        return LookedUpPairs(self._scene(found, mirror), appearance, geometry, channels, color, foreground)

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """(N, ...) of all slots."""
        return np.pad(values, [(0, self.slots - len(values)), *[(0, 0)] * (values.ndim - 1)])

    def _scene(self, found: dict[str, torch.Tensor], mirror: torch.Tensor) -> SceneTensors:
        flat_2d, flat_3d = found["pose_2d"], found["pose_3d"].unflatten(-1, (4, 3))
        flipped_2d = torch.stack([1 - flat_2d[..., 0] - flat_2d[..., 3], *flat_2d[..., 1:].unbind(-1)], -1)
        flipped_3d = torch.stack([flat_3d[..., 0], 1 - flat_3d[..., 1], flat_3d[..., 2]], -1)
        flip, size = mirror[:, None, None], len(mirror)
        eye = torch.eye(4, device=self.device).expand(size, 4, 4)
        camera = CameraTensors(eye, torch.ones(size, 4, device=self.device), torch.zeros_like(mirror))
        pose_2d = torch.where(flip, flipped_2d, flat_2d) * found["has_pose_2d"].unsqueeze(-1)
        pose_3d = torch.where(flip, flipped_3d.flatten(-2), flat_3d.flatten(-2)) * found["has_pose_3d"].unsqueeze(-1)
        return SceneTensors(
            camera=camera,
            local_to_world=eye[:, None].expand(size, self.slots, 4, 4),
            extent=torch.zeros(size, self.slots, 2, 3, device=self.device),
            presence=found["presence"],
            pose_2d=pose_2d,
            pose_3d=pose_3d,
            has_pose_2d=found["has_pose_2d"],
            has_pose_3d=found["has_pose_3d"],
            background_pose=found["background_pose"],
        )

    def _tokens(self, values: torch.Tensor, present: torch.Tensor) -> TokenTensors:
        size, count, length = values.shape[:3]
        points = torch.full((size, count, length, 3), torch.nan, device=self.device)
        return TokenTensors(values, points, torch.zeros(size, count, 2, 3, device=self.device), present)


def _flipped(image: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
    return torch.where(mirror[:, None, None, None], image.flip(3), image)


def edges(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of neighbours (B, C, H, W - 1) and (B, C, H - 1, W)."""
    return image.diff(dim=3), image.diff(dim=2)


def edge_loss(prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far the differences between neighbours are off, a mean: what keeps pictures sharp."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(edges(prediction), edges(wanted), strict=True)]).mean()
