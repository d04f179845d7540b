# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene as a file of USD that the service reads, and what the service made of it back on the objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bpy

from . import connection, preferences, store
from .problems import Problem
from .view import View


@dataclass
class Sent:
    """A scene as it was sent.

    Attributes:
        folder: of the files of the request. file: the stage. camera: path of the camera in it.
        paths: of prims to the names (and libraries) of their objects, which outlive undo. assets: paths.
        missing: paths of the assets that have no tokens. left_out: names of objects that show in Blender and not here.
        waiting: objects that take what another object has not yet.
    """

    folder: str
    file: str
    camera: str
    scene: str
    background: str
    paths: dict[str, tuple[str, str]] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    waiting: list[tuple[str, str, str]] = field(default_factory=list)

    def object(self, path: str) -> bpy.types.Object | None:
        """The object of a prim, if it is still there."""
        name, library = self.paths.get(path, ("", ""))
        return bpy.data.objects.get((name, library or None)) if name else None

    def said_of_left_out(self) -> str:
        """What to say of what was left out, and the cure, to be added to a message; empty where nothing was."""
        if not self.left_out:
            return ""
        names = ", ".join(self.left_out[:3]) + (" ..." if len(self.left_out) > 3 else "")
        return f"; left out, being no mesh (Object > Convert > Mesh makes it one): {names}"


def where() -> connection.Where:
    """The service that the preferences name."""
    said = preferences.get()
    if said.service == "URL":
        if not said.url.strip():
            raise Problem("The preferences of Neural USD name another machine's service, but no address. Enter it.")
        return connection.Where(url=said.url.strip(), token=said.token.strip())
    cache = bpy.path.abspath(said.cache) if said.cache else None
    return connection.Where(python=preferences.service_python(), cache=cache and os.path.join(cache, "service"))


def send(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    folder: str,
    *,
    view: View | None = None,
    viewport: bool = False,
    package: bool = False,
) -> Sent:
    """Writes the scene, as it is at the current frame, into a folder. To be called in the main thread.

    Args:
        view: to look from there; None is the scene's camera. viewport: what the viewport shows, in its quality.
        package: one file with all that belongs to it, which is what another machine can be sent; such a one gets that.

    Raises:
        Problem: there is no camera, nothing to see, or this Blender cannot do it.
    """
    from .usd import bundled

    bundled.expose()
    from .usd import deforms, hook

    if view is None:
        if scene.camera is None or scene.camera.type != "CAMERA":
            raise Problem("The scene has no camera. Add one (Add > Camera) and make it the active one (Ctrl+Numpad 0).")
        if scene.camera.data.type not in ("PERSP", "ORTHO"):
            raise Problem(f"{scene.camera.name} is a panoramic camera. Make it perspective or orthographic.")
    for each in view_layer.objects:
        if each.mode == "EDIT":
            each.update_from_editmode()
    shows = _shown(scene, view_layer, viewport)
    # What was encoded of a surface that moves is found again by its points, so there must be as many.
    moving = [each for each in view_layer.objects if deforms.may(each) and shows(each)] if viewport else []
    quick = viewport and all(deforms.alike(each, scene) for each in moving)
    file = os.path.join(folder, "scene.usdz" if package or where().remote else "scene.usdc")
    hook.shot = shot = hook.Shot(scene, shows, camera=scene.camera if view is None else None, view=view)
    try:
        with bpy.context.temp_override(scene=scene, view_layer=view_layer):
            bpy.ops.wm.usd_export(**_options(file, quick))
    except RuntimeError as error:
        raise shot.error or Problem(f"Blender could not export the scene as USD: {error}") from error
    finally:
        hook.shot = None
    if shot.error is not None:
        raise shot.error
    if not shot.seen or not os.path.isfile(file):
        raise Problem(f"Blender could not export the scene as USD to {file}. Check the cache folder's free space.")
    if not shot.chosen:
        raise Problem(
            "There is no object with a surface that is rendered. Add one, or set an object's role to Asset "
            "(sidebar > Neural > Object)."
        )
    sent = Sent(folder, file, shot.camera_path, scene.name, shot.background)
    for each, path in shot.prims.items():
        sent.paths[str(path)] = (each.name, each.library.filepath if each.library else "")
    sent.assets = [str(shot.prims[each]) for each in shot.chosen]
    sent.waiting = shot.waiting
    sent.left_out = [each.name for each in view_layer.objects if _left_out(each) and shot.shows(each)]
    sent.missing = [str(shot.prims[each]) for each in shot.missing]
    return sent


