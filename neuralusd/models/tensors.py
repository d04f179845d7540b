"""A batch of scenes and their tokens as tensors: what the modules of this folder take.

Slot 0 of the asset dimension `N` is always the background; empty slots have presence 0.
Matrices act on row vectors and lengths are metres, as in `neuralusd.scene`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..scene import APPEARANCE, GEOMETRY, Asset, Camera, Scene, Tokens, pose_2d, pose_3d

# A corner this far outside of the image says "out of view" as well as one farther out, and keeps the pose MLP in its
# range.
POSE_LIMIT = 2.0


@dataclass
class CameraTensors:
    """Cameras: `world_to_camera` (B, 4, 4); `intrinsics` (B, 4) as `Camera.lens`; `orthographic` (B,)
    bool."""

    world_to_camera: torch.Tensor
    intrinsics: torch.Tensor
    orthographic: torch.Tensor

    def project(self, world: torch.Tensor) -> torch.Tensor:
        """World points (B, ..., 3) to (B, ..., 3) of normalised h, normalised w, and depth in metres."""
        shape = world.shape
        points = world.reshape(shape[0], -1, 3)
        points = points @ self.world_to_camera[:, :3, :3] + self.world_to_camera[:, None, 3, :3]
        depth = -points[..., 2]
        divisor = torch.where(self.orthographic[:, None], torch.ones_like(depth), depth.clamp_min(1e-6))
        fx, fy, ox, oy = (value[:, None] for value in self.intrinsics.unbind(-1))
        w = 0.5 + fx * points[..., 0] / divisor - ox
        h = 0.5 - fy * points[..., 1] / divisor + oy
        return torch.stack([h, w, depth], -1).reshape(shape)

    def unproject(self, hwd: torch.Tensor) -> torch.Tensor:
        """The inverse of `project`: (B, ..., 3) of h, w, depth to world points (B, ..., 3) in metres."""
        shape = hwd.shape
        h, w, depth = hwd.reshape(shape[0], -1, 3).unbind(-1)
        divisor = torch.where(self.orthographic[:, None], torch.ones_like(depth), depth)
        fx, fy, ox, oy = (value[:, None] for value in self.intrinsics.unbind(-1))
        points = torch.stack([(w - 0.5 + ox) / fx * divisor, (0.5 + oy - h) / fy * divisor, -depth], -1)
        inverse = torch.linalg.inv(self.world_to_camera)
        return (points @ inverse[:, :3, :3] + inverse[:, None, 3, :3]).reshape(shape)


@dataclass
class SceneTensors:
    """Target scenes.

    Attributes:
        camera: the target cameras.
        local_to_world: (B, N, 4, 4). extent: (B, N, 2, 3) local boxes.
        presence: (B, N) in 0..1; 0 marks an empty slot.
        pose_2d: (B, N, 4) of x, y, h, w. pose_3d: (B, N, 12), four corners of h, w, depth. 0 where `has_pose_2d` /
            `has_pose_3d` (B, N) is 0.
        background_pose: (B, 12), the source-to-target transform of the background (section 3.4), its translation in
            units of the background's mean depth in the source.
    """

    camera: CameraTensors
    local_to_world: torch.Tensor
    extent: torch.Tensor
    presence: torch.Tensor
    pose_2d: torch.Tensor
    pose_3d: torch.Tensor
    has_pose_2d: torch.Tensor
    has_pose_3d: torch.Tensor
    background_pose: torch.Tensor

    def to(self, device: torch.device | str) -> SceneTensors:
        return _map(self, lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> SceneTensors:
        """Each scene `times` times over, for guidance's several conditions."""
        return _map(self, lambda tensor: tensor.repeat(times, *[1] * (tensor.dim() - 1)))


