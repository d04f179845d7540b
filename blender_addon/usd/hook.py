# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the neural schema when Blender exports USD, and reads it when Blender imports USD."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import bpy
from pxr import Gf, Sdf, Usd, UsdGeom, UsdRender

from .. import animation, store
from ..view import frame_pixels, of_camera
from . import anchors, assets, deforms, neural, prims, records

DONORS = "NeuralDonors"


@dataclass
class Shot:
    """An export of our own, for the service: the hook decides what is an asset, and says what it found.

    Attributes:
        scene: what is exported. shows: whether an object is shown.
        camera: the object to look through. view: or, of a viewport, its place and frustum.
        prims: of the objects. chosen: those that are assets. missing: those of them without tokens.
        waiting: objects that take what another has not yet: its name, the modality, the other's name.
        background, camera_path: paths of prims.
    """

    scene: bpy.types.Scene
    shows: Callable[[bpy.types.Object], bool]
    camera: bpy.types.Object | None = None
    view: object | None = None
    prims: dict[bpy.types.Object, Sdf.Path] = field(default_factory=dict)
    chosen: list[bpy.types.Object] = field(default_factory=list)
    missing: list[bpy.types.Object] = field(default_factory=list)
    waiting: list[tuple[str, str, str]] = field(default_factory=list)
    background: str = ""
    camera_path: str = ""
    error: BaseException | None = None
    seen: bool = False


shot: Shot | None = None
"""The export of our own that is under way, if one is."""


class NEURALUSD_USDHook(bpy.types.USDHook):
    """Neural USD"""

    bl_idname = "neuralusd_hook"
    bl_label = "Neural USD"
    bl_description = "Writes and reads what the neural schema says of objects"

    @staticmethod
    def on_export(export_context: object) -> bool:
        stage, graph = export_context.get_stage(), export_context.get_depsgraph()
        if shot is None:
            write(stage, graph)
            return True
        shot.seen = True
        try:
            write(stage, graph)
        except Exception as error:  # who asked for the export raises it, with its own words
            shot.error = error
        return True

    @staticmethod
    def on_import(import_context: object) -> bool:
        stage = import_context.get_stage()
        found = {}
        for path, blocks in import_context.get_prim_map().items():
            each = next((block for block in blocks if isinstance(block, bpy.types.Object)), None)
            if each is not None:
                found[path] = each
        read(stage, found)
        return True


# -- export ---------------------------------------------------------------------------------------------------------


def write(stage: Usd.Stage, graph: bpy.types.Depsgraph) -> None:
    """Authors the neural schema on an exported stage."""
    objects = list(dict.fromkeys(each.original for each in graph.objects))
    found = prims.find(stage, objects)
    scene = graph.scene.original if hasattr(graph.scene, "original") else graph.scene
    kept = {each: store.record_of(scene, each) for each in found}
    if shot is not None:
        shot.prims = found
        _hide(stage, graph, found)
        _camera(stage, found)
        # Those that are there as parts of an instance alone are no objects of the graph's.
        deforms.mark(stage, (each.original for each in graph.ids if isinstance(each, bpy.types.Object)))
        # Those that have tokens, and those of which somebody has said what resampling may change.
        sticky = {each for each in found if records.has_tokens(kept[each]) or anchors.says_something(each.neuralusd)}
        chosen = assets.choose(stage, found, sticky, _eye(stage))
        shot.chosen = chosen
        shot.missing = [each for each in chosen if not records.has_tokens(kept[each])]
    else:
        chosen = [each for each in found if kept[each] is not None or _says_something(each)]
    targets: set[bpy.types.Object] = set()
    for each in chosen:
        targets |= {donor for donor in _donors(each) if donor is not None}
    for each in dict.fromkeys([*chosen, *targets]):
        if each in found and each.neuralusd.role != "SCENERY":
            _write_object(stage, graph, each, found, kept, is_asset=each in chosen)
    _write_background(stage, scene, found, kept, bool(chosen))
    _write_cameras(stage, found)
    if shot is None:
        _write_settings(stage, scene, bool(chosen))


