"""Tokens of prims."""

from __future__ import annotations

from typing import Any

import numpy as np
from pxr import Sdf, Usd

from ..scene import Tokens
from ..schema import NeuralTokensAPI
from .errors import TokensError
from .views_io import read_views
from .walk import time_code

# Custom data of the values: what they were made from, see `Tokens.digest`.
DIGEST_KEY = "neuralusd:digest"


def read_tokens(prim: Usd.Prim, time: float | None = None) -> dict[str, Tokens]:
    """Modality to tokens of a prim; a set that names another prim by `from` is that prim's set.

    The arrays are views of the layer's own memory where the layer allows it; copy them before writing to them.

    Raises:
        TokensError: the arrays contradict their shape, `from` leads nowhere or in a circle, or values are NaN or
            infinite. Of the values only a few tokens are looked at, so that nothing is read from the file that is not
            used: pipelines and `validate` look at all.
    """
    out = {}
    for own in NeuralTokensAPI.GetAll(prim):
        try:
            tokens = _read_set(own.resolve(), time)
        except TokensError:
            raise
        except ValueError as error:
            raise TokensError(str(error)) from error
        if tokens is not None:
            out[own.GetName()] = tokens
    return out


def _read_set(api: NeuralTokensAPI, time: float | None) -> Tokens | None:
    code, prim = time_code(time), api.GetPrim()
    prefix = f"{api.propertyNamespacePrefix}:{api.GetName()}:"

    def get(name: str) -> Any:
        return prim.GetAttribute(prefix + name).Get(code)

    raw = get("values")
    if raw is None or len(raw) == 0:
        return None
    values, where = np.asarray(raw), f"<{prim.GetPath()}>: {api.GetName()} tokens"
    if values.dtype != np.float16:
        raise TokensError(f"{where} are of type {values.dtype}, not half. Encode the prim again.")
    count, width = get("shape") or (0, 0)
    if count <= 0 or width <= 0 or count * width != values.size:
        raise TokensError(f"{where} have {values.size} values, but shape ({count}, {width}). Encode the prim again.")
    values = values.reshape(count, width)
    if not all_finite(values[[0, count // 2, -1]]):
        raise TokensError(f"{where} hold NaN or infinity. Encode the prim again.")
    rows, columns = get("grid") or (1, count)
    if rows * columns != count:
        raise TokensError(f"{where} are {count}, but their grid is {rows} x {columns}. Encode the prim again.")
    points, extent = get("points"), get("extent")
    crop, view, source = get("crop"), get("viewTransform"), get("source")
    if points is not None and len(points) not in (0, count):
        raise TokensError(f"{where} are {count}, but have {len(points)} points. Encode the prim again.")
    if extent is not None and len(extent) not in (0, 2):
        raise TokensError(f"{where}: their extent has {len(extent)} points, not 2. Encode the prim again.")
    return Tokens(
        values=values,
        encoder=get("encoder") or "",
        revision=get("revision") or "",
        grid=(int(rows), int(columns)),
        points=np.asarray(points) if points is not None and len(points) else None,
        extent=np.asarray(extent) if extent is not None and len(extent) else None,
        crop=(crop[0], crop[1], crop[2], crop[3]) if crop is not None else None,
        view=np.array(view) if view is not None else None,
        source=source.path if isinstance(source, Sdf.AssetPath) else "",
        digest=prim.GetAttribute(prefix + "values").GetCustomDataByKey(DIGEST_KEY) or "",
        views=read_views(prim, time),
    )


def all_finite(halves: np.ndarray) -> bool:
    """Whether no half (float16, of any shape) is NaN or infinite; ten times as fast as numpy's isfinite."""
    # Their bits are the largest of all: as signed numbers those without a sign, as unsigned ones those with one.
    return bool(halves.view(np.int16).max() < 0x7C00 and halves.view(np.uint16).max() < 0xFC00)
