# SPDX-License-Identifier: GPL-3.0-or-later
"""What each sample of a layer of variations changes, and a file of what is new in them. Nothing here imports bpy."""

from __future__ import annotations

from dataclasses import dataclass, field

from pxr import Gf, Sdf, Tf, Usd, UsdGeom

from ..problems import Problem
from . import neural

ORIGINAL = "original"


@dataclass
class Variation:
    """What a sample changes of the stage.

    Attributes:
        name: of its variant, and of the prim in the file of what is new that holds what is new in it.
        moved: path of an asset to the rows of its local-to-world for column vectors, in stage units.
        gone, back: paths of assets that are there no more, or again. replaced: of those whose surface is another one.
        new: names of the prims that are new. background: whether what is behind all assets is another.
        zoom: focal length of the camera over what it was.
    """

    name: str
    moved: dict[str, tuple[float, ...]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    background: bool = False
    zoom: float = 1.0


def extract(
    file: str, variant_set: str, assets: list[str], background: str, camera: str, target: str
) -> list[Variation]:
    """Reads the samples of a layer, and writes what is new in them to `target`, where anything is.

    In `target`, objects stand in the world, below a prim with the sample's name, and refer to nothing else.

    Args:
        assets, background, camera: paths of prims.

    Raises Problem where the layer cannot be read.
    """
    try:
        layer = Sdf.Layer.FindOrOpen(file)
    except Tf.ErrorException as error:
        raise Problem(f"What the service made cannot be read by this Blender's USD ({error}).") from error
    if layer is None:
        raise Problem("What the service made cannot be read by this Blender's USD. Update Blender or the service.")
    names = {name for root in layer.rootPrims for name in _variants(root, variant_set)} - {ORIGINAL}
    before = Usd.Stage.Open(layer, _selecting(layer, variant_set, ORIGINAL))
    made = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(made, UsdGeom.GetStageUpAxis(before))
    UsdGeom.SetStageMetersPerUnit(made, 1.0)  # Blender's units, whatever their length
    found = []
    for name in sorted(names, key=lambda each: (len(each), each)):
        after = Usd.Stage.Open(layer, _selecting(layer, variant_set, name))
        found.append(_variation(name, before, after, assets, background, camera))
        paths = _with_surfaces(before, after)
        if paths:
            _copy(before, after, paths, made, found[-1])
    if any(each.new or each.replaced or each.background for each in found):
        made.GetRootLayer().Export(target)
    return found


def _variants(root: Sdf.PrimSpec, variant_set: str) -> list[str]:
    own = root.variantSets.get(variant_set)
    return [variant.name for variant in own.variantList] if own is not None else []


def _selecting(layer: Sdf.Layer, variant_set: str, variant: str) -> Sdf.Layer:
    session = Sdf.Layer.CreateAnonymous()
    for root in layer.rootPrims:
        if variant in _variants(root, variant_set):
            Sdf.CreatePrimInLayer(session, root.path).variantSelections[variant_set] = variant
    return session


def _variation(
    name: str, before: Usd.Stage, after: Usd.Stage, assets: list[str], background: str, camera: str
) -> Variation:
    found = Variation(name)
    for path in assets:
        was, now = (stage.GetPrimAtPath(path) for stage in (before, after))
        if not was or not now:
            continue
        if _presence(now) != _presence(was):
            (found.back if _presence(now) else found.gone).append(path)
        places = [UsdGeom.Xformable(prim) for prim in (was, now)]
        if all(places) and not Gf.IsClose(*(_local(place) for place in places), 1e-9):
            world = places[1].ComputeLocalToWorldTransform(Usd.TimeCode.EarliestTime())
            # USD's matrices act on rows, Blender's on columns.
            found.moved[path] = tuple(world[column][row] for row in range(4) for column in range(4))
    lenses = [UsdGeom.Camera(stage.GetPrimAtPath(camera)).GetFocalLengthAttr().Get(Usd.TimeCode.EarliestTime())
              for stage in (before, after)]  # fmt: skip
    if all(lenses):
        found.zoom = lenses[1] / lenses[0]
    for path in _with_surfaces(before, after):
        if str(path) == background:
            found.background = True
        elif before.GetPrimAtPath(path):
            found.replaced.append(str(path))
        else:
            found.new.append(path.name)
    return found


def _presence(prim: Usd.Prim) -> bool:
    attribute = prim.GetAttribute(neural.PRESENCE)
    value = attribute.Get(Usd.TimeCode.EarliestTime()) if attribute else None
    return value is None or value > 0


def _local(place: UsdGeom.Xformable) -> Gf.Matrix4d:
    return place.GetLocalTransformation(Usd.TimeCode.EarliestTime())


def _with_surfaces(before: Usd.Stage, after: Usd.Stage) -> list[Sdf.Path]:
    """The assets that have a surface which is not there without the sample."""
    found = []
    for prim in after.Traverse():
        if neural.ASSET in neural.schemas(prim) and any(
            child.IsA(UsdGeom.Gprim) and not before.GetPrimAtPath(child.GetPath()) for child in prim.GetChildren()
        ):
            found.append(prim.GetPath())
    return found


def _copy(before: Usd.Stage, after: Usd.Stage, paths: list[Sdf.Path], made: Usd.Stage, found: Variation) -> None:
    """Copies these assets, of what a sample made alone, to below a prim of its name."""
    mask = Usd.StagePopulationMask(paths)
    flat = Usd.Stage.OpenMasked(after.GetRootLayer(), after.GetSessionLayer(), mask).Flatten()
    root, layer = Sdf.Path.absoluteRootPath.AppendChild(found.name), made.GetRootLayer()
    UsdGeom.Xform.Define(made, root)
    for path in paths:
        target, number = root.AppendChild(path.name), 1
        while layer.GetPrimAtPath(target):
            target, number = root.AppendChild(f"{path.name}_{number}"), number + 1
        spec = flat.GetPrimAtPath(path)
        for child in list(spec.nameChildren):
            if before.GetPrimAtPath(child.path):
                del spec.nameChildren[child.name]
        meshes = [child for child in spec.nameChildren if child.typeName == "Mesh"]
        if len(meshes) == 1:  # which becomes one object with the asset, of this name
            meshes[0].name = path.name
        for each in list(spec.properties):
            if not each.name.startswith(f"{neural.NAMESPACE}:"):
                spec.RemoveProperty(each)
        spec.typeName = "Xform"
        Sdf.CopySpec(flat, path, layer, target)
        world = UsdGeom.Xformable(after.GetPrimAtPath(path)).ComputeLocalToWorldTransform(Usd.TimeCode.EarliestTime())
        UsdGeom.Xformable(made.GetPrimAtPath(target)).MakeMatrixXform().Set(world)
