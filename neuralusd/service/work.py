"""What the worker does for each verb: files in, files and a result out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pxr import Sdf, UsdGeom, UsdUtils

from .. import stage as stages
from ..api import base_stage, edit, edit_over, encode, encode_photo, lift, open_shot, render, render_passes, resample
from ..api.pictures import render_size
from ..api.shots import BASE_KEY
from ..backends import DEFAULT_BACKEND, load_backend
from ..errors import SceneError
from ..images import save_image
from ..scene import Scene
from ..stage.variations import list_samples, variant_set
from .confine import check_stage
from .verbs import MOST_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image
    from pxr import Usd

ENCODING = ("loading weights", "reading the stage", "casting rays", "encoding", "encoded")


@dataclass
class Task:
    """A job in the worker.

    Attributes:
        arguments: checked ones; files are paths of this machine.
        work, files: folders, for what is of no further use and for results.
        confined: path of a stage to the folders that it and all it refers to must lie in.
        names: path of an upload to the name that its sender gave it.
        step: called with (step, steps, label); raises Cancelled. show: takes an intermediate picture.
    """

    arguments: dict[str, Any]
    work: Path
    files: Path
    step: Callable[[int, int, str], None]
    show: Callable[[Image], None]
    confined: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def get(self, *names: str) -> dict[str, Any]:
        """Those of the arguments that were given."""
        return {name: self.arguments[name] for name in names if name in self.arguments}

    def check(self, path: str) -> None:
        """Raises OutsideError for a stage that leads to where this job must not read."""
        allowed = self.confined.get(path)
        if allowed is None:
            return
        check_stage(path, allowed)
        beside = stages.sidecar_path(path)
        if beside.is_file():
            check_stage(str(beside), allowed)

    def open(self, path: str) -> Usd.Stage:
        self.check(path)
        return open_shot(path)


def run_encode(task: Task) -> dict[str, Any]:
    given = task.arguments
    stage = _over(task, task.open(given["stage"]))
    done = encode(
        stage,
        given.get("camera"),
        given.get("time"),
        assets=given.get("assets"),
        backend=given.get("backend"),
        force=given.get("force", False),
        image=given.get("image"),
        source=_source(task, given.get("image")),
        progress=lambda step, steps: task.step(step, steps, ENCODING[step]),
        size=_pair(given.get("size")),
        **task.get("albedo", "views"),
    )
    _save_tokens(task, stage)
    return {
        "encoded": done.encoded,
        "unchanged": done.unchanged,
        "unseen": done.unseen,
        "camera": done.camera or None,
    }


def run_render(task: Task) -> dict[str, Any]:
    given = task.arguments
    stage = task.open(given["stage"])
    hold = given.get("hold", True)
    before = task.open(given["before"]) if hold and "before" in given else None
    result: dict[str, Any] = {"images": []}
    times = given.get("times", [given.get("time")])
    encoding = 0
    if given.get("encode"):
        encoding = len(ENCODING) - 1
        stage, before, result["encoded"] = _with_tokens(task, stage, before, times[0])
    size = _size(task, stage)
    for index, time in enumerate(times):

        def progress(step: int, steps: int, index: int = index) -> None:
            label = f"frame {index + 1} of {len(times)}" if len(times) > 1 else "rendering"
            task.step(encoding + index * steps + step, encoding + len(times) * steps, label)

        image = render(
            stage,
            given.get("camera"),
            time,
            size=size,
            hold=hold,
            before=before,
            progress=progress,
            on_picture=task.show,
            **task.get("backend", "seed", "steps", "guidance", "modality_guidance", "before_image"),
        )
        image.info["neuralusd"]["stage"] = task.names.get(given["stage"], given["stage"])
        number = f".{index + 1:04d}" if "times" in given else ""
        save_image(image, task.files / f"image{number}.png")
        if len(times) > 1:
            task.show(image)
        made = {**image.info["neuralusd"], "file": f"image{number}.png"}
        if given.get("passes"):
            made["passes"] = _save_passes(task, stage, time, size, number)
        result["images"].append(made)
    return result


def run_edit(task: Task) -> dict[str, Any]:
    given = task.arguments
    base = given["stage"]
    task.check(base)
    for name in ("appearance", "geometry", "replace"):
        for donor in given.get(name, {}).values():
            _check_donor(task, donor)
    if "background" in given:
        _check_donor(task, given["background"])
    target = task.work / "edit.usda"
    stage = edit_over(base, target)
    names = (
        "move", "rotate", "scale", "appearance", "geometry", "replace", "presence", "box", "background", "time",
    )  # fmt: skip
    edit(stage, **task.get(*names))
    layer = stage.GetRootLayer()
    _rename_files(task, layer)
    stages.save(stage)
    os.replace(target, task.files / "edit.usda")
    return {"base": layer.customLayerData.get(BASE_KEY)}


def run_encode_photo(task: Task) -> dict[str, Any]:
    given = task.arguments
    target = task.work / "scene.usdc"
    options = (
        "masks", "depth_map", "detector", "segmenter", "depth", "prompts", "field_of_view", "depth_kind", "threshold",
        "max_size",
    )  # fmt: skip
    task.step(0, len(ENCODING) - 1, "annotating")
    stage = encode_photo(
        given["image"],
        target,
        progress=lambda step, steps: task.step(step, steps, ENCODING[step]),
        **task.get("backend", *options),
    )
    _rename_files(task, stage.GetRootLayer())
    stages.save(stage)
    scene = stages.read(stage)
    os.replace(target, task.files / "scene.usdc")
    return {"assets": [asset.path for asset in scene.assets], "camera": scene.camera.path}


def run_lift(task: Task) -> dict[str, Any]:
    given = task.arguments
    options = (
        "text", "mask", "name", "height", "thickness", "texture_size", "gaussians", "seed", "candidates", "steps",
        "segmenter", "detector", "prompt", "tokens", "backend",
    )  # fmt: skip
    stage = lift(
        given.get("images") or given.get("image"),
        task.files / "asset.usdz",
        sheet=task.files / "candidates.png" if given.get("sheet") else None,
        progress=lambda step, steps: task.step(step, steps, "lifting"),
        **task.get(*options),
    )
    prim = stage.GetDefaultPrim()
    volume = prim.GetChild("Volume")
    return {
        "prim": str(prim.GetPath()),
        "extent": _extent(stage),
        "volume": str(volume.GetPath()) if volume else None,
    }


def run_resample(task: Task) -> dict[str, Any]:
    given = task.arguments
    source = given["stage"]
    task.check(source)
    # Whose job may not read everything must not have it read for him by a name in a stage.
    photographs = source not in task.confined
    encoded: list[str] = []
    tokens = None
    if given.get("encode"):
        drawing = {**given, "backend": given.get("render_backend")}
        tokens, _, encoded = _with_tokens(replace(task, arguments=drawing), task.open(source), None, given.get("time"))
        source = str(stages.save(tokens))
        task.names[source] = "tokens.usdc"
    target = task.work / "variations.usdc"
    options = (
        "keep", "vary", "remove", "insert", "samples", "seed", "steps", "guidance", "camera", "time", "settle", "tries",
        "backend", "render_backend",
    )  # fmt: skip

    def show(name: str, picture: Image) -> None:
        if given.get("pictures"):
            picture.save(task.files / f"{name}.png", "PNG")
        task.show(picture)

    stage = resample(
        source,
        target,
        sheet=task.files / "sheet.png" if given.get("sheet") else None,
        photographs=photographs,
        on_picture=show if given.get("pictures") or given.get("sheet") else None,
        progress=lambda step, steps: task.step(step, steps, "resampling"),
        **task.get(*options),
    )
    layer = stage.GetRootLayer()
    made = {"variantSet": variant_set(stage), "samples": [vars(each) for each in list_samples(stage)]}
    _rename_files(task, layer)
    stages.save(stage)
    os.replace(target, task.files / "variations.usdc")
    if tokens is not None:
        _rename_files(task, tokens.GetRootLayer())
        tokens.GetRootLayer().Export(str(task.files / "tokens.usdc"))
    return {**made, "base": layer.customLayerData.get(BASE_KEY), "encoded": encoded}


RUN: dict[str, Callable[[Task], dict[str, Any]]] = {
    "encode": run_encode,
    "encode_photo": run_encode_photo,
    "render": run_render,
    "edit": run_edit,
    "resample": run_resample,
    "lift": run_lift,
}


# -- stages ---------------------------------------------------------------------------------------------------------


def _extent(stage: Usd.Stage) -> list[list[float]]:
    """The least and the greatest x, y, z of a stage, in metres."""
    cache = UsdGeom.BBoxCache(0, ["default", "render"])
    box = cache.ComputeWorldBound(stage.GetPseudoRoot()).ComputeAlignedRange()
    scale = UsdGeom.GetStageMetersPerUnit(stage)
    return [[scale * value for value in corner] for corner in (box.GetMin(), box.GetMax())]


def _over(task: Task, stage: Usd.Stage, name: str = "tokens.usdc") -> Usd.Stage:
    """A layer in the job's folder over a stage, as a stage that is written to."""
    over = stages.sidecar(stage, task.work / name)
    base, layer = stage.GetRootLayer(), over.GetRootLayer()
    if BASE_KEY in base.customLayerData:  # copied with the rest, but it is relative to the layer it was copied from
        path = base.ComputeAbsolutePath(base.customLayerData[BASE_KEY])
        layer.customLayerData = {**layer.customLayerData, BASE_KEY: path}
    return over


