"""Where objects are in the whole pictures of a dataset, before they are cropped."""

from __future__ import annotations

import numpy as np

from ...scene import Asset, Camera, pose_2d
from .scene import ImportedCamera, ImportedObject


def picture_camera(camera: ImportedCamera, frame: int) -> Camera:
    """The camera of a frame, its aperture that of the whole picture: 1 is a pixel's width."""
    width, height = camera.size
    focal, center = (np.broadcast_to(value, (camera.count, 2))[frame] for value in (camera.focal, camera.center))
    pixel = focal[0] / focal[1]  # a pixel's height in its width
    return Camera(
        world_to_camera=np.linalg.inv(camera.camera_to_world[frame]),
        focal_length=float(focal[0]),
        horizontal_aperture=float(width),
        vertical_aperture=float(height * pixel),
        horizontal_aperture_offset=float(width / 2 - center[0]),
        vertical_aperture_offset=float((center[1] - height / 2) * pixel),
    )


def picture_points(camera: ImportedCamera, frame: int, world: np.ndarray) -> np.ndarray:
    """World points (..., 3) to (..., 3): pixels right and down, and depth in metres; NaN behind the camera."""
    h, w, depth = np.moveaxis(picture_camera(camera, frame).project(world), -1, 0)
    return np.stack([w * camera.size[0], h * camera.size[1], depth], -1)


def picture_box(camera: ImportedCamera, thing: ImportedObject, frame: int) -> np.ndarray | None:
    """(4,) of x, y, h, w of an object in a frame, normalised and clipped to the picture; None where it is not seen.

    The tight box of its projected 3D box (Neural USD, appendices A.2 and A.3), else its annotated 2D box.
    """
    if thing.presence is not None and not thing.presence[frame]:
        return None
    if thing.extent is None or thing.local_to_world is None:
        return None if thing.boxes_2d is None else np.asarray(thing.boxes_2d[frame], np.float64)
    asset = Asset(path=f"/{thing.name}", local_to_world=thing.local_to_world[frame], extent=thing.extent)
    return pose_2d(asset, picture_camera(camera, frame))
