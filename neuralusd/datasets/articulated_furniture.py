"""Furniture that moves in its joints, drawn at random: cabinets, chests of drawers, desk lamps, swivel chairs, trunks.

A model is rigid parts of boxes and turned shapes (cylinders and cones), joined by hinges and slides. Metres, Z up, on
z = 0, the front towards -Y. No USD; `neuralusd.datasets.articulated_stage` writes it as such.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

SIDES = 20  # of a turned shape


@dataclass(frozen=True)
class Shape:
    """A closed mesh in its part's space.

    Attributes:
        name: of the mesh in its part. points: (V, 3). faces: indices into them, counter-clockwise from outside.
        look: index of the model's colour.
    """

    name: str
    points: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    look: int


@dataclass(frozen=True)
class Joint:
    """How a part moves.

    Attributes:
        parent: name of the part that it moves on. kind: "revolute" or "prismatic".
        axis: "X", "Y" or "Z", of the model. lower, upper: degrees or metres from the pose that `Part.origin` tells.
    """

    parent: str
    kind: str
    axis: str
    lower: float
    upper: float


@dataclass
class Part:
    """A rigid part; `origin` (3,) is where its joint, and its own origin, is in the model at joint value 0."""

    name: str
    origin: np.ndarray
    shapes: list[Shape] = field(default_factory=list)
    joint: Joint | None = None

    def box(self, name: str, low: tuple[float, float, float], high: tuple[float, float, float], look: int) -> None:
        """Adds a box between two corners of the model's space at joint value 0."""
        corners = np.array([low, high]) - self.origin
        points = np.array(
            [[corners[i, 0], corners[j, 1], corners[k, 2]] for k in (0, 1) for j in (0, 1) for i in (0, 1)]
        )
        faces = ((0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5))
        self.shapes.append(Shape(name, points, faces, look))

    def turned(self, name: str, ends: tuple, radii: tuple[float, float], look: int) -> None:
        """Adds a cylinder or a cut cone from one point of the model's space to another, with a radius at each."""
        start, end = (np.asarray(point, float) - self.origin for point in ends)
        along = (end - start) / np.linalg.norm(end - start)
        beside = np.cross(along, [1.0, 0, 0] if abs(along[0]) < 0.9 else [0, 1.0, 0])
        beside /= np.linalg.norm(beside)
        turn = 2 * np.pi * np.arange(SIDES) / SIDES
        ring = np.cos(turn)[:, None] * beside + np.sin(turn)[:, None] * np.cross(along, beside)
        points = np.concatenate([start + radii[0] * ring, end + radii[1] * ring])
        nexts = (np.arange(SIDES) + 1) % SIDES
        walls = [(i, int(j), SIDES + int(j), SIDES + i) for i, j in enumerate(nexts)]
        caps = [tuple(range(SIDES - 1, -1, -1)), tuple(range(SIDES, 2 * SIDES))]
        self.shapes.append(Shape(name, points, tuple(walls + caps), look))


@dataclass
class Model:
    """Parts, the first of which stands still, after the parts that they move on; colours (L, 3) are linear."""

    kind: str
    text: str
    parts: list[Part]
    colors: np.ndarray

    def transforms(self, values: dict[str, float]) -> dict[str, np.ndarray]:
        """(4, 4) of every part to the model's space, for row vectors, at joint values by the parts' names."""
        found: dict[str, np.ndarray] = {}
        origins = {part.name: part.origin for part in self.parts}
        for part in self.parts:
            matrix = np.eye(4)
            if part.joint is None:
                matrix[3, :3] = part.origin
            else:
                value = values[part.name]
                axis = "XYZ".index(part.joint.axis)
                if part.joint.kind == "prismatic":
                    matrix[3, axis] = value
                else:
                    matrix[:3, :3] = rotation(part.joint.axis, value)
                matrix[3, :3] += part.origin - origins[part.joint.parent]
                matrix = matrix @ found[part.joint.parent]
            found[part.name] = matrix
        return found

    def bounds(self, transforms: list[dict[str, np.ndarray]]) -> np.ndarray:
        """(2, 3) lowest and highest corner of the model in all of these poses."""
        corners = [
            shape.points @ pose[part.name][:3, :3] + pose[part.name][3, :3]
            for pose in transforms
            for part in self.parts
            for shape in part.shapes
        ]
        points = np.concatenate(corners)
        return np.stack([points.min(0), points.max(0)])


def rotation(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) about a coordinate axis, for row vectors."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = sine, -sine
    return matrix


def draw_model(kind: str, rng: np.random.Generator) -> Model:
    """A model of a kind (see `KINDS`): sizes, counts, colours and ranges of its joints are drawn."""
    text, parts = KINDS[kind](rng)
    return Model(kind, text, parts, _colors(rng))


