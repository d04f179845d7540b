# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins: what resampling keeps. Alpha of a factor is 1 where it is pinned, 0 where it is sampled anew."""

from __future__ import annotations

from collections.abc import Iterable

import bpy

from . import store

FACTORS = ("pose", "appearance", "presence")
CAMERA, BACKGROUND = "camera", "background"
NAMES = {"pose": "Pose", "appearance": "Appearance", "presence": "Presence", CAMERA: "Camera", BACKGROUND: "Background"}
NOT_ASSETS = {"CAMERA", "LIGHT", "SPEAKER", "LIGHT_PROBE"}


def is_pinned(alpha: float) -> bool:
    """Whether a factor stays as it is."""
    return alpha >= 1.0


def is_asset(scene: bpy.types.Scene, each: bpy.types.Object) -> bool:
    """Whether an object is known to be an asset: the user says so, or it has tokens, or pins that are open.

    Of those on Automatic that were never encoded, only the export decides (see usd/assets.py).
    """
    said = each.neuralusd
    if each.type in NOT_ASSETS or said.role in ("SCENERY", "BACKGROUND"):
        return False
    return said.role == "ASSET" or not all_pinned_of(each) or bool(store.record_name(scene, each))


def owners(scene: bpy.types.Scene, chosen: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """The assets that objects are, or are parts of, each once."""
    found: dict[bpy.types.Object, None] = {}
    side_by_side: set[bpy.types.Object] | None = None
    for each in chosen:
        if each.type in NOT_ASSETS:
            continue
        line = [each]
        while line[-1].parent is not None:
            line.append(line[-1].parent)
        own = next((one for one in line if is_asset(scene, one)), None)
        if own is None:
            side_by_side = _first_level(scene) if side_by_side is None else side_by_side
            own = next((one for one in line if one in side_by_side), each)
        found[own] = None
    return list(found)


def _first_level(scene: bpy.types.Scene) -> set[bpy.types.Object]:
    """The first level of the hierarchy where there are several things side by side."""
    children = children_of(scene.objects)
    holding: set[bpy.types.Object] = set()
    for each in filter(is_surface, scene.objects):
        line: bpy.types.Object | None = each
        while line is not None and line not in holding:
            holding.add(line)
            line = line.parent
    level = [each for each in scene.objects if each.parent is None and each in holding]
    while len(level) == 1 and level[0].type == "EMPTY" and level[0].instance_type != "COLLECTION":
        level = [child for child in children.get(level[0], ()) if child in holding]
    return set(level)


def children_of(objects: Iterable[bpy.types.Object]) -> dict[bpy.types.Object, list[bpy.types.Object]]:
    """What is parented to what; Blender looks through all objects each time that it is asked for one's children."""
    found: dict[bpy.types.Object, list[bpy.types.Object]] = {}
    for each in objects:
        if each.parent is not None:
            found.setdefault(each.parent, []).append(each)
    return found


def is_surface(each: bpy.types.Object) -> bool:
    """Whether an object may show a surface by itself."""
    return each.type not in {*NOT_ASSETS, "EMPTY"} or each.instance_type == "COLLECTION"


def all_pinned_of(each: bpy.types.Object) -> bool:
    """Whether nothing of an object may change."""
    return all(is_pinned(getattr(each.neuralusd, f"anchor_{factor}")) for factor in FACTORS)


def all_pinned(scene: bpy.types.Scene, assets: Iterable[bpy.types.Object]) -> bool:
    """Whether nothing may change."""
    said = [scene.neuralusd.anchor_background]
    if scene.camera is not None:
        said.append(scene.camera.neuralusd.anchor_camera)
    if not all(map(is_pinned, said)) or scene.neuralusd.resample_insert:
        return False
    return all(map(all_pinned_of, assets))
