"""What one sample changes of a stage, as opinions in its variant: presence, poses, geometry, camera, background."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdLux, UsdShade, Vt

from ..colors import srgb_to_linear
from ..schema import NeuralAssetAPI, NeuralTokensAPI
from .bounds import Transforms
from .edit import editable_prim
from .pose import write_pose
from .variations import Variations
from .walk import GUIDE, visible

if TYPE_CHECKING:
    from ..lifting.volume_mesh import ColoredMesh
    from ..scene import Camera

GEOMETRY_NAME = "Sampled"
ROUGHNESS = 0.6
# What is farther than so many metres is sky: it is not made into geometry.
FARTHEST = 200.0


@dataclass
class ObjectChange:
    """What a sample changes of an object. None stands for "as it is": no opinion is authored.

    Attributes:
        path: of the prim; "" for a new one.
        presence: whether it is there. local_to_world: (4, 4) to metres.
        mesh: its new geometry, which fills `extent` (2, 3), the object's box in its own space.
        text: what it is, in words.
    """

    path: str
    presence: bool | None = None
    local_to_world: np.ndarray | None = None
    mesh: ColoredMesh | None = None
    extent: np.ndarray | None = None
    text: str = ""


@dataclass
class Backdrop:
    """A background as a camera sees it: color (S, S, 3) sRGB in 0..1 and depth (S, S) in metres, of the image's full
    square."""

    color: np.ndarray
    depth: np.ndarray


@dataclass
class SampleChange:
    """What a sample changes of a stage.

    Attributes:
        focal_length: of the camera, in its own unit. background: what is seen behind the objects. None: as it is.
    """

    objects: list[ObjectChange] = field(default_factory=list)
    focal_length: float | None = None
    background: Backdrop | None = None


def write_sample(
    made: Variations,
    change: SampleChange,
    camera: Camera,
    background: str | None,
    assets: Collection[str],
    time: float | None = None,
) -> list[str]:
    """Authors a sample in the variant that is selected.

    A prim whose look changes keeps its path, name and pose: its geometry is hidden, and the new mesh is its child.

    Args:
        camera: that the sample is of, its focal length already the sample's. background: path of the background asset.
        assets: paths of all assets, whose geometry is their own. time: time code that poses were read at; a prim whose
            pose changes stands still, where its parents do.

    Returns:
        Paths of the assets that look different now, so that their tokens are no longer theirs.
    """
    paths = [Sdf.Path(path) for path in assets]
    gone = [Sdf.Path(one.path) for one in change.objects if one.path and one.presence is False]
    new: list[str] = []
    if change.background is not None and background is not None:  # before there are new objects, which it would hide
        _write_background(made, background, change.background, camera, paths)
        new.append(background)
    for one in change.objects:
        path = one.path or str(made.free_path(one.text or "Object"))
        if not one.path:
            with made.editing(path):
                NeuralAssetAPI.Apply(UsdGeom.Xform.Define(made.stage, path).GetPrim())
        if one.presence is not None:
            _set_presence(made, path, one.presence, [each for each in _below(path, paths) if each not in gone])
        if one.local_to_world is not None:
            with made.editing(path):
                _write_pose(made.stage, path, one.local_to_world, time)
        if one.mesh is not None and one.extent is not None:
            if one.path:
                _hide_geometry(made, path, _below(path, paths))
            with made.editing(path):
                _write_text(made.stage, path, one.text)
            points = one.extent.mean(0) + _local(made.stage, one.mesh.points) * np.ptp(one.extent, axis=0) / 2
            normals = _local(made.stage, one.mesh.normals) / np.maximum(np.ptp(one.extent, axis=0), 1e-9)
            _write_mesh(made, path, points, one.mesh.faces, one.mesh.colors, normals)
            new.append(path)
    if change.focal_length is not None:
        with made.editing(camera.path):
            prim = editable_prim(made.stage, camera.path)
            UsdGeom.Camera(prim).CreateFocalLengthAttr().Set(float(change.focal_length))
    for path in new:
        _drop_taken_tokens(made, path)
    return new


def _write_pose(stage: Usd.Stage, path: str, local_to_world: np.ndarray, time: float | None) -> None:
    write_pose(stage, path, local_to_world)
    if time is None:
        return
    reached = Transforms(stage, time).local_to_world(stage.GetPrimAtPath(path))
    if not np.allclose(reached, local_to_world, atol=1e-5 * max(1.0, np.abs(local_to_world).max())):
        write_pose(stage, path, local_to_world, time)  # a parent moves


def _below(path: str, assets: Collection[Sdf.Path]) -> list[Sdf.Path]:
    own = Sdf.Path(path)
    return [other for other in assets if other.HasPrefix(own) and other != own]


def _set_presence(made: Variations, path: str, presence: bool, nested: list[Sdf.Path]) -> None:
    with made.editing(path):
        prim = editable_prim(made.stage, path)
        NeuralAssetAPI.Apply(prim).CreatePresenceAttr(1.0 if presence else 0.0)
        if not presence and not nested and prim.IsA(UsdGeom.Imageable):
            UsdGeom.Imageable(prim).CreateVisibilityAttr(UsdGeom.Tokens.invisible)
    if not presence and nested:  # which stay where they are
        _hide_geometry(made, path, nested)


def _write_text(stage: Usd.Stage, path: str, text: str) -> None:
    api = NeuralAssetAPI(stage.GetPrimAtPath(path))
    if text and api.GetTextAttr().Get() != text:
        api.CreateTextAttr(text)


def _hide_geometry(made: Variations, path: str, nested: Collection[Sdf.Path]) -> None:
    """Hides the geometry of a prim, and neither lights nor cameras nor what is at or below `nested`. A prim that is
    geometry itself becomes an Xform, so that its children can be seen."""
    with made.editing(path):
        prim = editable_prim(made.stage, path)
        if prim.IsInstance():
            prim.SetInstanceable(False)
    if prim.IsA(UsdGeom.Gprim) or prim.IsA(UsdGeom.PointInstancer):
        with made.storing(path):  # a variant of text has no place for the type of its own prim
            made.stage.GetPrimAtPath(path).SetTypeName("Xform")
    with made.editing(path):
        _hide_children(made.stage, made.stage.GetPrimAtPath(path), list(nested))


def _hide_children(stage: Usd.Stage, prim: Usd.Prim, nested: list[Sdf.Path]) -> None:
    for child in prim.GetFilteredChildren(Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate)):
        path = child.GetPath()
        if path in nested or not any(v.kind and v.purpose != GUIDE for v in visible(child)):
            continue
        within = list(Usd.PrimRange(child, Usd.TraverseInstanceProxies()))
        mixed = any(other.HasPrefix(path) for other in nested) or any(_stays(each) for each in within)
        if mixed and not child.IsA(UsdGeom.Gprim):
            _hide_children(stage, child, nested)
        elif child.IsA(UsdGeom.Imageable):
            UsdGeom.Imageable(editable_prim(stage, str(path))).CreateVisibilityAttr(UsdGeom.Tokens.invisible)


def _stays(prim: Usd.Prim) -> bool:
    return bool(prim.IsA(UsdGeom.Camera) or prim.HasAPI(UsdLux.LightAPI))


def _local(stage: Usd.Stage, vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, 3) along the canonical axes, along a prim's local axes."""
    from .latents import canonical_axes

    return np.asarray(vectors, np.float64) @ canonical_axes(str(UsdGeom.GetStageUpAxis(stage)))


