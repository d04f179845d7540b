# SPDX-License-Identifier: GPL-3.0-or-later
"""The neural image of a viewport: a small one while things move, and one of its size when they have come to rest."""

from __future__ import annotations

import shutil
import time
import weakref
from typing import Any

import bpy
import numpy as np

from .. import pixels, preferences
from ..problems import Problem
from ..request import RenderScene
from ..tasks import Stopped, Task
from ..view import View, frame_aspect, of_region, picture_size

# Seconds without a change before things are at rest; how often that is looked at.
REST, LOOK = 0.2, 0.05
# Pixels of the longer side at most, at rest; and while things move, when it is half of the viewport's.
LARGEST, MOVING = 768, 256
# While things move, Blender waits for its exporter: so many seconds at most at a time, and that part of the time.
SLOW, PART = 0.25, 0.3
# Operators of Blender that drag: while one runs, nothing has been let go.
DRAGGING = ("TRANSFORM_OT_", "VIEW3D_OT_", "GIZMOGROUP_OT_", "ED_OT_", "NLA_OT_")

_open: weakref.WeakSet[Preview] = weakref.WeakSet()


class Preview:
    """The image of one viewport."""

    def __init__(self) -> None:
        self.said = ""
        self._changed: float | None = time.monotonic()
        self._looked_at: tuple[Any, ...] | None = None
        self._scene = self._layer = ""
        self._view: View | None = None
        self._place = (0, 0, 1, 1)
        self._aspect = 1.0
        self._image: np.ndarray | None = None
        self._shown_aspect = self._shown_next = 1.0
        self._asked: View | None = None
        self._asked_small = False
        # Seconds that the last export took, and when it ended; the change that was last shown while things moved.
        self._took, self._sent_at, self._early = 0.0, 0.0, 0.0
        self._texture: Any = None
        self._task: Task | None = None
        self._request: RenderScene | None = None
        self._last: tuple[str, tuple[int, int]] = ("", (0, 0))
        self._closed = False
        _open.add(self)
        if not bpy.app.timers.is_registered(tick_all):
            bpy.app.timers.register(tick_all, first_interval=LOOK, persistent=True)

    def touch(self) -> None:
        """The scene has changed."""
        self._changed = time.monotonic()

    def close(self) -> None:
        """The viewport is gone; what was asked for is cancelled."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        _open.discard(self)

    def look(self, context: bpy.types.Context, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        """Notes where the viewport looks from, and where in it the image goes."""
        region, data = context.region, context.region_data
        self._scene, self._layer = scene.name, layer.name
        camera = context.space_data.camera if context.space_data.use_local_camera else scene.camera
        through = data.view_perspective == "CAMERA" and camera is not None and camera == scene.camera
        if through and camera.type == "CAMERA" and camera.data.type in ("PERSP", "ORTHO"):
            self._view = None
            self._place = _camera_frame(region, data, camera, scene)
            self._aspect = frame_aspect(scene)
            key: tuple[Any, ...] = ("camera", round(self._aspect, 6))
        else:
            self._view = of_region(data)
            self._place = (0, 0, region.width, region.height)
            self._aspect = self._view.aspect
            key = (self._view.window, self._view.matrix)
        if key != self._looked_at:
            self._looked_at = key
            self.touch()

    def tick(self) -> None:
        """Asks for images as things move and when they have come to rest, and takes them up when they are there. In
        the main thread.
        """
        if self._task is not None and self._task.done:
            self._take()
        if self._changed is None or not self._scene:
            return
        resting = time.monotonic() - self._changed >= REST and not _dragging()
        early = not resting and self._may_ask_early()
        if self._task is not None:
            # Of a scene that is no more; its end is taken up at the next tick. A small one is better late than never.
            if resting or early and not self._asked_small:
                self._task.cancel()
            return
        if resting:
            self._changed = None
            self._ask()
        elif early:
            self._early = self._changed
            self._ask(small=True)

    def _may_ask_early(self) -> bool:
        """Whether an image is asked for while things move: where that holds nobody up."""
        waited = time.monotonic() - self._sent_at
        quick = self._took <= SLOW and self._took <= PART * waited
        return self._image is not None and self._early != self._changed and quick

    def draw(self) -> None:
        """Draws the latest image. In the viewport's drawing code, whose buffer takes linear colours."""
        if self._image is None:
            return
        import gpu
        from gpu_extras.presets import draw_texture_2d

        x, y, width, height = self._place
        if self._texture is None or (self._texture.width, self._texture.height) != (width, height):
            framed = pixels.frame(self._image / np.float32(255), width, height, self._shown_aspect).clip(0, 1)
            rgba = np.ones((height, width, 4), np.float32)
            rgba[..., :3] = pixels.scene_linear(framed)[::-1]
            data = gpu.types.Buffer("FLOAT", width * height * 4, np.ascontiguousarray(rgba).ravel())
            self._texture = gpu.types.GPUTexture((width, height), format="RGBA16F", data=data)
        draw_texture_2d(self._texture, (x, y), width, height)

    def _ask(self, small: bool = False) -> None:
        scene = bpy.data.scenes.get(self._scene)
        layer = scene.view_layers.get(self._layer) if scene else None
        if layer is None:
            return
        if small and layer.objects.active is not None and layer.objects.active.mode == "EDIT":
            return
        folder, began = "", time.monotonic()
        try:
            folder = preferences.work_folder()
            size = self._size(small)
            # Blender may be rendering, and nobody has asked for a picture by Cycles.
            options = {"view": self._view, "size": size, "preview": True, "encode": not small, "cycles_may": False}
            request = RenderScene(scene, layer, folder, **options)
            state = _state(request, self._looked_at)
            self._sent_at = time.monotonic()
            self._took = self._sent_at - began
            known = state and (state == self._last[0] if small else (state, size) == self._last)
            if known or small and not request.ready:
                shutil.rmtree(folder, ignore_errors=True)
                return
            self._last, self._asked_small = (state, size), small
            self._shown_next, self._asked = self._aspect, self._view
            self._request = request
            self.said = self.said if small else "rendering"
            self._task = Task("Viewport", request).start()
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            self.said = _words(error)
            redraw()

    def _size(self, small: bool) -> tuple[int, int]:
        width, height = self._place[2:]
        longest = min(MOVING, max(width, height) // 2) if small else LARGEST
        return picture_size((width, height), width / height, max(longest, 1))

    def _take(self) -> None:
        task, self._task = self._task, None
        try:
            if task.cancelled():
                return
            if task.error is not None:
                raise task.error
            with open(task.result.file, "rb") as file:
                self._image = pixels.read_png(file.read())
            self._shown_aspect, self._texture = self._shown_next, None
            if self._asked_small:
                return
            self.said = ""
            if self._asked is None:
                task.result.keep_tokens()
            elif task.result.tokens:  # tokens of a passing look are not worth keeping
                self.said = "not everything is encoded: press Encode to keep what the camera sees"
        except Stopped:
            pass
        except Exception as error:
            self._last = ("", (0, 0))
            self.said = _words(error)
        finally:
            shutil.rmtree(self._request.folder, ignore_errors=True)
            redraw()


def tick_all() -> float | None:
    """The timer's function; ends when the last viewport is closed."""
    for preview in list(_open):
        preview.tick()
    return LOOK if _open else None


def close_all() -> None:
    """Stops all that was asked for."""
    for preview in list(_open):
        preview.close()


def redraw() -> None:
    """Has the viewports drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _dragging() -> bool:
    return any(
        operator.bl_idname.startswith(DRAGGING)
        for window in bpy.context.window_manager.windows
        for operator in getattr(window, "modal_operators", ())
    )


def _state(request: RenderScene, view: tuple[Any, ...] | None) -> str:
    """What changes when the image may, but for its size; empty where that cannot be told."""
    if request.sent is None:
        return ""
    from pxr import Sdf

    from ..usd import neural

    layer = Sdf.Layer.OpenAsAnonymous(request.sent.file)
    return f"{neural.layer_digest(layer)} {view} {request.numbers} {request.before}" if layer else ""


def _words(error: Exception) -> str:
    if not isinstance(error, Problem):
        import traceback

        traceback.print_exception(error)
    return str(error)


def _camera_frame(
    region: bpy.types.Region, data: bpy.types.RegionView3D, camera: bpy.types.Object, scene: bpy.types.Scene
) -> tuple[int, int, int, int]:
    """Left, bottom, width and height of the camera's frame in a viewport that looks through it."""
    from bpy_extras.view3d_utils import location_3d_to_region_2d

    world = camera.matrix_world.normalized()
    corners = [location_3d_to_region_2d(region, data, world @ corner) for corner in camera.data.view_frame(scene=scene)]
    if any(corner is None for corner in corners):
        return 0, 0, region.width, region.height
    left, bottom = min(c.x for c in corners), min(c.y for c in corners)
    right, top = max(c.x for c in corners), max(c.y for c in corners)
    return round(left), round(bottom), max(round(right - left), 1), max(round(top - bottom), 1)
