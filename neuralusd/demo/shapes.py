"""Meshes made of a few rules: lofts, lathes, tubes, blocks and sheets, as cages of subdivision surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(eq=False)
class Shape:
    """A polygon mesh.

    Attributes:
        points: (V, 3) metres.
        counts: (F,) corners of each face; indices: (C,) vertices of the corners, counter-clockwise from outside.
        uv: (C, 2) texture coordinates of the corners.
        smooth: whether it is the cage of a Catmull-Clark surface; else its faces are flat.
    """

    points: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    uv: np.ndarray
    smooth: bool = True

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        return replace(self, points=self.points + np.array([x, y, z]))

    def turned(self, axis: str, degrees: float) -> Shape:
        """Turned about an axis through the origin, counter-clockwise seen against it."""
        return replace(self, points=self.points @ rotation(axis, degrees))

    def scaled(self, x: float, y: float | None = None, z: float | None = None) -> Shape:
        """Scaled by positive factors, all of them `x` where no others are given."""
        return replace(self, points=self.points * np.array([x, x if y is None else y, x if z is None else z]))

    def tiled(self, u: float, v: float | None = None) -> Shape:
        """With texture coordinates divided by the size of a tile."""
        return replace(self, uv=self.uv / np.array([u, u if v is None else v]))

    def faces(self, mask: np.ndarray) -> Shape:
        """Some of the faces (F,), and the points that they use."""
        corners = np.repeat(mask, self.counts)
        used, indices = np.unique(self.indices[corners], return_inverse=True)
        return replace(
            self, points=self.points[used], counts=self.counts[mask], indices=indices.reshape(-1), uv=self.uv[corners]
        )


def rotation(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) for row vectors."""
    i = "xyz".index(axis)
    a, b = (i + 1) % 3, (i + 2) % 3
    angle = np.radians(degrees)
    out = np.eye(3)
    out[a, a] = out[b, b] = np.cos(angle)
    out[a, b], out[b, a] = np.sin(angle), -np.sin(angle)
    return out


def joined(*shapes: Shape) -> Shape:
    """Shapes as one mesh; all of them smooth, or none."""
    offsets = np.cumsum([0, *(len(s.points) for s in shapes)])
    return Shape(
        np.concatenate([s.points for s in shapes]),
        np.concatenate([s.counts for s in shapes]),
        np.concatenate([s.indices + o for s, o in zip(shapes, offsets, strict=False)]),
        np.concatenate([s.uv for s in shapes]),
        shapes[0].smooth,
    )


def loft(rings: np.ndarray, caps: tuple[bool, bool] = (True, True), around: bool = True) -> Shape:
    """Quads between rings (n, m, 3) that run counter-clockwise seen against the way from first to last.

    Texture coordinates are metres: u round the longest ring, v along the way.

    Args:
        caps: whether a face closes the first and the last ring. around: whether rings are closed.
    """
    n, m, _ = rings.shape
    steps = np.linalg.norm(np.diff(np.concatenate([rings, rings[:, :1]], 1), axis=1), axis=2)
    u = np.concatenate([[0], np.cumsum(steps[steps.sum(1).argmax()])])
    v = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(rings, axis=0), axis=2).mean(1))])
    across = m if around else m - 1
    i, j = np.meshgrid(np.arange(n - 1), np.arange(across), indexing="ij")
    i, j = i.ravel(), j.ravel()
    corners = np.stack([[i, j], [i, j + 1], [i + 1, j + 1], [i + 1, j]])  # (4, 2, F)
    indices = (corners[:, 0] * m + corners[:, 1] % m).T.ravel()
    uv = np.stack([u[corners[:, 1]], v[corners[:, 0]]], -1).transpose(1, 0, 2).reshape(-1, 2)
    counts = [4] * len(i)
    for ring, wanted in zip((0, n - 1), caps, strict=True):
        if wanted:
            order = np.arange(m) if ring else np.arange(m)[::-1]
            indices = np.concatenate([indices, ring * m + order])
            uv = np.concatenate([uv, _flat(rings[ring])[order]])
            counts.append(m)
    return Shape(rings.reshape(-1, 3), np.array(counts), indices, uv)


def _flat(ring: np.ndarray) -> np.ndarray:
    """(m, 2) of a ring's points in its own plane."""
    _, _, axes = np.linalg.svd(ring - ring.mean(0))
    return (ring - ring.mean(0)) @ axes[:2].T


def cage(sides: int) -> float:
    """How much larger than a circle its regular cage of so many sides is, for the surface to be that circle."""
    return 6 / (4 + 2 * np.cos(2 * np.pi / sides))


def circle(sides: int) -> np.ndarray:
    """(sides, 2) of the cage of a circle of radius 1, counter-clockwise."""
    angle = 2 * np.pi * np.arange(sides) / sides
    return cage(sides) * np.stack([np.cos(angle), np.sin(angle)], 1)