def _left_out(each: bpy.types.Object) -> bool:
    """Whether an object has a surface that Blender's exporter does not write as one."""
    if each.type == "CURVE":
        data = each.data
        tube = data.bevel_depth or data.extrude or data.bevel_object
        return bool(tube or each.modifiers or data.dimensions == "2D" and data.fill_mode != "NONE")
    return each.type in {"SURFACE", "CURVES", "VOLUME", "POINTCLOUD", "GPENCIL", "GREASEPENCIL"}


def _shown(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, viewport: bool
) -> Callable[[bpy.types.Object], bool]:
    """Whether an object is in the image: as the viewport shows it, or as it is rendered."""
    if viewport:
        return lambda each: each.visible_get(view_layer=view_layer)
    rendered: set[bpy.types.Object] = set()

    def walk(layer: bpy.types.LayerCollection) -> None:
        if layer.exclude or layer.collection.hide_render:
            return
        rendered.update(each for each in layer.collection.objects if not each.hide_render)
        for child in layer.children:
            walk(child)

    walk(view_layer.layer_collection)
    return rendered.__contains__


def _options(file: str, quick: bool) -> dict[str, Any]:
    """Options of Blender's exporter: all that shows, named, as it is at this frame; `quick`: as the viewport has it."""
    wanted: dict[str, Any] = {
        "filepath": file,
        "check_existing": False,
        "selected_objects_only": False,
        "export_animation": False,
        "export_hair": False,
        "export_uvmaps": True,
        "export_normals": False,
        "export_mesh_colors": True,
        "export_materials": True,
        "generate_preview_surface": True,
        "generate_materialx_network": False,
        "export_textures_mode": "NEW",
        "overwrite_textures": True,
        "relative_paths": True,
        "export_subdivision": "TESSELLATE",
        "export_armatures": False,
        "export_shapekeys": False,
        "use_instancing": False,
        "evaluation_mode": "VIEWPORT" if quick else "RENDER",
        "convert_orientation": False,
        "xform_op_mode": "TRS",
        "root_prim_path": "/root",
        "export_custom_properties": True,
        "author_blender_name": True,
        "convert_world_material": False,
        "allow_unicode": False,
        "export_meshes": True,
        "export_lights": False,
        "export_cameras": True,
        # Nothing reads them, and those without splines crash Blender 4.5.
        "export_curves": False,
        "export_points": False,
        "export_volumes": False,
        "triangulate_meshes": False,
        "merge_parent_xform": False,
        "convert_scene_units": "METERS",
    }
    known = bpy.ops.wm.usd_export.get_rna_type().properties.keys()
    return {name: value for name, value in wanted.items() if name in known}


