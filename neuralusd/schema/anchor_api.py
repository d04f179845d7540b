"""Accessors of NeuralAnchorAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from pxr import Usd

from neuralusd.schema.base import SingleApplySchema


class NeuralAnchorAPI(SingleApplySchema):
    """How strongly each factor of a scene is held when the scene is resampled.

    An anchor is the initial time alpha of its factor in the sampling of Anchored Generation (equation 12): 1 keeps the
    factor as it is, 0 resamples it from noise, and values between vary it. `pose`, `appearance`, `geometry` and
    `presence` are read on assets, `background` on the asset whose role is background, `camera` on the camera.
    """

    schemaIdentifier = "NeuralAnchorAPI"
    schemaAttributeNames = (
        "neural:anchor:pose",
        "neural:anchor:appearance",
        "neural:anchor:geometry",
        "neural:anchor:presence",
        "neural:anchor:background",
        "neural:anchor:camera",
    )

    def GetPoseAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:pose`, fallback 1. Anchor of the asset's place, orientation and size, from 0
        (resample) to 1 (keep).
        """
        return self._attr("neural:anchor:pose")

    def CreatePoseAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:pose`, with `defaultValue` where given; see GetPoseAttr."""
        return self._create_attr("neural:anchor:pose", "float", True, defaultValue, writeSparsely)

    def GetAppearanceAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:appearance`, fallback 1. Anchor of the asset's appearance tokens, from 0
        (resample) to 1 (keep).
        """
        return self._attr("neural:anchor:appearance")

    def CreateAppearanceAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:appearance`, with `defaultValue` where given; see GetAppearanceAttr."""
        return self._create_attr("neural:anchor:appearance", "float", True, defaultValue, writeSparsely)

    def GetGeometryAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:geometry`, fallback 1. Anchor of the asset's geometry tokens, from 0 (resample)
        to 1 (keep).
        """
        return self._attr("neural:anchor:geometry")

    def CreateGeometryAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:geometry`, with `defaultValue` where given; see GetGeometryAttr."""
        return self._create_attr("neural:anchor:geometry", "float", True, defaultValue, writeSparsely)

    def GetPresenceAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:presence`, fallback 1. Anchor of whether the asset is there, from 0 (resample)
        to 1 (keep). Presence is discrete, so this is the probability that it is kept.
        """
        return self._attr("neural:anchor:presence")

    def CreatePresenceAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:presence`, with `defaultValue` where given; see GetPresenceAttr."""
        return self._create_attr("neural:anchor:presence", "float", True, defaultValue, writeSparsely)

    def GetBackgroundAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:background`, fallback 1. Anchor of the background, from 0 (resample) to 1
        (keep). Read on the asset whose role is background.
        """
        return self._attr("neural:anchor:background")

    def CreateBackgroundAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:background`, with `defaultValue` where given; see GetBackgroundAttr."""
        return self._create_attr("neural:anchor:background", "float", True, defaultValue, writeSparsely)

    def GetCameraAttr(self) -> Usd.Attribute:
        """`uniform float neural:anchor:camera`, fallback 1. Anchor of the camera's intrinsics, from 0 (resample) to 1
        (keep). Read on the camera.
        """
        return self._attr("neural:anchor:camera")

    def CreateCameraAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:anchor:camera`, with `defaultValue` where given; see GetCameraAttr."""
        return self._create_attr("neural:anchor:camera", "float", True, defaultValue, writeSparsely)
