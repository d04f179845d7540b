# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up the environment of the service, and checking that all is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import bpy

from .. import connection, environment, export, preferences, tasks
from ..environment import Finding
from ..problems import Problem
from ..tasks import Task
from .base import Asking, redraw

VERBS = ("encode", "render", "resample", "lift", "compose", "depict")
"""What neuralusd is to offer, in the end."""
found: list[Finding] = []
"""What the last check found."""
last_log: list[str] = []
"""The lines of the last set-up."""


class NEURALUSD_OT_check(Asking, bpy.types.Operator):
    """Look for the service and what it needs, and say what is missing and how to get it"""

    bl_idname = "neuralusd.check"
    bl_label = "Check"
    label = "Checking Neural USD"

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        connection.forget()
        version = os.path.basename(preferences.bundled_wheel()).partition("-")[2].partition("-")[0]
        try:
            where = export.where()
        except Problem as error:
            problem = Finding("Address", False, str(error))
            return lambda task: [problem]
        return lambda task: _look(task, where, version)

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        found[:] = result
        redraw(context)
        bad = [each for each in result if not each.ok]
        if bad:
            self.report({"WARNING"}, f"{bad[0].name}: {bad[0].detail}. {bad[0].cure}")
        else:
            self.report({"INFO"}, "All is there")


def _look(task: Task, where: connection.Where, version: str) -> list[Finding]:
    out = []
    if not where.remote:
        task.tell(0.1, "looking at the environment")
        out = environment.look(where.python, version)
        if any(not each.ok for each in out):
            return out
    task.tell(0.4, "looking for the service")
    try:
        client = connection.connect(where)
        info = client.info()
    except (Problem, connection.protocol.ServiceError) as error:
        cure = "" if not where.remote else "Ask whoever runs the service"
        return [*out, Finding("Service", False, str(error).rstrip("."), cure)]
    verbs, lacking = ", ".join(info["verbs"]), ", ".join(verb for verb in VERBS if verb not in info["verbs"])
    verbs += f"; not built yet: {lacking}" if lacking else ""
    out.append(Finding("Service", True, f"neuralusd {client.version} at {client.url}: {verbs}"))
    out.append(Finding("Weights", bool(info["backends"]), ", ".join(info["backends"]) or "none"))
    return out


class NEURALUSD_OT_setup(Asking, bpy.types.Operator):
    """Install neuralusd and torch into an environment of their own, apart from Blender. Downloads a gigabyte, once"""

    bl_idname = "neuralusd.setup"
    bl_label = "Set Up"
    label = "Setting up Neural USD"

    def prepare(self, context: bpy.types.Context) -> Callable[[Task], Any]:
        if any(task.label == self.label for task in tasks.running):
            raise Problem("It is being set up already; the preferences show how far it is.")
        if not getattr(bpy.app, "online_access", True):
            raise Problem(
                "Blender may not use the internet. Allow it in Edit > Preferences > System > Network > Online Access."
            )
        wheel = preferences.bundled_wheel()
        if not wheel:
            raise Problem(
                "This build of the extension brings no neuralusd. Install neuralusd by hand, and name its Python."
            )
        folder, base, device = preferences.environment_folder(), preferences.base_python(), preferences.get().device
        log = os.path.join(os.path.dirname(folder), "setup.log")

        def work(task: Task) -> str:
            try:
                return environment.create(task, folder, base, wheel, device)
            finally:
                last_log[:] = task.log
                with open(log, "w", encoding="utf-8") as file:
                    file.write("\n".join(task.log) + "\n")

        return work

    def finish(self, context: bpy.types.Context, result: Any) -> None:
        connection.forget()
        found[:] = [Finding("Environment", True, f"ready: {result}")]
        redraw(context)
        self.report({"INFO"}, "Neural USD is set up")


class NEURALUSD_OT_stop(bpy.types.Operator):
    """Stop what is running"""

    bl_idname = "neuralusd.stop"
    bl_label = "Cancel"

    def execute(self, context: bpy.types.Context) -> set[str]:
        for task in list(tasks.running):
            task.cancel()
        return {"FINISHED"}
