"""The surfaces that a camera sees, with what a renderer wants to know of them: the G-buffer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pxr import Sdf, Usd

from ..scene import Asset, Camera, GBuffer, Scene, Surface
from ..surfaces.pieces import SheetPiece
from ..surfaces.rays import Hits, RayCaster
from ..surfaces.samples import Samples, sample
from ..surfaces.sheets import SKY, sheet_pieces
from .geometry import Piece, gather_meshes
from .mesh import Mesh
from .shade import Shader, facing_normals
from .walk import PROXY, Owners


def render_gbuffer(
    stage: Usd.Stage | None, scene: Scene, height: int, width: int, antialias: int = 3, flat: bool = False
) -> GBuffer:
    """The surfaces that the camera of a scene sees at an image's size, antialiased.

    An asset's surface is its geometry on the stage; of an asset that has none, the sheet of the depths it was seen
    with, else a flat card in its 2D box. What is of no asset is the background's, as the sky is.

    Args:
        stage: what `scene` was read from; None takes the assets' views alone. flat: all assets as cards.
        antialias: rays along each side of a pixel that shows an edge.

    Warns:
        StageWarning: geometry or textures were left out.
    """
    if height <= 0 or width <= 0 or antialias <= 0:
        raise ValueError(f"an image of {height} x {width}, antialias {antialias}, is none; give positive numbers")
    camera = scene.camera.fitted(width / height)
    shown = Shown(stage, scene, camera, flat)
    parts = [_shaded(part, shown, camera, (height, width)) for part in shown.samples(height, width, antialias)]
    sky = _sky(parts, scene, camera, (height, width))
    return joined([*parts, sky], (height, width), shown.surfaced)


class Shown:
    """The pieces that a scene shows, ready for rays.

    Args:
        flat: all assets as cards. sheets: whether assets without geometry have the surface of their views.

    Attributes:
        pieces: of the stage, and of assets without geometry. owners: (P,) index into the scene's assets, -1 for none.
        surfaced: (A,) bool, which assets have geometry of the stage.
    """

    def __init__(self, stage: Usd.Stage | None, scene: Scene, camera: Camera, flat: bool = False, sheets: bool = True):
        self.scene, self.camera = scene, camera
        gathered = [] if stage is None or flat else drawn(gather_meshes(stage, scene.time), scene)
        of = owners_of(gathered, scene)
        presence = np.array([*(asset.presence for asset in scene.assets), 1.0])
        there = [i for i in range(len(gathered)) if presence[of[i]] > 0]
        own = {int(of[i]) for i in there}
        self.surfaced = np.array([index in own for index in range(len(scene.assets))], bool)
        others = [asset for number, asset in enumerate(scene.assets) if number not in own] if sheets else []
        seen = sheet_pieces(others, camera, flat)
        index = {asset.path: number for number, asset in enumerate(scene.assets)}
        self.pieces: list[Piece | SheetPiece] = [*(gathered[i] for i in there), *seen]
        self.owners = np.array([*of[there], *(index[sheet.path] for sheet in seen)], np.int32)
        self.presence = presence[self.owners]
        frames = [asset.local_to_world for asset in scene.assets]
        self.caster = RayCaster(self.pieces, camera, self.owners, frames)
        self.shader = Shader(self.pieces, self.caster, scene.time, scene.up_axis)

    def samples(self, height: int, width: int, antialias: int, everywhere: bool = False):
        """As `neuralusd.surfaces.samples.sample`."""
        return sample(self.caster, self.camera, (height, width), self.opacity, antialias, everywhere)

    def opacity(self, hits: Hits) -> np.ndarray:
        """(N,) how much hits hide: opacity of their material, presence of their asset, outline of what was seen."""
        out = self.shader.opacity(hits) * self.presence[hits.piece]
        for number in np.unique(hits.piece):
            piece = self.pieces[number]
            if isinstance(piece, SheetPiece) and piece.outline is not None:
                here = hits.piece == number
                out[here] *= piece.outline(_on_sheet(piece, hits[here]))
        return out


def drawn(pieces: list[Piece], scene: Scene) -> list[Piece]:
    """The pieces without the proxies of assets (and of what belongs to none) that have other geometry."""
    owners = owners_of(pieces, scene)
    usual = {int(o) for o, piece in zip(owners, pieces, strict=True) if piece.purpose != PROXY}
    return [p for o, p in zip(owners, pieces, strict=True) if p.purpose != PROXY or int(o) not in usual]


def owners_of(pieces: list[Piece], scene: Scene) -> np.ndarray:
    """(P,) index into the scene's assets of what each piece belongs to; -1 for none."""
    owners = Owners([asset.path for asset in scene.assets])
    return np.array([owners.index(Sdf.Path(piece.path)) for piece in pieces], np.int32)


