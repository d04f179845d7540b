# SPDX-License-Identifier: GPL-3.0-or-later
"""Records: all that the neural schema says of an object, its tokens too, kept beside the .blend.

A record is a prim below </NeuralRecords> in `<name>.neural.usdc`, named by what it holds. Objects refer to records by
name, so that undoing an encode brings back the tokens from before, a copy of an object shares its tokens, and a
renamed or reparented object keeps them. Records are added, never changed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable

from pxr import Sdf, Tf, Usd

from ..problems import Problem
from . import neural

ROOT = Sdf.Path("/NeuralRecords")
SUFFIX = ".neural.usdc"
_cache: dict[str, tuple[tuple[int, int], Sdf.Layer]] = {}


def read(path: str) -> Sdf.Layer | None:
    """The layer of records at `path`, in memory and detached from the file; None where there is no file.

    Raises Problem for a file that is not USD.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    stamp = (found.st_mtime_ns, found.st_size)
    if path in _cache and _cache[path][0] == stamp:
        return _cache[path][1]
    try:
        layer = Sdf.Layer.OpenAsAnonymous(path)
    except Tf.ErrorException:
        layer = None
    if layer is None:
        raise Problem(f"{path} cannot be read as USD. It holds only tokens: delete it, and encode the scene again.")
    _cache[path] = (stamp, layer)
    return layer


def find(name: str, paths: Iterable[str]) -> Sdf.PrimSpec | None:
    """The record of that name in the first of the files that has it."""
    if not name:
        return None
    for path in paths:
        layer = read(path)
        spec = layer.GetPrimAtPath(ROOT.AppendChild(name)) if layer else None
        if spec is not None:
            return spec
    return None


class Draft:
    """Records that are being made, to be added to a file all at once."""

    def __init__(self) -> None:
        self._layer = Sdf.Layer.CreateAnonymous(".usdc")
        self._root = Sdf.CreatePrimInLayer(self._layer, ROOT)
        self._root.specifier, self._root.typeName = Sdf.SpecifierDef, "Scope"

    def record(self, prim: Usd.Prim, before: Sdf.PrimSpec | None = None, folder: str = "", name: str = "") -> str:
        """Makes a record of what a prim says, over what an earlier record says, and returns its name.

        Args:
            folder: of the files that relative paths on the prim are relative to.
            name: of the object, for people who read the file.
        """
        path = ROOT.AppendChild("draft")
        spec = Sdf.PrimSpec(self._root, path.name, Sdf.SpecifierDef, "Scope")
        if before is not None:
            Sdf.CopySpec(before.layer, before.path, self._layer, path)
        spec = self._layer.GetPrimAtPath(path)
        applied = list(spec.GetInfo("apiSchemas").prependedItems) if spec.HasInfo("apiSchemas") else []
        replaced = {f"neural:tokens:{modality}:" for modality in neural.tokens_of(prim)}
        if replaced:
            replaced |= set(neural.SEEN)
            applied = [schema for schema in applied if schema.split(":")[0] not in neural.SEEN.values()]
        applied += [schema for schema in neural.schemas(prim) if schema not in applied]
        spec.SetInfo("apiSchemas", Sdf.TokenListOp.Create(prependedItems=applied))
        for old in list(spec.properties):
            # An encoder may leave out what an earlier one had, such as the points: nothing of the old set stays.
            if any(old.name.startswith(prefix) for prefix in replaced):
                spec.RemoveProperty(old)
        for found in neural.properties(prim):
            if isinstance(found, Usd.Attribute):
                _copy(found, spec, folder)
        if name:
            spec.customData = {**dict(spec.customData), "object": name}
        final = neural.digest(spec)
        if self._layer.GetPrimAtPath(ROOT.AppendChild(final)):
            del self._root.nameChildren["draft"]
        else:
            spec.name = final
        return final

    def add_to(self, path: str) -> None:
        """Adds the records to the file at `path`, which is whole at any moment. Raises Problem where it cannot."""
        existing = read(path)
        layer = Sdf.Layer.CreateAnonymous(".usdc")
        if existing is not None:
            layer.TransferContent(existing)
        if not layer.GetPrimAtPath(ROOT):
            root = Sdf.CreatePrimInLayer(layer, ROOT)
            root.specifier, root.typeName = Sdf.SpecifierDef, "Scope"
            root.documentation = "Tokens of the objects of a .blend file, for its neuralusd extension."
        missing = [spec for spec in self._root.nameChildren if not layer.GetPrimAtPath(spec.path)]
        if existing is not None and not missing:
            return
        for spec in missing:
            Sdf.CopySpec(self._layer, spec.path, layer, spec.path)
        write(layer, path)