def take_tokens(sent: Sent, file: str) -> list[str]:
    """Keeps the tokens that the service made, and gives them to their objects. Returns the objects' names.

    Raises Problem where the sidecar cannot be written; the objects are as they were then.
    """
    from .usd import bundled

    bundled.expose()
    from pxr import Usd

    from .usd import neural, records

    scene = bpy.data.scenes.get(sent.scene)
    if scene is None or not os.path.isfile(file):
        return []
    stage = Usd.Stage.Open(file, Usd.Stage.LoadNone)
    draft, named = records.Draft(), {}
    background, names = None, []
    for prim in stage.TraverseAll():
        if not neural.tokens_of(prim):
            continue
        path = str(prim.GetPath())
        each = sent.object(path)
        if each is not None:
            named[each] = draft.record(prim, store.record_of(scene, each), os.path.dirname(file), each.name)
        elif path == sent.background:
            before = store.find(scene.neuralusd.background, None)
            background = draft.record(prim, before, os.path.dirname(file), "Background")
    if not named and background is None:
        return []
    draft.add_to(store.path(scene))
    for each, name in named.items():
        store.set_record(scene, each, name)
        names.append(each.name)
    if background is not None:
        scene.neuralusd.background = background
    return names


def take_donor(each: bpy.types.Object, modality: str, file: str, key: str) -> None:
    """Keeps the tokens of an object that a photograph shows, for an object that takes them."""
    from .usd import bundled

    bundled.expose()
    from pxr import Usd

    from .usd import neural, records

    stage = Usd.Stage.Open(file)
    donors = [prim for prim in stage.Traverse() if neural.tokens_of(prim) and not _is_background(prim)]
    if not donors:
        raise Problem(f"The image for the {modality} of {each.name} shows no object. Use one that does.")
    draft = records.Draft()
    name = draft.record(donors[0], folder=os.path.dirname(file), name=each.name)
    draft.add_to(store.path(bpy.context.scene))
    setattr(each.neuralusd, f"{modality}_record", name)
    setattr(each.neuralusd, f"{modality}_key", key)


def _is_background(prim: Any) -> bool:
    from .usd import neural

    role = prim.GetAttribute(neural.ROLE)
    return bool(role) and role.Get() == neural.BACKGROUND


def numbers(scene: bpy.types.Scene, preview: bool = False) -> dict[str, Any]:
    """What the scene and the preferences say of how an image is made, as arguments of a request."""
    said = scene.neuralusd
    return {
        "backend": said.backend.strip() or preferences.get().backend.strip() or None,
        "steps": said.preview_steps if preview else said.steps or None,
        "guidance": said.guidance or None,
        "seed": said.full_seed(),
    }


def picture_file(image: bpy.types.Image, folder: str) -> str:
    """A file of what an image data-block shows: its own where it is on disk as it is, else a PNG in the folder.

    Raises Problem for an image without pixels.
    """
    file = bpy.path.abspath(image.filepath, library=image.library) if image.filepath else ""
    kinds = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
    plain = image.source == "FILE" and not image.packed_file and not image.is_dirty
    if plain and os.path.isfile(file) and file.lower().endswith(kinds):
        return file
    if image.type == "RENDER_RESULT" or image.source == "VIEWER":
        target = os.path.join(folder, "picture.png")
        try:
            _save_as_png(image, target)
        except RuntimeError as error:
            raise Problem(f"{image.name} has no pixels yet. Render first.") from error
        return target
    if not image.has_data and image.size[0] * image.size[1] == 0:
        raise Problem(f"{image.name} has no pixels: its file {file or '(none)'} is not there. Open the image again.")
    from .pixels import write_png

    return write_png(image, os.path.join(folder, f"{bpy.path.clean_name(image.name) or 'picture'}.png"))


def _save_as_png(image: bpy.types.Image, target: str) -> None:
    settings = bpy.context.scene.render.image_settings
    # The kind of medium first, where there is one: it limits the formats.
    names = [name for name in ("media_type", "file_format", "color_mode", "color_depth") if hasattr(settings, name)]
    before = {name: getattr(settings, name) for name in names}
    wanted = {"media_type": "IMAGE", "file_format": "PNG", "color_mode": "RGBA", "color_depth": "8"}
    try:
        for name in names:
            setattr(settings, name, wanted[name])
        image.save_render(target, scene=bpy.context.scene)
    finally:
        for name in names:
            setattr(settings, name, before[name])
