"""Paired frames on the training device (Neural USD, section 3.6): tokens from a source frame, pose from a target
frame."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F

from ..datasets.compressed import KINDS
from ..datasets.packed import PackedWorld
from ..models.tensors import CameraTensors, SceneTensors

# Bytes up to which a world's pictures are decoded once and kept, for speed.
DECODED_LIMIT = 4 * 2**30


def stays_decoded(world: PackedWorld) -> bool:
    """Whether `PairSampler` keeps this world's pictures decoded."""
    return world.decoded_nbytes <= DECODED_LIMIT


@dataclass
class Sources:
    """Source frames: `color` (B, 3, H, W) sRGB in 0..1, `depth` (B, H, W), `masks` (B, N, H, W), the camera, and
    `local_to_world` (B, N, 4, 4) at the frame's time."""

    color: torch.Tensor
    depth: torch.Tensor
    masks: torch.Tensor
    camera: CameraTensors
    local_to_world: torch.Tensor


@dataclass
class Pairs:
    """A batch: appearance comes from one source frame, geometry from one of the same scene, the target is a third.

    `color` (B, 3, H, W) is the target in 0..1, `foreground` (B, H, W) where it shows foreground assets.
    """

    appearance: Sources
    geometry: Sources
    target: SceneTensors
    color: torch.Tensor
    foreground: torch.Tensor


@dataclass
class Draw:
    """Which pairs a batch is: `appearance`, `geometry` and `target` (B,) frames of the world, `mirror` (B,) bool,
    `recolor` (B, 3, 3) colour matrices. All on the CPU."""

    appearance: torch.Tensor
    geometry: torch.Tensor
    target: torch.Tensor
    mirror: torch.Tensor
    recolor: torch.Tensor

    def part(self, rows: slice) -> Draw:
        return Draw(*(getattr(self, field.name)[rows] for field in fields(self)))


