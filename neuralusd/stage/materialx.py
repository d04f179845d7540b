"""MaterialX documents as UsdShade, for builds of USD that lack the MaterialX file format.

The networks are those that USD's own plugin makes, as far as colour and opacity need them: node definitions' names as
shader ids, materials below /MaterialX/Materials, the surface under the render context "mtlx".
"""

from __future__ import annotations

import os
from functools import lru_cache
from xml.etree import ElementTree

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdShade

from ..colors import srgb_to_linear
from ..errors import SceneError

MATERIALS = Sdf.Path("/MaterialX/Materials")
_TYPES = {
    "color3": Sdf.ValueTypeNames.Color3f,
    "color4": Sdf.ValueTypeNames.Color4f,
    "vector2": Sdf.ValueTypeNames.Float2,
    "vector3": Sdf.ValueTypeNames.Float3,
    "vector4": Sdf.ValueTypeNames.Float4,
    "float": Sdf.ValueTypeNames.Float,
    "integer": Sdf.ValueTypeNames.Int,
    "boolean": Sdf.ValueTypeNames.Bool,
    "string": Sdf.ValueTypeNames.String,
    "filename": Sdf.ValueTypeNames.Asset,
}


def missing_material(stage: Usd.Stage, path: Sdf.Path) -> UsdShade.Material | None:
    """The material that would be at `path` if this USD could read the MaterialX document that a prim above it
    references.
    """
    parent = path.GetParentPath()
    while parent != Sdf.Path.absoluteRootPath and not stage.GetPrimAtPath(parent):
        parent = parent.GetParentPath()
    prim = stage.GetPrimAtPath(parent)
    for spec in prim.GetPrimStack() if prim else []:
        for reference in [*spec.referenceList.GetAddedOrExplicitItems(), *spec.payloadList.GetAddedOrExplicitItems()]:
            if not reference.assetPath.lower().endswith(".mtlx"):
                continue
            document = read_materialx(spec.layer.ComputeAbsolutePath(reference.assetPath))
            target = reference.primPath or MATERIALS.GetParentPath()
            found = document.GetPrimAtPath(path.ReplacePrefix(parent, target))
            if found and found.IsA(UsdShade.Material):
                return UsdShade.Material(found)
    return None


@lru_cache(maxsize=64)
def read_materialx(path: str) -> Usd.Stage:
    """The materials of a MaterialX document as a stage in memory.

    Raises:
        SceneError: the file cannot be read; names it.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise SceneError(f"MaterialX document {path} cannot be read: {error}. Export it again.") from error
    stage = Usd.Stage.CreateInMemory()
    document = _Document(stage, root, os.path.dirname(path))
    for element in root:
        document.add(element)
    return stage


class _Document:
    def __init__(self, stage: Usd.Stage, root: ElementTree.Element, folder: str):
        self.stage, self.root = stage, root
        self.color_space = root.get("colorspace", "")
        self.prefix = os.path.join(folder, root.get("fileprefix", ""))

    def add(self, element: ElementTree.Element) -> None:
        name = Tf.MakeValidIdentifier(element.get("name", ""))
        if element.tag == "nodegraph" and not element.get("nodedef"):
            self.nodegraph(element, self.graph_path(name))
        elif element.tag == "surfacematerial" or element.get("type") == "material":
            material = UsdShade.Material.Define(self.stage, MATERIALS.AppendChild(name))
            for given in element.findall("input"):
                if given.get("name") == "surfaceshader" and given.get("nodename"):
                    surface = material.CreateSurfaceOutput("mtlx")
                    shader = UsdShade.Shader.Define(self.stage, self.node_path(given.get("nodename", "")))
                    surface.ConnectToSource(shader.CreateOutput("out", Sdf.ValueTypeNames.Token).GetAttr().GetPath())
        elif element.get("type") and element.tag not in ("nodedef", "input", "output"):
            self.node(element, self.node_path(name), None)

    def graph_path(self, name: str) -> Sdf.Path:
        return Sdf.Path("/MaterialX/NodeGraphs").AppendChild(Tf.MakeValidIdentifier(name))

    def node_path(self, name: str) -> Sdf.Path:
        return Sdf.Path("/MaterialX/Nodes").AppendChild(Tf.MakeValidIdentifier(name))

    def nodegraph(self, element: ElementTree.Element, path: Sdf.Path) -> None:
        graph = UsdShade.NodeGraph.Define(self.stage, path)
        for child in element:
            kind = _TYPES.get(child.get("type", ""), Sdf.ValueTypeNames.Token)
            name = child.get("name", "")
            if child.tag == "input":
                self.value(graph.CreateInput(name, kind), child)
            elif child.tag == "output":
                source = path.AppendChild(Tf.MakeValidIdentifier(child.get("nodename", "missing")))
                output = f"outputs:{child.get('output', 'out')}"
                graph.CreateOutput(name, kind).ConnectToSource(source.AppendProperty(output))
            elif child.get("type"):
                self.node(child, path.AppendChild(Tf.MakeValidIdentifier(name)), graph)

    def node(self, element: ElementTree.Element, path: Sdf.Path, graph: UsdShade.NodeGraph | None) -> None:
        shader = UsdShade.Shader.Define(self.stage, path)
        shader.CreateIdAttr(f"ND_{element.tag}_{element.get('type')}")
        shader.CreateOutput("out", _TYPES.get(element.get("type", ""), Sdf.ValueTypeNames.Token))
        for given in element.findall("input"):
            kind = _TYPES.get(given.get("type", ""), Sdf.ValueTypeNames.Token)
            to = shader.CreateInput(given.get("name", ""), kind)
            output = f"outputs:{given.get('output', 'out')}"
            if given.get("nodegraph"):
                to.ConnectToSource(self.graph_path(given.get("nodegraph", "")).AppendProperty(output))
            elif given.get("nodename"):
                name = Tf.MakeValidIdentifier(given.get("nodename", ""))
                source = path.GetParentPath().AppendChild(name) if graph else self.node_path(name)
                to.ConnectToSource(source.AppendProperty(output))
            elif given.get("interfacename") and graph:
                to.ConnectToSource(graph.GetPath().AppendProperty(f"inputs:{given.get('interfacename')}"))
            else:
                self.value(to, given)

    def value(self, to: UsdShade.Input, given: ElementTree.Element) -> None:
        text, kind = given.get("value"), given.get("type", "")
        if text is None:
            return
        color_space = given.get("colorspace", self.color_space)
        if kind == "filename":
            to.Set(Sdf.AssetPath(os.path.normpath(os.path.join(self.prefix, text))))
            if color_space:
                to.GetAttr().SetColorSpace(color_space)
        elif kind == "string":
            to.Set(text)
        elif kind == "boolean":
            to.Set(text.strip() == "true")
        elif kind == "integer":
            to.Set(int(text))
        elif kind in _TYPES:
            numbers = [float(number) for number in text.split(",")]
            if kind.startswith("color") and color_space == "srgb_texture":
                numbers[:3] = srgb_to_linear(np.array(numbers[:3])).tolist()
            to.Set(numbers[0] if len(numbers) == 1 else {2: Gf.Vec2f, 3: Gf.Vec3f, 4: Gf.Vec4f}[len(numbers)](*numbers))
