# SPDX-License-Identifier: GPL-3.0-or-later
"""Which prim of an exported stage is which object."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import bpy
from pxr import Sdf, Usd, UsdGeom

NAME = "blender:object_name"
# What Blender adds to a name that is taken.
_NUMBER = re.compile(r"_\d{3,}$")


def find(stage: Usd.Stage, objects: Iterable[bpy.types.Object]) -> dict[bpy.types.Object, Sdf.Path]:
    """The prim of each object that was exported.

    Prims' names are made from objects' names, and not all characters survive that, so the names that Blender records
    on the prims decide; where it was told not to, the made names. Prims inside a collection's instance belong to the
    instance: they are nobody's.
    """
    by_name: dict[str, list[bpy.types.Object]] = {}
    plain: dict[str, list[bpy.types.Object]] = {}
    for each in objects:
        by_name.setdefault(each.name, []).append(each)
        for name in {_ascii(each.name), _unicode(each.name)}:
            plain.setdefault(name, []).append(each)
    recorded = any(object_name(prim) is not None for prim in stage.Traverse())
    found: dict[bpy.types.Object, Sdf.Path] = {}

    def walk(prim: Usd.Prim, parent: bpy.types.Object | None) -> None:
        for child in prim.GetChildren():
            name = object_name(child)
            if name is not None:
                candidates = by_name.get(name, [])
            elif not recorded:
                candidates = plain.get(child.GetName()) or plain.get(_NUMBER.sub("", child.GetName()), [])
            else:
                candidates = []
            candidates = [each for each in candidates if each not in found and _parent(each, found) is parent]
            # What an instance brings has its parent within the collection, or none; what hangs on the empty has it.
            if parent is not None and parent.instance_type == "COLLECTION":
                candidates = [each for each in candidates if each.parent is parent]
                if not candidates:
                    continue
            below = parent
            if candidates and child.IsA(UsdGeom.Imageable):
                below = min(candidates, key=lambda each: _distance(child, each))
                found[below] = child.GetPath()
            walk(child, below)

    walk(stage.GetPseudoRoot(), None)
    return found


def object_name(prim: Usd.Prim) -> str | None:
    """The name of its object that Blender noted on a prim."""
    for found in prim.GetAuthoredProperties():
        if found.GetName().endswith(NAME) and isinstance(found, Usd.Attribute):
            return found.Get()
    return None


def _parent(each: bpy.types.Object, found: dict[bpy.types.Object, Sdf.Path]) -> bpy.types.Object | None:
    """The nearest ancestor that was exported: a hidden one leaves no prim."""
    parent = each.parent
    while parent is not None and parent not in found:
        parent = parent.parent
    return parent


def _distance(prim: Usd.Prim, each: bpy.types.Object) -> float:
    """How far a prim's local transform is from an object's; tells objects of one name apart."""
    if not prim.IsA(UsdGeom.Xformable):
        return 0.0
    place = UsdGeom.Xformable(prim).GetLocalTransformation(Usd.TimeCode.EarliestTime()).ExtractTranslation()
    return sum((a - b) ** 2 for a, b in zip(place, each.matrix_local.translation, strict=True))


def _unicode(name: str) -> str:
    """A prim's name as Blender makes it where names may have any letters."""
    kept = "".join(c if c == "_" or c.isidentifier() or ("a" + c).isidentifier() else "_" for c in name)
    return _start(unicodedata.normalize("NFC", kept))


def _ascii(name: str) -> str:
    """A prim's name as Blender makes it where names are ASCII: a byte that is none becomes an underscore."""
    return _start("".join(chr(b) if chr(b).isascii() and (chr(b).isalnum() or b == 95) else "_" for b in name.encode()))


def _start(name: str) -> str:
    return f"_{name}" if name[:1].isdigit() else name or "_"
