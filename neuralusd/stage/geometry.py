"""All that a stage would draw, as triangles: `gather_meshes`."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from pxr import Sdf, Usd, UsdGeom

from .bounds import Transforms
from .errors import StageWarning
from .mesh import Mesh, build_mesh
from .skin import skinned_points
from .walk import GUIDE, Visible, time_code, visible

# Custom data of a mesh whose points its exporter has deformed and may deform otherwise.
DEFORMS_KEY = "neuralusd:deforms"
# Faces that all subdivision surfaces of a stage may be refined to together, and one of them.
ALL_FACES, ONE_MESH = 2_000_000, 50_000


@dataclass(eq=False)
class Piece:
    """A gprim as it is placed on the stage once.

    Attributes:
        path: the prim that places it: the gprim (a proxy inside an instance), or the point instancer.
        prim: the gprim whose primvars and material it has.
        mesh: its triangles in its local space, shared by all instances.
        local_to_world: (4, 4), local space to metres.
        purpose: "default", "render" or "proxy".
        instance: the point instancer that places it and its index there; primvars of the instancer may be a value each.
        deforms: whether a skeleton, blend shapes or time may give its points other places.
    """

    path: Sdf.Path
    prim: Usd.Prim
    mesh: Mesh
    local_to_world: np.ndarray
    purpose: str
    instance: tuple[Usd.Prim, int] | None = None
    deforms: bool = False


def gather_meshes(stage: Usd.Stage, time: float | None = None, root: Usd.Prim | None = None) -> list[Piece]:
    """Every visible gprim of purpose default, render or proxy as triangles, in traversal order.

    With `root`, which may be a class, those at and below that prim.

    Subdivision surfaces are refined, implicit shapes tessellated, instances share their `Mesh`, and each instance of
    a point instancer is a piece of its own.

    Warns:
        StageWarning: curves, points, volumes and other geometry without a surface are left out; so is broken topology.
    """
    found = visible(stage.GetPseudoRoot(), time) if root is None else visible(root, time, undefined=True)
    prims = [v for v in found if v.kind and v.purpose != GUIDE]
    return _Gatherer(stage, time, len(prims)).gather(prims)


def _deforms(prim: Usd.Prim) -> bool:
    """Whether the points of a mesh vary over time, or its exporter says that something of its own moves them."""
    mesh = UsdGeom.Mesh(prim)
    if not mesh:
        return False
    return mesh.GetPointsAttr().ValueMightBeTimeVarying() or bool(prim.GetCustomDataByKey(DEFORMS_KEY))


class _Gatherer:
    def __init__(self, stage: Usd.Stage, time: float | None, count: int):
        self.stage, self.time = stage, time
        self.transforms = Transforms(stage, time)
        self.meshes: dict[Sdf.Path, Mesh | None] = {}
        self.skinned: dict[Sdf.Path, dict[Sdf.Path, np.ndarray]] = {}
        self.left_out: Counter[str] = Counter()
        self.budget = min(ONE_MESH, ALL_FACES // max(count, 1))

    def gather(self, prims: list[Visible]) -> list[Piece]:
        pieces = []
        for v in prims:
            if v.kind == "instancer":
                pieces += self.instances(v.prim, v.purpose, self.transforms.local_to_world(v.prim), frozenset())
            elif v.kind == "surface":
                piece = self.piece(v, self.transforms.local_to_world(v.prim))
                pieces += [piece] if piece else []
            else:
                self.left_out[v.prim.GetTypeName()] += 1
        if self.left_out:
            names = ", ".join(f"{n} {name}" for name, n in sorted(self.left_out.items()))
            identifier = self.stage.GetRootLayer().identifier
            warnings.warn(f"{identifier}: {names} not drawn; only surfaces are.", StageWarning, 3)
        return pieces

    def piece(self, v: Visible, local_to_world: np.ndarray) -> Piece | None:
        mesh = self.mesh(v)
        # A transform that is not finite shows nothing; those of assets are checked when the scene is read.
        if mesh is None or not np.isfinite(local_to_world).all():
            return None
        path = v.prim.GetPath()
        skinned = v.skeleton_root is not None and path in self.skinned[v.skeleton_root.GetPath()]
        return Piece(path, v.prim, mesh, local_to_world, v.purpose, deforms=skinned or _deforms(v.prim))

    def mesh(self, v: Visible) -> Mesh | None:
        path = v.prim.GetPath()
        if v.skeleton_root is not None:
            root = v.skeleton_root.GetPath()
            if root not in self.skinned:
                self.skinned[root] = skinned_points(v.skeleton_root, self.time)
            if path in self.skinned[root]:
                # Instances of one character may be in different poses, so they share nothing.
                return build_mesh(v.prim, self.time, self.budget, self.skinned[root][path])
        shared = v.prim.GetPrimInPrototype() if v.prim.IsInstanceProxy() else v.prim
        key = shared.GetPath()
        if key not in self.meshes:
            self.meshes[key] = build_mesh(shared, self.time, self.budget)
        return self.meshes[key]

    def instances(self, prim: Usd.Prim, purpose: str, local_to_world: np.ndarray, within: frozenset) -> list[Piece]:
        """The pieces of a point instancer; `within` are the instancers it is a prototype of."""
        instancer, code = UsdGeom.PointInstancer(prim), time_code(self.time)
        path = prim.GetPath()
        targets = instancer.GetPrototypesRel().GetForwardedTargets()
        indices = np.asarray(instancer.GetProtoIndicesAttr().Get(code) or [], dtype=np.int64)
        if not targets or not len(indices):
            return []
        if indices.min() < 0 or indices.max() >= len(targets) or path in within:
            what = f"has protoIndices from {indices.min()} to {indices.max()} for {len(targets)} prototypes"
            what = "is its own prototype" if path in within else what
            warnings.warn(f"<{path}> is not drawn: it {what}. Correct it.", StageWarning, 4)
            return []
        sampled = instancer.ComputeInstanceTransformsAtTime(
            code, code, UsdGeom.PointInstancer.ExcludeProtoXform, UsdGeom.PointInstancer.IgnoreMask
        )
        if len(sampled) != len(indices):
            warnings.warn(
                f"<{path}> is not drawn: it has {len(indices)} protoIndices, but positions, orientations or scales for "
                f"{len(sampled)}. Correct it.", StageWarning, 4
            )  # fmt: skip
            return []
        mask = instancer.ComputeMaskAtTime(code)
        shown = np.asarray(mask, bool) if mask else np.ones(len(indices), bool)
        prototypes = [self.prototype(target, purpose, within | {path}) for target in targets]
        out = []
        transforms = np.array(sampled).reshape(-1, 4, 4)
        for number in np.flatnonzero(shown):
            to_world, instance = transforms[number] @ local_to_world, (prim, int(number))
            out += [
                Piece(path, p.prim, p.mesh, p.local_to_world @ to_world, p.purpose, p.instance or instance)
                for p in prototypes[indices[number]]
            ]
        return out

    def prototype(self, target: Sdf.Path, purpose: str, within: frozenset) -> list[Piece]:
        """The pieces of a prototype, relative to the instancer, in the instancer's units."""
        root = self.stage.GetPrimAtPath(target)
        if not root:
            message = f"<{target}>, a prototype of a point instancer, does not exist. Correct `prototypes`."
            warnings.warn(message, StageWarning, 5)
            return []
        out: list[Piece] = []
        cache = UsdGeom.XformCache(time_code(self.time))
        to_root = np.array(cache.GetParentToWorldTransform(root).GetInverse())
        for v in visible(root, self.time, purpose if purpose != "default" else None, undefined=True):
            local = np.array(cache.GetLocalToWorldTransform(v.prim)) @ to_root
            if v.purpose == GUIDE or not v.kind:
                continue
            if v.kind == "instancer":
                out += self.instances(v.prim, v.purpose, local, within)
            elif v.kind == "surface":
                piece = self.piece(v, local)
                out += [piece] if piece else []
            else:
                self.left_out[v.prim.GetTypeName()] += 1
        return out