def _says_something(each: bpy.types.Object) -> bool:
    said = each.neuralusd
    if said.role in ("ASSET", "BACKGROUND") or said.text or said.presence != 1.0 or said.usd_type:
        return True
    return anchors.says_something(said)


def _donors(each: bpy.types.Object) -> list[bpy.types.Object | None]:
    said = each.neuralusd
    return [
        getattr(said, f"{modality}_object") if getattr(said, f"{modality}_from") == "OBJECT" else None
        for modality in neural.MODALITIES
    ]


def _write_object(
    stage: Usd.Stage,
    graph: bpy.types.Depsgraph,
    each: bpy.types.Object,
    found: Mapping[bpy.types.Object, Sdf.Path],
    kept: Mapping[bpy.types.Object, Sdf.PrimSpec | None],
    is_asset: bool,
) -> None:
    prim, said, record = stage.GetPrimAtPath(found[each]), each.neuralusd, kept[each]
    if record is not None:
        records.apply(record, prim)
    if said.usd_type:
        prim.SetTypeName(said.usd_type)
    # A prim of a record that was no asset, as one with provenance alone, stays none.
    if not is_asset or (record is not None and not _asset_record(record) and not _says_something(each)):
        return
    neural.apply(prim, neural.ASSET)
    if said.role == "BACKGROUND":
        neural.author(prim, neural.ROLE, "token", neural.BACKGROUND, uniform=True)
    samples = animation.samples(each, "neuralusd.presence") if stage.HasAuthoredTimeCodeRange() else []
    authored = prim.GetAttribute(neural.PRESENCE)
    presence = each.evaluated_get(graph).neuralusd.presence  # as it is at this frame
    if samples:
        attribute = neural.author(prim, neural.PRESENCE, "float", samples[0][1])
        attribute.Clear()
        for time, value in samples:
            attribute.Set(value, time)
    elif presence != 1.0 or authored and authored.HasAuthoredValue():
        attribute = neural.author(prim, neural.PRESENCE, "float", presence)
        if attribute.GetNumTimeSamples():
            attribute.Clear()
            attribute.Set(presence)
    text = prim.GetAttribute(neural.TEXT)
    if said.text != ((text.Get(Usd.TimeCode.EarliestTime()) if text else "") or ""):
        neural.author(prim, neural.TEXT, "string", said.text)
    if said.role != "BACKGROUND":
        anchors.write(prim, said)
    for modality in neural.MODALITIES:
        _write_donor(stage, prim, each, modality, found, kept)


def _asset_record(record: Sdf.PrimSpec) -> bool:
    return not record.HasInfo("apiSchemas") or neural.ASSET in record.GetInfo("apiSchemas").prependedItems


def _write_donor(
    stage: Usd.Stage,
    prim: Usd.Prim,
    each: bpy.types.Object,
    modality: str,
    found: Mapping[bpy.types.Object, Sdf.Path],
    kept: Mapping[bpy.types.Object, Sdf.PrimSpec | None],
) -> None:
    """The `from` relationship of an object that takes another's tokens."""
    said = each.neuralusd
    source = getattr(said, f"{modality}_from")
    if source == "OWN":
        return
    if source == "OBJECT":
        donor = getattr(said, f"{modality}_object")
        if donor is None or donor == each:
            return
        record = kept[donor] if donor in kept else store.record_of(None, donor)
        if not records.has_tokens(record):
            if shot is not None:
                shot.waiting.append((each.name, modality, donor.name))
            return
        # Of a hidden object, or of one of another scene, the tokens come along by themselves.
        shown = donor in found and donor.neuralusd.role != "SCENERY"
        path = found[donor] if shown else _library(stage, record)
    else:
        record = store.find(getattr(said, f"{modality}_record"), each)
        if record is None:
            return
        path = _library(stage, record)
    neural.apply(prim, f"{neural.TOKENS}:{modality}")
    prim.CreateRelationship(neural.from_name(modality), False).SetTargets([path])


