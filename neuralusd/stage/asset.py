"""A textured mesh as a USD component asset: one prim that drops into any stage, and its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from pxr import Kind, Sdf, Usd, UsdGeom, UsdMedia, UsdSemantics, UsdShade, UsdUtils, Vt

from ..colors import srgb_to_linear
from ..scene import Camera
from ..schema import NeuralAssetAPI, NeuralProvenanceAPI
from .create import write_camera
from .errors import SaveError, SceneError
from .open import open_stage, quiet
from .publish import staged

if TYPE_CHECKING:
    from ..lifting import TexturedMesh

ROUGHNESS = 0.6
LAYERS = (".usd", ".usda", ".usdc")


@dataclass
class Provenance:
    """How an asset was made; see `NeuralProvenanceAPI`. `sources` are asset paths relative to the asset's layer."""

    verb: str
    prompt: str = ""
    backend: str = ""
    revision: str = ""
    seed: int | None = None
    sources: Sequence[str] = ()
    versions: Sequence[str] = ()  # each name==version, the first the program that made it


def build_asset(
    mesh: TexturedMesh, name: str, *, label: str = "", texture: str | None = None, provenance: Provenance | None = None
) -> Usd.Stage:
    """A stage in memory whose default prim `/name` is the mesh: Y up, in metres, a component, with a UsdPreviewSurface.

    Args:
        name: the prim's name.
        label: what it is, in words: its `neural:text`, and its UsdSemantics label.
        texture: asset path of the mesh's texture. None gives the mesh its colours point by point (`displayColor`).

    Returns:
        The stage. Faces share their points, so the mesh is closed as it stands; texture coordinates are indexed face by
        face.
    """
    stage = Usd.Stage.CreateInMemory(f"{name}.usda")
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, f"/{name}").GetPrim()
    stage.SetDefaultPrim(root)
    model = Usd.ModelAPI(root)
    model.SetKind(Kind.Tokens.component)
    model.SetAssetName(name)
    extent = Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.extent, np.float32))
    UsdGeom.ModelAPI.Apply(root).SetExtentsHint(extent)
    asset = NeuralAssetAPI.Apply(root)
    if label:
        asset.CreateTextAttr(label)
        UsdSemantics.LabelsAPI.Apply(root, "category").CreateLabelsAttr([label])
    if provenance is not None:
        write_provenance(root, provenance)
    geometry = _write_mesh(stage, f"/{name}/Mesh", mesh, extent)
    if texture is None:
        colors = UsdGeom.PrimvarsAPI(geometry).CreatePrimvar(
            "displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex
        )
        colors.Set(Vt.Vec3fArray.FromNumpy(srgb_to_linear(mesh.colors()).astype(np.float32)))
    else:
        UsdGeom.Scope.Define(stage, f"/{name}/Materials")
        look = _write_look(stage, f"/{name}/Materials/{name}", texture)
        UsdShade.MaterialBindingAPI.Apply(geometry.GetPrim()).Bind(look)
    return stage


def add_camera(stage: Usd.Stage, path: str, camera: Camera) -> str:
    """Defines a camera on a stage in metres, and returns its path."""
    write_camera(stage, Sdf.Path(path), camera)
    return path


def _write_mesh(stage: Usd.Stage, path: str, mesh: TexturedMesh, extent: Vt.Vec3fArray) -> UsdGeom.Mesh:
    geometry = UsdGeom.Mesh.Define(stage, path)
    geometry.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.points, np.float32)))
    geometry.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    geometry.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces, np.int32).ravel()))
    geometry.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.normals, np.float32)))
    geometry.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    geometry.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    geometry.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    geometry.CreateExtentAttr(extent)
    st = UsdGeom.PrimvarsAPI(geometry).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(mesh.uv, np.float32)))
    st.SetIndices(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.uv_faces, np.int32).ravel()))
    return geometry


