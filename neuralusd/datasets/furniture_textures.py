"""Procedural floor and wall textures: planks, tiles, checker, carpet, plaster, brick, plain. Tileable small images."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

SIZE = 256
KINDS = ("planks", "tiles", "checker", "carpet", "plaster", "bricks", "stripes", "plain")


def texture_names(count: int) -> list[str]:
    """File names of the first `count` textures."""
    return sorted(f"{KINDS[index % len(KINDS)]}_{index:03d}.png" for index in range(count))


def write_texture(folder: Path, name: str, seed: int = 0) -> Path:
    """The texture `name` in `folder`, made if it is not there yet; workers may ask for it at the same time."""
    import PIL.Image

    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kind, number = path.stem.rsplit("_", 1)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".png", delete=False) as temporary:
            PIL.Image.fromarray(make_texture(kind, np.random.default_rng([seed, int(number)]))).save(temporary)
        Path(temporary.name).chmod(0o644)
        os.replace(temporary.name, path)
    return path


def make_texture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(256, 256, 3) uint8 sRGB of one of `KINDS`."""
    row, column = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    base, second = _color(rng), _color(rng)
    if kind == "planks":
        boards = int(rng.choice([4, 6, 8]))
        width = SIZE // boards
        board = column // width % boards
        cut = rng.integers(0, SIZE, boards)
        plank = board * 2 + ((row + cut[board]) // (SIZE // 2) % 2)
        tone = rng.uniform(0.7, 1.15, boards * 2)[plank]
        wood = np.array([rng.uniform(0.45, 0.75), rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.35)])
        image = wood * (tone * (1 + 0.12 * _noise(rng, (2, 64))))[..., None]
        joint = (column % width < 2) | ((row + cut[board]) % (SIZE // 2) < 2)
        image = np.where(joint[..., None], image * 0.45, image)
    elif kind == "tiles":
        tiles = int(rng.choice([2, 4, 6]))
        size = SIZE // tiles
        tone = rng.uniform(0.85, 1.1, (tiles + 1, tiles + 1))[row // size, column // size]
        image = base * (tone * (1 + 0.05 * _noise(rng, (8, 8))))[..., None]
        joint = (row % size < 4) | (column % size < 4)
        image = np.where(joint[..., None], base * rng.choice([0.45, 1.5]), image)
    elif kind == "checker":
        size = SIZE // int(rng.choice([2, 4, 8]))
        image = np.where(((row // size + column // size) % 2 == 0)[..., None], base, second)
        image = image * (1 + 0.04 * _noise(rng, (16, 16)))[..., None]
    elif kind == "carpet":
        grain = rng.normal(0, 0.12, (SIZE, SIZE)) + 0.15 * _noise(rng, (6, 6))
        image = base * (1 + grain)[..., None]
    elif kind == "bricks":
        high, wide = SIZE // 8, SIZE // 4
        course = row // high
        shifted = column + (course % 2) * wide // 2
        tone = rng.uniform(0.75, 1.15, (8, 5))[course, shifted // wide % 4]
        clay = np.array([rng.uniform(0.5, 0.8), rng.uniform(0.28, 0.5), rng.uniform(0.2, 0.4)])
        image = clay * (tone * (1 + 0.1 * rng.normal(0, 0.6, (SIZE, SIZE))))[..., None]
        joint = (row % high < 4) | (shifted % wide < 4)
        image = np.where(joint[..., None], np.full(3, rng.uniform(0.5, 0.8)), image)
    elif kind == "stripes":
        width = SIZE // int(rng.choice([4, 8, 16]))
        image = np.where((column // width % 2 == 0)[..., None], base, base * 0.7 + second * 0.3)
    elif kind == "plaster":
        image = base * (1 + 0.08 * _noise(rng, (5, 5)) + 0.03 * rng.normal(size=(SIZE, SIZE)))[..., None]
    elif kind == "plain":
        image = np.broadcast_to(base, (SIZE, SIZE, 3))
    else:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, not {kind!r}")
    return np.rint(np.clip(image, 0.02, 0.95) * 255).astype(np.uint8)


def _color(rng: np.random.Generator) -> np.ndarray:
    """A muted to bright sRGB colour."""
    import colorsys

    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.05, 0.55), rng.uniform(0.45, 0.92)))


def _noise(rng: np.random.Generator, cells: tuple[int, int]) -> np.ndarray:
    """(256, 256) smooth noise about 0 that tiles, with `cells` bumps a side."""
    from scipy.ndimage import zoom

    factor = SIZE / cells[0], SIZE / cells[1]
    fine = zoom(rng.normal(size=cells), factor, order=3, mode="grid-wrap", grid_mode=True)
    return fine / max(float(np.abs(fine).max()), 1e-9)
