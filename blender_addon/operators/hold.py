# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that renders keep to where no edit has touched it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from .. import export, held
from ..problems import Problem
from ..request import encode_scene
from ..tasks import Task
from .base import Asking


class NEURALUSD_OT_hold(Asking, bpy.types.Operator):
    """Remember the scene as it is: from now on renders change only what you edit. Encodes first what is not encoded"""

    bl_idname = "neuralusd.hold"
    bl_label = "Hold"
    bl_options = {"UNDO"}
    label = "Neural hold"
    _names = ("", "")

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        self._names = context.scene.name, context.view_layer.name
        return encode_scene(context.scene, context.view_layer, self.folder(), missing=True)

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        _, tokens, sent = result
        if tokens:
            export.take_tokens(sent, tokens)
        scene = bpy.data.scenes.get(self._names[0])
        layer = scene.view_layers.get(self._names[1]) if scene else None
        if layer is None:
            raise Problem("The scene was removed while it was being encoded.")
        held.keep(scene, export.send(scene, layer, self.folder(), package=True))
        self.report({"INFO"}, "Held: renders change only what is edited from now on")


class NEURALUSD_OT_release(bpy.types.Operator):
    """Render every image by itself again"""

    bl_idname = "neuralusd.release"
    bl_label = "Release"
    bl_options = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        held.release(context.scene)
        return {"FINISHED"}
