"""A volume of density and colour as a small mesh that is coloured point by point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mesh import surface
from .volume import UPRIGHT, surface_distance, upright_radiance

# Triangles that are aimed at.
FACES = 2_500
# No mesh of a volume that is all noise: it is no thing.
MOST_FACES = 20_000


@dataclass
class ColoredMesh:
    """A closed triangle mesh, coloured point by point, in the canonical axes (Z up, front towards -Y).

    Attributes:
        points: (V, 3) float32; its box is centred in the origin and its sides go from -1 to 1.
        faces: (F, 3) int32, counter-clockwise seen from outside. normals: (V, 3) float32, unit, outward.
        colors: (V, 3) float32 display-referred sRGB in 0..1.
    """

    points: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colors: np.ndarray


def mesh_of_volume(density: np.ndarray, color: np.ndarray, faces: int = FACES) -> ColoredMesh:
    """The surface of a volume.

    Args:
        density: (S, S, S) per unit of the cube from -1 to 1, indexed z, y, x. color: (S, S, S, 3) sRGB in 0..1.
        faces: about how many triangles.

    Raises:
        ValueError: there is nothing in it, or nothing but noise.
    """
    from scipy.ndimage import map_coordinates

    if not np.isfinite(density).all() or not density.max() > density.min():
        raise ValueError("the volume is empty")
    distance, origin, spacing = surface_distance(density)
    points, triangles, normals = surface(distance, spacing, origin, faces)
    if len(triangles) > MOST_FACES:
        raise ValueError(f"the volume is noise: its surface has {len(triangles)} triangles")
    volume = upright_radiance(density, color)
    # Half a cell below the surface, where the volume is solid.
    cells = ((points - 0.5 * volume.spacing * normals) - volume.origin) / volume.spacing
    bands = [map_coordinates(volume.color[..., band], cells.T, order=1, mode="nearest") for band in range(3)]
    # The lifter's space is upright; UPRIGHT leads there from the canonical cube, for row vectors.
    back = UPRIGHT[:3, :3].T
    points, normals = points @ back, normals @ back
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-9)
    return ColoredMesh(
        points.astype(np.float32),
        triangles.astype(np.int32),
        normals.astype(np.float32),
        np.stack(bands, -1).clip(0, 1).astype(np.float32),
    )
