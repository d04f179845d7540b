"""The geometry of assets that show another prim's shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pxr import Sdf, Usd

from ..scene import Asset, Scene
from ..schema import NeuralAssetAPI
from ..surfaces.sheets import own_views
from .bounds import Transforms
from .geometry import Piece, gather_meshes
from .open import open_stage
from .walk import PROXY

# Below it prims of other stages are referenced, to take tokens from.
DONORS = Sdf.Path("/NeuralDonors")


def with_donors(
    pieces: list[Piece], owners: np.ndarray, stage: Usd.Stage, scene: Scene
) -> tuple[list[Piece], np.ndarray, list[Usd.Stage]]:
    """Pieces and the (P,) index of each one's asset, in which assets have the geometry of the prim whose shape they
    have (`Asset.shape_prim`), in their own box. And the donors' stages, without which their prims are gone.

    Of a donor without geometry, as a photograph's, its assets have none either: their surface is that of its views.
    """
    homes = []
    for index, asset in enumerate(scene.assets):
        if asset.shape_prim == asset.path:
            continue
        home, donor = _home(stage, asset.shape_prim)
        homes.append(home)
        theirs = _geometry(home, donor, asset, scene.time) if donor else []
        if theirs or own_views(asset):
            others = [number for number, owner in enumerate(owners) if owner != index]
            pieces = [*(pieces[number] for number in others), *theirs]
            owners = np.concatenate([owners[others], np.full(len(theirs), index, np.int32)])
    return pieces, owners, homes


def _geometry(home: Usd.Stage, donor: Usd.Prim, asset: Asset, time: float | None) -> list[Piece]:
    """The pieces of an asset's donor, where the asset is."""
    marked = NeuralAssetAPI.schemaIdentifier
    below = Usd.PrimRange(donor, Usd.TraverseInstanceProxies(Usd.PrimIsActive & Usd.PrimIsLoaded))
    others = [p.GetPath() for p in below if p != donor and marked in p.GetAppliedSchemas()]
    pieces = gather_meshes(home, time, donor)
    own = [piece for piece in pieces if not any(Sdf.Path(piece.path).HasPrefix(path) for path in others)]
    usual = [piece for piece in own if piece.purpose != PROXY]
    moved = np.linalg.inv(Transforms(home, time).local_to_world(donor)) @ asset.shape_to_world()
    here = Sdf.Path(asset.shape_prim)
    return [
        replace(
            piece,
            path=Sdf.Path(piece.path).ReplacePrefix(donor.GetPath(), here),
            local_to_world=piece.local_to_world @ moved,
        )
        for piece in usual or own
    ]


def _home(stage: Usd.Stage, path: str) -> tuple[Usd.Stage, Usd.Prim]:
    """The stage that a donor is at home on, with its materials, and the donor there."""
    prim = stage.GetPrimAtPath(path)
    if not prim or prim.GetPath().GetParentPath() != DONORS:
        return stage, prim
    # A reference to a prim composes only what is below it; its materials may be elsewhere.
    for spec in prim.GetPrimStack():
        for reference in spec.referenceList.GetAppliedItems():
            if reference.assetPath:
                home = open_stage(spec.layer.ComputeAbsolutePath(reference.assetPath))
                there = home.GetPrimAtPath(reference.primPath) if reference.primPath else home.GetDefaultPrim()
                return (home, there) if there else (stage, prim)
    return stage, prim