def _write_mesh(
    made: Variations,
    path: str,
    points: np.ndarray,
    faces: np.ndarray,
    colors: np.ndarray,
    normals: np.ndarray | None = None,
) -> None:
    """Defines a mesh below an asset, coloured point by point, with a material that shows these colours: what the asset
    is bound to would be inherited.

    Args:
        points (V, 3), normals (V, 3): in the asset's local space. colors: (V, 3) sRGB in 0..1.
    """
    name, number = GEOMETRY_NAME, 1
    while made.stage.GetPrimAtPath(f"{path}/{name}"):
        name, number = f"{GEOMETRY_NAME}_{number}", number + 1
    with made.storing(path):
        mesh = UsdGeom.Mesh.Define(made.stage, f"{path}/{name}")
        at = np.ascontiguousarray(points, np.float32)
        mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(at))
        mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), faces.shape[1], np.int32)))
        mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(faces, np.int32).ravel()))
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        mesh.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
        mesh.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([at.min(0), at.max(0)])))
        if normals is not None:
            length = np.linalg.norm(normals, axis=1, keepdims=True)
            unit = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [0.0, 0.0, 1.0])
            mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(unit, np.float32)))
            mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        shown = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex
        )
        shown.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(srgb_to_linear(colors), np.float32)))
        look = UsdShade.Material.Define(made.stage, f"{path}/{name}Look")
        surface = UsdShade.Shader.Define(made.stage, f"{path}/{name}Look/Surface")
        surface.CreateIdAttr("UsdPreviewSurface")
        reader = UsdShade.Shader.Define(made.stage, f"{path}/{name}Look/Reader")
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        result = reader.CreateOutput("result", Sdf.ValueTypeNames.Float3)
        surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(result)
        surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(ROUGHNESS)
        look.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)


