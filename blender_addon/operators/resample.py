# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""Keep what is pinned, sample the rest, look at the samples, and take one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .. import pins, samples
from ..export import Sent
from ..problems import Problem
from ..request import ResampleScene
from ..tasks import Task
from .base import Asking

WHERE = "(sidebar > Neural > Resample)"
ALL_PINNED = f"Everything is pinned, so nothing can change. Open a pin, of an object or of the scene {WHERE}."
FACTORS = [(name.upper(), words, "") for name, words in pins.NAMES.items()] + [("ALL", "All", "All of an object's")]
# What the service says to people at a shell, and the same for people at a button.
SPOKEN = (
    (r"nothing of .*? is to be resampled: all that can be is kept\..*", ALL_PINNED),
    (r"Keep some of them \(--keep [^)]*\)", "Pin some of them"),
    (r"has no tokens on any prim; make them with: neuralusd encode.*", "has no tokens: the camera sees no asset."),
    (r"Run `neuralusd encode[^`]*`", "Press Encode"),
    (r"`neuralusd encode` makes one", "Encode makes one"),
    (r"Train some with `neuralusd train[^`]*`, and name their folder \(--backend\)", f"Name a folder of some {WHERE}"),
    (r"Name the backend that made them \(--render-backend\), or encode the stage again",
     "Choose the weights that made them (Render properties > Backend), or press Encode"),
    (r"(?:[A-Za-z]:)?[/\\][^\s:]*[/\\]work[/\\]\w+\.usd[acz]?", "the scene"),  # a file of the service's own
    (r"a folder that `neuralusd train` wrote", "a folder that training wrote"),
    (r"\s*\(-{1,2}[a-z][^)]*\)", ""),
    (r"`([^`]*)`", r"\1"),
)  # fmt: skip


class NEURALUSD_OT_resample(Asking, bpy.types.Operator):
    """Keep what is pinned, and sample the rest of the scene several times. Encodes first what is not encoded"""

    bl_idname = "neuralusd.resample"
    bl_label = "Resample"
    bl_options = {"UNDO"}
    label = "Neural resample"
    _scene = ""

    samples: IntProperty(name="Samples", description="How many are made; 0 takes the panel's", min=0, max=100)
    seed: IntProperty(name="Seed", description="-1 takes the panel's", min=-1, default=-1)
    steps: IntProperty(name="Steps", description="Of the sampler; 0 takes the panel's", min=0, max=1000)
    backend: StringProperty(name="Weights", description="Empty takes the panel's, or the service's own")

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        scene, said = context.scene, context.scene.neuralusd
        self._scene = scene.name
        camera = scene.camera
        if camera is not None and camera.type == "CAMERA" and camera.data.type == "ORTHO":
            raise Problem(
                f"Resampling needs a perspective camera, and {camera.name} is orthographic. Make it perspective."
            )
        if pins.all_pinned(scene, scene.objects):
            raise Problem(ALL_PINNED)
        wanted = {
            "samples": self.samples or said.resample_samples,
            "seed": said.resample_seed if self.seed < 0 else self.seed,
            "steps": self.steps or said.resample_steps or None,
            "guidance": said.resample_guidance or None,
            "insert": said.resample_insert,
            "backend": self.backend.strip() or bpy.path.abspath(said.resample_backend.strip()) or None,
        }
        request = ResampleScene(scene, context.view_layer, self.folder(), wanted)

        def work(task: Task) -> Any:
            try:
                return request(task)
            except Problem as error:
                raise Problem(spoken(str(error), request.sent)) from error

        return work

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        scene = bpy.data.scenes.get(self._scene)
        if scene is None:
            raise Problem("The scene was removed while it was being resampled.")
        samples.keep(scene, result)
        notes = [spoken(note, result.sent) for note in result.notes] + _not_asked(scene, result.sent)
        for note in notes:
            self.report({"WARNING"}, note)
        said = f"; {_counted(result.encoded, 'object')} encoded first" if result.encoded else ""
        count = _counted(len(scene.neuralusd.samples), "sample")
        self.report({"INFO"}, f"{count} {WHERE}{said}{result.sent.said_of_left_out()}")


class NEURALUSD_OT_take(bpy.types.Operator):
    """Make the scene what this sample is. Taking another one, or the original, undoes it"""

    bl_idname = "neuralusd.take"
    bl_label = "Take"
    bl_options = {"UNDO"}

    sample: IntProperty(name="Sample", description="Its number; 0 is the original", min=0, default=1)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        cls.poll_message_set("There are no samples yet. Press Resample")
        return len(context.scene.neuralusd.samples) > 0

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            notes = samples.take(context, self.sample)
        except Problem as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        _show(context)
        for note in notes:
            self.report({"WARNING"}, f"{note[0].upper()}{note[1:]}.")
        return {"FINISHED"}


