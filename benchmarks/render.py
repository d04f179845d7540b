"""How long one edit takes on a warm pipeline, by denoising steps, beside the plain splat of the picture's pixels.

python benchmarks/render.py [--backend mini] [--steps 1 4 25] [--repeat 5]

The scene is the demo's; the edit moves one object and keeps the rest to the image before it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import edit_over
from neuralusd.backends import load_backend
from neuralusd.demo.figure import CHAIR
from neuralusd.demo.frames import SIZE, copy_stages
from neuralusd.evaluation.baselines import splat_source
from neuralusd.evaluation.pairs import Frame, Pair


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Of the fastest of several runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="mini")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 25])
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        [shot] = copy_stages(folder, ["room"])
        stage = stages.sidecar(shot)
        picture = shot.with_suffix(".jpg")
        seen = stages.render_passes(stage, stages.read(stage, aspect=SIZE[0] / SIZE[1]), SIZE[1], SIZE[0], color=False)
        passes = replace(seen, color=np.asarray(PIL.Image.open(picture).convert("RGB"), np.float32) / 255)

        def encode(assets: list[str] | None = None) -> None:
            fresh = stages.sidecar(shot)
            neuralusd.encode(fresh, image=picture, passes=passes, assets=assets, backend=given.backend)

        rows.append(("encode the picture, all assets", seconds(encode, given.repeat)))
        rows.append(("encode one asset of it", seconds(lambda: encode([CHAIR]), given.repeat)))
        neuralusd.encode(stage, image=picture, passes=passes, backend=given.backend)
        stages.save(stage)
        edited = edit_over(stage.GetRootLayer().identifier, Path(folder) / "edit.usda")
        neuralusd.edit(edited, move={CHAIR: (-0.2, -0.3, 0.0)})
        before = neuralusd.render(stage, backend=given.backend)

        source = stages.read(stage)
        chair = source.asset(CHAIR)
        matrix = chair.local_to_world.copy()
        matrix[3, :3] += (-0.2, -0.3, 0.0)
        assets = [replace(a, local_to_world=matrix) if a is chair else a for a in source.assets]
        frame = Frame("room", source, replace(passes, color=np.asarray(passes.color)))
        moved = Pair(frame, replace(frame, scene=replace(source, assets=assets)))
        splat = seconds(lambda: splat_source(moved), given.repeat)
        for steps in given.steps:

            def render(steps: int = steps) -> None:
                neuralusd.render(edited, backend=given.backend, steps=steps, before=stage, before_image=before)

            rows.append((f"render the edit, {steps} step{'s' * (steps > 1)}", seconds(render, given.repeat)))
    size = load_backend(given.backend).config.sample_size
    print(f"{f'{given.backend}, {size} x {size} pixels':40} {'seconds':>8} {'of the splat':>13}")
    print(f"{'splat the pixels, no model':40} {splat:8.3f} {1.0:13.1f}")
    for name, spent in rows:
        print(f"{name:40} {spent:8.3f} {spent / splat:13.1f}")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
