"""Procedural textures: wood, cloth, tiles, a rug, a print. All but the pictures among them tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def make_texture(name: str) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of one of `TEXTURES`; its first row is the top."""
    rng = np.random.default_rng(sorted(TEXTURES).index(name))
    return np.round(np.clip(TEXTURES[name](rng), 0, 1) * 255).astype(np.uint8)


def _noise(rng: np.random.Generator, shape: tuple[int, int], soft: tuple[float, float]) -> np.ndarray:
    """Smooth noise that tiles, of mean 0 and deviation 1; `soft` is its grain in pixels, down and across."""
    from scipy.ndimage import gaussian_filter

    out = gaussian_filter(rng.standard_normal(shape), soft, mode="wrap")
    return (out - out.mean()) / out.std()


def _mix(low: list[float], high: list[float], share: np.ndarray) -> np.ndarray:
    """(..., 3) between two colours."""
    return np.array(low) + (np.array(high) - np.array(low)) * np.clip(share, 0, 1)[..., None]


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pixels' centres, 0 to 1."""
    rows, columns = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return rows, columns


def _grain(rng: np.random.Generator, height: int, width: int, rings: float) -> np.ndarray:
    """(height, width) of wood, about 0 to 1, its grain along the rows."""
    rows, _ = _grid(height, width)
    bend = 0.05 * _noise(rng, (height, width), (height / 10, width / 6))
    ring = 0.5 + 0.5 * np.cos(2 * np.pi * rings * (rows + bend))
    fibre = _noise(rng, (height, width), (0.6, width / 14))
    pores = np.clip(_noise(rng, (height, width), (0.5, width / 40)) - 1.6, 0, 1)
    return 0.5 + 0.22 * (ring - 0.5) + 0.11 * fibre + 0.1 * _noise(rng, (height, width), (4, width / 5)) - 0.25 * pores


def _wood(low: list[float], high: list[float], size: tuple[int, int] = (192, 384), rings: float = 7) -> Callable:
    return lambda rng: _mix(low, high, _grain(rng, *size, rings))


def _planks(
    low: list[float], high: list[float], boards: int, size: tuple[int, int], spread: float = 0.2
) -> Callable[[np.random.Generator], np.ndarray]:
    """Boards along the rows, each of two pieces."""

    def make(rng: np.random.Generator) -> np.ndarray:
        height, width = size
        tall = height // boards
        out = np.zeros((height, width, 3))
        for board in range(boards):
            cut = int(width * rng.uniform(0.38, 0.62))
            strip = np.concatenate(
                [_grain(rng, tall, w, rng.uniform(1.5, 4)) + rng.normal(0, spread) for w in (cut, width - cut)], 1
            )
            color = _mix(low, high, strip) * (1 + rng.normal(0, 0.02, 3))
            edge = np.ones((tall, width))
            edge[0], edge[1], edge[-1] = 0.42, 0.8, 0.72
            for at in (cut, 0):
                edge[:, at - 1], edge[:, at] = 0.72, 0.45
            # The golden ratio keeps the joints of boards beside each other apart.
            shift = int(width * (board * 0.618 + rng.uniform(-0.05, 0.05)))
            out[board * tall : (board + 1) * tall] = np.roll(color * edge[..., None], shift, 1)
        return out

    return make


def _weave(rng: np.random.Generator) -> np.ndarray:
    """Light cloth of crossing threads, to be tinted."""
    size, threads = 256, 24
    rows, columns = _grid(size, size)
    over = (np.floor(rows * threads) + np.floor(columns * threads)) % 2
    across, down = np.sin(np.pi * (rows * threads % 1)), np.sin(np.pi * (columns * threads % 1))
    thread = np.where(over == 0, across**0.6 * (0.7 + 0.3 * down), down**0.6 * (0.7 + 0.3 * across))
    yarn = np.where(over == 0, _noise(rng, (size, size), (3, 14)), _noise(rng, (size, size), (14, 3)))
    value = 0.62 + 0.24 * thread + 0.05 * yarn + 0.03 * _noise(rng, (size, size), (20, 20))
    return np.repeat(value[..., None], 3, 2) * 1.02


