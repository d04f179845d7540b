# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""A picture of an object becomes an object: mesh, material, tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty
from mathutils import Matrix

from .. import connection, export
from ..problems import Problem
from ..settings import RELATIVE
from ..tasks import Task
from .base import Asking


class NEURALUSD_OT_lift(Asking, bpy.types.Operator):
    """Make an object with mesh, material and tokens of what a picture shows, at the 3D cursor"""

    bl_idname = "neuralusd.lift"
    bl_label = "Lift"
    bl_options = {"UNDO"}
    label = "Neural lift"

    image: StringProperty(name="Image", description="Name of an image data-block; empty takes the panel's")
    filepath: StringProperty(
        name="File",
        description="A file, in place of an image data-block",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    name: StringProperty(name="Name", description="What it is, in words; empty takes the panel's")
    height: FloatProperty(
        name="Height", description="How high it is; 0 takes the panel's, or the usual one", min=0.0, unit="LENGTH"
    )
    seed: IntProperty(name="Seed", min=0)

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        said, folder = context.scene.neuralusd, self.folder()
        picture = self._picture(context, folder)
        name = self.name.strip() or said.lift_name.strip() or None
        # Lengths are in Blender's units; the service's are metres.
        height = (self.height or said.lift_height) * context.scene.unit_settings.scale_length
        # Read here: an operator's properties are Blender's, and not for another thread.
        where, backend, seed = export.where(), export.numbers(context.scene)["backend"], self.seed or None
        target = os.path.join(folder, "asset.usdz")

        def work(task: Task) -> tuple[dict[str, Any], str, str]:
            result = connection.ask(
                where,
                task,
                "lift",
                {"asset.usdz": target},
                image=picture,
                name=name,
                height=height or None,
                seed=seed,
                tokens=backend,
            )
            return result, target, name or ""

        return work

    def _picture(self, context: bpy.types.Context, folder: str) -> str:
        if self.filepath:
            path = bpy.path.abspath(self.filepath)
            if not os.path.isfile(path):
                raise Problem(f"There is no file {path}. Check the path.")
            return path
        image = bpy.data.images.get(self.image) if self.image else context.scene.neuralusd.lift_image
        if image is None:
            missing = f"There is no image named {self.image}." if self.image else "No image is chosen."
            raise Problem(f"{missing} Choose one that shows the object before a plain or transparent background.")
        return export.picture_file(image, folder)

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        _, target, name = result
        each = place(context, target, name)
        self.report({"INFO"}, f"Lifted to {each.name}")


def place(context: bpy.types.Context, file: str, name: str) -> bpy.types.Object:
    """Imports a lifted asset and stands it at the 3D cursor, facing as the cursor does; returns its topmost object."""
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    before = set(bpy.data.objects)
    bpy.ops.object.select_all(action="DESELECT")
    try:
        bpy.ops.wm.usd_import(filepath=file, import_textures_mode="IMPORT_PACK", set_frame_range=False)
    except RuntimeError as error:
        raise Problem(f"Blender could not import what was lifted: {error}") from error
    for each in [each for each in bpy.data.objects if each not in before]:
        # Blender makes Empties of scopes, such as that of the materials.
        if each.type == "EMPTY" and not each.children and not each.neuralusd.record:
            bpy.data.objects.remove(each)
    new = [each for each in bpy.data.objects if each not in before]
    roots = [each for each in new if each.parent not in new]
    if not roots:
        raise Problem("Blender imported nothing of what was lifted. Report it with the picture, please.")
    scale = 1 / context.scene.unit_settings.scale_length
    cursor = context.scene.cursor.matrix
    for each in roots:
        each.matrix_world = cursor @ Matrix.Scale(scale, 4) @ each.matrix_world
    for each in new:
        each.select_set(True)
    if name:
        roots[0].name = name
    context.view_layer.objects.active = roots[0]
    return roots[0]
