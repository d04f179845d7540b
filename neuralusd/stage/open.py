"""Opening stages, with errors that help."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pxr import Ar, Sdf, Tf, Usd, UsdUtils

from .errors import StageOpenError, StageWarning


def open_stage(path: str | os.PathLike[str]) -> Usd.Stage:
    """The stage whose root layer is the file (or anything else the asset resolver knows) at `path`, all payloads
    loaded.

    Raises:
        StageOpenError: there is no such file, or it is empty, damaged or not USD.

    Warns:
        StageWarning: a reference, payload or sublayer is missing or damaged; once for each, with its prim. The rest
        is open.
    """
    with quiet():
        stage = Usd.Stage.Open(open_layer(path))
    for problem in composition_problems(stage):
        warnings.warn(problem, StageWarning, stacklevel=2)
    return stage


def open_layer(path: str | os.PathLike[str]) -> Sdf.Layer:
    """The layer at `path`.

    Raises:
        StageOpenError: there is no such file, or it is empty, damaged or not USD.
    """
    name = os.fspath(path)
    if loaded := Sdf.Layer.Find(name):
        return loaded
    if os.path.isdir(name):
        raise StageOpenError(f"{name} is a folder. Name the USD file in it.")
    if not Ar.GetResolver().Resolve(name):
        raise StageOpenError(f"{name} does not exist. Check the path.")
    known = sorted(Sdf.FileFormat.FindAllFileFormatExtensions())
    if not Sdf.FileFormat.FindByExtension(name):
        raise StageOpenError(
            f"{name} is not a USD file: its extension is none of {', '.join(known)}. Export it to USD."
        )
    if os.path.isfile(name) and os.path.getsize(name) == 0:
        raise StageOpenError(f"{name} is empty (0 bytes). Export it again.")
    try:
        with quiet():
            layer = Sdf.Layer.FindOrOpen(name)
    except Tf.ErrorException as error:
        raise StageOpenError(f"{name} cannot be read: {usd_reason(error)}. Export it again.") from error
    if not layer:
        raise StageOpenError(f"{name} cannot be read: it is not USD, or it is damaged. Export it again.")
    return layer


def composition_problems(stage: Usd.Stage) -> list[str]:
    """What could not be composed, each with its prim and asset. MaterialX documents, which are read apart, do not
    count.
    """
    found = {}
    for error in stage.GetCompositionErrors():
        reason = " ".join(str(error).split()).rstrip(".")
        if ".mtlx@" in reason and os.path.exists(reason.split("@")[1].split(":SDF_FORMAT_ARGS")[0]):
            continue
        where = f" (at <{error.rootSite.path}>)" if f"<{error.rootSite.path}>" not in reason else ""
        found[reason] = f"{reason}{where}. Put the file where it is looked for, or correct the path."
    return list(found.values())


@contextmanager
def quiet() -> Iterator[None]:
    """USD's own warnings are kept from stderr."""
    delegate = UsdUtils.CoalescingDiagnosticDelegate()
    try:
        yield
    finally:
        delegate.TakeUncoalescedDiagnostics()
        del delegate


def usd_reason(error: Tf.ErrorException) -> str:
    """The first thing that USD said, without the place in its source code."""
    return " ".join(error.args[0].commentary.split()).rstrip(".") if error.args else str(error)
