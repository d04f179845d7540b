"""The shell of a furnished room, floor, walls and ceiling, and what the camera sees of it alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rooms import Room, RoomLook

# Linear; of `neuralusd.stage.shade`, whose shaded view this agrees with.
_LAMP, _SKY, _GROUND, _BACKDROP = 0.6, 0.45, 0.25, 0.2140
_SUPERSAMPLE = 2


@dataclass
class Face:
    """A rectangle of the shell: `points` (4, 3) in the room, counter-clockwise from within, `uv` (4, 2), its look."""

    name: str
    points: np.ndarray
    uv: np.ndarray
    look: RoomLook


def shell_faces(room: Room) -> list[Face]:
    """Floor, the walls at north, west and east, and the ceiling where there is one."""
    (x0, y0), (x1, y1) = room.floor[0], room.floor[2]
    low = np.c_[room.floor, np.zeros(4)]
    middle = room.floor.mean(0)
    faces = [Face("Floor", low, (room.floor - middle) / room.floor_look.repeat, room.floor_look)]
    for name, start, end in (
        ("Wall_North", (x1, y1), (x0, y1)),
        ("Wall_West", (x0, y1), (x0, y0)),
        ("Wall_East", (x1, y0), (x1, y1)),
    ):
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        points = np.array([[*end, 0], [*start, 0], [*start, room.height], [*end, room.height]], np.float64)
        uv = np.array([[0, 0], [length, 0], [length, room.height], [0, room.height]]) / room.wall_look.repeat
        faces.append(Face(name, points, uv, room.wall_look))
    if room.ceiling:
        high = np.c_[room.floor[::-1], np.full(4, room.height)]
        faces.append(Face("Ceiling", high, (room.floor[::-1] - middle), room.ceiling_look))
    return faces


def background_view(room: Room, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """What the camera sees of the shell, without objects, as `neuralusd.stage.render_passes` shades it.

    Surfaces have the mean colour of their textures.

    Returns:
        (size, size, 3) float32 sRGB in 0..1, and (size, size) float32 metres along the viewing axis, inf where there
        is nothing.
    """
    color, _ = _cast(room, size * _SUPERSAMPLE)
    color = color.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE, 3).mean((1, 3))
    srgb = np.where(color <= 0.0031308, 12.92 * color, 1.055 * np.maximum(color, 1e-9) ** (1 / 2.4) - 0.055)
    return np.clip(srgb, 0.0, 1.0).astype(np.float32), _cast(room, size)[1].astype(np.float32)


def _cast(room: Room, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) linear light and (size, size) depth along the rays through pixels' middles."""
    steps = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(steps / room.focal[0], -steps / room.focal[1])
    turn, eye = room.camera_to_room[:3, :3], room.camera_to_room[3, :3]
    rays = np.stack([x, y, -np.ones_like(x)], -1) @ turn
    toward = -rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    depth = np.full((size, size), np.inf)
    light = np.full((size, size, 3), _BACKDROP)
    for face in shell_faces(room):
        right, up = face.points[1] - face.points[0], face.points[3] - face.points[0]
        normal = np.cross(right, up) / np.linalg.norm(np.cross(right, up))
        along = rays @ normal
        t = np.divide((face.points[0] - eye) @ normal, along, out=np.full_like(along, np.inf), where=along != 0)
        points = eye + np.where(np.isfinite(t), t, 0)[..., None] * rays - face.points[0]
        u, v = points @ right / (right @ right), points @ up / (up @ up)
        here = (t > 0.01) & (t < depth) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        facing = np.abs(toward @ normal)
        # The side that is seen decides what is above it.
        upward = np.sign(toward @ normal) * normal[2]
        lit = _LAMP * facing + _GROUND + (_SKY - _GROUND) * (upward + 1) / 2
        depth = np.where(here, t, depth)
        light = np.where(here[..., None], lit[..., None] * face.look.color, light)
    return light, depth
