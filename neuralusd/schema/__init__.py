"""The neural schemas: registration with USD, and typed accessors in the manner of the classes USD generates.

    from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI

    asset = NeuralAssetAPI.Apply(prim)
    asset.CreatePresenceAttr(1.0)
    tokens = NeuralTokensAPI.Apply(prim, "appearance")
    tokens.CreateValuesAttr(values)                    # a (K, D) float16 array
    numpy.asarray(tokens.GetValuesAttr().Get())        # a view of the crate file's memory

The schema is documented in docs/schema.md and in usdschemas/schema.usda.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neuralusd.schema.plugin import is_registered, plugin_path, register, require

if TYPE_CHECKING:
    from neuralusd.schema.anchor_api import NeuralAnchorAPI
    from neuralusd.schema.asset_api import NeuralAssetAPI
    from neuralusd.schema.base import to_usd
    from neuralusd.schema.provenance_api import NeuralProvenanceAPI
    from neuralusd.schema.render_settings_api import NeuralRenderSettingsAPI
    from neuralusd.schema.surface_api import NeuralSurfaceAPI
    from neuralusd.schema.tokens import NeuralTokensAPI
    from neuralusd.schema.view_api import NeuralViewAPI
    from neuralusd.schema.volume import NeuralVolume

__all__ = [
    "NeuralAnchorAPI",
    "NeuralAssetAPI",
    "NeuralProvenanceAPI",
    "NeuralRenderSettingsAPI",
    "NeuralSurfaceAPI",
    "NeuralTokensAPI",
    "NeuralViewAPI",
    "NeuralVolume",
    "is_registered",
    "plugin_path",
    "register",
    "require",
    "to_usd",
]

# `import neuralusd` registers the schema without paying for numpy and UsdGeom, which the classes need.
_MODULES = {
    "NeuralAnchorAPI": "anchor_api",
    "NeuralAssetAPI": "asset_api",
    "NeuralProvenanceAPI": "provenance_api",
    "NeuralRenderSettingsAPI": "render_settings_api",
    "NeuralSurfaceAPI": "surface_api",
    "NeuralTokensAPI": "tokens",
    "NeuralViewAPI": "view_api",
    "NeuralVolume": "volume",
    "to_usd": "base",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"neuralusd.schema.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'neuralusd.schema' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