def _write_background(
    made: Variations, path: str, seen: Backdrop, camera: Camera, assets: Collection[Sdf.Path]
) -> None:
    """Puts what is seen behind the objects where the camera sees it, as a grid of points with depth, in place of all
    geometry that is no object's."""
    objects = [asset for asset in assets if str(asset) != path]
    for root in made.stage.GetPseudoRoot().GetChildren():
        if root.GetPath() in objects or not any(v.kind and v.purpose != GUIDE for v in visible(root)):
            continue
        if root.IsA(UsdGeom.Gprim):
            _hide_geometry(made, str(root.GetPath()), objects)
            continue
        with made.editing(root.GetPath()):
            _hide_children(made.stage, root, [*objects, Sdf.Path(path)])
    _hide_geometry(made, path, objects)
    points, faces, colors = grid_of(seen, camera)
    if not len(faces):
        return
    inverse = np.linalg.inv(Transforms(made.stage).local_to_world(made.stage.GetPrimAtPath(path)))
    _write_mesh(made, path, points @ inverse[:3, :3] + inverse[3, :3], faces, colors)


def grid_of(seen: Backdrop, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (V, 3) in world space, quads (F, 4) that face the camera, and sRGB colours (V, 3) of a picture with depth.

    The border is drawn out by half a pixel and more, so that the image is covered to its edge.
    """
    depth, color = np.pad(seen.depth, 1, mode="edge"), np.pad(seen.color, ((1, 1), (1, 1), (0, 0)), mode="edge")
    size = len(depth)
    fitted = camera.fitted(1.0)
    at = (np.arange(size) - 1 + 0.5) / (size - 2)
    w, h = np.meshgrid(at, at)
    x = ((w - 0.5) * fitted.horizontal_aperture + fitted.horizontal_aperture_offset) / fitted.focal_length
    y = ((0.5 - h) * fitted.vertical_aperture + fitted.vertical_aperture_offset) / fitted.focal_length
    near = np.where(np.isfinite(depth), depth, FARTHEST).clip(1e-3, FARTHEST)
    points = np.stack([x * near, y * near, -near], -1).reshape(-1, 3)
    to_world = np.linalg.inv(camera.world_to_camera)
    number = np.arange(size * size).reshape(size, size)
    faces = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], -1).reshape(-1, 4)
    there = (np.isfinite(depth) & (depth < FARTHEST)).ravel()
    faces = faces[there[faces].all(1)]
    used = np.unique(faces)
    renumbered = np.full(size * size, -1)
    renumbered[used] = np.arange(len(used))
    return points[used] @ to_world[:3, :3] + to_world[3, :3], renumbered[faces], color.reshape(-1, 3)[used]


def _drop_taken_tokens(made: Variations, path: str) -> None:
    """An asset that looks different no longer takes the tokens of another."""
    for tokens in NeuralTokensAPI.GetAll(made.stage.GetPrimAtPath(path)):
        relationship = tokens.GetFromRel()
        if relationship and relationship.GetTargets():
            with made.editing(path):
                relationship.SetTargets([])
