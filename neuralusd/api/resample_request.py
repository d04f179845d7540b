"""What `resample` is asked to keep: names, and the anchors of a stage, to an alpha for every variable (equation 12)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pxr import Sdf, Usd, UsdGeom

from ..errors import EditError
from ..latents import ObjectAnchors
from ..scene import Scene
from ..schema import NeuralAnchorAPI

POSE, APPEARANCE, PRESENCE = "pose", "appearance", "presence"
# A prim's own; shape and look are one set of tokens.
FACTORS = {POSE: POSE, APPEARANCE: APPEARANCE, "geometry": APPEARANCE, PRESENCE: PRESENCE}
CAMERA, BACKGROUND, LAYOUT, LOOKS, OBJECTS, EVERYTHING = (
    "camera", "background", "layout", "looks", "objects", "everything",
)  # fmt: skip
NAMES = (CAMERA, BACKGROUND, LAYOUT, LOOKS, OBJECTS, EVERYTHING)
INSERTION = "insertion"
MOST_SAMPLES, MOST_STEPS, MOST_TRIES = 100, 1000, 100

Variable = tuple[str, str]
"""A factor and the path it is of ("" for the scene's)."""


@dataclass
class Asked:
    """Alpha of every variable of a scene.

    Attributes:
        objects: path to its anchors, of every foreground asset. removed: paths of those that are to go.
        named: path to the names it was asked for by, of what somebody wants to change.
    """

    objects: dict[str, ObjectAnchors]
    camera: float = 1.0
    background: float = 1.0
    insertion: float = 1.0
    removed: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)

    @property
    def looks(self) -> bool:
        """Whether anything may come to look different, so that it needs tokens."""
        appearance = [alpha.appearance for path, alpha in self.objects.items() if path not in self.removed]
        return min([self.background, self.insertion, *appearance]) < 1


def anchors_of(
    stage: Usd.Stage,
    scene: Scene,
    keep: Sequence[str],
    vary: Mapping[str, float],
    remove: Sequence[str],
    insert: bool | None,
) -> Asked:
    """What to hold, and how fast.

    Where something is named, what is not named is resampled; the closer name counts (`/Room/Bed:pose` before
    `/Room/Bed` before `layout` before `everything`). Where nothing is, the stage's NeuralAnchorAPI says, and what it
    does not say is kept.

    Raises:
        EditError: a name that there is not, an alpha out of range, or a contradiction; says what there is.
    """
    if keep or vary or remove:
        asked = _named(stage, scene, keep, vary, remove)
    else:
        asked = _authored(stage, scene)
    if insert is not None:
        asked.insertion = 0.0 if insert else 1.0
    return asked


def _named(
    stage: Usd.Stage, scene: Scene, keep: Sequence[str], vary: Mapping[str, float], remove: Sequence[str]
) -> Asked:
    paths = [asset.path for asset in scene.foreground]
    removed = _removed(stage, scene, remove)
    found: dict[Variable, tuple[tuple[int, int], float, str]] = {}
    for name, alpha, held in [*((name, 1.0, True) for name in keep), *((*each, False) for each in vary.items())]:
        if not (isinstance(alpha, (int, float)) and math.isfinite(alpha) and 0 <= alpha <= 1):
            raise EditError(f"{name} cannot be varied by {alpha}; alpha is 0 (resample) to 1 (keep)")
        rank, variables = _variables(stage, scene, paths, name, held)
        for variable in variables:
            if name.startswith("/") and variable[1] in removed:
                raise EditError(f"<{variable[1]}> is to be removed, and {name} is to be kept or varied. Leave one out.")
            other = found.get(variable)
            if other is not None and other[0] == rank and other[1] != alpha:
                raise EditError(
                    f"{other[2]} and {name} say different things of the same ({variable[0]}). Leave one out."
                )
            if other is None or rank >= other[0]:
                found[variable] = (rank, float(alpha), name)

    def alpha_of(factor: str, path: str = "") -> float:
        return found[factor, path][1] if (factor, path) in found else 0.0

    asked = Asked({path: ObjectAnchors(*(alpha_of(factor, path) for factor in _OWN)) for path in paths})
    asked.camera, asked.background, asked.insertion = alpha_of(CAMERA), alpha_of(BACKGROUND), alpha_of(INSERTION)
    asked.removed = removed
    for (_, path), (_, alpha, name) in found.items():
        if path and name.startswith("/") and (alpha < 1 or path == name.partition(":")[0]):
            asked.named[path] = name
    return asked


_OWN = (POSE, APPEARANCE, PRESENCE)