def _library(stage: Usd.Stage, record: Sdf.PrimSpec) -> Sdf.Path:
    """A prim of a library within the stage that has the tokens of a record."""
    root = stage.GetDefaultPrim().GetPath() if stage.GetDefaultPrim() else Sdf.Path.absoluteRootPath
    scope = stage.DefinePrim(root.AppendChild(DONORS), "Scope")
    prim = stage.DefinePrim(scope.GetPath().AppendChild(record.name), "Scope")
    records.apply(record, prim)
    # Tokens to take from, and nothing to draw.
    if neural.ASSET in prim.GetAppliedSchemas():
        prim.RemoveAppliedSchema(neural.ASSET)
    return prim.GetPath()


def _write_background(
    stage: Usd.Stage,
    scene: bpy.types.Scene,
    found: Mapping[bpy.types.Object, Sdf.Path],
    kept: Mapping[bpy.types.Object, Sdf.PrimSpec | None],
    any_assets: bool,
) -> None:
    # A sample's own comes first: the one that it stands in for is hidden.
    own = min((e for e in found if e.neuralusd.role == "BACKGROUND"), key=lambda e: e.hide_render, default=None)
    if own is not None:
        prim = stage.GetPrimAtPath(found[own])
        if kept[own] is not None:
            records.apply(kept[own], prim)
        neural.apply(prim, neural.ASSET)
        neural.author(prim, neural.ROLE, "token", neural.BACKGROUND, uniform=True)
        anchors.write_one(prim, anchors.BACKGROUND, scene.neuralusd.anchor_background)
        if shot is not None:
            shot.background = str(prim.GetPath())
        return
    record = store.find(scene.neuralusd.background, None)
    unsaid = record is None and scene.neuralusd.anchor_background == 1.0
    if shot is None and (unsaid or not any_assets):
        return
    root = stage.GetDefaultPrim().GetPath() if stage.GetDefaultPrim() else Sdf.Path.absoluteRootPath
    path, number = root.AppendChild("Background"), 1
    while stage.GetPrimAtPath(path):
        path, number = root.AppendChild(f"Background{number}"), number + 1
    prim = UsdGeom.Xform.Define(stage, path).GetPrim()
    if record is not None:
        records.apply(record, prim)
    neural.apply(prim, neural.ASSET)
    neural.author(prim, neural.ROLE, "token", neural.BACKGROUND, uniform=True)
    anchors.write_one(prim, anchors.BACKGROUND, scene.neuralusd.anchor_background)
    if shot is not None:
        shot.background = str(path)


def _write_cameras(stage: Usd.Stage, found: Mapping[bpy.types.Object, Sdf.Path]) -> None:
    """How much of each camera resampling keeps."""
    others = set(found.values())
    for each, path in found.items():
        if each.type != "CAMERA":
            continue
        above = stage.GetPrimAtPath(path)
        for prim in [above, *above.GetChildren()]:
            if prim.IsA(UsdGeom.Camera) and (prim == above or prim.GetPath() not in others):
                anchors.write_one(prim, anchors.CAMERA, each.neuralusd.anchor_camera)
    if shot is not None and shot.camera is not None and shot.camera not in found:
        anchors.write_one(stage.GetPrimAtPath(shot.camera_path), anchors.CAMERA, shot.camera.neuralusd.anchor_camera)


def _write_settings(stage: Usd.Stage, scene: bpy.types.Scene, any_assets: bool) -> None:
    """What the scene says of neural rendering, where it says anything, and how large its images are."""
    said, render = scene.neuralusd, scene.render
    values = {
        "backend": ("string", said.backend, ""),
        "steps": ("int", said.steps, 0),
        "guidance": ("float", said.guidance, 0.0),
        "seed": ("int64", said.full_seed(), 0),
    }
    unsaid = all(value == default for _, value, default in values.values())
    if render.engine != "NEURALUSD" and unsaid and not any_assets:
        return
    stage.DefinePrim("/Render", "Scope")
    settings = UsdRender.Settings.Define(stage, "/Render/Neural")
    prim = settings.GetPrim()
    neural.apply(prim, neural.RENDER_SETTINGS)
    for name, (type_name, value, default) in values.items():
        if value != default:
            neural.author(prim, f"neural:{name}", type_name, value, uniform=True)
    settings.CreateResolutionAttr(Gf.Vec2i(*frame_pixels(scene)))
    if render.pixel_aspect_x != render.pixel_aspect_y:
        settings.CreatePixelAspectRatioAttr(render.pixel_aspect_x / render.pixel_aspect_y)
    if not stage.HasAuthoredMetadata("renderSettingsPrimPath"):
        stage.SetMetadata("renderSettingsPrimPath", str(prim.GetPath()))


