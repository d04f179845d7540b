# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operators have in common: work beside the window, progress, Esc, and the same at once in scripts."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from typing import Any

import bpy

from .. import preferences
from ..problems import Problem, plain
from ..tasks import Stopped, Task

INTERVAL = 0.1


class Asking:
    """An operator that asks for something that takes time.

    Called from a script (or in background mode), it is done when the call returns, and raises RuntimeError where it
    fails. Called from a button, it is modal: the window stays free, Esc cancels, and the end is an undo step.

    Subclasses give `label`, `prepare`, which runs in the main thread and returns the work, which runs beside it and
    touches no bpy, and `finish`, which takes what the work returned, in the main thread again.
    """

    label = ""
    _task: Task | None = None
    _timer: Any = None
    _folder = ""

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        raise NotImplementedError

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        raise NotImplementedError

    def folder(self) -> str:
        """A folder for the files of this request, which goes when it ends."""
        if not self._folder:
            try:
                self._folder = preferences.work_folder()
            except OSError as error:
                raise Problem(
                    f"The cache folder {preferences.cache_folder()} cannot be written to ({error.strerror}). Choose "
                    "another one in the preferences of Neural USD."
                ) from error
        return self._folder

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            task = Task(self.label, self.prepare(context))
            self.finish(context, task.run())
            return {"FINISHED"}
        except Stopped:
            return {"CANCELLED"}
        except Exception as error:
            return self._failed(error)
        finally:
            self._clean()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not has_events(context):
            return self.execute(context)
        try:
            self._task = Task(self.label, self.prepare(context)).start()
        except Exception as error:
            failed = self._failed(error)
            self._clean()
            return failed
        self._listen(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        task = self._task
        if event.type == "ESC" and event.value == "PRESS":
            task.cancel()
        if task.cancelled():
            # Not waited for: a service that hangs must not hang the window.
            self._end(context)
            self.report({"INFO"}, f"{self.label}: cancelled")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        if not task.done:
            context.window_manager.progress_update(int(100 * task.fraction))
            if context.workspace is not None:
                context.workspace.status_text_set(f"{self.label}: {task.said} ({task.fraction:.0%})    Esc: cancel")
            redraw(context)
            return {"PASS_THROUGH"}
        self._end(context)
        try:
            if task.error is not None:
                raise task.error
            self.finish(context, task.result)
            return {"FINISHED"}
        except Stopped:
            return {"CANCELLED"}
        except Exception as error:
            return self._failed(error)
        finally:
            self._clean()

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator, as when the file is closed."""
        if self._task is not None:
            self._task.cancel()
        self._end(context)

    def _listen(self, context: bpy.types.Context) -> None:
        manager = context.window_manager
        self._timer = manager.event_timer_add(INTERVAL, window=context.window)
        manager.modal_handler_add(self)
        manager.progress_begin(0, 100)

    def _end(self, context: bpy.types.Context) -> None:
        manager = context.window_manager
        if self._timer is not None:
            manager.event_timer_remove(self._timer)
            self._timer = None
        manager.progress_end()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        redraw(context)
        if self._task is not None and self._task.cancelled():
            self._clean()

    def _clean(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _failed(self, error: Exception) -> set[str]:
        if not isinstance(error, Problem):
            traceback.print_exc()
            error = Problem(f"{type(error).__name__}: {error}. The console has the details; please report it.")
        self.report({"ERROR"}, plain(error, self._folder))
        return {"CANCELLED"}


def has_events(context: bpy.types.Context) -> bool:
    """Whether there is a window whose events drive a modal operator."""
    return not bpy.app.background and context.window is not None


def redraw(context: bpy.types.Context) -> None:
    """Shows progress in the panels."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES", "PROPERTIES"):
                area.tag_redraw()
