# SPDX-License-Identifier: GPL-3.0-or-later
"""A quick picture of what the camera sees, by Cycles in this Blender, for encoding: as lit, and plain base colours.

It is rendered of a copy of the scene, which has the same objects and settings of its own, so nothing of the user's is
changed, and nothing has to be put back. With a window Blender renders beside it, and shows how far that is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

import bpy
import numpy as np

from . import pixels
from .problems import Problem
from .tasks import Stopped, Task, on_main
from .usd import bundled
from .view import frame_aspect, frame_pixels, picture_size

# What marks the copy; one that a file or an undo step brought back is taken away again.
MARK = "neuralusd_picture"
CURE = "or choose the materials' colours or an image (sidebar > Neural > Encode)."
# Samples a pixel where nothing takes their noise away, for one where something does.
NOISY = 4
POLL = 0.1
# A render's job may take a moment to begin.
PATIENCE = 1.0


class Shot:
    """A picture to be taken: made in the main thread, taken in any.

    Args:
        folder: where its files go. longest: pixels of the picture's longer side at most. samples: a pixel, denoised.
    """

    def __init__(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, folder: str, longest: int, samples: int
    ):
        self._scene, self._layer, self._folder, self._samples = scene.name, view_layer.name, folder, samples
        self.size = picture_size(frame_pixels(scene), frame_aspect(scene), longest)
        self._exposure = scene.view_settings.exposure
        self._file = os.path.join(folder, "cycles.exr")
        self._copy = ""
        self._camera: tuple[bpy.types.Object, bpy.types.Camera] | None = None

    def take(self, task: Task, at: float) -> tuple[str, str]:
        """PNGs of the camera's picture and of the base colours in it, both sRGB.

        Args:
            at: how far the task is when this begins.

        Raises:
            Problem: Cycles cannot, and what to do. Stopped: the task, or Blender's render of it, was cancelled.
        """
        task.tell(at, "taking a picture with Cycles")
        try:
            on_main(self._begin, task.cancelled)
            self._wait(task)
        finally:
            on_main(self._end)
        task.tell(at, "reading the picture")
        if not os.path.isfile(self._file):
            raise Stopped
        return self._read()

    # -- in the main thread

    def _begin(self) -> None:
        scene = bpy.data.scenes.get(self._scene)
        if scene is None or self._layer not in scene.view_layers:
            raise Problem("The scene was removed while it was being worked on.")
        if _rendering():
            raise Problem("Blender is rendering. Wait for that to end, and press again.")
        if scene.camera is None:
            raise Problem("The scene has no camera. Add one (Add > Camera) and make it the active one (Ctrl+Numpad 0).")
        if bundled.library("OpenImageIO") is None:
            raise Problem(f"This Blender has no OpenImageIO for Python. Take the one from blender.org, {CURE}")
        copy = scene.copy()
        copy.name, copy[MARK] = ".Neural Picture", True
        self._copy = copy.name
        self._set(copy)
        manager = bpy.context.window_manager
        window = bpy.context.window or (manager.windows[0] if manager and len(manager.windows) else None)
        try:
            with bpy.context.temp_override(window=window, scene=scene), _shown_nowhere():
                # Without a window's events it is done when this returns.
                bpy.ops.render.render("INVOKE_DEFAULT", scene=copy.name, write_still=True)
        except RuntimeError as error:
            raise Problem(f"Cycles could not take the picture: {str(error).strip()} Correct that, {CURE}") from error

    def _set(self, copy: bpy.types.Scene) -> None:
        copy.animation_data_clear()
        copy.timeline_markers.clear()  # those with cameras would choose another
        render, layer = copy.render, copy.view_layers[self._layer]
        try:
            render.engine = "CYCLES"
        except TypeError:
            raise Problem(
                f"This Blender has no Cycles. Enable Cycles Render Engine in Edit > Preferences > Add-ons, {CURE}"
            ) from None
        render.resolution_x, render.resolution_y = self.size
        render.resolution_percentage, render.pixel_aspect_x, render.pixel_aspect_y = 100, 1.0, 1.0
        render.filepath, render.use_file_extension, render.use_overwrite = self._file, True, True
        render.use_placeholder = False
        for name in (
            "use_border", "use_compositing", "use_sequencer", "use_motion_blur", "use_multiview", "use_freestyle",
            "use_single_layer", "use_persistent_data", "film_transparent", "use_lock_interface",
        ):  # fmt: skip
            if hasattr(render, name):
                setattr(render, name, False)
        settings = render.image_settings
        if hasattr(settings, "media_type"):
            settings.media_type = "MULTI_LAYER_IMAGE"
        settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
        for other in copy.view_layers:
            other.use = other == layer
        layer.use_pass_combined = True
        layer.use_pass_diffuse_color = layer.use_pass_glossy_color = layer.use_pass_transmission_color = True
        cycles = copy.cycles
        cycles.use_adaptive_sampling, cycles.time_limit = False, 0.0
        cycles.samples = self._samples
        try:
            cycles.denoiser, cycles.use_denoising = "OPENIMAGEDENOISE", True
            cycles.denoising_prefilter = "FAST"
        except TypeError:  # a Blender that was built without it
            cycles.use_denoising, cycles.samples = False, NOISY * self._samples
        lens = copy.camera.data
        if isinstance(lens, bpy.types.Camera) and lens.dof.use_dof:
            # Out of focus, colours of one thing would be on another.
            sharp = copy.camera.copy()
            sharp.data = lens.copy()
            sharp.data.dof.use_dof = False
            copy.camera, self._camera = sharp, (sharp, sharp.data)

    def _end(self) -> None:
        if _rendering():  # it was cancelled, and Blender does not know; its render still uses the copy
            bpy.app.timers.register(self._end_late, first_interval=POLL)
        else:
            self._clean()

    def _end_late(self) -> float | None:
        if _rendering():
            return POLL
        self._clean()
        # Nobody waits for the picture any more, and Blender has written it all the same.
        shutil.rmtree(self._folder, ignore_errors=True)
        return None

    def _clean(self) -> None:
        """Takes away what was made for the picture."""
        copy, self._copy = bpy.data.scenes.get(self._copy), ""
        if copy is not None:
            bpy.data.scenes.remove(copy)
        if self._camera is not None:
            camera, lens = self._camera
            self._camera = None
            with contextlib.suppress(ReferenceError):  # an undo has taken it away
                bpy.data.objects.remove(camera)
                bpy.data.cameras.remove(lens)

    # -- in any thread

    def _wait(self, task: Task) -> None:
        began = time.monotonic()
        while True:
            rendering = on_main(_rendering, task.cancelled)
            if os.path.isfile(self._file) and not rendering:
                return
            task.check()
            if rendering:
                began = time.monotonic()
            elif time.monotonic() - began > PATIENCE:  # cancelled where Blender shows its progress, or by Esc
                return
            time.sleep(POLL)

    def _read(self) -> tuple[str, str]:
        channels = _channels(self._file)
        lit = _layer(channels, "Combined") * np.float32(2.0**self._exposure)
        albedo = base_color(
            _layer(channels, "Diffuse Color", "DiffCol"),
            _layer(channels, "Glossy Color", "GlossCol"),
            _layer(channels, "Transmission Color", "TransCol"),
        )
        os.unlink(self._file)
        files = tuple(os.path.join(self._folder, f"{name}.png") for name in ("cycles", "albedo"))
        for file, values in zip(files, (lit, albedo), strict=True):
            srgb = (pixels.displayed(values) * 255 + 0.5).astype(np.uint8)
            pixels.whole_write(file, pixels.encode_png(srgb))
        return files


def base_color(diffuse: np.ndarray, glossy: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Base colours (..., 3) from Cycles' colour passes, all linear.

    Under a gloss the diffuse colour is what the gloss lets through of the base colour. Metals have no diffuse colour:
    their gloss has the base colour.
    """
    within = diffuse + transmission
    gloss = glossy.max(-1, keepdims=True)
    let_through = np.maximum(1.0 - gloss, 0.1)
    # A black plastic is darker than its gloss, but not as much as a metal.
    metallic = (1.0 - within.max(-1, keepdims=True) / np.maximum(0.2 * gloss, 1e-6)).clip(0.0, 1.0)
    return ((1.0 - metallic) * within / let_through + metallic * (within + glossy)).clip(0.0, 1.0)


