"""How well rough cameras of real models' orbits are corrected while an autodecoder learns the objects.

python benchmarks/cameras.py --views orbits [--out out] [--objects 8] [--degrees 5 --degrees 10 --degrees 20]

`neuralusd data orbits` makes the orbits; an .npz of `save_objects` does as well. Every camera is turned about the
object's middle by an angle at random, of so many degrees on average; what is printed is by how many degrees cameras
are turned from the true ones before and after, once all of an object's are turned together to be nearest.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from neuralusd.training.articulated import MINI_ARTICULATED, train_articulated
from neuralusd.training.cameras import camera_errors, disturbed
from neuralusd.training.lift import load_views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", required=True, type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/cameras"))
    parser.add_argument("--objects", type=int, default=8, help="at random")
    parser.add_argument("--degrees", type=float, action="append", help="on average (default: 5, 10 and 20)")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--camera-lr", type=float, default=0.5, help="times that of the rest")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    everything = load_views([given.views])
    chosen = np.random.default_rng(given.seed).permutation(len(everything))[: given.objects]
    truth = everything.objects(chosen)
    config = replace(
        MINI_ARTICULATED,
        decoder={**MINI_ARTICULATED.decoder, "channels": (32, 16, 8), "parts": 0},
        cameras="refined",
        motion="none",
        objects=1,
        views=6,
        resolution=given.resolution,
        steps=given.steps,
        lr=5e-3,
        camera_lr=given.camera_lr,
    )
    print("| degrees off, mean (median) | before | after | objects that got nearer |\n| --- | --- | --- | --- |")
    for degrees in given.degrees or (5.0, 10.0, 20.0):
        rough = disturbed(truth, degrees, given.seed)
        model = train_articulated(
            rough, config, given.out / f"{degrees:g}", seed=given.seed, mixed_precision="no", checkpoint_steps=300
        )
        assert model.corrections is not None
        before, after = camera_errors(rough, truth), camera_errors(model.corrections.corrected(rough), truth)
        nearer = int((after.mean(1) < before.mean(1)).sum())
        cells = (f"{errors.mean():.1f} ({np.median(errors):.1f})" for errors in (before, after))
        print(f"| {degrees:g} | {' | '.join(cells)} | {nearer} of {len(after)} |", flush=True)


if __name__ == "__main__":
    main()
