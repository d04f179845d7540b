"""What was looked up of pairs of frames, as files: what training of a `render` that looks up reads.

Rays and look-ups cost more than a training step, so they are made once. A scene is a file; a run that was killed goes
on where it was.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scene import APPEARANCE, GEOMETRY, GBuffer, Passes, Scene

if TYPE_CHECKING:
    from ..pipelines.render import NeuralUSDPipeline
    from .world import SceneFolder

# Of each pair: all that can be looked up, and that with something left out, as dropouts leave it.
VARIANTS = 2


@dataclass
class Shot:
    """A frame of a scene: its passes with the picture, and what its camera sees; None where the stage has no geometry,
    so that surfaces are those of the views."""

    scene: Scene
    passes: Passes
    surfaces: GBuffer | None


@dataclass(frozen=True)
class LookUpTask:
    """One scene: `folder` of a world to a file in `output`, `pairs` of its frames at `size` pixels, by the encoders of
    `backend`."""

    folder: str
    output: str
    backend: str
    size: int
    pairs: int
    seed: int


def look_up_scene(task: LookUpTask) -> None:
    """Makes the file of a scene."""
    import zlib

    import torch

    from ..backends import load_backend
    from .world import SceneFolder

    torch.set_num_threads(1)
    folder = SceneFolder(Path(task.folder))
    rng = np.random.default_rng([task.seed, zlib.crc32(folder.id.encode())])
    shots = read_shots(folder, task.size)
    write_looked_up(shots, load_backend(task.backend, "cpu"), Path(task.output) / f"{folder.id}.npz", task.pairs, rng)


def read_shots(folder: SceneFolder, size: int) -> list[Shot]:
    """The frames of a scene at `size` pixels, which its pictures are a multiple of.

    Raises:
        ValueError: the pictures are of another size, or damaged.
    """
    from .. import stage as stages
    from ..surfaces.gbuffer import passes_of
    from .frames import read_frames

    stage = stages.open_stage(folder.stage_path)
    shots = []
    for scene, passes in read_frames(folder):
        assert passes.color is not None
        picture = shrunk(passes.color, size)
        surfaces = stages.render_gbuffer(stage, scene, size, size)
        if surfaces.surfaced.any():
            seen = replace(passes_of(surfaces), color=picture, base=None, lit=True)
            shots.append(Shot(scene, seen, surfaces))
        else:
            every = passes.ids.shape[0] // size
            part = np.s_[every // 2 :: every, every // 2 :: every]
            shots.append(
                Shot(scene, Passes(passes.ids[part], passes.depth[part], passes.points[part], color=picture), None)
            )
    return shots


def shrunk(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture (H, H, 3) at `size` pixels, which H is a multiple of, by means. Raises ValueError where it is not."""
    height, width = picture.shape[:2]
    if height % size or height != width:
        raise ValueError(f"pictures of {width} x {height} pixels cannot be made {size} x {size}: no multiple")
    every = height // size
    return picture.reshape(size, every, size, every, 3).mean((1, 3)).astype(np.float32)