def _plaster(rng: np.random.Generator) -> np.ndarray:
    """Nearly white, to be tinted."""
    size = (256, 256)
    layers = [share * _noise(rng, size, (soft, soft)) for share, soft in ((0.005, 40), (0.004, 6), (0.008, 1))]
    value = 0.93 + np.sum(layers, axis=0)
    return np.repeat(value[..., None], 3, 2)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    """Terracotta with cream bands, as painted on a wheel, from the foot (last row) to the lip."""
    height, width = 512, 256
    rows, _ = _grid(height, width)
    up = 1 - rows + 0.0025 * _noise(rng, (height, width), (12, 30))
    clay = _mix([0.66, 0.29, 0.17], [0.80, 0.41, 0.25], 0.5 + 0.22 * _noise(rng, (height, width), (2, 40)))
    cream = _mix([0.88, 0.81, 0.69], [0.96, 0.91, 0.81], 0.5 + 0.25 * _noise(rng, (height, width), (2, 30)))
    dark = _mix([0.24, 0.15, 0.13], [0.34, 0.2, 0.16], 0.5 + 0.2 * _noise(rng, (height, width), (3, 20)))
    out = clay
    # Middle and half width of each band, from the foot up.
    for middle, half, color in (
        (0.10, 0.022, cream), (0.155, 0.008, dark), (0.27, 0.035, cream), (0.27, 0.007, dark), (0.375, 0.02, cream),
        (0.455, 0.03, cream), (0.455, 0.009, dark), (0.54, 0.02, cream), (0.61, 0.009, dark), (0.67, 0.025, cream),
    ):  # fmt: skip
        edge = np.clip((half - abs(up - middle)) * height * 0.8 + 0.5, 0, 1)[..., None]
        out = out + (color - out) * edge
    return out * (1 + 0.03 * _noise(rng, (height, width), (0.7, 0.7)))[..., None]


def _tiles(rng: np.random.Generator) -> np.ndarray:
    """Terracotta tiles, laid straight, with light joints."""
    size, count = 512, 4
    rows, columns = _grid(size, size)
    tile = np.floor(rows * count).astype(int) * count + np.floor(columns * count).astype(int)
    tone = rng.normal(0, 0.2, count * count)[tile]
    hue = rng.normal(0, 0.02, (count * count, 3))[tile]
    blotch = 0.14 * _noise(rng, (size, size), (14, 14)) + 0.08 * _noise(rng, (size, size), (3, 3))
    clay = _mix([0.55, 0.32, 0.23], [0.77, 0.50, 0.37], 0.5 + tone + blotch) + hue
    inside = 0.5 - np.maximum(abs(rows * count % 1 - 0.5), abs(columns * count % 1 - 0.5))
    inside = inside * size / count + 0.8 * _noise(rng, (size, size), (4, 4))
    joint = np.clip((inside - 2.2) / 1.5, 0, 1)[..., None]
    worn = np.clip((inside - 2.2) / 7, 0, 1)[..., None]
    grout = _mix([0.62, 0.57, 0.51], [0.73, 0.69, 0.63], 0.5 + 0.2 * _noise(rng, (size, size), (2, 2)))
    return grout + (clay * (0.86 + 0.14 * worn) - grout) * joint


def _bricks(rng: np.random.Generator) -> np.ndarray:
    """Bricks under white paint."""
    size, courses, across = 512, 12, 4
    rows, columns = _grid(size, size)
    course = np.floor(rows * courses)
    along = (columns * across + 0.5 * (course % 2)) % across
    brick = (course * across + np.floor(along)).astype(int)
    y, x = rows * courses % 1, along % 1
    inside = np.minimum(np.minimum(y, 1 - y) * size / courses, np.minimum(x, 1 - x) * size / across)
    inside = inside + 0.9 * _noise(rng, (size, size), (3, 3))
    body = np.clip((inside - 2) / 3, 0, 1)
    light = 0.86 + rng.normal(0, 0.018, courses * across)[brick] + 0.015 * _noise(rng, (size, size), (2, 2))
    # The paint lies thinner over the joints, whose lower edge is in the bricks' shade.
    shade = 0.74 + 0.1 * np.clip(y, 0, 1)
    return np.stack([light, light * 0.985, light * 0.955], -1) * (shade + (1 - shade) * body)[..., None]


