"""`neuralusd render`: images of a stage with tokens."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..video import VIDEOS, Video, require_av
from .console import CommandError, Console
from .files import check_output, frame_path
from .parser import (
    UsageError,
    add_command,
    count,
    frames,
    number,
    once,
    pair,
    png,
    png_or_video,
    positive,
    seed,
    size,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from pxr import Usd

SUMMARY = "the image that a camera sees of a stage with tokens"
DESCRIPTION = """\
Renders what a camera sees of a stage whose prims have tokens (`encode` makes
them). Tokens are looked for on the stage and in its sidecar, shot.neural.usdc.
Poses, presence and the camera are those of the stage as it is now.

An image may have any size and shape; the camera's aperture is expanded to it.
Several frames are numbered PNGs, or one video (-o shot.mp4).

An edit (`neuralusd edit`) keeps what it did not touch: pixels outside of its
footprint stay those of the image before it, which is rendered too unless
--before-image gives it. --no-hold renders the edit by itself.

What no option says is what the stage's render settings say (a RenderSettings
prim; its resolution, and what NeuralRenderSettingsAPI has), else the backend.
The same seed gives the same image. The file says how it was made: seed,
weights, stage, camera, time, versions.
"""
EXAMPLES = """\
examples:
  neuralusd render shot.usda --camera /World/Cam -o out.png --seed 7
  neuralusd render shot.usda -o "frames/out.####.png" --frames 1:24 --resume
  neuralusd render shot.usda -o out.png --size 1920x1080
  neuralusd render shot.usda -o shot.mp4 --frames 1:96 --stills "frames/out.####.png"
  neuralusd render edit.usda -o after.png --before-image before.png
  neuralusd render shot.usda -o out.png --guidance 3 --guidance-for appearance=1.5
  neuralusd render variations.usda --variant neuralResample=sample_3 -o out.png
