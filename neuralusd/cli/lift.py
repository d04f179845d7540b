"""`neuralusd lift`: pictures of an object, words, or nothing, to a 3D asset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import CommandError, Console
from .files import check_output
from .parser import UsageError, add_command, count, positive, seed

SUMMARY = "make a 3D asset of what a picture shows, or words say"
DESCRIPTION = """\
Makes a 3D asset of the object in a picture: a closed mesh with a texture and a
UsdPreviewSurface, in metres, its feet on the ground, with tokens, so that
`neuralusd render` shows it wherever it is referenced. Or, without a picture, of
what --text says, or of nothing (--random).

What is object and what background comes from --mask; else from the picture's
alpha channel; else from a segmenter (a hub id or a local folder of a
transformers model); else, where the picture's border is of nearly one colour,
from that.

Lifters (--backend):
  silhouette  (the default for one picture) extrudes the outline to a rounded
              solid: as wide and high as the picture shows, as thick as the
              outline is wide. Two seconds
  mini        (the default for all else) has learned from furniture what things
              look like in depth; of pictures, of words, of nothing. A minute
              on a laptop. It leaves its volume in the asset
  a folder that `neuralusd train --config lift-mini` wrote: as mini
  openai/shap-e, openai/shap-e-img2img, or a folder of one: Shap-E by diffusers,
              of words or of a picture
"""
EXAMPLES = """\
examples:
  neuralusd lift chair.png -o chair.usdz --name "red chair"
  neuralusd lift front.png side.png -o chair.usdz --sheet chair_candidates.png
  neuralusd lift --text "a red armchair" -o armchair.usda --candidates 4
  neuralusd lift --random --seed 7 -o thing.usdz --gaussians
  neuralusd lift armchair.png -o armchair.usdz --backend mini
  neuralusd lift photo.jpg -o bear.usda --mask mask.png --height 0.3
  neuralusd lift photo.jpg -o cup.glb --segmenter facebook/sam-vit-base \\
      --detector IDEA-Research/grounding-dino-tiny --prompt "a cup"
"""
# What the API takes by the same name, and by None its own.
PASSED = (
    "text", "backend", "name", "height", "thickness", "texture_size", "segmenter", "detector", "prompt", "candidates",
    "steps", "sheet", "tokens",
)  # fmt: skip


def add(commands: Any) -> None:
    parser = add_command(commands, "lift", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("image", nargs="*", metavar="IMAGE", help="a picture of the object, or several")
    parser.add_argument("--text", metavar="WORDS", help='what to make, as in "a red armchair"')
    parser.add_argument("--random", action="store_true", help="make whatever comes, of neither picture nor words")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".usda or .usdc, .usdz, or .glb (no tokens in it)"
    )
    parser.add_argument("--backend", metavar="B", help="the lifter: see above")
    parser.add_argument("--name", metavar="WORDS", help="what it is: its prim's name, text and label")
    parser.add_argument(
        "--height",
        type=positive,
        metavar="M",
        help="in metres (default: the usual one of what it is called, else the lifter's guess, else 1)",
    )
    parser.add_argument("--texture-size", type=count, metavar="PX", help="texels (default: as the picture's)")
    parser.add_argument("--gaussians", action="store_true", help="as 3D Gaussian splats, too, in a variant")
    parser.add_argument(
        "--thickness", type=positive, metavar="T", help="of silhouette: at most, of its smaller side (default: 0.7)"
    )
    parser.add_argument("--overwrite", action="store_true", help="take the place of an existing FILE")
    drawn = parser.add_argument_group("what is drawn at random")
    drawn.add_argument("--seed", type=seed, default=0, metavar="N", help="(default: 0)")
    drawn.add_argument("--candidates", type=count, metavar="N", help="of which the best match is taken")
    drawn.add_argument("--steps", type=count, metavar="N", help="of the sampler")
    drawn.add_argument("--sheet", metavar="FILE", help="a .png of the candidates, best first, with their scores")
    cut = parser.add_argument_group("what is object, and what background")
    cut.add_argument(
        "--mask", action="append", metavar="FILE", help="white, or opaque, where the object is; one for each IMAGE"
    )
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

    _check_sources(args)
    for image in args.image:
        if Path(image).suffix.lower() not in PIL.Image.registered_extensions():
            raise CommandError(f"{image} is no picture by its name. Export it as PNG, JPEG or TIFF.")
    check_output(args.output)
    if args.sheet is not None:
        check_output(args.sheet)
    given = {name: getattr(args, name) for name in PASSED if getattr(args, name) is not None}
    glb = Path(args.output).suffix.lower() == ".glb"
    if args.no_tokens or glb:  # glTF has no place for them
        given["tokens"] = None
    with console.bar(None, "lift") as bar:
        stage = lift(
            args.image or None,
            args.output,
            mask=args.mask,
            seed=args.seed,
            gaussians=args.gaussians,
            overwrite=args.overwrite,
            progress=lambda step, steps: _show(bar, step, steps),
            **given,
        )
    prim = stage.GetDefaultPrim()
    low, high = prim.GetAttribute("extentsHint").Get()
    width, height, depth = (round(high[axis] - low[axis], 4) for axis in range(3))
    faces = len(prim.GetChild("Mesh").GetAttribute("faceVertexCounts").Get())
    console.say(f"{args.output}: <{prim.GetPath()}>, {width:g} x {height:g} x {depth:g} m, {faces} triangles")
    made = {
        "output": str(Path(args.output).absolute()),
        "prim": str(prim.GetPath()),
        "extent": [list(low), list(high)],
        "triangles": faces,
        "tokens": given.get("tokens", "mini"),
        "volume": str(prim.GetChild("Volume").GetPath()) if prim.GetChild("Volume") else None,
    }
    return made | ({"sheet": str(Path(args.sheet).absolute())} if args.sheet else {})


def _check_sources(args: argparse.Namespace) -> None:
    """Raises UsageError where it is not said what to make the thing of, or more than one thing is."""
    if args.random and (args.image or args.text):
        what = "an IMAGE" if args.image else "--text"
        raise UsageError(args.parser, f"--random is for what is made of nothing, and there is {what}. Leave one out")
    if not (args.random or args.image or args.text is not None):
        raise UsageError(args.parser, "there is nothing to lift: name an IMAGE, give --text, or ask for --random")
    if args.mask and len(args.mask) != len(args.image):
        said = f"{len(args.mask)} --mask and {len(args.image)} IMAGE"
        raise UsageError(args.parser, f"there are {said}. Give a mask for each picture, in their order")


def _show(bar: Any, step: int, steps: int) -> None:
    bar.total = steps
    bar.update(step - bar.n)
