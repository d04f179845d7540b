"""The shaded view: base colours under a lamp at the camera and a sky, so that it looks the same whatever lights a
stage has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pxr import Usd, UsdGeom, UsdShade

from ..kept import digest
from ..scene import Camera
from ..surfaces.gbuffer import BACKDROP, Look, by_label, facing_normals, illumination
from ..surfaces.pieces import SheetPiece
from ..surfaces.rays import Hits, RayCaster
from ..surfaces.samples import ENOUGH, LAYERS, beyond
from .geometry import Piece
from .prints import material_print, primvars_print
from .surface import bound_material, look, may_be_transparent
from .walk import time_code


class Shader:
    """Looks of hits on pieces."""

    def __init__(self, pieces: Sequence[Any], caster: RayCaster, time: float | None, up_axis: str):
        self.pieces, self.caster, self.time = pieces, caster, time
        self.up = np.array([0.0, 0.0, 1.0]) if up_axis == "Z" else np.array([0.0, 1.0, 0.0])
        self.warned: set[str] = set()
        self._materials: dict[Usd.Prim, tuple[list[UsdShade.Material | None], np.ndarray | None]] = {}
        # Parts of an image are shaded on several threads.
        self._lock = threading.Lock()
        self._primvars: dict[tuple, tuple[np.ndarray, str] | None] = {}
        self._transparent: dict[Usd.Prim | None, bool] = {}
        self._prints: dict[Usd.Prim | None, bytes] = {}

    def visible(self, origins: np.ndarray, directions: np.ndarray, rays: np.ndarray, far: float) -> Hits:
        """The first surface on each ray that is there: neither cut out nor of no opacity."""
        found = self.caster.cast(origins, directions, rays)
        kept, opacity = [], self.opacity(found)
        for _ in range(LAYERS):
            found, opacity = found[found.depth <= far], opacity[found.depth <= far]
            kept.append(found[opacity >= ENOUGH])
            through = found[opacity < ENOUGH]
            if not len(through.ray):
                break
            found = self.caster.cast(beyond(through, directions), directions[through.ray], through.ray)
            opacity = self.opacity(found)
        return kept[0] if len(kept) == 1 else Hits.joined(kept)

    def radiance(
        self, origins: np.ndarray, directions: np.ndarray, camera: Camera, size: tuple[int, int]
    ) -> np.ndarray:
        """(N, 3) linear light along rays, through transparent surfaces."""
        light, left = np.zeros((len(origins), 3)), np.ones(len(origins))
        hits = self.caster.cast(origins, directions, np.arange(len(origins)))
        for _ in range(LAYERS):
            hits = hits[hits.depth <= camera.clipping_range[1]]
            seen = self.look(hits, origins, directions, camera, size)
            lit = (
                seen.color * illumination(hits, camera, facing_normals(hits, self.pieces, camera), self.up)[:, None]
                + seen.emission
            )
            light[hits.ray] += (left[hits.ray] * seen.opacity)[:, None] * lit
            left[hits.ray] *= 1 - seen.opacity
            through = hits[left[hits.ray] >= ENOUGH]
            if not len(through.ray):
                break
            hits = self.caster.cast(beyond(through, directions), directions[through.ray], through.ray)
        return light + left[:, None] * BACKDROP

    def look(
        self, hits: Hits, origins: np.ndarray, directions: np.ndarray, camera: Camera, size: tuple[int, int]
    ) -> Look:
        """How hits look, in an image of `size` (height, width) samples."""
        right, down = _steps(camera, size)
        at, toward = origins[hits.ray], directions[hits.ray]
        weights = [hits.weights]
        for step in (right, down):
            shifted = (at + step, toward) if camera.projection == "orthographic" else (at, toward + step)
            weights.append(self.caster.weights_along(hits, *shifted))
        out = Look.blank(len(hits.ray))
        for material, here in self._by_material(hits):
            points = _HitPoints(self, hits[here], [w[here] for w in weights])
            out.put(here, look(material, points, self.time, self.warned))
        return out

    def opacity(self, hits: Hits) -> np.ndarray:
        """(N,) opacity of hits, looked up in full only where a material could be less than opaque."""
        out = np.ones(len(hits.ray))
        for material, here in self._by_material(hits):
            key = material.GetPrim() if material else None
            if key not in self._transparent:
                self._transparent[key] = may_be_transparent(material)
            if self._transparent[key]:
                points = _HitPoints(self, hits[here], [hits.weights[here]] * 3)
                out[here] = look(material, points, self.time, self.warned).opacity
        return out

    def _by_material(self, hits: Hits) -> Iterator[tuple[UsdShade.Material | None, np.ndarray]]:
        """Each material that was hit, with the hits' indices."""
        groups: dict[Usd.Prim | None, tuple[UsdShade.Material | None, list[np.ndarray]]] = {}
        for index, members in by_label(hits.piece):
            materials, of_face = self.materials(self.pieces[index])
            if of_face is None:
                parts = [(0, members)]
            else:
                faces = self.pieces[index].mesh.faces[hits.triangle[members]]
                parts = [(slot, members[part]) for slot, part in by_label(of_face[faces])]
            for slot, part in parts:
                material = materials[slot]
                groups.setdefault(material.GetPrim() if material else None, (material, []))[1].append(part)
        for material, found in groups.values():
            yield material, np.concatenate(found)

    def materials(self, piece: Any) -> tuple[list[UsdShade.Material | None], np.ndarray | None]:
        """The materials of a piece, and for each authored face the index of its own; None where all have the first."""
        if isinstance(piece, SheetPiece):
            return [None], None
        if piece.prim not in self._materials:
            found: list[UsdShade.Material | None] = [bound_material(piece.prim)]
            of_face = None
            for subset in UsdShade.MaterialBindingAPI(piece.prim).GetMaterialBindSubsets():
                faces = np.asarray(subset.GetIndicesAttr().Get(time_code(self.time)) or [], dtype=np.int64)
                if of_face is None:
                    of_face = np.zeros(int(piece.mesh.faces.max()) + 1, np.int64)
                of_face[faces[(faces >= 0) & (faces < len(of_face))]] = len(found)
                found.append(bound_material(subset.GetPrim()))
            self._materials[piece.prim] = (found, of_face)
        return self._materials[piece.prim]

    def print_of(self, piece: Piece) -> bytes:
        """What tells a piece's look apart from others."""
        materials, of_face = self.materials(piece)
        for material in materials:
            key = material.GetPrim() if material else None
            if key not in self._prints:
                self._prints[key] = material_print(material, self.time)
        if piece.prim not in self._prints:
            self._prints[piece.prim] = primvars_print(piece.prim, self.time)
        instance: tuple = ()
        if piece.instance is not None:
            if piece.instance[0] not in self._prints:
                self._prints[piece.instance[0]] = primvars_print(piece.instance[0], self.time)
            instance = (self._prints[piece.instance[0]], piece.instance[1])
        looks = [self._prints[material.GetPrim() if material else None] for material in materials]
        return digest(self._prints[piece.prim], instance, of_face, *looks)

    def primvar(self, piece: Any, name: str) -> tuple[np.ndarray, str] | None:
        """Values (N, k) of a primvar, refined for the piece's mesh, and their interpolation; None where it has none."""
        if isinstance(piece, SheetPiece):
            return None
        if piece.instance is not None:
            each = self._instance_primvar(piece, name)
            if each is not None:
                return each, "constant"
        primvar = UsdGeom.PrimvarsAPI(piece.prim).FindPrimvarWithInheritance(name)
        if not primvar or not primvar.HasValue():
            return None
        owner = primvar.GetAttr().GetPrim()
        shared = owner.GetPrimInPrototype() if owner.IsInstanceProxy() else owner
        key = (shared.GetPath(), name, id(piece.mesh))
        with self._lock:
            return self._refined(key, piece, primvar)

    def _refined(self, key: tuple, piece: Any, primvar: UsdGeom.Primvar) -> tuple[np.ndarray, str] | None:
        if key not in self._primvars:
            values = np.asarray(primvar.ComputeFlattened(time_code(self.time)))
            made: tuple[np.ndarray, str] | None = None
            if values.dtype.kind in "fiub":
                interpolation = str(primvar.GetInterpolation())
                values = values.reshape(-1, 1) if values.ndim < 2 else values
                refined = piece.mesh.refine(values, interpolation)
                made = None if refined is None else (refined, interpolation)
            self._primvars[key] = made
        return self._primvars[key]

    def _instance_primvar(self, piece: Piece, name: str) -> np.ndarray | None:
        """(1, k) of a primvar that a point instancer has a value of for each instance; None where it has not."""
        assert piece.instance is not None
        instancer, index = piece.instance
        key = (instancer.GetPath(), name, "instances")
        if key not in self._primvars:
            primvar = UsdGeom.PrimvarsAPI(instancer).GetPrimvar(name)
            made: tuple[np.ndarray, str] | None = None
            if primvar and primvar.HasAuthoredValue() and primvar.GetInterpolation() != UsdGeom.Tokens.constant:
                values = np.asarray(primvar.ComputeFlattened(time_code(self.time)))
                if values.dtype.kind in "fiub":
                    values = values.reshape(len(values), -1).astype(np.float32)
                    made = (values, "constant")
            self._primvars[key] = made
        found = self._primvars[key]
        return found[0][index : index + 1] if found is not None and index < len(found[0]) else None


