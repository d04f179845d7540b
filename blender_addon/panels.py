# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown in the sidebar of the 3D view, in the render properties and in the preferences."""

from __future__ import annotations

import os
import textwrap

import bpy

from . import pins, preferences, store, tasks, view
from .operators import display, setup

CATEGORY = "Neural"


class Sidebar:
    """Where the panels are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY


class NEURALUSD_PT_main(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_main"
    bl_label = "Neural USD"

    def draw(self, context: bpy.types.Context) -> None:
        layout, said = self.layout, context.scene.neuralusd
        if preferences.get().service == "LOCAL" and preferences.service_python() is None:
            box = layout.box()
            wrapped(
                box, "Images are computed by a program of its own. Install it first: once, about a gigabyte.", "INFO"
            )
            box.operator("neuralusd.setup", icon="IMPORT")
        draw_running(layout)
        column = layout.column(align=True)
        column.scale_y = 1.4
        column.operator("neuralusd.render", icon="RENDER_STILL")
        column.operator("neuralusd.encode", icon="HIDE_OFF")
        if context.scene.camera is None:
            wrapped(layout, "The scene has no camera yet.", "ERROR")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(said, "seed")
        column.prop(said, "steps")


class NEURALUSD_PT_encode(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_encode"
    bl_label = "Encode"
    bl_parent_id = "NEURALUSD_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, said = self.layout, context.scene.neuralusd
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.row().prop(said, "encode_from", expand=True)
        wrapped(layout, what_encode_does(context.scene), "INFO")
        if said.encode_from == "IMAGE":
            layout.template_ID(said, "encode_image", open="image.open")
        else:
            if said.encode_from == "CYCLES":
                layout.prop(said, "encode_samples")
            layout.prop(said, "encode_size")
        layout.prop(said, "encode_views")
        layout.prop(said, "only_selected")
        layout.prop(said, "force")


def what_encode_does(scene: bpy.types.Scene) -> str:
    """What Encode will look at, in a sentence or two."""
    said = scene.neuralusd
    size = view.picture_size(view.frame_pixels(scene), view.frame_aspect(scene), said.encode_size)
    pixels = "{} x {} pixels".format(*size)
    if said.encode_from == "CYCLES":
        return f"Cycles takes a picture of the camera first: {pixels}, {said.encode_samples} samples, denoised."
    if said.encode_from == "MATERIALS":
        return f"Looks at the materials' base colours, {pixels}: no light, and what nodes compute is plain white."
    if said.encode_image is None:
        return "Choose an image of the scene, made by its camera."
    return f"Looks at the image {said.encode_image.name}, which the scene's camera must have made."


class NEURALUSD_PT_lift(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_lift"
    bl_label = "Lift"
    bl_parent_id = "NEURALUSD_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, said = self.layout, context.scene.neuralusd
        layout.row().prop(said, "lift_from", expand=True)
        if said.lift_from == "IMAGE":
            layout.template_ID(said, "lift_image", open="image.open")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        if said.lift_from == "TEXT":
            column.prop(said, "lift_text")
        column.prop(said, "lift_name")
        column.prop(said, "lift_height")
        column.prop(said, "lift_backend")
        column.prop(said, "lift_candidates")
        column.prop(said, "lift_steps")
        column.prop(said, "lift_seed")
        layout.operator("neuralusd.lift", icon="MESH_MONKEY")


class NEURALUSD_PT_hold(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_hold"
    bl_label = "Hold"
    bl_parent_id = "NEURALUSD_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, said = self.layout, context.scene.neuralusd
        if not said.held:
            wrapped(layout, "Every image is made by itself.")
            layout.operator("neuralusd.hold", icon="LOCKED")
            return
        wrapped(layout, "What you do not edit stays as it was when you pressed Hold.", "LOCKED")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(said, "hold_image")
        row = layout.row(align=True)
        row.operator("neuralusd.hold", text="Hold Again")
        row.operator("neuralusd.release", icon="UNLOCKED")


class NEURALUSD_UL_pins(bpy.types.UIList):
    """The assets of a scene with their pins."""

    bl_idname = "NEURALUSD_UL_pins"

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: bpy.types.AnyType,
        item: bpy.types.Object,
        icon: int,
        active_data: bpy.types.AnyType,
        active_property: str,
        index: int = 0,
        flag: int = 0,
    ) -> None:
        row = layout.row(align=True)
        row.label(text=item.name, icon="LINKED" if item.library else "OBJECT_DATA")
        for factor in pins.FACTORS:
            pin(row, item.neuralusd, factor, text="", item=item)

    def filter_items(
        self, context: bpy.types.Context, data: bpy.types.AnyType, name: str
    ) -> tuple[list[int], list[int]]:
        objects = list(getattr(data, name))
        wanted = self.filter_name.lower()
        shown = [
            self.bitflag_filter_item if pins.is_asset(context.scene, each) and wanted in each.name.lower() else 0
            for each in objects
        ]
        order = sorted(range(len(objects)), key=lambda number: objects[number].name.lower())
        places = [0] * len(objects)
        for place, number in enumerate(order):
            places[number] = place
        return shown, places


class NEURALUSD_PT_resample(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_resample"
    bl_label = "Resample"
    bl_parent_id = "NEURALUSD_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene, said = self.layout, context.scene, context.scene.neuralusd
        selected = list(context.view_layer.objects.selected)
        selected.sort(key=lambda each: each != context.object)  # the active one first
        chosen = pins.owners(scene, selected)
        if chosen:
            box, first = layout.box(), chosen[0]
            more = f" and {len(chosen) - 1} more" if len(chosen) > 1 else ""
            box.label(text=f"{first.name}{more}", icon="OBJECT_DATA")
            for factor in pins.FACTORS:
                pin_row(box, first.neuralusd, factor)
            if first.library is not None:
                wrapped(box, "Linked from another .blend: make a library override of it first.", "LINKED")
        else:
            wrapped(layout, "Select an object to open its pins: samples make anew what is not pinned.")
        box = layout.box()
        box.label(text="Scene", icon="SCENE_DATA")
        if scene.camera is not None:
            pin_row(box, scene.camera.neuralusd, pins.CAMERA)
        pin_row(box, said, pins.BACKGROUND)
        box.prop(said, "resample_insert")
        if any(pins.is_asset(scene, each) for each in scene.objects):
            layout.template_list("NEURALUSD_UL_pins", "", scene, "objects", said, "resample_index", rows=4)
            row = layout.row(align=True)
            for text, icon, keep in (("Pin All", "PINNED", 1.0), ("Open All", "UNPINNED", 0.0)):
                done = row.operator("neuralusd.pin", text=text, icon=icon)
                done.factor, done.everything, done.keep = "ALL", True, keep
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("samples", "seed", "steps", "guidance", "backend"):
            column.prop(said, f"resample_{name}")
        row = layout.row()
        row.scale_y = 1.4
        row.operator("neuralusd.resample", icon="PARTICLES")
        draw_samples(layout, scene)


class NEURALUSD_PT_object(Sidebar, bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_object"
    bl_label = "Object"
    bl_parent_id = "NEURALUSD_PT_main"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.object is not None and context.object.type not in {"CAMERA", "LIGHT", "SPEAKER", "LIGHT_PROBE"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, each = self.layout, context.object
        said = each.neuralusd
        layout.use_property_split = True
        layout.label(text=each.name, icon="OBJECT_DATA")
        layout.prop(said, "role")
        column = layout.column()
        column.active = said.role in ("AUTO", "ASSET")
        column.prop(said, "text")
        column.prop(said, "presence", slider=True)
        for modality in ("appearance", "geometry"):
            column.prop(said, f"{modality}_from")
            source = getattr(said, f"{modality}_from")
            if source == "OBJECT":
                column.prop(said, f"{modality}_object")
            elif source == "IMAGE":
                column.template_ID(said, f"{modality}_image", open="image.open")
        name = store.record_name(context.scene, each)
        encoded = "Encoded" if name else "Not encoded yet"
        layout.label(text=encoded, icon="CHECKMARK" if name else "DOT")


class NEURALUSD_PT_settings(bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_settings"
    bl_label = "Neural USD"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {"NEURALUSD"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine in cls.COMPAT_ENGINES

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        said = scene.neuralusd
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(said, "backend")
        layout.prop(said, "steps")
        layout.prop(said, "preview_steps")
        layout.prop(said, "guidance")
        layout.prop(said, "seed")
        if not display.is_plain(scene):
            box = layout.box()
            view = scene.view_settings.view_transform
            wrapped(box, f"Images come ready to be seen; the view transform {view} changes their colours.", "INFO")
            box.operator("neuralusd.standard_view", icon="COLOR")


class NEURALUSD_PT_passes(bpy.types.Panel):
    bl_idname = "NEURALUSD_PT_passes"
    bl_label = "Passes"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "view_layer"
    COMPAT_ENGINES = {"NEURALUSD"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine in cls.COMPAT_ENGINES

    def draw(self, context: bpy.types.Context) -> None:
        layout, layer = self.layout, context.view_layer
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(layer, "use_pass_combined")
        layout.prop(layer, "use_pass_z", text="Depth")
        layout.prop(layer, "use_pass_object_index", text="Object Index")


LISTS = (NEURALUSD_UL_pins,)
CLASSES = (
    NEURALUSD_PT_main,
    NEURALUSD_PT_object,
    NEURALUSD_PT_encode,
    NEURALUSD_PT_hold,
    NEURALUSD_PT_resample,
    NEURALUSD_PT_lift,
    NEURALUSD_PT_settings,
    NEURALUSD_PT_passes,
)


def draw_preferences(said: preferences.Preferences, context: bpy.types.Context, layout: bpy.types.UILayout) -> None:
    """The extension's preferences."""
    layout.use_property_split = True
    layout.row().prop(said, "service", expand=True)
    if said.service == "URL":
        layout.prop(said, "url")
        layout.prop(said, "token")
    else:
        layout.prop(said, "python")
        box = layout.box()
        ready = preferences.service_python() is not None
        text = (
            "Installed. Set up again to repair or update it." if ready else "Not installed yet: once, about a gigabyte."
        )
        wrapped(box, text, "CHECKMARK" if ready else "INFO")
        box.prop(said, "device")
        box.operator("neuralusd.setup", icon="IMPORT")
    draw_running(layout)
    layout.prop(said, "backend")
    layout.prop(said, "cache")
    layout.operator("neuralusd.check", icon="VIEWZOOM")
    for each in setup.found:
        wrapped(layout, f"{each.name}: {each.detail}", "CHECKMARK" if each.ok else "ERROR")
        if each.cure:
            wrapped(layout, each.cure, "RIGHTARROW_THIN")
    if setup.last_log:
        log = os.path.join(os.path.dirname(preferences.environment_folder()), "setup.log")
        box = layout.box()
        for line in setup.last_log[-8:]:
            box.label(text=line[:120])
        box.operator("wm.path_open", text="Open the Log", icon="TEXT").filepath = log


