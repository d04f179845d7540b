"""The triangles of one gprim in its local space, and its primvars on them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from pxr import Usd, UsdGeom

from ..kept import Kept, digest
from .errors import StageWarning
from .primitives import Shape, tessellate
from .subdivide import Refined, Topology, refine
from .triangulate import triangulate
from .walk import time_code

SMOOTH_WITHIN = np.cos(np.radians(40.0))
# Bytes of meshes, and of the primvars refined for them, that are kept between renders.
KEPT_BYTES = 1 << 30
# Primvars of a subdivision surface that are kept.
KEPT_PRIMVARS = 4


@dataclass(eq=False)
class Mesh:
    """Triangles of a gprim.

    Attributes:
        points: (V, 3) float64, local space.
        triangles: (T, 3) int, indices into `points`.
        faces: (T,) int, the authored face each triangle is part of (GeomSubsets and uniform primvars count these).
        corners: (T, 3) int, each triangle corner's place among the face-varying values.
        normals: (T, 3, 3) float32, unit, a corner; None for flat shading.
        refined: how subdivision made the points from the authored ones; None without subdivision.
        sizes: how many values each primvar interpolation has.
        authored: (V', 3) the points as they were before subdivision; None of implicit shapes.
    """

    points: np.ndarray
    triangles: np.ndarray
    faces: np.ndarray
    corners: np.ndarray
    normals: np.ndarray | None = None
    refined: Refined | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    authored: np.ndarray | None = None
    _primvars: dict[tuple[bytes, str], np.ndarray | None] = field(default_factory=dict, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are large."""
        arrays = (self.points, self.triangles, self.faces, self.corners, self.normals)
        return sum(array.nbytes for array in arrays if array is not None)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of the points that triangles use: minimum (3,) and maximum (3,)."""
        used = self.points[self.triangles.ravel()]
        return used.min(axis=0), used.max(axis=0)

    def refine(self, values: np.ndarray, interpolation: str) -> np.ndarray | None:
        """A primvar's values (N, ...) as `on_corners` wants them, as float32; None where N does not fit the mesh."""
        if self.refined is None:
            return self._refine(values, interpolation)
        key = digest(values), interpolation
        if key not in self._primvars:
            while len(self._primvars) >= KEPT_PRIMVARS:
                self._primvars.pop(next(iter(self._primvars)))
            self._primvars[key] = self._refine(values, interpolation)
        return self._primvars[key]

    def _refine(self, values: np.ndarray, interpolation: str) -> np.ndarray | None:
        values = values.astype(np.float32)
        if interpolation == "constant" or len(values) == 1:
            return values[:1] if len(values) else None
        if interpolation not in self.sizes or len(values) < self.sizes[interpolation]:
            return None
        values = values[: self.sizes[interpolation]]
        if self.refined is None or interpolation == "uniform":
            return values
        return (self.refined.corners_from if interpolation == "faceVarying" else self.refined.points_from) @ values

    def on_corners(self, values: np.ndarray, interpolation: str, triangles: np.ndarray) -> np.ndarray:
        """Refined values (N, ...) on the corners of `triangles`, (len(triangles), 3, ...)."""
        if len(values) == 1:
            return np.broadcast_to(values[:, None], (len(triangles), 3, *values.shape[1:]))
        if interpolation == "uniform":
            return np.repeat(values[self.faces[triangles]][:, None], 3, axis=1)
        return values[self.corners[triangles] if interpolation == "faceVarying" else self.triangles[triangles]]


def build_mesh(prim: Usd.Prim, time: float | None, budget: int, points: np.ndarray | None = None) -> Mesh | None:
    """The triangles of a Mesh, a TetMesh or an implicit shape; None where it has none.

    Args:
        budget: about how many faces a subdivision surface may be refined to.
        points: (V, 3) to use in place of the authored ones, as skinning gives.

    Warns:
        StageWarning: the topology contradicts itself; the faces concerned, or all, are left out.
    """
    if prim.IsA(UsdGeom.Mesh):
        return _polygons(UsdGeom.Mesh(prim), time, budget, points)
    if prim.IsA(UsdGeom.TetMesh):
        code = time_code(time)
        surface = UsdGeom.TetMesh(prim).GetSurfaceFaceVertexIndicesAttr().Get(code)
        vertices = _vectors(UsdGeom.TetMesh(prim).GetPointsAttr().Get(code))
        triangles = np.asarray(surface, dtype=np.int64).reshape(-1, 3) if surface else np.empty((0, 3), np.int64)
        triangles = triangles[((triangles >= 0) & (triangles < len(vertices))).all(axis=1)]
        every = np.arange(3 * len(triangles)).reshape(-1, 3)
        return _mesh(vertices, triangles, np.arange(len(triangles)), every, len(triangles)) if len(triangles) else None
    shape = tessellate(prim, time)
    if shape is None:
        return None
    return _kept.get(digest(shape.points, shape.indices, "implicit"), lambda: _implicit(shape))


def _implicit(shape: Shape) -> Mesh:
    corners, faces = triangulate(shape.points, shape.counts, shape.indices)
    mesh = _mesh(shape.points, shape.indices[corners], faces, corners, len(shape.counts))
    mesh.normals = shape.normals[corners].astype(np.float32)
    mesh.sizes = {}
    return mesh


def _mesh(points, triangles, faces, corners, count) -> Mesh:
    sizes = {"uniform": count, "vertex": len(points), "varying": len(points), "faceVarying": corners.size}
    return Mesh(points=points, triangles=triangles, faces=faces, corners=corners, sizes=sizes)


def _vectors(values) -> np.ndarray:
    return np.empty((0, 3)) if values is None else np.asarray(values, dtype=np.float64).reshape(-1, 3)


def _ints(attribute: Usd.Attribute, code: Usd.TimeCode) -> np.ndarray:
    values = attribute.Get(code)
    return np.empty(0, np.int64) if values is None else np.asarray(values, dtype=np.int64)


def _floats(attribute: Usd.Attribute, code: Usd.TimeCode) -> np.ndarray:
    values = attribute.Get(code)
    return np.empty(0) if values is None else np.asarray(values, dtype=np.float64)


def _polygons(mesh: UsdGeom.Mesh, time: float | None, budget: int, points: np.ndarray | None) -> Mesh | None:
    code, prim = time_code(time), mesh.GetPrim()
    counts, indices = _ints(mesh.GetFaceVertexCountsAttr(), code), _ints(mesh.GetFaceVertexIndicesAttr(), code)
    deformed = points is not None
    if points is None:
        points = _vectors(mesh.GetPointsAttr().Get(code))
    if not len(points) or not len(counts):
        return None
    problem = None
    if counts.sum() != len(indices):
        problem = f"faceVertexCounts add up to {counts.sum()}, but there are {len(indices)} faceVertexIndices"
    elif indices.min() < 0 or indices.max() >= len(points):
        problem = f"faceVertexIndices run from {indices.min()} to {indices.max()}, but there are {len(points)} points"
    elif not np.isfinite(points).all():
        problem = "its points are not finite"
    if problem:
        warnings.warn(f"<{prim.GetPath()}> is not drawn: {problem}. Export it again.", StageWarning, stacklevel=2)
        return None

    scheme, boundary = str(mesh.GetSubdivisionSchemeAttr().Get()), str(mesh.GetInterpolateBoundaryAttr().Get(code))
    holes = _ints(mesh.GetHoleIndicesAttr(), code)
    if scheme == "none":
        # Authored normals are of the rest pose.
        normals, interpolation = (None, "") if deformed else _given_normals(mesh, code)
        key = digest(points, counts, indices, holes, normals, interpolation, deformed)

        def faces() -> Mesh | None:
            out = _faces(points, counts, indices, holes)
            if out is not None:
                out.normals = _smooth_normals(out) if deformed else _authored_normals(out, normals, interpolation)
                out.authored = points
            return out

        return _kept.get(key, faces)
    topology = _topology(mesh, code, counts, indices, len(points))
    creases = (topology.creases, topology.crease_sharpness, topology.corner_sharpness)
    shape = digest(counts, indices, holes, *creases, scheme, boundary, budget)
    return _kept.get(
        (shape, digest(points)), lambda: _subdivided(shape, points, topology, holes, scheme, boundary, budget)
    )


_kept = Kept(KEPT_BYTES, lambda mesh: 0 if mesh is None else mesh.nbytes)
# How subdivision weighs points is the same for each frame of a surface that moves.
_refinements = Kept(KEPT_BYTES // 4, lambda refined: refined.points_from.data.nbytes + refined.corners_from.data.nbytes)


def _subdivided(
    shape: bytes, points: np.ndarray, topology: Topology, holes: np.ndarray, scheme: str, boundary: str, budget: int
) -> Mesh | None:
    """A subdivision surface; `shape` identifies all but the points."""
    counts, indices = topology.counts, topology.indices
    if boundary == "none":
        holes = np.union1d(holes, _at_boundary(topology))
    levels = int(np.clip(np.log(max(budget, 1) / len(counts)) / np.log(4), 0, 4))
    refined = _refinements.get(shape, lambda: refine(topology, scheme, levels, boundary))
    fine = refined.topology
    fine_holes = np.flatnonzero(np.isin(refined.faces_from, holes))
    out = _faces(refined.points_from @ points, fine.counts, fine.indices, fine_holes)
    if out is None:
        return None
    out.faces = refined.faces_from[out.faces]
    out.refined, out.authored = refined, points
    out.sizes = {"uniform": len(counts), "vertex": len(points), "varying": len(points), "faceVarying": len(indices)}
    if scheme != "bilinear":
        out.normals = _smooth_normals(out)
    return out


def _faces(points: np.ndarray, counts: np.ndarray, indices: np.ndarray, holes: np.ndarray) -> Mesh | None:
    corners, faces = triangulate(points, counts, indices)
    if len(holes):
        drawn = ~np.isin(faces, holes)
        corners, faces = corners[drawn], faces[drawn]
    if not len(faces):
        return None
    mesh = _mesh(points, indices[corners], faces, corners, len(counts))
    mesh.sizes["faceVarying"] = len(indices)
    return mesh


def _topology(mesh: UsdGeom.Mesh, code: Usd.TimeCode, counts: np.ndarray, indices: np.ndarray, n: int) -> Topology:
    """The authored topology of `n` vertices, its creases taken apart into edges."""
    lengths, chain = _ints(mesh.GetCreaseLengthsAttr(), code), _ints(mesh.GetCreaseIndicesAttr(), code)
    sharpness = _floats(mesh.GetCreaseSharpnessesAttr(), code)
    edges, sharp = np.empty((0, 2), np.int64), np.empty(0)
    usable = len(chain) == lengths.sum() and (lengths >= 2).all() and ((chain >= 0) & (chain < n)).all()
    if len(chain) and usable and len(sharpness) in (len(lengths), len(chain) - len(lengths)):
        last = np.zeros(len(chain), bool)
        last[np.cumsum(lengths) - 1] = True
        edges = np.stack([chain[:-1], chain[1:]], 1)[~last[:-1]]
        sharp = sharpness if len(sharpness) == len(edges) else np.repeat(sharpness, lengths - 1)
    corners = np.zeros(n)
    at, values = _ints(mesh.GetCornerIndicesAttr(), code), _floats(mesh.GetCornerSharpnessesAttr(), code)
    if len(at) == len(values):
        inside = (at >= 0) & (at < n)
        corners[at[inside]] = values[inside]
    return Topology(counts, indices, n, edges, sharp, corners)


def _at_boundary(topology: Topology) -> np.ndarray:
    """Faces that touch the mesh's boundary."""
    following = np.arange(len(topology.indices)) + 1
    following[topology.starts + topology.counts - 1] = topology.starts
    pairs = np.sort(np.stack([topology.indices, topology.indices[following]], 1), axis=1)
    ends, times = np.unique(pairs, axis=0, return_counts=True)
    touched = np.isin(topology.indices, ends[times == 1])
    return np.unique(np.repeat(np.arange(len(topology.counts)), topology.counts)[touched])


def _given_normals(mesh: UsdGeom.Mesh, code: Usd.TimeCode) -> tuple[np.ndarray | None, str]:
    """Authored normals (N, 3) and their interpolation; None where there are none."""
    primvar = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("normals")
    if primvar and primvar.HasAuthoredValue():
        values, interpolation = primvar.ComputeFlattened(code), str(primvar.GetInterpolation())
    else:
        values, interpolation = mesh.GetNormalsAttr().Get(code), str(mesh.GetNormalsInterpolation())
    return (None, "") if values is None or not len(values) else (_vectors(values), interpolation)


def _authored_normals(out: Mesh, values: np.ndarray | None, interpolation: str) -> np.ndarray | None:
    refined = None if values is None else out.refine(values, interpolation)
    if refined is None:
        return None
    return _unit(out.on_corners(refined, interpolation, np.arange(len(out.triangles))))


def _smooth_normals(mesh: Mesh) -> np.ndarray:
    """Normals (T, 3, 3) that are the vertex's where it is nearly smooth, the face's where the surface has a crease."""
    a, b, c = (mesh.points[mesh.triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    vertex = np.zeros_like(mesh.points)
    for i in range(3):
        np.add.at(vertex, mesh.triangles[:, i], face)
    corner, flat = _unit(vertex)[mesh.triangles], np.repeat(_unit(face)[:, None], 3, axis=1)
    smooth = (corner * flat).sum(-1, keepdims=True) > SMOOTH_WITHIN
    return np.where(smooth, corner, flat).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)).astype(np.float32)
