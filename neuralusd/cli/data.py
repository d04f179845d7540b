"""`neuralusd data`: worlds to train on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import CommandError, Console
from .files import check_folder, check_output
from .parser import Parser, UsageError, add_command, add_global_options, count, number, positive, seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..scene import Passes, Scene

SUMMARY = "make worlds to train on, and pack them"
DESCRIPTION = """\
Data to train and evaluate on. `furniture` makes the furniture world: rooms with
furniture as USD stages, with frames rendered by Blender's Cycles beside them.
`orbits` shows each model by itself, from all around. `rooms` makes bedrooms and
other rooms whose furniture stands as in rooms that people live in. `articulated`
makes clips of furniture that moves in its joints.
`import` makes a world of a dataset that you have: MOVi-E and others, with their
own pictures. `pack` makes one file of a world's split, to train from or to carry
elsewhere.
"""
EXAMPLES = """\
examples:
  neuralusd data furniture --out world --scenes 1000
  neuralusd data import movi-e ~/tfds/movi_e/256x256/1.0.0 --out movi
  neuralusd data pack world --split train -o world.npz
"""
FURNITURE = """\
Makes the furniture world, or goes on with one that is not finished: scenes of 2
to 8 of the models of Debian's package sweethome3d-furniture, or of a folder of
USD assets. Every scene is a stage with time samples of its camera and of what
moves, and rendered frames beside it. It needs Blender as a Python module (the
extra `blender`).
"""
FURNITURE_EXAMPLES = """\
examples:
  neuralusd data furniture --out world
  neuralusd data furniture --out world --scenes 5000 --workers 8 --resolution 128
"""
ORBITS = """\
Makes a world of single objects, or goes on with one that is not finished: every
model by itself, in even light, seen from all around. Its splits are train,
held_out_models and held_out_categories. It needs Blender as a Python module (the
extra `blender`).
"""
ORBITS_EXAMPLES = """\
examples:
  neuralusd data orbits --out orbits
  neuralusd data orbits --out orbits --views 8 --resolution 64 --hold-out Lights
"""
ROOMS = """\
Makes a world of furnished rooms, or goes on with one that is not finished. A
grammar says what stands where: a bed with its head to a wall, nightstands beside
it and lamps on them, a desk at a wall and a chair before it. Every room is a stage
with one camera, whose lamps hold their own light, and rendered frames beside it.
Its splits are train, held_out_scenes (new rooms of the same models) and
held_out_models (rooms of models that no other shows). It needs Blender as a Python
module (the extra `blender`).
"""
ROOMS_EXAMPLES = """\
examples:
  neuralusd data rooms --out rooms
  neuralusd data rooms --out homes --kind bedroom --kind "living room" --rooms 1000
"""
ARTICULATED = """\
Makes a world of clips of furniture that moves in its joints, or goes on with one
that is not finished: cabinets with doors, chests of drawers, desk lamps, swivel
chairs, trunks. Every clip is a stage of another model, whose parts are rigid
bodies with time samples and UsdPhysics joints, seen by a camera that moves; its
frames lie beside it. The splits are train and held_out_clips. It needs Blender as
a Python module (the extra `blender`).
"""
ARTICULATED_EXAMPLES = """\
examples:
  neuralusd data articulated --out clips
  neuralusd data articulated --out doors --kind cabinet --clips 50 --resolution 64
"""
IMPORT = """\
Makes a world of a dataset that you have downloaded, or goes on with one that is
not finished. Every scene becomes a USD stage, with its objects' boxes and poses
and its camera as time samples, and the pictures, depth and masks beside it: the
form of the furniture world, so `data pack`, `train` and `eval` take it as it is.
Scenes whose files are damaged are left out, with a note.

Each kind says with --help what it reads.
"""
IMPORT_EXAMPLES = """\
examples:
  neuralusd data import movi-e ~/tfds/movi_e/256x256/1.0.0 --out movi --objects 8
  neuralusd data import egotracks ~/ego4d/v2 --out ego --split train --limit 100
  neuralusd data pack movi -o movi.npz && neuralusd train --world movi.npz -o out