def sweep() -> None:
    """Takes away copies that came back with a file or an undo step."""
    if _rendering():
        return
    for scene in [each for each in bpy.data.scenes if each.get(MARK) and each.library is None]:
        if len(bpy.data.scenes) > 1:
            bpy.data.scenes.remove(scene)


def _rendering() -> bool:
    return bool(bpy.app.is_job_running("RENDER"))


@contextlib.contextmanager
def _shown_nowhere() -> Iterator[None]:
    """Opens no window for the render."""
    view = bpy.context.preferences.view
    before = view.render_display_type
    try:
        view.render_display_type = "NONE"
        yield
    finally:
        view.render_display_type = before


def _channels(file: str) -> dict[str, np.ndarray]:
    """The channels of an EXR, read with the OpenImageIO that Blender brings along, by pass and channel."""
    opened, found, part = bundled.library("OpenImageIO").ImageInput.open(file), {}, 0
    if opened is None:
        raise Problem(f"Cycles' picture {file} cannot be read. Check the free space of the cache folder, {CURE}")
    while opened.seek_subimage(part, 0):
        names = opened.spec().channelnames
        values = opened.read_image(part, 0, 0, len(names), "float")
        for number, name in enumerate(names):
            # Before the pass's name is the view layer's, which may have dots.
            found[".".join(name.split(".")[-2:])] = values[..., number]
        part += 1
    opened.close()
    return found


def _layer(channels: dict[str, np.ndarray], *names: str) -> np.ndarray:
    """(height, width, 3) of a pass, whose name depends on Blender's version."""
    name = next(each for each in names if f"{each}.R" in channels)
    values = np.stack([channels[f"{name}.{channel}"] for channel in "RGB"], -1)
    return np.nan_to_num(values.astype(np.float32), posinf=1e6)