def _variables(
    stage: Usd.Stage, scene: Scene, paths: Collection[str], name: str, held: bool
) -> tuple[tuple[int, int], list[Variable]]:
    """How close a name is, and the variables that it names.

    Args:
        held: whether an asset's name stands for the assets below it, too. Who varies an asset varies it alone.
    """
    if name == EVERYTHING:
        every = [(factor, path) for path in paths for factor in _OWN]
        return (0, 0), [*every, (CAMERA, ""), (BACKGROUND, ""), (INSERTION, "")]
    if name in (CAMERA, BACKGROUND):
        return (1, 0), [(name, "")]
    if name in (LAYOUT, LOOKS):
        return (1, 0), [(POSE if name == LAYOUT else APPEARANCE, path) for path in paths]
    if name == OBJECTS:
        return (1, 0), [*((PRESENCE, path) for path in paths), (INSERTION, "")]
    path, colon, factor = name.partition(":")
    if not path.startswith("/"):
        raise EditError(
            f"'{name}' is no factor; there are: {', '.join(NAMES)}; or a prim's path, by itself or with "
            f"{', '.join(f':{each}' for each in FACTORS)}"
        )
    if colon and factor not in FACTORS:
        raise EditError(f"'{factor}' is no factor of <{path}>; there are: {', '.join(FACTORS)}")
    rank = (3 if colon else 2, path.count("/"))
    if path == scene.camera.path or (scene.background is not None and path == scene.background.path):
        which = CAMERA if path == scene.camera.path else BACKGROUND
        if colon and (which == CAMERA or FACTORS[factor] != APPEARANCE):
            raise EditError(f"<{path}> is the {which}, which is one factor. Leave :{factor} away.")
        return rank, [(which, "")]
    below = [path] if path in paths and not held else _at_or_below(stage, scene, path)
    return rank, [(each, one) for one in below for each in ([FACTORS[factor]] if colon else _OWN)]


def _at_or_below(stage: Usd.Stage, scene: Scene, path: str) -> list[str]:
    """The foreground assets at or below a prim. Raises EditError where there are none; lists those there are."""
    if Sdf.Path.IsValidPathString(path):
        own = Sdf.Path(path)
        found = [asset.path for asset in scene.foreground if Sdf.Path(asset.path).HasPrefix(own)]
        if found and not own.IsAbsoluteRootPath():
            return found
    prim = stage.GetPrimAtPath(path) if Sdf.Path.IsValidPathString(path) else None
    what = "is no asset, and holds none that can be seen" if prim else "does not exist"
    if prim and prim.IsA(UsdGeom.Camera):
        what = f"is not the camera that is used, which is <{scene.camera.path}>"
    known = ", ".join(f"<{asset.path}>" for asset in scene.assets)
    raise EditError(f"<{path}> {what}. The assets of {scene.source} are: {known}.")


def _removed(stage: Usd.Stage, scene: Scene, remove: Sequence[str]) -> list[str]:
    out: list[str] = []
    for path in remove:
        if path in (CAMERA, BACKGROUND, scene.camera.path) or (scene.background and path == scene.background.path):
            raise EditError(f"{path} cannot be removed; objects can. To change it, vary it.")
        if not path.startswith("/") or ":" in path:
            raise EditError(f"'{path}' cannot be removed: write an object's path, such as /Room/Bed")
        out += [each for each in _at_or_below(stage, scene, path) if each not in out]
    return out


def _authored(stage: Usd.Stage, scene: Scene) -> Asked:
    def alpha(path: str, *factors: str) -> float:
        api = NeuralAnchorAPI(stage.GetPrimAtPath(path)) if path else None
        values = [getattr(api, f"Get{factor.capitalize()}Attr")().Get() for factor in factors] if api else []
        for factor, value in zip(factors, values, strict=False):
            if value is not None and not 0 <= value <= 1:
                raise EditError(f"<{path}>: neural:anchor:{factor} is {value:g}. Author 0 (resample) to 1 (keep).")
        return min((float(value) for value in values if value is not None), default=1.0)

    objects = {}
    for asset in scene.foreground:
        pose, appearance = alpha(asset.path, POSE), alpha(asset.path, APPEARANCE, "geometry")
        objects[asset.path] = ObjectAnchors(pose, appearance, alpha(asset.path, PRESENCE))
    background = alpha(scene.background.path, BACKGROUND) if scene.background else 1.0
    return Asked(objects, alpha(scene.camera.path, CAMERA), background)


def check_numbers(samples: int, seed: int, steps: int | None, guidance: float | None, tries: int) -> None:
    """Raises EditError for the first that is out of range."""
    limits = ((samples, "samples", MOST_SAMPLES), (steps, "steps", MOST_STEPS), (tries, "tries", MOST_TRIES))
    for value, what, most in limits:
        if value is not None and not (_whole(value) and 1 <= value <= most):
            raise EditError(f"{value} {what} are none. Give a whole number of 1 to {most}.")
    if not (_whole(seed) and 0 <= seed < 2**63):
        raise EditError(f"{seed} is no seed. Give a whole number of 0 to 2**63 - 1.")
    if guidance is not None and not math.isfinite(guidance):
        raise EditError(f"a guidance of {guidance} is none. Give a finite number; 1 is none.")


def _whole(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value == int(value)