def draw_running(layout: bpy.types.UILayout) -> None:
    """What runs, how far it is, and a button to stop it."""
    for task in list(tasks.running):
        box = layout.box()
        if hasattr(box, "progress"):
            box.progress(factor=task.fraction, text=f"{task.label}: {task.said}"[:80])
        else:
            box.label(text=f"{task.label}: {task.said} ({task.fraction:.0%})"[:80])
        for line in task.log[-4:]:
            box.label(text=line[:100])
        box.operator("neuralusd.stop", icon="CANCEL")


def pin(
    layout: bpy.types.UILayout,
    said: bpy.types.PropertyGroup,
    factor: str,
    text: str,
    item: bpy.types.Object | None = None,
) -> None:
    """A button that pins a factor, or opens its pin: of an object, or else of what is selected."""
    pinned = pins.is_pinned(getattr(said, f"anchor_{factor}"))
    done = layout.operator("neuralusd.pin", text=text, icon="PINNED" if pinned else "UNPINNED", depress=pinned)
    done.factor, done.object, done.everything = factor.upper(), item.name if item is not None else "", False
    done.keep = 0.0 if pinned else 1.0


def pin_row(layout: bpy.types.UILayout, said: bpy.types.PropertyGroup, factor: str) -> None:
    """A pin with its factor's name, and how much is kept where it is open."""
    row = layout.row(align=True)
    pin(row, said, factor, pins.NAMES[factor])
    if not pins.is_pinned(getattr(said, f"anchor_{factor}")):
        row.prop(said, f"anchor_{factor}", slider=True)