"""
VIDEO = """\
Makes a world of plain videos: models find objects in them, follow them and
estimate depth. Pictures are looked at a few times a second; 30 of them make a
scene. Objects are found in every picture by a detector, cut out by a segmenter,
and followed by how much their masks cover each other; or a tracker (SAM 2 for
video) follows those of the first picture. Depth makes 3D boxes of them; without it
they have 2D boxes. The camera is taken to stand still, unless --poses tells where
it was. All of it becomes the split train.

A model is an id of the Hugging Face hub or a local folder.
"""
VIDEO_EXAMPLES = """\
examples:
  neuralusd data import video kitchen.mp4 --out kitchen --prompt "a cup, a bottle" \\
    --detector IDEA-Research/grounding-dino-tiny --segmenter facebook/sam-vit-base \\
    --depth Intel/zoedepth-nyu-kitti
  neuralusd data import video clips --out clips --detector facebook/detr-resnet-50 \\
    --tracker facebook/sam2.1-hiera-tiny --depth Intel/zoedepth-nyu-kitti
"""
PACK = """\
Packs the frames of one split of a world into one file: pictures as WebP, depth
and ids as PNG. Scenes that are damaged are left out, with a note.
"""
PACK_EXAMPLES = """\
examples:
  neuralusd data pack world -o world.npz
  neuralusd data pack world --split held_out_models -o held_out.npz
"""


LOOK_UP = """\
Looks up, for pairs of frames of a world, what the source frame saw of each surface
point that the target frame shows, and writes a file a scene: what training of
`mini` reads. A run that ended early goes on where it was.
"""
LOOK_UP_EXAMPLES = """\
examples:
  neuralusd data look-up world -o looked-up
  neuralusd train --config mini --world looked-up -o out/mini
