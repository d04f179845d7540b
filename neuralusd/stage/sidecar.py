"""The layer beside an artist's stage that holds what neuralusd writes, and saving it safely."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pxr import Sdf, Tf, Usd

from .errors import SaveError, SceneError, StageOpenError
from .open import open_layer, quiet, usd_reason

SUFFIX = ".neural.usdc"
# What a root layer says of itself alone, and must not be said of the sidecar.
OWN_FIELDS = {"subLayers", "subLayerOffsets", "primChildren", "primOrder", "layerRelocates", "documentation", "comment",
              "owner", "sessionOwner", "hasOwnedSubLayers"}  # fmt: skip


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Where the sidecar of a stage is: `shot.neural.usdc` for `shot.usda`. A sidecar is its own."""
    path = Path(path)
    return path if ".neural" in path.suffixes[-2:-1] else path.with_name(path.stem + SUFFIX)


def sidecar(source: Usd.Stage | str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Usd.Stage:
    """A stage that is `source` with a layer of ours over it, which is the stage's root layer and edit target.

    The layer sublayers the source by a relative path, so opening `shot.neural.usdc` gives the whole shot, and the
    artist's layer is never written to. A root layer's metadata (upAxis, metersPerUnit, defaultPrim, time codes,
    render settings, variables) is not composed from sublayers, so it is copied. The file appears when `save` is
    called; an existing one is opened and edited further.

    Args:
        source: a stage with a root layer on disk, or its path; a sidecar is opened as it is.
        path: where the layer is, if not at `sidecar_path`; its extension chooses the format.

    Raises:
        StageOpenError: source, or an existing sidecar, cannot be read.
        SceneError: the source is in memory only, or the file at `path` is not a layer over `source`.
    """
    if isinstance(source, Usd.Stage):
        if not source.GetRootLayer().realPath:
            raise SceneError(
                f"{source.GetRootLayer().identifier} is in memory only, so no layer can stand beside it. Export it "
                f"to a file first."
            )
        source = source.GetRootLayer().realPath
    source = Path(os.path.abspath(source))
    target = Path(os.path.abspath(path)) if path is not None else sidecar_path(source)
    below = open_layer(source)
    if target == source:
        if path is not None:
            raise SceneError(f"{source} cannot be a layer over itself. Name another file to write to.")
        return _stage(below)
    reference = os.path.relpath(source, target.parent).replace(os.sep, "/")
    reference = reference if reference.startswith(".") else "./" + reference
    if target.exists() or Sdf.Layer.Find(str(target)):
        try:
            layer = open_layer(target)
        except StageOpenError as error:
            raise StageOpenError(f"{error} Or delete it: it holds only what can be encoded again.") from error
        if not any(Path(layer.ComputeAbsolutePath(p)) == source for p in layer.subLayerPaths):
            raise SceneError(f"{target} exists and is not a layer over {source}. Name another file to write to.")
    else:
        file_format = Sdf.FileFormat.FindByExtension(str(target))
        if file_format is None or not file_format.SupportsWriting():
            raise SceneError(f"{target} cannot be written: its extension is none of usd, usda, usdc. Name it so.")
        layer = Sdf.Layer.New(file_format, str(target))
        layer.subLayerPaths.append(reference)
    copy_metadata(below, layer)
    return _stage(layer)


def _stage(layer: Sdf.Layer) -> Usd.Stage:
    with quiet():
        stage = Usd.Stage.Open(layer)
    stage.SetEditTarget(layer)
    return stage


def copy_metadata(below: Sdf.Layer, layer: Sdf.Layer) -> None:
    """Gives `layer` the metadata of the root layer `below`, but for what that says of itself alone."""
    for key in set(below.pseudoRoot.ListInfoKeys()) - OWN_FIELDS:
        value = below.pseudoRoot.GetInfo(key)
        if not layer.pseudoRoot.HasInfo(key) or layer.pseudoRoot.GetInfo(key) != value:
            layer.pseudoRoot.SetInfo(key, value)


def save(stage: Usd.Stage) -> Path:
    """Saves the layer of the stage's edit target, all at once or not at all, and returns its path.

    The layer is written to a temporary file beside it, which then takes its name; whoever is killed or runs out of
    disk in between leaves the old file as it was. The layer is then read from the new file, so its arrays are views
    of it.

    Raises:
        SaveError: the layer is in memory only, or the file cannot be written; names it.
    """
    layer = stage.GetEditTarget().GetLayer()
    if layer.anonymous or not layer.identifier:
        raise SaveError(
            f"{layer.identifier} is in memory only. Set the stage's edit target to a layer of a file, or export it."
        )
    path = Path(layer.realPath or layer.identifier)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with quiet():
            if not layer.Export(str(temporary)):
                raise SaveError(f"{path} cannot be written. Check the folder's permissions and the disk's free space.")
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, Tf.ErrorException) as error:
        reason = usd_reason(error) if isinstance(error, Tf.ErrorException) else error
        raise SaveError(f"{path} cannot be written: {reason}. Check its folder's permissions and the disk.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    with quiet():
        layer.Reload(force=True)
    return path
