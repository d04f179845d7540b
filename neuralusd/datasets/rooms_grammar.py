"""The grammar of furnished rooms: what stands where. Only numpy; metres, Z up, the floor at z = 0.

A plan is a rectangle, x from 0 to `width` and y from 0 to `depth`. Its walls are north (y = depth), west (x = 0) and
east (x = width); the south is open, for that is where the camera looks in from. A thing's front is towards -Y at a yaw
of 0, so this is how it stands with its back to the north wall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .furniture_assets import FurnitureAsset
from .rooms_models import Model, Models

MOST_OBJECTS = 12
NORTH, WEST, EAST = "north", "west", "east"
WALLS = (NORTH, WEST, EAST)
YAW = {NORTH: 0.0, WEST: 90.0, EAST: -90.0}
# Between things, and between a thing and a wall; metres.
APART, FROM_WALL = 0.02, 0.01
TALL = 1.3
Rectangle = tuple[float, float, float, float]


@dataclass
class RoomObject:
    """One object of a room.

    Attributes:
        asset: what stands there. role: what as, a key of `ROLES`.
        position: (3,) metres, of the middle of its box's underside.
        yaw: degrees about +Z; at 0 its front is towards -Y.
        scale: (3,) factors along its own axes.
        support: index of the object that it stands on; None on the floor.
        glow: of a lamp, how much light it gives; 0 where it gives none.
    """

    asset: FurnitureAsset
    role: str
    position: np.ndarray
    yaw: float
    scale: np.ndarray
    support: int | None = None
    glow: float = 0.0

    @property
    def size(self) -> np.ndarray:
        """(3,) metres along its own axes."""
        return np.asarray(self.asset.size) * self.scale

    @property
    def turn(self) -> np.ndarray:
        """(3, 3) rotation for row vectors, from its own axes to the room's."""
        c, s = np.cos(np.radians(self.yaw)), np.sin(np.radians(self.yaw))
        return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])

    def corners(self) -> np.ndarray:
        """(8, 3) corners of its box in the room."""
        local = (_CORNERS - np.array([0.5, 0.5, 0.0])) * self.size
        return local @ self.turn + self.position


_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)


