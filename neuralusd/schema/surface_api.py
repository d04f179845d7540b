"""Accessors of NeuralSurfaceAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import SingleApplySchema


class NeuralSurfaceAPI(SingleApplySchema):
    """Where the surfaces of a prim were when its views were taken, so that its look stays on them when they move.

    A renderer that sees a point of a surface finds, by the surface's path, face and place in the face, where that point
    was in the views. What is not named here is taken to be where it was.
    """

    schemaIdentifier = "NeuralSurfaceAPI"
    schemaAttributeNames = (
        "neural:surface:paths",
        "neural:surface:transforms",
        "neural:surface:counts",
        "neural:surface:points",
    )

    def GetPathsAttr(self) -> Usd.Attribute:
        """`string[] neural:surface:paths`. Paths of the geometry, relative to the prim; "." is the prim itself. No
        fallback.
        """
        return self._attr("neural:surface:paths")

    def CreatePathsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:surface:paths`, with `defaultValue` where given; see GetPathsAttr."""
        return self._create_attr("neural:surface:paths", "string[]", False, defaultValue, writeSparsely)

    def GetTransformsAttr(self) -> Usd.Attribute:
        """`matrix4d[] neural:surface:transforms`. From the local space of each of `paths` to the prim's, when the views
        were taken. No fallback.
        """
        return self._attr("neural:surface:transforms")

    def CreateTransformsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:surface:transforms`, with `defaultValue` where given; see GetTransformsAttr."""
        return self._create_attr("neural:surface:transforms", "matrix4d[]", False, defaultValue, writeSparsely)

    def GetCountsAttr(self) -> Usd.Attribute:
        """`int[] neural:surface:counts`. How many of `points` are each of `paths`'; 0 of geometry that does not deform.
        No fallback.
        """
        return self._attr("neural:surface:counts")

    def CreateCountsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:surface:counts`, with `defaultValue` where given; see GetCountsAttr."""
        return self._create_attr("neural:surface:counts", "int[]", False, defaultValue, writeSparsely)

    def GetPointsAttr(self) -> Usd.Attribute:
        """`point3f[] neural:surface:points`. The points of geometry that deforms (by a skeleton, blend shapes, or
        points that vary over time) in its local space, when the views were taken; one after another in the order of
        `paths`. No fallback.
        """
        return self._attr("neural:surface:points")

    def CreatePointsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:surface:points`, with `defaultValue` where given; see GetPointsAttr."""
        return self._create_attr("neural:surface:points", "point3f[]", False, defaultValue, writeSparsely)
