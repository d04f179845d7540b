"""The G-buffer: what samples of an image's surfaces are told of, whatever the surfaces come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..colors import linear_to_srgb
from ..kept import digest
from ..scene import Asset, Camera, GBuffer, Passes, Scene
from .pieces import Placed, SheetPiece
from .rays import Hits, RayCaster
from .samples import Samples, sample
from .sheets import IS_SKY, SKY, sheet_pieces
from .threads import side_by_side

# Linear. The lamp at the camera lights what faces it, the sky from above, the ground from below.
LAMP, SKY_LIGHT, GROUND = 0.6, 0.45, 0.25
# Linear grey of what no surface covers; sRGB 0.5.
BACKDROP = 0.2140
# Linear base colour of what has no material; sRGB 0.735.
_PLAIN = 0.5


@dataclass(eq=False)
class Look:
    """How N points of a surface look.

    Attributes:
        color: (N, 3) linear base colour; emission: (N, 3) linear light of its own; opacity: (N,), 0 is not there.
        roughness, metallic: (N,), 0 to 1.
    """

    color: np.ndarray
    emission: np.ndarray
    opacity: np.ndarray
    roughness: np.ndarray
    metallic: np.ndarray

    @classmethod
    def blank(cls, count: int) -> Look:
        """Black, opaque and rough."""
        black, ones = np.zeros((2, count, 3), np.float32), np.ones((2, count), np.float32)
        return cls(black[0], black[1], ones[0], ones[1], np.zeros(count, np.float32))

    def put(self, here: np.ndarray, other: Look) -> None:
        """Takes `other` as the look of the points `here`."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[here] = getattr(other, name)


class Surfaces:
    """Pieces that a scene shows, ready for rays: those of assets without geometry alone, unless a subclass adds others.

    Args:
        scene: gives the assets. camera: its aperture fitted to the image's aspect.
        pieces, owners: of the geometry there is, and (P,) the index of each piece's asset, -1 for none.
        flat: assets without geometry stand as cards. sheets: whether these have a surface at all.

    Attributes:
        pieces, owners: of all. surfaced: (A,) bool, which of the assets have geometry.
    """

    def __init__(
        self,
        scene: Scene,
        camera: Camera,
        pieces: Sequence[Placed] = (),
        owners: np.ndarray | None = None,
        flat: bool = False,
        sheets: bool = True,
    ):
        self.scene, self.camera = scene, camera
        of = np.zeros(0, np.int32) if owners is None else owners
        presence = np.array([*(asset.presence for asset in scene.assets), 1.0])
        there = [i for i in range(len(pieces)) if presence[of[i]] > 0]
        own = {int(of[i]) for i in there}
        self.surfaced = np.array([index in own for index in range(len(scene.assets))], bool)
        others = [asset for number, asset in enumerate(scene.assets) if number not in own] if sheets else []
        seen = sheet_pieces(others, camera, flat)
        index = {asset.path: number for number, asset in enumerate(scene.assets)}
        self.pieces: list[Placed] = [*(pieces[i] for i in there), *seen]
        self.owners = np.array([*of[there], *(index[sheet.path] for sheet in seen)], np.int32)
        self.presence = presence[self.owners]
        self.caster = RayCaster(self.pieces, camera, self.owners, [asset.local_to_world for asset in scene.assets])

    def samples(
        self, height: int, width: int, antialias: int, everywhere: bool = False, only: np.ndarray | None = None
    ) -> Iterator[Samples]:
        """As `neuralusd.surfaces.samples.sample`."""
        return sample(self.caster, self.camera, (height, width), self.opacity, antialias, everywhere, only)

    @property
    def warned(self) -> Collection[str]:
        """What of the looks was left out, with a warning."""
        return ()

    def prints(self) -> list[bytes]:
        """Of each piece what tells it apart from any that would look otherwise, or elsewhere."""
        return [self.print_of(number) for number in range(len(self.pieces))]

    def print_of(self, number: int) -> bytes:
        """The print of a piece: its mesh (while that exists), its place, its asset, what it was seen as."""
        piece, owner = self.pieces[number], int(self.owners[number])
        asset = self.scene.assets[owner] if owner >= 0 else None
        space = None if asset is None else asset.shape_to_world()
        placed = (piece.local_to_world, owner, self.presence[number], space)
        if not isinstance(piece, SheetPiece):
            return digest(id(piece.mesh), *placed)
        # Its mesh is made anew each time.
        mask = None if piece.outline is None else piece.outline.mask
        return digest(piece.mesh.points, piece.mesh.triangles, piece.seen, mask, *placed)

    def opacity(self, hits: Hits, through: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) how much hits hide: opacity of their material, presence of their asset, outline of what was seen.

        Args:
            through: (N,) the asset that is only partly there and that the ray has passed, -1 for none. Of that asset it
                meets nothing more.

        Returns:
            The opacities, and what the rays will have passed.
        """
        if not len(hits.ray):
            return np.zeros(0), through
        owner, presence = self.owners[hits.piece], self.presence[hits.piece]
        out = self.material_opacity(hits) * presence * ((owner != through) | (owner < 0))
        through = np.where((presence < 1) & (out > 0), owner, through)
        for number, here in by_label(hits.piece):
            piece = self.pieces[number]
            if isinstance(piece, SheetPiece) and piece.outline is not None:
                out[here] *= piece.outline(_on_sheet(piece, hits[here]))
        return out, through

    def material_opacity(self, hits: Hits) -> np.ndarray:
        """(N,) opacity of the materials of hits."""
        return np.ones(len(hits.ray))

    def look(self, hits: Hits, origins: np.ndarray, directions: np.ndarray, size: tuple[int, int]) -> Look:
        """How hits look whose rays are `origins` and `directions` [hits.ray], in an image of `size` (height, width)."""
        plain = Look.blank(len(hits.ray))
        plain.color[:] = _PLAIN
        return plain

    def then(self, piece: Placed, asset: Asset) -> tuple[np.ndarray, float] | None:
        """(V, 3) of a piece's mesh in its asset's local space when the asset's views were taken; and 1, or -1 where the
        order of a triangle's corners is the other way round than in the world now; None where it has not moved."""
        return None

    def up(self) -> np.ndarray:
        """(3,) the scene's up axis."""
        return np.array([0.0, 0.0, 1.0]) if self.scene.up_axis == "Z" else np.array([0.0, 1.0, 0.0])


