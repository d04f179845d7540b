"""Cameras that are not given, or only roughly: corrections that are learned, cameras of one stand, and how far cameras
are from the true ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ..datasets.objects import ObjectViews

Views = TypeVar("Views", bound=ObjectViews)


class CameraCorrections(nn.Module):
    """A small rigid motion of each view's camera in the canonical cube, learned with what it sees (as BARF, Lin et al.,
    2021)."""

    def __init__(self, objects: int, views: int) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.zeros(objects, views, 3))
        self.shift = nn.Parameter(torch.zeros(objects, views, 3))

    def forward(
        self, objects: torch.Tensor, views: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rays (B, V, H, W, 3) of objects (B,) and views (B, V), corrected."""
        with torch.autocast(origins.device.type, enabled=False):  # bfloat16 is too coarse for places
            turn, shift = self._matrices(objects.unsqueeze(-1).expand_as(views), views)
            turn = turn.unsqueeze(2)
            return origins @ turn + shift[:, :, None, None], directions @ turn

    def _matrices(self, objects: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y, z = self.turn[objects, views].unbind(-1)
        zero = torch.zeros_like(x)
        generator = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).unflatten(-1, (3, 3))
        return torch.linalg.matrix_exp(generator), self.shift[objects, views]

    @torch.no_grad()
    def corrected(self, views: Views) -> Views:
        """The views with their cameras corrected."""
        count, number = views.mask.shape[:2]
        objects, chosen = torch.meshgrid(torch.arange(count), torch.arange(number), indexing="ij")
        turn, shift = (part.cpu().double().numpy() for part in self._matrices(objects, chosen))
        motion = np.zeros((count, number, 4, 4))
        motion[..., :3, :3], motion[..., 3, :3], motion[..., 3, 3] = turn, shift, 1
        return replace(views, camera_to_canonical=(views.camera_to_canonical @ motion).astype(np.float32))


def disturbed(views: Views, degrees: float, seed: int = 0) -> Views:
    """The views with their cameras turned about the cube's middle, each about an axis at random by an angle of
    `degrees` on average."""
    rng = np.random.default_rng(seed)
    shape = views.mask.shape[:2]
    axis = rng.normal(size=(*shape, 3))
    axis *= (np.radians(degrees) * rng.uniform(0.5, 1.5, shape) / np.linalg.norm(axis, axis=-1))[..., None]
    motion = np.zeros((*shape, 4, 4))
    motion[..., 3, 3] = 1
    motion[..., :3, :3] = _turns(axis)
    return replace(views, camera_to_canonical=(views.camera_to_canonical @ motion).astype(np.float32))


def without_cameras(views: Views) -> Views:
    """The views as if one camera had seen them all, which stands on +Z and looks at the cube's middle from where the
    sphere in the cube fills the picture. Only what is known of lenses is kept."""
    focal = views.intrinsics[..., :2].max(-1)  # w = 0.5 + f x / depth: at the edge x / depth = 0.5 / f
    away = 1 / np.sin(np.arctan(0.5 / np.median(focal)))
    stand = np.eye(4, dtype=np.float32)
    stand[3, 2] = away
    return replace(views, camera_to_canonical=np.broadcast_to(stand, (*views.mask.shape[:2], 4, 4)).copy())


def camera_errors(found: ObjectViews, truth: ObjectViews) -> np.ndarray:
    """(O, V) degrees that each camera is turned from the true one, once all of an object's are turned together to be
    nearest: what an object is turned by as a whole, pictures do not tell."""
    axes, wanted = (
        views.camera_to_canonical[..., :3, :3].astype(np.float64)
        / np.linalg.norm(views.camera_to_canonical[..., :3, :3], axis=-1, keepdims=True)
        for views in (found, truth)
    )
    left, _, right = np.linalg.svd((axes.swapaxes(-1, -2) @ wanted).sum(1))
    handed = np.ones((len(left), 3))
    handed[:, 2] = np.sign(np.linalg.det(left @ right))
    together = (left * handed[:, None]) @ right
    return turned_by((axes @ together[:, None]) @ wanted.swapaxes(-1, -2))


def turned_by(rotation: np.ndarray) -> np.ndarray:
    """Degrees (...), 0 to 180, that rotations (..., 3, 3) turn by."""
    return np.degrees(np.arccos(np.clip((np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))


def _turns(axis: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations for row vectors about axes (..., 3) by their length in radians."""
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(axis.reshape(-1, 3)).as_matrix().swapaxes(-1, -2)
    return matrices.reshape(*axis.shape[:-1], 3, 3)
