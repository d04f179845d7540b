"""A volume's surface as 3D Gaussians ("3D Gaussian Splatting", Kerbl et al., 2023): one for each cell that shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .projection import seen_colors
from .shape import Lifted, Radiance

# Standard deviations in cells: along the surface, wide enough that a layer of them has no gaps; and across it.
SIGMA, THIN = 0.6, 0.25
# A cell with less opacity shows nothing; one that is surrounded by more is not seen.
FAINT, DENSE = 0.05, 0.5
# Opacity of a cell that stands for all that is behind it.
OPAQUE = 0.99
# Cells along the longest side, of a solid that was not made from a volume.
CELLS = 96


@dataclass
class Gaussians:
    """Gaussians that lie flat on a surface.

    Attributes:
        positions: (N, 3) float32. normals: (N, 3) float32 unit, the directions in which they are thin.
        scales: (N, 3) float32, standard deviations: two along the surface, the last along the normal.
        opacities: (N,) float32 in 0..1, in the middle of each. colors: (N, 3) float32 display-referred sRGB in 0..1.
    """

    positions: np.ndarray
    normals: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    colors: np.ndarray


def gaussians_of(lifted: Lifted, points: np.ndarray, faces: np.ndarray, transform: np.ndarray) -> Gaussians:
    """Gaussians of what a lifter made: of its radiance where it has one, else of its solid.

    Args:
        points (V, 3), faces (F, 3): its surface, in the lifter's space.
        transform: (4, 4) for row vectors, from the lifter's space to where the Gaussians are wanted; without shear.
    """
    volume = lifted.radiance or _filled(lifted)
    cells, opacity = _shown(volume)
    if not len(cells):  # all of the volume is too faint to show, and yet there is a solid
        volume = _filled(lifted)
        cells, opacity = _shown(volume)
    positions = volume.origin + volume.spacing * cells
    own = volume.color[tuple(cells.T)]
    normals = _outward(volume.density, cells)
    colors = seen_colors(lifted.seen, points, faces, lambda *_: own)(positions, normals)
    # A layer of them, a cell apart, is as opaque as the cells are.
    opacity = 1 - (1 - np.minimum(opacity, OPAQUE)) ** (1 / (2 * math.pi * SIGMA**2))
    scale = float(np.linalg.norm(transform[0, :3]))
    return Gaussians(
        (positions @ transform[:3, :3] + transform[3, :3]).astype(np.float32),
        (normals @ transform[:3, :3] / scale).astype(np.float32),
        np.tile(np.array([SIGMA, SIGMA, THIN], np.float32) * np.float32(volume.spacing * scale), (len(cells), 1)),
        opacity.astype(np.float32),
        np.clip(colors, 0, 1).astype(np.float32),
    )


def _shown(volume: Radiance) -> tuple[np.ndarray, np.ndarray]:
    """Cells (N, 3) that are seen from anywhere, and their opacity (N,): of what is behind them, too."""
    from scipy.ndimage import maximum_filter, minimum_filter

    opacity = 1 - np.exp(-volume.density * volume.spacing)
    buried = minimum_filter(opacity, 3, mode="constant") > DENSE
    opacity = np.where(maximum_filter(buried, 3), OPAQUE, opacity)
    cells = np.argwhere((opacity > FAINT) & ~buried)
    return cells, opacity[tuple(cells.T)]


def _outward(density: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(N, 3) unit vectors to where the density falls fastest."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.minimum(density, np.percentile(density, 99.9)), 1.0)
    slope = -np.stack([along[tuple(cells.T)] for along in np.gradient(smooth)], 1)
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    return np.where(length > 1e-9, slope / np.maximum(length, 1e-9), [0.0, 0.0, 1.0])


def _filled(lifted: Lifted) -> Radiance:
    """A solid as a volume that is opaque within."""
    step = math.ceil(max(lifted.distance.shape) / CELLS)
    distance = lifted.distance[::step, ::step, ::step] / step
    spacing = lifted.spacing * step
    opacity = np.clip(0.5 - distance, 0, OPAQUE)
    density = (-np.log1p(-opacity) / spacing).astype(np.float32)
    color = np.zeros((*density.shape, 3), np.float32)
    cells = np.argwhere((opacity > 0) & (opacity < OPAQUE) | (np.abs(distance) < 2))
    color[tuple(cells.T)] = lifted.color(lifted.origin + spacing * cells, _outward(density, cells))
    return Radiance(density, color, np.asarray(lifted.origin), spacing)
