"""What the full size's decoder is trained on: pictures, where their objects are, and what encoders say of them.

A folder of safetensors, a picture each, so that encoders, which are large and slow, run once. `make_scene_examples`
makes one of a world.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..latents import ObjectLatents, SceneLatents

SUFFIX = ".safetensors"


@dataclass
class SceneExample:
    """A picture of a scene.

    Either the latents have tokens of a codec, or there are features, of which tokens are trained.

    Attributes:
        color: (H, W, 3) uint8 sRGB.
        latents: of what the picture shows; objects that are absent are left out when it is saved.
        features: of each present object, (L, C) latents of an object encoder (H of equation 6); points: (L, 3) where
            they are, in -1..1 of the object's cube.
        patches: (P, C) of a DINOv2, in rows; behind: (P,) bool, which of them show background.
    """

    color: np.ndarray
    latents: SceneLatents
    features: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    patches: np.ndarray | None = None
    behind: np.ndarray | None = None

    @property
    def encoded(self) -> bool:
        """Whether the latents have tokens."""
        return self.latents.background is not None


def save_example(example: SceneExample, file: str | os.PathLike) -> None:
    """Writes an example, whole or not at all.

    Raises:
        ValueError: it has neither tokens nor features of all of its objects and background.
    """
    from safetensors.numpy import save_file

    latents = example.latents
    objects = [each for each in latents.objects if each.presence]
    arrays = {
        "color": example.color,
        "focal": np.asarray(latents.focal, np.float32),
        "translation": _stacked([each.translation for each in objects], 3),
        "rotation": _stacked([each.rotation for each in objects], 4),
        "scale": _stacked([each.scale for each in objects], 3),
    }
    if example.encoded:
        tokens = [each.appearance for each in objects if each.appearance is not None]
        if len(tokens) != len(objects):
            raise ValueError("the scene has a background token, but not every object has appearance tokens")
        arrays["background"] = np.asarray(latents.background, np.float32)
        if tokens:
            arrays["appearance"] = np.stack(tokens).astype(np.float32)
    else:
        if len(example.features) != len(objects) or len(example.points) != len(objects):
            raise ValueError(f"there are features of {len(example.features)} objects, and {len(objects)} objects")
        if example.patches is None or example.behind is None:
            raise ValueError("there are no patches of which a background token could be made")
        arrays["patches"] = example.patches.astype(np.float16)
        arrays["behind"] = np.asarray(example.behind, bool)
        arrays["counts"] = np.array([len(each) for each in example.features], np.int32)
        if objects:
            arrays["features"] = np.concatenate(example.features).astype(np.float16)
            arrays["points"] = np.concatenate(example.points).astype(np.float16)
    names = json.dumps([[each.path, each.text] for each in objects])
    about = {"names": names, "encoder": latents.encoder, "revision": latents.revision}
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata=about)
    part.replace(file)


def load_example(file: str | os.PathLike) -> SceneExample:
    """Reads what `save_example` wrote.

    Raises:
        ValueError: the file is damaged, or is none of these.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
            about = opened.metadata() or {}
        names = json.loads(about["names"])
        tokens = arrays.get("appearance")
        objects = [
            ObjectLatents(
                translation=arrays["translation"][index],
                rotation=arrays["rotation"][index],
                scale=arrays["scale"][index],
                appearance=None if tokens is None else tokens[index],
                path=path,
                text=text,
            )
            for index, (path, text) in enumerate(names)
        ]
        latents = SceneLatents(
            objects, arrays["focal"], arrays.get("background"), about.get("encoder", ""), about.get("revision", "")
        )
        example = SceneExample(arrays["color"], latents)
        if not example.encoded:
            ends = np.cumsum(arrays["counts"])[:-1]
            if objects:
                example.features = np.split(arrays["features"], ends)
                example.points = np.split(arrays["points"], ends)
            example.patches, example.behind = arrays["patches"], arrays["behind"]
    except (OSError, KeyError, IndexError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file} is no example of a scene: {error}") from error
    return example


class SceneExamples(Sequence):
    """The examples of a folder, read as they are asked for.

    Attributes:
        first: one of them. All have to be like it: of one size, of one encoder, with tokens or all without.

    Raises:
        ValueError: there are none, or one is unlike the first (when it is read).
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.files = sorted(Path(folder).glob(f"*{SUFFIX}"))
        if not self.files:
            raise ValueError(
                f"{folder} has no examples of scenes; `python -m neuralusd.training.scene_examples` makes them"
            )
        self.first = load_example(self.files[0])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index):
        example, first = load_example(self.files[index]), self.first
        alike = (
            ("its picture is of another size", example.color.shape, first.color.shape),
            ("it has tokens, or none, unlike it", example.encoded, first.encoded),
            ("its tokens are of another encoder", *(_encoder(each) for each in (example, first))),
        )
        for what, its, others in alike:
            if its != others:
                raise ValueError(f"{self.files[index]} is unlike {self.files[0].name}: {what} ({its}, not {others})")
        return example


def _encoder(example: SceneExample) -> tuple[str, str]:
    return example.latents.encoder, example.latents.revision


def _stacked(rows: list[np.ndarray], width: int) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, width)


def thinned(example: SceneExample, most: int, rng: np.random.Generator) -> SceneExample:
    """With at most so many features of each object, a random choice."""
    chosen = [rng.permutation(len(each))[:most] for each in example.features]
    return replace(
        example,
        features=[each[some] for each, some in zip(example.features, chosen, strict=True)],
        points=[each[some] for each, some in zip(example.points, chosen, strict=True)],
    )
