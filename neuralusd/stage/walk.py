"""What of a stage would be drawn: visible prims, in traversal order, through instances."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pxr import Sdf, Usd, UsdGeom, UsdSkel

# Prim types that become triangles. Anything else that is Boundable is left out of the passes, with a warning.
SURFACES = (UsdGeom.Mesh, UsdGeom.TetMesh, UsdGeom.Cube, UsdGeom.Sphere, UsdGeom.Cylinder, UsdGeom.Cylinder_1,
            UsdGeom.Cone, UsdGeom.Capsule, UsdGeom.Capsule_1, UsdGeom.Plane)  # fmt: skip
GUIDE, PROXY = "guide", "proxy"


def time_code(time: float | None) -> Usd.TimeCode:
    """The time code to read at. None is the earliest, as for usdrecord: what is not animated has its default value, and
    what has only samples has its first.
    """
    return Usd.TimeCode.EarliestTime() if time is None else Usd.TimeCode(time)


def authoring_time(time: float | None) -> Usd.TimeCode:
    """The time code to write at; None authors default values."""
    return Usd.TimeCode.Default() if time is None else Usd.TimeCode(time)


class Visible(NamedTuple):
    """A prim that is not hidden.

    Attributes:
        prim: the prim; an instance proxy inside an instance.
        purpose: "default", "render", "proxy" or "guide", inherited as USD does.
        kind: "surface" (becomes triangles), "instancer", "other" (has an extent, cannot be drawn here), or "" (no
        geometry).
        skeleton_root: the SkelRoot it is in, whose skeletons may deform it.
        parent: which of the prims that were walked is its parent, counted from 0; -1 for the root.
    """

    prim: Usd.Prim
    purpose: str
    kind: str
    skeleton_root: Usd.Prim | None = None
    parent: int = -1


_kinds: dict[str, str] = {}


def _kind(prim: Usd.Prim, name: str) -> str:
    if name not in _kinds:
        if any(prim.IsA(schema) for schema in SURFACES):
            _kinds[name] = "surface"
        elif prim.IsA(UsdGeom.PointInstancer):
            _kinds[name] = "instancer"
        elif prim.IsA(UsdSkel.Root):
            _kinds[name] = "skeleton"
        else:
            _kinds[name] = "other" if prim.IsA(UsdGeom.Gprim) else ""
    return _kinds[name]


def visible(
    root: Usd.Prim,
    time: float | None = None,
    purpose: str | None = None,
    undefined: bool = False,
    only: Collection[Sdf.Path] | None = None,
) -> Iterator[Visible]:
    """`root` and what is visible below it, parents before children, instance proxies included.

    The prims below a point instancer are its prototypes and do not appear by themselves. `root` is taken as it is:
    its own ancestors' visibility and purpose are not looked at (None for `purpose` means it inherits none).

    Args:
        undefined: also go through `over` and `class` prims, which prototypes of a point instancer may be.
        only: paths of prims; nothing but these, what is below them, and what leads to them.
    """
    code, invisible = time_code(time), UsdGeom.Tokens.invisible
    traverse = Usd.TraverseInstanceProxies(
        Usd.PrimIsActive & Usd.PrimIsLoaded if undefined else Usd.PrimDefaultPredicate
    )
    towards = {prefix for path in only or () for prefix in path.GetPrefixes()}
    stack: list[tuple[Usd.Prim, str | None, Usd.Prim | None, int, bool]] = [(root, purpose, None, -1, only is None)]
    number = 0
    while stack:
        prim, inherited, skeleton_root, parent, whole = stack.pop()
        kind = ""
        if name := prim.GetTypeName():
            shown = prim.GetAttribute("visibility")
            if shown.HasAuthoredValue() and shown.Get(code) == invisible:
                continue
            authored = prim.GetAttribute("purpose")
            if authored.HasAuthoredValue():
                inherited = authored.Get()
            kind = _kind(prim, name)
            if kind == "skeleton":
                kind, skeleton_root = "", prim
        yield Visible(prim, inherited or "default", kind, skeleton_root, parent)
        whole = whole or (only is not None and prim.GetPath() in only)
        if kind != "instancer" and (children := prim.GetFilteredChildren(traverse)):
            if not whole:
                children = [child for child in children if child.GetPath() in towards]
            stack += [(child, inherited, skeleton_root, number, whole) for child in reversed(children)]
        number += 1


class Owners:
    """Which asset a prim belongs to: the innermost asset at or above it."""

    def __init__(self, assets: list[str]):
        self._owner: dict[Sdf.Path, int] = {Sdf.Path(path): index for index, path in enumerate(assets)}
        self._owner.setdefault(Sdf.Path.absoluteRootPath, -1)

    def index(self, path: Sdf.Path) -> int:
        """Index into the assets; -1 for a prim of no asset."""
        found = self._owner.get(path)
        if found is None:
            found = self._owner[path] = self.index(path.GetParentPath())
        return found