def surfaces_of(stage: Usd.Stage, scene: Scene) -> dict[str, dict[str, Surface]]:
    """Path of each asset to where the pieces of its geometry are now, as `Asset.surfaces` holds them."""
    pieces = drawn(gather_meshes(stage, scene.time), scene)
    out: dict[str, dict[str, Surface]] = {}
    for piece, owner in zip(pieces, owners_of(pieces, scene), strict=True):
        if owner < 0 or piece.instance is not None:
            continue
        asset = scene.assets[owner]
        points = piece.mesh.authored.astype(np.float32) if piece.deforms and piece.mesh.authored is not None else None
        transform = piece.local_to_world @ np.linalg.inv(asset.local_to_world)
        out.setdefault(asset.path, {})[_within(piece, asset)] = Surface(transform, points)
    return out


def _within(piece: Piece, asset: Asset) -> str:
    return str(Sdf.Path(piece.path).MakeRelativePath(Sdf.Path(asset.path)))


def joined(parts: list[GBuffer], size: tuple[int, int], surfaced: np.ndarray) -> GBuffer:
    """Several as one."""
    whole = {"size": size, "surfaced": surfaced}
    names = [name for name in GBuffer.__dataclass_fields__ if name not in whole]
    return GBuffer(**whole, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _shaded(part: Samples, shown: Shown, camera: Camera, size: tuple[int, int]) -> GBuffer:
    hits, scene = part.hits, shown.scene
    background = next((i for i, asset in enumerate(scene.assets) if asset.role == "background"), -1)
    asset = (
        np.where(shown.owners[hits.piece] < 0, background, shown.owners[hits.piece]) if len(hits.ray) else hits.piece
    )
    normals = facing_normals(hits, shown.pieces, camera)
    here = np.arange(len(hits.ray))
    rays = Hits(here, *(getattr(hits, name) for name in list(Hits.__dataclass_fields__)[1:]))
    look = shown.shader.look(rays, part.origins, part.directions, camera, size)
    shade = shown.shader.illumination(hits, camera, normals)
    points, facing = _places(hits, asset, normals, shown)
    return GBuffer(
        size=size,
        pixel=part.pixel.astype(np.int64),
        weight=part.weight.astype(np.float32),
        asset=asset.astype(np.int32),
        points=points.astype(np.float32),
        facing=facing.astype(np.float32),
        depth=hits.depth.astype(np.float32),
        normals=normals.astype(np.float32),
        color=look.color.astype(np.float32),
        emission=look.emission.astype(np.float32),
        roughness=look.roughness.astype(np.float32),
        metallic=look.metallic.astype(np.float32),
        shade=shade.astype(np.float32),
        surfaced=shown.surfaced,
    )


def _places(hits: Hits, asset: np.ndarray, normals: np.ndarray, shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) where hits were in their assets' local space when views of them were taken, and the normals there."""
    points, facing = hits.points + shown.caster.eye, normals.copy()
    order = np.argsort(hits.piece, kind="stable")
    numbers, starts = np.unique(hits.piece[order], return_index=True)
    for number, here in zip(numbers, np.split(order, starts[1:]), strict=True):
        piece, owner = shown.pieces[number], int(asset[here[0]])
        if owner < 0:
            continue
        of = shown.scene.assets[owner]
        if isinstance(piece, SheetPiece):
            points[here] = _on_sheet(piece, hits[here])
            facing[here] = 0 if piece.seen is not None else _turned(normals[here], of.local_to_world)
            continue
        then = _then(piece, of)
        if then is None:
            inverse = np.linalg.inv(of.local_to_world)
            points[here] = points[here] @ inverse[:3, :3] + inverse[3, :3]
            facing[here] = _turned(normals[here], of.local_to_world)
            continue
        corners = then[piece.mesh.triangles[hits.triangle[here]]]
        points[here] = np.einsum("nk,nki->ni", hits.weights[here], corners)
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        # The side that is seen now is the side that was seen then.
        now = hits.corners[here]
        side = np.cross(now[:, 1] - now[:, 0], now[:, 2] - now[:, 0])
        sign = np.where((side * normals[here]).sum(1) < 0, -1.0, 1.0)
        # A transform that mirrors turns the order of corners around.
        sign *= np.sign(np.linalg.det(piece.local_to_world[:3, :3])) * _handed(piece, of)
        facing[here] = _unit(flat) * sign[:, None]
    return points, facing


def _handed(piece: Piece, asset: Asset) -> float:
    surface = asset.surfaces[_within(piece, asset)]
    return float(np.sign(np.linalg.det(surface.transform[:3, :3])) or 1.0)


def _then(piece: Piece, asset: Asset) -> np.ndarray | None:
    """(V, 3) of the piece's mesh in its asset's local space when its views were taken; None where it has not moved."""
    surfaces: Mapping[str, Surface] = asset.surfaces
    surface = surfaces.get(_within(piece, asset)) if surfaces and piece.instance is None else None
    if surface is None:
        return None
    mesh: Mesh = piece.mesh
    points = mesh.points
    if surface.points is not None and mesh.authored is not None and len(surface.points) == len(mesh.authored):
        if not np.allclose(surface.points, mesh.authored, rtol=0, atol=1e-6 * (1e-9 + np.ptp(mesh.authored))):
            points = surface.points if mesh.refined is None else mesh.refined.points_from @ surface.points
    now = piece.local_to_world @ np.linalg.inv(asset.local_to_world)
    if points is mesh.points and np.allclose(now, surface.transform, rtol=1e-6, atol=1e-9):
        return None
    return points @ surface.transform[:3, :3] + surface.transform[3, :3]


def _on_sheet(piece: SheetPiece, hits: Hits) -> np.ndarray:
    points = piece.mesh.points if piece.seen is None else piece.seen
    return np.einsum("nk,nki->ni", hits.weights, points[piece.mesh.triangles[hits.triangle]])


def _turned(normals: np.ndarray, local_to_world: np.ndarray) -> np.ndarray:
    """World normals in a local space: by the transpose, as normals go by the inverse transpose."""
    return _unit(normals @ local_to_world[:3, :3].T)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _sky(parts: list[GBuffer], scene: Scene, camera: Camera, size: tuple[int, int]) -> GBuffer:
    """What is behind all surfaces, endlessly far, as the background's; none where there is no background."""
    height, width = size
    covered = np.zeros(height * width)
    for part in parts:
        covered += np.bincount(part.pixel, part.weight, height * width)
    index = next((i for i, asset in enumerate(scene.assets) if asset.role == "background"), -1)
    pixel = np.flatnonzero(covered < 1 - 1e-3) if index >= 0 else np.zeros(0, np.int64)
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
        emission=black,
        roughness=np.ones(count, np.float32),
        metallic=np.zeros(count, np.float32),
        shade=np.zeros(count, np.float32),
        surfaced=np.zeros(0, bool),
    )
