"""Shading networks evaluated on many points of a surface at once: what gives a base colour, and nothing of light.

Nodes are UsdPreviewSurface's (UsdUVTexture, UsdPrimvarReader, UsdTransform2d) and MaterialX's common ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
from pxr import Sdf, Usd, UsdShade

from ..errors import SceneError
from .errors import StageWarning
from .nodes import NODES, widened
from .texture import UDIM, load_texture
from .walk import time_code

SRGB = ("sRGB", "srgb", "srgb_texture", "srgb_rec709_scene", "sRGB - Texture", "Utility - sRGB - Texture")


class Points(Protocol):
    """Where a network is evaluated: N points of surfaces, and their neighbours a pixel to the right and a pixel
    down.
    """

    count: int
    # What nodes, textures and primvars have already given there, by neighbour and name: several inputs may ask for it.
    memo: dict[tuple[int, str, str], np.ndarray | None]

    def primvar(self, name: str, neighbour: int) -> np.ndarray | None:
        """(N, k) of a primvar at the points (neighbour 0) or at their neighbours (1, 2); None where they have none."""


class Network:
    """Evaluates inputs of shaders at points.

    Args:
        missing: what was warned of already; shared by the networks of one render.
    """

    def __init__(self, points: Points, time: float | None, missing: set[str], neighbour: int = 0):
        self.points, self.time, self.missing, self.neighbour = points, time, missing, neighbour

    def value(self, node: UsdShade.ConnectableAPI, name: str) -> object | None:
        """A plain value of an input, through its connections to interfaces; None where it has none or is computed."""
        given = node.GetInput(name)
        for attribute in given.GetValueProducingAttributes() if given else []:
            if UsdShade.Utils.GetType(attribute.GetName()) == UsdShade.AttributeType.Input:
                return attribute.Get(time_code(self.time))
        return None

    def input(self, node: UsdShade.ConnectableAPI, name: str, width: int) -> np.ndarray | None:
        """(N, width) of an input; None where it has no value and nothing that could give one."""
        given = node.GetInput(name)
        for attribute in given.GetValueProducingAttributes() if given else []:
            if UsdShade.Utils.GetType(attribute.GetName()) == UsdShade.AttributeType.Input:
                found = self.spread(attribute.Get(time_code(self.time)), width)
            else:
                output = UsdShade.Output(attribute)
                found = self.node(UsdShade.Shader(output.GetPrim()), str(output.GetBaseName()))
            if found is not None:
                return widened(found, width)
        return None

    def spread(self, value: object, width: int) -> np.ndarray | None:
        if value is None or isinstance(value, str | Sdf.AssetPath):
            return None
        row = np.atleast_1d(np.asarray(value, dtype=np.float32))
        return np.broadcast_to(widened(row[None], width), (self.points.count, width))

    def node(self, shader: UsdShade.Shader, output: str) -> np.ndarray | None:
        """(N, k) of a shader's output; None, with a warning, where the node is not known."""
        identifier = shader.GetShaderId() or ""
        # ND_multiply_color3FA, UsdPrimvarReader_float2, ND_combine3_color3: the word that says what the node does.
        category = identifier.removeprefix("ND_").split("_")[0].rstrip("0123456789")
        if category not in NODES:
            what = f"<{shader.GetPath()}>: node {identifier or 'without an id'} is not evaluated"
            self.warn(what, "Bake it to a texture.")
            return None
        return self._once(str(shader.GetPath()), output, lambda: NODES[category](self, shader.ConnectableAPI(), output))

    def primvar(self, name: str) -> np.ndarray | None:
        """(N, k) of a primvar; None where there is none."""
        return self._once("", name, lambda: self.points.primvar(name, self.neighbour))

    def _once(self, path: str, name: str, make: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        key = (self.neighbour, path, name)
        if key not in self.points.memo:
            self.points.memo[key] = make()
        return self.points.memo[key]

    def warn(self, what: str, cure: str) -> None:
        if what not in self.missing:
            self.missing.add(what)
            warnings.warn(f"{what}; a plain value is used. {cure}", StageWarning, stacklevel=2)

    def texture(
        self, node: UsdShade.ConnectableAPI, st: str, default: str, wrap: tuple[str, str], space: str
    ) -> np.ndarray | None:
        """(N, 4) of the image that `file` names, at texture coordinates; None where there is none or it cannot be
        read.
        """
        # Outputs of one node, as its colour and its alpha, are of one image.
        name = f"{st} {default} {wrap} {space}"
        return self._once(str(node.GetPrim().GetPath()), name, lambda: self._texture(node, st, default, wrap, space))

    def _texture(
        self, node: UsdShade.ConnectableAPI, st: str, default: str, wrap: tuple[str, str], space: str
    ) -> np.ndarray | None:
        given = node.GetInput("file")
        files = given.GetValueProducingAttributes() if given else []
        asset = files[0].Get(time_code(self.time)) if files else None
        if not isinstance(asset, Sdf.AssetPath) or not asset.path:
            return None
        at = [Network(self.points, self.time, self.missing, n).coordinates(node, st, default) for n in (0, 1, 2)]
        here, right, down = at
        if here is None or right is None or down is None:
            return None
        # The footprint is the longer of the two steps, but not so long that the shorter one blurs more than fourfold.
        steps = np.sort([np.linalg.norm(right - here, axis=1), np.linalg.norm(down - here, axis=1)], axis=0)
        footprint = np.maximum(steps[0], steps[1] / 4)
        if space == "auto" and files[0].HasColorSpace():
            space = "sRGB" if files[0].GetColorSpace() in SRGB else "raw"
        out = np.zeros((self.points.count, 4), np.float32)
        for path, members, offset in _tiles(asset, here, files[0]):
            try:
                texture = load_texture(path, space)
            except SceneError as error:
                self.warn(str(error).rstrip("."), f"It is named by <{files[0].GetPath()}>.")
                return None
            out[members] = texture.sample(here[members] - offset, footprint[members], wrap)
        return out

    def coordinates(self, node: UsdShade.ConnectableAPI, name: str, default: str) -> np.ndarray | None:
        """(N, 2) of an input that is texture coordinates; without a connection, of the primvar `default`."""
        st = self.input(node, name, 2)
        if st is None and default:
            found = self.primvar(default)
            st = None if found is None else widened(found, 2)
        if st is None:
            return None
        tiling, offset = self.value(node, "uvtiling"), self.value(node, "uvoffset")
        st = st if tiling is None else st * np.array(tiling)
        return st if offset is None else st - np.array(offset)


def _tiles(asset: Sdf.AssetPath, st: np.ndarray, attribute: Usd.Attribute) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Resolved path, members (N,) and offset (2,) of the UDIM tiles that coordinates fall on; one of all without
    UDIM.
    """
    if not UDIM.search(asset.path):
        return [(asset.resolvedPath or asset.path, np.ones(len(st), bool), np.zeros(2))]
    layer = attribute.GetPropertyStack()[0].layer
    pattern = UsdShade.UdimUtils.ResolveUdimPath(asset.path, layer) or layer.ComputeAbsolutePath(asset.path)
    tile = np.clip(np.floor(st), 0, [9, 999]).astype(int)
    out = []
    for u, v in np.unique(tile, axis=0):
        path = UDIM.sub(str(1001 + u + 10 * v), pattern)
        out.append((path, (tile == [u, v]).all(axis=1), np.array([u, v])))
    return out