"""


def add(commands: Any) -> None:
    parser = add_command(commands, "data", _none, SUMMARY, DESCRIPTION, EXAMPLES)
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", dest="kind")
    furniture = add_command(kinds, "furniture", _furniture, "make the furniture world", FURNITURE, FURNITURE_EXAMPLES)
    furniture.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    furniture.add_argument(
        "--scenes", type=int, default=100, metavar="N", help="scenes to train on (default: %(default)s)"
    )
    for split, what in (
        ("scenes", "new scenes of the same models"),
        ("models", "scenes of models no other scene shows"),
    ):
        furniture.add_argument(
            f"--held-out-{split}", type=int, default=20, metavar="N", help=f"{what} (default: %(default)s)"
        )
    orbits = add_command(kinds, "orbits", _orbits, "views all around single models", ORBITS, ORBITS_EXAMPLES)
    orbits.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    orbits.add_argument("--views", type=count, default=24, metavar="N", help="pictures a model (default: 24)")
    orbits.add_argument("--models", type=count, metavar="N", help="at most so many of each split (default: all)")
    orbits.add_argument(
        "--hold-out",
        action="append",
        metavar="CATEGORY",
        help="a category that is held out altogether; may be repeated (default: Vehicles, of the Debian package)",
    )
    rooms = add_command(kinds, "rooms", _rooms, "rooms furnished by a grammar", ROOMS, ROOMS_EXAMPLES)
    rooms.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    for option, default, what in (
        ("--rooms", 200, "rooms to train on"),
        ("--held-out-rooms", 32, "new rooms of the same models"),
        ("--held-out-models", 32, "rooms of models no other room shows"),
    ):
        rooms.add_argument(option, type=_amount, default=default, metavar="N", help=f"{what} (default: {default})")
    rooms.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        help="bedroom, living room or dining room; may be repeated, and they take turns (default: bedroom)",
    )
    rooms.add_argument(
        "--frames", type=count, default=1, metavar="N", help="pictures of a room, each from another place (default: 1)"
    )
    for each in (furniture, orbits, rooms):
        each.add_argument("--furniture", metavar="DIR", help="folder of .sh3f catalogues or of USD assets")
        _rendering_options(each, 128, samples=16 if each is rooms else 8)
    _articulated_options(
        add_command(
            kinds, "articulated", _articulated, "clips of furniture that moves", ARTICULATED, ARTICULATED_EXAMPLES
        )
    )
    add_command(kinds, "import", _none_to_import, "make a world of a dataset", IMPORT, IMPORT_EXAMPLES, load=_readers)
    look_up = add_command(kinds, "look-up", _look_up, "what `render` looks up of a world", LOOK_UP, LOOK_UP_EXAMPLES)
    look_up.add_argument("world", metavar="WORLD", help="folder of a world")
    look_up.add_argument("--split", default="train", metavar="NAME", help="which of its splits (default: train)")
    look_up.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the files")
    look_up.add_argument("--pairs", type=count, default=12, metavar="N", help="pairs of frames a scene (default: 12)")
    look_up.add_argument("--resolution", type=count, default=256, metavar="PX", help="of the pictures (default: 256)")
    look_up.add_argument(
        "--backend", default="mini", metavar="B", help="whose encoders make the tokens (default: mini)"
    )
    look_up.add_argument("--workers", type=count, default=2, metavar="N", help="processes (default: 2)")
    look_up.add_argument("--seed", type=seed, default=0, metavar="N")
    pack = add_command(kinds, "pack", _pack, "one file of a world's split", PACK, PACK_EXAMPLES)
    pack.add_argument("world", metavar="DIR", help="a world of `furniture` or `import`")
    pack.add_argument("-o", "--output", required=True, metavar="FILE", help="the .npz file")
    pack.add_argument("--split", default="train", help="train, held_out_scenes or held_out_models (default: train)")
    pack.add_argument("--objects", type=count, metavar="N", help="most objects of a scene (default: as there are)")
    for each in kinds.choices.values():
        add_global_options(each)


def _amount(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number of at least 0")
    return value


def _none(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    raise UsageError(args.parser, "name a kind: furniture, orbits, rooms, articulated, import or pack")


def _readers(parser: Parser) -> None:
    """A command for each dataset that can be imported."""
    from ..datasets.imported import readers
    from ..datasets.imported.scene import SPLITS

    kinds = parser.add_subparsers(title="datasets", metavar="DATASET", dest="dataset")
    for kind, reader in readers().items():
        examples = f"examples:\n  neuralusd data import {kind} SOURCE --out world --limit 100\n"
        each = add_command(kinds, kind, _import, reader.summary, reader.description, examples)
        each.add_argument("source", metavar="SOURCE", help="folder of the dataset, as downloaded")
        each.add_argument(
            "--split", action="append", choices=SPLITS, help="import only this; may be given twice (default: all)"
        )
        _world_options(each)
        each.add_argument("--segmenter", metavar="ID|DIR", help="a model for masks, where the dataset has only boxes")
        each.add_argument("--depth", metavar="ID|DIR", help="a depth model, where the dataset has no depth")
        add_global_options(each)
    _video_options(add_command(kinds, "video", _video, "plain videos, by annotators", VIDEO, VIDEO_EXAMPLES))


def _world_options(parser: Parser) -> None:
    """What all worlds have that are made of something that is there."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    parser.add_argument("--limit", type=count, metavar="N", help="at most so many scenes of a split (default: all)")
    parser.add_argument(
        "--frames", type=count, metavar="N", help="at most so many frames of a scene, evenly spaced (default: all)"
    )
    parser.add_argument("--objects", type=count, metavar="N", help="at most so many objects of a scene, largest first")
    parser.add_argument(
        "--resolution", type=count, default=128, metavar="PX", help="a frame's side; it is cropped (default: 128)"
    )


