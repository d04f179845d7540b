# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a scene that its renders keep to: pixels that no edit since has touched stay those of its image.

It is the scene as it was sent, tokens included, as a package. It lives in the cache folder, so that undo finds the one
before, and beside the .blend once that is saved, so that it goes where the .blend goes.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os

import bpy

from . import export, pixels, preferences, store
from .export import Sent
from .problems import Problem

AGAIN = "Press Hold where things are as they shall stay, or Release (sidebar > Neural > Hold)."


def keep(scene: bpy.types.Scene, sent: Sent) -> None:
    """Has renders of the scene keep to how it was sent."""
    with open(sent.file, "rb") as file:
        data = file.read()
    name = hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]
    try:
        pixels.whole_write(_cached(name), data)
    except OSError as error:
        raise Problem(f"{_cached(name)} cannot be written ({error.strerror}). Check the disk's free space.") from error
    scene.neuralusd.held, scene.neuralusd.held_backend = name, _backend(scene)


def release(scene: bpy.types.Scene) -> None:
    """Has renders of the scene keep to nothing."""
    scene.neuralusd.held = scene.neuralusd.held_backend = ""


def before(scene: bpy.types.Scene, sent: Sent) -> str | None:
    """The file of the state that an image of the scene, as it is sent, keeps to; None where it keeps to nothing.

    Another camera, or the same elsewhere, touches every pixel.

    Raises Problem where the state is gone, or is of other weights.
    """
    from pxr import Gf, Usd, UsdGeom

    said = scene.neuralusd
    if not said.held:
        return None
    file = find(scene)
    if file is None:
        raise Problem(f"The state that is held is neither beside the .blend nor in the cache folder. {AGAIN}")
    if said.held_backend != _backend(scene):
        raise Problem(f"The state that is held has tokens of {said.held_backend}. {AGAIN}")
    stages = [Usd.Stage.Open(each, Usd.Stage.LoadNone) for each in (sent.file, file)]
    cameras = [UsdGeom.Camera(stage.GetPrimAtPath(sent.camera)) for stage in stages]
    if not all(cameras):
        return None
    one, other = (camera.GetCamera(Usd.TimeCode.EarliestTime()).frustum for camera in cameras)
    same = all(
        Gf.IsClose(getattr(one, matrix)(), getattr(other, matrix)(), 1e-6)
        for matrix in ("ComputeViewMatrix", "ComputeProjectionMatrix")
    )
    return file if same else None


def find(scene: bpy.types.Scene) -> str | None:
    """The file of the state that is held; None where there is none."""
    name = scene.neuralusd.held
    found = [_cached(name)]
    if bpy.data.filepath:
        found.insert(0, _beside(bpy.data.filepath, name))
    return next((file for file in found if name and os.path.isfile(file)), None)


def follow_save(saved: str, opened: str) -> None:
    """Brings what is held along to where the .blend was saved, and takes away what no scene holds any more.

    Args:
        opened: the .blend before, beside which it may still be.
    """
    held = {scene.neuralusd.held for scene in bpy.data.scenes if scene.library is None} - {""}
    for name in held:
        target = _beside(saved, name)
        sources = [_cached(name), *([_beside(opened, name)] if opened else [])]
        source = next((file for file in sources if os.path.isfile(file)), None)
        if source is None or os.path.isfile(target):
            continue
        try:
            with open(source, "rb") as file:
                pixels.whole_write(target, file.read())
        except OSError as error:
            raise Problem(f"{target} cannot be written ({error.strerror}). Check the disk's free space.") from error
    for file in glob.glob(glob.escape(os.path.splitext(saved)[0]) + ".neural.held-*.usdz"):
        if file not in {_beside(saved, name) for name in held}:
            with contextlib.suppress(OSError):
                os.replace(file, _cached(os.path.basename(file).split(".held-")[-1].removesuffix(".usdz")))


def _backend(scene: bpy.types.Scene) -> str:
    return export.numbers(scene)["backend"] or ""


def _beside(blend: str, name: str) -> str:
    return store.beside(blend).removesuffix(".usdc") + f".held-{name}.usdz"


def _cached(name: str) -> str:
    return os.path.join(preferences.cache_folder(), "held", f"{name}.usdz")