@dataclass
class TokenTensors:
    """One modality's tokens: `values` (B, N, K, D); `points` (B, N, K, 3) in the asset's local space, NaN where
    unknown; `extent` (B, N, 2, 3), the box the points belong to; `present` (B, N), 0 where the asset has no such
    tokens; `borrowed` (B, N), 1 where they were seen on another asset than the points, None where none was."""

    values: torch.Tensor
    points: torch.Tensor
    extent: torch.Tensor
    present: torch.Tensor
    borrowed: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> TokenTensors:
        return _map(self, lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> TokenTensors:
        return _map(self, lambda tensor: tensor.repeat(times, *[1] * (tensor.dim() - 1)))


def _map(item, function):
    changed = {}
    for entry in fields(item):
        value = getattr(item, entry.name)
        if value is None:
            continue
        changed[entry.name] = function(value) if isinstance(value, torch.Tensor) else _map(value, function)
    return replace(item, **changed)


def slots(scene: Scene) -> list[Asset | None]:
    """The scene's assets in slot order: the background (or None), then the foreground."""
    return [scene.background, *scene.foreground]


def asset_poses(asset: Asset | None, camera: Camera) -> tuple[np.ndarray, np.ndarray, bool, bool]:
    """An asset's (4,) 2D pose, (12,) 3D pose, and whether it has each. Out of view counts as none for the 2D pose."""
    flat_2d, flat_3d = np.zeros(4), np.zeros((4, 3))
    has_2d = has_3d = False
    if asset is not None and asset.role == "foreground":
        box = pose_2d(asset, camera)
        if box is not None:
            flat_2d, has_2d = box, True
        if asset.extent is not None:
            corners = pose_3d(asset, camera)
            if np.all(corners[:, 2] > 0) or camera.projection == "orthographic":
                corners[:, :2] = np.clip(corners[:, :2], -POSE_LIMIT, 1 + POSE_LIMIT)
                flat_3d, has_3d = corners, True
    return flat_2d, flat_3d.reshape(12), has_2d, has_3d


def background_transform(tokens: Tokens | None, background: Asset | None, camera: Camera) -> np.ndarray:
    """(12,) source-to-target camera transform, from where the background's tokens were seen to the target camera."""
    relative = np.eye(4)
    scale = 1.0
    if tokens is not None and background is not None and tokens.view is not None:
        local_to_target = background.local_to_world @ camera.world_to_camera
        relative = np.linalg.inv(tokens.view) @ local_to_target
        if tokens.points is not None:
            depth = -(tokens.points @ tokens.view[:3, :3] + tokens.view[3, :3])[:, 2]
            depth = depth[np.isfinite(depth)]
            scale = float(depth.mean()) if len(depth) and depth.mean() > 0 else 1.0
    return relative_pose(relative, scale)


def relative_pose(relative: np.ndarray, scale: float) -> np.ndarray:
    """(12,) of a (4, 4) camera-to-camera transform: rotation less identity, then translation over `scale` metres."""
    return np.concatenate([(relative[:3, :3] - np.eye(3)).reshape(9), relative[3, :3] / scale])


def scene_tensors(scenes: Sequence[Scene]) -> SceneTensors:
    """Scenes as one batch; N is one more than the largest number of foreground assets."""
    count = max(len(slots(scene)) for scene in scenes)
    rows: dict[str, list[np.ndarray]] = {}
    for scene in scenes:
        local_to_world = np.tile(np.eye(4), (count, 1, 1))
        extent = np.tile(np.array([[-0.5] * 3, [0.5] * 3]), (count, 1, 1))
        presence = np.zeros(count)
        flat_2d, flat_3d = np.zeros((count, 4)), np.zeros((count, 12))
        has_2d, has_3d = np.zeros(count), np.zeros(count)
        for slot, asset in enumerate(slots(scene)):
            if asset is None:
                continue
            local_to_world[slot] = asset.local_to_world
            presence[slot] = asset.presence
            if asset.extent is not None:
                extent[slot] = asset.extent
            flat_2d[slot], flat_3d[slot], has_2d[slot], has_3d[slot] = asset_poses(asset, scene.camera)
        background = scene.background
        tokens = background.tokens.get(APPEARANCE) or background.tokens.get(GEOMETRY) if background else None
        row = {
            "world_to_camera": scene.camera.world_to_camera,
            "intrinsics": np.array(scene.camera.lens),
            "local_to_world": local_to_world,
            "extent": extent,
            "presence": presence,
            "pose_2d": flat_2d,
            "pose_3d": flat_3d,
            "has_pose_2d": has_2d,
            "has_pose_3d": has_3d,
            "background_pose": background_transform(tokens, background, scene.camera),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    tensors = {name: torch.tensor(np.stack(values), dtype=torch.float32) for name, values in rows.items()}
    orthographic = torch.tensor([scene.camera.projection == "orthographic" for scene in scenes])
    camera = CameraTensors(tensors.pop("world_to_camera"), tensors.pop("intrinsics"), orthographic)
    return SceneTensors(camera=camera, **tensors)


def token_tensors(scenes: Sequence[Scene], modality: str, token_shape: tuple[int, int]) -> TokenTensors:
    """The scenes' tokens of one modality, (K, D) = `token_shape`; assets without them get zeros and present 0."""
    count = max(len(slots(scene)) for scene in scenes)
    length, width = token_shape
    values = np.zeros((len(scenes), count, length, width), np.float32)
    points = np.full((len(scenes), count, length, 3), np.nan, np.float32)
    extent = np.tile(np.array([[-0.5] * 3, [0.5] * 3], np.float32), (len(scenes), count, 1, 1))
    present = np.zeros((len(scenes), count), np.float32)
    for row, scene in enumerate(scenes):
        for slot, asset in enumerate(slots(scene)):
            tokens = asset.tokens.get(modality) if asset else None
            if asset is None or tokens is None:
                continue
            values[row, slot], present[row, slot] = tokens.values, 1
            if tokens.points is not None:
                points[row, slot] = tokens.points
            box = tokens.extent if tokens.extent is not None else asset.extent
            if box is not None:
                extent[row, slot] = box
    return TokenTensors(*(torch.from_numpy(array) for array in (values, points, extent, present)))