@dataclass
class Plan:
    """A room that is being furnished.

    Attributes:
        kept_clear: rectangles that nothing is put on, like the floor before a wardrobe's doors.
    """

    models: Models
    rng: np.random.Generator
    width: float
    depth: float
    objects: list[RoomObject] = field(default_factory=list)
    taken: list[Rectangle] = field(default_factory=list)
    kept_clear: list[Rectangle] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def pick(self, role: str) -> tuple[Model, np.ndarray] | None:
        """A model of a role and its (3,) scale; None where there is none."""
        model = self.models.choose(role, self.rng)
        return None if model is None else (model, self.scale(model))

    def scale(self, model: Model) -> np.ndarray:
        """Close to its own size, sometimes a little longer or higher."""
        scale = np.full(3, model.resize * self.between(0.92, 1.08))
        if self.chance(0.3):
            scale *= 1 + 0.05 * (2 * self.rng.random(3) - 1)
        return scale

    # --- where there is room ------------------------------------------------------------------------------------------

    def is_free(self, rectangle: Rectangle, but: int | None = None) -> bool:
        """Whether nothing is there yet; `but` is the index of an object that may be near."""
        x0, y0, x1, y1 = rectangle
        if x0 < 0 or y0 < 0 or x1 > self.width or y1 > self.depth:
            return False
        for index, (a0, b0, a1, b1) in enumerate(self.taken):
            gap = 0.0 if index == but else APART
            if x0 < a1 + gap and a0 < x1 + gap and y0 < b1 + gap and b0 < y1 + gap:
                return False
        return all(x0 >= a1 or a0 >= x1 or y0 >= b1 or b0 >= y1 for a0, b0, a1, b1 in self.kept_clear)

    def add(
        self, role: str, model: Model, scale: np.ndarray, x: float, y: float, yaw: float, near: int | None = None
    ) -> int | None:
        """Put a thing on the floor with its middle at x, y; its index, or None where it has no room."""
        if len(self.objects) >= MOST_OBJECTS:
            return None
        footprint = bounds(x, y, yaw, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
        if not self.is_free(footprint, near):
            return None
        self.objects.append(RoomObject(model.asset, role, np.array([x, y, 0.0]), yaw, scale))
        self.taken.append(footprint)
        return len(self.objects) - 1

    def against_wall(
        self,
        role: str,
        walls: tuple[str, ...] = WALLS,
        along: Callable[[float, float], float] | None = None,
        clear: float = 0.0,
        tries: int = 10,
    ) -> int | None:
        """Put a thing with its back to one of the walls.

        Args:
            along: from half the thing's width and the wall's length to where its middle is along the wall; None takes
                any place.
            clear: metres before it that stay free.
        """
        found = self.pick(role)
        if found is None:
            return None
        model, scale = found
        w, d = model.asset.size[0] * scale[0], model.asset.size[1] * scale[1]
        tall = model.asset.size[2] * scale[2] > TALL
        for _ in range(tries):
            wall = walls[int(self.rng.random() * len(walls))]
            length = self.width if wall == NORTH else self.depth
            if w > length:
                continue
            # What is high would hide the room where it stands at the south.
            low = 0.45 * length if tall and wall != NORTH else 0.0
            at = self.between(max(w / 2, low), length - w / 2) if along is None else along(w / 2, length)
            gap = FROM_WALL + 0.03 * float(self.rng.random())
            x, y = self.beside_wall(wall, at, gap + d / 2)
            front = bounds(*self.beside_wall(wall, at, gap + d + clear / 2), YAW[wall], 0.8 * w, clear)
            if clear and not self.is_free(front):
                continue
            index = self.add(role, model, scale, x, y, YAW[wall])
            if index is not None:
                if clear:
                    self.kept_clear.append(front)
                return index
        return None

    def beside_wall(self, wall: str, along: float, away: float) -> tuple[float, float]:
        """The point `along` a wall (from the west, or from the south) and `away` from it."""
        if wall == NORTH:
            return along, self.depth - away
        return (away if wall == WEST else self.width - away), along

    def before(
        self, role: str, other: int, gap: float, aside: float = 0.0, turn: float = 180.0, chosen: Model | None = None
    ) -> int | None:
        """Put a thing before the front of another, turned by `turn` degrees from it: 180 faces it.

        Args:
            gap: metres between them. aside: metres to the other's left, from where it looks.
        """
        found = self.pick(role) if chosen is None else (chosen, self.scale(chosen))
        if found is None:
            return None
        model, scale = found
        there = self.objects[other]
        _, y0, _, y1 = bounds(0, 0, turn, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
        x, y, _ = np.array([aside, -there.size[1] / 2 - gap - (y1 - y0) / 2, 0.0]) @ there.turn + there.position
        return self.add(role, model, scale, x, y, there.yaw + turn, near=other)

    def in_corner(self, role: str, turned: bool = False) -> int | None:
        """Put a thing into a corner at the north; `turned` has it look into the room, across."""
        found = self.pick(role)
        if found is None:
            return None
        model, scale = found
        sides = [WEST, EAST] if self.chance(0.5) else [EAST, WEST]
        for side in sides:
            yaw = (self.between(25, 65) * (1 if side == WEST else -1)) if turned else self.between(-180, 180)
            x0, y0, x1, y1 = bounds(0, 0, yaw, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
            gap = FROM_WALL + self.between(0.0, 0.12)
            x = gap - x0 if side == WEST else self.width - gap - x1
            index = self.add(role, model, scale, x, self.depth - gap - y1, yaw)
            if index is not None:
                return index
        return None

    def on_top(
        self, roles: tuple[str, ...], support: int, aside: float = 0.0, chosen: Model | None = None
    ) -> int | None:
        """Put a thing on another's top, `aside` of its middle as a share of the room that is left there.

        What has a front looks the same way, within some degrees.
        """
        roles = tuple(role for role in roles if role in self.models)
        if len(self.objects) >= MOST_OBJECTS or not roles:
            return None
        role = roles[int(self.rng.random() * len(roles))]
        found = self.pick(role) if chosen is None else (chosen, self.scale(chosen))
        below = self.objects[support]
        if found is None or not Model(below.asset).flat:
            return None
        model, scale = found
        turn = self.between(-12, 12)
        _, _, x1, y1 = bounds(0, 0, turn, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
        left_x, left_y = below.size[0] / 2 - x1 - 0.02, below.size[1] / 2 - y1 - 0.02
        if left_x < 0 or left_y < 0:
            return None
        local = np.array([np.clip(aside, -1, 1) * left_x, left_y * self.between(-0.2, 0.8), below.size[2]])
        local_box = (local[0] - x1, local[1] - y1, local[0] + x1, local[1] + y1)
        if any(_touch(local_box, other) for other in self._tops(support)):
            return None
        position = local @ below.turn + below.position
        self.objects.append(RoomObject(model.asset, role, position, below.yaw + turn, scale, support))
        # Not on the floor: nothing else is kept from there by it.
        self.taken.append((np.inf, np.inf, -np.inf, -np.inf))
        return len(self.objects) - 1

    def _tops(self, support: int) -> list[Rectangle]:
        """What stands on an object already, in that object's own axes."""
        below, out = self.objects[support], []
        for other in self.objects:
            if other.support == support:
                x, y, _ = (other.position - below.position) @ below.turn.T
                out.append(bounds(x, y, other.yaw - below.yaw, other.size[0], other.size[1]))
        return out


def bounds(x: float, y: float, yaw: float, width: float, depth: float) -> Rectangle:
    """The rectangle along x and y around one that is turned by `yaw` degrees."""
    c, s = abs(np.cos(np.radians(yaw))), abs(np.sin(np.radians(yaw)))
    half_x, half_y = (c * width + s * depth) / 2, (s * width + c * depth) / 2
    return x - half_x, y - half_y, x + half_x, y + half_y


def _touch(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] + APART and b[0] < a[2] + APART and a[1] < b[3] + APART and b[1] < a[3] + APART


# --- kinds of rooms ---------------------------------------------------------------------------------------------------


def bedroom(plan: Plan) -> bool:
    """A bed with its head to a wall and what goes with it. Returns whether the bed has found its place."""
    single = plan.chance(0.2)
    wall = NORTH if plan.chance(0.62) else (WEST if plan.chance(0.5) else EAST)
    corner = single and plan.chance(0.6)

    def head(half: float, length: float) -> float:
        if corner and wall == NORTH:
            return half + FROM_WALL if plan.chance(0.5) else length - half - FROM_WALL
        if wall != NORTH:
            # From the south, so that there is room between the camera and the bed.
            return plan.between(min(half + 0.9, length - half), length - half - (0.0 if corner else 0.4))
        middle = length / 2 + 0.5 * (length - 2 * half) * plan.between(-0.75, 0.75)
        return min(max(middle, half), length - half)

    bed = plan.against_wall("bed", (wall,), head)
    if bed is None:
        return False
    _nightstands(plan, bed, wall)
    extras: list[tuple[float, Callable[[], object]]] = [
        (0.65, lambda: plan.against_wall("wardrobe", clear=0.45)),
        (0.55, lambda: _dresser(plan)),
        (0.42, lambda: _desk(plan)),
        (0.3, lambda: plan.against_wall("bookcase", clear=0.3)),
        (0.14, lambda: _dressing_table(plan)),
        (0.28, lambda: plan.in_corner("armchair", turned=True)),
        (0.28, lambda: _corner_or_wall(plan, "floor lamp")),
        (0.45, lambda: _corner_or_wall(plan, "plant")),
        (0.2, lambda: plan.before("trunk", bed, plan.between(0.03, 0.15), turn=0.0)),
        (0.08, lambda: plan.against_wall("clothes rack")),
        (0.05, lambda: plan.against_wall("crib")),
        (0.1, lambda: plan.against_wall("toy")),
    ]
    _some(plan, extras)
    return True


def _some(plan: Plan, extras: list[tuple[float, Callable[[], object]]]) -> None:
    """Each of the rules with its probability, in any order."""
    for index in plan.rng.permutation(len(extras)):
        probability, rule = extras[index]
        if plan.chance(probability):
            rule()


def _corner_or_wall(plan: Plan, role: str) -> None:
    if plan.in_corner(role) is None:
        plan.against_wall(role)


def _nightstands(plan: Plan, bed: int, wall: str) -> None:
    """None, one or two beside the bed's head, alike as a rule, and lamps and other things on them."""
    sides = [(-1.0,), (1.0,), (-1.0, 1.0), ()][int(np.searchsorted([0.17, 0.34, 0.88], plan.rng.random()))]
    model, lamp = plan.models.choose("nightstand", plan.rng), plan.models.choose("table lamp", plan.rng)
    alike, with_lamp = plan.chance(0.9), plan.chance(0.75)
    there = plan.objects[bed]
    scales: dict[Model, np.ndarray] = {}
    for side in sides:
        if not alike:
            model = plan.models.choose("nightstand", plan.rng)
        if model is None:
            return
        scale = scales.setdefault(model, plan.scale(model))
        half = there.size[0] / 2 + plan.between(0.03, 0.12) + model.asset.size[0] * scale[0] / 2
        back = there.size[1] / 2 - model.asset.size[1] * scale[1] / 2
        x, y, _ = np.array([side * half, back, 0.0]) @ there.turn + there.position
        stand = plan.add("nightstand", model, scale, x, y, there.yaw)
        if stand is None:
            continue
        if with_lamp and lamp is not None and plan.chance(0.9):
            plan.on_top(("table lamp",), stand, plan.between(-0.3, 0.3), lamp)
        elif plan.chance(0.35):
            plan.on_top(("ornament", "small plant", "vase"), stand, plan.between(-0.5, 0.5))


def _dresser(plan: Plan) -> None:
    dresser = plan.against_wall("dresser", clear=0.35)
    if dresser is None:
        return
    if plan.chance(0.25):
        plan.on_top(("television",), dresser, plan.between(-0.3, 0.3))
    if plan.chance(0.4):
        plan.on_top(
            ("table lamp", "vase", "small plant"), dresser, plan.between(0.5, 1) * (1 if plan.chance(0.5) else -1)
        )
    if plan.chance(0.2):
        plan.on_top(("ornament", "vase", "small plant"), dresser, plan.between(-1, 1))


def _desk(plan: Plan) -> None:
    """A desk at a wall, a chair that faces it, and mostly a computer or a lamp on it."""
    desk = plan.against_wall("desk", clear=0.0)
    if desk is None:
        return
    if plan.chance(0.92):
        role = "desk chair" if "desk chair" in plan.models and plan.chance(0.6) else "chair"
        plan.before(role, desk, plan.between(0.0, 0.15), plan.between(-0.15, 0.15), 180 + plan.between(-25, 25))
    if plan.chance(0.45):
        plan.on_top(("computer",), desk, plan.between(-0.4, 0.4))
    if plan.chance(0.45):
        plan.on_top(("desk lamp", "table lamp"), desk, plan.between(0.7, 1) * (1 if plan.chance(0.5) else -1))


def _dressing_table(plan: Plan) -> None:
    table = plan.against_wall("dressing table")
    if table is not None and plan.chance(0.85):
        role = "stool" if plan.chance(0.4) else "chair"
        plan.before(role, table, plan.between(0.0, 0.15), 0.0, 180 + plan.between(-15, 15))


def living_room(plan: Plan) -> bool:
    """A sofa at a wall, a low table before it, and television, armchairs, shelves around."""
    wall = NORTH if plan.chance(0.5) else (WEST if plan.chance(0.5) else EAST)

    def middle(half: float, length: float) -> float:
        return min(max(length * plan.between(0.35, 0.65), half), length - half)

    sofa = plan.against_wall("sofa", (wall,), middle)
    if sofa is None:
        return False
    there = plan.objects[sofa]
    table = plan.before("coffee table", sofa, plan.between(0.3, 0.5), turn=0.0) if plan.chance(0.85) else None
    if table is not None and plan.chance(0.5):
        plan.on_top(("vase", "small plant", "ornament", "computer"), table, plan.between(-0.7, 0.7))
    for side in (-1.0, 1.0):
        if table is not None and plan.chance(0.4):
            _armchair_beside(plan, table, side)
        if plan.chance(0.25):
            _side_table(plan, there, side)
    if wall != NORTH and plan.chance(0.75):
        across = plan.against_wall(
            "television stand", (EAST if wall == WEST else WEST,), lambda half, length: float(there.position[1]), 0.2
        )
        if across is not None:
            plan.on_top(("television",), across, plan.between(-0.2, 0.2))
    _some(
        plan,
        [
            (0.4, lambda: plan.against_wall("bookcase", clear=0.3)),
            (0.3, lambda: _corner_or_wall(plan, "floor lamp")),
            (0.5, lambda: _corner_or_wall(plan, "plant")),
            (0.25, lambda: _dresser(plan)),
            (0.15, lambda: plan.against_wall("fireplace", clear=0.6)),
            (0.12, lambda: plan.against_wall("piano", clear=0.5)),
            (0.15, lambda: _desk(plan)),
            (0.15, lambda: plan.in_corner("armchair", turned=True)),
        ],
    )
    return True


def _armchair_beside(plan: Plan, table: int, side: float) -> None:
    """An armchair at one end of a low table, looking at it."""
    found = plan.pick("armchair")
    if found is None:
        return
    model, scale = found
    there, turn = plan.objects[table], plan.between(-15, 15)
    yaw = there.yaw + turn - 90 * side
    _, _, half, _ = bounds(0, 0, turn - 90 * side, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
    away = there.size[0] / 2 + plan.between(0.15, 0.4) + half
    x, y, _ = np.array([side * away, plan.between(-0.3, 0.1), 0.0]) @ there.turn + there.position
    plan.add("armchair", model, scale, x, y, yaw)


def _side_table(plan: Plan, sofa: RoomObject, side: float) -> None:
    """A small table at a sofa's side with a lamp on it."""
    found = plan.pick("nightstand")
    if found is None:
        return
    model, scale = found
    half = sofa.size[0] / 2 + plan.between(0.03, 0.1) + model.asset.size[0] * scale[0] / 2
    back = sofa.size[1] / 2 - model.asset.size[1] * scale[1] / 2
    x, y, _ = np.array([side * half, back, 0.0]) @ sofa.turn + sofa.position
    stand = plan.add("nightstand", model, scale, x, y, sofa.yaw)
    if stand is not None and plan.chance(0.8):
        plan.on_top(("table lamp",), stand)


def dining_room(plan: Plan) -> bool:
    """A table in the middle, chairs around that face it, and sideboards at the walls."""
    found = plan.pick("dining table")
    if found is None:
        return False
    model, scale = found
    yaw = 0.0 if plan.chance(0.6) else 90.0
    x = plan.width * plan.between(0.42, 0.58)
    table = plan.add("dining table", model, scale, x, plan.depth * plan.between(0.4, 0.55), yaw)
    if table is None:
        return False
    _chairs_around(plan, table)
    for _ in range(int(plan.rng.random() * 2.4)):
        plan.on_top(("vase", "small plant", "ornament"), table, plan.between(-0.8, 0.8))
    _some(
        plan,
        [
            (0.5, lambda: _dresser(plan)),
            (0.35, lambda: plan.against_wall("bookcase", clear=0.3)),
            (0.2, lambda: plan.against_wall("wardrobe", clear=0.4)),
            (0.5, lambda: _corner_or_wall(plan, "plant")),
            (0.3, lambda: _corner_or_wall(plan, "floor lamp")),
            (0.15, lambda: plan.against_wall("fireplace", clear=0.5)),
            (0.1, lambda: plan.against_wall("piano", clear=0.5)),
        ],
    )
    return True


def _chairs_around(plan: Plan, table: int) -> None:
    """Chairs, alike as a rule, at the long sides and sometimes at the ends."""
    chair = plan.models.choose("chair", plan.rng)
    if chair is None:
        return
    there, alike = plan.objects[table], plan.chance(0.85)
    scales: dict[Model, np.ndarray] = {}
    width, depth = there.size[:2]
    along = min(max(int((width - 0.1) / 0.62), 1), 3)
    ends = plan.chance(0.5) if depth >= 0.6 else False
    for side, count, reach, beyond in (
        (0, along, width, depth),
        (2, along, width, depth),
        (1, 1, depth, width),
        (3, 1, depth, width),
    ):
        if side % 2 and not ends:
            continue
        for number in range(count):
            if plan.chance(0.12):
                continue
            model = chair if alike else plan.models.choose("chair", plan.rng) or chair
            scale = scales.setdefault(model, plan.scale(model))
            at = (number + 0.5) / count * reach - reach / 2 + plan.between(-0.04, 0.04)
            # At a yaw of 180 it faces what is behind it in y: its front is towards the table in the south.
            turn = 180 + plan.between(-10, 10)
            _, _, _, half = bounds(0, 0, turn, model.asset.size[0] * scale[0], model.asset.size[1] * scale[1])
            local = np.array([at, -beyond / 2 - plan.between(0.01, 0.15) - half, 0.0])
            c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][side]
            x, y, _ = (
                np.array([c * local[0] - s * local[1], s * local[0] + c * local[1], 0.0]) @ there.turn + there.position
            )
            plan.add("chair", model, scale, x, y, there.yaw + turn + 90 * side, near=table)
