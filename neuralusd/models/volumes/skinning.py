"""Volumetric linear blend skinning of articulated objects (3DVADER, section B.1, equation 8).

An object has P rigid parts. In the canonical volume each cell has a weight for each part, which add up to 1; a pose of
part p, `rotation` and `translation`, takes canonical points to where they are in a frame, by x = R_p x_c + tr_p.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .decoder import COLOR
from .rendering import sample_volume


def skinning_weights(volume: torch.Tensor) -> torch.Tensor:
    """w^c of equation 8: (B, P, S, S, S) that add up to 1, of a decoder's volume (B, 4 + P, S, S, S); see
    `VolumeDecoder`. A decoder without parts has one, to which all belongs."""
    logits = volume[:, COLOR.stop :]
    return logits.float().softmax(1) if logits.shape[1] else torch.ones_like(volume[:, :1], dtype=torch.float32)


def moved(points: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Points (B, ..., 3) as each part would have them, R_p x + tr_p, (B, P, ..., 3)."""
    flat = points.flatten(1, -2).unsqueeze(1)
    with torch.autocast(points.device.type, enabled=False):  # bfloat16 is too coarse for places
        return (flat @ rotation.mT + translation.unsqueeze(2)).unflatten(2, points.shape[1:-1])


def blend(
    points: torch.Tensor, weights: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor
) -> torch.Tensor:
    """Equation 8: canonical points (B, ..., 3) to where they are in a frame, for meshes and keypoints.

    Args:
        weights: (B, P, S, S, S), see `skinning_weights`. rotation: (B, P, 3, 3). translation: (B, P, 3).
    """
    share = sample_volume(weights, points).movedim(-1, 1).unsqueeze(-1)
    return (share * moved(points, rotation, translation)).sum(1)


@dataclass
class InverseSkinning:
    """Points of a frame to where they are in the canonical volume: what `render_rays` takes as `deform`.

    Equation 8 has no inverse in closed form. As HumanNeRF does (Weng et al., 2022; footnote 3 of the paper), the weight
    of part p at a point x of the frame is that of the canonical point that the part would bring there,
    x_p = R_p^-1 (x - tr_p), over the sum of all parts' weights; the canonical point is the parts' x_p by these weights.
    Where that sum is small no part brings anything to x: it is the share of the density that is there.

    HumanNeRF learns a further weight, of the background, so that empty space is no part's. The paper's decoder has
    none; here the density tells what is empty. Without it, a part with much empty space around it bends what another
    part moves there.

    Attributes:
        weights: (B, P, S, S, S), see `skinning_weights`. rotation: (B, P, 3, 3), orthonormal. translation: (B, P, 3).
        density: (B, 1, S, S, S), see `activate`; None lets parts claim empty space as well.
    """

    weights: torch.Tensor
    rotation: torch.Tensor
    translation: torch.Tensor
    density: torch.Tensor | None = None

    def claims(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For points (B, ..., 3) of a frame the canonical points x_p (B, P, ..., 3), and how far each part claims to be
        there (B, P, ...), 0..1: its canonical weight, times how opaque x_p is beside the others'; 0 outside of the
        canonical cube."""
        batch, parts = self.weights.shape[:2]
        inverse = self.rotation.mT
        candidates = moved(points, inverse, -(inverse * self.translation.unsqueeze(-2)).sum(-1))
        inside = candidates.abs().amax(-1) <= 1
        if parts == 1:
            return candidates, inside.to(points.dtype)
        fields = self.weights.flatten(0, 1).unsqueeze(1)
        if self.density is not None:
            cell = 2 / self.density.shape[-1]
            opaque = 1 - torch.exp(-self.density * cell)
            fields = torch.cat([fields, opaque.repeat_interleave(parts, 0).to(fields.dtype)], 1)
        values = sample_volume(fields, candidates.flatten(0, 1)).to(points.dtype).unflatten(0, (batch, parts))
        claim = values[..., 0] * inside
        if self.density is not None:
            # The little that is added lets parts share what is empty by their weights.
            filled = values[..., 1] * inside + 1e-4
            claim = claim * filled / filled.amax(1, keepdim=True)
        return candidates, claim

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Canonical points (B, ..., 3), and which share of the density there is seen here (B, ...), 0..1."""
        candidates, claim = self.claims(points)
        present = claim.sum(1)
        share = claim / present.clamp_min(1e-6).unsqueeze(1)
        return (share.unsqueeze(-1) * candidates).sum(1), present.clamp_max(1)
