"""What a stage's RenderSettings prim says about neural rendering."""

from __future__ import annotations

from typing import Any

from pxr import Usd, UsdRender

from ..schema import NeuralRenderSettingsAPI


def render_settings(stage: Usd.Stage) -> dict[str, Any]:
    """`backend`, `steps`, `guidance` and `seed` of the stage's render settings, those that are authored.

    The settings are those that the stage's metadata name, as for every renderer.
    """
    settings = UsdRender.Settings.GetStageRenderSettings(stage)
    prim = settings.GetPrim() if settings else None
    api = NeuralRenderSettingsAPI(prim) if prim else None
    if not api:
        return {}
    attributes = {
        "backend": api.GetBackendAttr(),
        "steps": api.GetStepsAttr(),
        "guidance": api.GetGuidanceAttr(),
        "seed": api.GetSeedAttr(),
    }
    return {name: attribute.Get() for name, attribute in attributes.items() if attribute.HasAuthoredValue()}
