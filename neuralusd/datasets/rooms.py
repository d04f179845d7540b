"""Furnished rooms: a grammar lays out models of a library, bedrooms above all, and a camera looks in.

`sample_room` makes one in a few milliseconds, with numpy alone; `room_latents` tells it as scene latents, `write_room`
(`rooms_stage`) as a USD stage, and `make_rooms` (`rooms_world`) renders a world of them.

A room's space is in metres, Z up, its floor at z = 0; its north wall is at the largest y.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..latents import ObjectLatents, SceneLatents
from .furniture_assets import FurnitureAsset
from .furniture_textures import KINDS, make_texture
from .rooms_camera import CLEAR, View, choose_view
from .rooms_grammar import Plan, RoomObject, bedroom, dining_room, living_room
from .rooms_models import Models, models_of

BEDROOM, LIVING_ROOM, DINING_ROOM = "bedroom", "living room", "dining room"
RULES = {BEDROOM: bedroom, LIVING_ROOM: living_room, DINING_ROOM: dining_room}
# What the first object of each kind's rooms is.
NEEDED = {BEDROOM: "bed", LIVING_ROOM: "sofa", DINING_ROOM: "dining table"}
TEXTURES = 240
_FLOORS = ("planks", "planks", "planks", "tiles", "carpet", "carpet", "checker", "plain")
_WALLS = ("plaster", "plaster", "plaster", "plaster", "stripes", "stripes", "stripes", "bricks")
# Of the walls that have no texture, but paint.
_PAINTED = 0.65
_LEAST_OBJECTS = 3
_TRIES = 100


@dataclass
class RoomLook:
    """What a floor or the walls look like.

    Attributes:
        texture: name of one of `furniture_textures`. tint: (3,) linear, multiplies it.
        repeat: metres that the texture covers. roughness: of the surface.
    """

    texture: str
    tint: np.ndarray
    repeat: float
    roughness: float

    @property
    def color(self) -> np.ndarray:
        """(3,) linear, the mean."""
        return np.clip(mean_color(self.texture) * self.tint, 0.0, 1.0)


@dataclass
class RoomLight:
    """A light that is no lamp: of the sky, or of a window or a ceiling lamp that is not seen.

    Attributes:
        kind: "sky", or "window", a rectangle. color: (3,) linear. intensity: as UsdLux has it.
        matrix: (4, 4) to the room of a light that shines along its -Z; of no meaning for the sky.
        size: (2,) metres.
    """

    kind: str
    intensity: float
    color: np.ndarray
    matrix: np.ndarray = field(default_factory=lambda: np.eye(4))
    size: tuple[float, float] = (1.0, 1.0)


@dataclass
class Room:
    """A furnished room and the camera that looks into it.

    Attributes:
        kind: "bedroom", "living room" or "dining room".
        objects: the most important first; what the camera does not see is not among them.
        floor: (4, 2) corners counter-clockwise from the south west; walls stand on all sides of it but the south, which
            is behind the camera.
        height: of the walls. ceiling: whether there is one.
        floor_look, wall_look, ceiling_look: of the shell.
        camera_to_room: (4, 4) for row vectors; the camera looks down -Z, +Y up.
        focal: (2,) f_x and f_y as multiples of the image's width and height.
        lights: besides the lamps'. evening: whether the lamps are the main light.
    """

    kind: str
    objects: list[RoomObject]
    floor: np.ndarray
    height: float
    ceiling: bool
    floor_look: RoomLook
    wall_look: RoomLook
    ceiling_look: RoomLook
    camera_to_room: np.ndarray
    focal: np.ndarray
    lights: list[RoomLight] = field(default_factory=list)
    evening: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the objects' prims: Bed, Nightstand, Nightstand_1, ..."""
        out: list[str] = []
        count: dict[str, int] = {}
        for thing in self.objects:
            name = "".join(word.capitalize() for word in thing.role.split())
            number = count[name] = count.get(name, -1) + 1
            out.append(f"{name}_{number}" if number else name)
        return out


