"""The surfaces of a stage that a camera sees, with what a renderer wants to know of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import cast

import numpy as np
from pxr import Sdf, Usd

from ..kept import digest
from ..scene import Asset, Camera, GBuffer, Scene, Surface
from ..surfaces.gbuffer import Look, Surfaces
from ..surfaces.pieces import Placed, SheetPiece
from ..surfaces.rays import Hits
from ..surfaces.recent import Recent
from .bounds import Transforms
from .donors import with_donors
from .geometry import Piece, gather_meshes
from .shade import Shader
from .walk import PROXY, Owners

_recent = Recent()


def render_gbuffer(stage: Usd.Stage, scene: Scene, height: int, width: int, antialias: int = 3) -> GBuffer:
    """The surfaces that the camera of a scene sees at an image's size, antialiased.

    An asset's surface is its geometry on the stage, that of another prim if it has that one's geometry tokens (`from`);
    of an asset that has none, the sheet of the depths it was seen
    with, else a flat card in its 2D box. What is of no asset is the background's, as the sky is.

    Args:
        stage: what `scene` was read from. antialias: rays along each side of a pixel that shows an edge.

    Warns:
        StageWarning: geometry or textures were left out.
    """
    if height <= 0 or width <= 0 or antialias <= 0:
        raise ValueError(f"an image of {height} x {width}, antialias {antialias}, is none; give positive numbers")
    surfaces = StageSurfaces(stage, scene, scene.camera.fitted(width / height))
    return _recent.gbuffer(surfaces, height, width, antialias)


class StageSurfaces(Surfaces):
    """The surfaces that a stage's scene shows, ready for rays; `pieces` where only some of its geometry is wanted."""

    def __init__(
        self, stage: Usd.Stage, scene: Scene, camera: Camera, sheets: bool = True, pieces: list[Piece] | None = None
    ):
        pieces = drawn(gather_meshes(stage, scene.time), scene) if pieces is None else pieces
        owners = owners_of(pieces, scene)
        pieces = _posed(pieces, owners, stage, scene)
        if sheets:
            pieces, owners, self._homes = with_donors(pieces, owners, stage, scene)
        super().__init__(scene, camera, pieces, owners, sheets=sheets)
        self.shader = Shader(self.pieces, self.caster, scene.time, scene.up_axis)

    @property
    def warned(self) -> Collection[str]:
        return self.shader.warned

    def print_of(self, number: int) -> bytes:
        piece, owner = self.pieces[number], int(self.owners[number])
        plain = super().print_of(number)
        if isinstance(piece, SheetPiece):
            return plain
        piece = cast(Piece, piece)
        asset = self.scene.assets[owner] if owner >= 0 else None
        surface = asset.surfaces.get(_within(piece, asset.shape_prim)) if asset is not None else None
        then = None if surface is None else digest(surface.transform, surface.points)
        return digest(plain, self.shader.print_of(piece), then)

    def material_opacity(self, hits: Hits) -> np.ndarray:
        return self.shader.opacity(hits)

    def look(self, hits: Hits, origins: np.ndarray, directions: np.ndarray, size: tuple[int, int]) -> Look:
        return self.shader.look(hits, origins, directions, self.camera, size)

    def then(self, piece: Placed, asset: Asset) -> tuple[np.ndarray, float] | None:
        piece = cast(Piece, piece)
        surface = (
            asset.surfaces.get(_within(piece, asset.shape_prim)) if asset.surfaces and piece.instance is None else None
        )
        if surface is None:
            return None
        mesh, points = piece.mesh, piece.mesh.points
        if surface.points is not None and mesh.authored is not None and len(surface.points) == len(mesh.authored):
            if not np.allclose(surface.points, mesh.authored, rtol=0, atol=1e-6 * (1e-9 + np.ptp(mesh.authored))):
                points = surface.points if mesh.refined is None else mesh.refined.points_from @ surface.points
        now = piece.local_to_world @ np.linalg.inv(asset.shape_to_world())
        if points is mesh.points and np.allclose(now, surface.transform, rtol=1e-6, atol=1e-9):
            return None
        moved = points @ surface.transform[:3, :3] + surface.transform[3, :3]
        # A transform that mirrors turns the order of corners around.
        turns = np.linalg.det(piece.local_to_world[:3, :3]) * np.linalg.det(surface.transform[:3, :3])
        return moved, 1.0 if turns > 0 else -1.0


def _posed(pieces: list[Piece], owners: np.ndarray, stage: Usd.Stage, scene: Scene) -> list[Piece]:
    """The pieces where the scene has their assets, which may have been moved since it was read."""
    transforms, moves = Transforms(stage, scene.time), {}
    for index, asset in enumerate(scene.assets):
        there = transforms.local_to_world(stage.GetPrimAtPath(asset.path))
        if not np.allclose(there, asset.local_to_world, rtol=1e-9, atol=1e-12) and abs(np.linalg.det(there)) > 0:
            moves[index] = np.linalg.inv(there) @ asset.local_to_world
    if not moves:
        return pieces
    return [
        replace(piece, local_to_world=piece.local_to_world @ moves[int(owner)]) if int(owner) in moves else piece
        for piece, owner in zip(pieces, owners, strict=True)
    ]


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
        out.setdefault(asset.path, {})[_within(piece, asset.path)] = Surface(transform, points)
    return out


def _within(piece: Piece, root: str) -> str:
    return str(Sdf.Path(piece.path).MakeRelativePath(Sdf.Path(root)))
