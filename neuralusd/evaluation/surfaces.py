"""The surfaces of evaluated frames, from the stages that they were rendered of."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .. import stage as stages
from ..scene import GBuffer, Passes, Scene
from ..stage.errors import StageWarning
from ..surfaces.gbuffer import passes_of


def surfaces_of(scene: Scene, height: int, width: int) -> GBuffer | None:
    """What the camera of a scene sees; None where its stage is no file or has no geometry, as an imported dataset's.

    Then surfaces are those of the views, which the pipeline makes.
    """
    if not os.path.isfile(scene.source):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StageWarning)
        found = stages.render_gbuffer(_stage(scene.source), scene, height, width)
    return found if found.surfaced.any() else None


def with_shaded(scene: Scene, passes: Passes) -> Passes:
    """Passes of a frame that know how the stage's base colours look under even light, as `encode` of a stage does."""
    height, width = passes.ids.shape
    found = surfaces_of(scene, height, width)
    return passes if found is None else replace(passes, shaded=passes_of(found).shaded)


@lru_cache(maxsize=4)
def _stage(path: str) -> Any:
    return stages.open_stage(path)
