# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""What a scene and its objects say of neural rendering; Blender saves it in the .blend."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

LARGEST = 2**31 - 1
# Of paths that may begin with "//", the folder of the .blend; older Blenders have no word for it.
RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()

# What may be said anew of an object that is linked from another .blend and overridden here.
OVERRIDE = {"LIBRARY_OVERRIDABLE"}

ROLES = (
    ("AUTO", "Automatic", "An asset if it stands by itself and does not look like the scenery behind the others"),
    ("ASSET", "Asset", "One thing that is drawn, moved and edited by itself, with what is parented to it"),
    ("SCENERY", "Scenery", "Part of what is behind all assets, as walls and floor"),
    ("BACKGROUND", "Background", "What is behind all assets, as one; an Empty that came from a USD file"),
)
SOURCES = (
    ("OWN", "Its Own", "What encoding saw of it"),
    ("OBJECT", "Another Object", "That of another object"),
    ("IMAGE", "An Image", "That of the object which an image shows; transparent pixels are left out"),
    ("KEPT", "Imported", "What the USD file said that it came from"),
)

ENCODED_FROM = (
    ("CYCLES", "Cycles", "A quick picture by Cycles: what materials look like in the scene's light"),
    ("MATERIALS", "Materials", "The materials' base colours, without light; those that nodes compute are plain white"),
    ("IMAGE", "An Image", "A rendering or a photograph of the scene by its camera"),
)
LIFTED_FROM = (
    ("IMAGE", "A Picture", "An image that shows the object before a plain or transparent background"),
    ("TEXT", "Words", "A phrase that says what it is; for lifters that take words"),
    ("NOTHING", "Nothing", "Whatever the lifter has learned to make; another seed makes another"),
)


# What a sample does to an object that it does not show: nothing of it, or nothing of its own surface.
HIDES = (("NO", "No", ""), ("HIDE", "Hide", ""), ("REPLACE", "Replace", ""))


def _anchor(what: str, override: bool = True) -> FloatProperty:
    return FloatProperty(
        name="Keep",
        description=f"How much resampling keeps {what}: 1 is pinned, 0 samples it anew, between is a little different",
        min=0.0,
        max=1.0,
        default=1.0,
        subtype="FACTOR",
        **({"override": OVERRIDE} if override else {}),
    )


def _encode_image_chosen(self: SceneSettings, context: bpy.types.Context) -> None:
    """Whoever names an image wants it to be taken."""
    if self.encode_image is not None:
        self.encode_from = "IMAGE"
    elif self.encode_from == "IMAGE":
        self.encode_from = "CYCLES"


def _select_listed(self: SceneSettings, context: bpy.types.Context) -> None:
    """Selects the object of the line that was clicked in the list of pins."""
    objects, layer = self.id_data.objects, context.view_layer
    each = objects[self.resample_index] if 0 <= self.resample_index < len(objects) else None
    if each is None or each.name not in layer.objects or not each.visible_get(view_layer=layer):
        return
    for other in list(layer.objects.selected):
        other.select_set(False)
    each.select_set(True)
    layer.objects.active = each


def _may_give(self: ObjectSettings, each: bpy.types.Object) -> bool:
    return each != self.id_data and each.type not in {"CAMERA", "LIGHT", "SPEAKER", "LIGHT_PROBE"}


