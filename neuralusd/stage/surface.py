"""Materials as what a neural renderer's picture needs of them: base colour, opacity, emission."""

from __future__ import annotations

import warnings

import numpy as np
from pxr import Sdf, Usd, UsdGeom, UsdShade

from ..errors import SceneError
from ..surfaces.gbuffer import Look
from .errors import StageWarning
from .materialx import missing_material
from .network import Network, Points

GREY = 0.5


# Inputs of surface shaders by shader id: weight and colour of the base, of what light goes through below
# it, opacity, emission, roughness and metallic with their defaults.
_STANDARD = {
    "base": ("base", "base_color", (0.8,) * 3),
    "below": (("subsurface", "subsurface_color"), ("transmission", "transmission_color")),
    "opacity": "opacity",
    "emission": ("emission", "emission_color"),
    "roughness": ("specular_roughness", 0.2),
    "metallic": ("metalness", 0.0),
}
_PREVIEW = {
    "base": (None, "diffuseColor", (0.18,) * 3),
    "opacity": "opacity",
    "cutoff": "opacityThreshold",
    "emission": (None, "emissiveColor"),
    "roughness": ("roughness", 0.5),
    "metallic": ("metallic", 0.0),
}
SURFACES: dict[str, dict] = {
    "UsdPreviewSurface": _PREVIEW,
    "ND_UsdPreviewSurface_surfaceshader": _PREVIEW,
    "ND_standard_surface_surfaceshader": _STANDARD,
    "ND_open_pbr_surface_surfaceshader": {
        "base": ("base_weight", "base_color", (0.8,) * 3),
        "below": (("subsurface_weight", "subsurface_color"), ("transmission_weight", "transmission_color")),
        "opacity": "geometry_opacity",
        "roughness": ("specular_roughness", 0.3),
        "metallic": ("base_metalness", 0.0),
    },
    "ND_gltf_pbr_surfaceshader": {
        "base": (None, "base_color", (1.0,) * 3),
        "opacity": "alpha",
        "cutoff": "alpha_cutoff",
        "emission": (None, "emissive"),
        "roughness": ("roughness", 1.0),
        "metallic": ("metallic", 1.0),
    },
    "ND_surface_unlit": {"base": (None, "emission_color", (1.0,) * 3), "opacity": "opacity"},
}


def bound_material(prim: Usd.Prim) -> UsdShade.Material | None:
    """The material that `prim` is drawn with (purpose full, else all), also where it is MaterialX that USD cannot read.

    Warns:
        StageWarning: a material is bound that does not exist.
    """
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial(UsdShade.Tokens.full)
    if material:
        return material
    at = prim
    while at and not at.IsPseudoRoot():
        for purpose in (UsdShade.Tokens.full, UsdShade.Tokens.allPurpose):
            relationship = UsdShade.MaterialBindingAPI(at).GetDirectBindingRel(purpose)
            targets = relationship.GetTargets() if relationship else []
            if targets:
                return _unresolved(prim, targets[0])
        at = at.GetParent()
    return None


def _unresolved(prim: Usd.Prim, target: Sdf.Path) -> UsdShade.Material | None:
    try:
        material = missing_material(prim.GetStage(), target)
    except SceneError as error:
        warnings.warn(str(error), StageWarning, stacklevel=2)
        return None
    if material is None:
        what = f"<{prim.GetPath()}>: its material <{target}> does not exist; displayColor is used"
        warnings.warn(f"{what}. Correct material:binding, or the reference that should bring it.", StageWarning, 2)
    return material


def look(material: UsdShade.Material | None, points: Points, time: float | None, warned: set[str]) -> Look:
    """How a material, or displayColor and displayOpacity in its absence, looks at points."""
    count, network = points.count, Network(points, time, warned)
    shader = _surface_shader(material) if material else None
    inputs = SURFACES.get(str(shader.GetShaderId())) if shader else None
    black = np.zeros((count, 3), np.float32)
    if shader is None or inputs is None:
        if shader is not None:
            what = f"<{shader.GetPath()}>: surface {shader.GetShaderId() or 'without an id'} is not evaluated"
            network.warn(what, "Give the material a UsdPreviewSurface.")
        color = _primvar(points, UsdGeom.Tokens.primvarsDisplayColor, 3)
        opacity = _primvar(points, UsdGeom.Tokens.primvarsDisplayOpacity, 1)
        plain = Look.blank(count)
        plain.color = np.full((count, 3), GREY, np.float32) if color is None else color
        plain.opacity = plain.opacity if opacity is None else opacity[:, 0]
        return plain
    node = shader.ConnectableAPI()

    def read(name: str | None, width: int) -> np.ndarray | None:
        return network.input(node, name, width) if name else None

    weight, base, default = inputs["base"]
    color = read(base, 3)
    color = np.broadcast_to(np.float32(default), (count, 3)) if color is None else color
    scale = read(weight, 1)
    color = color if scale is None else color * scale
    for share_name, below_name in inputs.get("below", ()):
        share, below = read(share_name, 1), read(below_name, 3)
        color = color if share is None or below is None else color * (1 - share) + below * share
    emission = None
    if "emission" in inputs:
        weight, emitted = inputs["emission"]
        emission, scale = read(emitted, 3), read(weight, 1)
        # A weighted emission is off unless its weight is given.
        emission = None if emission is None or (weight and scale is None) else emission
        emission = emission * scale if emission is not None and scale is not None else emission
    opacity, cutoff = read(inputs["opacity"], 1), read(inputs.get("cutoff"), 1)
    alpha = np.ones(count, np.float32) if opacity is None else opacity[:, 0]
    if cutoff is not None and str(network.value(node, "alpha_mode")) in ("None", "1"):
        alpha = np.where(cutoff[:, 0] > 0, (alpha >= cutoff[:, 0]).astype(np.float32), alpha)

    def number(name: str, default: float) -> np.ndarray:
        source, default = inputs.get(name, (None, default))
        found = read(source, 1)
        return np.full(count, default, np.float32) if found is None else np.clip(found[:, 0], 0, 1)

    roughness, metallic = number("roughness", 1.0), number("metallic", 0.0)
    return Look(color, black if emission is None else emission, np.clip(alpha, 0, 1), roughness, metallic)


def may_be_transparent(material: UsdShade.Material | None) -> bool:
    """False where no point of a material can be less than opaque."""
    shader = _surface_shader(material) if material else None
    inputs = SURFACES.get(str(shader.GetShaderId())) if shader else None
    if shader is None or inputs is None:
        return True
    given = shader.GetInput(inputs["opacity"])
    sources = given.GetValueProducingAttributes() if given else []
    plain = [s for s in sources if UsdShade.Utils.GetType(s.GetName()) == UsdShade.AttributeType.Input]
    if len(plain) != len(sources) or any(s.ValueMightBeTimeVarying() for s in plain):
        return True
    return any(s.Get() is not None and np.min(s.Get()) < 1 for s in plain)


def _surface_shader(material: UsdShade.Material) -> UsdShade.Shader | None:
    """The surface shader of the first render context that this module knows a shader of."""
    found = []
    for context in ("", "mtlx"):
        output = material.GetSurfaceOutput(context)
        for attribute in output.GetValueProducingAttributes() if output else []:
            found.append(UsdShade.Shader(attribute.GetPrim()))
    known = [s for s in found if str(s.GetShaderId()) in SURFACES]
    return next(iter(known or found), None)


def _primvar(points: Points, name: str, width: int) -> np.ndarray | None:
    values = points.primvar(str(name).removeprefix("primvars:"), 0)
    return None if values is None or values.shape[1] != width else values
