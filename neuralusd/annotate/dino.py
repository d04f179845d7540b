"""Pictures to patches of a DINOv2: what the background token attends to (Anchored Generation, equation 8)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import ModelError
from .hub import load_config, load_model

if TYPE_CHECKING:
    import torch

DINO = "facebook/dinov2-base"
ROLE = "background encoder"


class DinoPatches:
    """A frozen DINOv2 of transformers, by hub id or folder; safetensors only.

    Args:
        size: pixels of the side that pictures are brought to, a multiple of the model's patches; None takes the side it
            was trained on (518).

    Raises:
        ModelError: it cannot be had, or is no DINOv2.
    """

    def __init__(self, name: str | os.PathLike = DINO, *, size: int | None = None, device: str | None = None) -> None:
        from transformers import AutoModel

        config = load_config(name, ROLE)
        if config.model_type not in ("dinov2", "dinov2_with_registers"):
            raise ModelError(f"the {ROLE} {name} is a {config.model_type}, not a DINOv2 (such as {DINO})")
        self.size: int = size or config.image_size
        if self.size % config.patch_size:
            raise ModelError(
                f"the {ROLE} {name} has patches of {config.patch_size} pixels, which {self.size} is no multiple of"
            )
        self.grid = self.size // config.patch_size
        self.model: Any = load_model(AutoModel, name, ROLE, device).requires_grad_(False)

    @property
    def patch_dim(self) -> int:
        """Width of a patch."""
        return self.model.config.hidden_size

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, H, W), sRGB in 0..1, to patches (B, P, patch_dim) in rows from the top left."""
        import torch
        import torch.nn.functional as F

        from ..models.encoders import IMAGENET_DEVIATION, IMAGENET_MEAN

        with torch.no_grad():
            pictures = pictures.to(self.model.device, self.model.dtype)
            pictures = F.interpolate(pictures, (self.size, self.size), mode="bilinear", antialias=True)
            mean, deviation = (pictures.new_tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_DEVIATION))
            hidden = self.model(pixel_values=(pictures - mean) / deviation).last_hidden_state
        return hidden[:, -self.grid * self.grid :]

    def background(self, objects: torch.Tensor) -> torch.Tensor:
        """Which patches (B, P) bool show more background than objects; masks (B, H, W) are 1 where objects are."""
        import torch.nn.functional as F

        covered = F.interpolate(objects[:, None].float(), (self.grid, self.grid), mode="area")
        return (covered < 0.5).flatten(1)
