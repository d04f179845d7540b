"""`neuralusd encode`: tokens from a stage or a photograph."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_output
from .parser import UsageError, add_command, count, few, number, positive, size

if TYPE_CHECKING:
    from ..api import Encoded

SUMMARY = "give prims their tokens, from a stage's geometry or from a photograph"
DESCRIPTION = """\
Gives every asset that a camera sees its tokens: what a neural renderer needs to
know of its look and its shape.

Of a stage, the picture that is encoded is rendered from the stage's own
geometry and base colours, or is one that you have (--image); --albedo is the
same view in plain base colours, without its light. --views looks at each asset
from all around as well, so that its look is whole where another asset takes it.
The tokens go into a layer of their own beside the stage: shot.neural.usdc over
shot.usda, which is not touched. `neuralusd render shot.usda` finds them there.
Only what changed since the last time is encoded again. A stage without a camera
is framed from its front, as usdrecord does.

Of a photograph, a stage is made: a prim with a box for each object, the
background, and the camera. Where the objects are comes from a detector and a
segmenter (hub ids or local folders of transformers models), or from masks that
you have; how far they are from a depth model, or from a depth map that you
have. Without depth, objects have a box in the image only.
"""
EXAMPLES = """\
examples:
  neuralusd encode shot.usda --camera /World/Cam
  neuralusd encode shot.usda --frame 12 --image shot.0012.png --views 8
  neuralusd encode photo.jpg --mask masks/ --depth depth.npy -o scene.usda
  neuralusd encode photo.jpg -o scene.usda --prompt "a chair, a table" \\
      --detector IDEA-Research/grounding-dino-tiny \\
      --segmenter facebook/sam-vit-base --depth apple/DepthPro-hf
