"""Small stages that several tests build on."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade

import neuralusd  # noqa: F401  registers the schema before the first stage


def new_stage(up: str = "Y", meters_per_unit: float = 1.0, path: str | None = None) -> Usd.Stage:
    stage = Usd.Stage.CreateNew(str(path)) if path else Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, meters_per_unit)
    return stage


def add_camera(stage: Usd.Stage, eye, target=(0, 0, 0), path: str = "/Camera", **attributes) -> str:
    """A camera at `eye` that looks at `target`, in stage units; other keywords are the camera's attributes."""
    camera = UsdGeom.Camera.Define(stage, path)
    forward = Gf.Vec3d(*map(float, target)) - Gf.Vec3d(*map(float, eye))
    up = Gf.Vec3d.ZAxis() if UsdGeom.GetStageUpAxis(stage) == "Z" else Gf.Vec3d.YAxis()
    if abs(Gf.Dot(forward.GetNormalized(), up)) > 0.99:
        up = Gf.Vec3d.XAxis()
    view = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*map(float, eye)), Gf.Vec3d(*map(float, target)), up)
    camera.MakeMatrixXform().Set(view.GetInverse())
    values = {"clippingRange": (0.01, 10000.0), "horizontalAperture": 20.0, "verticalAperture": 20.0} | attributes
    for name, value in values.items():
        camera.GetPrim().GetAttribute(name).Set(value)
    return path


def add_mesh(stage: Usd.Stage, path: str, points, faces, scheme: str = "none") -> UsdGeom.Mesh:
    """A polygon mesh of lists of vertices."""
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr([tuple(map(float, p)) for p in points])
    mesh.CreateFaceVertexCountsAttr([len(face) for face in faces])
    mesh.CreateFaceVertexIndicesAttr([index for face in faces for index in face])
    mesh.CreateSubdivisionSchemeAttr(scheme)
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
    return mesh


def add_quad(stage: Usd.Stage, path: str, size: float = 1.0) -> UsdGeom.Mesh:
    """A square in the XY plane that faces +Z, with `st` running right and up over it."""
    half = size / 2
    mesh = add_mesh(
        stage, path, [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], [(0, 1, 2, 3)]
    )
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    st.Set([(0, 0), (1, 0), (1, 1), (0, 1)])
    return mesh


def add_material(stage: Usd.Stage, path: str, color=None, texture: str | None = None, **inputs) -> UsdShade.Material:
    """A UsdPreviewSurface of a colour, or of a texture read by the primvar `st`; other keywords are its inputs."""
    material = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    diffuse = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    if color is not None:
        diffuse.Set(Gf.Vec3f(*color))
    if texture is not None:
        reader = UsdShade.Shader.Define(stage, f"{path}/Reader")
        reader.CreateIdAttr("UsdPrimvarReader_float2")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
        image = UsdShade.Shader.Define(stage, f"{path}/Image")
        image.CreateIdAttr("UsdUVTexture")
        image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(texture)
        st = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
        image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(st)
        diffuse.ConnectToSource(image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3))
    for name, value in inputs.items():
        surface.CreateInput(name, Sdf.ValueTypeNames.Float).Set(value)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    return material


def bind(prim: Usd.Prim, material: UsdShade.Material) -> None:
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First row, first column, and one past the last of each, of what is true."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
