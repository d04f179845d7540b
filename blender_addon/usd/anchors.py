# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of each factor resampling keeps, as NeuralAnchorAPI: alpha of Anchored Generation, 0 resamples, 1 keeps."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from . import neural

POSE, APPEARANCE, GEOMETRY, PRESENCE = "pose", "appearance", "geometry", "presence"
CAMERA, BACKGROUND = "camera", "background"
# Of an object here; look and shape are one.
FACTORS = (POSE, APPEARANCE, PRESENCE)
# Alphas are single precision, here and in USD.
CLOSE = 1e-6


def says_something(said: Any) -> bool:
    """Whether the settings of an object let anything of it change."""
    return any(getattr(said, f"anchor_{factor}") != 1.0 for factor in FACTORS)


def value(prim: Usd.Prim, factor: str) -> float | None:
    """What a prim says of a factor; None where it says nothing, or no number of 0 to 1."""
    attribute = prim.GetAttribute(f"neural:anchor:{factor}")
    found = attribute.Get() if attribute and attribute.HasAuthoredValue() else None
    return float(found) if isinstance(found, (int, float)) and 0 <= found <= 1 else None


def write_one(prim: Usd.Prim, factor: str, alpha: float) -> None:
    """Says it on a prim, unless it is what the prim says or, saying nothing, means: 1."""
    said = value(prim, factor)
    if abs(alpha - (1.0 if said is None else said)) > CLOSE:
        neural.apply(prim, neural.ANCHOR)
        neural.author(prim, f"neural:anchor:{factor}", "float", alpha, uniform=True)


def write(prim: Usd.Prim, said: Any) -> None:
    """Says on a prim what the settings of its object say."""
    write_one(prim, POSE, said.anchor_pose)
    write_one(prim, PRESENCE, said.anchor_presence)
    if abs(said.anchor_appearance - _look(prim)) <= CLOSE:
        return
    write_one(prim, APPEARANCE, said.anchor_appearance)
    if value(prim, GEOMETRY) is not None:
        write_one(prim, GEOMETRY, said.anchor_appearance)


def read(prim: Usd.Prim, said: Any) -> None:
    """Takes what a prim says over to the settings of its object."""
    if neural.ANCHOR not in neural.schemas(prim):
        return
    for factor in (POSE, PRESENCE):
        found = value(prim, factor)
        if found is not None:
            setattr(said, f"anchor_{factor}", found)
    said.anchor_appearance = _look(prim)


def _look(prim: Usd.Prim) -> float:
    """Alpha of shape and look together: the lesser one."""
    found = [value(prim, factor) for factor in (APPEARANCE, GEOMETRY)]
    return min((alpha for alpha in found if alpha is not None), default=1.0)