def draw_motion(model: Model, frames: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Values of the joints at each frame: every joint swings by itself between its limits, smoothly."""
    place = np.arange(frames) / max(1, frames - 1)
    swings = {}
    for part in model.parts:
        if part.joint is not None:
            phase = place * rng.uniform(0.8, 2.0) * rng.choice([-1, 1]) + rng.uniform()
            share = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
            swings[part.name] = part.joint.lower + share * (part.joint.upper - part.joint.lower)
    return [{name: float(values[frame]) for name, values in swings.items()} for frame in range(frames)]


def rest(model: Model) -> dict[str, float]:
    """Values of the joints in the pose in which the model is described: the middle of their ranges."""
    return {part.name: (part.joint.lower + part.joint.upper) / 2 for part in model.parts if part.joint is not None}


def _colors(rng: np.random.Generator) -> np.ndarray:
    """(4, 3) linear: of the body, of what moves, of handles and metal, and of the inside."""
    hue = rng.uniform()
    body = colorsys.hsv_to_rgb(hue, rng.uniform(0.25, 0.8), rng.uniform(0.45, 0.9))
    moving = colorsys.hsv_to_rgb((hue + rng.uniform(0.2, 0.8)) % 1, rng.uniform(0.35, 0.9), rng.uniform(0.5, 0.95))
    metal = 3 * (rng.uniform(0.1, 0.35),)
    inside = colorsys.hsv_to_rgb(hue, 0.2, 0.3)
    return np.array([body, moving, metal, inside]) ** 2.2


def _case(part: Part, low: tuple, high: tuple, wall: float, back: bool = True) -> None:
    """An open box of boards: its front (or, without `back`, its top) is missing."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    part.box("Left", (x0, y0, z0), (x0 + wall, y1, z1), 0)
    part.box("Right", (x1 - wall, y0, z0), (x1, y1, z1), 0)
    part.box("Bottom", (x0 + wall, y0, z0), (x1 - wall, y1, z0 + wall), 0)
    part.box("Back", (x0 + wall, y1 - wall, z0 + wall), (x1 - wall, y1, z1), 3 if back else 0)
    if back:
        part.box("Top", (x0 + wall, y0, z1 - wall), (x1 - wall, y1, z1), 0)
    else:
        part.box("Front", (x0 + wall, y0, z0 + wall), (x1 - wall, y0 + wall, z1), 0)


def _cabinet(rng: np.random.Generator) -> tuple[str, list[Part]]:
    width, depth, height = rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.5), rng.uniform(0.6, 1.3)
    wall, door = 0.03, 0.025
    x, y = width / 2, depth / 2
    body = Part("Body", np.zeros(3))
    _case(body, (-x, -y, 0), (x, y, height), wall)
    for shelf in range(1, int(rng.integers(2, 4))):
        level = shelf * height / 3
        body.box(f"Shelf_{shelf}", (-x + wall, -y + 0.02, level), (x - wall, y - wall, level + 0.02), 3)
    two = bool(width > 0.75)
    parts = [body]
    for side in (-1, 1) if two else (int(rng.choice([-1, 1])),):
        name = ("LeftDoor" if side < 0 else "RightDoor") if two else "Door"
        leaf = Part(name, np.array([side * x, -y, 0.0]))
        far = 0.004 * side if two else -side * x
        low, high = sorted((side * x, far))
        leaf.box("Panel", (low, -y - door, 0.01), (high, -y, height - 0.01), 1)
        grip = far + side * 0.06
        leaf.turned("Handle", ((grip, -y - door - 0.02, height * 0.45), (grip, -y - door - 0.02, height * 0.6)),
                    (0.012, 0.012), 2)  # fmt: skip
        opened = side * rng.uniform(75, 115)
        leaf.joint = Joint("Body", "revolute", "Z", min(0.0, opened), max(0.0, opened))
        parts.append(leaf)
    return f"a cabinet with {'two doors' if two else 'a door'}", parts


def _chest(rng: np.random.Generator) -> tuple[str, list[Part]]:
    count = int(rng.integers(2, 5))
    width, depth, height = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.55), count * rng.uniform(0.2, 0.3)
    wall, gap = 0.03, 0.008
    x, y = width / 2, depth / 2
    body = Part("Body", np.zeros(3))
    _case(body, (-x, -y, 0), (x, y, height), wall)
    parts = [body]
    each = (height - 2 * wall) / count
    for number in range(count):
        low = wall + number * each + gap
        high = wall + (number + 1) * each - gap
        drawer = Part(f"Drawer_{number}", np.array([0.0, -y, low]))
        inner = x - wall - gap
        drawer.box("Face", (-x + gap, -y - 0.02, low), (x - gap, -y, high), 1)
        drawer.box("Left", (-inner, -y, low), (-inner + 0.015, y - 0.06, high - 0.03), 3)
        drawer.box("Right", (inner - 0.015, -y, low), (inner, y - 0.06, high - 0.03), 3)
        drawer.box("Bottom", (-inner + 0.015, -y, low), (inner - 0.015, y - 0.06, low + 0.012), 3)
        drawer.box("Back", (-inner + 0.015, y - 0.075, low + 0.012), (inner - 0.015, y - 0.06, high - 0.03), 3)
        middle = (low + high) / 2
        drawer.turned("Handle", ((-0.3 * x, -y - 0.04, middle), (0.3 * x, -y - 0.04, middle)), (0.012, 0.012), 2)
        drawer.joint = Joint("Body", "prismatic", "Y", -rng.uniform(0.55, 0.8) * depth, 0.0)
        parts.append(drawer)
    return f"a chest of {('two', 'three', 'four')[count - 2]} drawers", parts


