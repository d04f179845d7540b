"""The furniture of the demo's rooms. Metres, Z up; an asset's origin is on the floor, and its front looks along -Y."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .author import Asset
from .shapes import Shape, bar, block, board, circle, curve, joined, lathe, loft, rounded, sheet, slab, tube

# Sizes of the textures' tiles.
GRAIN = (1.2, 0.6)
WEAVE = 0.24


def armchair(folder: Path) -> Path:
    """A tub chair: one upholstered back that runs round into the arms, and cushions in it."""
    asset = Asset(folder, "Armchair")
    cloth = asset.look("Cloth", (0.075, 0.215, 0.30), "weave", 0.9)
    wood = asset.look("Wood", (0.75, 0.75, 0.75), "oak", 0.45)
    asset.mesh("Back", _tub().tiled(WEAVE), cloth)
    base = slab(rounded(0.62, 0.62, 6), 0.17, 0.30, 0.035).moved(0, -0.01)
    asset.mesh("Base", base.tiled(WEAVE), cloth)
    seat = block(0.56, 0.64, 0.17, 0.055, puff=0.025).moved(0, -0.035, 0.375)
    asset.mesh("Seat", seat.tiled(WEAVE), cloth)
    pillow = block(0.50, 0.15, 0.36, 0.06, puff=0.035).turned("x", 14).moved(0, 0.235, 0.60)
    asset.mesh("Pillow", pillow.tiled(WEAVE), cloth)
    legs = [bar((0.27 * x, 0.25 * y, 0.2), (0.31 * x, 0.30 * y, 0), (0.021, 0.013)) for x in (-1, 1) for y in (-1, 1)]
    asset.mesh("Legs", joined(*legs).tiled(*GRAIN), wood)
    return asset.save()


def _tub() -> Shape:
    """Back and arms as one: an upright cushion swept along a horseshoe, higher and leaning outward behind."""
    plan = curve(
        [(0.335, -0.34), (0.335, -0.1), (0.325, 0.1), (0.23, 0.255), (0, 0.305), (-0.23, 0.255), (-0.325, 0.1),
         (-0.335, -0.1), (-0.335, -0.34)], 17,
    )  # fmt: skip
    along = np.gradient(plan, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.stack([along[:, 1], -along[:, 0]], 1)
    behind = np.clip((plan[:, 1] + 0.05) / 0.3, 0, 1)
    behind = behind**2 * (3 - 2 * behind)
    top, lean = 0.555 + 0.235 * behind, 0.03 + 0.10 * behind
    rings = []
    for i in range(len(plan)):
        # Outward and up of a section, from the inner foot over the top to the outer foot.
        section = [(-0.055, 0.17), (-0.06, 0.32), (-0.06, top[i] - 0.05), (-0.05, top[i]), (0.05, top[i])]
        section += [(0.06, top[i] - 0.05), (0.06, 0.32), (0.05, 0.17)]
        ring = [(*(plan[i] + out[i] * (o + lean[i] * (z - 0.17) / 0.6)), z) for o, z in section]
        rings.append(ring)
    # A last ring inside the first rounds the arms' fronts.
    grown = [_shrunk(rings[0], 0.72, (0, -0.012, 0)), *rings, _shrunk(rings[-1], 0.72, (0, -0.012, 0))]
    return loft(np.array(grown))


def _shrunk(ring: list[tuple[float, ...]], share: float, offset: tuple[float, float, float]) -> list:
    middle = np.mean(ring, axis=0)
    return [tuple(middle + (np.array(p) - middle) * share + np.array(offset)) for p in ring]


def shell_chair(folder: Path) -> Path:
    """A moulded shell with an upholstered inside, on turned legs with wire struts."""
    asset = Asset(folder, "ShellChair")
    shell = asset.look("Shell", (0.80, 0.77, 0.70), roughness=0.35)
    cloth = asset.look("Cloth", (0.76, 0.42, 0.075), "weave", 0.9)
    wood = asset.look("Wood", (1, 1, 1), "beech", 0.45)
    wire = asset.look("Wire", (0.02, 0.02, 0.022), roughness=0.4, metallic=1.0)
    asset.mesh("Shell", sheet(_seat(1.0, 0.0), 0.014), shell)
    asset.mesh("Pad", sheet(_seat(0.90, 0.016), 0.020).tiled(WEAVE), cloth)
    tops = [(0.13 * x, y, 0.415) for x in (-1, 1) for y in (-0.13, 0.12)]
    feet = [(0.215 * x, y, 0.0) for x in (-1, 1) for y in (-0.225, 0.245)]
    legs = joined(*(bar(t, f, (0.017, 0.011)) for t, f in zip(tops, feet, strict=True)))
    asset.mesh("Legs", legs.tiled(*GRAIN), wood)
    asset.mesh("Struts", joined(*_struts(np.array(tops), np.array(feet))), wire)
    return asset.save()


def _seat(size: float, lift: float) -> np.ndarray:
    """(n, m, 3) of the shell's inside, from the front edge up to the top of the back, left to right.

    Args:
        size: of the part of it that is taken about its middle. lift: how far in front of it.
    """
    side = [(-0.245, 0.405), (-0.235, 0.437), (-0.15, 0.447), (-0.03, 0.432), (0.08, 0.428), (0.165, 0.455),
            (0.205, 0.53), (0.23, 0.63), (0.255, 0.73), (0.272, 0.80), (0.28, 0.835)]  # fmt: skip
    wide = [0.165, 0.20, 0.222, 0.235, 0.24, 0.24, 0.236, 0.226, 0.21, 0.185, 0.15]
    bowl = [0.0, 0.015, 0.04, 0.065, 0.09, 0.12, 0.125, 0.10, 0.07, 0.045, 0.03]
    rows = curve(np.c_[side, wide, bowl], 15)
    along = np.gradient(rows[:, :2], axis=0)
    inward = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    across = np.array([-1, -0.9, -0.6, -0.2, 0.2, 0.6, 0.9, 1])
    grid = np.zeros((len(rows), len(across), 3))
    for j, t in enumerate(across * size):
        at = rows[:, :2] + inward * (rows[:, 3:] * abs(t) ** 2.2 + lift)
        grid[:, j] = np.c_[t * rows[:, 2], at]
    if size < 1:
        keep = np.linspace(0.055, 0.945, len(rows)) * (len(rows) - 1)
        grid = np.stack([_at(grid, k) for k in keep])
    return grid


def _at(rows: np.ndarray, index: float) -> np.ndarray:
    low = min(int(index), len(rows) - 2)
    return rows[low] + (rows[low + 1] - rows[low]) * (index - low)


def _struts(tops: np.ndarray, feet: np.ndarray) -> list[Shape]:
    """Wires between the legs, crossed below the seat."""
    high, low = tops + (feet - tops) * 0.1, tops + (feet - tops) * 0.5
    pairs = [(0, 1), (2, 3), (0, 2), (1, 3)]
    wires = [tube(np.array([high[a], low[b]]), 0.0045, 6) for a, b in pairs + [(b, a) for a, b in pairs]]
    return wires


def table(folder: Path) -> Path:
    """A low table of oak with a softly rounded top."""
    asset = Asset(folder, "Table")
    wood = asset.look("Wood", (0.92, 0.92, 0.92), "oak", 0.4)
    asset.mesh("Top", slab(rounded(0.98, 0.58, 5, 32), 0.355, 0.39, 0.012).tiled(*GRAIN), wood)
    legs = [bar((0.34 * x, 0.17 * y, 0.36), (0.41 * x, 0.23 * y, 0), (0.024, 0.014)) for x in (-1, 1) for y in (-1, 1)]
    rails = [block(0.66, 0.022, 0.05, 0.005).moved(0, 0.165 * y, 0.327) for y in (-1, 1)]
    rails += [block(0.022, 0.31, 0.05, 0.005).moved(0.335 * x, 0, 0.327) for x in (-1, 1)]
    asset.mesh("Legs", joined(*legs).tiled(*GRAIN), wood)
    asset.mesh("Rails", joined(*rails).tiled(*GRAIN), wood)
    return asset.save()


def vase(folder: Path) -> Path:
    """A thrown vase with painted bands."""
    asset = Asset(folder, "Vase")
    glaze = asset.look("Glaze", (1, 1, 1), "stripes", 0.3, clearcoat=0.3, clearcoatRoughness=0.15)
    outside = [(0.02, 0.0), (0.062, 0.0), (0.074, 0.004), (0.082, 0.02), (0.112, 0.085), (0.140, 0.16)]
    outside += [(0.148, 0.23), (0.130, 0.305), (0.090, 0.36), (0.062, 0.395), (0.054, 0.42), (0.060, 0.445)]
    outside += [(0.070, 0.455)]
    inside = [(0.068, 0.461), (0.056, 0.452), (0.046, 0.42), (0.055, 0.38), (0.07, 0.33)]
    shape = lathe(outside + inside, 20)
    # The texture runs once from foot to lip, by height, and once around.
    height = shape.points[shape.indices, 2] / 0.461
    shape.uv[:, 0] /= shape.uv[:, 0].max()
    shape.uv[:, 1] = np.clip(height, 0.005, 0.995)
    asset.mesh("Vase", shape, glaze)
    return asset.save()


def lamp(folder: Path) -> Path:
    """A standard lamp on three legs, with its light in it."""
    from pxr import Gf, UsdLux

    asset = Asset(folder, "Lamp")
    wood = asset.look("Wood", (0.9, 0.9, 0.9), "walnut", 0.4)
    brass = asset.look("Brass", (0.60, 0.42, 0.18), roughness=0.3, metallic=1.0)
    shade = asset.look("Shade", (0.80, 0.72, 0.58), "weave", 0.9, emissiveColor=(0.95, 0.62, 0.30))
    feet = [(0.27 * np.cos(a), 0.27 * np.sin(a)) for a in np.radians([90, 210, 330])]
    legs = [bar((0.05 * x / 0.27, 0.05 * y / 0.27, 1.12), (x, y, 0), (0.016, 0.011)) for x, y in feet]
    asset.mesh("Legs", joined(*legs).tiled(*GRAIN), wood)
    stem = [(0.03, 1.04), (0.062, 1.05), (0.066, 1.065), (0.064, 1.09), (0.03, 1.105), (0.011, 1.12), (0.009, 1.15)]
    stem += [(0.009, 1.30), (0.018, 1.31), (0.018, 1.33)]
    asset.mesh("Stem", lathe(stem, 12), brass)
    drum = np.array([(0.205, 1.17), (0.204, 1.175), (0.195, 1.24), (0.178, 1.38), (0.166, 1.465), (0.165, 1.47)])
    wall = np.r_[drum, (drum - [0.004, 0])[::-1]]
    rings = [np.c_[r * circle(24), np.full(24, z)] for r, z in [*wall, wall[0]]]
    asset.mesh("Shade", loft(np.stack(rings), (False, False)).tiled(WEAVE), shade)
    light = UsdLux.SphereLight.Define(asset.stage, "/Lamp/Light")
    light.CreateRadiusAttr(0.04)
    light.CreateIntensityAttr(320.0)
    light.CreateColorAttr(Gf.Vec3f(1.0, 0.72, 0.42))
    light.AddTranslateOp().Set(Gf.Vec3d(0, 0, 1.36))
    return asset.save()


def rug(folder: Path) -> Path:
    """A flat woven rug."""
    asset = Asset(folder, "Rug")
    wool = asset.look("Wool", (1, 1, 1), "rug", 0.95)
    width, depth = 2.5, 1.65
    shape = board(width, depth, 0.011, 0.004).moved(0, 0, 0.0055)
    flat = shape.points[shape.indices, :2] / [width, depth] + 0.5
    shape.uv[:] = np.clip(flat, 0.002, 0.998)
    asset.mesh("Rug", shape, wool)
    return asset.save()


def picture(folder: Path) -> Path:
    """A framed print; its back is at y = 0, its origin in the middle."""
    asset = Asset(folder, "Picture")
    wood = asset.look("Wood", (0.92, 0.92, 0.92), "oak", 0.4)
    paper = asset.look("Paper", (1, 1, 1), "print", 0.8)
    mat = asset.look("Mat", (0.86, 0.84, 0.79), roughness=0.9)
    width, height, bar_width, deep = 0.66, 0.84, 0.028, 0.032
    bars = [board(width, deep, bar_width).moved(0, 0, s * (height - bar_width) / 2) for s in (-1, 1)]
    bars += [board(bar_width, deep, height - 2 * bar_width).moved(s * (width - bar_width) / 2) for s in (-1, 1)]
    asset.mesh("Frame", joined(*bars).tiled(*GRAIN).moved(0, -deep / 2), wood)
    back = board(width - bar_width, 0.008, height - bar_width, 0.001).moved(0, -0.008)
    asset.mesh("Mat", back, mat)
    printed = board(0.45, 0.001, 0.60, 0.0004).moved(0, -0.0126)
    printed.uv[:] = printed.points[printed.indices][:, [0, 2]] / [0.45, 0.60] + 0.5
    asset.mesh("Print", printed, paper)
    return asset.save()


def wooden_chair(folder: Path) -> Path:
    """A kitchen chair: turned legs, a hollowed seat, a back of slats."""
    asset = Asset(folder, "WoodenChair")
    wood = asset.look("Wood", (1, 1, 1), "beech", 0.45)
    seat = slab(rounded(0.44, 0.43, 5, 24), 0.43, 0.465, 0.012)
    hollow = seat.points[:, 2] > 0.46
    centre = np.clip(1 - np.linalg.norm(seat.points[:, :2], axis=1) / 0.26, 0, 1)
    seat.points[:, 2] -= np.where(hollow, 0.01 * centre, 0)
    asset.mesh("Seat", seat.tiled(*GRAIN), wood)
    front = [(0.175 * x, -0.165) for x in (-1, 1)]
    legs = [bar((x, y, 0.435), (x * 1.12, y * 1.18, 0), (0.021, 0.014)) for x, y in front]
    for x in (-1, 1):
        post = [(0.205 * x, 0.235, 0.0), (0.19 * x, 0.195, 0.25), (0.183 * x, 0.178, 0.45), (0.183 * x, 0.20, 0.65),
                (0.186 * x, 0.25, 0.88)]  # fmt: skip
        legs.append(tube(curve(post, 9), [0.013, 0.015, 0.018, 0.021, 0.021, 0.02, 0.018, 0.016, 0.013]))
    legs += [bar((-0.18, -0.175, 0.22), (0.18, -0.175, 0.22), 0.010)]
    legs += [bar((0.185 * x, -0.18, 0.17), (0.193 * x, 0.2, 0.17), 0.010) for x in (-1, 1)]
    legs += [bar((-0.19, 0.015, 0.17), (0.19, 0.015, 0.17), 0.010)]
    asset.mesh("Legs", joined(*legs).tiled(*GRAIN), wood)
    slats = [_slat(z, y, tall) for z, y, tall in ((0.60, 0.193, 0.05), (0.71, 0.211, 0.05), (0.83, 0.236, 0.085))]
    asset.mesh("Slats", joined(*slats).tiled(*GRAIN), wood)
    return asset.save()


def _slat(z: float, y: float, tall: float) -> Shape:
    """A slat bent to the back that leans on it, between the posts."""
    xs = np.linspace(-0.185, 0.185, 7)
    section = [(-0.007, -0.5), (0.007, -0.5), (0.009, -0.3), (0.009, 0.3), (0.007, 0.5), (-0.007, 0.5), (-0.009, 0.3),
               (-0.009, -0.3)]  # fmt: skip
    rings = []
    for x in xs:
        bow = 0.035 * (1 - (x / 0.185) ** 2)
        rings.append([(x, y + bow + a + b * tall * 0.2, z + b * tall) for a, b in section])
    shape = loft(np.array(rings))
    shape.uv[:] = shape.uv[:, ::-1]
    return shape


def bookshelf(folder: Path) -> Path:
    """Open shelves with books."""
    asset = Asset(folder, "Bookshelf")
    wood = asset.look("Wood", (0.95, 0.95, 0.95), "walnut", 0.45)
    paper = asset.look("Books", (1, 1, 1), "spines", 0.7)
    bowl = asset.look("Bowl", (0.62, 0.66, 0.60), roughness=0.35)
    width, depth, levels, thick = 0.96, 0.30, (0.08, 0.43, 0.78, 1.13, 1.45), 0.026
    tall = levels[-1] + thick
    boards = [board(thick, depth, tall).moved(s * (width - thick) / 2, 0, tall / 2) for s in (-1, 1)]
    boards += [board(width - 2 * thick, depth - 0.024, thick).moved(0, -0.002, z) for z in levels]
    boards += [board(width - 2 * thick, 0.008, tall - 0.1).moved(0, depth / 2 - 0.008, tall / 2 + 0.03)]
    boards += [board(width - 2 * thick, 0.02, 0.067).moved(0, -depth / 2 + 0.03, 0.0335)]
    asset.mesh("Boards", joined(*boards).tiled(*GRAIN), wood)
    asset.mesh("Books", joined(*_books(levels[:-1], width / 2 - thick, thick / 2)), paper)
    dish = [(0.03, 0.0), (0.05, 0.0), (0.055, 0.01), (0.1, 0.06), (0.115, 0.09), (0.112, 0.094), (0.09, 0.06)]
    dish += [(0.04, 0.02)]
    asset.mesh("Dish", lathe(dish, 16).moved(0.23, -0.01, levels[3] + thick / 2), bowl)
    jar = [(0.03, 0.0), (0.055, 0.0), (0.07, 0.05), (0.075, 0.12), (0.05, 0.17), (0.03, 0.19), (0.035, 0.21)]
    jar += [(0.028, 0.21), (0.024, 0.18)]
    asset.mesh("Jar", lathe(jar, 16).moved(-0.26, -0.01, levels[4] + thick / 2), bowl)
    return asset.save()


def _books(levels: tuple[float, ...], half: float, above: float) -> list[Shape]:
    """Books that stand on the shelves: some rows full, some with a gap, the last book of a row leaning."""
    rng = np.random.default_rng(4)
    out = []
    for number, level in enumerate(levels):
        low, high = (-half, half)
        if number == 3:
            high = 0.08
        elif number == 1:
            low, high = -half, 0.22
        x = low + 0.004
        while True:
            wide = rng.uniform(0.022, 0.048)
            tall, deep = rng.uniform(0.19, 0.275), rng.uniform(0.15, 0.20)
            if x + wide > high - 0.004:
                break
            book = board(wide, deep, tall, 0.0025)
            _spine(book, int(rng.integers(16)))
            out.append(book.moved(x + wide / 2, -0.13 + deep / 2 + rng.uniform(0, 0.02), level + above + tall / 2))
            x += wide + 0.0008
        if number in (1, 3):
            book = board(0.034, 0.17, 0.24, 0.0025)
            _spine(book, int(rng.integers(16)))
            lean = book.moved(0.017, 0, 0.12).turned("y", -16)
            out.append(lean.moved(x + 0.005, -0.04, level + above + 0.0))
    # Two that lie.
    for i, tone in enumerate((2, 3)):
        book = board(0.2, 0.16, 0.032, 0.0025)
        _spine(book, tone, lying=True)
        out.append(book.moved(0.34 - 0.01 * i, -0.03, levels[1] + above + 0.016 + 0.033 * i))
    return out


def books(folder: Path) -> Path:
    """Three books that lie on each other."""
    asset = Asset(folder, "Books")
    paper = asset.look("Books", (1, 1, 1), "spines", 0.7)
    pile, z = [], 0.0
    for number, size, turn in ((2, (0.25, 0.18, 0.034), 0), (3, (0.22, 0.155, 0.024), 14), (5, (0.19, 0.13, 0.03), -9)):
        book = board(*size, 0.0025)
        _spine(book, number, lying=True)
        pile.append(book.turned("z", turn).moved(0, 0, z + size[2] / 2))
        z += size[2]
    asset.mesh("Pile", joined(*pile), paper)
    return asset.save()


def _spine(book: Shape, number: int, lying: bool = False) -> None:
    """Texture coordinates of a book at the origin: its spine in front, covers beside, pages above."""
    size = np.ptp(book.points, axis=0)
    at = book.points[book.indices] / size + 0.5
    u, v = (at[:, 2], at[:, 0]) if lying else (at[:, 0], at[:, 2])
    starts = np.concatenate([[0], np.cumsum(book.counts)[:-1]])
    middle = np.add.reduceat(book.points[book.indices], starts) / book.counts[:, None] / size
    pages = np.repeat(np.abs(middle[:, 0 if lying else 2]) > 0.49, book.counts)
    book.uv[:, 0] = (number + 0.15 + 0.7 * u) / 16
    book.uv[:, 1] = np.where(pages, 0.02, 0.06 + 0.93 * v)


def plant(folder: Path) -> Path:
    """A rubber plant in a glazed pot."""
    asset = Asset(folder, "Plant")
    glaze = asset.look("Pot", (0.56, 0.60, 0.58), roughness=0.35)
    soil = asset.look("Soil", (0.035, 0.022, 0.015), roughness=1.0)
    green = asset.look("Leaf", (1, 1, 1), "leaf", 0.35)
    bark = asset.look("Stem", (0.11, 0.085, 0.05), roughness=0.8)
    pot = [(0.05, 0.0), (0.11, 0.0), (0.122, 0.01), (0.14, 0.12), (0.158, 0.25), (0.166, 0.285), (0.166, 0.30)]
    pot += [(0.158, 0.304), (0.150, 0.30), (0.146, 0.26), (0.13, 0.22)]
    asset.mesh("Pot", lathe(pot, 20, (True, False)), glaze)
    earth = lathe([(0.152, 0.262), (0.12, 0.272), (0.05, 0.275)], 16, (False, True))
    asset.mesh("Soil", earth, soil, double_sided=True)
    rng = np.random.default_rng(12)
    stems, leaves = [], []
    for number, (lean, tall) in enumerate(((0.16, 1.22), (0.2, 0.95), (0.12, 0.76))):
        around = 2.1 * number + 0.6
        way = np.array([np.cos(around), np.sin(around)])
        knots = [(*(way * (0.04 + lean * t**1.6)), 0.26 + (tall - 0.26) * t) for t in (0, 0.35, 0.7, 1)]
        path = curve(knots, 10)
        stems.append(tube(path, [0.011, *np.linspace(0.0105, 0.005, 9)], 6))
        count = int(11 * tall)
        for i in range(count):
            share = 0.22 + 0.78 * (i + 1) / count
            base = _at(path, share * (len(path) - 1))
            angle = 2.4 * i + 1.3 * number + rng.normal(0, 0.25)
            size = (0.30 - 0.10 * share) * rng.uniform(0.9, 1.1)
            rise = 18 + 50 * share**2 + rng.normal(0, 7)
            leaves.append(_leaf(size, rise, np.degrees(angle)).moved(*base))
    asset.mesh("Stems", joined(*stems), bark)
    asset.mesh("Leaves", joined(*leaves), green, double_sided=True)
    return asset.save()


def _leaf(length: float, rise: float, turn: float) -> Shape:
    """A leaf that grows from the origin, folded a little along its midrib and hanging at its tip."""
    rows = np.array([0.0, 0.14, 0.16, 0.3, 0.55, 0.8, 0.95, 1.0])
    wide = 0.27 * length * np.array([0.03, 0.03, 0.25, 0.85, 1.0, 0.68, 0.22, 0.02])
    across = np.array([-1, -0.5, 0, 0.5, 1])
    grid = np.zeros((len(rows), len(across), 3))
    grid[..., 0] = wide[:, None] * across
    grid[..., 1] = rows[:, None] * length
    grid[..., 2] = (0.22 * wide[:, None] * abs(across)) - 0.30 * length * rows[:, None] ** 2.5
    shape = loft(grid, (False, False), around=False)
    t, s = np.divmod(shape.indices, len(across))
    shape.uv[:] = np.stack([0.5 + 0.48 * across[s], np.clip(rows[t], 0.01, 0.99)], 1)
    return shape.turned("x", rise).turned("z", turn)


def bench(folder: Path) -> Path:
    """A long stool with a woven seat."""
    asset = Asset(folder, "Bench")
    wood = asset.look("Wood", (0.95, 0.95, 0.95), "oak", 0.45)
    cloth = asset.look("Cloth", (0.62, 0.56, 0.45), "weave", 0.9)
    asset.mesh("Seat", block(1.06, 0.36, 0.09, 0.03, puff=0.012).moved(0, 0, 0.43).tiled(WEAVE), cloth)
    legs = [bar((0.46 * x, 0.13 * y, 0.40), (0.50 * x, 0.16 * y, 0), (0.022, 0.015)) for x in (-1, 1) for y in (-1, 1)]
    legs += [bar((-0.47, 0.14 * y, 0.34), (0.47, 0.14 * y, 0.34), 0.013) for y in (-1, 1)]
    legs += [bar((0.47 * x, -0.14, 0.34), (0.47 * x, 0.14, 0.34), 0.013) for x in (-1, 1)]
    asset.mesh("Legs", joined(*legs).tiled(*GRAIN), wood)
    return asset.save()


FURNITURE = (armchair, shell_chair, table, vase, lamp, rug, picture, wooden_chair, bookshelf, books, plant, bench)