def draw_samples(layout: bpy.types.UILayout, scene: bpy.types.Scene) -> None:
    """The strip of samples, what they are samples of first; a click takes one."""
    said = scene.neuralusd
    if not said.samples:
        return
    grid = layout.grid_flow(row_major=True, columns=0, even_columns=True, even_rows=True, align=True)
    pictures = [said.source_picture, *(sample.picture for sample in said.samples)]
    for number, picture in enumerate(pictures):
        cell = grid.box().column(align=True)
        if picture is not None:
            cell.template_icon(icon_value=layout.icon(picture), scale=5.0)
        text, taken = f"Sample {number}" if number else "Original", said.taken == number
        cell.operator("neuralusd.take", text=text, icon="CHECKMARK" if taken else "NONE", depress=taken).sample = number
    layout.operator("neuralusd.forget_samples", icon="CHECKMARK")


def wrapped(layout: bpy.types.UILayout, text: str, icon: str = "NONE", width: int = 60) -> None:
    """A text on as many lines as it takes; labels do not wrap."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1" if icon != "NONE" else "NONE")


def register() -> None:
    """Adds the panels."""
    for each in (*LISTS, *CLASSES):
        bpy.utils.register_class(each)


def unregister() -> None:
    """Removes them."""
    for each in reversed((*LISTS, *CLASSES)):
        bpy.utils.unregister_class(each)
