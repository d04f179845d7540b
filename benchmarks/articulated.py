"""What parts that move are worth: frames that were not trained on, by articulated and by rigid autodecoders at an equal
budget, as a Markdown table, and a picture.

python benchmarks/articulated.py --world clips [--out out] [--kind NAME] [--row NAME] [--clips 3] [--steps 3000]

`neuralusd data articulated --out clips --clips 30 --held-out-clips 0 --frames 72 --resolution 64` makes the world.
Keypoints and the canonical space are shared by objects of a kind, as by the faces of the paper, so each kind has a
model of its own. Every fifth frame of a clip is held back. What an earlier call trained is not trained again, so kinds
and rows may be made by several calls at once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from neuralusd.datasets.articulated_furniture import KINDS
from neuralusd.datasets.clips import Clips, load_clips, read_clips
from neuralusd.evaluation.metrics import psnr
from neuralusd.training.articulated import (
    MINI_ARTICULATED,
    ArticulatedAutodecoder,
    ArticulatedConfig,
    batch_of,
    prepare_views,
    train_articulated,
)
from neuralusd.training.cameras import turned_by

# Name, what it says in the table, and how its configuration differs.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "rigid": ("rigid, cameras given", {"motion": "none"}),
    "given": ("parts, poses given", {"motion": "given"}),
    "estimated": ("parts, poses estimated, cameras given", {}),
    "anywhere": ("... keypoints looked for in all of the picture", {"reach": 0.0, "warm_steps": 300}),
    "astray": ("... parts may leave the cube", {"stray_weight": 0.0}),
    "firm": ("... keypoints held to be rigid ten times as much", {"projection_weight": 10.0}),
    "fast": ("... keypoints learn as fast as the rest", {"keypoint_lr": 1.0}),
    "anyhow": ("... parts begin anywhere", {"prior": 0.0}),
    "unclaimed": ("... density claims no place (the paper's footnote 3)", {"claims": False}),
    "unturned": ("... no equivariance", {"equivariance_weight": 0.0}),
    "one": ("one part, pose estimated, nothing given", {"cameras": "estimated", "parts": 0}),
    "all": ("parts, poses estimated, nothing given", {"cameras": "estimated"}),
}
COLORS = ((0.85, 0.85, 0.8), (0.9, 0.3, 0.25), (0.25, 0.6, 0.9), (0.4, 0.8, 0.35), (0.9, 0.75, 0.25), (0.7, 0.4, 0.8))


def configuration(name: str, clips: Clips, given: argparse.Namespace) -> ArticulatedConfig:
    """Of a row. All of them take as many steps that render."""
    differs = dict(ROWS[name][1])
    parts = differs.pop("parts", clips.motion.shape[2])
    keypoints = {**MINI_ARTICULATED.keypoints, "reach": differs.pop("reach", MINI_ARTICULATED.keypoints["reach"])}
    return replace(
        MINI_ARTICULATED,
        decoder={**MINI_ARTICULATED.decoder, "channels": given.channels, "parts": parts},
        keypoints=keypoints,
        objects=min(given.objects, len(clips)),
        resolution=given.resolution,
        samples=given.samples,
        lr=given.lr,
        rigid_steps=given.steps // 4 if name == "all" else 0,
        steps=given.steps + differs.get("warm_steps", 0),
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
    found = {"psnr": float(np.mean(likeness)), "iou": float(np.mean(overlap))}
    if model.config.motion == "estimated" and model.config.cameras == "given":
        found |= turns(model, clips)
    return found


def turns(model: ArticulatedAutodecoder, clips: Clips) -> dict[str, float]:
    """How far, in degrees, parts turn between two frames that were held back (`turned`), and by how much a model is
    wrong about that (`turned_off`), on average over frames and parts; of a clip's part the learned one that is nearest.

    What takes a part from one frame to another, R_f R_g^-1, does not depend on what its canonical pose is.
    """
    views = prepare_views(clips, model.config)
    held_back = views.split_views()[1]
    off, turned = [], []
    for clip in range(len(views)):
        (_, _, _, color, _), told = batch_of(views, np.array([clip]), held_back[None])
        with torch.no_grad():
            found = model.eval().poses(color.movedim(-1, 2), told["cameras"], told["intrinsics"], told["motion"])
        between = [_between(found.rotation[0, :, part].double().numpy()) for part in range(1, model.parts)]
        for part in range(1, clips.parts[clip]):
            true = _between(clips.motion[clip, held_back, part, :3, :3].astype(float).swapaxes(-1, -2))
            off.append(min(turned_by(true @ own.swapaxes(-1, -2)).mean() for own in between))
            turned.append(turned_by(true).mean())
    return {"turned": float(np.mean(turned)), "turned_off": float(np.mean(off))}


def _between(rotation: np.ndarray) -> np.ndarray:
    """(pairs, 3, 3): from each of rotations (F, 3, 3) to each other one."""
    first, second = np.triu_indices(len(rotation), 1)
    return rotation[second] @ rotation[first].swapaxes(-1, -2)


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


def of_kind(clips: Clips, kind: str, count: int) -> Clips:
    """The first so many clips of a kind."""
    chosen = [index for index, name in enumerate(clips.names) if name.endswith(f"_{kind}")][:count]
    if not chosen:
        raise SystemExit(f"the world has no clip of a {kind}; `neuralusd data articulated --kind {kind}` makes some")
    some = clips.objects(chosen)
    return replace(some, motion=some.motion[:, :, : int(some.parts.max())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", required=True, help="of `neuralusd data articulated`, or an .npz of `save_clips`")
    parser.add_argument("--out", type=Path, default=Path("out/articulated"))
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these (default: all)")
    parser.add_argument("--row", action="append", choices=ROWS, help="only these rows (default: the first three)")
    parser.add_argument("--clips", type=int, default=3, help="of each kind")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--objects", type=int, default=1, help="clips a step, of four frames each")
    parser.add_argument("--resolution", type=int, default=24)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--picture", nargs="*", choices=ROWS, default=["rigid", "given", "estimated"])
    given = parser.parse_args()
    world = load_clips(given.world) if given.world.endswith(".npz") else read_clips(given.world)
    kinds, rows = given.kind or list(KINDS), given.row or list(ROWS)[:3]
    table: dict[str, list[str]] = {name: [] for name in rows}
    pictures = []
    for kind in kinds:
        clips, models = of_kind(world, kind, given.clips), {}
        for name in rows:
            config, folder = configuration(name, clips, given), given.out / kind / name
            models[name] = model = train_articulated(
                clips, config, folder, seed=given.seed, mixed_precision="no", checkpoint_steps=300, log_steps=25
            )
            found = measure(model, clips)
            (folder / "measured.json").write_text(json.dumps(found))
            turned = f", {found['turned_off']:.0f} of {found['turned']:.0f}" if "turned" in found else ""
            table[name].append(f"{found['psnr']:.2f}, {found['iou']:.3f}{turned}")
        chosen = {name: models[name] for name in given.picture if name in models}
        if chosen:
            pictures.append(np.asarray(sheet(chosen, clips, [0], 96)))
    print(f"| PSNR in dB, IoU, degrees off | {' | '.join(kinds)} |\n|{' --- |' * (len(kinds) + 1)}")
    print("\n".join(f"| {ROWS[name][0]} | {' | '.join(cells)} |" for name, cells in table.items()))
    if pictures:
        PIL.Image.fromarray(np.concatenate(pictures)).save(given.out / "articulated.png")


if __name__ == "__main__":
    main()
