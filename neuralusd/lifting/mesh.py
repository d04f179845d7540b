"""A solid's surface as a closed triangle mesh."""

from __future__ import annotations

import numpy as np

# Triangles of the whole mesh that are aimed at; how far the surface may move for it, in cells, at first and at most.
FACES = 10_000
TOLERANCE = 0.12
COARSEST = 0.5
# Shells of less than this share of the largest's volume are crumbs of sampling.
CRUMB = 1e-4


def surface(
    distance: np.ndarray, spacing: float, origin: np.ndarray, faces: int = FACES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The zero surface of a distance that is negative inside, as a watertight shell for each part of the solid.

    Args:
        distance: (X, Y, Z) float32, positive at all its borders. spacing, origin: see `Lifted`.
        faces: about how many triangles it is decimated to; more where the shape needs them, fewer where it does not.

    Returns:
        points (V, 3) float32; faces (F, 3) int32, manifold, counter-clockwise seen from outside; and unit normals
        (V, 3) float32, outward, those of the solid and not of the triangles.

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
    shells = whole.decompose()
    least = CRUMB * max(shell.volume() for shell in shells)
    shells = [shell for shell in shells if shell.volume() > least]
    parts = [_decimated(shell, max(faces * shell.num_tri() // whole.num_tri(), 1)) for shell in shells]
    count, all_points, all_faces = 0, [], []
    for part in parts:
        made = part.to_mesh()
        all_points.append(made.vert_properties[:, :3])
        all_faces.append(made.tri_verts.astype(np.int32) + count)
        count += len(made.vert_properties)
    points, triangles = np.concatenate(all_points), np.concatenate(all_faces)
    return (points * spacing + origin).astype(np.float32), triangles, _normals(distance, points, triangles)


def _normals(distance: np.ndarray, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float32, where the distance grows fastest at points (V, 3) in cells."""
    import trimesh
    from scipy.ndimage import map_coordinates

    mesh = trimesh.Trimesh(points, faces, process=False)
    normals = np.array(mesh.vertex_normals)
    # Where faces of opposite sides meet in a point, they leave it none; one of them is better.
    lost = ~(np.linalg.norm(normals, axis=1) > 0.5)
    one = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    whole = np.linalg.norm(mesh.face_normals, axis=1) > 0.5
    one[faces[whole].ravel()] = np.repeat(mesh.face_normals[whole], 3, axis=0)
    normals[lost] = one[lost]
    ahead, behind = (
        np.stack([map_coordinates(distance, (points + step).T, order=1, mode="nearest") for step in steps], axis=1)
        for steps in (np.eye(3), -np.eye(3))
    )
    slope = ahead - behind
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    # On a ridge or in a corner of the solid the slope is none, or is another side's.
    sound = (length[:, 0] > 0.5) & ((slope * normals).sum(1) > 0.5 * length[:, 0])
    normals[sound] = (slope / np.maximum(length, 1e-9))[sound]
    return normals.astype(np.float32)


def _decimated(part, faces: int):
    """A shell of about so many triangles, closed as it was; never one that has lost a twentieth of its volume."""
    best, tolerance = part, TOLERANCE
    while best.num_tri() > faces and tolerance <= COARSEST:
        fewer = part.simplify(tolerance)
        if fewer.is_empty() or fewer.volume() < 0.95 * part.volume():
            break
        best, tolerance = fewer, tolerance * 2
    return best
