"""How near surfaces are to each other, by points on them: Chamfer distance, F-score, coverage, matching distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

# Points a surface for coverage and matching distance (3DVADER, A.1), and for distances of two surfaces.
SET_POINTS, POINTS = 2048, 10_000
# Directions that a point is looked at from, to tell what is outside from what is within.
_DIRECTIONS = 48
_ITERATIONS = 30


@dataclass(frozen=True)
class Distances:
    """How far each point of one cloud is from the nearest of another: `there` (N,), and `back` (M,) from the other."""

    there: np.ndarray
    back: np.ndarray

    @classmethod
    def between(cls, first: np.ndarray, second: np.ndarray) -> Distances:
        """Of clouds (N, 3) and (M, 3). ValueError where one is empty."""
        if not len(first) or not len(second):
            raise ValueError("a point cloud is empty")
        return cls(cKDTree(second).query(first)[0], cKDTree(first).query(second)[0])

    @property
    def chamfer(self) -> float:
        """Equation 3 of 3DVADER: the squared distances of each point to the nearest one, summed, both ways."""
        return float(np.square(self.there).sum() + np.square(self.back).sum())

    @property
    def mean(self) -> float:
        """The mean-distance variant of the Chamfer distance: of each way the mean distance (not squared), and of both
        ways the mean. It does not grow with the number of points, and is in their unit."""
        return float(self.there.mean() + self.back.mean()) / 2

    def f_score(self, threshold: float) -> float:
        """The harmonic mean of precision (the share of the first cloud within `threshold` of the second, the truth) and
        recall (the share of the truth within it of the first), 0 to 1 (Knapitsch et al., 2017, Tanks and Temples)."""
        precision, recall = (self.there <= threshold).mean(), (self.back <= threshold).mean()
        total = precision + recall
        return float(2 * precision * recall / total) if total else 0.0


def coverage(generated: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> float:
    """Equation 4: the share of the references (N, 3) that are the nearest one of some generated cloud."""
    return coverage_of(chamfer_matrix(generated, references))


def matching_distance(generated: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> float:
    """Equation 5, MMD: the mean over the references of the distance to the nearest generated cloud."""
    return matching_distance_of(chamfer_matrix(generated, references))


def chamfer_matrix(generated: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> np.ndarray:
    """(generated, references) of `Distances.chamfer`.

    Raises:
        ValueError: there is none of either.
    """
    if not len(generated) or not len(references):
        raise ValueError("there are no point clouds to compare")
    trees = [[cKDTree(cloud) for cloud in clouds] for clouds in (generated, references)]
    matrix = np.empty((len(generated), len(references)))
    for row, (cloud, tree) in enumerate(zip(generated, trees[0], strict=True)):
        for column, (other, among) in enumerate(zip(references, trees[1], strict=True)):
            matrix[row, column] = np.square(among.query(cloud)[0]).sum() + np.square(tree.query(other)[0]).sum()
    return matrix


def coverage_of(distances: np.ndarray) -> float:
    """Equation 4 of a `chamfer_matrix`."""
    return len(np.unique(distances.argmin(1))) / distances.shape[1]


def matching_distance_of(distances: np.ndarray) -> float:
    """Equation 5 of a `chamfer_matrix`."""
    return float(distances.min(0).mean())


def outer_points(points: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) points spread evenly over what can be seen of a mesh from outside.

    Models made by people have insides (drawers, engines, second walls) that no picture shows; a point counts where it
    sees out in one of many directions. Where none does, all of the mesh counts.

    Args:
        points: (V, 3). faces: (F, 3). seed: decides which points.

    Raises:
        ValueError: the mesh has no area.
    """
    import trimesh

    mesh = trimesh.Trimesh(points, faces, process=False)
    if not np.isfinite(mesh.area) or not mesh.area > 0:
        raise ValueError("the mesh has no surface to take points of")
    middle, size = mesh.bounds.mean(0), float(np.ptp(mesh.bounds, axis=0).max())
    mesh = trimesh.Trimesh((mesh.vertices - middle) / size, mesh.faces, process=False)  # a ray's start is exact then
    directions = _sphere(_DIRECTIONS)
    found: list[np.ndarray] = []
    for attempt in range(8):
        sampled = np.asarray(trimesh.sample.sample_surface(mesh, count, seed=seed + attempt)[0])
        hidden = np.ones(count, bool)
        for direction in directions:
            at = np.flatnonzero(hidden)
            if not len(at):
                break
            toward = np.broadcast_to(direction, (len(at), 3))
            hidden[at] = mesh.ray.intersects_any(sampled[at] + 1e-4 * toward, toward)
        found.append(sampled[~hidden])
        if sum(map(len, found)) >= count:
            break
    seen = np.concatenate(found)
    if not len(seen):
        seen = sampled
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(seen))[:count] if len(seen) >= count else random.integers(len(seen), size=count)
    return seen[chosen] * size + middle


def register(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The similarity (4, 4), for row vectors, that brings points (N, 3) to a truth (M, 3) near them.

    Iterated closest points with pairs of both ways, so that shrinking does not pay; it finds the answer nearby, not any
    answer. Of all steps, the first included, the one with the least mean distance is taken: never worse than before.
    """
    from trimesh.registration import procrustes

    matrix, best, least = np.eye(4), np.eye(4), np.inf
    among = cKDTree(truth)
    for _ in range(_ITERATIONS):
        moved = points @ matrix[:3, :3] + matrix[3, :3]
        there, there_at = among.query(moved)
        back, back_at = cKDTree(moved).query(truth)
        error = there.mean() + back.mean()
        if error < least:
            better = error < 0.9995 * least
            least, best = error, matrix
            if not better:
                break
        elif error > 1.05 * least:
            break
        step = procrustes(
            np.concatenate([moved, moved[back_at]]),
            np.concatenate([truth[there_at], truth]),
            reflection=False,
            return_cost=False,
        )
        matrix = matrix @ np.asarray(step).T  # trimesh's is for column vectors
    return best


def _sphere(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly, in an order in which the first ones are spread as well."""
    height = (np.arange(count) + 0.5) / count * 2 - 1
    turn = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    beside = np.sqrt(1 - height**2)
    vectors = np.stack([beside * np.cos(turn), beside * np.sin(turn), height], -1)
    return vectors[np.random.default_rng(0).permutation(count)]