def _video_options(parser: Parser) -> None:
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a video, or a folder of them")
    _world_options(parser)
    parser.add_argument("--detector", required=True, metavar="ID|DIR", help="finds objects; some need --prompt")
    parser.add_argument("--segmenter", metavar="ID|DIR", help="cuts them out (SAM and its kin)")
    parser.add_argument("--tracker", metavar="ID|DIR", help="cuts them out and follows them (SAM 2 for video)")
    parser.add_argument("--depth", metavar="ID|DIR", help="a depth model (default: none, so 2D boxes)")
    parser.add_argument("--prompt", metavar="WORDS", help="what to look for, with commas")
    parser.add_argument("--depth-kind", choices=("metric", "relative"), help="for a depth model that does not say")
    parser.add_argument("--fov", type=positive, metavar="DEG", help="horizontal field of view (default: 50)")
    parser.add_argument("--poses", metavar="FILE", help="transforms.json with a pose for every frame of the one clip")
    parser.add_argument("--rate", type=positive, default=5.0, metavar="R", help="pictures a second (default: 5)")
    parser.add_argument(
        "--threshold", type=number, default=0.3, metavar="T", help="least score of a detection, 0..1 (default: 0.3)"
    )
    parser.add_argument(
        "--max-size", type=count, default=640, metavar="PX", help="longer side it is looked at with (default: 640)"
    )
    add_global_options(parser)


