# SPDX-License-Identifier: GPL-3.0-or-later
"""The samples of a scene, and the one of them that is taken.

What a sample changes of objects is in the .blend. The meshes and tokens that are new in samples are a file in the cache
folder, and beside the .blend once that is saved; they are imported when a sample is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import bpy
from mathutils import Matrix

from . import animation, pins
from .beside import Files
from .problems import Problem
from .request import Resampled

FILES = Files("samples", ".usdc", "samples_file")
PICTURE, COLLECTION = "Neural Sample", "Resampled"
TRANSFORM = ("location", "rotation_euler", "rotation_quaternion", "rotation_axis_angle", "scale", "delta_location",
             "delta_rotation_euler", "delta_rotation_quaternion", "delta_scale")  # fmt: skip
HIDING = ("hide_viewport", "hide_render")
COPIED = ("location", "rotation_euler", "rotation_quaternion", "rotation_axis_angle", "scale", *HIDING)
AGAIN = "Press Resample again (sidebar > Neural > Resample)."
# Of a place, against the size of its numbers.
CLOSE = 1e-4


def keep(scene: bpy.types.Scene, made: Resampled) -> None:
    """Makes these the scene's samples. The scene as it is becomes what they are samples of.

    Raises Problem where the file of what is new in them cannot be written; the samples are those from before then.
    """
    name = FILES.take(made.file) if made.file else ""
    forget(scene)
    said, sent = scene.neuralusd, made.sent
    said.samples_file = name
    pictures = {os.path.splitext(os.path.basename(file))[0]: file for file in made.pictures}
    said.source_picture = _picture(pictures.get("source"), f"{PICTURE} Source")
    assets = {sent.object(path): path for path in sent.assets}
    assets.pop(None, None)
    children = pins.children_of(bpy.data.objects)
    owned = {part for each in assets for part in _parts(each, set(assets), children, lights=True)}
    for number, found in enumerate(made.samples):
        sample = said.samples.add()
        sample.picture = _picture(pictures.get(found.name), f"{PICTURE} {number + 1}")
        sample.zoom = found.zoom
        sample.prim = found.name if found.new or found.replaced or found.background else ""
        hides = dict.fromkeys(_scenery(made, owned) if found.background else (), "REPLACE")
        for each, path in assets.items():
            if path in found.gone or path in found.replaced:
                parts = _parts(each, set(assets), children, lights=path in found.gone)
                hides |= dict.fromkeys(parts, "HIDE" if path in found.gone else "REPLACE")
        for each in [*assets, *(each for each in hides if each not in assets)]:
            path = assets.get(each, "")
            if path not in found.moved and path not in found.back and each not in hides:
                continue
            change = sample.changes.add()
            change.each, change.hides, change.appears = each, hides.get(each, "NO"), path in found.back
            if path in found.moved:
                change.moves, change.matrix = True, found.moved[path]


def forget(scene: bpy.types.Scene) -> None:
    """The scene has no samples any more, and stays as it is."""
    said = scene.neuralusd
    pictures = {said.source_picture, *(sample.picture for sample in said.samples)} - {None}
    said.samples.clear()
    said.before.clear()
    said.brought.clear()
    said.brought_to = said.source_picture = None
    said.samples_file, said.taken = "", 0
    for picture in pictures:
        if not picture.users:
            bpy.data.images.remove(picture)


def take(context: bpy.types.Context, number: int) -> list[str]:
    """Makes the scene look like a sample; 0 makes it what it was. Returns what could not be done, a sentence each.

    Raises Problem where there is no such sample, or the file of what is new in it is gone; the scene is as it was then.
    """
    scene, said = context.scene, context.scene.neuralusd
    if not 0 <= number <= len(said.samples):
        raise Problem(f"There is no sample {number}. The last one is {len(said.samples)}; 0 is the original.")
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    sample = said.samples[number - 1] if number else None
    new: list[bpy.types.Object] = []
    if sample is not None and sample.prim:
        file = FILES.find(scene)
        if file is None:
            raise Problem(
                f"The file of what is new in the samples is neither beside the .blend nor in the cache folder. {AGAIN}"
            )
        new = _import(context, file, sample.prim, number)
    notes = _restore(context)
    if sample is not None:
        notes += _apply(context, sample, new)
    said.taken = number
    return notes


# -- what a sample changes ------------------------------------------------------------------------------------------


def _parts(
    each: bpy.types.Object,
    assets: set[bpy.types.Object],
    children: Mapping[bpy.types.Object, list[bpy.types.Object]],
    lights: bool,
) -> list[bpy.types.Object]:
    """An object and what is parented to it, but for what belongs to another asset.

    Args:
        lights: those, too, and whatever else is no surface.
    """
    found = [each] if lights or each.type not in pins.NOT_ASSETS else []
    for child in children.get(each, ()):
        if child not in assets:
            found += _parts(child, assets, children, lights)
    return found


def _scenery(made: Resampled, owned: set[bpy.types.Object]) -> list[bpy.types.Object]:
    """The objects that were sent and have a surface, and belong to no asset.

    Args:
        owned: those that do.
    """
    sent = [each for each in map(made.sent.object, made.sent.paths) if each is not None and each not in owned]
    return [each for each in sent if pins.is_surface(each) or each.neuralusd.role == "BACKGROUND"]


def _apply(context: bpy.types.Context, sample: bpy.types.PropertyGroup, new: list[bpy.types.Object]) -> list[str]:
    scene, notes = context.scene, []
    said, known = scene.neuralusd, {}
    for each in new:
        said.brought.add().each = each
    lost = sum(change.each is None for change in sample.changes)
    if lost:
        notes.append(f"objects of the sample that are gone from the file by now: {lost}")
    changes = []
    for change in sample.changes:
        each = change.each
        if each is not None and each.library is not None:
            notes.append(
                f"{each.name} is linked from another .blend, so it stays as it is; make a library override of it "
                "(Object > Library Override > Make)"
            )
        elif each is not None:
            changes.append(change)
    # While all is shown: Blender does not work out where hidden things are.
    notes += _place(context, [change for change in changes if change.moves], known)
    for change in changes:
        each, before = change.each, _before(scene, change.each, known)
        if change.hides != "NO":
            notes += _mute_animation(before, HIDING)
            each.hide_viewport = each.hide_render = True
        if change.appears:
            notes += _mute_animation(before, ("neuralusd.presence",))
            each.neuralusd.presence = 1.0
    return notes + _zoom(scene, sample.zoom, known)


def _place(
    context: bpy.types.Context, changes: list[bpy.types.PropertyGroup], known: dict[bpy.types.Object, int]
) -> list[str]:
    """Puts objects where a sample has them, parents before what is parented to them."""
    notes: list[str] = []
    targets = {}
    for change in sorted(changes, key=lambda change: _depth(change.each)):
        each, before = change.each, _before(context.scene, change.each, known)
        numbers = list(change.matrix)
        targets[each] = Matrix([numbers[row * 4 : row * 4 + 4] for row in range(4)])
        notes += _mute_animation(before, TRANSFORM)
        _set_place(context, each, targets[each])
        if _is_at(each, targets[each]) or not _mute_constraints(before):
            continue
        _set_place(context, each, targets[each])
        notes.append(f"the constraints of {each.name} are muted as long as the sample is taken")
    for each, target in targets.items():
        if not _is_at(each, target):
            data = each.animation_data
            why = "NLA tracks move it" if data and data.use_nla and data.nla_tracks else "its parent shears or moves it"
            notes.append(f"{each.name} could not be put exactly where the sample has it: {why}")
    return notes


def _set_place(context: bpy.types.Context, each: bpy.types.Object, target: Matrix) -> None:
    each.matrix_world = target
    context.view_layer.update()


def _is_at(each: bpy.types.Object, target: Matrix) -> bool:
    size = max(1.0, *(abs(value) for row in target for value in row))
    return all(abs(a - b) <= CLOSE * size for one, other in zip(each.matrix_world, target, strict=True)
               for a, b in zip(one, other, strict=True))  # fmt: skip


def _depth(each: bpy.types.Object) -> int:
    return 0 if each.parent is None else 1 + _depth(each.parent)


def _zoom(scene: bpy.types.Scene, zoom: float, known: dict[bpy.types.Object, int]) -> list[str]:
    camera = scene.camera
    if abs(zoom - 1) < 1e-6 or camera is None or camera.type != "CAMERA":
        return []
    if camera.data.library is not None or camera.library is not None:
        return [f"the camera {camera.name} is linked from another .blend, so its focal length stays as it is"]
    before = _before(scene, camera, known)
    before.lens = camera.data.lens
    notes = _mute_animation(before, ("lens",), camera.data)
    camera.data.lens *= zoom
    return notes


# -- and back -------------------------------------------------------------------------------------------------------


def _before(
    scene: bpy.types.Scene, each: bpy.types.Object, known: dict[bpy.types.Object, int]
) -> bpy.types.PropertyGroup:
    """What an object was before the sample: noted when this is first asked for.

    Args:
        known: the numbers of those that are noted; adding one may move the others in memory.
    """
    if each in known:
        return scene.neuralusd.before[known[each]]
    known[each] = len(scene.neuralusd.before)
    found = scene.neuralusd.before.add()
    found.each, found.presence = each, each.neuralusd.presence
    for name in COPIED:
        setattr(found, name, getattr(each, name))
    return found


def _restore(context: bpy.types.Context) -> list[str]:
    """Makes all that the sample which is taken changed what it was before."""
    said, notes = context.scene.neuralusd, []
    for before in said.before:
        each = before.each
        if each is None:
            continue
        for name in COPIED:
            setattr(each, name, getattr(before, name))
        each.neuralusd.presence = before.presence
        if before.lens and each.type == "CAMERA":
            each.data.lens = before.lens
        _unmute(before)
    said.before.clear()
    _remove([brought.each for brought in said.brought if brought.each is not None])
    said.brought.clear()
    place = said.brought_to
    if place is not None and not place.all_objects and not place.children:
        bpy.data.collections.remove(place)
    said.taken = 0
    context.view_layer.update()
    return notes


def _remove(objects: list[bpy.types.Object]) -> None:
    """Deletes objects that came with a sample. What was parented to them since stays where it is."""
    children = pins.children_of(bpy.data.objects)
    for each in objects:
        for child in [child for child in children.get(each, ()) if child not in objects]:
            place = child.matrix_world.copy()
            child.parent = None
            child.matrix_world = place
    blocks = {each.data for each in objects if each.data is not None}
    looks = {slot.material for each in objects for slot in each.material_slots if slot.material is not None}
    for each in objects:
        bpy.data.objects.remove(each)
    for block in [*blocks, *looks]:
        if not block.users:
            bpy.data.batch_remove([block])


def _mute_animation(
    before: bpy.types.PropertyGroup, paths: tuple[str, ...], block: bpy.types.ID | None = None
) -> list[str]:
    """Mutes what animates properties of an object, or of its camera, so that they stay as a sample sets them."""
    each = before.each
    block = each if block is None else block
    data = block.animation_data
    if data is None:
        return []
    muted, notes = _muted(before), []
    kind = "object" if block == each else "data"
    curves = [curve for curve in animation.curves(block) if curve.data_path in paths and not curve.mute]
    if curves and (data.action.users > 1 or data.action.library is not None):
        return [f"{each.name} shares its animation with others, which will move it back when the frame changes"]
    for number, curve in [*((0, curve) for curve in curves), *((1, curve) for curve in data.drivers)]:
        if curve.data_path in paths and not curve.mute:
            curve.mute = True
            muted.append([("curve", "driver")[number], kind, curve.data_path, curve.array_index])
    if len(muted) > len(_muted(before)):
        before.muted = json.dumps(muted)
        notes.append(f"the animation of {each.name} is muted as long as the sample is taken")
    return notes


def _mute_constraints(before: bpy.types.PropertyGroup) -> bool:
    """Mutes the constraints of an object; returns whether there were any."""
    muted = _muted(before)
    active = [constraint for constraint in before.each.constraints if not constraint.mute]
    for constraint in active:
        constraint.mute = True
        muted.append(["constraint", constraint.name])
    before.muted = json.dumps(muted)
    return bool(active)


def _unmute(before: bpy.types.PropertyGroup) -> None:
    each = before.each
    for kind, *which in _muted(before):
        if kind == "constraint":
            constraint = each.constraints.get(which[0])
            if constraint is not None:
                constraint.mute = False
            continue
        block = each if which[0] == "object" else each.data
        data = block.animation_data if block is not None else None
        curves = () if data is None else animation.curves(block) if kind == "curve" else data.drivers
        for curve in curves:
            if [curve.data_path, curve.array_index] == which[1:]:
                curve.mute = False


def _muted(before: bpy.types.PropertyGroup) -> list[list]:
    return json.loads(before.muted or "[]")


# -- what is new ----------------------------------------------------------------------------------------------------


def _import(context: bpy.types.Context, file: str, prim: str, number: int) -> list[bpy.types.Object]:
    """Imports what is new in a sample, into a collection of its own; returns the objects."""
    scene, layer = context.scene, context.view_layer
    there, active = set(bpy.data.objects), layer.objects.active
    selected = list(layer.objects.selected)
    wanted = {
        "filepath": file,
        "prim_path_mask": f"/{prim}",
        "set_frame_range": False,
        "merge_parent_xform": True,
        "import_textures_mode": "IMPORT_PACK",
    }
    known = bpy.ops.wm.usd_import.get_rna_type().properties.keys()
    try:
        bpy.ops.wm.usd_import(**{name: value for name, value in wanted.items() if name in known})
    except RuntimeError as error:
        raise Problem(f"Blender could not import what is new in the sample: {error}") from error
    for each in list(layer.objects.selected):
        each.select_set(False)
    new = [each for each in bpy.data.objects if each not in there]
    place = _collection(scene)
    holder = next((each for each in new if each.parent is None and each.type == "EMPTY" and not _is_neural(each)), None)
    for each in new:
        if each.parent == holder and holder is not None:
            matrix = each.matrix_world.copy()
            each.parent = None
            each.matrix_world = matrix
        for collection in list(each.users_collection):
            collection.objects.unlink(each)
        if each != holder:
            place.objects.link(each)
    if holder is not None:
        new.remove(holder)
        bpy.data.objects.remove(holder)
    for each in selected:
        each.select_set(True)
    layer.objects.active = active
    if not new:
        raise Problem(f"Blender imported nothing of what is new in the sample. {AGAIN}")
    return new


def _is_neural(each: bpy.types.Object) -> bool:
    return bool(each.neuralusd.record) or each.neuralusd.role != "AUTO"


def _collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """The collection for what is new in samples, as part of the scene."""
    said = scene.neuralusd
    if said.brought_to is None:
        own = (each for each in scene.collection.children if each.name.split(".")[0] == COLLECTION)
        said.brought_to = next(own, None) or bpy.data.collections.new(COLLECTION)
    if said.brought_to not in scene.collection.children_recursive:
        scene.collection.children.link(said.brought_to)
    return said.brought_to


# -- files ----------------------------------------------------------------------------------------------------------


def _picture(file: str | None, name: str) -> bpy.types.Image | None:
    """A PNG as a packed image data-block."""
    if file is None:
        return None
    image = bpy.data.images.load(file)
    image.pack()
    image.name = name
    image.filepath = f"//{name}.png"  # the file that it came from goes with the request
    return image