def gbuffer(surfaces: Surfaces, height: int, width: int, antialias: int = 3, only: np.ndarray | None = None) -> GBuffer:
    """The surfaces that the camera sees at an image's size; what is of no asset is the background's, as the sky is.

    Args:
        only: (height, width) bool, pixels that are wanted; None is all.
    """
    size = (height, width)
    samples = surfaces.samples(height, width, antialias, only=only)
    parts = list(side_by_side(lambda part: _shaded(part, surfaces, size), samples))
    return joined([*parts, _sky(parts, surfaces.scene, surfaces.camera, size, only)], size, surfaces.surfaced)


def gbuffer_of_views(scene: Scene, height: int, width: int, antialias: int = 3, flat: bool = False) -> GBuffer:
    """The surfaces that a scene's views know of, without any geometry; `flat`: as cards in their 2D boxes."""
    return gbuffer(Surfaces(scene, scene.camera.fitted(width / height), flat=flat), height, width, antialias)


def passes_of(surfaces: GBuffer) -> Passes:
    """Who is seen where, how deep, and how it looks under even light (`shaded`) and without any (`base`)."""
    height, width = surfaces.size
    order = np.argsort(surfaces.weight, kind="stable")  # of a pixel's samples the one that shows most is put last
    place = surfaces.pixel[order]
    ids, depth = np.full(height * width, -1, np.int32), np.full(height * width, np.inf, np.float32)
    points, normals = np.full((height * width, 3), np.nan, np.float32), np.zeros((height * width, 3), np.float32)
    ids[place], points[place], normals[place] = surfaces.asset[order], surfaces.points[order], surfaces.normals[order]
    depth[place] = np.where(surfaces.depth[order] >= IS_SKY, np.inf, surfaces.depth[order])
    size = surfaces.size
    light = surfaces.image(surfaces.color * surfaces.shade[:, None] + surfaces.emission)
    return Passes(
        ids=ids.reshape(size),
        depth=depth.reshape(size),
        points=points.reshape(*size, 3),
        normals=normals.reshape(*size, 3),
        base=linear_to_srgb(surfaces.image(surfaces.color)).astype(np.float32),
        shaded=linear_to_srgb(light).astype(np.float32),
        lit=False,
    )