def _write_look(stage: Usd.Stage, path: str, texture: str) -> UsdShade.Material:
    look = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    reader = UsdShade.Shader.Define(stage, f"{path}/Reader")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    image = UsdShade.Shader.Define(stage, f"{path}/Texture")
    image.CreateIdAttr("UsdUVTexture")
    image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(texture))
    image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    for wrap in ("wrapS", "wrapT"):
        image.CreateInput(wrap, Sdf.ValueTypeNames.Token).Set("clamp")
    st = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(st)
    rgb = image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(rgb)
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(ROUGHNESS)
    surface.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    out = surface.CreateOutput("surface", Sdf.ValueTypeNames.Token)
    look.CreateSurfaceOutput().ConnectToSource(out)
    return look


def write_provenance(prim: Usd.Prim, made: Provenance) -> None:
    """Applies NeuralProvenanceAPI on the edit target, with what there is to say."""
    api = NeuralProvenanceAPI.Apply(prim)
    api.CreateVerbAttr(made.verb)
    if made.prompt:
        api.CreatePromptAttr(made.prompt)
    if made.sources:
        api.CreateSourcesAttr([Sdf.AssetPath(source) for source in made.sources])
    if made.backend:
        api.CreateBackendAttr(made.backend)
    if made.revision:
        api.CreateRevisionAttr(made.revision)
    if made.seed is not None:
        api.CreateSeedAttr(int(made.seed))
    if made.versions:
        api.CreateVersionsAttr(list(made.versions))
    if made.versions and hasattr(UsdMedia, "AuthorshipAPI"):  # of 2026; for tools that know nothing of neuralusd
        package, _, version = made.versions[0].partition("==")
        authorship = UsdMedia.AuthorshipAPI.Apply(prim, made.verb)
        authorship.CreateSoftwarePackageAttr(package)
        authorship.CreateSoftwareVersionAttr(version)


def write_asset(stage: Usd.Stage, output: str | os.PathLike[str], pictures: Mapping[str, np.ndarray]) -> Usd.Stage:
    """Writes a stage's root layer and the pictures it names, and opens it from there. All of it appears, or nothing.

    Args:
        output: .usd, .usda, .usdc; or .usdz, which holds the pictures. Files that are there are replaced.
        pictures: path relative to the layer to (H, W, 3 or 4) uint8, written as PNG.

    Raises:
        SceneError: the extension is none of these. SaveError: the files cannot be written; names the first.
    """
    output = Path(os.path.abspath(output))
    extension = output.suffix.lower()
    if extension not in (*LAYERS, ".usdz"):
        raise SceneError(f"{output} cannot be written: its extension is none of usd, usda, usdc, usdz. Name it so.")
    layer = stage.GetRootLayer()
    with staged(output) as staging:
        for relative, picture in pictures.items():
            (staging / relative).parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(picture).save(staging / relative, "PNG")
        made = staging / f"{stage.GetDefaultPrim().GetName()}{extension if extension in LAYERS else '.usdc'}"
        with quiet():
            if not layer.Export(str(made)):
                raise SaveError(
                    f"{output} cannot be written. Check its folder's permissions and the disk's free space."
                )
            if extension == ".usdz":
                package = staging / "package.usdz"
                if not UsdUtils.CreateNewUsdzPackage(str(made), str(package)):
                    raise SaveError(f"{output} cannot be packaged. Check the disk's free space.")
                made, pictures = package, {}
        _publish(staging, made, output, list(pictures))
    return open_stage(output)


def _publish(staging: Path, made: Path, output: Path, pictures: Sequence[str]) -> None:
    """Moves pictures and then the layer from `staging` to where they belong; new pictures go where the layer cannot."""
    new: list[Path] = []
    try:
        for relative in pictures:
            target = output.parent / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                new.append(target)
            os.replace(staging / relative, target)
        with open(made, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(made, output)
    except OSError:
        for target in new:
            target.unlink(missing_ok=True)
            with suppress(OSError):  # not empty: others' textures are there
                target.parent.rmdir()
        raise
