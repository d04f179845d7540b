"""From where a picture was taken, by its outline alone; and how a solid looks from a camera."""

from __future__ import annotations

import math

import numpy as np

from ..scene import Camera
from .projection import depth_map
from .shape import ColorOf

# Directions that are tried: degrees about the up axis, and above the horizon.
TURNS, ELEVATIONS = tuple(range(-180, 180, 15)), (-10, 5, 20, 35, 50)
# Of what no picture shows.
TURN, ELEVATION = 35.0, 20.0
# The eye's distance in sizes of the object, and the side of the masks that are compared.
DISTANCE, SIDE = 2.5, 48
# A view of its own has so much room around the object.
ROOM = 1.15


def find_view(points: np.ndarray, coverage: np.ndarray) -> tuple[Camera, float]:
    """The direction from which a solid's outline is most like a picture's, and the overlap of the two, 0 to 1.

    For a lifter that does not know how its picture was taken. Roll is none, and the distance a usual one.

    Args:
        points: (N, 3), the solid's inside, evenly and densely. coverage: (H, W), see `Cutout`.
    """
    mask = coverage >= 0.5
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    wanted = _shrunk(mask[box[0] : box[2], box[1] : box[3]])
    best: tuple[Camera, float] | None = None
    for elevation in ELEVATIONS:
        for turn in TURNS:
            view = _aimed(points, turn, elevation, box, mask.shape)
            h, w, _ = view.project(points).T
            h, w = (h * mask.shape[0] - box[0]) / (box[2] - box[0]), (w * mask.shape[1] - box[1]) / (box[3] - box[1])
            found, _, _ = np.histogram2d(h, w, SIDE, ((0, 1), (0, 1)))
            overlap = float(((found > 0) & wanted).sum() / max(((found > 0) | wanted).sum(), 1))
            if best is None or overlap > best[1]:
                best = view, overlap
    assert best is not None
    return best


def three_quarter_view(points: np.ndarray) -> Camera:
    """A camera that sees all of an object, (N, 3), from the front, a little aside and above; its picture is square."""
    view = _aimed(points, TURN, ELEVATION, (0, 0, 1, 1), (1, 1))
    view.horizontal_aperture *= ROOM
    view.vertical_aperture *= ROOM
    return view


def _aimed(points: np.ndarray, turn: float, elevation: float, box: tuple[int, ...], shape: tuple[int, ...]) -> Camera:
    """A camera in a direction, in whose picture the points just fit in a box (top, left, bottom, right)."""
    middle = (points.min(0) + points.max(0)) / 2
    around, up = math.radians(turn), math.radians(elevation)
    back = np.array([math.sin(around) * math.cos(up), math.sin(up), math.cos(around) * math.cos(up)])
    right = np.array([math.cos(around), 0.0, -math.sin(around)])
    distance = DISTANCE * float(np.linalg.norm(np.ptp(points, axis=0)))
    place = np.eye(4)
    place[:3, :3] = np.stack([right, np.cross(back, right), back])
    place[3, :3] = middle + distance * back
    seen = points @ np.linalg.inv(place)[:3, :3] + np.linalg.inv(place)[3, :3]
    x, y = (seen[:, axis] / -seen[:, 2] for axis in (0, 1))
    (top, left, bottom, across), (height, width) = box, shape
    wide, high = (max(float(np.ptp(values)), 1e-6) for values in (x, y))
    pixel = max(wide / (across - left), high / (bottom - top))
    horizontal, vertical = pixel * width, pixel * height
    return Camera(
        np.linalg.inv(place),
        focal_length=1.0,
        horizontal_aperture=horizontal,
        vertical_aperture=vertical,
        # The object's middle is not the picture's.
        horizontal_aperture_offset=float(x.min() + x.max()) / 2 + horizontal * (0.5 - (left + across) / 2 / width),
        vertical_aperture_offset=float(y.min() + y.max()) / 2 - vertical * (0.5 - (top + bottom) / 2 / height),
        clipping_range=(distance / 100, distance * 3),
    )


def _shrunk(mask: np.ndarray) -> np.ndarray:
    import PIL.Image

    return (
        np.asarray(PIL.Image.fromarray(mask.astype(np.float32)).resize((SIDE, SIDE), PIL.Image.Resampling.BOX)) >= 0.5
    )


def portrait(
    distance: np.ndarray, origin: np.ndarray, spacing: float, color: ColorOf, view: Camera, longer: int = 192
) -> np.ndarray:
    """How a solid looks from a camera, (H, W, 4) uint8; for distance, origin, spacing and color see `Lifted`."""
    from skimage.measure import marching_cubes

    points, faces, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent", allow_degenerate=False)
    points = points.astype(np.float64) * spacing + origin
    scale = longer / max(view.horizontal_aperture, view.vertical_aperture)
    width, height = (max(round(side * scale), 1) for side in (view.horizontal_aperture, view.vertical_aperture))
    depth = depth_map(view, points, faces, height, width)
    hit = np.isfinite(depth)
    picture = np.zeros((height, width, 4), np.uint8)
    if hit.any():
        origins, directions = view.rays(height, width)
        places = origins[hit] + depth[hit][:, None] * directions[hit]
        towards = -directions[hit] / np.linalg.norm(directions[hit], axis=1, keepdims=True)
        picture[hit, :3] = (color(places, towards).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        picture[hit, 3] = 255
    return picture
