# SPDX-License-Identifier: GPL-3.0-or-later
"""NEURALUSD as a render engine: F12, animations, and the viewport."""

from __future__ import annotations

import bpy

from .engine import NEURALUSD_RenderEngine, draws_with_any_engine
from .preview import close_all


def register() -> None:
    """Adds the engine, and the panels that every engine has."""
    bpy.utils.register_class(NEURALUSD_RenderEngine)
    for panel in draws_with_any_engine():
        panel.COMPAT_ENGINES.add(NEURALUSD_RenderEngine.bl_idname)


def unregister() -> None:
    """Removes it."""
    close_all()
    for panel in draws_with_any_engine():
        panel.COMPAT_ENGINES.discard(NEURALUSD_RenderEngine.bl_idname)
    bpy.utils.unregister_class(NEURALUSD_RenderEngine)
