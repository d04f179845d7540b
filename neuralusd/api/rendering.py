"""`render` on stages."""

from __future__ import annotations

import importlib.metadata
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from pxr import Usd

from .. import stage as stages
from ..backends import DEFAULT_BACKEND, backend_revision, load_backend
from ..errors import TokensError
from ..pipelines.compositing import footprint
from ..scene import GBuffer, Passes, Scene
from .pictures import held_pixels, pixels, render_size
from .progress import Progress, report
from .shots import base_stage

if TYPE_CHECKING:
    from ..pipelines.render import NeuralUSDPipeline


# An intermediate picture is decoded so often at most, in seconds: decoding costs about what a step does.
_PICTURE_EVERY = 0.25


def render(
    stage: Usd.Stage,
    camera: str | None = None,
    time: float | None = None,
    *,
    size: tuple[int, int] | int | None = None,
    backend: str | Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    modality_guidance: Mapping[str, float] | None = None,
    hold: bool = True,
    before: Usd.Stage | None = None,
    before_image: str | Path | PIL.Image.Image | np.ndarray | None = None,
    progress: Progress | None = None,
    on_picture: Callable[[PIL.Image.Image], object] | None = None,
) -> PIL.Image.Image:
    """image = Decode(Edit(stage)): what a camera sees of a stage whose prims have tokens.

    Where an argument is None, the stage's RenderSettings prim with NeuralRenderSettingsAPI decides, else the backend.

    Args:
        camera: path of a camera; None takes the stage's own, or frames the stage where it has none. An edit (see
            `edit_over`) is framed as the stage that it edits.
        time: time code; None reads the earliest.
        size: (width, height) of the image in pixels, or its longer side; None takes that of `before_image`, else the
            stage's RenderSettings, else the camera's shape with 512 pixels on the longer side.
        backend: see `find_backend`.
        seed: the same seed gives the same image; 0 by default. steps: denoising steps.
        guidance: classifier-free guidance, 1 is none. modality_guidance: further guidance of "appearance", "geometry"
            or "pose".
        hold: keeps what an edit did not touch: pixels outside of its footprint stay those of the image before it.
        before: the stage before the edit; None takes the one that the stage's layer names as its base (`edit_over`
            does), and holds nothing where it names none.
        before_image: its image, a file, an image, or (H, W, 3) sRGB in 0..1; rendered where missing. One of another
            size than `size` is resized, with a PictureWarning; one of another shape is an ImageError.
        progress: called as the work goes on, over all the images that have to be rendered; may cancel.
        on_picture: called with the picture as it emerges, where there are several steps, some times a second at most.

    Returns:
        The image; `info["neuralusd"]` says how it was made, and `save_image` writes that into the PNG.

    Raises:
        SceneError and its kin, BackendError: what is wrong and the cure. Cancelled: `progress` asked for it.
    """
    import torch

    settings = stages.render_settings(stage)
    backend = backend or settings.get("backend") or DEFAULT_BACKEND
    seed = settings.get("seed", 0) if seed is None else seed
    guidance = settings.get("guidance") if guidance is None else guidance
    pipeline = load_backend(backend)
    steps = steps or settings.get("steps") or pipeline.config.num_inference_steps
    before_image = before_image if hold else None
    width, height = render_size(stage, camera, size, before_image)
    held = None if before_image is None else held_pixels(before_image, (width, height))
    shots = _shots(stage, camera, time, (height, width), hold, before, held is not None)

    image = PIL.Image.new("RGB", (width, height))
    shown = -_PICTURE_EVERY
    latents: Any = None
    for number, shot in enumerate(reversed(shots)):

        def on_step(
            pipe: NeuralUSDPipeline, step: int, timestep: Any, values: dict[str, Any], done: int = number * steps
        ) -> dict[str, Any]:
            nonlocal shown, latents
            if on_picture is not None:
                latents, earlier = values["latents"], latents if step else _noise(values["latents"], seed)
                if step + 1 < steps and clock.monotonic() - shown >= _PICTURE_EVERY:
                    [picture] = pipe.numpy_to_pil(pipe.decode(_foreseen(pipe.scheduler, step, earlier, latents)))
                    shown = clock.monotonic()
                    on_picture(picture)
            report(progress, done + step + 1, len(shots) * steps)
            return {}

        # The same noise for each: what an edit leaves alone comes out alike even where nothing holds it.
        made: Any = pipeline(
            shot.scene,
            surfaces=shot.surfaces() if pipeline.looks_up else None,
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance_scale=guidance,
            modality_guidance=modality_guidance,
            generator=torch.Generator("cpu").manual_seed(int(seed)),
            hold_image=held if shot.mask is not None else None,
            footprint=shot.mask,
            callback_on_step_end=on_step,
        )
        image = made.images[0]
        held = pixels(image, (height, width))
    scene, mask = shots[0].scene, shots[0].mask
    image.info["neuralusd"] = {
        "verb": "render",
        "stage": scene.source,
        "camera": scene.camera.path or "framed",
        "time": time,
        "size": [width, height],
        "seed": int(seed),
        "steps": steps,
        "guidance": pipeline.config.guidance_scale if guidance is None else guidance,
        "modality_guidance": dict(modality_guidance or {}),
        "held": mask is not None,
        "backend": str(backend),
        "weights": backend_revision(pipeline),
        "versions": _versions(),
    }
    return image


