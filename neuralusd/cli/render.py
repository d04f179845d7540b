"""`neuralusd render`: images of a stage with tokens."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_output, frame_path
from .parser import UsageError, add_command, count, frames, number, once, pair, png, seed

if TYPE_CHECKING:
    from pxr import Usd

SUMMARY = "the image that a camera sees of a stage with tokens"
DESCRIPTION = """\
Renders what a camera sees of a stage whose prims have tokens (`encode` makes
them). Tokens are looked for on the stage and in its sidecar, shot.neural.usdc.
Poses, presence and the camera are those of the stage as it is now.

An edit (`neuralusd edit`) keeps what it did not touch: pixels outside of its
footprint stay those of the image before it, which is rendered too unless
--before-image gives it. --no-hold renders the edit by itself.

What no option says is what the stage's render settings say (a RenderSettings
prim with NeuralRenderSettingsAPI), else the backend. The same seed gives the
same image. The PNG says how it was made: seed, weights, stage, camera, time,
versions.
"""
EXAMPLES = """\
examples:
  neuralusd render shot.usda --camera /World/Cam -o out.png --seed 7
  neuralusd render shot.usda -o "frames/out.####.png" --frames 1:24 --resume
  neuralusd render edit.usda -o after.png --before-image before.png
  neuralusd render shot.usda -o out.png --guidance 3 --guidance-for appearance=1.5
  neuralusd render variations.usda --variant neuralResample=sample_3 -o out.png
"""
MODALITIES = ("appearance", "geometry", "pose")


def add(commands: Any) -> None:
    parser = add_command(commands, "render", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("stage", metavar="STAGE", help="a stage, its sidecar, or an edit of it")
    parser.add_argument(
        "-o",
        "--output",
        type=png,
        required=True,
        metavar="FILE",
        help="the PNG; of several frames out.0001.png and so on, or where #### or %%04d stands in the name",
    )
    parser.add_argument("--camera", metavar="PATH", help="camera prim (default: the stage's own)")
    parser.add_argument(
        "--variant",
        action="append",
        type=pair(str, "neuralResample=sample_3"),
        metavar="SET=NAME",
        help="a variant that is selected wherever the stage has that variant set; may be repeated",
    )
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--frame", type=number, metavar="N", help="time code (default: the earliest)")
    time.add_argument("--frames", type=frames, metavar="SPEC", help="time codes: 1:24, 1:24x2, or 1,3,7")
    parser.add_argument("--resume", action="store_true", help="leave frames alone that are there and up to date")
    parser.add_argument("--seed", type=seed, metavar="N", help="of the noise (default: the stage's, else 0)")
    parser.add_argument("--steps", type=count, metavar="N", help="denoising steps (default: the backend's)")
    parser.add_argument("--guidance", type=number, metavar="G", help="classifier-free guidance; 1 is none (default: 3)")
    parser.add_argument(
        "--guidance-for",
        action="append",
        type=pair(number, "appearance=1.5"),
        metavar="NAME=G",
        help=f"further guidance of one of: {', '.join(MODALITIES)}; may be repeated",
    )
    parser.add_argument("--backend", metavar="B", help="weights: a name, a folder or a hub id (default: mini)")
    edit = parser.add_argument_group("edits")
    edit.add_argument("--no-hold", action="store_true", help="do not keep what the edit leaves alone")
    edit.add_argument("--before", metavar="STAGE", help="the stage before the edit (default: the one it was made over)")
    edit.add_argument(
        "--before-image", metavar="FILE", help="its image (default: rendered); of several frames named as FILE of -o is"
    )


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    modality_guidance = once(args.parser, "--guidance-for", args.guidance_for)
    variants = once(args.parser, "--variant", args.variant)
    for name in set(modality_guidance) - set(MODALITIES):
        raise UsageError(args.parser, f"argument --guidance-for: {name} is none of {', '.join(MODALITIES)}")
    if args.no_hold and (args.before or args.before_image):
        raise UsageError(args.parser, "--before and --before-image are for holding; leave --no-hold away")
    check_output(args.output)

    from ..api import base_stage, open_shot, render
    from ..images import save_image

    stage = open_shot(args.stage)
    _say_sidecar(console, args.stage, stage)
    for name, variant in variants.items():
        _select(stage, name, variant)
    before = open_shot(args.before) if args.before else None
    if not args.no_hold:
        before = before or base_stage(stage)
    if args.before_image and before is None:
        raise CommandError(f"{args.stage} names no stage that it edits. Name the one before the edit with --before.")
    times = args.frames if args.frames is not None else [args.frame]
    several = args.frames is not None
    options: dict[str, Any] = {
        "seed": args.seed,
        "steps": args.steps,
        "guidance": args.guidance,
        "modality_guidance": modality_guidance,
        "backend": args.backend,
    }
    images = []
    with console.bar(None, "render") as bar:
        for index, time in enumerate(times):
            path = frame_path(args.output, time or 0.0, several)
            if several:
                bar.set_description(f"frame {time:g} ({index + 1} of {len(times)})")

            def show(step: int, steps: int, index: int = index) -> None:
                bar.total = steps * len(times)
                bar.update(steps * index + step - bar.n)

            earlier = frame_path(Path(args.before_image), time or 0.0, several) if args.before_image else None
            made = _made(path, stage, args.camera, time, {**options, "variants": variants}) if args.resume else None
            if made is None:
                image = render(
                    stage,
                    args.camera,
                    time,
                    hold=not args.no_hold,
                    before=before,
                    before_image=earlier,
                    progress=show,
                    **options,
                )
                image.info["neuralusd"]["variants"] = variants
                save_image(image, path)
                made = image.info["neuralusd"]
                console.say(str(path))
            else:
                console.note(f"{path} is there, so it was left alone (--resume)")
            images.append({"path": str(path), **made})
    if images and images[0]["camera"] == "framed":
        console.note("the stage has no camera, so it was framed from its front, as usdrecord does")
    return {"images": images}


def _select(stage: Usd.Stage, name: str, variant: str) -> None:
    """Selects a variant for this rendering, in the stage's session."""
    from pxr import Usd

    from ..stage.variations import select_variant

    with Usd.EditContext(stage, stage.GetSessionLayer()):
        select_variant(stage, name, variant)


def _say_sidecar(console: Console, name: str, stage: Usd.Stage) -> None:
    path = stage.GetRootLayer().realPath
    if os.path.basename(path) != os.path.basename(name):
        console.note(f"the tokens of {name} are in {path}")


def _made(
    path: Path, stage: Usd.Stage, camera: str | None, time: float | None, options: dict[str, Any]
) -> dict[str, Any] | None:
    """How the image at `path` was made, where it is as it would be made now; else None."""
    import PIL.Image

    from ..images import read_provenance

    try:
        written = path.stat().st_mtime
        made = read_provenance(path)
        with PIL.Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):  # is not there, is not whole, or is another maker's
        return None
    asked = {name: value for name, value in options.items() if value is not None}
    asked |= {"time": time} | ({"camera": camera} if camera else {})
    if "backend" in asked:
        asked["backend"] = str(asked["backend"])
    made.setdefault("variants", {})
    if any(made.get(name) != value for name, value in asked.items()):
        return None
    files = [layer.realPath for layer in stage.GetUsedLayers() if layer.realPath]
    return made if all(os.path.getmtime(file) <= written for file in files if os.path.exists(file)) else None
