# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyframes of a property, in the Actions of Blender 4.2 as in the layered ones since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import bpy


def curves(block: bpy.types.ID) -> Iterator[bpy.types.FCurve]:
    """The F-curves that animate a data-block."""
    data = block.animation_data
    action = data.action if data else None
    if action is None:
        return
    if not hasattr(action, "layers"):
        yield from action.fcurves
        return
    slot = data.action_slot
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot) if slot is not None else None
            yield from bag.fcurves if bag else ()


def samples(block: bpy.types.ID, path: str) -> list[tuple[float, float]]:
    """Frame and value of an animated property, at each frame from its first key to its last; empty without keys."""
    for curve in curves(block):
        if curve.data_path == path and len(curve.keyframe_points):
            keys = [point.co.x for point in curve.keyframe_points]
            linear = all(point.interpolation == "LINEAR" for point in curve.keyframe_points)
            frames = keys if linear else sorted({*keys, *range(int(keys[0]) + 1, int(keys[-1]) + 1)})
            return [(float(frame), float(curve.evaluate(frame))) for frame in frames]
    return []


def keyframe(block: bpy.types.ID, path: str, values: Sequence[tuple[float, float]]) -> None:
    """Sets keys, between which the value changes linearly, as USD's do."""
    owner, _, name = path.rpartition(".")
    group = block.path_resolve(owner)
    for frame, value in values:
        setattr(group, name, value)
        block.keyframe_insert(path, frame=frame)
    for curve in curves(block):
        if curve.data_path == path:
            for point in curve.keyframe_points:
                point.interpolation = "LINEAR"
    setattr(group, name, values[0][1])
