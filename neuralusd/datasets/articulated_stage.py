"""A clip of furniture that moves, written as a USD stage: time samples for what shows it, joints for what simulates it.

/World/Asset holds an Xform a part, side by side as UsdPhysics wants its bodies, each with its origin at its joint:
`xformOp:translate` and `xformOp:rotateX` (or Y, Z) have a sample at every time code, and as default the middle of the
joint's range. The parts are kinematic rigid bodies, so that a simulator follows the samples; without
`physics:kinematicEnabled` the joints below /World/Asset/Joints hold them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .articulated_furniture import Model, Part, rest
from .furniture_layout import camera_matrix
from .furniture_stage import add_asset_api

APERTURE = 20.955
ASSET, CAMERA = "/World/Asset", "/World/Camera"
LOOKS = ("Body", "Moving", "Metal", "Inside")


def write_clip(
    file: Path, model: Model, motion: list[dict[str, float]], eyes: np.ndarray, target: np.ndarray, field_of_view: float
) -> None:
    """Writes the stage: metres, Z up, a time code a frame, from 1.

    Args:
        motion: values of the joints at each frame. eyes: (frames, 3) where the camera is. target: (3,) it looks at.
        field_of_view: degrees.
    """
    from pxr import Kind, Usd, UsdGeom, UsdPhysics

    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(len(motion))
    stage.SetTimeCodesPerSecond(24)
    world = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    Usd.ModelAPI(world).SetKind(Kind.Tokens.assembly)
    asset = UsdGeom.Xform.Define(stage, ASSET)
    Usd.ModelAPI(asset).SetKind(Kind.Tokens.component)
    add_asset_api(asset.GetPrim(), "foreground", model.text)
    looks = _write_looks(stage, model)
    poses = [model.transforms(values) for values in motion]
    middle = model.transforms(rest(model))
    for part in model.parts:
        _write_part(stage, model, part, looks, middle, poses, motion)
    for part in model.parts:
        if part.joint is not None:
            _write_joint(stage, model, part)
    UsdPhysics.Scene.Define(stage, "/World/Physics")
    _write_camera(stage, eyes, target, field_of_view)
    _write_lights(stage, target)
    stage.GetRootLayer().Save()


def _write_part(
    stage: Any, model: Model, part: Part, looks: list[Any], middle: dict, poses: list[dict], motion: list[dict]
) -> None:
    from pxr import Gf, UsdGeom, UsdPhysics

    xform = UsdGeom.Xform.Define(stage, f"{ASSET}/{part.name}")
    translate = xform.AddTranslateOp()
    places = np.array([pose[part.name][3, :3] for pose in poses])
    translate.Set(Gf.Vec3d(*middle[part.name][3, :3].tolist()))
    if np.ptp(places, axis=0).max() > 1e-9:
        for frame, place in enumerate(places, 1):
            translate.Set(Gf.Vec3d(*place.tolist()), frame)
    axis = _turning_axis(model, part)
    if axis is not None:
        rotate = {"X": xform.AddRotateXOp, "Y": xform.AddRotateYOp, "Z": xform.AddRotateZOp}[axis]()
        rotate.Set(_turned(model, part, rest(model)))
        for frame, values in enumerate(motion, 1):
            rotate.Set(_turned(model, part, values), frame)
    body = UsdPhysics.RigidBodyAPI.Apply(xform.GetPrim())
    body.CreateKinematicEnabledAttr(True)
    for shape in part.shapes:
        _write_mesh(stage, f"{ASSET}/{part.name}/{shape.name}", shape.points, shape.faces, looks[shape.look])


def _chain(model: Model, part: Part) -> list[Part]:
    """The part and those that it moves on."""
    parts = {each.name: each for each in model.parts}
    chain = [part]
    while (joint := chain[-1].joint) is not None:
        chain.append(parts[joint.parent])
    return chain


def _turning_axis(model: Model, part: Part) -> str | None:
    """The axis that a part turns about, whatever turns it; None where it only slides. Several axes are a ValueError,
    since one rotation op would not do."""
    axes = {each.joint.axis for each in _chain(model, part) if each.joint and each.joint.kind == "revolute"}
    if len(axes) > 1:
        raise ValueError(f"{model.kind}: {part.name} turns about {', '.join(sorted(axes))}; one axis is written")
    return next(iter(axes), None)


def _turned(model: Model, part: Part, values: dict[str, float]) -> float:
    """Degrees that a part is turned by, with all that it moves on."""
    chain = _chain(model, part)
    return float(sum(values[each.name] for each in chain if each.joint and each.joint.kind == "revolute"))


def _write_mesh(stage: Any, path: str, points: np.ndarray, faces: tuple, look: Any) -> None:
    from pxr import UsdGeom, UsdPhysics, UsdShade, Vt

    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr([len(face) for face in faces])
    mesh.CreateFaceVertexIndicesAttr([index for face in faces for index in face])
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(UsdGeom.Mesh.ComputeExtent(mesh.GetPointsAttr().Get()))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)
    UsdPhysics.CollisionAPI.Apply(mesh.GetPrim())
    UsdPhysics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr(UsdPhysics.Tokens.convexHull)


def _write_joint(stage: Any, model: Model, part: Part) -> None:
    from pxr import Gf, UsdGeom, UsdPhysics

    assert part.joint is not None
    UsdGeom.Scope.Define(stage, f"{ASSET}/Joints")
    path = f"{ASSET}/Joints/{part.name}"
    if part.joint.kind == "revolute":
        joint = UsdPhysics.RevoluteJoint.Define(stage, path)
    else:
        joint = UsdPhysics.PrismaticJoint.Define(stage, path)
    parent = next(each for each in model.parts if each.name == part.joint.parent)
    joint.CreateBody0Rel().SetTargets([f"{ASSET}/{parent.name}"])
    joint.CreateBody1Rel().SetTargets([f"{ASSET}/{part.name}"])
    joint.CreateLocalPos0Attr(Gf.Vec3f(*(part.origin - parent.origin).tolist()))
    joint.CreateLocalPos1Attr(Gf.Vec3f(0.0))
    joint.CreateLocalRot0Attr(Gf.Quatf(1.0))
    joint.CreateLocalRot1Attr(Gf.Quatf(1.0))
    joint.CreateAxisAttr(part.joint.axis)
    joint.CreateLowerLimitAttr(float(part.joint.lower))
    joint.CreateUpperLimitAttr(float(part.joint.upper))


def _write_looks(stage: Any, model: Model) -> list[Any]:
    from pxr import Gf, Sdf, UsdGeom, UsdShade

    UsdGeom.Scope.Define(stage, f"{ASSET}/Looks")
    looks = []
    for name, color in zip(LOOKS, model.colors, strict=True):
        look = UsdShade.Material.Define(stage, f"{ASSET}/Looks/{name}")
        surface = UsdShade.Shader.Define(stage, f"{ASSET}/Looks/{name}/Surface")
        surface.CreateIdAttr("UsdPreviewSurface")
        surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*color.tolist()))
        surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.6)
        look.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
        looks.append(look)
    return looks


def _write_camera(stage: Any, eyes: np.ndarray, target: np.ndarray, field_of_view: float) -> None:
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera.Define(stage, CAMERA)
    camera.CreateHorizontalApertureAttr(APERTURE)
    camera.CreateVerticalApertureAttr(APERTURE)
    camera.CreateFocalLengthAttr(APERTURE / 2 / float(np.tan(np.radians(field_of_view) / 2)))
    distance = float(np.linalg.norm(eyes[0] - target))
    camera.CreateClippingRangeAttr(Gf.Vec2f(0.01 * distance, 10 * distance))
    transform = camera.AddTransformOp()
    for frame, eye in enumerate(eyes, 1):
        transform.Set(Gf.Matrix4d(*camera_matrix(eye, target).reshape(-1).tolist()), frame)


def _write_lights(stage: Any, target: np.ndarray) -> None:
    """Even light, of a sky and a soft sun from the front."""
    from pxr import Gf, UsdGeom, UsdLux

    UsdGeom.Scope.Define(stage, "/World/Lights")
    sky = UsdLux.DomeLight.Define(stage, "/World/Lights/Sky")
    sky.CreateIntensityAttr(2.0)
    sun = UsdLux.DistantLight.Define(stage, "/World/Lights/Sun")
    sun.CreateIntensityAttr(1.5)
    sun.CreateAngleAttr(20.0)
    above = camera_matrix(target + np.array([1.0, -1.5, 2.5]), target)
    sun.AddTransformOp().Set(Gf.Matrix4d(*above.reshape(-1).tolist()))