"""
# The options that only one of the two kinds of input has.
OF_STAGES = ("camera", "frame", "image", "albedo", "views", "size", "asset", "force")
OF_PHOTOS = ("detector", "segmenter", "depth", "mask", "prompt", "fov", "depth_kind", "threshold", "overwrite")
DEPTH_FILES = (".npy", ".npz", ".png", ".tif", ".tiff", ".exr")


def add(commands: Any) -> None:
    parser = add_command(commands, "encode", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("input", metavar="INPUT", help="a stage (.usd, .usda, .usdc, .usdz) or a photograph")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the tokens' layer (default: NAME.neural.usdc); a photograph's stage"
    )
    parser.add_argument("--backend", metavar="B", help="weights: a name, a folder or a hub id (default: mini)")
    stage = parser.add_argument_group("stages")
    stage.add_argument("--camera", metavar="PATH", help="camera prim (default: the stage's own)")
    stage.add_argument("--frame", type=number, metavar="N", help="time code (default: the earliest)")
    stage.add_argument("--image", metavar="FILE", help="a picture of the stage by this camera at this frame")
    stage.add_argument("--albedo", metavar="FILE", help="the plain base colours by this camera, beside --image")
    stage.add_argument(
        "--views", type=few, metavar="N", help="looks at each asset from so many sides as well, 0 to 64 (default: 0)"
    )
    stage.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="of the picture that is encoded, at most 1024: as 640x360, or as 640, the longer side, its shape as it is "
        "(default: --image's, else the resolution of the stage's render settings, else 512)",
    )
    stage.add_argument("--asset", action="append", metavar="PATH", help="encode this prim only; may be repeated")
    stage.add_argument("--force", action="store_true", default=None, help="encode also what has not changed")
    photo = parser.add_argument_group("photographs")
    photo.add_argument("--detector", metavar="ID|DIR", help="finds objects; open-vocabulary ones need --prompt")
    photo.add_argument("--segmenter", metavar="ID|DIR", help="their masks (SAM and its kin)")
    photo.add_argument("--prompt", metavar="WORDS", help="what to look for, with commas; or the --mask objects' names")
    photo.add_argument(
        "--mask",
        action="append",
        metavar="FILE|DIR",
        help="an image of ids or colours, an object each (0 or black is background); or a folder of masks, or several",
    )
    photo.add_argument(
        "--depth", metavar="ID|DIR|FILE", help="a depth model; or a map: .npy in metres, 16-bit PNG in millimetres"
    )
    photo.add_argument("--depth-kind", choices=("metric", "relative"), help="for a depth model that does not say")
    photo.add_argument(
        "--fov", type=positive, metavar="DEG", help="horizontal field of view (default: EXIF's, else 50)"
    )
    photo.add_argument("--threshold", type=number, metavar="T", help="least score of a detection, 0..1 (default: 0.3)")
    photo.add_argument("--overwrite", action="store_true", default=None, help="take the place of an existing FILE")
    photo.add_argument("--max-size", type=count, metavar="PX", help="longer side it is looked at with (default: 1024)")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from pxr import Sdf

    photo = not Sdf.FileFormat.FindByExtension(args.input)
    for name in OF_STAGES if photo else (*OF_PHOTOS, "max_size"):
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            kind, other = ("photograph", "stages") if photo else ("stage", "photographs")
            raise UsageError(args.parser, f"argument {flag}: {args.input} is a {kind}, and this is for {other}")
    if args.albedo and not args.image:
        raise UsageError(args.parser, "argument --albedo: it goes with --image, the same view with its light")
    return _photo(args, console) if photo else _stage(args, console)


def _stage(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from .. import stage as stages
    from ..api import encode
    from ..errors import SceneError

    check_output(args.output or stages.sidecar_path(args.input))
    stage = stages.sidecar(args.input, args.output)
    for problem in stages.composition_problems(stage):
        console.note(problem)
    layer = stage.GetRootLayer()
    with console.bar(None, "encode") as bar:
        try:
            done = encode(
                stage,
                args.camera,
                args.frame,
                image=args.image,
                albedo=args.albedo,
                views=args.views or 0,
                size=args.size,
                assets=args.asset,
                backend=args.backend,
                force=bool(args.force),
                progress=lambda step, steps: _show(bar, step, steps),
            )
        except SceneError as error:  # the layer over the stage is not what people named, and may not be on disk
            raise type(error)(str(error).replace(layer.identifier, args.input)) from error
    if layer.dirty or not Path(layer.realPath or layer.identifier).exists():
        stages.save(stage)
    return _result(console, layer.realPath, done, args.frame)


def _photo(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import PIL.Image

    from ..api import encode_photo, has_tokens
    from ..stage import read

    if Path(args.input).suffix.lower() not in PIL.Image.registered_extensions():
        raise CommandError(
            f"{args.input} is neither a stage (.usd, .usda, .usdc, .usdz) nor a picture by its name. Export it as one."
        )
    if args.output is None:
        raise UsageError(args.parser, "a photograph becomes a stage: name it with -o scene.usda")
    check_output(args.output)
    options: dict[str, Any] = {
        "detector": args.detector,
        "segmenter": args.segmenter,
        "prompts": args.prompt,
        "masks": args.mask[0] if args.mask and len(args.mask) == 1 else args.mask,
        "field_of_view": args.fov,
        "depth_kind": args.depth_kind,
        "threshold": args.threshold,
        "max_size": args.max_size,
    }
    if args.depth is not None:
        is_map = Path(args.depth).is_file() or Path(args.depth).suffix.lower() in DEPTH_FILES
        options["depth_map" if is_map else "depth"] = args.depth
    with console.bar(None, "encode") as bar:
        stage = encode_photo(
            args.input,
            args.output,
            backend=args.backend,
            overwrite=bool(args.overwrite),
            progress=lambda step, steps: _show(bar, step, steps),
            **{name: value for name, value in options.items() if value is not None},
        )
    assert has_tokens(stage)
    scene = read(stage)
    path = stage.GetRootLayer().realPath
    for asset in scene.assets:
        console.say(f"  <{asset.path}> {asset.text}".rstrip())
    console.say(f"{path}: {len(scene.assets)} assets; render it with: neuralusd render {args.output} -o out.png")
    return {"output": path, "assets": [asset.path for asset in scene.assets], "camera": scene.camera.path}


def _show(bar: Any, step: int, steps: int) -> None:
    bar.total = steps
    bar.update(step - bar.n)


def _result(console: Console, path: str, done: Encoded, time: float | None) -> dict[str, Any]:
    if done.framed:
        console.note("the stage has no camera, so it was framed from its front, as usdrecord does")
    where = "the framed view" if done.framed else f"<{done.camera}>"
    if done.unseen:
        console.note(f"not seen by {where}: {', '.join(f'<{asset}>' for asset in done.unseen)}")
    console.say(
        f"{path}: {len(done.encoded)} encoded, {len(done.unchanged)} unchanged, {len(done.unseen)} not seen by {where}"
    )
    return {
        "output": path,
        "encoded": done.encoded,
        "unchanged": done.unchanged,
        "unseen": done.unseen,
        "camera": done.camera or None,
        "framed": done.framed,
        "time": time,
    }