def _noise(like: Any, seed: int) -> Any:
    """The noise that rendering began with."""
    import torch

    return torch.randn(like.shape, generator=torch.Generator("cpu").manual_seed(int(seed))).to(like.device)


def _foreseen(scheduler: Any, step: int, before: Any, after: Any) -> Any:
    """The latents without noise to which a step of DDIM led, where the step is such a one; else as they are after it.

    Between two of its steps nothing but the shares of picture and noise changes (DDIM, equation 12 with no noise
    added), so both follow from the latents before and after.
    """
    from diffusers import DDIMScheduler

    if not isinstance(scheduler, DDIMScheduler):
        return after
    (picture, noise), (later_picture, later_noise) = (
        (float(share) ** 0.5, float(1 - share) ** 0.5)
        for share in (scheduler.alphas_cumprod[scheduler.timesteps[index]] for index in (step, step + 1))
    )
    return (noise * after - later_noise * before) / (noise * later_picture - later_noise * picture)


def render_passes(
    stage: Usd.Stage, camera: str | None = None, time: float | None = None, *, size: tuple[int, int] | int | None = None
) -> tuple[Passes, list[str]]:
    """Depth and object ids of what `render` shows.

    Args:
        camera, time, size: as for `render`.

    Returns:
        The passes (`depth` in metres along the viewing axis, inf where nothing is; `ids` index the names, -1 for
        none), and the paths of the assets. The surface of a prim without geometry, as a photograph's, is that of its
        views.

    Raises:
        SceneError and its kin: what is wrong with which prim.
    """
    width, height = stages.image_size(stage, camera, size)
    scene = _read(stage, camera, time, width / height)
    passes = stages.render_passes(stage, scene, height, width, color=False, sheets=True)
    return passes, [asset.path for asset in scene.assets]


@dataclass
class _Shot:
    """A stage's scene, and where an edit may change the image before it; None where nothing holds."""

    stage: Usd.Stage
    scene: Scene
    size: tuple[int, int]
    mask: np.ndarray | None = None

    def surfaces(self) -> GBuffer:
        return stages.render_gbuffer(self.stage, self.scene, *self.size)


def _shots(
    stage: Usd.Stage,
    camera: str | None,
    time: float | None,
    size: tuple[int, int],
    hold: bool,
    before: Usd.Stage | None,
    image_at_hand: bool,
) -> list[_Shot]:
    """The scene to render, and before it in time those whose images it keeps to, each with its edit's footprint.

    The last scene has no footprint unless the image before it is at hand.
    """
    height, width = size
    shots = [_Shot(stage, _read(stage, camera, time, width / height), size)]
    if not hold:
        return shots
    before = before or base_stage(stage)
    while before is not None:
        later = shots[-1].scene
        # The camera that looks at the edit looks at the stage before it too.
        earlier = _read(before, later.camera.path or None, time, width / height)
        if not later.camera.path:
            earlier.camera = later.camera
        mask = footprint(earlier, later, height, width)
        if mask.all():
            break
        shots[-1].mask = mask
        if image_at_hand:
            break
        shots.append(_Shot(before, earlier, size))
        before = base_stage(before)
    return shots


def _read(stage: Usd.Stage, camera: str | None, time: float | None, aspect: float) -> Scene:
    scene = stages.read(stage, camera, time, aspect)
    if not any(asset.tokens for asset in scene.assets):
        raise TokensError(f"{scene.source} has no tokens on any prim; make them with: neuralusd encode {scene.source}")
    base = None if scene.camera.path else base_stage(stage)
    if base is not None:
        # A prim that moves must not move the view of all the others.
        scene.camera = _read(base, None, time, aspect).camera
    return scene


def _versions() -> dict[str, str]:
    found = {}
    for name in ("neuralusd", "usd-core", "torch", "diffusers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
