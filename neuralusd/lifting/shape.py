"""What the steps of a lift hand to each other, as plain numpy.

A lifter works in a space of its own: +Y is up, the object's front is towards +Z, the unit is whatever it likes.
`to_metres` is the way from there to metres.
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


@dataclass(frozen=True)
class Request:
    """What is asked of a lifter.

    Attributes:
        pictures: of one object; none where it is to be made of words or of nothing.
        text: what the object is, in words; "" where nobody said.
        seed: of its random numbers.
        candidates: how many are sampled and ranked. steps: of its sampler. None takes the lifter's own numbers.
    """

    pictures: Sequence[Cutout] = ()
    text: str = ""
    seed: int = 0
    candidates: int | None = None
    steps: int | None = None


@dataclass
class VolumeCode:
    """What a `NeuralVolume` prim holds: an object as the latent of a volumetric autodecoder, in a cube of -1 to 1.

    Attributes:
        latent: (X, Y, Z, C) float16. Cell (0, 0, 0) lies at the cube's minimum corner.
        embedding: (E,) float32; may be empty.
        decoder: name of the decoder's weights. revision: of these.
        to_lifter: (4, 4) for row vectors, from the cube to the lifter's space; read from a stage, to the prim's parent.
    """

    latent: np.ndarray
    embedding: np.ndarray
    decoder: str
    revision: str
    to_lifter: np.ndarray


@dataclass
class Radiance:
    """Density and colour at the middles of a grid's cells, in the lifter's space.

    Attributes:
        density: (X, Y, Z) float32 per unit of the lifter's space, 0 or more.
        color: (X, Y, Z, 3) float32 display-referred sRGB in 0..1.
        origin: (3,), the middle of cell (0, 0, 0). spacing: a cell's side.
    """

    density: np.ndarray
    color: np.ndarray
    origin: np.ndarray
    spacing: float


@dataclass
class Candidate:
    """One of those that were sampled.

    Attributes:
        score: higher is a better match with the picture; 0 where there is none.
        picture: (H, W, 4) uint8, how it looks from the picture's camera.
    """

    score: float
    picture: np.ndarray


@dataclass
class Lifted:
    """What a lifter makes of pictures, or of words, or of nothing: a solid, its colours, and where it was seen from.

    Attributes:
        distance: (X, Y, Z) float32 samples of the distance to the solid's surface, in cells, negative inside. Positive
            at all borders; only what is near the surface has to be exact.
        origin: (3,), where sample (0, 0, 0) lies. spacing: the distance between samples.
        color: the surface's colours.
        view: the camera that took the first picture, its aperture that of the whole picture; without a picture, a
            three-quarter view.
        notes: what was assumed, a sentence each.
        seen: pictures and the cameras that took them, whose own pixels the surface has where they see it; `color` is
            for the rest. Empty where `color` is for all of it.
        radiance, code: the volume that the solid was made from, where there is one.
        candidates: those that were sampled, best first; the first is this one. Empty where none were.
        height: in metres, a learned guess; None where there is none.
    """

    distance: np.ndarray
    origin: np.ndarray
    spacing: float
    color: ColorOf
    view: Camera
    notes: list[str] = field(default_factory=list)
    seen: Sequence[tuple[Cutout, Camera]] = ()
    radiance: Radiance | None = None
    code: VolumeCode | None = None
    candidates: list[Candidate] = field(default_factory=list)
    height: float | None = None


IMAGE, TEXT, NOTHING = "image", "text", "nothing"


class Lifter(Protocol):
    """A way to a solid; see `open_lifter`.

    Attributes:
        name: what people ask for it by. revision: what identifies its weights or its version.
        seeded: whether it draws random numbers.
        most: how many pictures it takes.
        takes: of "image", "text" and "nothing", what it makes solids of.
    """

    name: str
    revision: str
    seeded: bool
    most: int
    takes: frozenset[str]

    def __call__(self, request: Request, step: Step = lambda done: None) -> Lifted:
        """The solid that was asked for. `step` raises to stop it."""
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


def to_metres(points: np.ndarray, height: float) -> np.ndarray:
    """(4, 4) for row vectors, from a lifter's space to metres: `height` high, on y = 0, centred in x and z.

    Args:
        points: (V, 3), of the whole object.
    """
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    scale = height / (high[1] - low[1])
    transform = np.diag([scale, scale, scale, 1.0])
    transform[3, :3] = -scale * np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return transform


def place(mesh: TexturedMesh, transform: np.ndarray) -> TexturedMesh:
    """A mesh brought to metres by the transform of `to_metres`, its lowest point at 0 exactly."""
    points = (mesh.points @ transform[:3, :3] + transform[3, :3]).astype(np.float32)
    points[:, 1] -= points[:, 1].min()
    return replace(mesh, points=points)


def place_camera(view: Camera, transform: np.ndarray) -> Camera:
    """A camera brought along by the transform of `to_metres`, so that its picture stays the same."""
    scale = transform[0, 0]
    offset = -transform[3, :3] / scale
    # Camera space is scaled with the world.
    world_to_camera = view.world_to_camera.copy()
    world_to_camera[3, :3] = (offset @ view.world_to_camera[:3, :3] + view.world_to_camera[3, :3]) * scale
    near, far = view.clipping_range
    placed = replace(view, world_to_camera=world_to_camera, clipping_range=(near * scale, far * scale))
    if view.projection == "orthographic":
        for name in ("aperture", "aperture_offset"):
            for axis in ("horizontal", "vertical"):
                setattr(placed, f"{axis}_{name}", getattr(view, f"{axis}_{name}") * scale)
    return placed