def write(layer: Sdf.Layer, path: str) -> None:
    """Writes a layer to a file, whole or not at all. Raises Problem where it cannot."""
    partial = os.path.join(os.path.dirname(path), f".{secrets.token_hex(6)}.usdc")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not layer.Export(partial):
            raise OSError("USD cannot write there")
        os.replace(partial, path)
    except (OSError, Tf.ErrorException) as error:
        raise Problem(f"{path} cannot be written ({error}). Check its folder and the disk's free space.") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)


def merge(source: str, target: str) -> None:
    """Adds the records of one file to another, as when a .blend is saved under another name."""
    layer = read(source)
    if layer is None or os.path.abspath(source) == os.path.abspath(target):
        return
    draft = Draft()
    root = layer.GetPrimAtPath(ROOT)
    for spec in root.nameChildren if root else []:
        Sdf.CopySpec(layer, spec.path, draft._layer, spec.path)
    draft.add_to(target)


def apply(record: Sdf.PrimSpec, prim: Usd.Prim) -> None:
    """Authors what a record says on a prim of a stage."""
    for schema in record.GetInfo("apiSchemas").prependedItems if record.HasInfo("apiSchemas") else []:
        neural.apply(prim, schema)
    layer = prim.GetStage().GetEditTarget().GetLayer()
    target = Sdf.CreatePrimInLayer(layer, prim.GetPath())
    for found in record.properties:
        Sdf.CopySpec(record.layer, found.path, layer, target.path.AppendProperty(found.name))


def has_tokens(record: Sdf.PrimSpec | None) -> bool:
    """Whether there are tokens in a record."""
    return record is not None and any(each.name.endswith(":values") for each in record.properties)


def _copy(attribute: Usd.Attribute, spec: Sdf.PrimSpec, folder: str) -> None:
    name = attribute.GetName()
    old = spec.attributes.get(name)
    if old is not None:
        spec.RemoveProperty(old)
    made = Sdf.AttributeSpec(spec, name, attribute.GetTypeName(), attribute.GetVariability(), attribute.IsCustom())
    default = attribute.Get(Usd.TimeCode.Default())
    if attribute.HasAuthoredValue() and default is not None:
        made.default = _anchored(default, folder)
    for time in attribute.GetTimeSamples():
        spec.layer.SetTimeSample(made.path, time, _anchored(attribute.Get(time), folder))
    for field in neural.KEPT_FIELDS:
        if attribute.HasAuthoredMetadata(field):
            made.SetInfo(field, attribute.GetMetadata(field))


def _anchored(value: object, folder: str) -> object:
    """Asset paths in full: the record stands elsewhere than the layer it was read from."""
    if isinstance(value, Sdf.AssetPath):
        return Sdf.AssetPath(_full(value, folder))
    if isinstance(value, Sdf.AssetPathArray):
        return Sdf.AssetPathArray([Sdf.AssetPath(_full(each, folder)) for each in value])
    return value


def _full(value: Sdf.AssetPath, folder: str) -> str:
    if not value.path or not folder or os.path.isabs(value.path) or "://" in value.path:
        return value.path
    return os.path.normpath(os.path.join(folder, value.path)).replace(os.sep, "/")
