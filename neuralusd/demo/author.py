"""Shapes, looks and assets written as USD."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdShade, Vt

from .shapes import Shape

# Lengths are rounded to a hundredth of a millimetre, so that files hold no arithmetic's noise.
DECIMALS = 5


def new_stage(path: Path, root: str, kind: str) -> Usd.Stage:
    """A stage in metres, Z up, whose default prim is the Xform `root` of a model kind."""
    if found := Sdf.Layer.Find(str(path)):
        found.Clear()
        stage = Usd.Stage.Open(found)
    else:
        stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    prim = UsdGeom.Xform.Define(stage, f"/{root}").GetPrim()
    Usd.ModelAPI(prim).SetKind(kind)
    stage.SetDefaultPrim(prim)
    return stage


class Asset:
    """A component in a file of its own: its looks below `Looks`, its meshes below `Geometry`.

    Args:
        folder: of the stages; the file is assets/<name in lower case, its words joined by _>.usdc.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.path = folder / "assets" / f"{_snake(name)}.usdc"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.stage = new_stage(self.path, name, Kind.Tokens.component)
        Usd.ModelAPI(self.stage.GetDefaultPrim()).SetAssetName(name)
        UsdGeom.Scope.Define(self.stage, f"/{name}/Geometry")
        UsdGeom.Scope.Define(self.stage, f"/{name}/Looks")

    def look(
        self,
        name: str,
        color: Sequence[float] = (1, 1, 1),
        texture: str | None = None,
        roughness: float = 0.6,
        **inputs: float | Sequence[float],
    ) -> UsdShade.Material:
        """A UsdPreviewSurface.

        Args:
            color: linear; multiplies the texture where there is one. texture: a name of `textures.TEXTURES`.
            inputs: further inputs of the surface, numbers or colours.
        """
        path = f"/{self.name}/Looks/{name}"
        look = UsdShade.Material.Define(self.stage, path)
        surface = UsdShade.Shader.Define(self.stage, f"{path}/Surface")
        surface.CreateIdAttr("UsdPreviewSurface")
        look.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
        diffuse = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        if texture is None:
            diffuse.Set(Gf.Vec3f(*map(float, color)))
        else:
            diffuse.ConnectToSource(self._texture(path, texture, color))
        for given, value in {"roughness": roughness, **inputs}.items():
            if isinstance(value, int | float):
                surface.CreateInput(given, Sdf.ValueTypeNames.Float).Set(float(value))
            else:
                surface.CreateInput(given, Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*map(float, value)))
        return look

    def _texture(self, path: str, texture: str, color: Sequence[float]) -> UsdShade.Output:
        reader = UsdShade.Shader.Define(self.stage, f"{path}/Primvar")
        reader.CreateIdAttr("UsdPrimvarReader_float2")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
        image = UsdShade.Shader.Define(self.stage, f"{path}/Texture")
        image.CreateIdAttr("UsdUVTexture")
        image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(f"../textures/{texture}.jpg"))
        image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
        for wrap in ("wrapS", "wrapT"):
            image.CreateInput(wrap, Sdf.ValueTypeNames.Token).Set("repeat")
        st = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
        image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(st)
        if tuple(color) != (1, 1, 1):
            image.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(*map(float, color), 1.0))
        return image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)

    def mesh(
        self, name: str, shape: Shape, look: UsdShade.Material, double_sided: bool = False, below: str = "Geometry"
    ) -> UsdGeom.Mesh:
        """A mesh with texture coordinates `st`, bound to a look."""
        mesh = UsdGeom.Mesh.Define(self.stage, f"/{self.name}/{below}/{name}")
        write_shape(mesh, shape)
        mesh.CreateDoubleSidedAttr(double_sided)
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)
        return mesh

    def save(self) -> Path:
        self.stage.GetRootLayer().Save()
        return self.path


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def write_shape(mesh: UsdGeom.Mesh, shape: Shape) -> None:
    """Points, faces, subdivision scheme, extent and texture coordinates of a mesh."""
    points = np.round(shape.points, DECIMALS).astype(np.float32) + 0
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(shape.counts.astype(np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(shape.indices.astype(np.int32)))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.catmullClark if shape.smooth else UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
    if shape.smooth:
        # Every program draws the textures where this one does.
        mesh.CreateFaceVaryingLinearInterpolationAttr(UsdGeom.Tokens.all)
    values, indices = np.unique(np.round(shape.uv, 4).astype(np.float32) + 0, axis=0, return_inverse=True)
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
    st.Set(Vt.Vec2fArray.FromNumpy(values))
    st.SetIndices(Vt.IntArray.FromNumpy(indices.reshape(-1).astype(np.int32)))


def place(stage: Usd.Stage, path: str, asset: Path, at: Sequence[float], turn: float = 0.0, text: str = "") -> Usd.Prim:
    """References an asset's file at `path`, at (x, y, z) metres, turned by degrees about the up axis."""
    xform = UsdGeom.Xform.Define(stage, path)
    here = os.path.dirname(stage.GetRootLayer().realPath)
    xform.GetPrim().GetReferences().AddReference("./" + Path(os.path.relpath(asset, here)).as_posix())
    xform.AddTranslateOp().Set(Gf.Vec3d(*map(float, at)))
    if turn:
        xform.AddRotateZOp().Set(float(turn))
    if text:
        xform.GetPrim().SetDocumentation(text)
    return xform.GetPrim()
