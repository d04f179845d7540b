"""The verbs on stages: what the command line, the service and users call.

Everything is authored on the stage's edit target; nothing is saved that the caller does not save.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from pxr import Usd

from . import stage as stages
from .backends import DEFAULT_BACKEND, backend_revision, load_backend
from .errors import SceneError, TokensError
from .scene import Passes, Scene
from .pipelines.compositing import footprint

if TYPE_CHECKING:
    from .pipelines.render import NeuralUSDPipeline

Progress = Callable[[int, int], bool | None]
"""Called with (step, steps) as work goes on; returning True cancels it."""

BASE_KEY = "neuralusd:base"
"""Custom data of an edit's layer: the stage before the edit, relative to the layer."""


class Cancelled(Exception):
    """A progress callback asked to stop."""


@dataclass
class Encoded:
    """What `encode` did: paths of the assets encoded anew, of those whose tokens still held, and of those not seen."""

    encoded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    framed: bool = False


def encode(
    stage: Usd.Stage,
    camera: str | None = None,
    time: float | None = None,
    *,
    image: str | Path | PIL.Image.Image | None = None,
    passes: Passes | None = None,
    assets: Sequence[str] | None = None,
    backend: str | Path = DEFAULT_BACKEND,
    force: bool = False,
) -> Encoded:
    """Gives every asset that a camera sees its tokens, on the stage's edit target.

    The picture is rendered from the stage's own geometry and base colours by ray casting, unless there is an image of it.

    Args:
        camera: path of a camera; None takes the stage's own, or frames the stage where it has none (`Encoded.framed`).
        time: time code; None reads default values.
        image: a photograph or a rendering of this stage by this camera, its colours in place of the base colours.
        passes: who is seen where and how deep, in place of ray casting (for a stage whose prims have boxes, not geometry);
            its `ids` index `read(stage, camera, time).assets`.
        assets: paths of the assets to encode; None takes all. backend: see `find_backend`.
        force: encode also what has not changed since it was last encoded with this backend.

    Raises:
        SceneError and its kin: what is wrong with which prim. BackendError: what is wrong with the weights.
    """
    pipeline = load_backend(backend)
    size = 2 * pipeline.config.sample_size  # crops are larger than the object is in the image that will be rendered
    scene = stages.read(stage, camera, time)
    if scene.background is None:
        stages.ensure_background(stage)
        scene = stages.read(stage, camera, time)
    if passes is None:
        passes = stages.render_passes(stage, scene, size, size, color=image is None)
    source = ""
    if image is not None:
        source = str(image) if isinstance(image, (str, Path)) else str(getattr(image, "filename", ""))
        passes = replace(passes, color=_pixels(image, passes.ids.shape))
    known = {} if force else {a.path: {name: t.digest for name, t in a.tokens.items()} for a in scene.assets}
    result = pipeline.encode(scene, passes, assets=assets, source=source, known=known)
    stages.write_tokens(stage, result.tokens)
    return Encoded(sorted(result.tokens), result.unchanged, result.unseen, framed=not scene.camera.path)