class NEURALUSD_OT_forget_samples(bpy.types.Operator):
    """Keep the scene as it is now, and throw the other samples away"""

    bl_idname = "neuralusd.forget_samples"
    bl_label = "Done"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return len(context.scene.neuralusd.samples) > 0

    def execute(self, context: bpy.types.Context) -> set[str]:
        samples.forget(context.scene)
        return {"FINISHED"}


class NEURALUSD_OT_pin(bpy.types.Operator):
    """Pin it: samples keep it as it is. Or open the pin: samples make it anew"""

    bl_idname = "neuralusd.pin"
    bl_label = "Pin"
    bl_options = {"UNDO"}

    factor: EnumProperty(name="Factor", items=FACTORS, default="ALL")
    object: StringProperty(name="Object", description="Empty takes the assets of the selected objects")
    everything: BoolProperty(name="Every Asset", description="Of all assets of the scene, those selected or not")
    keep: FloatProperty(
        name="Keep", description="1 pins, 0 opens the pin, below 0 does the other one", min=-1.0, max=1.0, default=-1.0
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene, factor = context.scene, self.factor.lower()
        if factor == pins.BACKGROUND:
            places = [(scene.neuralusd, factor)]
        elif factor == pins.CAMERA:
            if scene.camera is None:
                self.report({"ERROR"}, "The scene has no camera.")
                return {"CANCELLED"}
            places = [(scene.camera.neuralusd, factor)]
        else:
            chosen = self._objects(context)
            if not chosen:
                self.report({"ERROR"}, "No object is selected that can be an asset. Select one.")
                return {"CANCELLED"}
            places = [
                (each.neuralusd, name) for each in chosen for name in (pins.FACTORS if factor == "all" else [factor])
            ]
        linked = [said.id_data.name for said, _ in places if said.id_data.library is not None]
        if linked:
            self.report(
                {"ERROR"},
                f"{linked[0]} is linked from another .blend. Make a library override of it first.",
            )
            return {"CANCELLED"}
        alpha = self.keep
        if alpha < 0:
            alpha = 0.0 if all(pins.is_pinned(getattr(said, f"anchor_{name}")) for said, name in places) else 1.0
        for said, name in places:
            setattr(said, f"anchor_{name}", alpha)
        return {"FINISHED"}

    def _objects(self, context: bpy.types.Context) -> list[bpy.types.Object]:
        if self.everything:
            return [each for each in context.scene.objects if pins.is_asset(context.scene, each)]
        if self.object:
            each = context.scene.objects.get(self.object)
            return pins.owners(context.scene, [each]) if each is not None else []
        return pins.owners(context.scene, context.view_layer.objects.selected)


def spoken(text: str, sent: Sent | None) -> str:
    """What the service says, in Blender's words: objects in place of prims, buttons in place of commands."""
    if sent is not None:
        text = text.replace(sent.file, "the scene")
        names = {path: name for path, (name, _) in sent.paths.items()}
        if sent.background:
            names.setdefault(sent.background, "the background")
        text = re.sub(r"<(/[^<>]*)>", lambda found: names.get(found[1], found[1].rsplit("/", 1)[-1]), text)
    for pattern, words in SPOKEN:
        text = re.sub(pattern, words, text)
    return text[:1].upper() + text[1:]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _not_asked(scene: bpy.types.Scene, sent: Sent) -> list[str]:
    """Of objects whose pins are open, and that were not among the assets."""
    asked = {sent.object(path) for path in sent.assets}
    # Disabled in the viewport and in renders, as a sample that was taken leaves what it replaces, says enough.
    shown = [each for each in scene.objects if not (each.hide_viewport and each.hide_render)]
    opened = [each for each in shown if each not in asked and not pins.all_pinned_of(each)]
    names = ", ".join(each.name for each in opened[:3]) + (" ..." if len(opened) > 3 else "")
    return [f"Kept though their pins are open, as they are hidden, or no assets (Role): {names}."] if opened else []


def _show(context: bpy.types.Context) -> None:
    """Shows the picture of what is taken where one of the samples' is shown."""
    said = context.scene.neuralusd
    pictures = [said.source_picture, *(sample.picture for sample in said.samples)]
    picture = pictures[said.taken]
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR" and area.spaces.active.image in pictures and picture is not None:
                area.spaces.active.image = picture
            area.tag_redraw()
