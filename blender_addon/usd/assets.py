# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects of an exported scene are assets, where the user has not said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import bpy
import numpy as np
from pxr import Sdf, Usd, UsdGeom

# A floor, a wall, a backdrop: this much thinner than it is wide, and this wide against all that is there.
THIN, WIDE = 0.05, 0.6
# A room: the box around so many of the others.
HOLDS = 0.75


@dataclass
class Node:
    """An object that has geometry at or below its prim, as it stands in the hierarchy."""

    each: bpy.types.Object
    low: np.ndarray
    high: np.ndarray
    children: list[Node] = field(default_factory=list)

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    def holds(self, point: np.ndarray) -> bool:
        return bool((point > self.low).all() and (point < self.high).all())


def choose(
    stage: Usd.Stage,
    prims: Mapping[bpy.types.Object, Sdf.Path],
    sticky: set[bpy.types.Object],
    eye: tuple[float, float, float] | None,
) -> list[bpy.types.Object]:
    """The objects that are assets, each with what is parented to it.

    Those that the user made assets; and of those on Automatic, the first level of the hierarchy where there are several
    things side by side, without what looks like the scenery behind them: what the camera is in, what most of the others
    are in, and what is flat and about as wide as the scene.

    Args:
        sticky: objects on Automatic that have tokens: they were assets, and stay it.
        eye: where the camera is, in stage units.
    """
    roots = _tree(stage, prims)
    chosen: list[bpy.types.Object] = []

    def level(nodes: list[Node]) -> None:
        while len(nodes) == 1 and _is_group(nodes[0].each) and nodes[0].each.neuralusd.role == "AUTO":
            nodes = nodes[0].children
        for node in nodes:
            role = node.each.neuralusd.role
            asset = role == "ASSET"
            if role == "AUTO":
                # An Empty around assets only holds them together.
                holder = _is_group(node.each) and any(map(said, node.children))
                asset = node.each in sticky or not (holder or _is_scenery(node, nodes, eye))
            if asset:
                chosen.append(node.each)
                explicit(node.children)
            elif role != "BACKGROUND":
                level(node.children)

    def explicit(nodes: list[Node]) -> None:
        for node in nodes:
            if decided(node):
                chosen.append(node.each)
            explicit(node.children)

    def decided(node: Node) -> bool:
        role = node.each.neuralusd.role
        return role == "ASSET" or role == "AUTO" and node.each in sticky

    def said(node: Node) -> bool:
        return decided(node) or any(map(said, node.children))

    level(roots)
    return chosen


def _tree(stage: Usd.Stage, prims: Mapping[bpy.types.Object, Sdf.Path]) -> list[Node]:
    cache = UsdGeom.BBoxCache(Usd.TimeCode.EarliestTime(), ["default", "render", "proxy"])
    objects = {path: each for each, path in prims.items()}
    roots: list[Node] = []

    def walk(prim: Usd.Prim, siblings: list[Node]) -> None:
        for child in prim.GetChildren():
            each = objects.get(child.GetPath())
            below = siblings
            if each is not None:
                surfaces = any(p.IsA(UsdGeom.Gprim) and not p.IsA(UsdGeom.Curves) for p in Usd.PrimRange(child))
                bound = cache.ComputeWorldBound(child).ComputeAlignedRange() if surfaces else None
                if bound is not None and not bound.IsEmpty():
                    node = Node(each, np.array(bound.GetMin()), np.array(bound.GetMax()))
                    siblings.append(node)
                    below = node.children
            walk(child, below)

    walk(stage.GetPseudoRoot(), roots)
    return roots


def _is_group(each: bpy.types.Object) -> bool:
    return each.type == "EMPTY" and each.instance_type != "COLLECTION"


def _is_scenery(node: Node, nodes: list[Node], eye: tuple[float, float, float] | None) -> bool:
    others = [other for other in nodes if other is not node]
    if not others:
        return False
    if eye is not None and node.holds(np.array(eye)):
        return True
    if len(others) > 1 and sum(node.holds(other.middle) for other in others) >= HOLDS * len(others):
        return True
    size = node.high - node.low
    whole = np.max([n.high for n in nodes], axis=0) - np.min([n.low for n in nodes], axis=0)
    return bool(size.min() <= THIN * size.max() and size.max() >= WIDE * whole.max())
