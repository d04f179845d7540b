# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the records of this .blend are, and which record is whose."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import bpy

from . import preferences

if TYPE_CHECKING:
    from pxr import Sdf

_opened = ""


def path(scene: bpy.types.Scene) -> str:
    """The file of records: beside the .blend; in the cache folder while there is none."""
    global _opened
    _opened = _opened or bpy.data.filepath
    if bpy.data.filepath:
        return beside(bpy.data.filepath)
    name = next((each.neuralusd.unsaved for each in bpy.data.scenes if each.neuralusd.unsaved), "")
    if not name:
        name = scene.neuralusd.unsaved = f"unsaved-{secrets.token_hex(8)}"
    return _unsaved(name)


def beside(blend: str) -> str:
    """The file of records beside a .blend."""
    return os.path.splitext(blend)[0] + ".neural.usdc"


def find(name: str, each: bpy.types.Object | None) -> Sdf.PrimSpec | None:
    """The record of that name: of this .blend, or of the one that the object is linked from."""
    from .usd import records

    return records.find(name, _paths(each)) if name else None


def record_of(scene: bpy.types.Scene | None, each: bpy.types.Object) -> Sdf.PrimSpec | None:
    """The record of an object, or None where it has none or its file is gone."""
    return find(record_name(scene, each), each)


def record_name(scene: bpy.types.Scene | None, each: bpy.types.Object) -> str:
    """The name of an object's record; empty where it has none."""
    for linked in [scene] if scene else bpy.data.scenes:
        for link in linked.neuralusd.links:
            if link.each == each:
                return link.record
    return each.neuralusd.record


def set_record(scene: bpy.types.Scene, each: bpy.types.Object, name: str) -> None:
    """Says which record is an object's. What is linked from another .blend cannot be written to: the scene says it."""
    if each.library is None:
        each.neuralusd.record = name
        return
    link = next((link for link in scene.neuralusd.links if link.each == each), None) or scene.neuralusd.links.add()
    link.each, link.record = each, name


def follow_save(saved: str) -> None:
    """Brings the records along to where the .blend was saved, for the first time, under another name, or as a copy."""
    global _opened
    from . import held, samples
    from .usd import records

    saved = saved or bpy.data.filepath
    if not saved:
        return
    target = beside(saved)
    sources = [_unsaved(scene.neuralusd.unsaved) for scene in bpy.data.scenes if scene.neuralusd.unsaved]
    if _opened and os.path.realpath(_opened) != os.path.realpath(saved):
        sources.append(beside(_opened))
    for source in sources:
        if os.path.isfile(source):
            records.merge(source, target)
            if os.path.dirname(source) == os.path.dirname(_unsaved("")) and bpy.data.filepath == saved:
                os.unlink(source)  # the .blend has a place of its own now
    opened, _opened = _opened, bpy.data.filepath
    held.FILES.follow_save(saved, opened)
    samples.FILES.follow_save(saved, opened)


def follow_load() -> None:
    """Notes which .blend is open, for `follow_save`."""
    global _opened
    _opened = bpy.data.filepath


def _paths(each: bpy.types.Object | None) -> list[str]:
    out = []
    if bpy.data.filepath:
        out.append(beside(bpy.data.filepath))
    for scene in bpy.data.scenes:
        if scene.neuralusd.unsaved:
            out.append(_unsaved(scene.neuralusd.unsaved))
    if _opened:
        out.append(beside(_opened))
    if each is not None and each.library is not None:
        out.append(beside(bpy.path.abspath(each.library.filepath)))
    for library in bpy.data.libraries:
        out.append(beside(bpy.path.abspath(library.filepath)))
    return list(dict.fromkeys(out))


def _unsaved(name: str) -> str:
    return os.path.join(preferences.cache_folder(), "unsaved", f"{name}.neural.usdc")
