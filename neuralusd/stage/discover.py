"""Finding the assets of a stage that nobody has marked yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pxr import Kind, Sdf, Usd, UsdGeom

from .walk import GUIDE, Visible, visible


def discover_assets(stage: Usd.Stage, time: float | None = None) -> list[str]:
    """Paths of the prims that are objects to a person, in traversal order, of a stage without NeuralAssetAPI.

    The first of these that finds visible geometry (purpose default, render or proxy):

    1. models of kind `component` (or a kind derived from it), and point instancers of components;
    2. instances and prims that bring in a reference or a payload;
    3. prims side by side: the first level of the namespace, from the root, where geometry branches. A prim without a
    transform
       (a Scope) stands for its children, a character (a SkelRoot) for all its parts.

    In 2 a prim that holds all the others gives way to them, so a stage that is one reference to a set of references
    is that set.
    """
    return discover(list(visible(stage.GetPseudoRoot(), time)))


def discover(prims: list[Visible]) -> list[str]:
    """`discover_assets` over prims that have been walked already."""
    drawn = [v.prim.GetPath() for v in prims if v.kind and v.purpose != GUIDE]
    with_geometry: set[Sdf.Path] = set()
    for path in drawn:
        while path not in with_geometry and path != Sdf.Path.absoluteRootPath:
            with_geometry.add(path)
            path = path.GetParentPath()
    candidates = [v.prim for v in prims if v.prim.GetPath() in with_geometry]
    components = _components(candidates, drawn)
    if components:
        return components
    brought = _topmost(candidates, lambda prim: prim.IsInstance() or _brings_in_an_asset(prim))
    inside = {v.prim.GetPath() for v in prims if v.skeleton_root not in (None, v.prim)}
    return brought or _side_by_side([prim for prim in candidates if prim.GetPath() not in inside])


def is_component(prim: Usd.Prim) -> bool:
    kind = Usd.ModelAPI(prim).GetKind()
    return bool(kind) and Kind.Registry.IsA(kind, Kind.Tokens.component)


def _components(candidates: Iterable[Usd.Prim], drawn: list[Sdf.Path]) -> list[str]:
    """Components that keep geometry when the innermost component has taken its own, and instancers of components."""
    candidates = list(candidates)
    components = {prim.GetPath() for prim in candidates if is_component(prim)}
    owners = set()
    instancers = {prim.GetPath() for prim in candidates if prim.IsA(UsdGeom.PointInstancer)}
    for path in drawn:
        owner = next((prefix for prefix in reversed(path.GetPrefixes()) if prefix in components), None)
        if owner is None and path in instancers:
            instancer = next(prim for prim in candidates if prim.GetPath() == path)
            targets = UsdGeom.PointInstancer(instancer).GetPrototypesRel().GetForwardedTargets()
            prototypes = [instancer.GetStage().GetPrimAtPath(t) for t in targets]
            owner = path if any(p and is_component(p) for p in prototypes) else None
        if owner is not None:
            owners.add(owner)
    return [str(prim.GetPath()) for prim in candidates if prim.GetPath() in owners]


def _brings_in_an_asset(prim: Usd.Prim) -> bool:
    return prim.HasAuthoredReferences() or prim.HasAuthoredPayloads()


def _topmost(
    candidates: list[Usd.Prim], wanted: Callable[[Usd.Prim], bool], below: Sdf.Path | None = None
) -> list[str]:
    """The outermost wanted prims; where that is a single one, those below it if they are several."""
    found: list[Usd.Prim] = []
    for prim in candidates:
        path = prim.GetPath()
        inside = below is None or (path.HasPrefix(below) and path != below)
        if inside and wanted(prim) and not (found and path.HasPrefix(found[-1].GetPath())):
            found.append(prim)
    if len(found) == 1:
        nested = _topmost(candidates, wanted, found[0].GetPath())
        if len(nested) > 1:
            return nested
    return [str(prim.GetPath()) for prim in found]


def _side_by_side(candidates: list[Usd.Prim]) -> list[str]:
    """The first level where geometry branches; the topmost prim with a transform where it never does."""
    children: dict[Sdf.Path, list[Usd.Prim]] = {}
    for prim in candidates:
        if not prim.IsPseudoRoot():
            children.setdefault(prim.GetPath().GetParentPath(), []).append(prim)

    def through_scopes(prims: list[Usd.Prim]) -> list[Usd.Prim]:
        out: list[Usd.Prim] = []
        for prim in prims:
            below = children.get(prim.GetPath(), [])
            out += [prim] if prim.IsA(UsdGeom.Xformable) or not below else through_scopes(below)
        return out

    level = through_scopes(children.get(Sdf.Path.absoluteRootPath, []))
    top = level
    while len(level) == 1:
        level = through_scopes(children.get(level[0].GetPath(), []))
    return [str(prim.GetPath()) for prim in (level or top)]