def sample_room(
    library: Sequence[FurnitureAsset] | Models,
    rng: np.random.Generator,
    kind: str = BEDROOM,
    split: str | None = None,
) -> Room:
    """A room of models of a library: at most 12 objects that stand on the floor or on each other, apart, inside of it.

    Args:
        library: its assets; keep the same list to be quick. `Models` of it has its split already.
        kind: "bedroom", "living room" or "dining room".
        split: "held_out_models" takes held-out models for each role that has any; "train" and "held_out_scenes" take
            none of them; None takes every model of the library alike.

    Raises:
        ValueError: no such kind, or the library has no bed (sofa, dining table) for it.
    """
    if kind not in RULES:
        raise ValueError(f"`kind` must be one of {', '.join(RULES)}, not {kind!r}")
    models = models_of(library, split)
    if NEEDED[kind] not in models:
        of_split = f" of the split {split!r}" if split else ""
        raise ValueError(
            f"a {kind} needs a {NEEDED[kind]}, but no model{of_split} is one by its name and size; "
            "add one to the library"
        )
    for _ in range(_TRIES):
        plan = Plan(models, rng, rng.uniform(2.9, 4.9), rng.uniform(2.8, 4.4))
        if kind != BEDROOM:
            plan.width, plan.depth = plan.width + rng.uniform(0.3, 1.0), plan.depth + rng.uniform(0.2, 0.8)
        if not RULES[kind](plan) or len(plan.objects) < _LEAST_OBJECTS:
            continue
        tallest = max(o.position[2] + o.size[2] for o in plan.objects)
        height = max(rng.uniform(2.35, 3.0), tallest + 0.1)
        chosen = choose_view(plan.objects, plan.width, plan.depth, height, rng)
        if chosen is None:
            continue
        view, seen = chosen
        objects = _kept(plan.objects, seen)
        if len(objects) < _LEAST_OBJECTS:
            continue
        south = min(0.0, float(view.matrix[3, 1]) - rng.uniform(0.25, 0.6))
        room = Room(
            kind=kind,
            objects=objects,
            floor=np.array([[0, south], [plan.width, south], [plan.width, plan.depth], [0, plan.depth]], np.float64),
            height=float(height),
            ceiling=bool(rng.random() < 0.7),
            floor_look=_look(_FLOORS, rng, (0.8, 2.5), (0.75, 1.15)),
            wall_look=_paint(rng) if rng.random() < _PAINTED else _look(_WALLS, rng, (1.0, 3.0), (0.95, 1.25)),
            ceiling_look=RoomLook("", np.full(3, rng.uniform(0.75, 0.9)), 1.0, 0.9),
            camera_to_room=view.matrix,
            focal=np.full(2, view.focal),
        )
        _light(room, rng)
        return room
    raise ValueError(f"no {kind} fits what the library has; are its models far larger than furniture?")


def other_views(room: Room, count: int, rng: np.random.Generator) -> list[View]:
    """`count` further cameras that look into a room, from where its floor reaches.

    Raises:
        ValueError: there are no such, which is rare.
    """
    (_, south), (width, _), (_, depth) = room.floor[0], room.floor[1], room.floor[2]
    views: list[View] = []
    for _ in range(_TRIES):
        if len(views) == count:
            return views
        chosen = choose_view(room.objects, width, depth, room.height, rng, south + CLEAR)
        if chosen is not None:
            views.append(chosen[0])
    raise ValueError(f"only {len(views)} other views of this {room.kind} show what is in it, not {count}")


def room_latents(room: Room) -> tuple[SceneLatents, list[str]]:
    """A room as scene latents, without appearance and background, and the asset ids in the objects' order."""
    turn, eye = room.camera_to_room[:3, :3], room.camera_to_room[3, :3]
    objects = []
    for thing, name in zip(room.objects, room.names, strict=True):
        size = thing.size
        middle = thing.position + [0.0, 0.0, size[2] / 2]
        objects.append(
            ObjectLatents(
                translation=(middle - eye) @ turn.T,
                rotation=_quaternion(thing.turn @ turn.T),
                scale=size,
                path=f"/Room/{name}",
                text=thing.asset.name.lower(),
            )
        )
    return SceneLatents(objects, room.focal.copy()), [thing.asset.id for thing in room.objects]


@functools.cache
def mean_color(texture: str) -> np.ndarray:
    """(3,) linear mean of a texture of `furniture_textures`; white for ""."""
    if not texture:
        return np.ones(3)
    kind, number = texture.removesuffix(".png").rsplit("_", 1)
    srgb = make_texture(kind, np.random.default_rng([0, int(number)])) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear.reshape(-1, 3).mean(0)


def _kept(objects: list[RoomObject], seen: np.ndarray) -> list[RoomObject]:
    """The objects that are in the picture; what stood on one that is not goes with it."""
    kept = [bool(seen[i]) and (o.support is None or bool(seen[o.support])) for i, o in enumerate(objects)]
    index = np.cumsum(kept) - 1
    out = [o for o, keep in zip(objects, kept, strict=True) if keep]
    for thing in out:
        if thing.support is not None:
            thing.support = int(index[thing.support])
    return out