def joined(parts: list[GBuffer], size: tuple[int, int], surfaced: np.ndarray) -> GBuffer:
    """Several as one, in an order that does not tell how they were made: sums over a pixel are the same to the last
    bit."""
    whole: dict[str, Any] = {"size": size, "surfaced": surfaced}
    names = [name for name in GBuffer.__dataclass_fields__ if name not in whole]
    values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    order = np.lexsort((values["depth"], values["asset"], values["pixel"]))
    return GBuffer(**whole, **{name: found[order] for name, found in values.items()})


def _shaded(part: Samples, surfaces: Surfaces, size: tuple[int, int]) -> GBuffer:
    hits, scene, camera = part.hits, surfaces.scene, surfaces.camera
    background = next((i for i, asset in enumerate(scene.assets) if asset.role == "background"), -1)
    asset = surfaces.owners[hits.piece] if len(hits.ray) else hits.piece
    asset = np.where(asset < 0, background, asset)
    normals = facing_normals(hits, surfaces.pieces, camera)
    look = surfaces.look(replace(hits, ray=np.arange(len(hits.ray))), part.origins, part.directions, size)
    points, facing = _places(hits, asset, normals, surfaces)
    single = {
        "weight": part.weight,
        "points": points,
        "facing": facing,
        "depth": hits.depth,
        "normals": normals,
        "color": look.color,
        "emission": look.emission,
        "roughness": look.roughness,
        "metallic": look.metallic,
        "shade": illumination(hits, camera, normals, surfaces.up()),
    }
    return GBuffer(
        size=size,
        pixel=part.pixel.astype(np.int64),
        asset=asset.astype(np.int32),
        surfaced=surfaces.surfaced,
        **{name: values.astype(np.float32) for name, values in single.items()},
    )


def _places(hits: Hits, asset: np.ndarray, normals: np.ndarray, surfaces: Surfaces) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) where hits were in their assets' local space when views of them were taken, and the normals there."""
    points, facing = hits.points + surfaces.caster.eye, normals.copy()
    for number, here in by_label(hits.piece):
        piece, owner = surfaces.pieces[number], int(asset[here[0]])
        if owner < 0:
            continue
        of = surfaces.scene.assets[owner]
        if isinstance(piece, SheetPiece):
            points[here] = _on_sheet(piece, hits[here])
            facing[here] = 0 if piece.seen is not None else _turned(normals[here], of.shape_to_world())
            continue
        then = surfaces.then(piece, of)
        if then is None:
            shape_to_world = of.shape_to_world()
            inverse = np.linalg.inv(shape_to_world)
            points[here] = np.einsum("nk,ki->ni", points[here], inverse[:3, :3]) + inverse[3, :3]
            facing[here] = _turned(normals[here], shape_to_world)
            continue
        corners = then[0][piece.mesh.triangles[hits.triangle[here]]]
        points[here] = np.einsum("nk,nki->ni", hits.weights[here], corners)
        # The side that is seen now is the side that was seen then.
        now = hits.corners[here]
        side = (np.cross(now[:, 1] - now[:, 0], now[:, 2] - now[:, 0]) * normals[here]).sum(1)
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing[here] = _unit(flat) * (np.where(side < 0, -1.0, 1.0) * then[1])[:, None]
    return points, facing


def _on_sheet(piece: SheetPiece, hits: Hits) -> np.ndarray:
    points = piece.mesh.points if piece.seen is None else piece.seen
    return np.einsum("nk,nki->ni", hits.weights, points[piece.mesh.triangles[hits.triangle]])