class _HitPoints:
    """Hits as `Points` of a network."""

    def __init__(self, shader: Shader, hits: Hits, weights: list[np.ndarray]):
        self.shader, self.hits, self.weights, self.count = shader, hits, weights, len(hits.ray)
        self.memo: dict[tuple[int, str, str], np.ndarray | None] = {}

    def primvar(self, name: str, neighbour: int) -> np.ndarray | None:
        out: np.ndarray | None = None
        for index, members in by_label(self.hits.piece):
            piece = self.shader.pieces[index]
            found = self.shader.primvar(piece, name)
            if found is None:
                continue
            corners = piece.mesh.on_corners(*found, self.hits.triangle[members])
            if out is None:
                out = np.zeros((self.count, corners.shape[2]), np.float32)
            if corners.shape[2] == out.shape[1]:
                out[members] = np.einsum("nik,ni->nk", corners, self.weights[neighbour][members])
        return out


def _steps(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What one sample to the right, and one down, adds to a ray's direction (orthographic: to its origin)."""
    right, up = np.linalg.inv(camera.world_to_camera)[:2, :3]
    focal = 1.0 if camera.projection == "orthographic" else camera.focal_length
    return right * camera.horizontal_aperture / focal / size[1], -up * camera.vertical_aperture / focal / size[0]
