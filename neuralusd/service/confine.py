"""Whether a stage, and all that it may bring in, lies where a job may read: for stages that others send."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pxr import Ar, Sdf

from ..errors import SceneError
from ..stage.open import open_layer, quiet

# As in neuralusd.api.shots: the stage that an edit edits, which render opens too.
BASE_KEY = "neuralusd:base"
# Notes for people, which nothing opens.
NOTES = re.compile(r"neural:tokens:.*:source$")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
TEMPLATE = re.compile(r"<UDIM>|<UVTILE>|#+", re.IGNORECASE)


class OutsideError(SceneError):
    """A stage refers to a file that a job must not read."""


def check_stage(path: str, allowed: Sequence[str]) -> None:
    """Raises OutsideError where a stage, or a layer, texture or document that it refers to, in any variant, at any
    time, is not within the folders `allowed`; StageOpenError where a layer cannot be read.

    Nothing is composed, and no file is opened before it is known to lie within. What does not exist is passed over.
    """
    roots = [os.path.realpath(folder) for folder in allowed]
    _check_place(path, roots, path)
    waiting, seen = [path], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        with quiet():
            layer = None
            if Ar.GetResolver().GetExtension(name).lower() == "mtlx":
                found: Iterator[str] = _document_files(name)
            elif name == path or Sdf.FileFormat.FindByExtension(name):
                layer = open_layer(name)
                found = _files(layer)
            else:
                continue
            for file in found:
                target = _locate(layer, name, file, roots, path)
                if target is not None and Ar.GetResolver().Resolve(target):
                    waiting.append(target)


def _locate(layer: Sdf.Layer | None, name: str, file: str, roots: Sequence[str], stage: str) -> str | None:
    """Where the reference to a file leads, checked; None where that is nowhere. `name` is who refers to it."""
    file = file.split(":SDF_FORMAT_ARGS:")[0]
    if not file:
        return None
    if file.startswith("`") or SCHEME.match(file) or ".." in re.split(r"[\\/\[\]]", file.partition("[")[2]):
        raise _outside(file, stage)
    # Where USD would look for it, which of a layer in a package is that package.
    target = file if layer is None else layer.ComputeAbsolutePath(file)
    if Ar.IsPackageRelativePath(target):
        outer, inner = Ar.SplitPackageRelativePathOuter(target)
        if ".." in re.split(r"[\\/\[\]]", inner):
            raise _outside(file, stage)
    else:
        outer, inner = target, ""
    folder = os.path.dirname(Ar.SplitPackageRelativePathOuter(name)[0] if Ar.IsPackageRelativePath(name) else name)
    outer = os.path.normpath(os.path.join(folder, outer))
    _check_place(outer, roots, stage, file)
    for tile in glob(TEMPLATE.sub("*", glob_safe(outer))) if TEMPLATE.search(outer) else []:
        _check_place(tile, roots, stage, file)
    return Ar.JoinPackageRelativePath([outer, inner]) if inner else outer


def glob_safe(path: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", path)


def _check_place(path: str, roots: Sequence[str], stage: str, named: str | None = None) -> None:
    real = os.path.realpath(path)
    if not any(real == root or Path(real).is_relative_to(root) for root in roots):
        raise _outside(named or path, stage)


def _outside(file: str, stage: str) -> OutsideError:
    return OutsideError(
        f"{os.path.basename(stage)} refers to {file[:200]}, which lies outside of what this service may read. Send it "
        "as a package (.usdz) with everything in it, or flatten it."
    )


def _files(layer: Sdf.Layer) -> Iterator[str]:
    """All files that a layer itself names, whether or not anything composes them."""
    yield from layer.subLayerPaths
    base = layer.customLayerData.get(BASE_KEY)
    if isinstance(base, str):
        yield base
    paths: list[Sdf.Path] = []
    layer.Traverse(Sdf.Path.absoluteRootPath, paths.append)
    for path in paths:
        spec = layer.GetObjectAtPath(path)
        spec = spec.primSpec if isinstance(spec, Sdf.VariantSpec) else spec
        if isinstance(spec, Sdf.AttributeSpec):
            if NOTES.match(spec.name):
                continue
            yield from _assets(spec.default)
            if "asset" in str(spec.typeName) or not spec.typeName.isArray:
                for time in layer.ListTimeSamplesForPath(path):
                    yield from _assets(layer.QueryTimeSample(path, time))
        elif isinstance(spec, Sdf.PrimSpec):
            for lists in (spec.referenceList, spec.payloadList):
                for items in (lists.explicitItems, lists.prependedItems, lists.appendedItems, lists.addedItems,
                              lists.orderedItems):  # fmt: skip
                    yield from (item.assetPath for item in items)
            for key in set(spec.ListInfoKeys()) - {"assetInfo", "customData", "references", "payload"}:
                yield from _assets(spec.GetInfo(key), clips=key == "clips")


def _assets(value: Any, clips: bool = False) -> Iterator[str]:
    """The asset paths in a value; in that of clips also the templates, which are strings."""
    if isinstance(value, Sdf.AssetPath):
        yield value.path
    elif isinstance(value, Sdf.AssetPathArray):
        yield from (each.path for each in value)
    elif isinstance(value, dict):
        for name, each in value.items():
            if clips and name == "templateAssetPath" and isinstance(each, str):
                yield each
            yield from _assets(each, clips)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _assets(each, clips)


def _document_files(path: str) -> Iterator[str]:
    """The files that a MaterialX document names."""
    try:
        with Ar.GetResolver().OpenAsset(Ar.ResolvedPath(path)) as opened:
            root = ElementTree.fromstring(bytes(opened.GetBuffer()))
    except (AttributeError, TypeError, ElementTree.ParseError):  # who needs it will say so
        return
    prefixes = [""]
    for element in root.iter():
        prefixes += [element.get("fileprefix", "")]
        if element.get("href"):
            yield element.get("href", "")
    for element in root.iter():
        if element.get("type") == "filename" and element.get("value"):
            # Whichever prefix applies: all of them have to lead to where files may be.
            yield from (os.path.join(prefix, element.get("value", "")) for prefix in set(prefixes))
