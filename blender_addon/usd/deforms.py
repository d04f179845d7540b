# SPDX-License-Identifier: GPL-3.0-or-later
"""Which meshes of an exported stage change their shape, as a character's.

A stage for the service is one frame: armatures, shape keys and modifiers have moved its points already. That they will
be elsewhere at another frame, and be the same points, only Blender knows.
"""

from __future__ import annotations

from collections.abc import Iterable

import bpy
from pxr import Usd, UsdGeom

from . import prims

KEY = "neuralusd:deforms"
# Modifiers that move vertices and make none.
MOVING = {
    "ARMATURE", "CAST", "CLOTH", "CORRECTIVE_SMOOTH", "CURVE", "DISPLACE", "HOOK", "LAPLACIANDEFORM",
    "LAPLACIANSMOOTH", "LATTICE", "MESH_CACHE", "MESH_DEFORM", "MESH_SEQUENCE_CACHE", "NODES", "SHRINKWRAP",
    "SIMPLE_DEFORM", "SMOOTH", "SOFT_BODY", "SURFACE_DEFORM", "WARP", "WAVE",
}  # fmt: skip
# Modifiers with a level of their own for the viewport.
LEVELS = {"MULTIRES", "SUBSURF"}


def may(each: bpy.types.Object) -> bool:
    """Whether an object's points may be elsewhere at another frame or in another pose."""
    if each.type != "MESH":
        return False
    by_parent = each.parent is not None and each.parent_type in {"ARMATURE", "LATTICE"}
    return by_parent or each.data.shape_keys is not None or any(m.type in MOVING for m in each.modifiers)


def alike(each: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    """Whether the viewport shows the points of an object that a render has."""
    simple = scene.render
    simplified = simple.use_simplify and simple.simplify_subdivision != simple.simplify_subdivision_render
    for modifier in each.modifiers:
        if modifier.show_viewport != modifier.show_render:
            return False
        if modifier.type in LEVELS and (simplified or modifier.levels != modifier.render_levels):
            return False
    return True


def mark(stage: Usd.Stage, objects: Iterable[bpy.types.Object]) -> None:
    """Marks the meshes whose points move. Those within an instance are known by their names alone, as by prims.find."""
    names = {each.name for each in objects if may(each)}
    if not names:
        return
    for prim in stage.Traverse():
        if prim.IsA(UsdGeom.Mesh) and (prims.object_name(prim) or prims.object_name(prim.GetParent())) in names:
            prim.SetCustomDataByKey(KEY, True)
