# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a scene that its renders keep to: pixels that no edit since has touched stay those of its image.

It is the scene as it was sent, tokens included, as a package. It lives in the cache folder, so that undo finds the one
before, and beside the .blend once that is saved, so that it goes where the .blend goes.
"""

from __future__ import annotations

import bpy

from . import export
from .beside import Files
from .export import Sent
from .problems import Problem

FILES = Files("held", ".usdz", "held")
AGAIN = "Press Hold where things are as they shall stay, or Release (sidebar > Neural > Hold)."


def keep(scene: bpy.types.Scene, sent: Sent) -> None:
    """Has renders of the scene keep to how it was sent."""
    scene.neuralusd.held, scene.neuralusd.held_backend = FILES.take(sent.file), _backend(scene)


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
    file = FILES.find(scene)
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


def _backend(scene: bpy.types.Scene) -> str:
    return export.numbers(scene)["backend"] or ""