def _lamp(rng: np.random.Generator) -> tuple[str, list[Part]]:
    radius, lower, upper = rng.uniform(0.09, 0.14), rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.3)
    rod = rng.uniform(0.012, 0.02)
    base = Part("Base", np.zeros(3))
    base.turned("Foot", ((0, 0, 0), (0, 0, 0.03)), (radius, 0.9 * radius), 0)
    base.turned("Neck", ((0, 0, 0.03), (0, 0, 0.06)), (1.6 * rod, 1.6 * rod), 2)
    arm = Part("LowerArm", np.array([0, 0, 0.06]))
    elbow = 0.06 + lower
    arm.turned("Rod", ((0, 0, 0.06), (0, 0, elbow)), (rod, rod), 2)
    arm.turned("Knuckle", ((0, -1.8 * rod, elbow), (0, 1.8 * rod, elbow)), (1.8 * rod, 1.8 * rod), 0)
    arm.joint = Joint("Base", "revolute", "Y", -rng.uniform(25, 45), rng.uniform(15, 35))
    head = Part("Head", np.array([0, 0, elbow]))
    head.turned("Rod", ((0, 0, elbow), (upper, 0, elbow)), (rod, rod), 2)
    shade = rng.uniform(0.07, 0.11)
    head.turned("Shade", ((upper, 0, elbow + 0.06), (upper, 0, elbow - 0.08)), (0.4 * shade, shade), 1)
    head.joint = Joint("LowerArm", "revolute", "Y", -rng.uniform(35, 60), rng.uniform(15, 40))
    return "a desk lamp", [base, arm, head]


def _chair(rng: np.random.Generator) -> tuple[str, list[Part]]:
    width, height = rng.uniform(0.42, 0.52), rng.uniform(0.4, 0.5)
    x = width / 2
    base = Part("Base", np.zeros(3))
    legs = int(rng.integers(4, 6))
    for leg in range(legs):
        turn = 2 * np.pi * leg / legs
        out = 0.3 * np.array([np.cos(turn), np.sin(turn), 0])
        base.turned(f"Leg_{leg}", ((0, 0, 0.07), (out[0], out[1], 0.025)), (0.028, 0.022), 2)
    base.turned("Column", ((0, 0, 0.05), (0, 0, height)), (0.03, 0.03), 2)
    seat = Part("Seat", np.array([0, 0, height]))
    seat.box("Cushion", (-x, -x, height), (x, x, height + 0.07), 1)
    back = height + rng.uniform(0.4, 0.6)
    seat.box("Back", (-0.9 * x, x - 0.05, height + 0.07), (0.9 * x, x, back), 1)
    if rng.uniform() < 0.6:
        for name, side in (("LeftArm", -1), ("RightArm", 1)):
            inner, outer = sorted((side * x, side * (x + 0.05)))
            seat.box(name, (inner, -0.7 * x, height + 0.18), (outer, x, height + 0.22), 0)
            seat.box(f"{name}Post", (inner, -0.1 * x, height), (outer, 0.1 * x, height + 0.18), 0)
    seat.joint = Joint("Base", "revolute", "Z", -rng.uniform(60, 120), rng.uniform(60, 120))
    return "a swivel chair", [base, seat]


def _trunk(rng: np.random.Generator) -> tuple[str, list[Part]]:
    width, depth, height = rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.55), rng.uniform(0.3, 0.45)
    x, y, lid = width / 2, depth / 2, rng.uniform(0.05, 0.1)
    body = Part("Body", np.zeros(3))
    _case(body, (-x, -y, 0), (x, y, height), 0.03, back=False)
    cover = Part("Lid", np.array([0, y, height]))
    cover.box("Panel", (-x, -y, height + 0.004), (x, y, height + lid), 1)
    cover.box("Lock", (-0.05, -y - 0.02, height - 0.05), (0.05, -y, height + lid), 2)
    # Opened, the front edge goes up: about -X for a hinge at the back.
    cover.joint = Joint("Body", "revolute", "X", -rng.uniform(60, 100), 0.0)
    return "a trunk with a lid", [body, cover]


KINDS: dict[str, Callable[[np.random.Generator], tuple[str, list[Part]]]] = {
    "cabinet": _cabinet,
    "chest": _chest,
    "lamp": _lamp,
    "chair": _chair,
    "trunk": _trunk,
}
