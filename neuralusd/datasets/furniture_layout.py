"""Where things stand in a furniture scene: objects on the floor, the ones that move, the camera, the room.

Only numpy: a layout is made from a random generator and the assets' boxes, metres, Z up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuralusd.datasets.furniture_assets import FurnitureAsset

FRAMES = 6
# style: (share, typical object size in metres, largest-side range of the models, range of the scale factor)
STYLES = {
    "furniture": (0.4, 1.1, (0.4, 5.0), (0.35, 2.0)),
    "tabletop": (0.35, 0.25, (0.04, 0.7), (0.4, 3.0)),
    "mixed": (0.25, 0.6, (0.0, 1e9), (0.0, 1e9)),
}
# of the image that one object's box may cover
LARGEST_SHARE = 0.55
OBJECT_COUNTS = {2: 0.18, 3: 0.24, 4: 0.21, 5: 0.15, 6: 0.1, 7: 0.07, 8: 0.05}


@dataclass
class Placement:
    """One object of a scene.

    Attributes:
        asset: what stands there.
        scale: uniform.
        translate: (frames, 3), metres, of the asset's origin.
        rotate: (frames, 3), degrees, as `xformOp:rotateXYZ`; z is the yaw.
        support: index of the placement it stands on; None on the floor.
        dropped: whether the rigid bodies decide its pose.
        tint: linear RGB, or None to keep the model's own colours.
    """

    asset: FurnitureAsset
    scale: float
    translate: np.ndarray
    rotate: np.ndarray
    support: int | None = None
    dropped: bool = False
    tint: tuple[float, float, float] | None = None

    @property
    def moves(self) -> bool:
        return bool(np.ptp(self.translate, axis=0).max() > 0 or np.ptp(self.rotate, axis=0).max() > 0)

    @property
    def box(self) -> np.ndarray:
        """(8, 3) corners in the object's space, scaled."""
        low = np.array(self.asset.minimum) * self.scale
        unit = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
        return low + unit * np.array(self.asset.size) * self.scale

    def corners(self, frame: int) -> np.ndarray:
        """(8, 3) corners of the box in world space."""
        return self.box @ euler_matrix(self.rotate[frame]) + self.translate[frame]

    def footprint(self, frame: int) -> np.ndarray:
        """(4, 2) corners of the rectangle on the floor that holds the object; it turns with the yaw."""
        x, y, z = self.rotate[frame]
        flat = (self.box @ euler_matrix((x, y, 0.0)))[:, :2]
        (x0, y0), (x1, y1) = flat.min(0), flat.max(0)
        rectangle = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return rectangle @ euler_matrix((0.0, 0.0, z))[:2, :2] + self.translate[frame, :2]

    def rest(self) -> None:
        """Lower or raise the object so that its box touches z = 0."""
        for frame in range(len(self.translate)):
            self.translate[frame, 2] -= self.corners(frame)[:, 2].min()


@dataclass
class Layout:
    """A whole scene. `eye` and `target` are (frames, 3) in metres; `fov` is horizontal, degrees."""

    style: str
    unit: float
    placements: list[Placement]
    eye: np.ndarray = field(default_factory=lambda: np.zeros((FRAMES, 3)))
    target: np.ndarray = field(default_factory=lambda: np.zeros((FRAMES, 3)))
    fov: float = 45.0


@dataclass
class Wall:
    """A wall from `start` to `end` (2,), metres; it faces the room."""

    start: np.ndarray
    end: np.ndarray
    height: float


