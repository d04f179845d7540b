"""The pictures of the demo's stages, by Blender's Cycles: python -m neuralusd.demo.pictures FOLDER

Needs `bpy` (the extra `blender`). FOLDER is one that `neuralusd.demo.room` wrote; each picture stands beside its stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image

from ..datasets.cycles import prim_path, render_passes

QUALITY, SAMPLES, BOUNCES, LEVELS = 92, 128, 6, 3


def render_picture(
    stage: str | Path, size: tuple[int, int], time: float = 1.0, samples: int = SAMPLES, threads: int = 0
) -> PIL.Image.Image:
    """A stage at a time code, lit by its own lights, its subdivision surfaces refined; `size` is (width, height)."""
    [passes] = render_passes(stage, [time], size, samples=samples, threads=threads, prepare=_prepare)
    return PIL.Image.fromarray(passes.rgb)


def _prepare(scene: Any, stage: Any) -> None:
    """What datasets do without: subdivision, and light that goes round corners."""
    from pxr import UsdGeom

    for each in scene.objects:
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(prim_path(each))) if each.type == "MESH" else None
        if mesh and mesh.GetSubdivisionSchemeAttr().Get() == UsdGeom.Tokens.catmullClark:
            modifier = each.modifiers.new("subdivision", "SUBSURF")
            modifier.levels = modifier.render_levels = LEVELS
            modifier.uv_smooth = "NONE"
    cycles = scene.cycles
    cycles.use_adaptive_sampling, cycles.adaptive_threshold = True, 0.02
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = BOUNCES, BOUNCES, 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stage", action="append", help="a stage's name; may be repeated; all without it")
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    args = parser.parse_args(arguments)
    for stage in sorted(args.folder.glob("*.usda")):
        if args.stage is None or stage.stem in args.stage:
            picture = render_picture(stage, tuple(args.size), samples=args.samples)
            picture.save(stage.with_suffix(".jpg"), quality=QUALITY, optimize=True)
            print(stage.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