def render(
    stage: Usd.Stage,
    camera: str | None = None,
    time: float | None = None,
    *,
    backend: str | Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    modality_guidance: Mapping[str, float] | None = None,
    hold: bool = True,
    before: Usd.Stage | None = None,
    before_image: PIL.Image.Image | np.ndarray | None = None,
    progress: Progress | None = None,
) -> PIL.Image.Image:
    """image = Decode(Edit(stage)): what a camera sees of a stage whose prims have tokens.

    Where an argument is None, the stage's RenderSettings prim with NeuralRenderSettingsAPI decides, else the backend.

    Args:
        camera: path of a camera; None takes the stage's own, or frames the stage where it has none.
        time: time code. backend: see `find_backend`. seed: the same seed gives the same image; 0 by default.
        steps: denoising steps. guidance: classifier-free guidance, 1 is none.
        modality_guidance: further guidance of "appearance", "geometry" or "pose".
        hold: keeps what an edit did not touch: pixels outside of the edit's footprint stay those of the image before it.
        before: the stage before the edit; None takes the one that the stage's layer names as its base (`edit` does), and
            holds nothing where it names none. before_image: its image, (H, W, 3) sRGB in 0..1 or an image; rendered where missing.
        progress: called as the work goes on, may cancel.

    Returns:
        The image; `info["neuralusd"]` says how it was made, and `save_image` writes that into the PNG.

    Raises:
        SceneError and its kin, BackendError: what is wrong and the cure. Cancelled: `progress` asked for it.
    """
    import torch

    settings = stages.render_settings(stage)
    backend = backend or settings.get("backend") or DEFAULT_BACKEND
    seed = settings.get("seed", 0) if seed is None else seed
    steps = steps or settings.get("steps") or None
    guidance = settings.get("guidance") if guidance is None else guidance
    pipeline = load_backend(backend)
    scene = stages.read(stage, camera, time)
    _require_tokens(scene)
    held: dict[str, np.ndarray] = {}
    if hold:
        before = before or base_stage(stage)
    if hold and before is not None:
        # The camera that looks at the edit looks at the stage before it too.
        earlier = stages.read(before, scene.camera.path or None, time)
        if before_image is None:
            before_image = render(
                before, scene.camera.path or None, time, backend=backend, seed=seed, steps=steps, guidance=guidance,
                modality_guidance=modality_guidance, progress=progress,
            )  # fmt: skip
        size = pipeline.config.sample_size
        held = {
            "hold_image": _pixels(before_image, (size, size)),
            "footprint": footprint(earlier, scene, size, size),
        }

    def on_step(pipe: NeuralUSDPipeline, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if progress is not None and progress(step + 1, pipe.num_timesteps):
            raise Cancelled
        return {}

    image = pipeline(
        scene,
        num_inference_steps=steps,
        guidance_scale=guidance,
        modality_guidance=modality_guidance,
        generator=torch.Generator("cpu").manual_seed(int(seed)),
        callback_on_step_end=on_step,
        **held,
    ).images[0]
    image.info["neuralusd"] = {
        "verb": "render",
        "stage": scene.source,
        "camera": scene.camera.path or "framed",
        "time": time,
        "seed": int(seed),
        "steps": steps or pipeline.config.num_inference_steps,
        "guidance": pipeline.config.guidance_scale if guidance is None else guidance,
        "modality_guidance": dict(modality_guidance or {}),
        "held": bool(held),
        "backend": str(backend),
        "weights": backend_revision(pipeline),
        "versions": _versions(),
    }
    return image


def edit(
    stage: Usd.Stage,
    *,
    move: Mapping[str, Sequence[float]] | None = None,
    rotate: Mapping[str, float] | None = None,
    scale: Mapping[str, float] | None = None,
    appearance: Mapping[str, str] | None = None,
    geometry: Mapping[str, str] | None = None,
    replace: Mapping[str, str] | None = None,
    presence: Mapping[str, float] | None = None,
    background: str | None = None,
    time: float | None = None,
) -> None:
    """Edits a stage, as USD opinions on its edit target.

    Args:
        move: prim to an offset in metres along the world's axes. rotate: prim to degrees about the up axis through its origin.
        scale: prim to a factor. presence: prim to 0 (gone) .. 1.
        appearance, geometry: prim to the prim whose tokens it takes; replace: both. A prim of another stage is written
            "other.usda:/World/Bottle".
        background: the prim (of this or another stage) whose background replaces this one.
        time: time code of the poses read and written.

    Raises:
        EditError: what cannot be done, to which prim, and what could.
    """
    for path, offset in (move or {}).items():
        stages.move(stage, path, offset, time)
    for path, degrees in (rotate or {}).items():
        stages.rotate(stage, path, degrees, time)
    for path, factor in (scale or {}).items():
        stages.scale(stage, path, factor, time)
    for path, value in (presence or {}).items():
        stages.set_presence(stage, path, value)
    for modality, pairs in (("appearance", appearance), ("geometry", geometry)):
        for path, donor in {**(replace or {}), **(pairs or {})}.items():
            stages.take_tokens(stage, path, modality, donor)
    if background is not None:
        stages.replace_background(stage, background, time)


def base_stage(stage: Usd.Stage) -> Usd.Stage | None:
    """The stage that this one's root layer was made to edit (see `edit_over`), or None.

    Raises SceneError when it names one that cannot be opened.
    """
    layer = stage.GetRootLayer()
    name = layer.customLayerData.get(BASE_KEY)
    return stages.open_stage(layer.ComputeAbsolutePath(name)) if name else None


def edit_over(base: str | Path, output: str | Path) -> Usd.Stage:
    """A new layer at `output` over the stage `base`, as a stage that edits it; `render` keeps what the edit leaves alone.

    The base's layer is not touched. Nothing is on disk before the stage is saved. An existing `output` is edited further.
    """
    stage = stages.sidecar(base, output)
    layer = stage.GetRootLayer()
    if BASE_KEY not in layer.customLayerData:
        layer.customLayerData = {**layer.customLayerData, BASE_KEY: layer.subLayerPaths[0]}
    return stage


def _require_tokens(scene: Scene) -> None:
    if not any(asset.tokens for asset in scene.assets):
        raise TokensError(
            f"{scene.source} has no tokens on any prim; make them with: neuralusd encode {Path(scene.source).name}"
        )


def _pixels(image: str | Path | PIL.Image.Image | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) float32 sRGB in 0..1 of an image, resized to `shape`. Raises SceneError for what is no image."""
    if isinstance(image, np.ndarray):
        image = PIL.Image.fromarray((image * 255).round().clip(0, 255).astype(np.uint8))
    elif not isinstance(image, PIL.Image.Image):
        try:
            image = PIL.Image.open(image)
        except (OSError, PIL.Image.DecompressionBombError) as error:
            raise SceneError(f"{image} is not an image that can be read: {error}") from error
    rgb = image.convert("RGB")
    if rgb.size != (shape[1], shape[0]):
        rgb = rgb.resize((shape[1], shape[0]), PIL.Image.Resampling.LANCZOS)
    return np.asarray(rgb, np.float32) / 255


def _versions() -> dict[str, str]:
    names = ("neuralusd", "usd-core", "torch", "diffusers")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
