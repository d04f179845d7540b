"""The empty rooms of the demo: floor, walls with openings, ceiling, skirting, windows. Metres, Z up.

A room is open at its front, behind the camera, where the sky's light comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pxr import UsdShade

from .author import Asset
from .shapes import Shape, bar, board, box_mapped, joined, quad, sheet

# The room reaches over x, y and z; its walls are this thick.
LEFT, RIGHT, FRONT, BACK, HEIGHT, THICK = -2.45, 2.45, -4.3, 2.2, 2.65, 0.18
WALLS = {"Left": ((LEFT, FRONT), (LEFT, BACK)), "Back": ((LEFT, BACK), (RIGHT, BACK)),
         "Right": ((RIGHT, BACK), (RIGHT, FRONT))}  # fmt: skip
# Left, right, bottom and top of an opening, along its wall.
Opening = tuple[float, float, float, float]


def oak_room(folder: Path) -> Path:
    """Oak boards, sage green walls, and a window on the left whose sun falls on the floor."""
    room = Asset(folder, "OakRoom")
    _shell(room, room.look("Floor", (0.95, 0.95, 0.95), "oak_floor", 0.42), 1.5, (0.56, 0.60, 0.49))
    _walls(room, {"Left": (2.2, 4.3, 0.75, 2.3)})
    return room.save()


def tile_room(folder: Path) -> Path:
    """Terracotta tiles, blue walls, and a window on the right."""
    room = Asset(folder, "TileRoom")
    _shell(room, room.look("Floor", (0.95, 0.95, 0.95), "tiles", 0.5), 1.2, (0.34, 0.45, 0.50))
    _walls(room, {"Right": (2.3, 4.2, 0.75, 2.3)})
    return room.save()


def plank_room(folder: Path) -> Path:
    """Walnut planks, painted bricks, and a window behind with curtains and a view."""
    room = Asset(folder, "PlankRoom")
    _shell(room, room.look("Floor", (1.05, 1.05, 1.05), "walnut_floor", 0.4), 1.5, (0.82, 0.78, 0.70))
    _walls(room, {"Back": (2.55, 4.2, 0.68, 1.9)}, room.look("Bricks", (1, 1, 1), "bricks", 0.8))
    view = room.look("View", (0, 0, 0), "view", 1.0)
    _emit(view)
    far = BACK + 2.2
    corners = [(-3.2, far, -1.2), (5.0, far, -1.2), (5.0, far, 2.75), (-3.2, far, 2.75)]
    card = quad(corners, [(0, 0), (1, 0), (1, 1), (0, 1)])
    room.mesh("View", card, view, double_sided=True)
    linen = room.look("Linen", (0.66, 0.58, 0.45), roughness=0.95)
    low, high = LEFT + 2.55, LEFT + 4.2
    curtains = [_curtain(low - 0.38, low + 0.04, 0), _curtain(high - 0.04, high + 0.38, 1)]
    room.mesh("Curtains", joined(*curtains), linen, double_sided=True)
    brass = room.look("Brass", (0.60, 0.42, 0.18), roughness=0.3, metallic=1.0)
    room.mesh("Rod", bar((low - 0.48, BACK - 0.09, 2.05), (high + 0.48, BACK - 0.09, 2.05), 0.012), brass)
    return room.save()


def _emit(look: UsdShade.Material) -> None:
    """Makes a textured look shine by its texture, as what is outside."""
    from pxr import Gf, Sdf

    surface = UsdShade.Shader(look.GetPrim().GetChild("Surface"))
    color = surface.GetInput("diffuseColor")
    texture = color.GetConnectedSources()[0][0]
    color.ClearSources()
    color.Set(Gf.Vec3f(0))
    image = UsdShade.Shader(look.GetPrim().GetChild("Texture"))
    image.GetInput("scale").Set(Gf.Vec4f(1.1, 1.1, 1.1, 1))
    surface.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(texture.source, "rgb")


def _shell(room: Asset, floor: UsdShade.Material, tile: float, paint: Sequence[float]) -> None:
    """Floor and ceiling, and the looks of the walls."""
    corners = [(LEFT, FRONT), (RIGHT, FRONT), (RIGHT, BACK), (LEFT, BACK)]
    ground = quad([(x, y, 0.0) for x, y in corners], [(y, x) for x, y in corners])
    room.mesh("Floor", ground.tiled(tile), floor, double_sided=True)
    above = quad([(x, y, HEIGHT) for x, y in corners[::-1]], corners[::-1])
    white = room.look("White", (0.82, 0.81, 0.78), roughness=0.6)
    room.mesh("Ceiling", above, white, double_sided=True)
    room.look("Paint", paint, "plaster", 0.85)


def _walls(room: Asset, openings: dict[str, Opening], bricks: UsdShade.Material | None = None) -> None:
    looks = {n: UsdShade.Material(room.stage.GetPrimAtPath(f"/{room.name}/Looks/{n}")) for n in ("Paint", "White")}
    for name, (start, end) in WALLS.items():
        opening = openings.get(name)
        look = bricks if bricks is not None and name == "Back" else looks["Paint"]
        room.mesh(f"{name}Wall", _standing(_wall(start, end, opening), start, end), look, double_sided=True)
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        skirting = board(length, 0.016, 0.09, 0.003).moved(length / 2, -0.008, 0.045)
        room.mesh(f"{name}Skirting", _standing(skirting, start, end), looks["White"])
        if opening is not None:
            room.mesh(f"{name}Window", _standing(_window(*opening), start, end), looks["White"])


def _standing(shape: Shape, start: tuple[float, float], end: tuple[float, float]) -> Shape:
    """A shape of a wall that runs along X and is seen against Y, put where the wall is."""
    turn = float(np.degrees(np.arctan2(end[1] - start[1], end[0] - start[0])))
    return shape.turned("z", turn).moved(*start)


def _wall(start: tuple[float, float], end: tuple[float, float], opening: Opening | None) -> Shape:
    """A wall along X from the origin, with an opening's reveal behind it; texture coordinates in tiles of a metre."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    if opening is None:
        return _upright(0, length, 0, HEIGHT)
    left, right, bottom, top = opening
    parts = [_upright(0, left, 0, HEIGHT), _upright(right, length, 0, HEIGHT)]
    parts += [_upright(left, right, 0, bottom), _upright(left, right, top, HEIGHT)]
    ring = [(left, bottom), (right, bottom), (right, top), (left, top)]
    for (x0, z0), (x1, z1) in zip(ring, ring[1:] + ring[:1], strict=True):
        reveal = quad([(x0, 0, z0), (x1, 0, z1), (x1, THICK, z1), (x0, THICK, z0)], [(0, 0)] * 4)
        parts.append(box_mapped(reveal))
    return joined(*parts)


