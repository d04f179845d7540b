"""A backend as the tables use it: pictures in, tokens and pictures out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..pipelines.render import NeuralUSDPipeline
from ..scene import Scene, Tokens
from .pairs import Frame
from .surfaces import surfaces_of, with_shaded

AssetTokens = Mapping[str, Mapping[str, Tokens]]
"""Path to modality to tokens."""


@dataclass
class Renderer:
    """A pipeline with the steps and guidance it is measured at; None takes the pipeline's own."""

    pipeline: NeuralUSDPipeline
    steps: int | None = None
    guidance: float | None = None

    @property
    def size(self) -> int:
        return self.pipeline.config.sample_size

    def encode(self, frame: Frame) -> dict[str, dict[str, Tokens]]:
        """Tokens of everything that a frame shows."""
        passes = with_shaded(frame.scene, frame.passes) if self.pipeline.looks_up else frame.passes
        return self.pipeline.encode(frame.scene, passes, source=frame.name).tokens

    def render(
        self,
        scene: Scene,
        seed: int,
        *,
        held: np.ndarray | None = None,
        footprint: np.ndarray | None = None,
        size: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """(H, W, 3) in 0..1 of a scene with tokens; outside of `footprint` (H, W) it keeps to `held` (H, W, 3).

        `size` (height, width) of pipelines that draw at any; None is that of `held`, else what they were trained at.
        """
        height, width = size or ((self.size, self.size) if held is None else held.shape[:2])
        return self.pipeline(
            scene,
            surfaces=surfaces_of(scene, height, width) if self.pipeline.looks_up else None,
            height=height,
            width=width,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            hold_image=held,
            footprint=footprint,
            output_type="np",
        ).images[0]


def with_asset_tokens(scene: Scene, tokens: AssetTokens) -> Scene:
    """The scene whose assets have these tokens and no others."""
    return replace(scene, assets=[replace(a, tokens=dict(tokens.get(a.path, {}))) for a in scene.assets])
