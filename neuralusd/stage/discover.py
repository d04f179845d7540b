"""Finding the assets of a stage that nobody has marked yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pxr import Kind, Usd, UsdGeom

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
    prims = list(visible(stage.GetPseudoRoot(), time))
    return [str(prims[place].prim.GetPath()) for place in discover(prims)]


def discover(prims: list[Visible]) -> list[int]:
    """`discover_assets` over all that is visible from the stage's root on; the places of the assets in `prims`."""
    drawn = [place for place, v in enumerate(prims) if v.kind and v.purpose != GUIDE]
    with_geometry = [False] * len(prims)
    for place in drawn:
        # The stage's root, place 0, is never an asset.
        while place > 0 and not with_geometry[place]:
            with_geometry[place] = True
            place = prims[place].parent
    candidates = [place for place, holds in enumerate(with_geometry) if holds]
    components = _components(prims, candidates, drawn)
    if components:
        return components
    brought = _topmost(prims, candidates, lambda prim: prim.IsInstance() or _brings_in_an_asset(prim))
    if brought:
        return brought
    return _side_by_side(prims, [p for p in candidates if prims[p].skeleton_root in (None, prims[p].prim)])


def is_component(prim: Usd.Prim) -> bool:
    return _derives_from_component(prim.GetKind())


@cache
def _derives_from_component(kind: str) -> bool:
    return bool(kind) and Kind.Registry.IsA(kind, Kind.Tokens.component)


def _components(prims: list[Visible], candidates: list[int], drawn: list[int]) -> list[int]:
    """Components that keep geometry when the innermost component has taken its own, and instancers of components."""
    innermost = [-1] * len(prims)
    for place in candidates:
        innermost[place] = place if is_component(prims[place].prim) else innermost[prims[place].parent]
    owners = {innermost[place] for place in drawn}
    if -1 in owners:
        loose = [place for place in drawn if innermost[place] < 0 and prims[place].kind == "instancer"]
        owners |= {place for place in loose if _repeats_components(prims[place].prim)}
    return sorted(owners - {-1})


def _repeats_components(instancer: Usd.Prim) -> bool:
    targets = UsdGeom.PointInstancer(instancer).GetPrototypesRel().GetForwardedTargets()
    prototypes = [instancer.GetStage().GetPrimAtPath(target) for target in targets]
    return any(prim and is_component(prim) for prim in prototypes)


def _brings_in_an_asset(prim: Usd.Prim) -> bool:
    return prim.HasAuthoredReferences() or prim.HasAuthoredPayloads()


def _topmost(
    prims: list[Visible], candidates: list[int], wanted: Callable[[Usd.Prim], bool], below: int = 0
) -> list[int]:
    """The outermost wanted prims below one; where that is a single one, those below it if they are several."""
    found, inside, taken = [], {below}, set()
    for place in candidates:
        parent = prims[place].parent
        if parent in taken:
            taken.add(place)
        elif parent in inside:
            inside.add(place)
            if wanted(prims[place].prim):
                found.append(place)
                taken.add(place)
    if len(found) == 1:
        nested = _topmost(prims, candidates, wanted, found[0])
        if len(nested) > 1:
            return nested
    return found


def _side_by_side(prims: list[Visible], candidates: list[int]) -> list[int]:
    """The first level where geometry branches; the topmost prim with a transform where it never does."""
    children: dict[int, list[int]] = {}
    for place in candidates:
        children.setdefault(prims[place].parent, []).append(place)

    def through_scopes(places: list[int]) -> list[int]:
        out: list[int] = []
        for place in places:
            below = children.get(place, [])
            out += [place] if prims[place].prim.IsA(UsdGeom.Xformable) or not below else through_scopes(below)
        return out

    level = through_scopes(children.get(0, []))
    top = level
    while len(level) == 1:
        level = through_scopes(children.get(level[0], []))
    return level or top
