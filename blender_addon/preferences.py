# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F722, F821 - Blender reads properties from annotations that are no types
"""The extension's preferences: which service, which weights, where files go."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile

import bpy
from bpy.props import EnumProperty, StringProperty

from . import environment, tasks
from .settings import RELATIVE

PACKAGE = __package__
WHEELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheels_for_service")


class Preferences(bpy.types.AddonPreferences):
    """Preferences of the extension."""

    bl_idname = __package__

    service: EnumProperty(
        name="Service",
        description="Where images are computed",
        items=(
            ("LOCAL", "This Computer", "A service of your own, started when needed, stopped when idle"),
            ("URL", "Another Machine", "A service that somebody runs for you, as on a machine with a GPU"),
        ),
        default="LOCAL",
    )
    python: StringProperty(
        name="Python",
        description="A Python that has neuralusd. Empty takes the one that Set Up made",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    url: StringProperty(name="Address", description="As http://gpu:8750")
    token: StringProperty(
        name="Token",
        description="Yours at that service. It is stored in Blender's preferences as it is; to avoid that, leave it "
        "empty and set NEURALUSD_TOKEN where Blender is started",
        subtype="PASSWORD",
    )
    backend: StringProperty(
        name="Backend", description="Weights to use where a scene names none: a name or a folder", default="mini"
    )
    cache: StringProperty(
        name="Cache",
        description="Folder for passing files. Empty takes one of the extension's own",
        subtype="DIR_PATH",
        options=RELATIVE,
    )
    device: EnumProperty(
        name="For",
        description="Which build of torch to install",
        items=(
            ("CPU", "Processor", "Smaller to download; enough for `mini`"),
            (
                "GPU",
                "NVIDIA Graphics Card",
                "Some gigabytes to download; on a Mac the processor's build uses the GPU too",
            ),
        ),
        default="CPU",
    )

    def draw(self, context: bpy.types.Context) -> None:
        from . import panels

        panels.draw_preferences(self, context, self.layout)


def get() -> Preferences:
    """The preferences as they are."""
    return bpy.context.preferences.addons[PACKAGE].preferences


def cache_folder() -> str:
    """The folder for files that are passed to and from the service."""
    named = bpy.path.abspath(get().cache) if get().cache else ""
    return os.path.abspath(named) if named else _own_folder("cache")


def environment_folder() -> str:
    """Where Set Up makes the environment."""
    return os.path.join(_own_folder(""), "environment")


def service_python() -> str | None:
    """The Python to start a service of one's own with; None where there is none yet."""
    named = bpy.path.abspath(get().python) if get().python else ""
    if named:
        return named
    made = environment.python_of(environment_folder())
    if made is None and importlib.util.find_spec("neuralusd") is not None:
        return sys.executable  # Blender as a module of a Python that has it
    return made


def work_folder() -> str:
    """A new folder for the files of one request."""
    inside = os.path.join(cache_folder(), "work")
    os.makedirs(inside, exist_ok=True)
    return tempfile.mkdtemp(prefix="job-", dir=inside)


def base_python() -> str:
    """A Python to make an environment with: Blender's own."""
    return sys.executable


def bundled_wheel() -> str:
    """The neuralusd that comes with the extension; empty where this build has none."""
    if not os.path.isdir(WHEELS):
        return ""
    found = sorted(name for name in os.listdir(WHEELS) if name.startswith("neuralusd-") and name.endswith(".whl"))
    return os.path.join(WHEELS, found[-1]) if found else ""


def _own_folder(path: str) -> str:
    try:
        return bpy.utils.extension_path_user(PACKAGE, path=path, create=True)
    except ValueError:  # run from a folder of scripts, not installed as an extension
        folder = os.path.join(tempfile.gettempdir(), f"neuralusd-blender-{os.getuid() if hasattr(os, 'getuid') else 0}")
        os.makedirs(os.path.join(folder, path), mode=0o700, exist_ok=True)
        return os.path.join(folder, path)


def register() -> None:
    """Adds the preferences."""
    bpy.utils.register_class(Preferences)


def unregister() -> None:
    """Removes them, and stops what still runs."""
    for task in list(tasks.running):
        task.cancel()
    bpy.utils.unregister_class(Preferences)