def write_looked_up(
    shots: list[Shot], pipeline: NeuralUSDPipeline, path: str | Path, pairs: int, rng: np.random.Generator
) -> None:
    """Writes what is looked up of `pairs` random pairs of a scene's shots, which are of one size.

    Args:
        pipeline: its encoders make the tokens.
    """
    from ..models.tensors import scene_tensors, token_tensors

    encoded = [pipeline.encode(shot.scene, shot.passes).tokens for shot in shots]
    every = list(itertools.permutations(range(len(shots)), 2))
    rng.shuffle(every)
    rows: dict[str, list[np.ndarray]] = {"channels": [], "background_pose": []}
    chosen = [*every[:pairs], *((index, index) for index in range(len(shots))[:: max(1, len(shots) // 2)])]
    for source, target in chosen:
        scene = _with(shots[target].scene, encoded[source])
        size = shots[target].passes.ids.shape
        variants = [_channels(scene, shots[target].surfaces, size, rng, bool(kind)) for kind in range(VARIANTS)]
        rows["channels"].append(np.stack(variants))
        rows["background_pose"].append(scene_tensors([scene]).background_pose[0].numpy())
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in rows.items()}
    arrays["source"], arrays["target"] = np.array(chosen).T
    arrays["color"] = np.stack([np.rint(np.asarray(shot.passes.color) * 255).astype(np.uint8) for shot in shots])
    for modality in (APPEARANCE, GEOMETRY):
        encoder = pipeline.encoder(modality)
        shape = (encoder.grid[0] * encoder.grid[1], encoder.token_dim)
        tokens = token_tensors([_with(s.scene, e) for s, e in zip(shots, encoded, strict=True)], modality, shape)
        arrays[f"{modality}_values"] = tokens.values.numpy().astype(np.float16)
        arrays[f"{modality}_present"] = tokens.present.numpy()
    target_tensors = scene_tensors([shot.scene for shot in shots])
    for name in ("presence", "pose_2d", "pose_3d", "has_pose_2d", "has_pose_3d"):
        arrays[name] = getattr(target_tensors, name).numpy()
    # Under another name until it is whole.
    unfinished = Path(path).with_suffix(".unfinished.npz")
    np.savez(unfinished, **arrays)
    os.replace(unfinished, path)


def _with(scene: Scene, tokens: dict[str, dict]) -> Scene:
    return replace(scene, assets=[replace(a, tokens=tokens.get(a.path, {})) for a in scene.assets])


def _channels(
    scene: Scene, surfaces: GBuffer | None, size: tuple[int, ...], rng: np.random.Generator, less: bool
) -> np.ndarray:
    """(CHANNELS, H, W) uint8 of what is looked up; `less`: with something left out."""
    from ..models.lookup import look_up
    from ..surfaces.gbuffer import gbuffer_of_views

    height, width = size
    surfaces = gbuffer_of_views(scene, height, width) if surfaces is None else surfaces
    without: Iterable[str] = ()
    if less:
        kind = rng.choice(["looks", "all looks", "unseen", "cards", "sheets"], p=[0.35, 0.1, 0.25, 0.15, 0.15])
        if kind in ("looks", "all looks"):
            without = [a.path for a in scene.assets if kind == "all looks" or rng.uniform() < 0.5]
        elif kind == "unseen":  # as a stage that was encoded from its own base colours
            scene = replace(scene, assets=[replace(a, tokens={}) for a in scene.assets])
        elif kind == "cards":
            surfaces = gbuffer_of_views(scene, height, width, flat=True)
        else:  # as a photograph: surfaces are those of the view
            surfaces = gbuffer_of_views(scene, height, width)
    return packed(look_up(scene, surfaces, list(without)).channels.numpy())


# The greatest relative log depth that is told apart.
_DEPTH = 3.0


def packed(channels: np.ndarray) -> np.ndarray:
    """Channels (C, H, W) of `neuralusd.models.lookup` as bytes."""
    scaled = channels.copy()
    scaled[11] /= _DEPTH
    return np.rint((scaled.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def unpacked(channels: np.ndarray) -> np.ndarray:
    """The inverse of `packed`, (..., C, H, W) float32."""
    out = channels.astype(np.float32) / 127.5 - 1
    out[..., 11, :, :] *= _DEPTH
    # What was exactly 0, as a normal of nothing, stays so.
    out[np.abs(out) < 0.006] = 0
    return out


@dataclass
class LookedUpWorld:
    """Files of `write_looked_up`, opened: each a dictionary of arrays."""

    scenes: list[dict[str, np.ndarray]]

    def __len__(self) -> int:
        """How many frames there are."""
        return sum(len(scene["color"]) for scene in self.scenes)

    @property
    def slots(self) -> int:
        """N of the scene with most assets."""
        return max(scene["presence"].shape[1] for scene in self.scenes)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        height, width = self.scenes[0]["color"].shape[1:3]
        return height, width


def open_looked_up(folder: str | os.PathLike) -> LookedUpWorld:
    """Opens a folder of files of `write_looked_up`.

    Raises:
        ValueError: there are none.
    """
    files = sorted(f for f in Path(folder).glob("*.npz") if not f.name.endswith(".unfinished.npz"))
    if not files:
        raise ValueError(f"{folder} holds no file of `neuralusd data look-up`")
    scenes = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            scenes.append({name: arrays[name] for name in arrays.files})
    return LookedUpWorld(scenes)


def is_looked_up(folder: str | os.PathLike) -> bool:
    """Whether a folder holds what was looked up."""
    file = next(iter(sorted(Path(folder).glob("*.npz"))), None)
    if file is None:
        return False
    with np.load(file, allow_pickle=False) as arrays:
        return "channels" in arrays.files