def rounded(width: float, depth: float, power: float = 4.0, sides: int = 24) -> np.ndarray:
    """(sides, 2) of a superellipse about the origin: an ellipse at power 2, nearly a rectangle at 8."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    c, s = np.cos(angle), np.sin(angle)
    out = np.stack([np.sign(c) * abs(c) ** (2 / power) * width, np.sign(s) * abs(s) ** (2 / power) * depth], 1)
    return 0.5 * out


def lathe(profile: Sequence[tuple[float, float]], sides: int = 16, caps: tuple[bool, bool] = (True, True)) -> Shape:
    """A surface of revolution about Z of (radius, height) from the bottom, up the outside."""
    r, z = np.array(profile, float).T
    plan = circle(sides)
    rings = np.concatenate([r[:, None, None] * plan, np.broadcast_to(z[:, None, None], (len(r), sides, 1))], -1)
    return loft(rings, caps)


def slab(outline: np.ndarray, bottom: float, top: float, bevel: float) -> Shape:
    """An outline (m, 2), counter-clockwise, with a thickness; its edges are rounded by about `bevel`."""
    size = np.ptp(outline, axis=0)
    inset = outline * (1 - 2 * bevel / size)
    heights = (bottom, bottom, bottom + bevel, top - bevel, top, top)
    layers = zip((inset, outline, outline, outline, outline, inset), heights, strict=True)
    rings = np.stack([np.c_[plan, np.full(len(plan), z)] for plan, z in layers])
    shape = loft(rings)
    flat = np.abs(shape.points[shape.indices, 2][:, None] - [bottom, top]).min(1) < 1e-9
    # The grain of a top runs over its edge.
    return replace(shape, uv=np.where(flat[:, None], shape.points[shape.indices, :2], shape.uv))


def tube(path: np.ndarray, radius: float | Sequence[float], sides: int = 8, caps: bool = True) -> Shape:
    """A round bar along a path (n, 3), with a radius or one for each point; texture coordinate u runs along it."""
    path = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), len(path))
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    right = np.cross(along[0], [0.0, 0.0, 1.0] if abs(along[0, 2]) < 0.9 else [1.0, 0.0, 0.0])
    plan, rings = circle(sides), []
    for at, way, r in zip(path, along, radii, strict=True):
        # The frame is carried along the path without twisting.
        right = right - way * (right @ way)
        right /= np.linalg.norm(right)
        rings.append(at + r * (plan[:, :1] * right + plan[:, 1:] * np.cross(way, right)))
    return _lengthwise(loft(np.stack(rings), (caps, caps)))


def bar(start: Sequence[float], end: Sequence[float], radius: float | tuple[float, float], sides: int = 8) -> Shape:
    """A straight round bar with ends that are nearly flat, of one radius or tapered between two; u runs along it."""
    way = np.array(end, float) - np.array(start, float)
    length = float(np.linalg.norm(way))
    first, last = radius if isinstance(radius, tuple) else (radius, radius)
    edge = 0.35 * min(first, last)
    profile = [(0.6 * first, 0.0), (first, 0.0), (first, edge)]
    profile += [(last, length - edge), (last, length), (0.6 * last, length)]
    return _along(_lengthwise(lathe(profile, sides)), start, way / length)


def _lengthwise(shape: Shape) -> Shape:
    """With texture coordinates exchanged, so that the grain runs along what was lofted."""
    return replace(shape, uv=shape.uv[:, ::-1].copy())


def _along(shape: Shape, start: Sequence[float], way: np.ndarray) -> Shape:
    """A shape whose Z axis is turned into the direction `way` (3,), its origin at `start`."""
    right = np.cross([0.0, 1.0, 0.0] if abs(way[1]) < 0.9 else [1.0, 0.0, 0.0], way)
    right /= np.linalg.norm(right)
    return replace(shape, points=shape.points @ np.stack([right, np.cross(way, right), way]) + np.array(start, float))


def block(width: float, depth: float, height: float, bevel: float, puff: float = 0.0) -> Shape:
    """A box about the origin whose edges are rounded by about `bevel`; texture coordinates in metres, u along its
    longest side.

    Args:
        puff: how much the middle of its faces stands out, in metres, as a cushion's.
    """
    half = np.array([width, depth, height]) / 2
    steps = [np.array([-h, -h + min(bevel, 0.9 * h), h - min(bevel, 0.9 * h), h]) for h in half]
    lattice = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    number = np.arange(64).reshape(4, 4, 4)
    faces = []
    for axis in range(3):
        for side in (0, 3):
            grid = np.take(number, side, axis)
            faces.append(np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], -1).reshape(-1, 4))
    used, indices = np.unique(np.concatenate(faces), return_inverse=True)
    shape = _outward(Shape(lattice[used], np.full(54, 4), indices.reshape(-1), np.zeros((216, 2))))
    inside = np.abs(shape.points) < half - 1e-9
    middle = inside.sum(1, keepdims=True) == 2
    bulged = shape.points + puff * np.sign(shape.points) * (middle & ~inside)
    return box_mapped(replace(shape, points=bulged), int(half.argmax()))


def box_mapped(shape: Shape, along: int = 0) -> Shape:
    """With texture coordinates in metres, as seen from the axis that a face looks along; u runs along axis `along`."""
    corner = shape.points[shape.indices]
    facing = np.repeat(np.abs(_normals(shape)).argmax(1), shape.counts)
    uv = np.zeros((len(corner), 2))
    for axis in range(3):
        here = facing == axis
        rest = [a for a in range(3) if a != axis]
        first = along if along in rest else rest[0]
        second = next(a for a in rest if a != first)
        uv[here] = corner[here][:, [first, second]]
    return replace(shape, uv=uv)


def board(width: float, depth: float, height: float, chamfer: float = 0.002) -> Shape:
    """A box about the origin with flat faces and small chamfers, for what there is much of."""
    half = np.array([width, depth, height]) / 2
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    # Each corner has three points, one on each face that meets there.
    points = np.stack([signs * (half - chamfer * (1 - np.eye(3)[a])) for a in range(3)], 1).reshape(-1, 3)
    number = np.arange(24).reshape(2, 2, 2, 3)
    faces = []
    for axis in range(3):
        for side in (0, 1):
            face = np.take(number, side, axis)
            faces.append([face[a, b, axis] for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))])
            for other in (0, 1):
                # The edge along `axis` where these sides of the other two axes meet.
                one, two = (a for a in range(3) if a != axis)
                edge = np.take(np.take(number, other, two), side, one)
                faces.append([edge[0, one], edge[0, two], edge[1, two], edge[1, one]])
    faces += number.reshape(8, 3).tolist()
    counts = np.array([len(face) for face in faces])
    shape = Shape(points, counts, np.concatenate(faces), np.zeros((counts.sum(), 2)), smooth=False)
    return box_mapped(_outward(shape), int(half.argmax()))


def _normals(shape: Shape) -> np.ndarray:
    """(F, 3) of each face's first three corners, not of unit length."""
    starts = np.concatenate([[0], np.cumsum(shape.counts)[:-1]])
    a, b, c = (shape.points[shape.indices[starts + i]] for i in range(3))
    return np.cross(b - a, c - a)


