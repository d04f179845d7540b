"""From where a picture was taken of a volume, and a volume that matches its pictures (inversion, as of GLO's decoders:
section 3.1; holding it by the diffusion model is ours)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .decoder import VolumeDecoder, activate
from .perceptual import EdgePyramid
from .rendering import Rendered, render_rays
from .views import WindowCameras, orbit_cameras

# Of a cell's side, what a solid cell lets less than half of the light through.
SOLID = 0.5
SEARCHED, FITTED = 24, 48
SAMPLES = 40


@dataclass
class Match:
    """Cameras (one a picture) of a volume, how unlike its pictures it looks from them, the mean of `unlike`, and what
    their directions cost beside that. Where nothing of it is solid it matches no picture, however small the object."""

    cameras: WindowCameras
    error: float
    unlikely: float = 0.0
    empty: bool = False

    @property
    def cost(self) -> float:
        return float("inf") if self.empty else self.error + self.unlikely


def solid_points(density: torch.Tensor) -> torch.Tensor:
    """(N, 3) middles of the cells of a density (1, S, S, S) that are solid; the cube's corners where none is."""
    side = density.shape[-1]
    solid = _solid(density[0])
    if not solid.any():
        corner = torch.tensor([-1.0, 1.0], device=density.device)
        return torch.cartesian_prod(corner, corner, corner)
    return (solid.nonzero().flip(-1).float() + 0.5) / side * 2 - 1


def is_empty(volume: torch.Tensor) -> bool:
    """Whether no cell of a volume (1, 4, S, S, S) is solid."""
    return not bool(_solid(activate(volume)[0]).any())


def _solid(density: torch.Tensor) -> torch.Tensor:
    return 1 - torch.exp(-density * 2 / density.shape[-1]) > SOLID


def look(volume: torch.Tensor, cameras: WindowCameras, size: int, samples: int = SAMPLES) -> Rendered:
    """What cameras (B,) see of volumes (B or 1, 4, S, S, S); rows of `size` x `size` pixels."""
    density, color = activate(volume.expand(len(cameras.turn), *volume.shape[1:]))
    return render_rays(density, color, *cameras.rays(size), samples=samples)


def unlike(seen: Rendered, pictures: torch.Tensor) -> torch.Tensor:
    """(B,): the mean difference in colour plus that in outline, of pictures (B, 4, R, R), see `PictureEncoder`."""
    flat = pictures.flatten(2).transpose(1, 2)
    color = (seen.color - flat[..., :3]).abs().mean((1, 2))
    return color + (seen.occupancy - flat[..., 3]).abs().mean(1)


@torch.no_grad()
def search_cameras(
    volume: torch.Tensor,
    pictures: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    unlikely: torch.Tensor | None = None,
) -> Match:
    """The best of some directions for each picture.

    Args:
        volume: (1, 4, S, S, S). pictures: (P, 4, R, R). angles: turns and elevations (P, D), in radians.
        unlikely: (P, D), what a direction costs beside how unlike the picture the volume looks from there.
    """
    points = solid_points(activate(volume)[0][0])
    small = torch.nn.functional.adaptive_avg_pool2d(pictures, SEARCHED)
    best, errors, paid = [], [], []
    costs = torch.zeros_like(angles[0]) if unlikely is None else unlikely
    for picture, turn, elevation, cost in zip(small, *angles, costs, strict=True):
        cameras = orbit_cameras(turn, elevation).framed(points)
        found = unlike(look(volume, cameras, SEARCHED, 24), picture.expand(len(turn), -1, -1, -1))
        least = (found + cost).argmin()
        best.append(cameras[least.view(1)])
        errors.append(found[least].item())
        paid.append(cost[least].item())
    cameras = WindowCameras(*(torch.cat(parts) for parts in zip(*(vars(each).values() for each in best), strict=True)))
    return Match(cameras, sum(errors) / len(errors), sum(paid) / len(paid), is_empty(volume))


def fit(
    start: torch.Tensor,
    cameras: WindowCameras,
    pictures: torch.Tensor,
    latent_of: Callable[[torch.Tensor], torch.Tensor],
    decode: Callable[[torch.Tensor], torch.Tensor],
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    steps: int = 50,
    hold: float = 1.0,
    level: float = 0.3,
    lr: float = 0.02,
    camera_lr: float = 0.01,
    angle_lr: float = 0.003,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda step: None,
) -> tuple[torch.Tensor, Match]:
    """Moves an embedding and the cameras until the volume looks like its pictures; the diffusion model holds the rest.

    Args:
        start: (1, E) that is moved. latent_of: from that to a latent (1, C, S, S, S) of the diffusion model.
        decode: from that to a volume. denoise: the guided denoiser.
        hold: weight of the squared distance to what the denoiser makes of the latent with noise of deviation `level`,
            renewed every tenth step.
        lr: of Adam, in deviations of each number of the embedding; camera_lr: of the cameras' numbers, angle_lr of
            their turns and elevations.
        on_step: called with each step's number, from 1; raises to stop.

    Returns:
        The latent, and its cameras with their error.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    truth = adaptive_avg_pool2d(pictures, FITTED)
    moved = start.detach().clone().requires_grad_()
    numbers = cameras.learnable()
    groups = [
        {"params": [moved], "lr": lr},
        {"params": numbers[:2], "lr": angle_lr},
        {"params": numbers[2:], "lr": camera_lr},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    pyramid = EdgePyramid()
    held = latent_of(moved).detach()
    best, kept = float("inf"), (held, cameras)
    for step in range(1, steps + 1):
        latent = latent_of(moved)
        if hold and step % 10 == 1:
            with torch.no_grad():
                noisy = latent + level * torch.randn(latent.shape, generator=generator).to(latent.device)
                held = denoise(noisy, latent.new_full((1,), level))
        volume = decode(latent)
        seen = look(volume, cameras, FITTED)
        image = seen.color.view(-1, FITTED, FITTED, 3).permute(0, 3, 1, 2)
        outline = (seen.occupancy - truth[:, 3].flatten(1)).abs().mean()
        loss = pyramid(image, truth[:, :3]) + 2 * outline + hold * (latent - held).square().mean()
        error = unlike(seen, truth).mean().item()
        if error < best and not is_empty(volume):
            detached = WindowCameras(*(number.detach().clone() for number in numbers))
            best, kept = error, (latent.detach().clone(), detached)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step)
    return kept[0], Match(kept[1], best, empty=best == float("inf"))


def embed(features: torch.Tensor, decoder: VolumeDecoder, *, steps: int = 60, lr: float = 0.02) -> torch.Tensor:
    """The 1-D embeddings (B, embedding_dim) that G1 makes most nearly these features (B, C, S, S, S) of: exactly the
    nearest where these are the decoder's first, which are linear in the embedding."""
    if features.shape[-1] == decoder.config.resolution:
        wanted = features.detach().float().flatten(1) - decoder.first.bias
        return torch.linalg.lstsq(decoder.first.weight, wanted.T).solution.T
    shape = (len(features), decoder.config.embedding_dim)
    embedding = torch.zeros(shape, device=features.device, requires_grad=True)
    optimizer = torch.optim.Adam([embedding], lr=lr)
    features = features.detach()
    for _ in range(steps):
        error = (decoder.features(embedding, features.shape[-1]) - features).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return embedding.detach()