def _hide(stage: Usd.Stage, graph: bpy.types.Depsgraph, found: Mapping[bpy.types.Object, Sdf.Path]) -> None:
    """Takes out what is not shown, which Blender's exporter does not ask collections for. Its children may be shown."""
    objects = set(found.values())
    for each, path in found.items():
        # Scaled to nothing, as at the begin of an animation, it has nothing to show.
        if shot.shows(each) and any(each.evaluated_get(graph).matrix_world.to_scale()):
            continue
        for child in stage.GetPrimAtPath(path).GetChildren():
            if not any(other.HasPrefix(child.GetPath()) for other in objects):
                child.SetActive(False)


def _camera(stage: Usd.Stage, found: Mapping[bpy.types.Object, Sdf.Path]) -> None:
    """The camera of our own export; Blender itself leaves orthographic ones out."""
    # Blender's units are metres times this, which its exporter does not say.
    UsdGeom.SetStageMetersPerUnit(stage, shot.scene.unit_settings.scale_length)
    if shot.view is not None:
        root = stage.GetDefaultPrim().GetPath()
        camera = UsdGeom.Camera.Define(stage, root.AppendChild("NeuralViewport"))
        shot.view.author(camera)
        shot.camera_path = str(camera.GetPath())
        return
    if shot.camera is None:
        return
    if shot.camera not in found:  # hidden, or in a collection that is: Blender looks through it all the same
        camera = UsdGeom.Camera.Define(stage, stage.GetDefaultPrim().GetPath().AppendChild("NeuralCamera"))
        of_camera(shot.camera, shot.scene).author(camera)
        shot.camera_path = str(camera.GetPath())
        return
    parent = stage.GetPrimAtPath(found[shot.camera])
    cameras = [prim for prim in [parent, *parent.GetChildren()] if prim.IsA(UsdGeom.Camera)]
    if cameras:
        shot.camera_path = str(cameras[0].GetPath())
        return
    camera = UsdGeom.Camera.Define(stage, parent.GetPath().AppendChild("NeuralCamera"))
    of_camera(shot.camera, shot.scene).author(camera, placed=True)
    shot.camera_path = str(camera.GetPath())


def _eye(stage: Usd.Stage) -> tuple[float, float, float] | None:
    prim = stage.GetPrimAtPath(shot.camera_path) if shot.camera_path else None
    if not prim:
        return None
    place = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.EarliestTime()).ExtractTranslation()
    return tuple(place)


# -- import ---------------------------------------------------------------------------------------------------------


def read(stage: Usd.Stage, objects: dict[Sdf.Path, bpy.types.Object]) -> None:
    """Takes what an imported stage says of its prims over to their objects."""
    neural_prims = [prim for prim in stage.Traverse(Usd.TraverseInstanceProxies()) if neural.is_neural(prim)]
    if not neural_prims:
        return
    folder = os.path.dirname(stage.GetRootLayer().realPath)
    draft = records.Draft()
    named: dict[bpy.types.Object, str] = {}
    for prim in neural_prims:
        path = prim.GetPath()
        if neural.RENDER_SETTINGS in neural.schemas(prim):
            _read_settings(prim)
            continue
        if prim.IsA(UsdGeom.Camera):
            _read_camera(prim, objects)
            if neural.schemas(prim) == [neural.ANCHOR]:
                continue
        if path not in objects:
            if prim.IsInstanceProxy():
                continue
            objects[path] = _empty(prim, objects)
        each = objects[path]
        named[each] = draft.record(prim, folder=folder, name=each.name)
        _read_object(prim, each, objects, draft, folder)
    scene = bpy.context.scene
    draft.add_to(store.path(scene))
    for each, name in named.items():
        store.set_record(scene, each, name)


