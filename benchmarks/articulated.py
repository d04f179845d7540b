"""What parts that move are worth: frames that were not trained on, by an articulated and by a rigid autodecoder at an
equal budget, as a Markdown table, and a picture.

python benchmarks/articulated.py --world clips [--out out] [--row NAME] [--steps 300] [--resolution 24] [--clips 5]

`neuralusd data articulated --out clips` makes the world. Every fifth frame of each clip is held back. Rows that an
earlier call trained are not trained again, so rows may also be made by several calls at once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from neuralusd.datasets.clips import Clips, load_clips, read_clips
from neuralusd.evaluation.metrics import psnr
from neuralusd.training.articulated import (
    MINI_ARTICULATED,
    ArticulatedAutodecoder,
    ArticulatedConfig,
    batch_of,
    load_articulated,
    prepare_views,
    train_articulated,
)

# Name, what it says in the table, and how its configuration differs.
ROWS = {
    "rigid": ("rigid, cameras given", {"motion": "none"}),
    "given": ("parts, poses given", {"motion": "given"}),
    "estimated": ("parts, poses estimated, cameras given", {"motion": "estimated"}),
    "one": ("one part, pose estimated, nothing given", {"motion": "estimated", "cameras": "estimated", "parts": 0}),
    "all": ("parts, poses estimated, nothing given", {"motion": "estimated", "cameras": "estimated"}),
}
COLORS = ((0.85, 0.85, 0.8), (0.9, 0.3, 0.25), (0.25, 0.6, 0.9), (0.4, 0.8, 0.35), (0.9, 0.75, 0.25), (0.7, 0.4, 0.8))


def configuration(name: str, clips: Clips, given: argparse.Namespace) -> ArticulatedConfig:
    """Of a row. All of them take as many steps that render."""
    differs = dict(ROWS[name][1])
    parts = differs.pop("parts", clips.motion.shape[2])
    decoder = {**MINI_ARTICULATED.decoder, "channels": given.channels, "parts": parts}
    warm, rigid = (given.warm, given.steps // 4) if differs["motion"] == "estimated" else (0, 0)
    return replace(
        MINI_ARTICULATED,
        decoder=decoder,
        keypoints={"points": 8, "size": 32, "channels": 8, "depth": 3},
        objects=min(given.objects, len(clips)),
        resolution=given.resolution,
        samples=given.samples,
        lr=given.lr,
        warm_steps=warm,
        rigid_steps=0 if parts < 2 else rigid,
        steps=given.steps + warm,
        **differs,
    )


def show(
    model: ArticulatedAutodecoder,
    views: Clips,
    clip: int,
    frames: np.ndarray,
    poses_of: np.ndarray,
    parts: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (V, H, W, 3) and occupancies (V, H, W) of a clip's frames, with the poses of others of its frames."""
    (objects, origins, directions, _, _), more = batch_of(views, np.array([clip]), frames[None])
    other, told = batch_of(views, np.array([clip]), poses_of[None])
    with torch.no_grad():
        model.eval()
        poses = model.poses(other[3].movedim(-1, 2), told["cameras"], told["intrinsics"], told["motion"])
        volume = model.decoder(model.embeddings(objects)).float()
        palette = torch.tensor(COLORS)[: model.parts] if parts else None
        seen, _ = model.render(volume, origins, directions, poses, palette=palette)
    shape = origins.shape[1:4]
    return seen.color.view(*shape, 3).clamp(0, 1).numpy(), seen.occupancy.view(shape).numpy()


def measure(model: ArticulatedAutodecoder, clips: Clips) -> dict[str, float]:
    """On frames that were held back."""
    views = prepare_views(clips, model.config)
    held_back = views.split_views()[1]
    likeness, overlap = [], []
    for clip in range(len(views)):
        pictures, occupancy = show(model, views, clip, held_back, held_back)
        for picture, solid, frame in zip(pictures, occupancy > 0.5, held_back, strict=True):
            mask = views.mask[clip, frame]
            likeness.append(psnr(picture, views.color[clip, frame].astype(np.float32) / 255))
            overlap.append((solid & mask).sum() / max(1, (solid | mask).sum()))
    return {"psnr": float(np.mean(likeness)), "iou": float(np.mean(overlap))}