def _with_tokens(
    task: Task, stage: Usd.Stage, before: Usd.Stage | None, time: float | None
) -> tuple[Usd.Stage, Usd.Stage | None, list[str]]:
    """The stage, and the one before it if any, as stages whose assets all have tokens; and what was encoded.

    What an edit changed shows the tokens of what it was: the stage that the first edit was made over is encoded, and
    every later one takes its tokens and has only what is new in it encoded.
    """
    chain = [stage]
    earlier = before or base_stage(stage)
    while earlier is not None:
        chain.append(earlier)
        earlier = base_stage(earlier)
    encoded: list[str] = []
    below: Usd.Stage | None = None
    for number, each in reversed(list(enumerate(chain))):
        over = _over(task, each, f"tokens{number}.usdc")
        layer = over.GetRootLayer()
        if below is not None:
            UsdUtils.StitchLayers(layer, _alone(below.GetRootLayer()))
            if BASE_KEY in layer.customLayerData:
                layer.customLayerData = {**layer.customLayerData, BASE_KEY: below.GetRootLayer().identifier}
        encoded += [path for path in _encode_missing(task, over, time, picture=number == 0) if path not in encoded]
        if number:
            stages.save(over)
        # The one before the last stays open, as the image that the last keeps to.
        earlier, below = below, over
    if encoded:
        _save_tokens(task, over)
    return over, earlier, sorted(encoded)


