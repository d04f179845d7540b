"""Accessors of NeuralViewAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import MultipleApplySchema


class NeuralViewAPI(MultipleApplySchema):
    """One picture of a prim, and from where it was taken: what a renderer looks up when it asks how a point of the prim
    looks.

    The instance name is the view's. A prim may have one view, as of a photograph, or several from all around. A view is
    a crop of the picture around the prim, with the depth of what the crop shows of the prim. Apply it beside
    NeuralTokensAPI: a prim that takes the tokens of another by `from` takes its views too.
    """

    schemaIdentifier = "NeuralViewAPI"
    propertyNamespacePrefix = "neural:view"
    schemaAttributeNames = (
        "color",
        "depth",
        "depthRange",
        "viewTransform",
        "lens",
        "projection",
        "crop",
        "kind",
        "gain",
        "source",
    )

    def GetColorAttr(self) -> Usd.Attribute:
        """`uchar[] neural:view:<name>:color`. The crop as the bytes of a PNG file: H x W pixels, RGB, 8 bits a channel,
        sRGB. No fallback.
        """
        return self._attr(self._property("color"))

    def CreateColorAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:color`, with `defaultValue` where given; see GetColorAttr."""
        return self._create_attr(self._property("color"), "uchar[]", False, defaultValue, writeSparsely)

    def GetDepthAttr(self) -> Usd.Attribute:
        """`uchar[] neural:view:<name>:depth`. The crop's depths along the viewing axis as the bytes of a PNG file: H x
        W pixels, one channel of 16 bits. 0: the pixel does not show the prim. From 1 to 65535: linear from the first
        number of `depthRange` to the second. Where a prim has no known depth, all that shows it is 1, and `depthRange`
        is (0, 0). No fallback.
        """
        return self._attr(self._property("depth"))

    def CreateDepthAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:depth`, with `defaultValue` where given; see GetDepthAttr."""
        return self._create_attr(self._property("depth"), "uchar[]", False, defaultValue, writeSparsely)

    def GetDepthRangeAttr(self) -> Usd.Attribute:
        """`float2 neural:view:<name>:depthRange`. The depths, in metres, that 1 and 65535 in `depth` stand for. No
        fallback.
        """
        return self._attr(self._property("depthRange"))

    def CreateDepthRangeAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:depthRange`, with `defaultValue` where given; see GetDepthRangeAttr."""
        return self._create_attr(self._property("depthRange"), "float2", False, defaultValue, writeSparsely)

    def GetViewTransformAttr(self) -> Usd.Attribute:
        """`matrix4d neural:view:<name>:viewTransform`. From the prim's local space to the space of the camera that took
        the picture, in metres, for row vectors (point x matrix). The camera looks down -Z with +Y up, as UsdGeomCamera.
        No fallback.
        """
        return self._attr(self._property("viewTransform"))

    def CreateViewTransformAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:viewTransform`, with `defaultValue` where given; see GetViewTransformAttr."""
        return self._create_attr(self._property("viewTransform"), "matrix4d", False, defaultValue, writeSparsely)

    def GetLensAttr(self) -> Usd.Attribute:
        """`float4 neural:view:<name>:lens`. (fx, fy, ox, oy) of the whole picture, so that a point (x, y, z) in camera
        space is seen at w = 0.5 + fx * x / -z - ox (from the left edge, 0, to the right edge, 1) and h = 0.5 - fy * y /
        -z + oy (from the top edge down). An orthographic camera has the same without the division. No fallback.
        """
        return self._attr(self._property("lens"))

    def CreateLensAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:lens`, with `defaultValue` where given; see GetLensAttr."""
        return self._create_attr(self._property("lens"), "float4", False, defaultValue, writeSparsely)

    def GetProjectionAttr(self) -> Usd.Attribute:
        """`uniform token neural:view:<name>:projection`, fallback "perspective". Projection of the camera, as
        UsdGeomCamera's. Allowed: `perspective`, `orthographic`.
        """
        return self._attr(self._property("projection"))

    def CreateProjectionAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:projection`, with `defaultValue` where given; see GetProjectionAttr."""
        return self._create_attr(self._property("projection"), "token", True, defaultValue, writeSparsely)

    def GetCropAttr(self) -> Usd.Attribute:
        """`float4 neural:view:<name>:crop`. The crop in the picture: x, y of the top left corner, then height h and
        width w, normalised to the picture. No fallback.
        """
        return self._attr(self._property("crop"))

    def CreateCropAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:crop`, with `defaultValue` where given; see GetCropAttr."""
        return self._create_attr(self._property("crop"), "float4", False, defaultValue, writeSparsely)

    def GetKindAttr(self) -> Usd.Attribute:
        """`uniform token neural:view:<name>:kind`, fallback "picture". What the pixels are. Allowed: `picture` (how the
        prim looked, with its light), `albedo` (its plain base colour).
        """
        return self._attr(self._property("kind"))

    def CreateKindAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:kind`, with `defaultValue` where given; see GetKindAttr."""
        return self._create_attr(self._property("kind"), "token", True, defaultValue, writeSparsely)

    def GetGainAttr(self) -> Usd.Attribute:
        """`float3 neural:view:<name>:gain`, fallback (1, 1, 1). How many times as bright the picture is, in each
        channel's sRGB value, as the prim's base colour under even light.
        """
        return self._attr(self._property("gain"))

    def CreateGainAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:gain`, with `defaultValue` where given; see GetGainAttr."""
        return self._create_attr(self._property("gain"), "float3", False, defaultValue, writeSparsely)

    def GetSourceAttr(self) -> Usd.Attribute:
        """`asset neural:view:<name>:source`, fallback @@. The picture that the crop was taken from, for people. No
        renderer reads it.
        """
        return self._attr(self._property("source"))

    def CreateSourceAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:view:<name>:source`, with `defaultValue` where given; see GetSourceAttr."""
        return self._create_attr(self._property("source"), "asset", False, defaultValue, writeSparsely)