class ObjectSettings(bpy.types.PropertyGroup):
    """Neural settings of an object."""

    role: EnumProperty(
        name="Role", description="Whether the object is an asset", items=ROLES, default="AUTO", override=OVERRIDE
    )
    text: StringProperty(
        name="Text", description="What it is, as a phrase, for models that take a text per asset", override=OVERRIDE
    )
    presence: FloatProperty(
        name="Presence",
        description="How much it is there",
        min=0.0,
        max=1.0,
        default=1.0,
        subtype="FACTOR",
        override=OVERRIDE,
    )
    appearance_from: EnumProperty(
        name="Appearance",
        description="Whose colours and material it shows",
        items=SOURCES,
        default="OWN",
        override=OVERRIDE,
    )
    appearance_object: PointerProperty(
        name="Object",
        description="The object whose look it takes",
        type=bpy.types.Object,
        poll=_may_give,
        override=OVERRIDE,
    )
    appearance_image: PointerProperty(
        name="Image", description="A picture of the look", type=bpy.types.Image, override=OVERRIDE
    )
    appearance_record: StringProperty(options={"HIDDEN"}, override=OVERRIDE)
    appearance_key: StringProperty(options={"HIDDEN"}, override=OVERRIDE)
    geometry_from: EnumProperty(
        name="Geometry", description="Whose shape it shows", items=SOURCES, default="OWN", override=OVERRIDE
    )
    geometry_object: PointerProperty(
        name="Object",
        description="The object whose shape it takes",
        type=bpy.types.Object,
        poll=_may_give,
        override=OVERRIDE,
    )
    geometry_image: PointerProperty(
        name="Image", description="A picture of the shape", type=bpy.types.Image, override=OVERRIDE
    )
    geometry_record: StringProperty(options={"HIDDEN"}, override=OVERRIDE)
    geometry_key: StringProperty(options={"HIDDEN"}, override=OVERRIDE)
    anchor_pose: _anchor("where it is, how it is turned and how large it is")
    anchor_appearance: _anchor("its look and shape")
    anchor_presence: _anchor("it at all: whether it is there")
    # Of a camera.
    anchor_camera: _anchor("the camera's focal length")
    # The record in the sidecar; see usd/records.py.
    record: StringProperty(options={"HIDDEN"}, override=OVERRIDE)
    # Of an Empty that stands for a prim of a type that Blender does not know.
    usd_type: StringProperty(options={"HIDDEN"}, override=OVERRIDE)


class Link(bpy.types.PropertyGroup):
    """The record of an object that is linked from another .blend."""

    each: PointerProperty(type=bpy.types.Object)
    record: StringProperty()


class Brought(bpy.types.PropertyGroup):
    """An object that came with the sample that is taken."""

    each: PointerProperty(type=bpy.types.Object)


class Change(bpy.types.PropertyGroup):
    """What a sample changes of an object: rows of its local-to-world for column vectors, and whether it goes."""

    each: PointerProperty(type=bpy.types.Object)
    moves: BoolProperty()
    matrix: FloatVectorProperty(size=16)
    hides: EnumProperty(items=HIDES)
    appears: BoolProperty()


class Sample(bpy.types.PropertyGroup):
    """A sample of the scene: a picture, changes, and the prim in the file of samples that holds what is new in it."""

    picture: PointerProperty(type=bpy.types.Image)
    changes: CollectionProperty(type=Change)
    prim: StringProperty()
    zoom: FloatProperty(default=1.0)


class Before(bpy.types.PropertyGroup):
    """What the sample that is taken changed of an object, as it was before."""

    each: PointerProperty(type=bpy.types.Object)
    location: FloatVectorProperty(size=3)
    rotation_euler: FloatVectorProperty(size=3)
    rotation_quaternion: FloatVectorProperty(size=4)
    rotation_axis_angle: FloatVectorProperty(size=4)
    scale: FloatVectorProperty(size=3)
    hide_viewport: BoolProperty()
    hide_render: BoolProperty()
    presence: FloatProperty()
    lens: FloatProperty()
    # JSON: what would have put it elsewhere, and is muted.
    muted: StringProperty()


