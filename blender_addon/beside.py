# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that go along with a .blend: beside it once it is saved, in the cache folder before, and where undo finds them.

Only bpy and the standard library.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from dataclasses import dataclass

import bpy

from . import pixels, preferences, store
from .problems import Problem


@dataclass(frozen=True)
class Files:
    """A kind of such files, each known by a name that a scene keeps.

    Attributes:
        kind: between the .blend's name and the file's own, and the folder of the cache. extension: with its dot.
        setting: of `scene.neuralusd`, that holds the name; "" is none.
    """

    kind: str
    extension: str
    setting: str

    def name(self, scene: bpy.types.Scene) -> str:
        return str(getattr(scene.neuralusd, self.setting))

    def beside(self, blend: str, name: str) -> str:
        """Where the file is beside a .blend."""
        return store.beside(blend).removesuffix(".usdc") + f".{self.kind}-{name}{self.extension}"

    def cached(self, name: str) -> str:
        """Where the file is while no .blend is saved."""
        return os.path.join(preferences.cache_folder(), self.kind, f"{name}{self.extension}")

    def take(self, file: str) -> str:
        """Keeps the content of a file; its name follows from that. Raises Problem where it cannot be written."""
        with open(file, "rb") as read:
            data = read.read()
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]
        _write(self.cached(name), data)
        return name

    def find(self, scene: bpy.types.Scene) -> str | None:
        """The file of a scene; None where there is none."""
        name = self.name(scene)
        found = [self.cached(name)]
        if bpy.data.filepath:
            found.insert(0, self.beside(bpy.data.filepath, name))
        return next((file for file in found if name and os.path.isfile(file)), None)

    def follow_save(self, saved: str, opened: str) -> None:
        """Brings files along to where the .blend was saved, and takes away those that no scene needs any more.

        Args:
            opened: the .blend before, beside which they may still be.

        Raises:
            Problem: one cannot be written.
        """
        needed = {self.name(scene) for scene in bpy.data.scenes if scene.library is None} - {""}
        for name in needed:
            target = self.beside(saved, name)
            sources = [self.cached(name), *([self.beside(opened, name)] if opened else [])]
            source = next((file for file in sources if os.path.isfile(file)), None)
            if source is None or os.path.isfile(target):
                continue
            with open(source, "rb") as file:
                _write(target, file.read())
        kept = {self.beside(saved, name) for name in needed}
        marked = f".{self.kind}-"
        pattern = glob.escape(store.beside(saved).removesuffix(".usdc")) + f"{marked}*{self.extension}"
        for other in set(glob.glob(pattern)) - kept:
            with contextlib.suppress(OSError):  # moved to where undo finds it
                cached = self.cached(os.path.basename(other).split(marked)[-1].removesuffix(self.extension))
                os.makedirs(os.path.dirname(cached), exist_ok=True)
                os.replace(other, cached)


def _write(file: str, data: bytes) -> None:
    try:
        pixels.whole_write(file, data)
    except OSError as error:
        raise Problem(f"{file} cannot be written ({error.strerror}). Check the disk's free space.") from error