def _turned(normals: np.ndarray, local_to_world: np.ndarray) -> np.ndarray:
    """World normals in a local space: by the transpose, as normals go by the inverse transpose."""
    # Not by BLAS, whose last bit depends on how many there are.
    return _unit(np.einsum("nk,ik->ni", normals, local_to_world[:3, :3]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _sky(parts: list[GBuffer], scene: Scene, camera: Camera, size: tuple[int, int], only: np.ndarray | None) -> GBuffer:
    """What is behind all surfaces, endlessly far, as the background's; none where there is no background."""
    height, width = size
    covered = np.zeros(height * width)
    for part in parts:
        covered += np.bincount(part.pixel, part.weight, height * width)
    index = next((i for i, asset in enumerate(scene.assets) if asset.role == "background"), -1)
    wanted = True if only is None else only.ravel()
    pixel = np.flatnonzero((covered < 1 - 1e-3) & wanted) if index >= 0 else np.zeros(0, np.int64)
    row, column = np.divmod(pixel, width)
    origins, directions = camera.rays_through((row + 0.5) / height, (column + 0.5) / width)
    world = origins + SKY * directions
    inverse = np.linalg.inv(scene.assets[index].local_to_world) if len(pixel) else np.eye(4)
    count, black = len(pixel), np.zeros((len(pixel), 3), np.float32)
    return GBuffer(
        size=size,
        pixel=pixel,
        weight=(1 - covered[pixel]).astype(np.float32),
        asset=np.full(count, index, np.int32),
        points=(world @ inverse[:3, :3] + inverse[3, :3]).astype(np.float32),
        facing=black,
        depth=np.full(count, SKY, np.float32),
        normals=black,
        color=black,
        emission=black + np.float32(BACKDROP),
        roughness=np.ones(count, np.float32),
        metallic=np.zeros(count, np.float32),
        shade=np.zeros(count, np.float32),
        surfaced=np.zeros(0, bool),
    )


def illumination(hits: Hits, camera: Camera, normals: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(N,) how the lamp at the camera and the sky light hits with normals (N, 3)."""
    view = toward_camera(hits, camera)
    view = view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-30)
    return LAMP * (normals * view).sum(1) + GROUND + (SKY_LIGHT - GROUND) * (normals @ up + 1) / 2


def by_label(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each label with the indices where it stands."""
    if not len(labels):
        return
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    for label, members in zip(found, np.split(order, starts[1:]), strict=True):
        yield int(label), members


def toward_camera(hits: Hits, camera: Camera) -> np.ndarray:
    """(N, 3) from hits to the camera, not of unit length."""
    if camera.projection == "orthographic":
        return np.broadcast_to(np.linalg.inv(camera.world_to_camera)[2, :3], hits.points.shape)
    return -hits.points


def facing_normals(hits: Hits, pieces: Sequence[Placed], camera: Camera) -> np.ndarray:
    """(N, 3) unit shading normals in world space, turned to the camera."""
    view = toward_camera(hits, camera)
    flat = hits.normals * np.where((hits.normals * view).sum(1, keepdims=True) < 0, -1, 1)
    normals = flat.copy()
    for index, members in by_label(hits.piece):
        piece = pieces[index]
        if piece.mesh.normals is None:
            continue
        local = np.einsum("nik,ni->nk", piece.mesh.normals[hits.triangle[members]], hits.weights[members])
        # Normals go by the inverse transpose; the cofactors exist even where the inverse does not.
        matrix = piece.local_to_world[:3, :3]
        shading = local @ np.cross(np.roll(matrix, -1, axis=0), np.roll(matrix, -2, axis=0))
        length = np.linalg.norm(shading, axis=1, keepdims=True)
        shading = np.where(length > 1e-30, shading / np.maximum(length, 1e-30), flat[members])
        normals[members] = shading * np.where((shading * flat[members]).sum(1, keepdims=True) < 0, -1, 1)
    # At a silhouette an interpolated normal may still look away.
    return np.where((normals * view).sum(1, keepdims=True) > 0, normals, flat)
