"""What the steps of a lift hand to each other, as plain numpy.

A lifter works in a space of its own: +Y is up, the picture was taken from +Z, the unit is whatever it likes. `place`
brings what it made to metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..scene import Camera

Step = Callable[[float], None]
"""Called with how much of a piece of work is done, 0 to 1; raises to stop it."""

ColorOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Points (N, 3) and unit normals (N, 3) in a lifter's space to display-referred sRGB (N, 3) in 0..1."""


@dataclass
class Cutout:
    """A picture of an object without its background.

    Attributes:
        color: (H, W, 3) float32 display-referred sRGB in 0..1. What it holds outside of the object is not looked at.
        coverage: (H, W) float32, how much of each pixel is the object, 0 to 1.
        label: what the object is, in words, where something said so.
        source: the picture's file, for people.
        how: where the coverage comes from: "alpha", "mask", "segmenter" or "plain background".
        notes: what was assumed or left out, a sentence each.
    """

    color: np.ndarray
    coverage: np.ndarray
    label: str = ""
    source: str = ""
    how: str = ""
    notes: list[str] = field(default_factory=list)

    def rgba(self) -> np.ndarray:
        """(H, W, 4) uint8, the coverage as alpha."""
        return (np.dstack([self.color, self.coverage]).clip(0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass
class Lifted:
    """What a lifter makes of pictures: a solid, its colours, and how the first picture saw it.

    Attributes:
        distance: (X, Y, Z) float32 samples of the distance to the solid's surface, in cells, negative inside. Positive
            at all borders; only what is near the surface has to be exact.
        origin: (3,), where sample (0, 0, 0) lies. spacing: the distance between samples.
        color: the surface's colours.
        view: the camera that took the first picture, its aperture that of the whole picture.
        notes: what was assumed, a sentence each.
    """

    distance: np.ndarray
    origin: np.ndarray
    spacing: float
    color: ColorOf
    view: Camera
    notes: list[str] = field(default_factory=list)


class Lifter(Protocol):
    """A way from pictures to a solid; see `open_lifter`.

    Attributes:
        name: what people ask for it by. revision: what identifies its weights or its version.
        seeded: whether it draws random numbers.
        most: how many pictures it takes.
    """

    name: str
    revision: str
    seeded: bool
    most: int

    def __call__(self, pictures: Sequence[Cutout], *, seed: int, step: Step) -> Lifted:
        """The solid that pictures of one object show."""
        ...


@dataclass
class TexturedMesh:
    """A closed triangle mesh with a texture.

    Attributes:
        points: (V, 3) float32. faces: (F, 3) int32, counter-clockwise seen from outside.
        normals: (V, 3) float32, unit, outward.
        uv: (T, 2) float32, texture coordinates, origin bottom left. uv_faces: (F, 3) int32 into `uv`, a corner each.
        texture: (H, W, 3) uint8 display-referred sRGB, row 0 at the top.
    """

    points: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    texture: np.ndarray

    @property
    def extent(self) -> np.ndarray:
        """(2, 3) float32, the smallest and the largest corner."""
        return np.stack([self.points.min(0), self.points.max(0)])

    def colors(self) -> np.ndarray:
        """(V, 3) float32 sRGB in 0..1: the texture at the mesh's points."""
        height, width = self.texture.shape[:2]
        corner = np.zeros(len(self.points), np.int64)
        corner[self.faces] = self.uv_faces
        column, row = (self.uv[corner] * [width, height]).astype(int).clip(0, [width - 1, height - 1]).T
        return self.texture[height - 1 - row, column].astype(np.float32) / 255


def place(mesh: TexturedMesh, view: Camera, height: float) -> tuple[TexturedMesh, Camera]:
    """A mesh and the camera that saw it in metres: `height` high, its lowest point at y = 0, centred in x and z."""
    low, high = mesh.points.min(0).astype(np.float64), mesh.points.max(0).astype(np.float64)
    scale = height / (high[1] - low[1])
    offset = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    points = ((mesh.points - offset) * scale).astype(np.float32)
    points[:, 1] -= points[:, 1].min()
    # Camera space is scaled with the world, so that the picture stays the same.
    world_to_camera = view.world_to_camera.copy()
    world_to_camera[3, :3] = (offset @ view.world_to_camera[:3, :3] + view.world_to_camera[3, :3]) * scale
    near, far = view.clipping_range
    placed = replace(view, world_to_camera=world_to_camera, clipping_range=(near * scale, far * scale))
    if view.projection == "orthographic":
        for name in ("aperture", "aperture_offset"):
            for axis in ("horizontal", "vertical"):
                setattr(placed, f"{axis}_{name}", getattr(view, f"{axis}_{name}") * scale)
    return replace(mesh, points=points), placed
