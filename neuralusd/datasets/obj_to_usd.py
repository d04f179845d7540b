"""One OBJ model of a furniture catalogue to one USD component asset."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from neuralusd.datasets.furniture_assets import CatalogModel

log = logging.getLogger(__name__)

# A textured look with less alpha than this is a hole (leaves, grilles), as UsdPreviewSurface's opacityThreshold.
CUTOUT = 0.5
MAX_UV = 1e4


def obj_to_usd(
    obj: Path, file: Path, model: CatalogModel, max_triangles: int, texture_size: int
) -> tuple[tuple[float, float, float], int]:
    """Write `file` (and `textures/` beside it) from `obj`.

    Returns:
        the size (x, y, z) in metres and the number of triangles.

    Raises:
        SkippedModel: with the reason why this model cannot be used.
    """
    from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdSemantics, UsdShade, Vt

    from neuralusd.datasets.furniture_assets import SkippedModel, asset_folder_name

    meshes = _load(obj)
    triangles = sum(len(mesh.faces) for mesh in meshes.values())
    if triangles == 0:
        raise SkippedModel("it has no faces")
    if triangles > max_triangles:
        raise SkippedModel(f"{triangles} triangles, more than {max_triangles}")
    linear, offset, size = _catalog_placement(np.concatenate([m.vertices for m in meshes.values()]), model)

    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    name = asset_folder_name(model.id)
    name = name if name[0].isalpha() else f"Asset_{name}"
    root = UsdGeom.Xform.Define(stage, f"/{name}")
    prim = root.GetPrim()
    stage.SetDefaultPrim(prim)
    Usd.ModelAPI(prim).SetKind(Kind.Tokens.component)
    Usd.ModelAPI(prim).SetAssetName(model.id)
    Usd.ModelAPI(prim).SetAssetIdentifier(Sdf.AssetPath(file.name))
    prim.SetMetadata("displayName", model.name)
    for key, value in (("creator", model.creator), ("license", model.licence), ("source", Path(model.archive).name)):
        prim.SetCustomDataByKey(f"furniture:{key}", value)
    UsdSemantics.LabelsAPI.Apply(prim, "category").CreateLabelsAttr(
        Vt.TokenArray([label for label in (model.name.lower(), model.category.lower()) if label])
    )
    half = np.array(size) / 2
    UsdGeom.ModelAPI.Apply(prim).SetExtentsHint(
        Vt.Vec3fArray([Gf.Vec3f(-half[0], -half[1], 0.0), Gf.Vec3f(half[0], half[1], size[2])])
    )
    UsdGeom.Scope.Define(stage, f"/{name}/Geom")
    UsdGeom.Scope.Define(stage, f"/{name}/Materials")
    normal_matrix = np.linalg.inv(linear).T
    looks: dict[int, Any] = {}
    for index, mesh in enumerate(meshes.values()):
        points = mesh.vertices @ linear + offset
        normals = _unit_normals(mesh) @ normal_matrix
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        geometry = UsdGeom.Mesh.Define(stage, f"/{name}/Geom/mesh_{index}")
        geometry.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points.astype(np.float32)))
        geometry.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, dtype=np.int32)))
        faces = np.asarray(mesh.faces, dtype=np.int32)
        if np.linalg.det(linear) < 0:
            faces = faces[:, ::-1]
        geometry.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(faces.reshape(-1))))
        geometry.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        geometry.CreateDoubleSidedAttr(True)
        geometry.CreateExtentAttr(UsdGeom.Mesh.ComputeExtent(geometry.GetPointsAttr().Get()))
        primvars = UsdGeom.PrimvarsAPI(geometry)
        primvars.CreatePrimvar("normals", Sdf.ValueTypeNames.Normal3fArray, UsdGeom.Tokens.vertex).Set(
            Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals, dtype=np.float32))
        )
        uv = _usable_uv(mesh)
        if uv is not None:
            primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex).Set(
                Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(uv, dtype=np.float32))
            )
        material = getattr(mesh.visual, "material", None)
        if id(material) not in looks:
            path = f"/{name}/Materials/look_{len(looks)}"
            looks[id(material)] = _write_look(stage, path, material, uv is not None, file.parent, texture_size)
        UsdShade.MaterialBindingAPI.Apply(geometry.GetPrim()).Bind(looks[id(material)])
    stage.GetRootLayer().Save()
    return size, triangles


def _load(obj: Path) -> dict[str, Any]:
    """The model's meshes, one a material, in the OBJ's own coordinates."""
    import trimesh

    from neuralusd.datasets.furniture_assets import SkippedModel

    try:
        with obj.open("rb") as stream:
            scene = trimesh.load_scene(
                stream, file_type="obj", resolver=trimesh.resolvers.FilePathResolver(str(obj)), process=False
            )
    # trimesh's OBJ reader raises whatever its parsing runs into
    except Exception as error:
        raise SkippedModel(f"unreadable: {type(error).__name__}: {error}") from error
    return {k: m for k, m in scene.geometry.items() if isinstance(m, trimesh.Trimesh) and len(m.faces)}


def _usable_uv(mesh: Any) -> np.ndarray | None:
    """(V, 2) texture coordinates; None where there are none, or wild ones that no texture lookup survives."""
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or len(uv) != len(mesh.vertices) or not np.all(np.abs(uv) < MAX_UV):
        return None
    return np.asarray(uv)


def _unit_normals(mesh: Any) -> np.ndarray:
    """(V, 3) vertex normals; a vertex without one takes the normal of one of its faces."""
    normals = np.array(mesh.vertex_normals, dtype=np.float64)
    missing = ~(np.linalg.norm(normals, axis=1) > 1e-6)
    if missing.any():
        substitute = np.tile([0.0, 1.0, 0.0], (len(normals), 1))
        substitute[mesh.faces.reshape(-1)] = np.repeat(mesh.face_normals, 3, axis=0)
        weak = ~(np.linalg.norm(substitute, axis=1) > 1e-6)
        substitute[weak] = [0.0, 1.0, 0.0]
        normals[missing] = substitute[missing]
    return normals


def _catalog_placement(
    vertices: np.ndarray, model: CatalogModel
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """(3, 3) and (3,) of `point @ linear + offset`: OBJ space (Y up) to metres, Z up, at the catalogue's size.

    Sweet Home 3D applies `modelRotation`, then stretches the box to width (x), height (y) and depth (z).
    """
    from neuralusd.datasets.furniture_assets import SkippedModel

    rotation = np.array(model.rotation).reshape(3, 3).T
    rotated = vertices @ rotation
    low, high = rotated.min(0), rotated.max(0)
    width, depth, height = model.size
    spans = high - low
    if not np.all(np.isfinite(spans)) or np.any(spans <= 1e-9):
        raise SkippedModel("it is flat")
    scale = np.array([width, height, depth]) / spans
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    linear = rotation @ np.diag(scale) @ z_up
    centre = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return linear, -(centre * scale) @ z_up, (width, depth, height)


def _write_look(stage: Any, path: str, material: Any, has_uv: bool, folder: Path, texture_size: int) -> Any:
    """A UsdPreviewSurface for one MTL material. Returns the UsdShade.Material."""
    from pxr import Sdf, UsdShade

    look = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    look.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    diffuse, opacity, shininess = _mtl_values(material)
    color = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    color.Set(tuple(float(c) for c in diffuse))
    # Blinn-Phong exponent to roughness, kept away from mirrors that 16 samples cannot render cleanly.
    roughness = float(np.clip((2.0 / (max(shininess, 0.0) + 2.0)) ** 0.5, 0.3, 1.0))
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(roughness)
    surface.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    image = getattr(material, "image", None)
    if image is None or not has_uv:
        if opacity < 1.0:
            surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).Set(opacity)
        return look
    image, cutout = _fit_image(image, texture_size)
    name = f"{Path(path).name}.{'png' if cutout else 'jpg'}"
    (folder / "textures").mkdir(exist_ok=True)
    image.save(folder / "textures" / name, **({} if cutout else {"quality": 92}))
    reader = UsdShade.Shader.Define(stage, f"{path}/Primvar")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    texture = UsdShade.Shader.Define(stage, f"{path}/Texture")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(f"./textures/{name}"))
    texture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    texture.CreateInput("wrapS", Sdf.ValueTypeNames.Token).Set("repeat")
    texture.CreateInput("wrapT", Sdf.ValueTypeNames.Token).Set("repeat")
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    color.ConnectToSource(texture.ConnectableAPI(), "rgb")
    if cutout:
        texture.CreateOutput("a", Sdf.ValueTypeNames.Float)
        alpha = surface.CreateInput("opacity", Sdf.ValueTypeNames.Float)
        alpha.ConnectToSource(texture.ConnectableAPI(), "a")
        surface.CreateInput("opacityThreshold", Sdf.ValueTypeNames.Float).Set(CUTOUT)
    elif opacity < 1.0:
        surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).Set(opacity)
    return look


def _mtl_values(material: Any) -> tuple[np.ndarray, float, float]:
    """Diffuse colour (3,) in 0..1, opacity and shininess of a trimesh SimpleMaterial; greys where it says nothing."""
    values = getattr(material, "kwargs", None) or {}

    def number(key: str, default: float) -> float:
        value = np.ravel(np.asarray(values.get(key, default), dtype=np.float64))
        return float(value[0]) if len(value) else default

    diffuse = getattr(material, "diffuse", None)
    color = np.full(3, 0.6) if diffuse is None else np.asarray(diffuse, dtype=np.float64)[:3] / 255.0
    opacity = number("d", 1.0 - number("tr", 0.0))
    shininess = float(getattr(material, "glossiness", None) or number("ns", 10.0))
    return np.clip(color, 0.01, 0.9), float(np.clip(opacity, 0.0, 1.0)), shininess


def _fit_image(image: Any, size: int) -> tuple[Any, bool]:
    """The image in RGB or, where it has holes, RGBA, no larger than `size` pixels; and whether it has holes."""
    if image.mode in ("P", "LA", "PA"):
        image = image.convert("RGBA")
    cutout = image.mode == "RGBA" and image.getextrema()[3][0] < 250
    image = image.convert("RGBA" if cutout else "RGB")
    if max(image.size) > size:
        factor = size / max(image.size)
        image = image.resize([max(1, round(s * factor)) for s in image.size])
    return image, cutout
