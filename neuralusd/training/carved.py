"""What outlines carve, of all objects of a data set: where the autodecoder's training may begin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..datasets.carving import carve
from ..datasets.objects import ObjectViews


@dataclass
class CarvedObjects:
    """Attributes: volumes (O, S, S, S, 4) uint8, occupancy and then colour, indexed z, y, x."""

    volumes: np.ndarray

    def batch(self, objects: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of objects (B,): themselves, occupancy (B, 1, S, S, S) and color (B, 3, S, S, S) in 0..1."""
        values = torch.from_numpy(self.volumes[objects]).permute(0, 4, 1, 2, 3).float() / 255
        return torch.from_numpy(np.asarray(objects, np.int64)), values[:, :1], values[:, 1:]

    def components(self, count: int) -> torch.Tensor:
        """(O, count): the first principal components of the objects, of a mean square of 1 / count.

        The leading ones are toned down to the square root of their size, or the others would say nothing. Where an
        object is not, its mean colour counts: a colour that goes wherever the shape goes would be spread over as many
        components as there are shapes.
        """
        objects, side = self.volumes.shape[:2]
        half = self.volumes.reshape(objects, side // 2, 2, side // 2, 2, side // 2, 2, 4).mean((2, 4, 6)) / 255
        solid = half[..., :1]
        mean = (solid * half[..., 1:]).sum((1, 2, 3), keepdims=True) / (solid.sum((1, 2, 3), keepdims=True) + 1e-6)
        half[..., 1:] = solid * half[..., 1:] + (1 - solid) * mean - 0.5
        values = torch.from_numpy(half.reshape(objects, -1).astype(np.float32))
        left, size, _ = torch.linalg.svd(values - values.mean(0), full_matrices=False)
        found = (left * size.sqrt())[:, :count]
        found = torch.nn.functional.pad(found, (0, count - found.shape[1]))
        return found / found.square().mean().sqrt().clamp_min(1e-8) / count**0.5


def carved_objects(views: ObjectViews, resolution: int, chosen: np.ndarray, cache: Path) -> CarvedObjects:
    """Carves all objects from the views `chosen`, or reads what an earlier call left in `cache`."""
    if cache.exists():
        with np.load(cache) as file:
            if list(file["names"]) == views.names and file["volumes"].shape[1] == resolution:
                return CarvedObjects(file["volumes"])
    volumes = np.empty((len(views), resolution, resolution, resolution, 4), np.uint8)
    for index in tqdm(range(len(views)), desc="carve", mininterval=5):
        occupancy, color = carve(views, index, resolution, chosen)
        volumes[index] = (np.concatenate([occupancy[..., None], color], -1) * 255 + 0.5).astype(np.uint8)
    written = cache.with_suffix(".part")
    with written.open("wb") as file:
        np.savez_compressed(file, names=np.array(views.names), volumes=volumes)
    written.replace(cache)
    return CarvedObjects(volumes)
