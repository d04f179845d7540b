"""A shot is a stage, the sidecar that holds its tokens, and the edits over it."""

from __future__ import annotations

from pathlib import Path

from pxr import Usd

from .. import stage as stages
from ..schema import NeuralTokensAPI

BASE_KEY = "neuralusd:base"
"""Custom data of an edit's layer: the stage before the edit, relative to the layer."""


def open_shot(path: str | Path) -> Usd.Stage:
    """The stage at `path`; where it has no tokens itself but a sidecar has them (`shot.neural.usdc`), the sidecar.

    Raises:
        StageOpenError: the stage or its sidecar cannot be read.
    """
    stage = stages.open_stage(path)
    beside = stages.sidecar_path(path)
    if beside == Path(path) or not beside.is_file() or has_tokens(stage):
        return stage
    return stages.open_stage(beside)


def has_tokens(stage: Usd.Stage) -> bool:
    """Whether any prim has a set of tokens."""
    name = NeuralTokensAPI.schemaIdentifier
    prims = Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies())
    return any(schema.startswith(name) for prim in prims for schema in prim.GetAppliedSchemas())


def base_stage(stage: Usd.Stage) -> Usd.Stage | None:
    """The stage that this one's root layer was made to edit (see `edit_over`), or None.

    Raises SceneError when it names one that cannot be opened.
    """
    layer = stage.GetRootLayer()
    name = layer.customLayerData.get(BASE_KEY)
    return stages.open_stage(layer.ComputeAbsolutePath(name)) if name else None
