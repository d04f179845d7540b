"""Baselines without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..models.landing import nearest_in_front
from ..models.lookup import look_up
from ..pipelines.render import NeuralUSDPipeline
from ..surfaces.gbuffer import gbuffer_of_views
from ..training.build import build_pipeline
from ..training.config import MINI_SPLAT
from .pairs import Pair, with_tokens
from .surfaces import surfaces_of


def copy_source(pair: Pair) -> np.ndarray:
    """The source frame as it is."""
    return pair.source.passes.color  # type: ignore[return-value]


def landed_tokens(pairs: Sequence[Pair]) -> list[np.ndarray]:
    """What untrained `mini-splat` lands in the target, its tokens the crops' pixels: tokens without a denoiser."""
    pipeline = build_pipeline(MINI_SPLAT)
    pipeline.set_progress_bar_config(disable=True)
    # With the last layer at zero, which it starts as, the one step gives the landed picture.
    return [
        pipeline(with_tokens(pipeline, pair), num_inference_steps=1, guidance_scale=1.0, output_type="np").images[0]
        for pair in pairs
    ]


def looked_up(pipeline: NeuralUSDPipeline, pairs: Sequence[Pair]) -> list[np.ndarray]:
    """What is looked up of the target's surfaces in the source frame, without any network."""
    images = []
    for pair in pairs:
        scene, (height, width) = with_tokens(pipeline, pair), pair.truth.shape[:2]
        surfaces = surfaces_of(scene, height, width) or gbuffer_of_views(scene, height, width)
        images.append(look_up(scene, surfaces).picture.permute(1, 2, 0).numpy())
    return images


def splat_source(pair: Pair) -> np.ndarray:
    """Every source pixel carried by its depth and its asset's motion into the target; holes show the source frame."""
    source, target = pair.source, pair.target
    height, width = source.passes.ids.shape
    origins, directions = source.scene.camera.rays(height, width)
    world = origins + np.where(np.isfinite(source.passes.depth), source.passes.depth, np.nan)[..., None] * directions
    moved = world.copy()
    for index, asset in enumerate(source.scene.assets):
        mask = source.passes.ids == index
        other = next((a for a in target.scene.assets if a.path == asset.path), None)
        motion = np.linalg.inv(asset.local_to_world) @ other.local_to_world if other else np.full((4, 4), np.nan)
        moved[mask] = world[mask] @ motion[:3, :3] + motion[3, :3]
    places = torch.from_numpy(target.scene.camera.project(moved).reshape(-1, 3))
    winner = nearest_in_front(places, torch.zeros(len(places), dtype=torch.int64), 1, height)[0].numpy()
    colors = copy_source(pair).reshape(-1, 3)
    result = np.where((winner >= 0)[:, None], colors[np.maximum(winner, 0)], colors)
    return result.reshape(height, width, 3)
