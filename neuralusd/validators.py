"""What can be wrong with a stage that neuralusd is to use, each with its cure.

`validate` runs on every USD. Where the host's UsdValidation takes validators written in Python, the same checks are
registered there too, by `neuralusd.usdvalidation`.

Every authored time sample is checked, not one time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from pxr import Usd, UsdGeom

from neuralusd.scene import BACKGROUND
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI, require

ERROR, WARNING = "error", "warning"

# A box may stick out of the image by this much before it is out of range: a hundredth of a pixel of a 4k image.
_TOLERANCE = 1e-5
_PURPOSES = [UsdGeom.Tokens.default_, UsdGeom.Tokens.render, UsdGeom.Tokens.proxy]


@dataclass(frozen=True)
class Issue:
    """Something wrong with a prim.

    Attributes:
        severity: "error" (the prim is refused, or drawn wrongly) or "warning" (it works, but hardly as it was meant).
        path: the prim's path.
        rule: name of the rule that is broken; the rules are listed in docs/schema.md.
        message: what is wrong and what to do about it.
    """

    severity: str
    path: str
    rule: str
    message: str


def validate(stage: Usd.Stage) -> list[Issue]:
    """All that is wrong with the neural prims of `stage`, in the order of its traversal, instances' prims included.

    Raises:
        RuntimeError: the neural schemas were registered too late to be known; see `neuralusd.schema.require`.
    """
    require()
    bounds = Bounds()
    issues = list(check_stage(stage))
    for prim in _prims(stage):
        issues += check_asset(prim, bounds)
        issues += check_tokens(prim)
    return issues


def format_report(issues: Iterable[Issue], width: int = 100) -> str:
    """`issues` as lines for a terminal of `width` columns: errors first, then a count."""
    issues = sorted(issues, key=lambda issue: issue.severity != ERROR)
    wrapper = textwrap.TextWrapper(width, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    lines = []
    for issue in issues:
        lines += [f"{issue.severity}: <{issue.path}> {issue.rule}", *wrapper.wrap(issue.message)]
    errors = sum(issue.severity == ERROR for issue in issues)
    counts = [_count(n, word) for n, word in ((errors, ERROR), (len(issues) - errors, WARNING)) if n]
    return "\n".join([*lines, ", ".join(counts) or "No problems found."])


class Bounds:
    """Whether prims have geometry, with what is shared between questions."""

    def __init__(self) -> None:
        self._caches = [
            UsdGeom.BBoxCache(time, _PURPOSES, useExtentsHint=False, ignoreVisibility=True)
            for time in (Usd.TimeCode.Default(), Usd.TimeCode.EarliestTime())
        ]

    def has_extent(self, prim: Usd.Prim) -> bool:
        """Whether `prim` has geometry at or below it, visible or not, or an authored `extentsHint`."""
        for cache in self._caches:
            if not cache.ComputeUntransformedBound(prim).ComputeAlignedRange().IsEmpty():
                return True
        return bool(UsdGeom.ModelAPI(prim).GetExtentsHint(Usd.TimeCode.EarliestTime()))


def check_stage(stage: Usd.Stage) -> Iterator[Issue]:
    """What can only be seen by looking at the whole stage."""
    assets, token_sets, taken = [], [], set()
    for prim in _prims(stage):
        if NeuralAssetAPI(prim) and prim.IsA(UsdGeom.Imageable):
            assets.append(prim)
        for tokens in NeuralTokensAPI.GetAll(prim):
            token_sets.append(tokens)
            taken |= {target.GetPrimPath() for target in tokens.GetFromRel().GetForwardedTargets()}

    backgrounds = [prim for prim in assets if NeuralAssetAPI(prim).GetRoleAttr().Get() == BACKGROUND]
    for index, prim in enumerate(backgrounds):
        other = next((other for other in backgrounds[:index] if _seen_together(prim, other)), None)
        if other:
            said = f"<{other.GetPath()}> is a background too, and a stage has one."
            cure = "Set `neural:role` of one of them to foreground, or hide one."
            yield Issue(ERROR, str(prim.GetPath()), "TwoBackgrounds", f"{said} {cure}")

    for path, tokens in {tokens.GetPrim().GetPath(): tokens for tokens in token_sets}.items():
        if not NeuralAssetAPI(tokens.GetPrim()) and path not in taken:
            said = f"It has '{tokens.GetName()}' tokens, but is no asset and none takes them, so nothing draws them."
            cure = "Apply NeuralAssetAPI, or make the prim a class if it is there to be inherited."
            yield Issue(WARNING, str(path), "TokensWithoutAsset", f"{said} {cure}")


def check_asset(prim: Usd.Prim, bounds: Bounds | None = None) -> Iterator[Issue]:
    """What is wrong with `prim` as an asset; nothing where it is not one."""
    asset = NeuralAssetAPI(prim)
    if not asset:
        return
    error = partial(Issue, ERROR, str(prim.GetPath()))
    if not prim.IsA(UsdGeom.Imageable):
        said = f"Its type '{prim.GetTypeName()}' is none" if prim.GetTypeName() else "It has no type"
        yield error("NotImageable", f"{said} that can be imaged, so it cannot be an asset. Make it an Xform.")
        return
    mistyped = list(_type_issues(prim, asset.GetSchemaAttributeNames()))
    if mistyped:  # the other rules would trip over the values
        yield from mistyped
        return
    for time, presence in _samples(asset.GetPresenceAttr()):
        if not 0 <= presence <= 1:  # NaN is not in range either
            said = f"`neural:presence` is {presence:g}{_at(time)}"
            yield error("PresenceOutOfRange", f"{said}. Set it between 0 (absent) and 1 (present).")
            break
    role, allowed = asset.GetRoleAttr().Get(), asset.GetRoleAttr().GetMetadata("allowedTokens")
    if role not in allowed:
        yield error("RoleUnknown", f"`neural:role` is '{role}'. Set it to {' or '.join(allowed)}.")
    boxes = list(_samples(asset.GetBox2dAttr()))
    yield from islice(_box_issues(str(prim.GetPath()), boxes), 1)
    transforms = list(islice(_transform_issues(prim), 1))
    yield from transforms
    if role != BACKGROUND and not boxes and not transforms and not (bounds or Bounds()).has_extent(prim):
        geometry = next((p for p in Usd.PrimRange(prim, Usd.TraverseInstanceProxies()) if _is_geometry(p)), None)
        if geometry:
            said = f"Its geometry, such as <{geometry.GetPath()}>, has no finite box, so it has no place in an image."
            cure = "Give it points, and correct what is NaN or infinite in its points, `extent` and xformOps."
        else:
            said = "It has neither geometry nor a box, so it has no place in an image."
            cure = "Load its payloads, give it geometry or an `extentsHint`, or author `neural:box2d`."
        yield error("NoPlace", f"{said} {cure}")


def check_tokens(prim: Usd.Prim) -> Iterator[Issue]:
    """What is wrong with the token sets of `prim`."""
    for tokens in NeuralTokensAPI.GetAll(prim):
        mistyped = list(_type_issues(prim, tokens.GetSchemaAttributeNames(instanceName=tokens.GetName())))
        if mistyped:
            yield from mistyped
        elif tokens.GetFromRel().HasAuthoredTargets():
            try:
                tokens.resolve()
            except ValueError as problem:
                yield Issue(ERROR, str(prim.GetPath()), "TokensFrom", str(problem))
        else:
            yield from _token_set_issues(tokens)


def _token_set_issues(tokens: NeuralTokensAPI) -> Iterator[Issue]:
    path, what = str(tokens.GetPrim().GetPath()), f"Its '{tokens.GetName()}' tokens"

    def error(rule: str, said: str) -> Issue:
        return Issue(ERROR, path, rule, f"{what} {said}. Encode the prim again.")

    samples = [(time, values) for time, values in _samples(tokens.GetValuesAttr()) if len(values)]
    if not samples:
        cure = "Encode the prim, or name by `from` the prim whose tokens it takes."
        yield Issue(ERROR, path, "TokensMissing", f"{what} have no values. {cure}")
        return
    shape = tokens.GetShapeAttr().Get()
    if shape is None or min(shape) <= 0:
        said = "have no shape" if shape is None else f"have shape {tuple(shape)}"
        yield error("TokensShape", f"{said}, though there are {len(samples[0][1])} values")
        return
    count, length = shape
    for time, values in samples:
        if len(values) != count * length:
            said = f"have {len(values)} values{_at(time)}, but shape ({count}, {length}) takes {count * length}"
            yield error("TokensShape", said)
            return
    for time, values in samples:
        bad = _not_finite(values).reshape(count, length).any(axis=1).sum()
        if bad:
            yield error("TokensNotFinite", f"hold NaN or infinity in {bad} of {count}{_at(time)}")
            break
    grid = tokens.GetGridAttr().Get()
    if grid is None or min(grid) <= 0 or grid[0] * grid[1] != count:
        said = "have no grid" if grid is None else f"have a grid of {grid[0]} x {grid[1]}"
        yield error("TokensGrid", f"{said}, but are {count}")
    for time, points in _samples(tokens.GetPointsAttr()):
        if len(points) not in (0, count):
            yield error("TokensPoints", f"are {count}, but have {len(points)} points{_at(time)}")
            break
        if np.isinf(np.asarray(points)).any():
            yield error("TokensPoints", f"have points at infinity{_at(time)}; NaN is the mark of an unknown place")
            break
    encoder = tokens.GetEncoderAttr().Get()
    if not encoder:
        yield error("TokensEncoder", "do not say which encoder made them, so no backend can read them")
    elif not tokens.GetRevisionAttr().Get():
        said = f"{what} do not say which revision of '{encoder}' made them."
        yield Issue(WARNING, path, "TokensRevision", f"{said} Encode the prim again, or author `revision`.")


def _type_issues(prim: Usd.Prim, names: Iterable[str]) -> Iterator[Issue]:
    """Attributes that a layer declares with another type than the schema."""
    for name in names:
        attribute = prim.GetAttribute(name)
        if not attribute.IsAuthored():
            continue
        expected = prim.GetPrimDefinition().GetAttributeDefinition(name).GetTypeName()
        for spec in attribute.GetPropertyStack():
            if spec.typeName.type != expected.type:  # roles may differ, as point3f and float3
                said = f"@{spec.layer.identifier}@ declares `{name}` as {spec.typeName}, but it is {expected}."
                yield Issue(ERROR, str(prim.GetPath()), "WrongType", f"{said} Author it again with the schema's type.")
                break


def _box_issues(path: str, samples: Iterable[tuple[Usd.TimeCode, Any]]) -> Iterator[Issue]:
    order = "It is x, y of the top left corner, then height and width, as fractions of the image."
    for time, box in samples:
        x, y, h, w = box
        said = f"`neural:box2d` is ({x:g}, {y:g}, {h:g}, {w:g}){_at(time)}"
        if not np.isfinite([x, y, h, w]).all():
            yield Issue(ERROR, path, "BoxNotFinite", f"{said}, which is not finite. {order}")
        elif h <= 0 or w <= 0:
            yield Issue(ERROR, path, "BoxWithoutSize", f"{said}: its height or width is not positive. {order}")
        elif max(x, y, h, w) > 2:
            cure = f"Divide by the image's size. {order}"
            yield Issue(ERROR, path, "BoxOutOfRange", f"{said}, which looks like pixels. {cure}")
        elif x >= 1 or y >= 1 or x + w <= 0 or y + h <= 0:
            yield Issue(ERROR, path, "BoxOutOfRange", f"{said}, which is outside of the image. {order}")
        elif min(x, y) < -_TOLERANCE or max(x + w, y + h) > 1 + _TOLERANCE:
            # Height and width swapped, or a corner in place of a size, often come out here.
            cure = f"{order} Clip it to the image."
            yield Issue(WARNING, path, "BoxOutOfRange", f"{said}, which sticks out of the image. {cure}")


def _transform_issues(prim: Usd.Prim) -> Iterator[Issue]:
    """What is wrong with the transforms of `prim` and its ancestors while `prim` is visible."""
    here = prim
    while here and not here.IsPseudoRoot():
        xformable = UsdGeom.Xformable(here)
        if xformable:
            for time in _times(xformable.GetTimeSamples()):
                fault = _fault(np.array(xformable.GetLocalTransformation(time)))
                if fault and UsdGeom.Imageable(prim).ComputeVisibility(time) != UsdGeom.Tokens.invisible:
                    rule, said, cure = fault
                    whose = "Its transform" if here == prim else f"The transform of its ancestor <{here.GetPath()}>"
                    yield Issue(ERROR, str(prim.GetPath()), rule, f"{whose} {said}{_at(time)}. {cure}")
            if xformable.GetResetXformStack():
                return
        here = here.GetParent()


def _fault(matrix: np.ndarray) -> tuple[str, str, str] | None:
    if not np.isfinite(matrix).all():
        return "TransformNotFinite", "holds NaN or infinity", "Correct its xformOps."
    axes = matrix[:3, :3]
    scale = np.linalg.norm(axes, axis=1).max()
    if scale == 0 or abs(np.linalg.det(axes / scale)) < 1e-12:
        cure = "Give it a scale that is not zero; to hide the asset use `visibility` or `neural:presence`."
        return "TransformSingular", "is singular, as by a scale of zero", cure
    return None


def _is_geometry(prim: Usd.Prim) -> bool:
    return prim.IsA(UsdGeom.Gprim) or prim.IsA(UsdGeom.PointInstancer)


def _seen_together(a: Usd.Prim, b: Usd.Prim) -> bool:
    """Whether there is a time at which both prims are visible."""
    samples: set[float] = set()
    for prim in (a, b):
        while prim and not prim.IsPseudoRoot():
            attribute = UsdGeom.Imageable(prim).GetVisibilityAttr()
            samples |= set(attribute.GetTimeSamples() if attribute else [])
            prim = prim.GetParent()
    return any(
        all(UsdGeom.Imageable(prim).ComputeVisibility(time) != UsdGeom.Tokens.invisible for prim in (a, b))
        for time in _times(sorted(samples))
    )


def _prims(stage: Usd.Stage) -> Iterator[Usd.Prim]:
    # The prims that UsdValidation looks at by default.
    return (p for p in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()) if not p.IsPseudoRoot())


def _samples(attribute: Usd.Attribute) -> Iterator[tuple[Usd.TimeCode, Any]]:
    """Each time and value of `attribute`; its default or fallback where it has no time samples."""
    for time in _times(attribute.GetTimeSamples()):
        value = attribute.Get(time)
        if value is not None:
            yield time, value


def _times(samples: Iterable[float]) -> list[Usd.TimeCode]:
    return [Usd.TimeCode(sample) for sample in samples] or [Usd.TimeCode.Default()]


def _at(time: Usd.TimeCode) -> str:
    return "" if time.IsDefault() else f" at time {time.GetValue():g}"


def _not_finite(values: Any) -> np.ndarray:
    """Which of an array of halves are NaN or infinite: those with all bits of the exponent set."""
    # numpy's own isfinite converts halves to floats one by one, ten times slower.
    bits = np.asarray(values).view(np.uint16)
    return (bits & 0x7C00) == 0x7C00


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
