# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own USD: its hooks hand out stages of that one only, so no other may be imported in its place."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import bpy

from ..problems import Problem

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "schema")


def expose() -> None:
    """Makes `import pxr` give Blender's own, and tells it of the neural schema while that is still possible.

    Raises:
        Problem: this Blender has no USD for Python, or another USD was imported before.
    """
    if not bpy.app.build_options.usd:
        raise Problem("This Blender was built without USD. Take the one from blender.org.")
    pxr = library("pxr")
    if pxr is None:
        raise Problem("This Blender has no USD for Python (pxr). Take the one from blender.org.")
    from pxr import Plug

    root = os.path.realpath(os.path.dirname(pxr.__file__))
    if bpy.app.module and not root.startswith(os.path.realpath(bpy.utils.resource_path("LOCAL"))):
        raise Problem(
            f"Another USD ({root}) was imported before Blender's own, whose stages it cannot open. Call "
            "bpy.utils.expose_bundled_modules() before anything imports pxr."
        )
    # Codeless, and of use to other scripts only where nothing has used USD's schemas yet; nothing here relies on it.
    if os.path.isdir(SCHEMA) and not Plug.Registry().GetPluginWithName("usdNeural"):
        Plug.Registry().RegisterPlugins(SCHEMA)


def library(name: str) -> ModuleType | None:
    """A library that Blender brings along for Python; None where this one does not."""
    before = list(sys.path)
    # As a module, Blender keeps its libraries to itself until asked; first, so that no other of that name is found.
    if name not in sys.modules and hasattr(bpy.utils, "expose_bundled_modules"):
        bpy.utils.expose_bundled_modules()
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
    finally:
        sys.path[:] = before
