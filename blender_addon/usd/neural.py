# SPDX-License-Identifier: GPL-3.0-or-later
"""The neural schema on prims, by its names alone.

Blender may have used USD's schemas before this extension is enabled, and then they cannot be added to any more. So
nothing here asks the schema registry: applied schemas are list operations, properties are authored as they are named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from pxr import Sdf, Usd

ASSET, TOKENS, ANCHOR = "NeuralAssetAPI", "NeuralTokensAPI", "NeuralAnchorAPI"
PROVENANCE, RENDER_SETTINGS, VOLUME = "NeuralProvenanceAPI", "NeuralRenderSettingsAPI", "NeuralVolume"
NAMESPACE = "neural"
# What goes along with tokens: the pictures that an encoder saw, and where surfaces were then; by their namespaces.
SEEN = {"neural:view:": "NeuralViewAPI", "neural:surface:": "NeuralSurfaceAPI"}
PRESENCE, ROLE, TEXT = "neural:presence", "neural:role", "neural:text"
FOREGROUND, BACKGROUND = "foreground", "background"
APPEARANCE, GEOMETRY = "appearance", "geometry"
MODALITIES = (APPEARANCE, GEOMETRY)
# What a layer says of an attribute beside its values, and is worth keeping.
KEPT_FIELDS = ("customData", "documentation", "colorSpace", "displayName", "interpolation")


def from_name(modality: str) -> str:
    """The relationship to the prim whose tokens are taken."""
    return f"neural:tokens:{modality}:from"


def schemas(prim: Usd.Prim) -> list[str]:
    """The neural schemas that are applied to a prim, known to this USD or not, as `NeuralTokensAPI:appearance`."""
    return [
        name for name in prim.GetAppliedSchemas() if name.startswith("Neural") and name.split(":")[0].endswith("API")
    ]


def is_neural(prim: Usd.Prim) -> bool:
    """Whether the schema says anything of a prim."""
    return bool(schemas(prim)) or prim.GetTypeName() == VOLUME


def apply(prim: Usd.Prim, schema: str) -> None:
    """Applies a schema, known or not."""
    if schema not in prim.GetAppliedSchemas():
        prim.AddAppliedSchema(schema)


def author(prim: Usd.Prim, name: str, type_name: str, value: Any, uniform: bool = False) -> Usd.Attribute:
    """Sets a property of the schema."""
    variability = Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying
    attribute = prim.CreateAttribute(name, Sdf.ValueTypeNames.Find(type_name), False, variability)
    attribute.Set(value)
    return attribute


def properties(prim: Usd.Prim) -> Iterator[Usd.Property]:
    """What is authored of the schema on a prim."""
    yield from prim.GetAuthoredPropertiesInNamespace(NAMESPACE)


def tokens_of(prim: Usd.Prim) -> list[str]:
    """The modalities of which a prim has tokens of its own."""
    prefix, suffix = "neural:tokens:", ":values"
    names = [p.GetName() for p in properties(prim) if isinstance(p, Usd.Attribute) and p.HasAuthoredValue()]
    return [name[len(prefix) : -len(suffix)] for name in names if name.startswith(prefix) and name.endswith(suffix)]


def digest(spec: Sdf.PrimSpec) -> str:
    """A name for what a prim's specification holds, the same for the same."""
    summed = hashlib.sha1(usedforsecurity=False)
    _add(summed, spec)
    return "r_" + summed.hexdigest()[:20]


def layer_digest(layer: Sdf.Layer) -> str:
    """What changes when a layer's prims do, in whatever order they were written."""
    summed, paths = hashlib.sha1(usedforsecurity=False), []
    layer.Traverse(Sdf.Path.absoluteRootPath, lambda path: paths.append(path) if path.IsPrimPath() else None)
    for path in sorted(paths):
        summed.update(str(path).encode())
        _add(summed, layer.GetPrimAtPath(path))
    return summed.hexdigest()


def _add(summed: Any, spec: Sdf.PrimSpec) -> None:
    applied = spec.GetInfo("apiSchemas").prependedItems if spec.HasInfo("apiSchemas") else ()
    summed.update(repr((spec.typeName, sorted(applied), spec.HasInfo("active") and spec.active)).encode())
    for found in sorted(spec.properties, key=lambda each: each.name):
        summed.update(found.name.encode())
        if isinstance(found, Sdf.RelationshipSpec):
            summed.update(repr([str(path) for path in found.targetPathList.GetAddedOrExplicitItems()]).encode())
            continue
        values = [(None, found.default)] if found.HasInfo("default") else []
        times = spec.layer.ListTimeSamplesForPath(found.path)
        values += [(time, spec.layer.QueryTimeSample(found.path, time)) for time in times]
        for time, value in values:
            array = np.asarray(value) if hasattr(value, "__len__") and not isinstance(value, str) else None
            plain = array is not None and array.dtype != object
            summed.update(repr(time).encode() + (array.tobytes() if plain else repr(value).encode()))
