"""A new stage from a `Scene`, as of a photograph: prims with boxes, a camera, no geometry."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdSemantics, Vt

from ..scene import BACKGROUND, Camera, Scene
from ..schema import NeuralAssetAPI
from .edit import write_tokens
from .errors import SceneError


def create_stage(scene: Scene, path: str | os.PathLike[str]) -> Usd.Stage:
    """A stage at `path` (not yet saved) with the scene's camera and an Xform with `extentsHint` for each asset.

    Y-up, in metres; `scene.assets[i].path` must lie below one root, which becomes the default prim.

    Raises:
        SceneError: the file's extension is none of USD's, or a path is no prim's path.
    """
    target = str(Path(os.path.abspath(path)))
    file_format = Sdf.FileFormat.FindByExtension(target)
    if file_format is None or not file_format.SupportsWriting():
        raise SceneError(f"{path} cannot be written: its extension is none of usd, usda, usdc. Name it so.")
    if found := Sdf.Layer.Find(target):
        found.Clear()
    stage = Usd.Stage.Open(found or Sdf.Layer.New(file_format, target))
    UsdGeom.SetStageUpAxis(stage, scene.up_axis)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = Sdf.Path(scene.assets[0].path).GetPrefixes()[0] if scene.assets else Sdf.Path("/World")
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, root).GetPrim())
    Usd.ModelAPI(stage.GetDefaultPrim()).SetKind("assembly")
    for asset in scene.assets:
        prim = UsdGeom.Xform.Define(stage, asset.path).GetPrim()
        UsdGeom.Xformable(prim).AddTransformOp().Set(Gf.Matrix4d(asset.local_to_world))
        if asset.extent is not None:
            hint = Vt.Vec3fArray.FromNumpy(np.asarray(asset.extent, np.float32))
            UsdGeom.ModelAPI.Apply(prim).SetExtentsHint(hint)
        if asset.role != BACKGROUND:
            Usd.ModelAPI(prim).SetKind("component")
        NeuralAssetAPI.Apply(prim)
        if asset.labels:
            UsdSemantics.LabelsAPI.Apply(prim, "category").CreateLabelsAttr(list(asset.labels))
    write_tokens(stage, scene)
    write_camera(stage, root.AppendChild("Camera"), scene.camera)
    return stage


def write_camera(stage: Usd.Stage, path: Sdf.Path, camera: Camera) -> None:
    """Defines a camera at `path` on a stage in metres, as `camera` is in world space."""
    prim = UsdGeom.Camera.Define(stage, path)
    orthographic = camera.projection == "orthographic"
    # An orthographic aperture is in tenths of a scene unit, which here is the metre.
    unit = 10.0 if orthographic else 1.0
    prim.CreateProjectionAttr(camera.projection)
    prim.CreateFocalLengthAttr(camera.focal_length)
    prim.CreateHorizontalApertureAttr(camera.horizontal_aperture * unit)
    prim.CreateVerticalApertureAttr(camera.vertical_aperture * unit)
    prim.CreateHorizontalApertureOffsetAttr(camera.horizontal_aperture_offset * unit)
    prim.CreateVerticalApertureOffsetAttr(camera.vertical_aperture_offset * unit)
    prim.CreateClippingRangeAttr(Gf.Vec2f(*camera.clipping_range))
    prim.AddTransformOp().Set(Gf.Matrix4d(np.linalg.inv(camera.world_to_camera)))
