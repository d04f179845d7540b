"""The nodes that `Network` evaluates: UsdPreviewSurface's, and MaterialX's common ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pxr import UsdShade

if TYPE_CHECKING:
    from .network import Network


def widened(values: np.ndarray, width: int) -> np.ndarray:
    """(N, k) as (N, width): a single number is repeated, what lacks is 0 (alpha 1), what is too much is cut."""
    have = values.shape[1]
    if have == width:
        return values
    if have == 1:
        return np.repeat(values, width, axis=1)
    if have > width:
        return values[:, :width]
    extra = np.zeros((len(values), width - have), values.dtype)
    if width == 4:
        extra[:, -1] = 1
    return np.concatenate([values, extra], axis=1)


_CHANNELS = {"r": 0, "g": 1, "b": 2, "a": 3}


def _pick(rgba: np.ndarray, output: str) -> np.ndarray:
    if output in _CHANNELS:
        return rgba[:, _CHANNELS[output], None]
    return rgba[:, :3] if output == "rgb" else rgba


def _uv_texture(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    def wrap(name: str) -> str:
        mode = str(network.value(node, name) or "useMetadata")
        # The image formats read here carry no wrap mode, for which the specification says black.
        return mode if mode in ("repeat", "clamp", "mirror") else "black"

    space = str(network.value(node, "sourceColorSpace") or "auto")
    rgba = network.texture(node, "st", "", (wrap("wrapS"), wrap("wrapT")), space)
    if rgba is None:
        rgba = network.spread(network.value(node, "fallback"), 4)
        return None if rgba is None else _pick(rgba, output)
    scale, bias = network.spread(network.value(node, "scale"), 4), network.spread(network.value(node, "bias"), 4)
    rgba = rgba * scale if scale is not None else rgba
    return _pick(rgba + bias if bias is not None else rgba, output)


def _primvar_reader(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    name = network.value(node, "varname")
    name = name if name is not None else network.value(node, "geomprop")
    found = network.points.primvar(str(name), network.neighbour) if name else None
    if found is not None:
        return found
    for fallback in ("fallback", "default"):
        spread = network.input(node, fallback, 4)
        if spread is not None:
            return spread
    return None


def _transform_2d(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    st = network.input(node, "in", 2)
    if st is None:
        return None
    rotation, scale = network.value(node, "rotation"), network.value(node, "scale")
    translation, angle = network.value(node, "translation"), np.radians(float(rotation or 0))  # type: ignore[arg-type]
    st = st * (np.array(scale) if scale is not None else 1.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return st @ turn + (np.array(translation) if translation is not None else 0.0)


def _place_2d(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    st = network.coordinates(node, "texcoord", "st")
    if st is None:
        return None

    def vector(name: str, default: float) -> np.ndarray:
        value = network.value(node, name)
        return np.full(2, default) if value is None else np.array(value, dtype=float)

    angle = np.radians(float(network.value(node, "rotate") or 0))  # type: ignore[arg-type]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pivot = vector("pivot", 0)
    return (st - pivot) / vector("scale", 1) @ turn - vector("offset", 0) + pivot


def _image(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    modes = {"constant": "black", "clamp": "clamp", "periodic": "repeat", "mirror": "mirror"}

    def wrap(name: str) -> str:
        return modes.get(str(network.value(node, name) or "periodic"), "repeat")

    rgba = network.texture(node, "texcoord", "st", (wrap("uaddressmode"), wrap("vaddressmode")), "auto")
    return network.input(node, "default", _width(node)) if rgba is None else widened(rgba, _width(node))


def _width(node: UsdShade.ConnectableAPI) -> int:
    kind = str(UsdShade.Shader(node.GetPrim()).GetShaderId() or "").rsplit("_", 1)[-1].removesuffix("FA")
    return {"float": 1, "vector2": 2, "color4": 4, "vector4": 4}.get(kind, 3)


def _texcoord(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    index = network.value(node, "index")
    return network.primvar("st" if not index else f"st{index}")


def _arithmetic(operation: Callable[..., np.ndarray], inputs: Sequence[tuple[str, float]]):
    """A node that works component by component on inputs of its own width; those without a value have their default."""

    def node_function(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
        width = max(_width(node), 1)
        values = []
        for name, default in inputs:
            found = network.input(node, name, width)
            values.append(np.full((network.points.count, width), default, np.float32) if found is None else found)
        with np.errstate(all="ignore"):
            return np.nan_to_num(operation(*values))

    return node_function


def _parts(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    columns = [network.input(node, f"in{i}", 1) for i in range(1, 5) if node.GetInput(f"in{i}")]
    known = [c for c in columns if c is not None]
    return np.concatenate(known, axis=1) if known and len(known) == len(columns) else None


def _part(network: Network, node: UsdShade.ConnectableAPI, output: str) -> np.ndarray | None:
    values = network.input(node, "in", 4)
    names = {"outr": 0, "outx": 0, "outg": 1, "outy": 1, "outb": 2, "outz": 2, "outa": 3, "outw": 3}
    index = network.value(node, "index")
    column = names.get(output, index if isinstance(index, int) else 0)
    return None if values is None else values[:, min(column, 3)][:, None]


NODES: dict[str, Callable[[Network, UsdShade.ConnectableAPI, str], np.ndarray | None]] = {
    "UsdUVTexture": _uv_texture,
    "UsdPrimvarReader": _primvar_reader,
    "UsdTransform2d": _transform_2d,
    "geompropvalue": _primvar_reader,
    "image": _image,
    "tiledimage": _image,
    "texcoord": _texcoord,
    "place2d": _place_2d,
    "constant": _arithmetic(lambda value: value, [("value", 0)]),
    "convert": _arithmetic(lambda x: x, [("in", 0)]),
    "dot": _arithmetic(lambda x: x, [("in", 0)]),
    "multiply": _arithmetic(lambda a, b: a * b, [("in1", 0), ("in2", 1)]),
    "divide": _arithmetic(lambda a, b: a / b, [("in1", 0), ("in2", 1)]),
    "add": _arithmetic(lambda a, b: a + b, [("in1", 0), ("in2", 0)]),
    "subtract": _arithmetic(lambda a, b: a - b, [("in1", 0), ("in2", 0)]),
    "power": _arithmetic(lambda a, b: np.abs(a) ** b, [("in1", 0), ("in2", 1)]),
    "invert": _arithmetic(lambda x, amount: amount - x, [("in", 0), ("amount", 1)]),
    "clamp": _arithmetic(lambda x, low, high: np.clip(x, low, high), [("in", 0), ("low", 0), ("high", 1)]),
    "mix": _arithmetic(lambda fg, bg, mix: bg + (fg - bg) * mix, [("fg", 0), ("bg", 0), ("mix", 0)]),
    "combine": _parts,
    "extract": _part,
    "separate": _part,
}
