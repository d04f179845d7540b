# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of what the camera sees, kept in the sidecar of the .blend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty

from .. import export
from ..request import encode_scene
from ..tasks import Task
from .base import Asking


class NEURALUSD_OT_encode(Asking, bpy.types.Operator):
    """Look at the scene through its camera and keep what each asset looks like; renders show that, wherever it moves"""

    bl_idname = "neuralusd.encode"
    bl_label = "Encode"
    bl_options = {"UNDO"}
    label = "Neural encode"

    selected: BoolProperty(name="Only Selected", description="The assets of the selected objects alone")
    force: BoolProperty(name="All Again", description="Also what has not changed since it was last encoded")

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        only = None
        if self.selected or context.scene.neuralusd.only_selected:
            only = list(context.view_layer.objects.selected)
        force = self.force or context.scene.neuralusd.force
        return encode_scene(context.scene, context.view_layer, self.folder(), only=only, force=force)

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        said, tokens, sent = result
        export.take_tokens(sent, tokens)
        parts = [f"{len(said['encoded'])} encoded", f"{len(said['unchanged'])} unchanged"]
        if said["unseen"]:
            names = [each.name for each in map(sent.object, said["unseen"]) if each is not None]
            parts.append(f"not seen by the camera: {', '.join(names) or len(said['unseen'])}")
        self.report({"INFO"}, "; ".join(parts) + sent.said_of_left_out())
