"""Accessors of NeuralVolume. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import GprimSchema


class NeuralVolume(GprimSchema):
    """An object stored as the latent of a volumetric autodecoder (3DVADER), which decodes to density and colour.

    The volume fills the prim's `extent` in its local space, in the object's canonical pose. Author `embedding`,
    `latent`, or both: the decoder's first half makes the latent volume from the embedding, its second half makes the
    radiance volume from the latent. Apply NeuralAssetAPI beside it to render it with other assets.
    """

    schemaIdentifier = "NeuralVolume"
    schemaAttributeNames = (
        "neural:embedding",
        "neural:latent",
        "neural:latentShape",
        "neural:decoder",
        "neural:revision",
    )

    def GetEmbeddingAttr(self) -> Usd.Attribute:
        """`float[] neural:embedding`. The object's 1-D embedding, E floats. No fallback."""
        return self._attr("neural:embedding")

    def CreateEmbeddingAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:embedding`, with `defaultValue` where given; see GetEmbeddingAttr."""
        return self._create_attr("neural:embedding", "float[]", False, defaultValue, writeSparsely)

    def GetLatentAttr(self) -> Usd.Attribute:
        """`half[] neural:latent`. The latent volume: X x Y x Z x C halves, row-major, so that the feature varies
        fastest and x slowest. Cell (0, 0, 0) lies at the minimum corner of `extent`. No fallback.
        """
        return self._attr("neural:latent")

    def CreateLatentAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:latent`, with `defaultValue` where given; see GetLatentAttr."""
        return self._create_attr("neural:latent", "half[]", False, defaultValue, writeSparsely)

    def GetLatentShapeAttr(self) -> Usd.Attribute:
        """`uniform int4 neural:latentShape`. Shape (X, Y, Z, C) of `neural:latent`: cells along each axis and features
        a cell. No fallback.
        """
        return self._attr("neural:latentShape")

    def CreateLatentShapeAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:latentShape`, with `defaultValue` where given; see GetLatentShapeAttr."""
        return self._create_attr("neural:latentShape", "int4", True, defaultValue, writeSparsely)

    def GetDecoderAttr(self) -> Usd.Attribute:
        """`uniform string neural:decoder`, fallback "". Id of the autodecoder that the embedding and the latent belong
        to. No other decoder reads them.
        """
        return self._attr("neural:decoder")

    def CreateDecoderAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:decoder`, with `defaultValue` where given; see GetDecoderAttr."""
        return self._create_attr("neural:decoder", "string", True, defaultValue, writeSparsely)

    def GetRevisionAttr(self) -> Usd.Attribute:
        """`uniform string neural:revision`, fallback "". Revision of the decoder's weights: a commit, a tag, or a hash
        of the weights file.
        """
        return self._attr("neural:revision")

    def CreateRevisionAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:revision`, with `defaultValue` where given; see GetRevisionAttr."""
        return self._create_attr("neural:revision", "string", True, defaultValue, writeSparsely)