def _encode_missing(task: Task, stage: Usd.Stage, time: float | None, picture: bool) -> list[str]:
    """Encodes the assets that have no tokens which the backend reads; returns their paths.

    Args:
        picture: whether the picture that was given shows this stage.
    """
    given = task.arguments
    backend = given.get("backend") or stages.render_settings(stage).get("backend") or DEFAULT_BACKEND
    task.step(0, len(ENCODING) - 1, ENCODING[0])
    pipeline = load_backend(backend)
    encoders = {
        name: (pipeline.encoder(name).config.identifier, pipeline.encoder(name).config.revision)
        for name in ("appearance", "geometry")
    }
    stages.ensure_background(stage)
    scene: Scene = stages.read(stage, given.get("camera"), time)
    missing = [
        asset.path
        for asset in scene.assets
        if any(
            name not in asset.tokens or (asset.tokens[name].encoder, asset.tokens[name].revision) != encoder
            for name, encoder in encoders.items()
        )
    ]
    if not missing:
        return []
    image, albedo = (given.get(name) if picture else None for name in ("encode_image", "encode_albedo"))
    done = encode(
        stage,
        given.get("camera"),
        time,
        assets=missing,
        backend=backend,
        image=image,
        albedo=albedo,
        views=given.get("encode_views", 0),
        source=_source(task, image),
        progress=lambda step, steps: task.step(step, steps, ENCODING[step]),
    )
    return done.encoded


def _alone(layer: Sdf.Layer) -> Sdf.Layer:
    """A copy of a layer of tokens without the stage below it and what it says of itself."""
    alone = Sdf.Layer.CreateAnonymous(".usdc")
    alone.TransferContent(layer)
    alone.subLayerPaths.clear()
    alone.customLayerData = {k: v for k, v in alone.customLayerData.items() if k != BASE_KEY}
    return alone


def _save_tokens(task: Task, stage: Usd.Stage) -> None:
    """The layer with what was encoded, for who has the stage below it."""
    partial = task.work / "alone.usdc"
    _alone(stage.GetRootLayer()).Export(str(partial))
    os.replace(partial, task.files / "tokens.usdc")


def _pair(size: list[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size[0], size[1])


def _size(task: Task, stage: Usd.Stage) -> tuple[int, int]:
    """(width, height) of the images. Raises SceneError for more pixels than a service makes."""
    given = task.arguments
    earlier = given.get("before_image") if given.get("hold", True) else None
    width, height = render_size(stage, given.get("camera"), _pair(given.get("size")), earlier)
    if width * height > MOST_PIXELS:
        raise SceneError(f"An image of {width}x{height} is more than {MOST_PIXELS / 1e6:g} megapixels. Give a size.")
    return width, height


def _save_passes(
    task: Task, stage: Usd.Stage, time: float | None, size: tuple[int, int], number: str
) -> dict[str, Any]:
    passes, names = render_passes(stage, task.arguments.get("camera"), time, size=size)
    for name, values, kind in (("depth", passes.depth, "<f4"), ("ids", passes.ids, "<i4")):
        values.astype(kind).tofile(task.files / f"{name}{number}.raw")
    return {
        "depth": f"depth{number}.raw",
        "ids": f"ids{number}.raw",
        "height": int(passes.depth.shape[0]),
        "width": int(passes.depth.shape[1]),
        "names": names,
    }


def _check_donor(task: Task, donor: str) -> None:
    file, colon, _ = donor.rpartition(":")
    if colon and file:
        task.check(file)


def _source(task: Task, image: str | None) -> str | None:
    """What tokens say they were seen in: the name that the sender gave the picture."""
    return None if image is None else task.names.get(image, image)


def _rename_files(task: Task, layer: Sdf.Layer) -> None:
    """Names files in a layer as who asked for it knows them: uploads by the names they had, others in full."""
    here = Path(layer.realPath or layer.identifier).parent

    def name(path: str) -> str:
        if not path or os.path.isabs(path):
            full = path
        else:
            full = os.path.normpath(here / path)
        if full in task.names:
            return f"./{task.names[full]}"
        return full.replace(os.sep, "/")

    UsdUtils.ModifyAssetPaths(layer, name)
    base = layer.customLayerData.get(BASE_KEY)
    if isinstance(base, str):
        layer.customLayerData = {**layer.customLayerData, BASE_KEY: name(base)}
