"""Gaussian splats as UsdVol's ParticleField3DGaussianSplat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, Vt

if TYPE_CHECKING:
    from ..lifting.gaussians import Gaussians

TYPE = "ParticleField3DGaussianSplat"
# The first spherical harmonic, a constant: as in 3D Gaussian Splatting a colour is 0.5 and this times its coefficient.
CONSTANT = 0.28209479177387814


def write_gaussians(stage: Usd.Stage, path: str, gaussians: Gaussians) -> Usd.Prim:
    """Defines splats of one colour each, the same from all sides, in metres.

    OpenUSD has the schema since 26.03; an older one keeps the prim as it is here and draws nothing of it. So it is
    written by the names of its type and its attributes, which are the same wherever it is read.
    """
    prim = stage.DefinePrim(path, TYPE)
    coefficients = ((gaussians.colors - 0.5) / CONSTANT).astype(np.float32)
    reach = 3 * float(gaussians.scales.max(initial=0))
    box = np.stack([gaussians.positions.min(0) - reach, gaussians.positions.max(0) + reach]).astype(np.float32)
    types = Sdf.ValueTypeNames
    values = {
        "positions": (types.Point3fArray, Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(gaussians.positions))),
        "orientations": (types.QuatfArray, _turned(gaussians.normals)),
        "scales": (types.Float3Array, Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(gaussians.scales))),
        "opacities": (types.FloatArray, Vt.FloatArray.FromNumpy(np.ascontiguousarray(gaussians.opacities))),
        "radiance:sphericalHarmonicsCoefficients": (types.Float3Array, Vt.Vec3fArray.FromNumpy(coefficients)),
        "extent": (types.Float3Array, Vt.Vec3fArray.FromNumpy(box)),
    }
    for name, (kind, value) in values.items():
        prim.CreateAttribute(name, kind, False).Set(value)
    degree = "radiance:sphericalHarmonicsDegree"
    prim.CreateAttribute(degree, types.Int, False, Sdf.VariabilityUniform).Set(0)
    return prim


def _turned(normals: np.ndarray) -> Vt.QuatfArray:
    """The shortest rotations that take +Z to unit normals (N, 3)."""
    x, y, z = normals.astype(np.float64).T
    quaternions = np.stack([1 + z, -y, x], 1)
    quaternions[z < -1 + 1e-6] = 0, 1, 0
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Vt.QuatfArray([Gf.Quatf(real, i, j, 0) for real, i, j in quaternions.tolist()])


def offer_gaussians(stage: Usd.Stage, root: Usd.Prim, mesh: Usd.Prim, gaussians: Gaussians) -> None:
    """Gives an asset a variant set `representation` of `mesh`, which is chosen, and `gaussians`, so that no host draws
    both.

    With `gaussians` the mesh is the splats' stand-in (purposes proxy and render): what does not know splats, as ray
    casting, still has a surface.
    """
    chosen = root.GetVariantSets().AddVariantSet("representation")
    for name in ("mesh", "gaussians"):
        chosen.AddVariant(name)
    chosen.SetVariantSelection("gaussians")
    with chosen.GetVariantEditContext():
        splats = write_gaussians(stage, f"{root.GetPath()}/Gaussians", gaussians)
        splats.CreateAttribute("purpose", Sdf.ValueTypeNames.Token, False, Sdf.VariabilityUniform).Set(
            UsdGeom.Tokens.render
        )
        splats.CreateRelationship("proxyPrim", False).SetTargets([mesh.GetPath()])
        UsdGeom.Imageable(mesh).CreatePurposeAttr(UsdGeom.Tokens.proxy)
    chosen.SetVariantSelection("mesh")