"""
MODALITIES = ("appearance", "geometry", "pose")
FPS = (0.01, 1000.0)
# A stage that claims to have more says nothing of use.
MOST_FRAMES = 1_000_000


def add(commands: Any) -> None:
    parser = add_command(commands, "render", run, SUMMARY, DESCRIPTION, EXAMPLES)
    parser.add_argument("stage", metavar="STAGE", help="a stage, its sidecar, or an edit of it")
    parser.add_argument(
        "-o",
        "--output",
        type=png_or_video,
        required=True,
        metavar="FILE",
        help="the PNG; of several frames out.0001.png and so on, or where #### or %%04d stands in the name; "
        "or a video of them, .mp4 or .mov",
    )
    parser.add_argument("--camera", metavar="PATH", help="camera prim (default: the stage's own)")
    parser.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="pixels, as 1280x720; or 720: the longer side, its shape as it is (default: --before-image's, "
        "else the resolution of the stage's render settings, else the camera's shape, 512 on the longer side)",
    )
    parser.add_argument(
        "--variant",
        action="append",
        type=pair(str, "neuralResample=sample_3"),
        metavar="SET=NAME",
        help="a variant that is selected wherever the stage has that variant set; may be repeated",
    )
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--frame", type=number, metavar="N", help="time code (default: the earliest)")
    time.add_argument(
        "--frames",
        type=frames,
        metavar="SPEC",
        help="time codes: 1:24, 1:24x2, or 1,3,7 (of a video, default: the stage's first to its last)",
    )
    parser.add_argument("--resume", action="store_true", help="leave frames alone that are there and up to date")
    parser.add_argument("--seed", type=seed, metavar="N", help="of the noise (default: the stage's, else 0)")
    parser.add_argument(
        "--steps", type=count, metavar="N", help="denoising steps (default: the stage's, else the backend's)"
    )
    parser.add_argument(
        "--guidance",
        type=number,
        metavar="G",
        help="classifier-free guidance; 1 is none (default: the stage's, else the backend's: mini has 1)",
    )
    parser.add_argument(
        "--guidance-for",
        action="append",
        type=pair(number, "appearance=1.5"),
        metavar="NAME=G",
        help=f"further guidance of one of: {', '.join(MODALITIES)}; may be repeated",
    )
    parser.add_argument("--backend", metavar="B", help="weights: a name, a folder or a hub id (default: mini)")
    video = parser.add_argument_group("videos")
    video.add_argument(
        "--fps", type=positive, metavar="N", help="frames a second (default: as fast as the stage plays)"
    )
    video.add_argument(
        "--stills", type=png, metavar="FILE", help="its frames also as PNGs; with --resume they are taken"
    )
    edit = parser.add_argument_group("edits")
    edit.add_argument("--no-hold", action="store_true", help="do not keep what the edit leaves alone")
    edit.add_argument("--before", metavar="STAGE", help="the stage before the edit (default: the one it was made over)")
    edit.add_argument(
        "--before-image",
        metavar="FILE",
        help="its image (default: rendered); of several frames named as PNGs of -o are",
    )


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    modality_guidance = once(args.parser, "--guidance-for", args.guidance_for)
    variants = once(args.parser, "--variant", args.variant)
    film = args.output.suffix.lower() in VIDEOS
    _check_usage(args, modality_guidance, film)
    stills = args.stills if film else args.output
    for output in {args.output, stills} - {None}:
        check_output(output)
    if film:
        require_av()

    from ..api import base_stage, open_shot, render
    from ..api.pictures import render_size
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
    several = film or args.frames is not None
    times = args.frames if args.frames is not None else _range(args.stage, stage) if film else [args.frame]
    options: dict[str, Any] = {
        "seed": args.seed,
        "steps": args.steps,
        "guidance": args.guidance,
        "modality_guidance": modality_guidance,
        "backend": args.backend,
    }
    images = []
    writer = Video(args.output, _rate(args, stage, times), {"times": times}) if film else None
    with console.bar(None, "render") as bar, writer or nullcontext():
        for index, time in enumerate(times):
            path = frame_path(stills, time or 0.0, several) if stills else None
            if several:
                bar.set_description(f"frame {time:g} ({index + 1} of {len(times)})")

            def show(step: int, steps: int, index: int = index) -> None:
                bar.total = steps * len(times)
                bar.update(steps * index + step - bar.n)

            earlier = frame_path(Path(args.before_image), time or 0.0, several) if args.before_image else None
            pixels = render_size(stage, args.camera, args.size, earlier)
            image = None
            if args.resume and path:
                image = _made(path, stage, args.camera, time, pixels, {**options, "variants": variants})
            if image is None:
                image = render(
                    stage,
                    args.camera,
                    time,
                    size=pixels,
                    hold=not args.no_hold,
                    before=before,
                    before_image=earlier,
                    progress=show,
                    **options,
                )
                image.info["neuralusd"]["variants"] = variants
                if path:
                    save_image(image, path)
                    console.say(str(path))
            else:
                console.note(f"{path} is there, so it was left alone (--resume)")
            if writer:
                writer.add(image)
            images.append(({"path": str(path)} if path else {}) | image.info["neuralusd"])
    if images[0]["camera"] == "framed":
        console.note("the stage has no camera, so it was framed from its front, as usdrecord does")
    if not writer:
        return {"images": images}
    console.say(f"{args.output}: {len(times)} frames, {float(writer.rate):g} a second, {writer.codec}")
    video = {"path": str(args.output), "frames": len(times), "fps": float(writer.rate), "codec": writer.codec}
    return {"images": images, "video": video}


def _check_usage(args: argparse.Namespace, modality_guidance: dict[str, float], film: bool) -> None:
    for name in set(modality_guidance) - set(MODALITIES):
        raise UsageError(args.parser, f"argument --guidance-for: {name} is none of {', '.join(MODALITIES)}")
    if args.no_hold and (args.before or args.before_image):
        raise UsageError(args.parser, "--before and --before-image are for holding; leave --no-hold away")
    if not film and (args.fps or args.stills):
        flag = "--fps" if args.fps else "--stills"
        raise UsageError(args.parser, f"argument {flag}: it is for videos, and {args.output} is none")
    if film and args.frame is not None:
        raise UsageError(args.parser, "argument --frame: a video has several frames; name them with --frames")
    if film and args.resume and not args.stills:
        raise UsageError(args.parser, "argument --resume: of a video, it takes the frames that --stills kept")
    if args.fps and not FPS[0] <= args.fps <= FPS[1]:
        raise UsageError(args.parser, f"argument --fps: {args.fps:g} is not {FPS[0]:g} to {FPS[1]:g}")


def _range(name: str, stage: Usd.Stage) -> list[float]:
    """The time codes from a stage's first to its last."""
    first, last = stage.GetStartTimeCode(), stage.GetEndTimeCode()
    if not stage.HasAuthoredTimeCodeRange() or not 0 <= last - first < MOST_FRAMES:
        raise CommandError(
            f"{name} does not say which frames it has (startTimeCode, endTimeCode). Name them: --frames 1:24"
        )
    return [first + index for index in range(math.floor(last - first + 1e-9) + 1)]


def _rate(args: argparse.Namespace, stage: Usd.Stage, times: Sequence[float]) -> float:
    """Frames a second: --fps, else those with which the video plays as fast as the stage."""
    if args.fps:
        return args.fps
    strides = {round(abs(later - time), 6) for time, later in zip(times, times[1:], strict=False)} - {0.0}
    rate = stage.GetTimeCodesPerSecond() / (strides.pop() if len(strides) == 1 else 1.0)
    if not FPS[0] <= rate <= FPS[1]:
        raise CommandError(f"{args.stage} plays {rate:g} of these frames a second. Say how many a video has: --fps 24")
    return rate


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
    path: Path, stage: Usd.Stage, camera: str | None, time: float | None, size: tuple[int, int], options: dict[str, Any]
) -> Image | None:
    """The image at `path`, where it is as it would be made now; else None."""
    import PIL.Image

    from ..images import read_provenance

    try:
        written = path.stat().st_mtime
        made = read_provenance(path)
        with PIL.Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError):  # is not there, is not whole, or is another maker's
        return None
    asked = {name: value for name, value in options.items() if value is not None}
    asked |= {"time": time} | ({"camera": camera} if camera else {})
    if "backend" in asked:
        asked["backend"] = str(asked["backend"])
    made.setdefault("variants", {})
    if image.size != size or any(made.get(name) != value for name, value in asked.items()):
        return None
    image.info["neuralusd"] = made
    files = [layer.realPath for layer in stage.GetUsedLayers() if layer.realPath]
    return image if all(os.path.getmtime(file) <= written for file in files if os.path.exists(file)) else None
