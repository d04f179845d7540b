"""`neuralusd lift`: a picture of an object to a 3D asset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import CommandError, Console
from .files import check_output
from .parser import add_command, count, positive, seed

SUMMARY = "make a 3D asset of what a picture shows"
DESCRIPTION = """\
Makes a 3D asset of the object in a picture: a closed mesh with a texture and a
UsdPreviewSurface, in metres, its feet on the ground, with tokens, so that
`neuralusd render` shows it wherever it is referenced.

What is object and what background comes from --mask; else from the picture's
alpha channel; else from a segmenter (a hub id or a local folder of a
transformers model); else, where the picture's border is of nearly one colour,
from that.

There is one lifter yet, `silhouette`. It extrudes the object's outline to a
rounded solid: as wide and high as the picture shows, as thick as the outline is
wide, the back a mirror of the front. What the picture shows of depth, it does
not look at; a picture from the front or the side lifts best.
"""
EXAMPLES = """\
examples:
  neuralusd lift chair.png -o chair.usdz --name "red chair"
  neuralusd lift photo.jpg -o bear.usda --mask mask.png --height 0.3
  neuralusd lift photo.jpg -o cup.glb --segmenter facebook/sam-vit-base \\
      --detector IDEA-Research/grounding-dino-tiny --prompt "a cup"
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "lift", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("image", metavar="IMAGE", help="a picture of the object")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".usda or .usdc, .usdz, or .glb (no tokens in it)"
    )
    parser.add_argument("--backend", metavar="B", help="the lifter (default: silhouette)")
    parser.add_argument("--name", metavar="WORDS", help="what it is: its prim's name, text and label")
    parser.add_argument(
        "--height", type=positive, metavar="M", help="in metres (default: the usual one of what it is called, else 1)"
    )
    parser.add_argument("--thickness", type=positive, metavar="T", help="at most, of its smaller side (default: 0.7)")
    parser.add_argument("--texture-size", type=count, metavar="PX", help="texels (default: as the picture's)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of lifters that draw random numbers")
    parser.add_argument("--overwrite", action="store_true", help="take the place of an existing FILE")
    cut = parser.add_argument_group("what is object, and what background")
    cut.add_argument("--mask", metavar="FILE", help="white, or opaque, where the object is")
    cut.add_argument("--segmenter", metavar="ID|DIR", help="finds its mask (SAM and its kin)")
    cut.add_argument("--detector", metavar="ID|DIR", help="finds its box for the segmenter")
    cut.add_argument("--prompt", metavar="WORDS", help="what the detector looks for")
    tokens = parser.add_argument_group("tokens").add_mutually_exclusive_group()
    tokens.add_argument(
        "--tokens", metavar="B", help="weights that encode them: a name, a folder, a hub id (default: mini)"
    )
    tokens.add_argument("--no-tokens", action="store_true", help="make none")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import PIL.Image

    from ..api import lift

    if Path(args.image).suffix.lower() not in PIL.Image.registered_extensions():
        raise CommandError(f"{args.image} is no picture by its name. Export it as PNG, JPEG or TIFF.")
    check_output(args.output)
    options = {
        "backend": args.backend,
        "name": args.name,
        "height": args.height,
        "thickness": args.thickness,
        "texture_size": args.texture_size,
        "mask": args.mask,
        "segmenter": args.segmenter,
        "detector": args.detector,
        "prompt": args.prompt,
        "tokens": args.tokens,
    }
    given = {name: value for name, value in options.items() if value is not None}
    glb = Path(args.output).suffix.lower() == ".glb"
    if args.no_tokens or glb:  # glTF has no place for them
        given["tokens"] = None
    with console.bar(None, "lift") as bar:
        stage = lift(
            args.image,
            args.output,
            seed=args.seed,
            overwrite=args.overwrite,
            progress=lambda step, steps: _show(bar, step, steps),
            **given,
        )
    prim = stage.GetDefaultPrim()
    low, high = prim.GetAttribute("extentsHint").Get()
    width, height, depth = (round(high[axis] - low[axis], 4) for axis in range(3))
    faces = len(prim.GetChild("Mesh").GetAttribute("faceVertexCounts").Get())
    console.say(f"{args.output}: <{prim.GetPath()}>, {width:g} x {height:g} x {depth:g} m, {faces} triangles")
    return {
        "output": str(Path(args.output).absolute()),
        "prim": str(prim.GetPath()),
        "extent": [list(low), list(high)],
        "triangles": faces,
        "tokens": given.get("tokens", "mini"),
    }


def _show(bar: Any, step: int, steps: int) -> None:
    bar.total = steps
    bar.update(step - bar.n)