def _read_object(
    prim: Usd.Prim,
    each: bpy.types.Object,
    objects: Mapping[Sdf.Path, bpy.types.Object],
    draft: records.Draft,
    folder: str,
) -> None:
    said = each.neuralusd
    if prim.GetTypeName() == neural.VOLUME:
        said.usd_type = neural.VOLUME
    values = {}
    for name in (neural.ROLE, neural.TEXT, neural.PRESENCE):
        attribute = prim.GetAttribute(name)
        values[name] = attribute.Get(Usd.TimeCode.EarliestTime()) if attribute else None
    if neural.ASSET in neural.schemas(prim):
        said.role = "BACKGROUND" if values[neural.ROLE] == neural.BACKGROUND else "ASSET"
    said.text = values[neural.TEXT] or ""
    anchors.read(prim, said)
    background = anchors.value(prim, anchors.BACKGROUND)
    if said.role == "BACKGROUND" and background is not None:
        bpy.context.scene.neuralusd.anchor_background = background
    presence = prim.GetAttribute(neural.PRESENCE)
    if values[neural.PRESENCE] is not None:
        said.presence = values[neural.PRESENCE]
    if presence and presence.GetNumTimeSamples() > 1:
        times = presence.GetTimeSamples()
        animation.keyframe(each, "neuralusd.presence", [(time, presence.Get(time)) for time in times])
    for modality in neural.MODALITIES:
        relationship = prim.GetRelationship(neural.from_name(modality))
        targets = relationship.GetTargets() if relationship else []
        if not targets:
            continue
        if targets[0] in objects and not _in_library(targets[0]):
            setattr(said, f"{modality}_from", "OBJECT")
            setattr(said, f"{modality}_object", objects[targets[0]])
        elif prim.GetStage().GetPrimAtPath(targets[0]):
            setattr(said, f"{modality}_from", "KEPT")
            donor = prim.GetStage().GetPrimAtPath(targets[0])
            setattr(said, f"{modality}_record", draft.record(donor, folder=folder, name=donor.GetName()))


def _read_camera(prim: Usd.Prim, objects: Mapping[Sdf.Path, bpy.types.Object]) -> None:
    """How much of a camera resampling keeps; a camera may have become one object with the Xform above it."""
    each = objects.get(prim.GetPath()) or objects.get(prim.GetPath().GetParentPath())
    alpha = anchors.value(prim, anchors.CAMERA)
    if each is not None and each.type == "CAMERA" and alpha is not None:
        each.neuralusd.anchor_camera = alpha


def _in_library(path: Sdf.Path) -> bool:
    return path.GetParentPath().name == DONORS


def _empty(prim: Usd.Prim, objects: Mapping[Sdf.Path, bpy.types.Object]) -> bpy.types.Object:
    """An Empty for a prim of a type that Blender does not know, so that what it says is not lost."""
    each = bpy.data.objects.new(prim.GetName(), None)
    each.neuralusd.usd_type = prim.GetTypeName()
    path = prim.GetPath().GetParentPath()
    while path not in objects and path != Sdf.Path.absoluteRootPath:
        path = path.GetParentPath()
    parent = objects.get(path)
    for collection in (parent.users_collection if parent else ()) or (bpy.context.collection,):
        collection.objects.link(each)
    each.parent = parent
    if prim.IsA(UsdGeom.Xformable):
        matrix = UsdGeom.Xformable(prim).GetLocalTransformation(Usd.TimeCode.EarliestTime())
        # USD's matrices act on rows, Blender's on columns.
        each.matrix_local = [[matrix[column][row] for column in range(4)] for row in range(4)]
    return each


def _read_settings(prim: Usd.Prim) -> None:
    said = bpy.context.scene.neuralusd
    for name in ("backend", "steps", "guidance", "seed"):
        attribute = prim.GetAttribute(f"neural:{name}")
        value = attribute.Get() if attribute else None
        if value is None:
            continue
        if name == "seed":
            said.set_full_seed(int(value))
        else:
            setattr(said, name, value)