def _look(
    kinds: tuple[str, ...], rng: np.random.Generator, repeat: tuple[float, float], tone: tuple[float, float]
) -> RoomLook:
    for _ in range(3):
        kind = kinds[int(rng.random() * len(kinds))]
        number = int(rng.random() * (TEXTURES // len(KINDS))) * len(KINDS) + KINDS.index(kind)
        mean = mean_color(f"{kind}_{number:03d}.png")
        # Most floors and walls are neither loud nor dark; wood and bricks are what they are.
        if kind in ("planks", "bricks") or (np.ptp(mean) < 0.4 * mean.max() and mean.max() > 0.2):
            break
    tint = rng.uniform(*tone) * rng.uniform(0.85, 1.0, 3)
    if kind == "planks":
        # From dark and reddish wood to light.
        tint *= 1 + rng.random() * np.array([0.25, 0.4, 0.6])
    return RoomLook(f"{kind}_{number:03d}.png", tint, float(rng.uniform(*repeat)), float(rng.uniform(0.5, 1.0)))


def _paint(rng: np.random.Generator) -> RoomLook:
    """White to pastel, now and then a full colour."""
    hue, full = rng.random(), rng.random() < 0.2
    saturation = rng.uniform(0.2, 0.5) if full else rng.uniform(0.0, 0.2)
    srgb = np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.6, 0.9) if full else rng.uniform(0.8, 0.96)))
    return RoomLook("", srgb**2.2, 1.0, float(rng.uniform(0.6, 1.0)))


def _light(room: Room, rng: np.random.Generator) -> None:
    """By day a sky, from the south, and a window in a side wall; in the evening the lamps and little else."""
    lamps = [o for o in room.objects if "lamp" in o.role]
    room.evening = bool(lamps) and bool(rng.random() < 0.35)
    for lamp in lamps:
        # In the daytime some are off.
        lit = room.evening or rng.random() < 0.4
        lamp.glow = float(rng.uniform(0.7, 1.4)) if lit else 0.0
    # A ceiling keeps much of the sky's light out.
    dim = rng.uniform(0.12, 0.28) if room.evening else (1.5 if room.ceiling else 0.85)
    blue = np.array([0.75, 0.86, 1.0]) if room.evening else 1 - rng.uniform(0, 0.12, 3)
    room.lights.append(RoomLight("sky", float(dim * rng.uniform(0.7, 1.2)), blue))
    width, north = float(room.floor[1, 0]), float(room.floor[2, 1])
    south = float(room.floor[0, 1])
    side = rng.random() < 0.5
    size = (float(rng.uniform(1.0, 2.0)), float(rng.uniform(0.9, 1.4)))
    # Towards the camera rather, where it lights nothing from quite near.
    y, z = rng.uniform(south + 0.5, 0.5 * north), rng.uniform(1.2, 1.7)
    matrix = np.eye(4)
    # Rows are the light's right, up and back; it shines along -Z, into the room.
    inward = 1.0 if side else -1.0
    matrix[:3, :3] = [[0.0, -inward, 0.0], [0.0, 0.0, 1.0], [-inward, 0.0, 0.0]]
    matrix[3, :3] = [0.02 if side else width - 0.02, y, z]
    tint = np.array([1.0, 0.96, 0.88]) if rng.random() < 0.5 else np.array([0.9, 0.95, 1.0])
    room.lights.append(RoomLight("window", float(dim * rng.uniform(5.0, 11.0)), tint, matrix, size))


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    """(4,) w, x, y, z with w >= 0 of a rotation (3, 3) for row vectors."""
    m = matrix.T
    trace = float(np.trace(m))
    if trace > 0:
        s = 2 * np.sqrt(trace + 1)
        q = np.array([s / 4, (m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s])
    else:
        i = int(np.argmax(np.diag(m)))
        j, k = (i + 1) % 3, (i + 2) % 3
        s = 2 * np.sqrt(max(1 + m[i, i] - m[j, j] - m[k, k], 1e-12))
        q = np.zeros(4)
        q[0], q[1 + i] = (m[k, j] - m[j, k]) / s, s / 4
        q[1 + j], q[1 + k] = (m[j, i] + m[i, j]) / s, (m[k, i] + m[i, k]) / s
    q /= np.linalg.norm(q)
    return -q if q[0] < 0 else q
