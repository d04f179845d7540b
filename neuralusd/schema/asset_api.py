"""Accessors of NeuralAssetAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import SingleApplySchema


class NeuralAssetAPI(SingleApplySchema):
    """Makes a prim an asset: one thing that a neural renderer draws, moves and edits by itself.

    The asset's pose is not stored here. It is the prim's xformOps and its extent (computed from the geometry under it),
    seen by the camera that renders. Only an asset without geometry carries its own box, `neural:box2d`. What the asset
    looks like is stored by NeuralTokensAPI on the same prim. An asset may hold other assets below it in namespace; each
    is drawn for itself.
    """

    schemaIdentifier = "NeuralAssetAPI"
    schemaAttributeNames = (
        "neural:presence",
        "neural:role",
        "neural:text",
        "neural:box2d",
    )

    def GetPresenceAttr(self) -> Usd.Attribute:
        """`float neural:presence`, fallback 1. How much the asset is there, from 0 (absent) to 1 (present). Animatable.
        An invisible prim is absent whatever its presence.
        """
        return self._attr("neural:presence")

    def CreatePresenceAttr(self, defaultValue: float | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:presence`, with `defaultValue` where given; see GetPresenceAttr."""
        return self._create_attr("neural:presence", "float", False, defaultValue, writeSparsely)

    def GetRoleAttr(self) -> Usd.Attribute:
        """`uniform token neural:role`, fallback "foreground". Whether the asset is a thing in the scene or the scene
        behind all things. Allowed: `foreground` (an object), `background` (everything that belongs to no object). A
        stage has at most one background; it needs neither geometry nor a box.
        """
        return self._attr("neural:role")

    def CreateRoleAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:role`, with `defaultValue` where given; see GetRoleAttr."""
        return self._create_attr("neural:role", "token", True, defaultValue, writeSparsely)

    def GetTextAttr(self) -> Usd.Attribute:
        """`string neural:text`, fallback "". What the asset is, in words, for models that take a text per asset.
        Animatable. Categories for machines belong in SemanticsLabelsAPI; this is a phrase for a text encoder.
        """
        return self._attr("neural:text")

    def CreateTextAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:text`, with `defaultValue` where given; see GetTextAttr."""
        return self._create_attr("neural:text", "string", False, defaultValue, writeSparsely)

    def GetBox2dAttr(self) -> Usd.Attribute:
        """`float4 neural:box2d`. Box of an asset that has no geometry: x, y of the top left corner, then height h and
        width w, normalised to the image. x and w run right from 0 (left edge) to 1, y and h run down from 0 (top edge)
        to 1. Animatable. No fallback. Ignored on a prim that has an extent, whose box follows from the camera.
        """
        return self._attr("neural:box2d")

    def CreateBox2dAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:box2d`, with `defaultValue` where given; see GetBox2dAttr."""
        return self._create_attr("neural:box2d", "float4", False, defaultValue, writeSparsely)
