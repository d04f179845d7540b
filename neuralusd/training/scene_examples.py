"""What the full size's decoder is trained on: pictures, where their objects are, and what encoders say of them.

A folder of safetensors, a picture each, so that encoders, which are large and slow, run once.

    python -m neuralusd.training.scene_examples --world rooms --sam3d checkpoints/hf --out examples
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from neuralusd.annotate.annotation import Annotation
from neuralusd.annotate.dino import DINO, DinoPatches
from neuralusd.annotate.errors import ModelError
from neuralusd.annotate.sam3d import IDENTIFIER, Sam3dObject, Sam3dObjects, points_of_depth
from neuralusd.latents import ObjectLatents, SceneLatents

if TYPE_CHECKING:
    from neuralusd.datasets.world import SceneFolder

SUFFIX = ".safetensors"
# Of an object's features, so many are kept; a step of training looks at some of them.
MOST_FEATURES = 4096
# Objects of less of the picture than this are left out.
SMALLEST = 1e-3


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


def photo_example(
    annotation: Annotation, objects: Callable[..., Sam3dObject], dino: DinoPatches, *, size: int = 512, seed: int = 0
) -> SceneExample:
    """E of a picture (sections 2.1 and 3.1): SAM 3D's features and layout of each object, DINOv2's patches of it all.

    Args:
        annotation: objects and depth of the picture, see `annotate`. objects: SAM 3D, see `Sam3dObjects`.
        size: pixels that the picture's longer side is brought to; both sides then are multiples of 16.

    Raises:
        ModelError: there is no depth, or SAM 3D cannot say what an object is.
    """
    import torch

    if annotation.depth is None:
        raise ModelError(f"{annotation.source or 'the picture'} has no depth, so nobody knows where its objects are")
    height, width = annotation.ids.shape
    half = np.tan(np.radians(annotation.field_of_view) / 2)
    focal = np.array([0.5 / half, 0.5 / half * width / height])
    points = points_of_depth(annotation.depth, focal)
    rng = np.random.default_rng(seed)
    latents = SceneLatents(focal=focal, encoder=IDENTIFIER)
    example = SceneExample(_resized(annotation.color, size), latents)
    for index, label in enumerate(annotation.labels):
        mask = annotation.ids == index
        if mask.mean() < SMALLEST:
            continue
        found = objects(annotation.color, mask, points, seed=seed)
        kept = rng.permutation(len(found.features))[:MOST_FEATURES]
        example.features.append(found.features[kept])
        example.points.append(found.points[kept])
        latents.objects.append(ObjectLatents(found.translation, found.rotation, found.scale, text=label))
    picture = torch.from_numpy(np.ascontiguousarray(annotation.color)).permute(2, 0, 1)[None]
    example.patches = dino(picture)[0].float().cpu().numpy()
    example.behind = dino.background(torch.from_numpy(annotation.ids >= 0)[None])[0].numpy()
    return example


def frame_annotation(scene: SceneFolder, frame: int) -> Annotation:
    """A frame of a world as if it had been annotated, by what the world knows of it."""
    from neuralusd.stage.open import open_stage
    from neuralusd.stage.read import read

    seen = scene.read(frame)
    height, width = seen.ids.shape
    known = read(open_stage(scene.stage_path), time=float(frame), aspect=width / height)
    words = {asset.path: asset.text or Path(asset.path).name for asset in known.foreground}
    order = [path for path in seen.paths if path in words]
    number = np.array([order.index(path) if path in words else -1 for path in seen.paths] + [-1])  # -1 is its last
    return Annotation(
        color=seen.rgb.astype(np.float32) / 255,
        ids=number[seen.ids].astype(np.int32),
        labels=[words[path] for path in order],
        scores=[1.0] * len(order),
        depth=np.asarray(seen.depth, np.float32),
        field_of_view=float(
            2 * np.degrees(np.arctan(0.5 * known.camera.horizontal_aperture / known.camera.focal_length))
        ),
        source=str(scene.rgb_path(frame)),
    )


def _resized(color: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    height, width = color.shape[:2]
    scale = size / max(height, width)
    columns, rows = (max(round(side * scale / 16), 1) * 16 for side in (width, height))
    picture = Image.fromarray((color.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.LANCZOS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes, or goes on making, a folder of examples of a world."""
    from tqdm import tqdm

    from neuralusd.datasets.world import open_world

    parser = argparse.ArgumentParser(prog="python -m neuralusd.training.scene_examples", description=main.__doc__)
    parser.add_argument("--world", required=True, metavar="DIR", help="of `neuralusd data`")
    parser.add_argument("--split", default="train", metavar="NAME")
    parser.add_argument("--sam3d", required=True, metavar="DIR", help="SAM 3D Objects' checkpoints, as safetensors")
    parser.add_argument("--dino", default=DINO, metavar="DIR|ID", help=f"a DINOv2 (default: {DINO})")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--size", type=int, default=512, metavar="N", help="pixels of the longer side (default: 512)")
    given = parser.parse_args(arguments)
    try:
        world = open_world(given.world, given.split)
        objects, dino = Sam3dObjects(given.sam3d), DinoPatches(given.dino)
        for scene, frame in tqdm(list(world.frames()), desc="examples"):
            file = Path(given.out, f"{scene.id}_{frame:04d}{SUFFIX}")
            if not file.exists():
                save_example(photo_example(frame_annotation(scene, frame), objects, dino, size=given.size), file)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
