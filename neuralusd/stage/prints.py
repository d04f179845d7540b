"""What a gprim's look is made of, as a few bytes: two that agree look alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdShade

from ..kept import digest
from .texture import UDIM, changed_at
from .walk import time_code


def material_print(material: UsdShade.Material | None, time: float | None) -> bytes:
    """Of a material's whole network: every value, connection and image file."""
    if material is None:
        return b""
    values: list[Any] = []
    for prim in _network(material.GetPrim()):
        for attribute in prim.GetAuthoredAttributes():
            value = attribute.Get(time_code(time))
            values += [str(attribute.GetPath()), _plain(value), attribute.GetColorSpace()]
            if isinstance(value, Sdf.AssetPath):
                values += _files(value, attribute)
            values += [str(path) for path in attribute.GetConnections()]
    return digest(str(material.GetPath()), *values)


def primvars_print(prim: Usd.Prim, time: float | None) -> bytes:
    """Of all primvars that a prim has or inherits."""
    values: list[Any] = []
    for primvar in UsdGeom.PrimvarsAPI(prim).FindPrimvarsWithInheritance():
        found = primvar.ComputeFlattened(time_code(time)) if primvar.HasValue() else None
        values += [primvar.GetName(), str(primvar.GetInterpolation()), _plain(found)]
    return digest(*values)


def _network(root: Usd.Prim) -> Iterator[Usd.Prim]:
    """The prims of a material, and those elsewhere that its connections lead to."""
    seen: set[Sdf.Path] = set()
    waiting = list(Usd.PrimRange(root, Usd.TraverseInstanceProxies()))
    while waiting:
        prim = waiting.pop()
        if not prim or prim.GetPath() in seen:
            continue
        seen.add(prim.GetPath())
        yield prim
        for attribute in prim.GetAuthoredAttributes():
            for path in attribute.GetConnections():
                waiting.append(prim.GetStage().GetPrimAtPath(path.GetPrimPath()))


def _files(asset: Sdf.AssetPath, attribute: Usd.Attribute) -> list[tuple[str, float]]:
    """Path of each file that an asset path names, several of UDIM tiles, and when it was changed."""
    paths = [asset.resolvedPath or asset.path]
    if UDIM.search(asset.path):
        layer = attribute.GetPropertyStack()[0].layer
        paths = [str(path) for path, _ in UsdShade.UdimUtils.ResolveUdimTilePaths(asset.path, layer)]
    return [(path, changed_at(path)) for path in paths if path]


def _plain(value: Any) -> Any:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return repr(value)
    return array if array.dtype.kind in "fiub" else repr(value)
