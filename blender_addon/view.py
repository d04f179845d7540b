# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera as USD has it, from a camera object or from a viewport."""

from __future__ import annotations

from dataclasses import dataclass

import bpy


@dataclass(frozen=True)
class View:
    """A place to look from, and a frustum.

    Attributes:
        matrix: rows of the camera's local-to-world, for column vectors; the camera looks down -Z with +Y up.
        window: left, right, bottom, top of the frame: at distance 1, or in scene units where it is orthographic.
        near, far: of what is seen, in scene units.
    """

    matrix: tuple[tuple[float, ...], ...]
    window: tuple[float, float, float, float]
    near: float
    far: float
    orthographic: bool = False

    @property
    def aspect(self) -> float:
        """Width over height of the frame."""
        left, right, bottom, top = self.window
        return (right - left) / (top - bottom)

    def author(self, camera: object, placed: bool = False) -> None:
        """Writes it on a UsdGeomCamera. `placed`: its parent prim is where it looks from."""
        from pxr import Gf

        left, right, bottom, top = self.window
        # USD's apertures are tenths of scene units; at this focal length they are the frame at distance 1.
        focal, scale = 50.0, 10.0 if self.orthographic else 50.0
        camera.CreateProjectionAttr("orthographic" if self.orthographic else "perspective")
        camera.CreateFocalLengthAttr(focal)
        camera.CreateHorizontalApertureAttr((right - left) * scale)
        camera.CreateVerticalApertureAttr((top - bottom) * scale)
        camera.CreateHorizontalApertureOffsetAttr((right + left) / 2 * scale)
        camera.CreateVerticalApertureOffsetAttr((top + bottom) / 2 * scale)
        camera.CreateClippingRangeAttr((self.near, self.far))
        if not placed:
            transposed = [[self.matrix[row][column] for row in range(4)] for column in range(4)]
            camera.AddTransformOp().Set(Gf.Matrix4d(transposed))


def frame_pixels(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of what F12 makes, in its pixels."""
    render = scene.render
    width, height = (side * render.resolution_percentage // 100 for side in (render.resolution_x, render.resolution_y))
    return max(width, 1), max(height, 1)


def frame_aspect(scene: bpy.types.Scene) -> float:
    """Width over height of what F12 makes, as it is shown: its pixels need not be square."""
    render = scene.render
    return render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)


def picture_size(pixels: tuple[int, int], aspect: float, longest: int = 0) -> tuple[int, int]:
    """Width and height of a picture, whose pixels are square, that has all that a frame has.

    Args:
        pixels: of the frame. aspect: its width over its height, as it is shown.
        longest: of the picture's sides; 0 is no bound.
    """
    width, height = pixels
    # By rounding a frame of square pixels may be off by one.
    if abs(width - height * aspect) >= 1 and abs(height - width / aspect) >= 1:
        width, height = max(width, round(height * aspect)), max(height, round(width / aspect))
    scale = longest / max(width, height)
    if 0 < scale < 1:
        width, height = round(width * scale), round(height * scale)
    return max(width, 1), max(height, 1)


def of_camera(camera: bpy.types.Object, scene: bpy.types.Scene) -> View:
    """The view of a camera object."""
    data = camera.data
    frame = data.view_frame(scene=scene)
    orthographic = data.type == "ORTHO"
    distance = 1.0 if orthographic else -frame[0].z
    across, up = [corner.x / distance for corner in frame], [corner.y / distance for corner in frame]
    matrix = camera.matrix_world.normalized()
    window = (min(across), max(across), min(up), max(up))
    return View(tuple(map(tuple, matrix)), window, data.clip_start, data.clip_end, orthographic)


def of_region(region_data: bpy.types.RegionView3D) -> View:
    """The view of a viewport."""
    projection = region_data.window_matrix
    matrix = region_data.view_matrix.inverted()
    orthographic = abs(projection[3][3] - 1.0) < 1e-6
    if orthographic:
        across, up = 1 / projection[0][0], 1 / projection[1][1]
        middle = (-projection[0][3] * across, -projection[1][3] * up)
        near = (projection[2][3] + 1) / projection[2][2]
        far = (projection[2][3] - 1) / projection[2][2]
    else:
        across, up = 1 / projection[0][0], 1 / projection[1][1]
        middle = (projection[0][2] * across, projection[1][2] * up)
        near = projection[2][3] / (projection[2][2] - 1)
        far = projection[2][3] / (projection[2][2] + 1)
    window = (middle[0] - across, middle[0] + across, middle[1] - up, middle[1] + up)
    return View(tuple(map(tuple, matrix)), window, min(near, far), max(near, far), orthographic)
