"""Accessors of NeuralTokensAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import MultipleApplySchema


class NeuralTokensAPI(MultipleApplySchema):
    """What an encoder saw of a prim in one modality: K vectors of D numbers, usually one a cell of a crop of an image.

    The instance name is the modality: `appearance` (texture, material, colour), `geometry` (shape), `text`, or any
    other that a backend knows. Tokens are only ever read by a backend whose encoder is the one recorded here. Apply it
    to a prim that has NeuralAssetAPI, or to a prim of a library (a class, a Scope) that assets inherit, reference, or
    name in their `from` relationship.
    """

    schemaIdentifier = "NeuralTokensAPI"
    propertyNamespacePrefix = "neural:tokens"
    schemaAttributeNames = (
        "values",
        "shape",
        "grid",
        "points",
        "extent",
        "crop",
        "viewTransform",
        "encoder",
        "revision",
        "source",
    )

    def GetValuesAttr(self) -> Usd.Attribute:
        """`half[] neural:tokens:<name>:values`. The tokens: K x D halves, row-major, one token after another. Within a
        grid the cells run row by row from the top left of the crop. Animatable, of one shape over time. No fallback;
        read it as a numpy view with `numpy.asarray(attr.Get())`.
        """
        return self._attr(self._property("values"))

    def CreateValuesAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:values`, with `defaultValue` where given; see GetValuesAttr."""
        return self._create_attr(self._property("values"), "half[]", False, defaultValue, writeSparsely)

    def GetShapeAttr(self) -> Usd.Attribute:
        """`uniform int2 neural:tokens:<name>:shape`. Shape (K, D) of `values`: the number of tokens and the length of
        each. No fallback.
        """
        return self._attr(self._property("shape"))

    def CreateShapeAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:shape`, with `defaultValue` where given; see GetShapeAttr."""
        return self._create_attr(self._property("shape"), "int2", True, defaultValue, writeSparsely)

    def GetGridAttr(self) -> Usd.Attribute:
        """`uniform int2 neural:tokens:<name>:grid`. Rows and columns of the crop's cells; rows x columns is K. A
        sequence, such as text, has (1, K). No fallback.
        """
        return self._attr(self._property("grid"))

    def CreateGridAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:grid`, with `defaultValue` where given; see GetGridAttr."""
        return self._create_attr(self._property("grid"), "int2", True, defaultValue, writeSparsely)

    def GetPointsAttr(self) -> Usd.Attribute:
        """`point3f[] neural:tokens:<name>:points`. Where each of the K tokens lies in the prim's local space, in stage
        units; NaN where unknown. NaN marks a cell that saw nothing of the prim, or whose depth is not known.
        Animatable. Empty or unauthored: no cell has a known place.
        """
        return self._attr(self._property("points"))

    def CreatePointsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:points`, with `defaultValue` where given; see GetPointsAttr."""
        return self._create_attr(self._property("points"), "point3f[]", False, defaultValue, writeSparsely)

    def GetExtentAttr(self) -> Usd.Attribute:
        """`float3[] neural:tokens:<name>:extent`. The prim's local box when it was encoded, as minimum and maximum
        corner, in stage units. Another prim that takes these tokens places their points by this box relative to its
        own. 2 elements. No fallback.
        """
        return self._attr(self._property("extent"))

    def CreateExtentAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:extent`, with `defaultValue` where given; see GetExtentAttr."""
        return self._create_attr(self._property("extent"), "float3[]", False, defaultValue, writeSparsely)

    def GetCropAttr(self) -> Usd.Attribute:
        """`float4 neural:tokens:<name>:crop`. The crop in the source image: x, y of the top left corner, then height h
        and width w, normalised to the image. Same convention as `neural:box2d`. No fallback.
        """
        return self._attr(self._property("crop"))

    def CreateCropAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:crop`, with `defaultValue` where given; see GetCropAttr."""
        return self._create_attr(self._property("crop"), "float4", False, defaultValue, writeSparsely)

    def GetViewTransformAttr(self) -> Usd.Attribute:
        """`matrix4d neural:tokens:<name>:viewTransform`. From the prim's local space to the space of the camera that
        saw it, in metres, for row vectors (point x matrix). The camera looks down -Z with +Y up, as UsdGeomCamera. The
        prim's own scale and the stage's metersPerUnit are part of it. No fallback.
        """
        return self._attr(self._property("viewTransform"))

    def CreateViewTransformAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:viewTransform`, with `defaultValue` where given; see GetViewTransformAttr."""
        return self._create_attr(self._property("viewTransform"), "matrix4d", False, defaultValue, writeSparsely)

    def GetEncoderAttr(self) -> Usd.Attribute:
        """`uniform string neural:tokens:<name>:encoder`, fallback "". Id of the encoder that made the tokens, such as
        `facebook/dinov2-base`. A backend with another encoder refuses the tokens.
        """
        return self._attr(self._property("encoder"))

    def CreateEncoderAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:encoder`, with `defaultValue` where given; see GetEncoderAttr."""
        return self._create_attr(self._property("encoder"), "string", True, defaultValue, writeSparsely)

    def GetRevisionAttr(self) -> Usd.Attribute:
        """`uniform string neural:tokens:<name>:revision`, fallback "". Revision of the encoder's weights: a commit, a
        tag, or a hash of the weights file.
        """
        return self._attr(self._property("revision"))

    def CreateRevisionAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:revision`, with `defaultValue` where given; see GetRevisionAttr."""
        return self._create_attr(self._property("revision"), "string", True, defaultValue, writeSparsely)

    def GetSourceAttr(self) -> Usd.Attribute:
        """`asset neural:tokens:<name>:source`, fallback @@. The image the crop was taken from, for people and for
        encoding again. No renderer reads it.
        """
        return self._attr(self._property("source"))

    def CreateSourceAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:tokens:<name>:source`, with `defaultValue` where given; see GetSourceAttr."""
        return self._create_attr(self._property("source"), "asset", False, defaultValue, writeSparsely)

    def GetFromRel(self) -> Usd.Relationship:
        """`rel neural:tokens:<name>:from`. The prim whose tokens of this modality are used in place of this prim's own.
        One target, a prim that has NeuralTokensAPI of the same modality; that one may point further. This is how an
        asset takes the look of another without a copy.
        """
        return self._rel(self._property("from"))

    def CreateFromRel(self) -> Usd.Relationship:
        """Authors `neural:tokens:<name>:from` where it is not yet there; see GetFromRel."""
        return self._create_rel(self._property("from"))
