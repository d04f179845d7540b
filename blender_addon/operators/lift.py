# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""A picture of an object, or words for it, becomes an object: mesh, material, tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty, StringProperty
from mathutils import Matrix

from .. import connection, export
from ..problems import Problem
from ..settings import RELATIVE
from ..tasks import Task
from .base import Asking
from .render import show

CANDIDATES = "Lift Candidates"
WANTED = "Choose one that shows the object before a plain or transparent background."


class NEURALUSD_OT_lift(Asking, bpy.types.Operator):
    """Make an object with mesh, material and tokens, at the 3D cursor: of what a picture shows, or of what words say"""

    bl_idname = "neuralusd.lift"
    bl_label = "Lift"
    bl_options = {"UNDO"}
    label = "Neural lift"

    image: StringProperty(name="Image", description="Name of an image data-block")
    filepath: StringProperty(
        name="File",
        description="A file, in place of an image data-block",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    text: StringProperty(name="Words", description="What to make, in place of a picture or beside one")
    random: BoolProperty(name="Nothing", description="Make it of nothing: whatever the lifter has learned to make")
    name: StringProperty(name="Name", description="What it is, in words; empty takes the panel's")
    height: FloatProperty(
        name="Height", description="How high it is; 0 takes the panel's, or the usual one", min=0.0, unit="LENGTH"
    )
    backend: StringProperty(name="Lifter", description="Who makes it; empty takes the panel's, or the service's own")
    candidates: IntProperty(name="Candidates", description="How many are drawn; 0 takes the panel's", min=0, max=256)
    steps: IntProperty(name="Steps", description="Of its sampler; 0 takes the panel's", min=0, max=1000)
    seed: IntProperty(name="Seed", description="0 takes the panel's", min=0)

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        said, folder = context.scene.neuralusd, self.folder()
        source = self._source(context, folder)
        name = self.name.strip() or said.lift_name.strip() or None
        # Lengths are in Blender's units; the service's are metres.
        height = (self.height or said.lift_height) * context.scene.unit_settings.scale_length
        # Read here: an operator's properties are Blender's, and not for another thread.
        candidates = self.candidates or said.lift_candidates or None
        arguments = {
            **source,
            "name": name,
            "height": height or None,
            "backend": self.backend.strip() or said.lift_backend.strip() or None,
            "candidates": candidates,
            "sheet": True if candidates else None,
            "steps": self.steps or said.lift_steps or None,
            "seed": self.seed or said.lift_seed or None,
            "tokens": export.numbers(context.scene)["backend"],
        }
        where, made = export.where(), {each: os.path.join(folder, each) for each in ("asset.usdz", "candidates.png")}

        def work(task: Task) -> tuple[dict[str, str], str]:
            connection.ask(where, task, "lift", made, **arguments)
            return made, name or ""

        return work

    def _source(self, context: bpy.types.Context, folder: str) -> dict[str, Any]:
        """What it is made of, as arguments of the verb: what the caller says, else what the panel says."""
        said = context.scene.neuralusd
        text = self.text.strip()
        if self.random:
            return {"random": True}
        if self.filepath:
            path = bpy.path.abspath(self.filepath)
            if not os.path.isfile(path):
                raise Problem(f"There is no file {path}. Check the path.")
            picture = path
        elif self.image:
            image = bpy.data.images.get(self.image)
            if image is None:
                raise Problem(f"There is no image named {self.image}. {WANTED}")
            picture = export.picture_file(image, folder)
        elif text or said.lift_from == "NOTHING":
            return {"text": text} if text else {"random": True}
        elif said.lift_from == "TEXT":
            if not said.lift_text.strip():
                raise Problem("No words say what to make. Write them, as: a red armchair.")
            return {"text": said.lift_text.strip()}
        elif said.lift_image is None:
            raise Problem(f"No image is chosen. {WANTED}")
        else:
            picture = export.picture_file(said.lift_image, folder)
        return {"image": picture, **({"text": text} if text else {})}

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        made, name = result
        each, said = place(context, made["asset.usdz"], name), ""
        if os.path.isfile(made["candidates.png"]):
            shown = show(made["candidates.png"], context, CANDIDATES)
            said = f"; the image {shown} has all candidates, the best first"
        self.report({"INFO"}, f"Lifted to {each.name}{said}")


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
    # Not where the active collection is left out of the view layer.
    for each in [each for each in new if each.name in context.view_layer.objects]:
        each.select_set(True)
    if name:
        roots[0].name = name
    if roots[0].name in context.view_layer.objects:
        context.view_layer.objects.active = roots[0]
    return roots[0]