def sheet(models: dict[str, ArticulatedAutodecoder], clips: Clips, shown: list[int], size: int) -> PIL.Image.Image:
    """A row a clip: a frame that was held back; of each model its reconstruction, it with another frame's pose, and
    its parts; then that other frame."""
    held_back = clips.split_views()[1]
    rows = []
    for clip in shown:
        # The two frames in which the parts are furthest from each other.
        motion = clips.motion[clip, held_back].reshape(len(held_back), -1)
        apart = np.abs(motion[:, None] - motion[None]).sum(-1)
        frame, other = (held_back[[index]] for index in np.unravel_index(apart.argmax(), apart.shape))
        views = prepare_views(clips, next(iter(models.values())).config)
        row = [views.color[clip, frame[0]] / 255]
        for model in models.values():
            views = prepare_views(clips, model.config)
            row.append(show(model, views, clip, frame, frame)[0][0])
            if model.parts > 1:
                row.append(show(model, views, clip, frame, other)[0][0])
                row.append(show(model, views, clip, frame, frame, parts=True)[0][0])
        row.append(views.color[clip, other[0]] / 255)
        rows.append(np.concatenate([enlarged(picture, size) for picture in row], 1))
    return PIL.Image.fromarray(np.concatenate(rows))


def enlarged(picture: np.ndarray, size: int) -> np.ndarray:
    image = PIL.Image.fromarray((np.asarray(picture) * 255).round().astype(np.uint8))
    framed = PIL.Image.new("RGB", (size, size), (40, 40, 40))
    framed.paste(image.resize((size - 4, size - 4), PIL.Image.Resampling.BICUBIC), (2, 2))
    return np.asarray(framed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", required=True, help="of `neuralusd data articulated`, or an .npz of `save_clips`")
    parser.add_argument("--out", type=Path, default=Path("out/articulated"))
    parser.add_argument("--row", action="append", choices=ROWS, help="only these rows (default: all)")
    parser.add_argument("--clips", type=int, default=5, help="the first so many of the world's")
    parser.add_argument("--steps", type=int, default=300, help="that render")
    parser.add_argument("--warm", type=int, default=300, help="that teach the keypoints alone, before")
    parser.add_argument("--objects", type=int, default=1, help="clips a step, of four frames each")
    parser.add_argument("--resolution", type=int, default=24)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--picture", nargs="*", choices=ROWS, default=["rigid", "given", "estimated"])
    given = parser.parse_args()
    clips = load_clips(given.world) if given.world.endswith(".npz") else read_clips(given.world)
    fields = {name: value[: given.clips] for name, value in vars(clips).items()}
    clips = Clips(**{**fields, "motion": fields["motion"][:, :, : int(fields["parts"].max())]})
    models, table = {}, []
    for name in given.row or ROWS:
        config = configuration(name, clips, given)
        folder = given.out / name
        if (folder / "training_config.json").exists():
            model = load_articulated(folder)
        else:
            model = train_articulated(clips, config, folder, mixed_precision="no", checkpoint_steps=100, log_steps=10)
        models[name] = model
        found = measure(model, clips)
        (folder / "measured.json").write_text(json.dumps(found))
        table.append(f"| {ROWS[name][0]} | {found['psnr']:.2f} | {found['iou']:.3f} |")
    print("| | PSNR, dB | IoU |\n| --- | --- | --- |\n" + "\n".join(table))
    chosen = {name: models[name] for name in given.picture if name in models}
    if chosen:
        sheet(chosen, clips, list(range(len(clips))), 96).save(given.out / "articulated.png")


if __name__ == "__main__":
    main()
