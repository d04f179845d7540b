"""Accessors of NeuralProvenanceAPI. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""

from __future__ import annotations

from typing import Any

from pxr import Usd

from neuralusd.schema.base import SingleApplySchema


class NeuralProvenanceAPI(SingleApplySchema):
    """How a prim was made by neuralusd, so that it can be made again.

    Where the host has UsdMediaAuthorshipAPI, that is written beside it, for tools that know nothing of neuralusd.
    """

    schemaIdentifier = "NeuralProvenanceAPI"
    schemaAttributeNames = (
        "neural:provenance:verb",
        "neural:provenance:prompt",
        "neural:provenance:sources",
        "neural:provenance:backend",
        "neural:provenance:revision",
        "neural:provenance:seed",
        "neural:provenance:license",
        "neural:provenance:versions",
    )

    def GetVerbAttr(self) -> Usd.Attribute:
        """`uniform token neural:provenance:verb`. What neuralusd did to make the prim. Allowed: `encode`, `render`,
        `edit`, `resample`, `lift`, `compose`, `depict`. No fallback.
        """
        return self._attr("neural:provenance:verb")

    def CreateVerbAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:verb`, with `defaultValue` where given; see GetVerbAttr."""
        return self._create_attr("neural:provenance:verb", "token", True, defaultValue, writeSparsely)

    def GetPromptAttr(self) -> Usd.Attribute:
        """`uniform string neural:provenance:prompt`, fallback "". The text it was made from."""
        return self._attr("neural:provenance:prompt")

    def CreatePromptAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:prompt`, with `defaultValue` where given; see GetPromptAttr."""
        return self._create_attr("neural:provenance:prompt", "string", True, defaultValue, writeSparsely)

    def GetSourcesAttr(self) -> Usd.Attribute:
        """`uniform asset[] neural:provenance:sources`, fallback []. The images, stages and other files it was made
        from.
        """
        return self._attr("neural:provenance:sources")

    def CreateSourcesAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:sources`, with `defaultValue` where given; see GetSourcesAttr."""
        return self._create_attr("neural:provenance:sources", "asset[]", True, defaultValue, writeSparsely)

    def GetBackendAttr(self) -> Usd.Attribute:
        """`uniform string neural:provenance:backend`, fallback "". The weights it was made with: a folder, a hub id, or
        a registered name.
        """
        return self._attr("neural:provenance:backend")

    def CreateBackendAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:backend`, with `defaultValue` where given; see GetBackendAttr."""
        return self._create_attr("neural:provenance:backend", "string", True, defaultValue, writeSparsely)

    def GetRevisionAttr(self) -> Usd.Attribute:
        """`uniform string neural:provenance:revision`, fallback "". Revision of the backend's weights: a commit, a tag,
        or a hash of the weights file.
        """
        return self._attr("neural:provenance:revision")

    def CreateRevisionAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:revision`, with `defaultValue` where given; see GetRevisionAttr."""
        return self._create_attr("neural:provenance:revision", "string", True, defaultValue, writeSparsely)

    def GetSeedAttr(self) -> Usd.Attribute:
        """`uniform int64 neural:provenance:seed`. Seed of the random numbers. No fallback: unauthored where no random
        numbers were used.
        """
        return self._attr("neural:provenance:seed")

    def CreateSeedAttr(self, defaultValue: int | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:seed`, with `defaultValue` where given; see GetSeedAttr."""
        return self._create_attr("neural:provenance:seed", "int64", True, defaultValue, writeSparsely)

    def GetLicenseAttr(self) -> Usd.Attribute:
        """`uniform string neural:provenance:license`, fallback "". Licence of the result as an SPDX expression, such as
        `CC-BY-4.0`, as far as its sources and weights tell.
        """
        return self._attr("neural:provenance:license")

    def CreateLicenseAttr(self, defaultValue: str | None = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:license`, with `defaultValue` where given; see GetLicenseAttr."""
        return self._create_attr("neural:provenance:license", "string", True, defaultValue, writeSparsely)

    def GetVersionsAttr(self) -> Usd.Attribute:
        """`uniform string[] neural:provenance:versions`, fallback []. The software it was made with, each as
        `name==version`.
        """
        return self._attr("neural:provenance:versions")

    def CreateVersionsAttr(self, defaultValue: Any = None, writeSparsely: bool = False) -> Usd.Attribute:
        """Authors `neural:provenance:versions`, with `defaultValue` where given; see GetVersionsAttr."""
        return self._create_attr("neural:provenance:versions", "string[]", True, defaultValue, writeSparsely)
