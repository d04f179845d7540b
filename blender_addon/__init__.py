# SPDX-License-Identifier: GPL-3.0-or-later
"""Neural USD for Blender: renders, encodes and lifts by a compute service, so that no torch is in Blender."""

from __future__ import annotations

import bpy
from bpy.app.handlers import persistent

from . import cycles, engine, operators, panels, preferences, settings, store, tasks
from .problems import Problem

_hook = None


@persistent
def _after_save(path: str, *_: object) -> None:
    try:
        store.follow_save(path)
    except Problem as error:
        print(f"Neural USD: {error}")


@persistent
def _after_load(*_: object) -> None:
    store.follow_load()
    _after_undo()


@persistent
def _after_undo(*_: object) -> None:
    # Not within a handler, where Blender is not done yet.
    bpy.app.timers.register(cycles.sweep, first_interval=0.0)


def register() -> None:
    """Adds the extension to Blender."""
    global _hook
    settings.register()
    preferences.register()
    operators.register()
    panels.register()
    engine.register()
    bpy.app.handlers.save_post.append(_after_save)
    bpy.app.handlers.load_post.append(_after_load)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.append(_after_undo)
    bpy.app.timers.register(tasks.pump, first_interval=0.1, persistent=True)
    try:
        from .usd import bundled

        bundled.expose()
        from .usd.hook import NEURALUSD_USDHook
    except Problem as error:  # every operator that needs USD says so, too
        print(f"Neural USD: {error}")
        return
    bpy.utils.register_class(NEURALUSD_USDHook)
    _hook = NEURALUSD_USDHook


def unregister() -> None:
    """Takes it away again."""
    global _hook
    if _hook is not None:
        bpy.utils.unregister_class(_hook)
        _hook = None
    if bpy.app.timers.is_registered(tasks.pump):
        bpy.app.timers.unregister(tasks.pump)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.remove(_after_undo)
    bpy.app.handlers.load_post.remove(_after_load)
    bpy.app.handlers.save_post.remove(_after_save)
    engine.unregister()
    panels.unregister()
    operators.unregister()
    preferences.unregister()
    settings.unregister()