class PairSampler:
    """Samples pairs from a packed world.

    The world stays in the memory of the host; only a batch's frames go to `device`. Pictures of a world that decoded
    takes more than `DECODED_LIMIT` are decoded as they are drawn.

    Args:
        same_frame: probability that source and target are one frame. paired: False makes that probability 1.
        separate_sources, mirror, recolor: see `RenderTrainingConfig`.

    Raises:
        ValueError: no scene of the world has two frames.
    """

    def __init__(
        self,
        world: PackedWorld,
        device: torch.device | str,
        *,
        same_frame: float,
        paired: bool = True,
        separate_sources: float = 0.5,
        mirror: bool = True,
        recolor: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.same_frame = same_frame if paired else 1.0
        self.separate_sources, self.mirror, self.recolor = separate_sources, mirror, recolor
        names = [name for name in PackedWorld.__dataclass_fields__ if name not in ("names", "scene", *KINDS)]
        self.frames = {name: torch.from_numpy(getattr(world, name)) for name in names}
        self.pictures = {name: getattr(world, name) for name in KINDS}
        if stays_decoded(world):
            self.pictures = {name: pictures[:] for name, pictures in self.pictures.items()}
        groups = world.frames_by_scene()
        if not groups:
            raise ValueError("training takes pairs of frames of one scene, but no scene of this world has two frames")
        self.sizes = torch.tensor([len(group) for group in groups])
        table = np.zeros((len(groups), max(len(group) for group in groups)), np.int64)
        for row, group in enumerate(groups):
            table[row, : len(group)] = group
        self.table = torch.from_numpy(table)

    @property
    def slots(self) -> int:
        """N, the slots of a scene."""
        return self.frames["presence"].shape[1]

    def draw(self, size: int, generator: torch.Generator) -> Draw:
        """Which `size` pairs a random batch is; `generator` is of the CPU."""

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator)

        scenes = (uniform(size) * len(self.sizes)).long()
        count = self.sizes[scenes]
        target = (uniform(size) * count).long()
        other = (target + 1 + (uniform(size) * (count - 1)).long()) % count
        another = (target + 1 + (uniform(size) * (count - 1)).long()) % count
        same = uniform(size) < self.same_frame
        appearance = torch.where(same, target, other)
        geometry = torch.where(same | (uniform(size) >= self.separate_sources), appearance, another)
        mirror = (uniform(size) < 0.5) & self.mirror
        recolor = self._recolor(uniform(size, 3), uniform(size))
        if not self.recolor:
            recolor = torch.eye(3).expand(size, 3, 3)
        appearance, geometry, target = (self.table[scenes, frames] for frames in (appearance, geometry, target))
        return Draw(appearance, geometry, target, mirror, recolor)

    def sample(self, size: int, generator: torch.Generator) -> Pairs:
        """A random batch of `size` pairs."""
        return self.of(self.draw(size, generator))

    def of(self, draw: Draw) -> Pairs:
        """The pairs of a draw."""
        recolor = draw.recolor if self.recolor else None
        return self.pairs(draw.appearance, draw.geometry, draw.target, draw.mirror, recolor)

    def foreground_share(self, draw: Draw) -> float:
        """How much of the target frames shows foreground assets, in 0..1."""
        return float((self.pictures["ids"][draw.target.numpy()] > 0).mean())

    def pairs(
        self,
        appearance: torch.Tensor,
        geometry: torch.Tensor,
        target: torch.Tensor,
        mirror: torch.Tensor | None = None,
        recolor: torch.Tensor | None = None,
    ) -> Pairs:
        """The batch of these frames: each argument (B,) indices into the world, `mirror` (B,) bool, `recolor` (B, 3, 3)
        colour matrices.
        """
        mirror = (torch.zeros_like(target, dtype=torch.bool) if mirror is None else mirror).to(self.device)
        recolor = None if recolor is None else recolor.to(self.device)
        appearance_source = self._source(appearance, mirror, recolor)
        geometry_source = self._source(geometry, mirror, None)
        scene = self._target(target, mirror, appearance_source)
        return Pairs(
            appearance_source,
            geometry_source,
            scene,
            self._color(target, mirror, recolor),
            _mirrored(self._take("ids", target), mirror) > 0,
        )

    def _take(self, name: str, index: torch.Tensor) -> torch.Tensor:
        """These frames of a field, on the device."""
        if name in self.pictures:
            return torch.from_numpy(self.pictures[name][index.numpy()]).to(self.device)
        return self.frames[name][index].to(self.device)

    @staticmethod
    def _recolor(gain: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
        """(B, 3, 3) colour matrices: gains of 0.8 to 1.2 a channel, and for a quarter of the batch the channels
        turned."""
        matrices = torch.diag_embed(0.8 + 0.4 * gain)
        turned = matrices.roll(1, -1)
        return torch.where((choice < 0.25)[:, None, None], turned, matrices)

    def _color(self, index: torch.Tensor, mirror: torch.Tensor, recolor: torch.Tensor | None) -> torch.Tensor:
        color = _mirrored(self._take("color", index).float() / 255, mirror, 2)
        if recolor is not None:
            color = torch.einsum("bhwc,bdc->bhwd", color, recolor).clamp(0, 1)
        return color.permute(0, 3, 1, 2)

    def _camera(self, index: torch.Tensor, mirror: torch.Tensor) -> CameraTensors:
        flip = torch.tensor([-1.0, 1, 1, 1], device=self.device)
        world_to_camera = self._take("world_to_camera", index)
        world_to_camera = torch.where(mirror[:, None, None], world_to_camera * flip, world_to_camera)
        intrinsics = self._take("intrinsics", index)
        flip = torch.tensor([1.0, 1, -1, 1], device=self.device)
        intrinsics = torch.where(mirror[:, None], intrinsics * flip, intrinsics)
        return CameraTensors(world_to_camera, intrinsics, torch.zeros_like(mirror))

    def _source(self, index: torch.Tensor, mirror: torch.Tensor, recolor: torch.Tensor | None) -> Sources:
        ids = _mirrored(self._take("ids", index), mirror)
        slots = torch.arange(self.slots, device=self.device)
        masks = (ids.unsqueeze(1) == slots[:, None, None]) & (self._take("presence", index) > 0)[..., None, None]
        # As the pipeline encodes: outlines, where a pixel shows both, are not the background's.
        around = F.max_pool2d((ids > 0).float().unsqueeze(1), 3, 1, 1)[:, 0] > 0
        masks[:, 0] &= ~around
        return Sources(
            self._color(index, mirror, recolor),
            _mirrored(self._take("depth", index), mirror).float(),
            masks.float(),
            self._camera(index, mirror),
            self._take("local_to_world", index),
        )

    def _target(self, index: torch.Tensor, mirror: torch.Tensor, source: Sources) -> SceneTensors:
        frames = {name: self._take(name, index) for name in self.frames}
        camera = self._camera(index, mirror)
        flat_2d, flat_3d = frames["pose_2d"], frames["pose_3d"].unflatten(-1, (4, 3))
        flipped_2d = torch.stack([1 - flat_2d[..., 0] - flat_2d[..., 3], *flat_2d[..., 1:].unbind(-1)], -1)
        flipped_3d = torch.stack([flat_3d[..., 0], 1 - flat_3d[..., 1], flat_3d[..., 2]], -1)
        flip = mirror[:, None, None]
        pose_2d = torch.where(flip, flipped_2d, flat_2d) * frames["has_pose_2d"].unsqueeze(-1)
        pose_3d = torch.where(flip, flipped_3d.flatten(-2), flat_3d.flatten(-2)) * frames["has_pose_3d"].unsqueeze(-1)
        return SceneTensors(
            camera=camera,
            local_to_world=frames["local_to_world"],
            extent=frames["extent"],
            presence=frames["presence"],
            pose_2d=pose_2d,
            pose_3d=pose_3d,
            has_pose_2d=frames["has_pose_2d"],
            has_pose_3d=frames["has_pose_3d"],
            background_pose=background_pose(source, camera),
        )


def background_pose(source: Sources, camera: CameraTensors) -> torch.Tensor:
    """(B, 12): as `neuralusd.models.tensors.background_transform`, for a background that stands still."""
    relative = torch.linalg.inv(source.camera.world_to_camera) @ camera.world_to_camera
    seen = source.masks[:, 0] * torch.isfinite(source.depth)
    depth = (torch.where(seen > 0, source.depth, 0).sum((1, 2)) / seen.sum((1, 2)).clamp_min(1)).clamp_min(1e-3)
    depth = torch.where(seen.any(-1).any(-1), depth, 1.0)  # without any depth translations stay in metres
    rotation = relative[:, :3, :3] - torch.eye(3, device=relative.device)
    return torch.cat([rotation.flatten(1), relative[:, 3, :3] / depth.unsqueeze(-1)], -1)


def _mirrored(image: torch.Tensor, mirror: torch.Tensor, dimension: int = 2) -> torch.Tensor:
    shape = (-1, *[1] * (image.dim() - 1))
    return torch.where(mirror.view(shape), image.flip(dimension), image)
