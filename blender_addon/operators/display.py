# SPDX-License-Identifier: GPL-3.0-or-later
"""How Blender shows what is rendered."""

from __future__ import annotations

import bpy


class NEURALUSD_OT_standard_view(bpy.types.Operator):
    """Show renders as they are: view transform Standard, without look, exposure and gamma"""

    bl_idname = "neuralusd.standard_view"
    bl_label = "Use Standard View"
    bl_options = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        view = context.scene.view_settings
        view.view_transform, view.look = "Standard", "None"
        view.exposure, view.gamma = 0.0, 1.0
        view.use_curve_mapping = False
        return {"FINISHED"}


def is_plain(scene: bpy.types.Scene) -> bool:
    """Whether renders are shown as they are."""
    view = scene.view_settings
    plain = (view.view_transform, view.look, view.exposure, view.gamma) == ("Standard", "None", 0.0, 1.0)
    return plain and not view.use_curve_mapping
