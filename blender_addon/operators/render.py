# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""image = Decode(Edit(stage)), into an image data-block."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import StringProperty

from .. import pixels
from ..problems import Problem
from ..request import RenderScene
from ..settings import RELATIVE
from ..tasks import Task
from .base import Asking

IMAGE = "Neural Render"


class NEURALUSD_OT_render(Asking, bpy.types.Operator):
    """Render the scene through its camera into the image "Neural Render"; what has no tokens yet is encoded first"""

    bl_idname = "neuralusd.render"
    bl_label = "Render"
    bl_options = {"UNDO"}
    label = "Neural render"

    filepath: StringProperty(
        name="File",
        description="A PNG to write the image to, too; it says how it was made",
        subtype="FILE_PATH",
        options=RELATIVE,
    )

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        return RenderScene(context.scene, context.view_layer, self.folder())

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        encoded = result.keep_tokens()
        name = show(result.file, context)
        if self.filepath:
            path = bpy.path.abspath(self.filepath)
            if not path.lower().endswith(".png"):
                path += ".png"
            try:
                with open(result.file, "rb") as file:
                    pixels.whole_write(os.path.abspath(path), file.read())
            except OSError as error:
                raise Problem(f"{path} cannot be written ({error.strerror}). Name another file.") from error
        said = result.said_of_encoding(encoded)
        if context.scene.neuralusd.held and not result.made.get("held"):
            said += "; nothing could be held: the camera or what is behind all objects is another"
        self.report({"INFO"}, f"Rendered into the image {name}{said}{result.sent.said_of_left_out()}")


def show(file: str, context: bpy.types.Context, name: str = IMAGE) -> str:
    """Puts a PNG into the image data-block of a name, packed, and into an open image editor; returns its name."""
    loaded = bpy.data.images.load(file)
    loaded.pack()
    old = bpy.data.images.get(name)
    if old is not None and old.library is None:
        old.user_remap(loaded)
        bpy.data.images.remove(old)
    loaded.name = name
    # Packed: the file that it came from goes with the request.
    loaded.filepath = f"//{name}.png"
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR" and area.spaces.active.image in (None, loaded):
                area.spaces.active.image = loaded
                area.tag_redraw()
    return loaded.name