def _rug(rng: np.random.Generator) -> np.ndarray:
    """A flat woven rug, its length along the rows: zigzags and diamonds in bands, mirrored about both middles."""
    height, width, knots = 384, 576, 96
    rows, columns = _grid(height, width)
    cream, rust, indigo, ochre = [0.87, 0.82, 0.73], [0.66, 0.30, 0.20], [0.20, 0.27, 0.38], [0.80, 0.60, 0.30]
    # In knots, so that slanted lines are steps, as weaving makes them.
    y = np.floor(rows * knots * height / width) / knots - height / width / 2
    x = abs(np.floor(columns * knots) / knots - 0.5)
    wave = abs((y * 12) % 1 - 0.5)
    out = np.broadcast_to(np.array(cream), (height, width, 3)).copy()

    def band(low: float, high: float, color: list[float], where: np.ndarray | bool = True) -> None:
        out[(x >= low) & (x < high) & where] = color

    band(0.0, 0.11, cream)
    band(0.0, 0.11, rust, abs(x) * 1.05 + abs(wave - 0.25) * 0.26 < 0.075)
    band(0.0, 0.11, indigo, abs(x) * 1.05 + abs(wave - 0.25) * 0.26 < 0.035)
    band(0.125, 0.14, indigo)
    band(0.155, 0.235, ochre, abs((x - 0.195) - (wave - 0.25) * 0.1) < 0.012)
    band(0.155, 0.235, rust, abs((x - 0.205) - (wave - 0.25) * 0.1) < 0.009)
    band(0.25, 0.265, indigo)
    band(0.28, 0.36, rust)
    band(0.28, 0.36, cream, abs(x - 0.32) + abs(wave - 0.25) * 0.2 < 0.03)
    band(0.28, 0.36, indigo, abs(x - 0.32) + abs(wave - 0.25) * 0.2 < 0.013)
    band(0.375, 0.39, indigo)
    band(0.405, 0.418, ochre)
    band(0.432, 0.445, rust)
    band(0.465, 0.5, indigo)
    band(0.478, 0.487, cream)
    weft = 1 + 0.05 * np.sin(2 * np.pi * columns * knots * 2) * np.sin(2 * np.pi * rows * knots)
    worn = 1 + 0.035 * _noise(rng, (height, width), (8, 8)) + 0.05 * _noise(rng, (height, width), (0.6, 3))
    return out * (weft * worn)[..., None]


def _print(rng: np.random.Generator) -> np.ndarray:
    """A print to hang on a wall: a sun above hills."""
    height, width = 448, 336
    rows, columns = _grid(height, width)
    x, y = columns - 0.5, (1 - rows) * height / width
    paper = np.array([0.93, 0.89, 0.80])
    out = np.broadcast_to(paper, (height, width, 3)).copy()

    def lay(where: np.ndarray, color: list[float]) -> None:
        edge = np.clip(where * width + 0.5, 0, 1)[..., None]
        out[:] = out + (np.array(color) * (1 + 0.025 * grain) - out) * edge

    grain = _noise(rng, (height, width), (0.8, 0.8))[..., None]
    lay(0.16 - np.hypot(x - 0.08, y - 0.93), [0.82, 0.36, 0.22])
    lay(0.54 + 0.16 * np.cos(5 * x + 0.5) - y, [0.86, 0.66, 0.38])
    lay(0.47 + 0.13 * np.sin(6 * x + 0.6) - y, [0.47, 0.57, 0.52])
    lay(0.33 + 0.12 * np.cos(5.2 * x + 2.6) - y, [0.20, 0.33, 0.40])
    lay(0.16 + 0.07 * np.sin(7 * x + 2.2) - y, [0.13, 0.18, 0.24])
    for i in range(3):
        lay(0.0045 - abs(np.hypot(x - 0.08, y - 0.93) - 0.195 - 0.03 * i), [0.82, 0.36, 0.22])
    border = np.minimum(np.minimum(columns, 1 - columns) * width, np.minimum(rows, 1 - rows) * height)
    return np.where((border > 22)[..., None], out, paper)


def _view(rng: np.random.Generator) -> np.ndarray:
    """What is outside a window, out of focus: sky, far trees, a meadow."""
    size = 256
    rows, columns = _grid(size, size)
    hill = 0.52 + 0.05 * np.sin(5 * columns + 1) + 0.012 * _noise(rng, (size, size), (5, 5))
    tree = 0.46 + 0.10 * np.abs(_noise(rng, (1, size), (0, 9))) * np.ones((size, 1)) * 0.6
    sky = _mix([0.98, 0.97, 0.94], [0.62, 0.78, 0.93], 1.3 * (0.55 - rows) / 0.55)
    cloud = np.clip(0.5 * _noise(rng, (size, size), (9, 28)) - 0.1, 0, 1)[..., None] * 0.6
    out = sky + (1 - sky) * cloud
    far = _mix([0.42, 0.55, 0.50], [0.62, 0.71, 0.64], 0.5 + 0.2 * _noise(rng, (size, size), (7, 7)))
    near = _mix([0.36, 0.48, 0.24], [0.60, 0.68, 0.36], 0.5 + 0.25 * _noise(rng, (size, size), (5, 14)))
    out = np.where((rows > tree)[..., None], far, out)
    out = np.where((rows > hill)[..., None], near, out)
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(out, (2.2, 2.2, 0), mode="nearest")


