"""Views and surfaces of prims: pictures as PNG files inside of the layer, read when they are looked at."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image
from pxr import Gf, Sdf, Usd, Vt

from ..kept import Kept, digest
from ..scene import PICTURE, Surface, View
from ..schema import NeuralSurfaceAPI, NeuralViewAPI
from ..schema.base import to_usd
from ..surfaces.sheets import IS_SKY, SKY
from .errors import TokensError
from .walk import time_code

# Codes of the depth picture: nothing of the prim; the nearest and the farthest depth; endlessly far.
_NOTHING, _NEAR, _FAR, _ENDLESS = 0, 1, 65534, 65535
# Bytes of decoded views that are kept between renders, and pixels of the largest.
_KEPT_BYTES, _LARGEST = 1 << 29, 8192 * 8192

_kept = Kept(_KEPT_BYTES, lambda view: view.color.nbytes + view.depth.nbytes)


class StoredViews(Mapping[str, View]):
    """The views of a prim by name. A view is decoded when it is looked at.

    Raises:
        TokensError: from a look-up, where what is stored is damaged; names the prim and the view.
    """

    def __init__(self, prim: Usd.Prim, time: float | None = None):
        # A prim lives no longer than its stage.
        self._stage, self._prim, self._time = prim.GetStage(), prim, time

    @cached_property
    def _found(self) -> dict[str, NeuralViewAPI]:
        return {api.GetName(): api for api in NeuralViewAPI.GetAll(self._prim) if api.GetColorAttr().HasValue()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, name: str) -> View:
        return _read_view(self._found[name], self._time)


def read_views(prim: Usd.Prim, time: float | None = None) -> Mapping[str, View]:
    """The views of a prim by name; decoded as they are looked at."""
    return StoredViews(prim, time)


def write_views(prim: Usd.Prim, views: Mapping[str, View]) -> None:
    """Gives a prim these views, in the edit target, and no others."""
    for api in NeuralViewAPI.GetAll(prim):
        if api.GetName() not in views:
            prim.RemoveAPI(NeuralViewAPI.schemaIdentifier, api.GetName())
            for attribute in prim.GetPropertiesInNamespace(f"{NeuralViewAPI.propertyNamespacePrefix}:{api.GetName()}"):
                prim.RemoveProperty(attribute.GetName())
    for name, view in views.items():
        api = NeuralViewAPI.Apply(prim, name)
        depth, near, far = _encoded_depth(view.depth)
        api.CreateColorAttr(_png(PIL.Image.fromarray(view.color)))
        api.CreateDepthAttr(_png(PIL.Image.fromarray(depth)))
        api.CreateDepthRangeAttr(to_usd((near, far), "float2"))
        api.CreateViewTransformAttr(to_usd(view.transform, "matrix4d"))
        api.CreateLensAttr(to_usd(view.lens, "float4"))
        api.CreateProjectionAttr("orthographic" if view.orthographic else "perspective")
        api.CreateCropAttr(to_usd(view.crop, "float4"))
        api.CreateKindAttr(view.kind)
        api.CreateGainAttr(to_usd(view.gain, "float3"))
        if view.source:
            api.CreateSourceAttr(Sdf.AssetPath(view.source))


def read_surfaces(prim: Usd.Prim, time: float | None = None) -> dict[str, Surface]:
    """`Asset.surfaces` of a prim; what does not add up is left out."""
    api, code = NeuralSurfaceAPI(prim), time_code(time)
    paths, counts = api.GetPathsAttr().Get(code) or [], api.GetCountsAttr().Get(code) or []
    transforms = api.GetTransformsAttr().Get(code) or []
    points = api.GetPointsAttr().Get(code)
    points = np.zeros((0, 3), np.float32) if points is None else np.asarray(points)
    if not len(paths) == len(counts) == len(transforms) or sum(counts) != len(points) or any(n < 0 for n in counts):
        return {}
    ends = np.cumsum(counts)
    return {
        path: Surface(np.array(matrix), points[end - count : end] if count else None)
        for path, matrix, count, end in zip(paths, transforms, counts, ends, strict=True)
    }


def write_surfaces(prim: Usd.Prim, surfaces: Mapping[str, Surface]) -> None:
    """Authors `Asset.surfaces` in the edit target."""
    api = NeuralSurfaceAPI.Apply(prim)
    points = [np.zeros((0, 3), np.float32) if s.points is None else s.points for s in surfaces.values()]
    api.CreatePathsAttr(list(surfaces))
    api.CreateTransformsAttr(Vt.Matrix4dArray([Gf.Matrix4d(*s.transform.ravel().tolist()) for s in surfaces.values()]))
    api.CreateCountsAttr(Vt.IntArray([len(part) for part in points]))
    api.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(np.concatenate(points), np.float32)))


def _read_view(api: NeuralViewAPI, time: float | None) -> View:
    code, where = time_code(time), f"<{api.GetPrim().GetPath()}>: view {api.GetName()}"

    def get(attribute: Usd.Attribute, fallback: Any) -> Any:
        value = attribute.Get(code) if attribute else None
        return fallback if value is None else value

    picture, depth = (get(a, None) for a in (api.GetColorAttr(), api.GetDepthAttr()))
    transform, lens, crop = (get(a, None) for a in (api.GetViewTransformAttr(), api.GetLensAttr(), api.GetCropAttr()))
    if any(value is None for value in (picture, depth, transform, lens, crop)):
        raise TokensError(f"{where} is not whole. Encode the prim again.")
    near, far = get(api.GetDepthRangeAttr(), (0.0, 0.0))
    numbers = np.array([*np.array(transform).ravel(), *lens, *crop, near, far], np.float64)
    if not np.isfinite(numbers).all() or min(crop[2:]) <= 0 or abs(np.linalg.det(np.array(transform))) < 1e-30:
        raise TokensError(f"{where} has a camera or a crop that is none. Encode the prim again.")
    source = get(api.GetSourceAttr(), None)
    rest = {
        "transform": np.array(transform),
        "lens": tuple(float(x) for x in lens),
        "crop": tuple(float(x) for x in crop),
        "orthographic": get(api.GetProjectionAttr(), "") == "orthographic",
        "kind": str(get(api.GetKindAttr(), PICTURE)),
        "gain": tuple(float(x) for x in get(api.GetGainAttr(), (1, 1, 1))),
        "source": source.path if isinstance(source, Sdf.AssetPath) else "",
    }
    raw = [np.asarray(values) for values in (picture, depth)]
    key = digest(*raw, near, far, *numbers, rest["kind"], rest["gain"], rest["orthographic"])
    return _kept.get(key, lambda: _decoded(raw[0], raw[1], float(near), float(far), rest, where))


def _decoded(picture: np.ndarray, depth: np.ndarray, near: float, far: float, rest: dict[str, Any], where: str) -> View:
    try:
        with _opened(picture) as image:
            color = np.array(image.convert("RGB"))
        with _opened(depth) as image:
            codes = np.array(image).astype(np.int64)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise TokensError(f"{where} cannot be read: {error}. Encode the prim again.") from error
    if codes.shape != color.shape[:2] or not codes.size:
        raise TokensError(f"{where} has a picture of {color.shape[:2]} and depths of {codes.shape}. Encode it again.")
    metres = near + (codes - _NEAR) / (_FAR - _NEAR) * (far - near) if far > 0 else np.full(codes.shape, np.nan)
    metres = np.where(codes == _NOTHING, np.inf, np.where(codes == _ENDLESS, SKY, metres))
    return View(color=color, depth=metres.astype(np.float32), **rest)


def _opened(data: np.ndarray) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(data.tobytes()), formats=("PNG",))
    if image.width * image.height > _LARGEST:
        raise ValueError(f"{image.width} x {image.height} pixels are more than a view has")
    return image


def _encoded_depth(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(H, W) uint16 codes, and the depths that the first and the last of them stand for."""
    endless = np.isfinite(depth) & (depth >= IS_SKY)
    known = np.isfinite(depth) & ~endless
    near, far = (float(depth[known].min()), float(depth[known].max())) if known.any() else (0.0, 0.0)
    span = max(far - near, 1e-9)
    codes = np.where(known, _NEAR + np.rint((np.where(known, depth, near) - near) / span * (_FAR - _NEAR)), _NOTHING)
    codes = np.where(np.isnan(depth), _NEAR, np.where(endless, _ENDLESS, codes))
    return codes.astype(np.uint16), near, far if far > near else near + (1e-9 if known.any() else 0.0)


def _png(image: PIL.Image.Image) -> Vt.UCharArray:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=4)
    return Vt.UCharArray.FromNumpy(np.frombuffer(data.getvalue(), np.uint8))
