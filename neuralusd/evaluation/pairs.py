"""Held-out pairs: tokens from a source frame, pose and truth from a target frame of the same scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..datasets.looked_up import shrunk
from ..pipelines.render import NeuralUSDPipeline
from ..scene import Passes, Scene
from .surfaces import with_shaded


@dataclass
class Frame:
    """A frame of a world: `name` of its scene, the `Scene` at its time, and its `passes` with the rendered picture."""

    name: str
    scene: Scene
    passes: Passes


def resized(frame: Frame, size: int) -> Frame:
    """A frame at `size` pixels, which its picture is a multiple of. Raises ValueError where it is not."""
    assert frame.passes.color is not None
    every = frame.passes.ids.shape[0] // max(size, 1)
    color = shrunk(frame.passes.color, size)
    part = np.s_[every // 2 :: every, every // 2 :: every]
    names = ("ids", "depth", "points", "normals")
    passes: dict[str, Any] = {name: None if (v := getattr(frame.passes, name)) is None else v[part] for name in names}
    return replace(frame, passes=Passes(**passes, color=color))


@dataclass
class Pair:
    """Source and target frame of one scene."""

    source: Frame
    target: Frame

    @property
    def truth(self) -> np.ndarray:
        """(H, W, 3) in 0..1, the target's picture."""
        return self.target.passes.color  # type: ignore[return-value]

    @property
    def foreground(self) -> np.ndarray:
        """(H, W) bool, where the target shows foreground assets."""
        slots = [i for i, asset in enumerate(self.target.scene.assets) if asset.role == "foreground"]
        return np.isin(self.target.passes.ids, slots)


def sample_pairs(frames: Iterable[Frame], count: int, seed: int) -> list[Pair]:
    """`count` pairs of different frames of one scene, drawn with `seed`, as evenly over the scenes as can be."""
    scenes: dict[str, list[Frame]] = {}
    for frame in frames:
        scenes.setdefault(frame.name, []).append(frame)
    candidates = [group for _, group in sorted(scenes.items()) if len(group) > 1]
    if not candidates:
        raise ValueError("there is no scene with two frames to evaluate on")
    random = np.random.default_rng(seed)
    pairs = []
    for index in range(count):
        group = candidates[index % len(candidates)]
        source, target = random.choice(len(group), 2, replace=False)
        pairs.append(Pair(group[source], group[target]))
    return pairs


def with_tokens(pipeline: NeuralUSDPipeline, pair: Pair) -> Scene:
    """The target scene with tokens that were encoded from the source frame."""
    source = pair.source
    passes = with_shaded(source.scene, source.passes) if pipeline.looks_up else source.passes
    tokens = pipeline.encode(source.scene, passes, source=source.name).tokens
    assets = [replace(asset, tokens=tokens.get(asset.path, {})) for asset in pair.target.scene.assets]
    return replace(pair.target.scene, assets=assets)
