# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as numpy arrays: PNG files, colours as Blender keeps them, sizes. Without bpy but where it says so."""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import bpy

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def read_png(data: bytes) -> np.ndarray:
    """An 8-bit PNG, as the service makes them, as (height, width, 3) of uint8, its top row first.

    Raises ValueError for any other file.
    """
    if not data.startswith(_SIGNATURE):
        raise ValueError("not a PNG file")
    at, packed, header = len(_SIGNATURE), [], b""
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
        at += 12 + length
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or color not in _CHANNELS or interlaced:
        raise ValueError("not an 8-bit PNG of plain colours")
    channels = _CHANNELS[color]
    rows = np.frombuffer(zlib.decompress(b"".join(packed)), np.uint8).reshape(height, 1 + width * channels)
    image = _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, channels))
    return np.repeat(image[..., :1], 3, axis=2) if channels < 3 else image[..., :3]


def _unfilter(filters: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Undoes PNG's row filters. A pixel needs its left, upper and upper left, so whole diagonals are done at a time.

    Those lie as rows, [diagonal, row of the image, channel], with an empty one before each: there is no left of the
    first column and no upper of the first row.
    """
    height, width, channels = values.shape
    skewed = np.zeros((height + width + 1, height + 1, channels), np.int16)
    diagonal, row, channel = skewed.strides
    image = np.lib.stride_tricks.as_strided(skewed[2:, 1:], values.shape, (diagonal + row, diagonal, channel))
    image[...] = values
    used = set(filters.tolist())
    share = [(filters == kind).astype(np.int16)[:, None] for kind in range(5)]
    for number in range(height + width - 1):
        rows = slice(max(0, number - width + 1), min(height, number + 1))
        below = slice(rows.start + 1, rows.stop + 1)
        out, left, up, corner = (
            skewed[number + 2, below], skewed[number + 1, below], skewed[number + 1, rows], skewed[number, rows]
        )  # fmt: skip
        if 1 in used:
            out += share[1][rows] * left
        if 2 in used:
            out += share[2][rows] * up
        if 3 in used:
            out += share[3][rows] * ((left + up) >> 1)
        if 4 in used:
            to_left, to_up = up - corner, left - corner
            far = np.abs(to_left + to_up), np.abs(to_left), np.abs(to_up)
            nearest = np.where(far[2] <= far[0], up, corner)
            out += share[4][rows] * np.where((far[1] <= far[2]) & (far[1] <= far[0]), left, nearest)
        out &= 255
    return image.astype(np.uint8)


def encode_png(values: np.ndarray) -> bytes:
    """(height, width, 1, 3 or 4) of uint8 as a PNG file."""
    height, width, channels = values.shape
    color = {1: 0, 3: 2, 4: 6}[channels]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), values.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return _SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")


def write_png(image: bpy.types.Image, path: str) -> str:
    """Writes an image data-block as a PNG of sRGB, and returns the path."""
    width, height = image.size
    flat = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(flat)
    values = flat.reshape(height, width, image.channels)[::-1]
    if image.channels < 3:
        values = np.repeat(values[..., :1], 3, axis=2)
    if image.is_float and not image.colorspace_settings.is_data:
        values = np.concatenate([from_linear(values[..., :3]), values[..., 3:]], axis=2)
    whole_write(path, encode_png((values.clip(0, 1) * 255 + 0.5).astype(np.uint8)))
    return path


def whole_write(path: str, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    partial = f"{path}.{secrets.token_hex(4)}.part"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Display-referred sRGB of 0..1 to linear light with the same primaries."""
    srgb = np.asarray(srgb, np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def from_linear(linear: np.ndarray) -> np.ndarray:
    """The way back."""
    linear = np.asarray(linear, np.float32).clip(0, None)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def scene_linear(srgb: np.ndarray) -> np.ndarray:
    """Display-referred sRGB (..., 3) to the values that Blender computes with, so that the view transform Standard
    shows the same sRGB.
    """
    return to_linear(srgb) @ _primaries()


def displayed(linear: np.ndarray) -> np.ndarray:
    """The way back: values that Blender computes with as sRGB of 0..1, as the view transform Standard shows them."""
    return from_linear(np.asarray(linear, np.float32) @ np.linalg.inv(_primaries())).clip(0, 1)


def _primaries() -> np.ndarray:
    """sRGB's primaries in the working space, a row each. Uses mathutils: a .blend's space may have others."""
    from mathutils import Color

    return np.array([tuple(Color(tuple(each)).from_srgb_to_scene_linear()) for each in np.eye(3)], np.float32)


def frame(image: np.ndarray, width: int, height: int, aspect: float, smooth: bool = True) -> np.ndarray:
    """The part of a picture that a frame shows, at the frame's size; the picture itself where it is that already.

    The service sees at least the frame, which lies in the picture's middle.

    Args:
        image: (height, width, channels), of square pixels. aspect: of the frame, its width over its height, as it is
            shown. smooth: interpolate; otherwise the nearest, as for ids and depth.
    """
    tall, wide = image.shape[:2]
    shown = min(wide, tall * aspect), min(tall, wide / aspect)
    # The sides of a picture are whole pixels, an aspect need not be.
    if (wide, tall) == (width, height) and wide - shown[0] < 1 and tall - shown[1] < 1:
        return image
    across = _weights(wide, shown[0], width, smooth)
    down = _weights(tall, shown[1], height, smooth)
    if not smooth:
        return image[down][:, across]
    values = np.tensordot(down, image.astype(np.float32), axes=(1, 0))
    return np.moveaxis(np.tensordot(across, values, axes=(1, 1)), 0, 1)


def _weights(side: int, shown: float, size: int, smooth: bool) -> np.ndarray:
    """How much of each of `side` pixels is in each of the `size` that show the middle `shown` of them."""
    step = shown / size
    centers = (side - shown) / 2 + (np.arange(size) + 0.5) * step
    if not smooth:
        return np.floor(centers).astype(int).clip(0, side - 1)
    # Cubic (Catmull-Rom); wider where the picture shrinks, so that no pixel is passed over.
    scale = max(step, 1.0)
    distance = np.abs((np.arange(side) + 0.5)[None] - centers[:, None]) / scale
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