class SceneSettings(bpy.types.PropertyGroup):
    """Neural settings of a scene."""

    backend: StringProperty(
        name="Backend", description="Weights to render with: a name or a folder. Empty takes the preferences' one"
    )
    steps: IntProperty(
        name="Steps", description="Denoising steps; 0 takes the backend's own number", min=0, max=1000, default=0
    )
    preview_steps: IntProperty(
        name="Preview Steps", description="Denoising steps in the viewport, few for speed", min=1, max=1000, default=1
    )
    guidance: FloatProperty(
        name="Guidance",
        description="Scale of classifier-free guidance: 1 is none, 0 takes the backend's own",
        min=0.0,
        max=100.0,
        default=0.0,
    )
    seed: IntProperty(name="Seed", description="The same seed gives the same image", min=0, max=LARGEST, default=0)
    encode_from: EnumProperty(name="From", description="What encoding looks at", items=ENCODED_FROM, default="CYCLES")
    encode_image: PointerProperty(
        name="Picture",
        description="A rendering or photograph of the scene by its camera, whose colours encoding takes",
        type=bpy.types.Image,
        update=_encode_image_chosen,
    )
    encode_samples: IntProperty(
        name="Samples", description="Of Cycles' picture, a pixel; it is denoised", min=1, max=65536, default=16
    )
    encode_size: IntProperty(
        name="Longest Side",
        description="Pixels of the longer side of what encoding looks at, at most",
        min=16,
        max=1024,  # no more is encoded
        default=1024,
        subtype="PIXEL",
    )
    encode_views: IntProperty(
        name="Views Around",
        description="How many views all around each object are encoded, too, of the materials' base colours, for sides "
        "that the camera does not see",
        min=0,
        max=64,
        default=0,
    )
    held: StringProperty(options={"HIDDEN"})
    held_backend: StringProperty(options={"HIDDEN"})
    hold_image: PointerProperty(
        name="Picture",
        description="An image of the state that is held, as a rendering or a photograph, whose pixels stay. Empty has "
        "it rendered",
        type=bpy.types.Image,
    )
    only_selected: BoolProperty(name="Only Selected", description="Encode the selected objects alone", default=False)
    force: BoolProperty(
        name="Encode All Again", description="Encode also what has not changed since it was last encoded", default=False
    )
    lift_from: EnumProperty(name="From", description="What an object is made of", items=LIFTED_FROM, default="IMAGE")
    lift_image: PointerProperty(name="Image", description="A picture of the object to lift", type=bpy.types.Image)
    lift_text: StringProperty(name="Words", description="What to make, as: a red armchair")
    lift_name: StringProperty(name="Name", description="What it is, in words; it tells the usual size, too")
    lift_height: FloatProperty(
        name="Height", description="How high it is; 0 takes the usual height of what it is", min=0.0, unit="LENGTH"
    )
    lift_backend: StringProperty(
        name="Lifter", description="Who makes it: a name, a folder or a hub id. Empty takes the service's own"
    )
    lift_candidates: IntProperty(
        name="Candidates",
        description="How many are drawn, of which the best match is taken; 0 takes the lifter's own number",
        min=0,
        max=256,
        default=0,
    )
    lift_steps: IntProperty(
        name="Steps", description="Steps of its sampler; 0 takes the lifter's own number", min=0, max=1000, default=0
    )
    lift_seed: IntProperty(name="Seed", description="The same seed gives the same object", min=0, max=LARGEST)
    anchor_background: _anchor("what is behind all assets", override=False)
    resample_samples: IntProperty(name="Samples", description="How many samples are made", min=1, max=100, default=4)
    resample_seed: IntProperty(name="Seed", description="The same seed gives the same samples", min=0, max=LARGEST)
    resample_steps: IntProperty(
        name="Steps", description="Steps of the sampler; 0 takes the weights' own number", min=0, max=1000, default=0
    )
    resample_guidance: FloatProperty(
        name="Guidance",
        description="How far samples go towards what is pinned: 1 is none, 0 takes the weights' own",
        min=0.0,
        max=100.0,
        default=0.0,
    )
    resample_insert: BoolProperty(name="New Objects", description="Samples may hold objects that are not there yet")
    resample_backend: StringProperty(
        name="Weights", description="Of resampling: a name, a folder or a hub id. Empty takes the service's own"
    )
    resample_index: IntProperty(options={"HIDDEN"}, update=_select_listed)
    source_picture: PointerProperty(type=bpy.types.Image)
    samples: CollectionProperty(type=Sample)
    # The file of what is new in samples; see samples.py.
    samples_file: StringProperty(options={"HIDDEN"})
    taken: IntProperty(options={"HIDDEN"})
    before: CollectionProperty(type=Before)
    brought: CollectionProperty(type=Brought)
    brought_to: PointerProperty(type=bpy.types.Collection)
    # Further digits of a seed from a USD file: Blender's integers have 32 bits, USD's 64.
    seed_digits: StringProperty(options={"HIDDEN"})
    background: StringProperty(options={"HIDDEN"})
    links: CollectionProperty(type=Link)
    unsaved: StringProperty(options={"HIDDEN"})

    def full_seed(self) -> int:
        """The seed, with the digits that Blender's integers have no room for."""
        if self.seed_digits and int(self.seed_digits) % (LARGEST + 1) == self.seed:
            return int(self.seed_digits)
        return self.seed

    def set_full_seed(self, value: int) -> None:
        """Sets a seed of any size."""
        self.seed = value % (LARGEST + 1)
        self.seed_digits = str(value) if value > LARGEST else ""


CLASSES = (ObjectSettings, Link, Brought, Change, Sample, Before, SceneSettings)


def register() -> None:
    """Adds the settings to scenes and objects."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    bpy.types.Object.neuralusd = PointerProperty(type=ObjectSettings, name="Neural USD", override=OVERRIDE)
    bpy.types.Scene.neuralusd = PointerProperty(type=SceneSettings, name="Neural USD")


def unregister() -> None:
    """Removes them; what they said stays in the .blend."""
    del bpy.types.Object.neuralusd
    del bpy.types.Scene.neuralusd
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)