def _outward(shape: Shape) -> Shape:
    """A convex shape about the origin with every face turned outward."""
    starts = np.concatenate([[0], np.cumsum(shape.counts)[:-1]])
    indices = shape.indices.copy()
    inward = (_normals(shape) * shape.points[indices[starts]]).sum(1) < 0
    for start, count in zip(starts[inward], shape.counts[inward], strict=True):
        indices[start : start + count] = indices[start : start + count][::-1]
    return replace(shape, indices=indices)


def sheet(grid: np.ndarray, thickness: float) -> Shape:
    """A sheet (n, m, 3) with a thickness, grown against its normal; texture coordinates in metres on both sides.

    Its front is where the grid's first axis points up and its second to the right.
    """
    n, m, _ = grid.shape
    normal = np.cross(np.gradient(grid, axis=1), np.gradient(grid, axis=0))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    front = loft(grid, (False, False), around=False)
    back = grid - thickness * normal
    number = np.arange(n * m).reshape(n, m)
    rim = np.concatenate([number[0, :-1], number[:-1, -1], number[-1, :0:-1], number[:0:-1, 0]])
    after = np.roll(rim, -1)
    other = n * m
    quads = front.indices.reshape(-1, 4)
    edge = np.stack([after, rim, rim + other, after + other], 1)
    flat = front.uv.reshape(-1, 4, 2)
    at = np.zeros((n * m, 2))
    at[quads.ravel()] = front.uv
    edge_uv = np.stack([at[after], at[rim], at[rim], at[after]], 1)
    every = np.concatenate([quads, quads[:, ::-1] + other, edge])
    uv = np.concatenate([flat, flat[:, ::-1], edge_uv]).reshape(-1, 2)
    points = np.concatenate([grid.reshape(-1, 3), back.reshape(-1, 3)])
    return Shape(points, np.full(len(every), 4), every.ravel(), uv)


def quad(corners: Sequence[Sequence[float]], uv: Sequence[Sequence[float]]) -> Shape:
    """One flat face, of any number of corners."""
    count = len(corners)
    return Shape(np.array(corners, float), np.array([count]), np.arange(count), np.array(uv, float), smooth=False)


def curve(points: Sequence[Sequence[float]], count: int) -> np.ndarray:
    """(count, k) on a smooth curve through points (n, k), evenly by its parameter (Catmull and Rom's spline)."""
    knots = np.array(points, float)
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    at = np.linspace(0, len(knots) - 1, count)
    i = np.minimum(at.astype(int), len(knots) - 2)
    t = (at - i)[:, None]
    a, b, c, d = (padded[i + k] for k in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