def _upright(left: float, right: float, bottom: float, top: float) -> Shape:
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return quad([(x, 0.0, z) for x, z in corners], corners)


def _window(left: float, right: float, bottom: float, top: float) -> Shape:
    """A casement with six panes, and its sill."""
    width, height, deep, at = right - left, top - bottom, 0.05, 0.11
    middle = ((left + right) / 2, at, (bottom + top) / 2)
    # Each kind is less deep than the one before, so that no two faces lie in each other.
    bars = [board(0.06, deep, height).moved(s * (width - 0.06) / 2) for s in (-1, 1)]
    bars += [board(width - 0.02, deep - 0.008, 0.06).moved(0, 0, s * (height - 0.06) / 2) for s in (-1, 1)]
    bars += [board(0.075, deep - 0.016, height - 0.02)]
    bars += [board(width - 0.02, 0.03, 0.028).moved(0, 0, z * height / 6) for z in (-1, 1)]
    frame = [b.moved(*middle) for b in bars]
    sill = board(width + 0.1, 0.26, 0.03, 0.006).moved(middle[0], 0.05, bottom - 0.012)
    return joined(*frame, sill)


def _curtain(left: float, right: float, seed: int) -> Shape:
    """A curtain in folds before the back wall."""
    rng = np.random.default_rng(seed)
    across = np.linspace(0, 1, 57)
    rows = []
    for z, gather in ((0.02, 1.0), (0.8, 1.0), (1.5, 0.98), (1.95, 0.93), (2.035, 0.9)):
        fold = 0.032 * np.sin(2 * np.pi * 6 * across + 0.5 * np.sin(9 * across + seed)) * (1.15 - 0.1 * z)
        x = (left + right) / 2 + (across - 0.5) * (right - left) * gather + 0.002 * rng.standard_normal(57)
        rows.append(np.c_[x, BACK - 0.09 + fold, np.full(57, z)])
    return sheet(np.array(rows), 0.004)


SHELLS = (oak_room, tile_room, plank_room)