def _spines(rng: np.random.Generator) -> np.ndarray:
    """Sixteen book spines side by side; the last row of each is its pages."""
    height, each = 192, 16
    colors = [
        [0.62, 0.22, 0.18], [0.85, 0.79, 0.66], [0.18, 0.30, 0.38], [0.86, 0.62, 0.26], [0.36, 0.45, 0.35],
        [0.92, 0.89, 0.83], [0.50, 0.26, 0.30], [0.26, 0.26, 0.29], [0.75, 0.44, 0.30], [0.48, 0.58, 0.62],
        [0.80, 0.74, 0.62], [0.16, 0.22, 0.30], [0.70, 0.62, 0.44], [0.33, 0.37, 0.30], [0.88, 0.83, 0.76],
        [0.58, 0.34, 0.22],
    ]  # fmt: skip
    out = np.zeros((height, each * len(colors), 3))
    for i, color in enumerate(colors):
        at = slice(i * each, (i + 1) * each)
        out[:, at] = color
        ink = [0.93, 0.86, 0.68] if np.mean(color) < 0.5 else [0.25, 0.2, 0.2]
        for top, tall in ((12, 3), (height - 30, 3), (int(rng.integers(30, 60)), int(rng.integers(20, 60)))):
            label = slice(i * each + 4, (i + 1) * each - 4) if tall > 3 else at
            rows = slice(top, top + tall)
            out[rows, label] = ink if tall <= 3 else 0.75 * np.array(color) + 0.25 * np.array(ink)
        if rng.uniform() < 0.6:
            out[80:130:7, i * each + 5 : (i + 1) * each - 5] = ink
    out[-8:] = [0.90, 0.86, 0.77]
    return out * (1 + 0.02 * _noise(rng, (height, out.shape[1]), (1.5, 1.5)))[..., None]


def _leaf(rng: np.random.Generator) -> np.ndarray:
    """A broad leaf: its stalk at the last row, a pale midrib along the middle."""
    height, width = 192, 96
    rows, columns = _grid(height, width)
    x = abs(columns - 0.5) * 2
    vein = 0.5 + 0.5 * np.cos(2 * np.pi * (11 * rows + 3.2 * x))
    light = 0.35 + 0.3 * (1 - x) + 0.12 * _noise(rng, (height, width), (6, 6))
    body = _mix([0.07, 0.20, 0.09], [0.20, 0.38, 0.15], light)
    body = body * (1 + 0.16 * np.clip(vein - 0.82, 0, 1) / 0.18 * (x < 0.95))[..., None]
    rib = np.clip((0.05 - x) / 0.02, 0, 1)[..., None]
    return body + (np.array([0.50, 0.60, 0.32]) - body) * 0.8 * rib


def _shirt(rng: np.random.Generator) -> np.ndarray:
    """A sailor's stripes across, eight to a tile."""
    size = 256
    rows, _ = _grid(size, size)
    stripe = np.clip((abs((rows * 8) % 1 - 0.5) - 0.29) * size / 8 + 0.5, 0, 1)
    knit = 1 + 0.025 * _noise(rng, (size, size), (0.7, 0.7)) + 0.02 * _noise(rng, (size, size), (8, 8))
    return _mix([0.93, 0.91, 0.86], [0.13, 0.20, 0.36], stripe) * knit[..., None]


TEXTURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "oak": _wood([0.50, 0.34, 0.20], [0.80, 0.62, 0.42]),
    "beech": _wood([0.62, 0.40, 0.25], [0.86, 0.64, 0.44], rings=4),
    "walnut": _wood([0.22, 0.13, 0.08], [0.48, 0.31, 0.20]),
    "oak_floor": _planks([0.50, 0.36, 0.23], [0.80, 0.63, 0.45], 8, (576, 576)),
    "walnut_floor": _planks([0.22, 0.13, 0.08], [0.50, 0.33, 0.21], 6, (576, 576)),
    "weave": _weave,
    "plaster": _plaster,
    "stripes": _stripes,
    "tiles": _tiles,
    "bricks": _bricks,
    "rug": _rug,
    "print": _print,
    "view": _view,
    "spines": _spines,
    "leaf": _leaf,
    "shirt": _shirt,
}
