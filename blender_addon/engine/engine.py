# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from .. import pixels, preferences
from ..problems import Problem, plain
from ..request import Rendered, RenderScene
from ..tasks import Stopped, Task, on_main
from ..view import frame_aspect, frame_pixels
from .preview import Preview

# What Cycles writes where there is nothing.
FAR = 1e10
LOOK_EVERY = 0.5


class NEURALUSD_RenderEngine(bpy.types.RenderEngine):
    """Images by the service: image = Decode(Edit(stage))."""

    bl_idname = "NEURALUSD"
    bl_label = "Neural USD"
    bl_use_preview = False
    bl_use_eevee_viewport = False
    # Materials keep the nodes that Cycles and EEVEE read: encoding takes their base colours.
    bl_use_shading_nodes_custom = False

    _preview: Preview | None = None

    def __del__(self) -> None:
        preview = getattr(self, "_preview", None)
        if preview is not None:
            preview.close()

    # -- passes

    def update_render_passes(self, scene: Any = None, renderlayer: Any = None) -> None:
        self.register_pass(scene, renderlayer, "Combined", 4, "RGBA", "COLOR")
        for name, channel in _wanted(renderlayer):
            self.register_pass(scene, renderlayer, name, 1, channel, "VALUE")

    # -- viewport

    def view_update(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        if self._preview is None:
            self._preview = Preview()
        self._preview.touch()

    def view_draw(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        if self._preview is None:
            self._preview = Preview()
        self._preview.look(context, _original(depsgraph.scene), _original(depsgraph.view_layer))
        self.update_stats("Neural USD", self._preview.said)
        self.bind_display_space_shader(depsgraph.scene)
        self._preview.draw()
        self.unbind_display_space_shader()

    # -- F12

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        scene, layer = _original(depsgraph.scene), _original(depsgraph.view_layer)
        passes = _wanted(layer)
        folder = ""
        try:
            for name, channel in passes:
                self.add_pass(name, 1, channel, layer=layer.name)
            folder = on_main(preferences.work_folder, self.stopped)
            self.update_stats("Neural USD", "sending the scene")
            # Blender renders in a thread of its own, where nothing may be exported.
            # While Blender renders by this engine it cannot render by another.
            options = {"passes": bool(passes), "cycles_may": False}
            work = on_main(lambda: RenderScene(scene, layer, folder, **options), self.stopped)
            task = _Reporting(self, work, scene, layer)
            result: Rendered = task.run()
            self._write(task, result, scene, layer)
            said = result.said_of_encoding(on_main(result.keep_tokens, self.stopped))
            if said:
                self.report({"INFO"}, f"Rendered{said}")
        except Stopped:
            return
        except Exception as error:
            if not isinstance(error, Problem):
                import traceback

                traceback.print_exc()
            said = plain(error, folder)
            self.report({"ERROR"}, said)  # what scripts get; the other ends an animation
            self.error_set(said)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stopped(self) -> bool:
        """Whether Blender wants the render to stop, as after Esc."""
        return bool(self.test_break())

    def _write(self, task: _Reporting, result: Rendered, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        with open(result.file, "rb") as file:
            image = pixels.read_png(file.read())
        found: dict[str, np.ndarray] = {"Combined": task.combined(image)}
        passes = result.passes()
        if passes is not None:
            shape = task.shape
            depth = passes["depth"] / scene.unit_settings.scale_length
            depth = np.where(np.isfinite(depth), depth, FAR)[..., None]
            found["Depth"] = pixels.frame(depth, *shape, task.aspect, smooth=False)
            numbers = [_pass_index(result, name) for name in passes["names"]]
            ids = np.array([*numbers, 0], np.float32)[passes["ids"]][..., None]
            found["IndexOB"] = pixels.frame(ids, *shape, task.aspect, smooth=False)
        task.write(found, final=True)


class _Reporting(Task):
    """The request of an F12, which reports to the engine and asks it whether to stop."""

    def __init__(self, engine: NEURALUSD_RenderEngine, work: Any, scene: bpy.types.Scene, layer: bpy.types.ViewLayer):
        super().__init__("Neural render", work)
        self.engine, self.layer = engine, layer.name
        self.shape = frame_pixels(scene)
        self.aspect = frame_aspect(scene)
        self.region = _region(scene.render, *self.shape)
        self._looked = 0.0

    def cancelled(self) -> bool:
        self.engine.update_progress(self.fraction)
        self.engine.update_stats("Neural USD", self.said)
        now = time.monotonic()
        if self.picture is not None and now - self._looked > LOOK_EVERY:
            self._looked, picture, self.picture = now, self.picture, None
            try:
                self.write({"Combined": self.combined(pixels.read_png(picture))}, final=False)
            except ValueError:  # an intermediate picture is a courtesy
                pass
        return self.engine.stopped()

    def combined(self, image: np.ndarray) -> np.ndarray:
        """A picture of the service as the frame's linear RGBA, its top row first."""
        framed = pixels.frame(image / np.float32(255), *self.shape, self.aspect).clip(0, 1)
        rgba = np.ones((*framed.shape[:2], 4), np.float32)
        rgba[..., :3] = pixels.scene_linear(framed)
        return rgba

    def write(self, found: dict[str, np.ndarray], final: bool) -> None:
        """Hands passes to Blender, whose first row is the bottom one."""
        x, y, width, height = self.region
        result = self.engine.begin_result(0, 0, width, height, layer=self.layer)
        passes = result.layers[0].passes
        for name, values in found.items():
            if name in passes:
                part = values[::-1][y : y + height, x : x + width]
                passes[name].rect.foreach_set(np.ascontiguousarray(part, np.float32).ravel())
        self.engine.end_result(result, cancel=False)


def _wanted(layer: Any) -> list[tuple[str, str]]:
    """The passes beside Combined that a view layer asks for: name, and name of its channel."""
    asked = (("Depth", "Z", layer.use_pass_z), ("IndexOB", "X", layer.use_pass_object_index))
    return [(name, channel) for name, channel, wanted in asked if wanted]


def _region(render: bpy.types.RenderSettings, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, bottom, width and height of what is rendered of the frame, in its pixels."""
    if not render.use_border:
        return 0, 0, width, height
    # In single precision, as Blender rounds them.
    left, right = (int(np.float32(edge) * np.float32(width)) for edge in (render.border_min_x, render.border_max_x))
    bottom, top = (int(np.float32(edge) * np.float32(height)) for edge in (render.border_min_y, render.border_max_y))
    return left, bottom, right - left, top - bottom


def _pass_index(result: Rendered, path: str) -> int:
    each = result.sent.object(path)
    return each.pass_index if each is not None else 0


def _original(block: Any) -> Any:
    return getattr(block, "original", None) or block


def draws_with_any_engine() -> Iterator[type]:
    """The panels of Blender that do not ask which engine it is, but for names that they know."""
    unfit = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes"}
    for panel in bpy.types.Panel.__subclasses__():
        if "BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ()) and panel.__name__ not in unfit:
            yield panel
