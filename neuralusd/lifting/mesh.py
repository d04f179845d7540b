"""A solid's surface as a closed triangle mesh."""

from __future__ import annotations

import numpy as np

# Triangles of the whole mesh that are aimed at; how far the surface may move for it, in cells, at first and at most.
FACES = 12_000
TOLERANCE = 0.1
COARSEST = 0.5


def surface(
    distance: np.ndarray, spacing: float, origin: np.ndarray, faces: int = FACES
) -> tuple[np.ndarray, np.ndarray]:
    """The zero surface of a distance that is negative inside, as a watertight shell for each part of the solid.

    Args:
        distance: (X, Y, Z) float32, positive at all its borders. spacing, origin: see `Lifted`.
        faces: about how many triangles it is decimated to; more where the shape needs them, fewer where it does not.

    Returns:
        points (V, 3) float32 and faces (F, 3) int32, manifold, counter-clockwise seen from outside.

    Raises:
        ValueError: the distance has no surface, or one that is not closed.
    """
    from manifold3d import Manifold, Mesh
    from skimage.measure import marching_cubes

    # A sample that lies on the surface would make triangles without an area.
    distance = np.where(np.abs(distance) < 1e-4, np.float32(1e-4), distance)
    if not (distance < 0).any() or not (distance > 0).any():
        raise ValueError("the solid is empty, or it is everything")
    points, triangles, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent", allow_degenerate=False)
    mesh = Mesh(points.astype(np.float32), triangles.astype(np.uint32))
    mesh.merge()
    whole = Manifold(mesh)
    if whole.is_empty():
        raise ValueError(f"the solid's surface is not closed ({whole.status()})")
    parts = [_decimated(part, max(faces * part.num_tri() // whole.num_tri(), 1)) for part in whole.decompose()]
    count, all_points, all_faces = 0, [], []
    for part in parts:
        made = part.to_mesh()
        all_points.append(made.vert_properties[:, :3])
        all_faces.append(made.tri_verts.astype(np.int32) + count)
        count += len(made.vert_properties)
    return (np.concatenate(all_points) * spacing + origin).astype(np.float32), np.concatenate(all_faces)


def _decimated(part, faces: int):
    """A shell of about so many triangles, closed as it was; never one that has lost a twentieth of its volume."""
    best, tolerance = part, TOLERANCE
    while best.num_tri() > faces and tolerance <= COARSEST:
        fewer = part.simplify(tolerance)
        if fewer.is_empty() or fewer.volume() < 0.95 * part.volume():
            break
        best, tolerance = fewer, tolerance * 1.5
    return best
