"""Refinement of subdivision meshes: Catmull-Clark, Loop and bilinear, with semi-sharp creases and corners.

The masks are those of DeRose, Kass and Truong, "Subdivision Surfaces in Character Animation" (1998), and of Loop
(1987), with the boundary and crease rules that UsdGeomMesh takes from OpenSubdiv. What the refinement does to the
vertices is a sparse matrix, so any vertex primvar follows the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INFINITELY_SHARP = 10.0


@dataclass
class Topology:
    """A polygon mesh without its points.

    Attributes:
        counts: (F,) corners a face; indices: (C,) vertex of each corner; vertices: their number.
        creases: (E, 2) vertex pairs; crease_sharpness: (E,), 10 and above is infinitely sharp.
        corner_sharpness: (V,) of vertices.
    """

    counts: np.ndarray
    indices: np.ndarray
    vertices: int
    creases: np.ndarray
    crease_sharpness: np.ndarray
    corner_sharpness: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)


@dataclass
class Refined:
    """A refined mesh, and how it comes from the authored one.

    Attributes:
        topology: the refined faces.
        points_from: (V', V) what weighs each authored vertex in each refined one.
        corners_from: (C', C) the same for face-varying values, which are interpolated linearly within their face.
        faces_from: (F',) the authored face of each refined one.
    """

    topology: Topology
    points_from: csr_matrix
    corners_from: csr_matrix
    faces_from: np.ndarray


@dataclass
class _Edges:
    """The edges of a topology: ends (E, 2), of_corner (C,) the edge from a corner to the next, faces (E,) beside it."""

    ends: np.ndarray
    of_corner: np.ndarray
    faces: np.ndarray
    sharpness: np.ndarray


def refine(topology: Topology, scheme: str, levels: int, boundary: str = "edgeAndCorner") -> Refined:
    """Refine by "catmullClark", "loop" (triangles only; other meshes are refined by Catmull-Clark) or "bilinear".

    Args:
        boundary: `interpolateBoundary`; "edgeAndCorner" keeps corners of the boundary, "edgeOnly" rounds them.
    """
    from scipy.sparse import identity

    corners = len(topology.indices)
    out = Refined(
        topology,
        identity(topology.vertices, format="csr"),
        identity(corners, format="csr"),
        np.arange(len(topology.counts)),
    )
    loop = scheme == "loop" and bool((topology.counts == 3).all())
    for _ in range(levels):
        step = _loop(out.topology, boundary) if loop else _quads(out.topology, boundary, scheme == "bilinear")
        out = Refined(
            step.topology,
            (step.points_from @ out.points_from).tocsr(),
            (step.corners_from @ out.corners_from).tocsr(),
            out.faces_from[step.faces_from],
        )
    return out


def _edges(t: Topology) -> _Edges:
    following = np.arange(len(t.indices)) + 1
    following[t.starts + t.counts - 1] = t.starts
    pairs = np.sort(np.stack([t.indices, t.indices[following]], 1), axis=1)
    ends, of_corner = np.unique(pairs, axis=0, return_inverse=True)
    of_corner = of_corner.reshape(-1)
    faces = np.bincount(of_corner, minlength=len(ends))
    sharpness = np.zeros(len(ends))
    if len(t.creases):
        keys = ends[:, 0] * t.vertices + ends[:, 1]
        creases = np.sort(t.creases, axis=1)
        wanted = creases[:, 0] * t.vertices + creases[:, 1]
        at = np.clip(np.searchsorted(keys, wanted), 0, len(keys) - 1)
        exists = keys[at] == wanted
        np.maximum.at(sharpness, at[exists], t.crease_sharpness[exists])
    # Boundary and non-manifold edges are infinitely sharp.
    sharpness[faces != 2] = INFINITELY_SHARP
    return _Edges(ends, of_corner, faces, sharpness)


def _matrix(rows: list, columns: list, weights: list, shape: tuple[int, int]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    return csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _vertex_masks(t: Topology, e: _Edges, boundary: str, smooth: csr_matrix) -> csr_matrix:
    """(V, V) masks of vertices: `smooth` where no crease meets, else the crease and corner masks, by sharpness."""
    from scipy.sparse import diags, identity

    keep = identity(t.vertices, format="csr")
    sharp_now, crease_now, corner_now = _rules(t, e, boundary, 0.0)
    sharp_next, crease_next, corner_next = _rules(t, e, boundary, 1.0)
    crease_mask_now, crease_mask_next = _crease_mask(t, e, sharp_now), _crease_mask(t, e, sharp_next)

    def pick(crease: np.ndarray, corner: np.ndarray, mask: csr_matrix) -> csr_matrix:
        return (
            diags((~crease & ~corner).astype(float)) @ smooth
            + diags((crease & ~corner).astype(float)) @ mask
            + diags(corner.astype(float)) @ keep
        )

    # Where the rule changes within this level, blend by the mean sharpness of what is about to turn smooth.
    transition = (e.sharpness > 0) & (e.sharpness < 1)
    total, number = np.zeros(t.vertices), np.zeros(t.vertices)
    for end in (0, 1):
        np.add.at(total, e.ends[transition, end], e.sharpness[transition])
        np.add.at(number, e.ends[transition, end], 1)
    ending = (t.corner_sharpness > 0) & (t.corner_sharpness < 1)
    total[ending] += t.corner_sharpness[ending]
    number[ending] += 1
    changes = (crease_now != crease_next) | (corner_now != corner_next)
    share = np.where(changes & (number > 0), total / np.maximum(number, 1), 1.0)
    return (
        diags(share) @ pick(crease_now, corner_now, crease_mask_now)
        + diags(1 - share) @ pick(crease_next, corner_next, crease_mask_next)
    ).tocsr()


def _rules(t: Topology, e: _Edges, boundary: str, decay: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges that are sharp after `decay`, and the vertices to which the crease and the corner rule then apply."""
    sharp = (e.sharpness >= INFINITELY_SHARP) | (e.sharpness - decay > 0)
    meeting = np.bincount(e.ends[sharp].ravel(), minlength=t.vertices)
    valence = np.bincount(t.indices, minlength=t.vertices)
    corner = (
        (t.corner_sharpness >= INFINITELY_SHARP) | (t.corner_sharpness - decay > 0) | (meeting > 2) | (valence == 0)
    )
    if boundary != "edgeOnly":
        corner = corner | ((valence == 1) & (meeting == 2))
    return sharp, meeting == 2, corner


def _crease_mask(t: Topology, e: _Edges, sharp: np.ndarray) -> csr_matrix:
    """(V, V) of 3/4 of a vertex and 1/8 of either neighbour along its crease."""
    a, b = e.ends[sharp].T
    every = np.arange(t.vertices)
    eighth = np.full(len(a), 1 / 8)
    return _matrix([every, a, b], [every, b, a], [np.full(t.vertices, 0.75), eighth, eighth], (t.vertices, t.vertices))


def _quads(t: Topology, boundary: str, linear: bool) -> Refined:
    """One level of Catmull-Clark, or of bilinear refinement: every face of n corners becomes n quads."""
    from scipy.sparse import diags, identity, vstack

    e = _edges(t)
    faces, corners, n_edges = len(t.counts), len(t.indices), len(e.ends)
    face_of_corner = np.repeat(np.arange(faces), t.counts)
    share = 1.0 / t.counts[face_of_corner]
    face_points = _matrix([face_of_corner], [t.indices], [share], (faces, t.vertices))
    edge = np.arange(n_edges)
    half = np.full(n_edges, 0.5)
    middles = _matrix([edge, edge], [e.ends[:, 0], e.ends[:, 1]], [half, half], (n_edges, t.vertices))
    if linear:
        edge_points, vertex_points = middles, identity(t.vertices, format="csr")
    else:
        beside = _matrix([e.of_corner], [face_of_corner], [0.5 * np.ones(corners)], (n_edges, faces))
        soft = 0.5 * middles + 0.5 * (beside @ face_points)
        sharp = np.clip(e.sharpness, 0, 1)
        edge_points = diags(sharp) @ middles + diags(1 - sharp) @ soft
        # (Q + 2 R + (n - 3) S) / n: face points, middles of the edges that meet, and the vertex itself.
        valence = np.maximum(np.bincount(e.ends.ravel(), minlength=t.vertices), 1).astype(float)
        at_vertex = _matrix([t.indices], [face_of_corner], [np.ones(corners)], (t.vertices, faces))
        meeting = _matrix([e.ends.ravel()], [np.repeat(edge, 2)], [np.ones(2 * n_edges)], (t.vertices, n_edges))
        around = np.maximum(np.bincount(t.indices, minlength=t.vertices), 1).astype(float)
        smooth = (
            diags(1 / (valence * around)) @ (at_vertex @ face_points)
            + diags(2 / valence**2) @ (meeting @ middles)
            + diags((valence - 3) / valence)
        )
        vertex_points = _vertex_masks(t, e, boundary, smooth.tocsr())
    points_from = vstack([vertex_points, edge_points, face_points], format="csr")

    previous = np.arange(corners) - 1
    previous[t.starts] = t.starts + t.counts - 1
    following = np.arange(corners) + 1
    following[t.starts + t.counts - 1] = t.starts
    edge_at, face_at = t.vertices, t.vertices + n_edges
    indices = np.stack([t.indices, edge_at + e.of_corner, face_at + face_of_corner, edge_at + e.of_corner[previous]], 1)
    corner = np.arange(corners)
    four, full = 4 * corner, np.ones(corners)
    in_face = _matrix([face_of_corner], [corner], [share], (faces, corners))
    rows = [four, four + 1, four + 1, four + 3, four + 3]
    columns = [corner, corner, following, corner, previous]
    corners_from = _matrix(rows, columns, [full, full / 2, full / 2, full / 2, full / 2], (4 * corners, corners))
    spread = _matrix([four + 2], [face_of_corner], [full], (4 * corners, faces))
    topology = _children(t, e, np.full(corners, 4), indices.reshape(-1), points_from.shape[0])
    return Refined(topology, points_from, (corners_from + spread @ in_face).tocsr(), face_of_corner)


def _loop(t: Topology, boundary: str) -> Refined:
    """One level of Loop subdivision: every triangle becomes four."""
    from scipy.sparse import diags, vstack

    e = _edges(t)
    n_edges, triangles = len(e.ends), t.indices.reshape(-1, 3)
    edge = np.arange(n_edges)
    half = np.full(n_edges, 0.5)
    middles = _matrix([edge, edge], [e.ends[:, 0], e.ends[:, 1]], [half, half], (n_edges, t.vertices))
    opposite = _matrix(
        [e.of_corner], [np.roll(triangles, 1, axis=1).ravel()], [np.full(len(t.indices), 1 / 8)], (n_edges, t.vertices)
    )
    sharp = np.clip(e.sharpness, 0, 1)
    edge_points = diags(sharp) @ middles + diags(1 - sharp) @ (0.75 * middles + opposite)
    valence = np.maximum(np.bincount(e.ends.ravel(), minlength=t.vertices), 1).astype(float)
    beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / valence) / 4) ** 2) / valence
    a, b = e.ends.T
    ring = _matrix([a, b], [b, a], [np.ones(n_edges)] * 2, (t.vertices, t.vertices))
    smooth = diags(beta) @ ring + diags(1 - valence * beta)
    points_from = vstack([_vertex_masks(t, e, boundary, smooth.tocsr()), edge_points], format="csr")
    edges = t.vertices + e.of_corner.reshape(-1, 3)
    v0, v1, v2 = triangles.T
    e0, e1, e2 = edges.T
    indices = np.stack([v0, e0, e2, e0, v1, e1, e2, e1, v2, e0, e1, e2], 1).reshape(-1)
    weights = np.zeros((12, 3))
    between = [(0, 0), (0, 1), (2, 0), (0, 1), (1, 1), (1, 2), (2, 0), (1, 2), (2, 2), (0, 1), (1, 2), (2, 0)]
    for child, ends in enumerate(between):
        for end in ends:
            weights[child, end] += 0.5
    row, column = np.nonzero(weights)
    face = np.arange(len(triangles))[:, None]
    corners_from = _matrix(
        [(12 * face + row).ravel()],
        [(3 * face + column).ravel()],
        [np.tile(weights[row, column], len(triangles))],
        (12 * len(triangles), 3 * len(triangles)),
    )
    topology = _children(t, e, np.full(4 * len(triangles), 3), indices, points_from.shape[0])
    return Refined(topology, points_from, corners_from, np.repeat(np.arange(len(triangles)), 4))


def _children(t: Topology, e: _Edges, counts: np.ndarray, indices: np.ndarray, vertices: int) -> Topology:
    """The refined topology, with each crease split in two and all finite sharpness one less."""

    def decayed(sharpness: np.ndarray) -> np.ndarray:
        return np.where(sharpness >= INFINITELY_SHARP, sharpness, np.maximum(sharpness - 1, 0))

    sharp = np.flatnonzero((e.sharpness > 0) & (e.faces == 2))
    middle = t.vertices + sharp
    creases = np.concatenate([np.stack([e.ends[sharp, 0], middle], 1), np.stack([middle, e.ends[sharp, 1]], 1)])
    corners = np.zeros(vertices)
    corners[: t.vertices] = decayed(t.corner_sharpness)
    return Topology(counts, indices, vertices, creases, decayed(np.tile(e.sharpness[sharp], 2)), corners)
