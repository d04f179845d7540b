"""Accessors of NeuralRenderSettingsAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from pxr import Usd

from neuralusd.schema.base import SingleApplySchema


class NeuralRenderSettingsAPI(SingleApplySchema):
    """How a neural renderer makes an image of the stage, on a UsdRenderSettings prim.

    Camera, resolution and products are where UsdRenderSettings and UsdRenderProduct have them.
    """

    schemaIdentifier = "NeuralRenderSettingsAPI"
    schemaAttributeNames = (
        "neural:backend",
        "neural:steps",
        "neural:guidance",
        "neural:seed",
    )

    def GetBackendAttr(self) -> Usd.Attribute:
        """`uniform string neural:backend`, fallback "mini". The weights to render with: a folder, a hub id, or a
        registered name. A relative folder is relative to the process, not to the layer.
        """
        return self._attr("neural:backend")

    def CreateBackendAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:backend`, with `defaultValue` where given; see GetBackendAttr."""
        return self._create_attr("neural:backend", "string", True, defaultValue, writeSparsely)

    def GetStepsAttr(self) -> Usd.Attribute:
        """`uniform int neural:steps`, fallback 0. Number of denoising steps; 0 takes the backend's own default."""
        return self._attr("neural:steps")

    def CreateStepsAttr(self, defaultValue: int | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:steps`, with `defaultValue` where given; see GetStepsAttr."""
        return self._create_attr("neural:steps", "int", True, defaultValue, writeSparsely)

    def GetGuidanceAttr(self) -> Usd.Attribute:
        """`uniform float neural:guidance`, fallback 3. Scale of classifier-free guidance; 1 turns it off. Neural USD
        (appendix C) uses 3.0.
        """
        return self._attr("neural:guidance")

    def CreateGuidanceAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:guidance`, with `defaultValue` where given; see GetGuidanceAttr."""
        return self._create_attr("neural:guidance", "float", True, defaultValue, writeSparsely)

    def GetSeedAttr(self) -> Usd.Attribute:
        """`uniform int64 neural:seed`, fallback 0. Seed of the random numbers, 0 or greater; the same seed on the same
        stage gives the same image.
        """
        return self._attr("neural:seed")

    def CreateSeedAttr(self, defaultValue: int | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:seed`, with `defaultValue` where given; see GetSeedAttr."""
        return self._create_attr("neural:seed", "int64", True, defaultValue, writeSparsely)
