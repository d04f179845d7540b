"""Pictures, depth and ids of any size as squares, and the window of the camera's image that they then show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image

from ...scene import Camera
from .scene import DatasetError, ImportedCamera, ImportedFrame

APERTURE = 24.0


@dataclass(frozen=True)
class Window:
    """A part of a picture, in pixels: left and top edge, width and height. They need not be whole numbers."""

    left: float
    top: float
    width: float
    height: float


def square_window(size: tuple[int, int], focal: np.ndarray) -> Window:
    """The largest window in the middle of a picture that sees as far across as up and down.

    With equal focal lengths it is a square of pixels. Otherwise it is not, and scaling it to a square makes its pixels
    square.

    Args:
        size: (width, height) of the picture. focal: (2,) focal lengths across and down, in pixels.
    """
    width, height = size
    across = min(float(width), height * float(focal[0] / focal[1]))
    down = across * float(focal[1] / focal[0])
    return Window((width - across) / 2, (height - down) / 2, across, down)


def windows(camera: ImportedCamera, indices: np.ndarray) -> list[Window]:
    """`square_window` of each of these frames."""
    focal = np.broadcast_to(np.asarray(camera.focal, np.float64), (camera.count, 2))
    return [square_window(camera.size, focal[index]) for index in indices]


def cameras(camera: ImportedCamera, indices: np.ndarray) -> list[Camera]:
    """The camera of each of these frames, its aperture that of the frame's window."""
    focal = np.broadcast_to(np.asarray(camera.focal, np.float64), (camera.count, 2))
    center = np.broadcast_to(np.asarray(camera.center, np.float64), (camera.count, 2))
    out = []
    for index, window in zip(indices, windows(camera, indices), strict=True):
        across = (center[index, 0] - window.left) / window.width
        down = (center[index, 1] - window.top) / window.height
        out.append(
            Camera(
                world_to_camera=np.linalg.inv(camera.camera_to_world[index]),
                focal_length=APERTURE * float(focal[index, 0]) / window.width,
                horizontal_aperture=APERTURE,
                vertical_aperture=APERTURE,
                horizontal_aperture_offset=APERTURE * (0.5 - across),
                vertical_aperture_offset=APERTURE * (down - 0.5),
            )
        )
    return out


def cropped_boxes(boxes: np.ndarray, size: tuple[int, int], crops: list[Window]) -> np.ndarray:
    """(T, 4) boxes of x, y, h, w normalised to pictures of `size`, normalised to their windows and clipped to them.

    Height and width are 0 where nothing of a box is inside.
    """
    width, height = size
    left, top, across, down = np.array([[c.left, c.top, c.width, c.height] for c in crops]).T
    x0, x1 = ((edge * width - left) / across for edge in (boxes[:, 0], boxes[:, 0] + boxes[:, 3]))
    y0, y1 = ((edge * height - top) / down for edge in (boxes[:, 1], boxes[:, 1] + boxes[:, 2]))
    x0, x1, y0, y1 = (edge.clip(0, 1) for edge in (x0, x1, y0, y1))
    return np.stack([x0, y0, y1 - y0, x1 - x0], -1)


def scaled(frame: ImportedFrame, window: Window, side: int, where: str) -> ImportedFrame:
    """The window of a frame as a square of `side` pixels.

    The picture is filtered; depth and ids are those at the middle of each pixel.

    Raises:
        DatasetError: picture, depth and ids are not of one size; the message begins with `where`.
    """
    height, width = frame.color.shape[:2]
    for name in ("depth", "ids"):
        there = getattr(frame, name)
        if there is not None and there.shape != (height, width):
            size = "x".join(str(length) for length in there.shape[::-1])
            raise DatasetError(
                f"{where}: its {name} is {size} pixels, its picture {width}x{height}; get the files again"
            )
    across = (window.left + (np.arange(side) + 0.5) * window.width / side).astype(int).clip(0, width - 1)
    down = (window.top + (np.arange(side) + 0.5) * window.height / side).astype(int).clip(0, height - 1)
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    picture = PIL.Image.fromarray(np.ascontiguousarray(frame.color))
    if picture.size != (side, side) or box != (0, 0, side, side):
        picture = picture.resize((side, side), PIL.Image.Resampling.LANCZOS, box=box)
    nearest = np.ix_(down, across)
    return ImportedFrame(
        np.asarray(picture),
        None if frame.depth is None else frame.depth[nearest].astype(np.float32),
        None if frame.ids is None else frame.ids[nearest],
    )