def euler_matrix(degrees: np.ndarray | tuple[float, float, float]) -> np.ndarray:
    """(3, 3) for row vectors, of `xformOp:rotateXYZ`: about x first, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def overlap(a: np.ndarray, b: np.ndarray, margin: float = 0.0) -> bool:
    """Whether two rectangles (4, 2) come closer than `margin` (separating axes)."""
    for rectangle in (a, b):
        for edge in (rectangle[1] - rectangle[0], rectangle[2] - rectangle[1]):
            axis = np.array([-edge[1], edge[0]]) / max(float(np.linalg.norm(edge)), 1e-12)
            pa, pb = a @ axis, b @ axis
            if pa.max() + margin <= pb.min() or pb.max() + margin <= pa.min():
                return False
    return True


def place_on_floor(assets: list[FurnitureAsset], rng: np.random.Generator) -> Layout:
    """Choose a style, models and scales, and put them side by side on the floor, upright and apart."""
    shares = np.array([s[0] for s in STYLES.values()])
    style = str(rng.choice(list(STYLES), p=shares / shares.sum()))
    _, unit, (smallest, largest), (low, high) = STYLES[style]
    fitting = [a for a in assets if smallest <= max(a.size) <= largest] or assets
    count = int(rng.choice(list(OBJECT_COUNTS), p=np.array(list(OBJECT_COUNTS.values()))))
    layout = Layout(style, unit, [])
    for index in rng.choice(len(fitting), size=count, replace=count > len(fitting)):
        asset = fitting[int(index)]
        size = unit * np.exp(rng.uniform(np.log(0.65), np.log(1.35)))
        scale = float(np.clip(size / max(asset.size), low, high))
        _place_free(layout, Placement(asset, scale, np.zeros((FRAMES, 3)), np.zeros((FRAMES, 3))), rng)
    return layout


def _place_free(layout: Layout, placement: Placement, rng: np.random.Generator) -> None:
    """Give the placement a free spot near the middle, or leave it out when there is none."""
    best, best_distance = None, np.inf
    radius = layout.unit * 0.25
    for attempt in range(60):
        placement.rotate[:, 2] = rng.uniform(-180, 180)
        angle, distance = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform())
        placement.translate[:, :2] = distance * np.cos(angle), distance * np.sin(angle)
        rectangle = placement.footprint(0)
        if not any(overlap(rectangle, other.footprint(0), 0.04 * layout.unit) for other in layout.placements):
            if distance < best_distance:
                best, best_distance = (placement.translate.copy(), placement.rotate.copy()), distance
            if attempt > 6:
                break
        radius *= 1.05
    if best is not None:
        placement.translate, placement.rotate = best
        placement.rest()
        layout.placements.append(placement)


def move_some(layout: Layout, rng: np.random.Generator, share: float = 0.5) -> None:
    """Let about `share` of the objects slide over the floor and turn, without running into each other.

    What carries something stays; what is carried only turns.
    """
    carrying = {p.support for p in layout.placements if p.support is not None}
    steps = np.linspace(0.0, 1.0, FRAMES)
    for index, placement in enumerate(layout.placements):
        if index in carrying or rng.uniform() > share:
            continue
        start, turn = placement.translate.copy(), placement.rotate.copy()
        if placement.support is not None:
            placement.rotate[:, 2] = turn[0, 2] + steps * rng.uniform(-80, 80)
            continue
        reach = max(float(np.ptp(placement.footprint(0), axis=0).max()), 0.5 * layout.unit)
        others = [p for i, p in enumerate(layout.placements) if i != index and p.support is None]
        for _ in range(30):
            angle, distance = rng.uniform(0, 2 * np.pi), reach * rng.uniform(0.25, 1.0)
            step = np.array([np.cos(angle), np.sin(angle), 0.0]) * distance
            if np.linalg.norm(start[0, :2] + step[:2]) > 2.5 * layout.unit:
                continue
            placement.translate = start + steps[:, None] * step
            placement.rotate = turn.copy()
            placement.rotate[:, 2] = turn[0, 2] + steps * rng.uniform(-75, 75)
            if not any(
                overlap(placement.footprint(f), other.footprint(f), 0.01 * layout.unit)
                for other in others
                for f in range(FRAMES)
            ):
                break
        else:
            placement.translate, placement.rotate = start, turn


def aim_camera(layout: Layout, rng: np.random.Generator) -> None:
    """An orbit or a straight path of up to 60 degrees around the objects, as near as they fit."""
    corners = np.stack([[p.corners(f) for p in layout.placements] for f in range(FRAMES)])
    low, high = corners.min((0, 1, 2)), corners.max((0, 1, 2))
    # where the objects are most of the time, without the excursions of a single one
    middle = 0.5 * np.median(corners, axis=(0, 1, 2)) + 0.25 * (low + high) + rng.uniform(-0.06, 0.06, 3) * layout.unit
    steps = np.linspace(0.0, 1.0, FRAMES)
    azimuth = rng.uniform(0, 360) + steps * rng.uniform(15, 60) * rng.choice([-1, 1])
    elevation = np.clip(rng.uniform(12, 45) + steps * rng.uniform(-9, 9), 10, 48)
    a, e = np.radians(azimuth), np.radians(elevation)
    direction = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
    direction *= (1.0 + steps * rng.uniform(-0.15, 0.15))[:, None]
    if rng.uniform() < 0.4:
        direction = direction[0] + steps[:, None] * (direction[-1] - direction[0])
    layout.fov = float(rng.uniform(35, 60))
    fill = rng.uniform(1.05, 1.45)
    layout.target = np.repeat(middle[None], FRAMES, 0)
    near, far = 0.3 * layout.unit, 30 * layout.unit
    for _ in range(12):
        distance = np.sqrt(near * far)
        layout.eye = middle + direction * distance
        if _is_clear(layout) and _fits(layout, corners, fill):
            far = distance
        else:
            near = distance
    layout.eye = middle + direction * far
    layout.eye[:, 2] = np.maximum(layout.eye[:, 2], 0.1 * layout.unit)


def camera_matrix(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) camera to world for row vectors: looks down -Z at `target`, +Y up towards world Z."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(back, right), back
    matrix[3, :3] = eye
    return matrix


def _fits(layout: Layout, corners: np.ndarray, fill: float) -> bool:
    """Whether nearly nine of ten box corners are inside `fill` times the image, and no object hides the scene.

    `corners` is (frames, objects, 8, 3).
    """
    views = np.stack([np.linalg.inv(camera_matrix(e, t)) for e, t in zip(layout.eye, layout.target, strict=True)])
    local = corners @ views[:, None, :3, :3] + views[:, None, None, 3, :3]
    depth = -local[..., 2:]
    if depth.min() < 0.1 * layout.unit:
        return False
    image = local[..., :2] / (depth * np.tan(np.radians(layout.fov) / 2))
    reach = np.abs(image).max(-1).reshape(FRAMES, -1)
    if (np.quantile(reach, 0.88, axis=1) > fill).any():
        return False
    seen = np.ptp(np.clip(image, -1, 1), axis=2)
    return bool((seen.prod(-1) / 4).max() < LARGEST_SHARE)


def _is_clear(layout: Layout) -> bool:
    """Whether the eye keeps away from every object."""
    for placement in layout.placements:
        box = placement.box
        for frame in range(FRAMES):
            local = (layout.eye[frame] - placement.translate[frame]) @ euler_matrix(placement.rotate[frame]).T
            outside = np.maximum(np.maximum(box.min(0) - local, local - box.max(0)), 0.0)
            if np.linalg.norm(outside) < 0.35 * layout.unit:
                return False
    return True


def build_room(layout: Layout, rng: np.random.Generator) -> tuple[np.ndarray, list[Wall]]:
    """(4, 2) corners of the floor and two to four walls. Nothing, and no camera, is outside of the walls."""
    turn = euler_matrix((0.0, 0.0, rng.uniform(0, 360)))[:2, :2]
    unit = layout.unit
    objects = np.concatenate([p.corners(f) for p in layout.placements for f in range(FRAMES)])
    inside = objects[:, :2] @ turn.T
    eyes = layout.eye[:, :2] @ turn.T
    look = (layout.target - layout.eye).mean(0)[:2] @ turn.T
    look /= max(float(np.linalg.norm(look)), 1e-9)
    far = rng.uniform() < 0.2
    sides = [(0, -1), (0, 1), (1, -1), (1, 1)]
    facing = {side: side[1] * look[side[0]] for side in sides}
    walled, bound = {}, {}
    for order, side in enumerate(sorted(sides, key=lambda s: -facing[s])):
        axis, sign = side
        walled[side] = order < 2 or rng.uniform() < 0.35
        beyond_objects = (sign * inside[:, axis]).max() + unit * (rng.uniform(2, 5) if far else rng.uniform(0.05, 1.2))
        beyond_eyes = (sign * eyes[:, axis]).max() + unit * rng.uniform(0.4, 2.0)
        bound[side] = sign * max(beyond_objects, beyond_eyes if walled[side] else -np.inf)
        if not walled[side]:
            bound[side] = sign * max(beyond_objects, beyond_eyes) + sign * 8 * unit
    (x0, x1), (y0, y1) = (bound[0, -1], bound[0, 1]), (bound[1, -1], bound[1, 1])
    local = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    floor = local @ turn
    height = max(float(objects[:, 2].max()) * 1.3, unit * rng.uniform(2.2, 4.0), float(layout.eye[:, 2].max()) * 1.05)
    edges = {(1, -1): (0, 1), (0, 1): (1, 2), (1, 1): (2, 3), (0, -1): (3, 0)}
    return floor, [Wall(floor[i], floor[j], height) for side, (i, j) in edges.items() if walled[side]]
