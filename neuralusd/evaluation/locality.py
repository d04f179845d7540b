"""Edit locality: how much an edit changes what it did not touch, with its outside held and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..pipelines.compositing import footprint
from ..pipelines.render import NeuralUSDPipeline
from ..scene import Scene
from .metrics import psnr
from .pairs import Frame
from .surfaces import surfaces_of

COLUMNS = ("PSNR outside", "PSNR inside", "seam")


def evaluate_locality(
    pipeline: NeuralUSDPipeline, frames: Sequence[Frame], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Moves the largest object of each frame by a third of its width, to the right, and compares to the image before.

    Returns:
        Rows "held" and "not held" of `COLUMNS`: PSNR in dB to the image before the edit outside and inside of the
        footprint, and the mean step of the image across the footprint's outline over that one pixel farther inside
        (1 is a seam that cannot be seen).
    """
    rows: dict[str, list[tuple[float, float, float]]] = {"held": [], "not held": []}
    for index, frame in enumerate(tqdm(frames, desc="edit locality", leave=False)):
        tokens = pipeline.encode(frame.scene, frame.passes, source=frame.name).tokens
        scene = replace(frame.scene, assets=[replace(a, tokens=tokens.get(a.path, {})) for a in frame.scene.assets])
        after = _moved(scene, frame)
        if after is None:
            continue
        size = pipeline.config.sample_size
        where = footprint(scene, after, *((size, size) if not pipeline.looks_up else frame.passes.ids.shape))
        if where.all():
            continue

        def render(
            target: Scene, number: int = seed + index, shape: tuple[int, ...] = where.shape, **held: np.ndarray
        ) -> np.ndarray:
            generator = torch.Generator("cpu").manual_seed(number)
            surfaces = surfaces_of(target, shape[0], shape[1]) if pipeline.looks_up else None
            options: dict[str, Any] = {"surfaces": surfaces, "generator": generator, **held}
            return pipeline(target, output_type="np", **options).images[0]

        before = render(scene)
        for name, image in (
            ("held", render(after, hold_image=before, footprint=where)),
            ("not held", render(after)),
        ):
            rows[name].append((psnr(image, before, ~where), psnr(image, before, where), _seam(image, where)))
    return {
        name: dict(zip(COLUMNS, np.mean(np.minimum(values, 99.0), axis=0).tolist(), strict=True))
        for name, values in rows.items()
        if values
    }


def _moved(scene: Scene, frame: Frame) -> Scene | None:
    """The scene with its largest visible object a third of its width to the right; None where it shows none."""
    areas = [
        (frame.passes.ids == i).sum() if a.role == "foreground" and a.tokens and a.extent is not None else 0
        for i, a in enumerate(scene.assets)
    ]
    if not max(areas, default=0):
        return None
    index = int(np.argmax(areas))
    asset = scene.assets[index]
    right = np.linalg.inv(scene.camera.world_to_camera)[0, :3]
    width = np.ptp(asset.corners() @ right)
    matrix = asset.local_to_world.copy()
    matrix[3, :3] += right * width / 3
    assets = list(scene.assets)
    assets[index] = replace(asset, local_to_world=matrix)
    return replace(scene, assets=assets)


def _seam(image: np.ndarray, where: np.ndarray) -> float:
    """Mean step across the mask's outline over the mean step one pixel inside of it."""
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(where, border_value=1)
    steps = []
    for mask in (where, inner):
        across = [np.abs(np.diff(image, axis=axis)).mean(-1)[np.diff(mask, axis=axis)] for axis in (0, 1)]
        steps.append(np.concatenate(across).mean())
    return float(steps[0] / max(steps[1], 1e-6))