def _video(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.imported import DatasetError
    from ..datasets.imported.clips import Annotators
    from ..datasets.imported.run import import_clips

    if (args.segmenter is None) == (args.tracker is None):
        raise UsageError(args.parser, "name a --segmenter or a --tracker, one of them")
    if args.fov is not None and not 1 <= args.fov <= 170:
        raise UsageError(args.parser, f"argument --fov: {args.fov:g} is not between 1 and 170 degrees")
    check_folder(args.out)
    annotators = Annotators(
        detector=args.detector,
        segmenter=args.segmenter,
        tracker=args.tracker,
        depth=args.depth,
        prompts=args.prompt,
        field_of_view=args.fov,
        depth_kind=args.depth_kind,
        threshold=args.threshold,
    )
    names = ("poses", "rate", "limit", "frames", "objects", "resolution", "max_size")
    options = {name: getattr(args, name) for name in names}
    try:
        made = import_clips(args.clips, args.out, annotators, progress=not console.quiet, **options)
    except DatasetError as error:
        raise CommandError(str(error)) from error
    return _made(args, console, made)


def _none_to_import(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.imported import readers

    raise UsageError(args.parser, f"name a dataset: {', '.join([*readers(), 'video'])}")


def _import(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.imported import DatasetError
    from ..datasets.imported.run import import_dataset

    check_folder(args.out)
    names = ("limit", "frames", "objects", "resolution", "segmenter", "depth")
    options = {name: getattr(args, name) for name in names}
    try:
        made = import_dataset(
            args.dataset, args.source, args.out, splits=args.split, progress=not console.quiet, **options
        )
    except DatasetError as error:
        raise CommandError(str(error)) from error
    return _made(args, console, made)


def _made(args: argparse.Namespace, console: Console, made: dict[str, int]) -> dict[str, Any]:
    console.say(f"{args.out}: {', '.join(f'{number} {split}' for split, number in made.items())}")
    return {"output": args.out, "scenes": made}


def _articulated_options(parser: Parser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the world")
    for option, default, what in (
        ("--clips", 20, "clips to train on"),
        ("--held-out-clips", 5, "clips of models no other clip shows"),
        ("--frames", 24, "pictures a clip"),
    ):
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    parser.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        help="cabinet, chest, lamp, chair or trunk; may be repeated, and they take turns (default: all)",
    )
    _rendering_options(parser, 96)


def _rendering_options(parser: Parser, resolution: int, samples: int = 8) -> None:
    parser.add_argument("--workers", type=count, default=2, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N")
    parser.add_argument(
        "--resolution", type=count, default=resolution, metavar="PX", help="a frame's side (default: %(default)s)"
    )
    parser.add_argument(
        "--samples", type=count, default=samples, metavar="N", help=f"Cycles' samples a pixel (default: {samples})"
    )


def _orbits(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.orbits import make_orbits

    check_folder(args.out)
    options = {name: getattr(args, name) for name in ("views", "models", "workers", "seed", "resolution", "samples")}
    if args.furniture:
        options["furniture"] = args.furniture
    # Other libraries have other categories, or none.
    options["categories"] = args.hold_out or (() if args.furniture else ("Vehicles",))
    try:
        made = make_orbits(args.out, **options, progress=not console.quiet)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console.say(f"{args.out}: {', '.join(f'{number} {split}' for split, number in made.items())}")
    return {"output": args.out, "models": made}


def _rooms(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.rooms_world import make_rooms

    check_folder(args.out)
    names = ("rooms", "held_out_rooms", "held_out_models", "frames", "workers", "seed", "resolution", "samples")
    options = {name: getattr(args, name) for name in names}
    if args.furniture:
        options["furniture"] = args.furniture
    if args.kind:
        options["kinds"] = args.kind
    try:
        made = make_rooms(args.out, **options, progress=not console.quiet)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return _made(args, console, made)


def _articulated(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.articulated import make_articulated

    check_folder(args.out)
    names = ("clips", "held_out_clips", "frames", "workers", "seed", "resolution", "samples")
    options = {name: getattr(args, name) for name in names}
    if args.kind:
        options["kinds"] = args.kind
    try:
        made = make_articulated(args.out, **options, progress=not console.quiet)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console.say(f"{args.out}: {', '.join(f'{number} {split}' for split, number in made.items())}")
    return {"output": args.out, "clips": made}


def _furniture(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.furniture_world import make_furniture_world

    check_folder(args.out)
    names = ("out", "scenes", "held_out_scenes", "held_out_models", "workers", "seed", "resolution", "samples")
    options = {name: getattr(args, name) for name in names}
    if args.furniture:
        options["furniture"] = args.furniture
    try:
        made = make_furniture_world(**options, progress=not console.quiet)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return _made(args, console, made)


def _look_up(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ..datasets.looked_up import LookUpTask, look_up_scene
    from ..datasets.workers import run_tasks
    from ..datasets.world import open_world

    try:
        world = open_world(args.world, args.split)
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    tasks = [
        LookUpTask(str(folder.path), str(output), args.backend, args.resolution, args.pairs, args.seed)
        for folder in world
        if not (output / f"{folder.id}.npz").exists()
    ]
    run_tasks(look_up_scene, tasks, args.workers, output / "failed.jsonl", "" if args.quiet else "scenes")
    made = len(list(output.glob("*.npz")))
    if not made:
        raise CommandError(f"nothing could be looked up; {output / 'failed.jsonl'} says why")
    console.say(f"{output}: {made} of {len(world)} scenes")
    return {"output": str(output), "scenes": made, "of": len(world)}


def _pack(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    if not args.output.endswith(".npz"):
        raise UsageError(args.parser, f"argument -o: {args.output} is no .npz file; end its name so")
    check_output(args.output)
    from ..datasets.packed import pack, save_packed

    try:
        world = pack(read_frames(args.world, args.split, console), args.objects and args.objects + 1)
    except ValueError as error:
        raise CommandError(f"{args.world}: {error}") from error
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.partial.npz")
    try:
        save_packed(world, partial)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    console.say(f"{output}: {len(world)} frames of {len(world.names)} scenes, {output.stat().st_size / 1e6:.1f} MB")
    return {"output": str(output), "frames": len(world), "scenes": len(world.names)}


def read_frames(world: str | Path, split: str, console: Console) -> Iterator[tuple[str, Scene, Passes]]:
    """The frames of a world's split, with a progress bar."""
    from ..datasets.frames import frames
    from ..datasets.world import open_world

    with console.bar(len(open_world(world, split)), "pack", "scene") as bar:
        last = None
        for name, scene, passes in frames(world, split):
            bar.update(name != last)
            last = name
            yield name, scene, passes
