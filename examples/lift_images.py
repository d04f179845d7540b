"""Two pictures of docs/lift.md: python examples/lift_images.py LIBRARY

LIBRARY is the folder of assets that `neuralusd data furniture` converts. The models shown are CC0, of Blend Swap. (The
turntable is made by `neuralusd eval --part lift`.)
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
from pxr import Gf, Usd, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import LiftWarning
from neuralusd.datasets.furniture_assets import open_library
from neuralusd.demo.frames import copy_stages
from neuralusd.evaluation.report import contact_sheet
from neuralusd.lifting import Request, open_lifter
from neuralusd.scene import Camera

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WORDS = ("a red armchair", "a lamp", "a wooden table")
SIZE = 168
TURNS = (0, 35, 80, 180, -35)
# Model, and from where its picture is taken: degrees about the up axis, and above the ground.
PICTURES = {
    "teddyBear": (0, 0, "from the front, a round thing: good"),
    "horse2": (90, 0, "from the side: good"),
    "littlePlant": (0, 5, "good, but for the pot's foot, which is round now"),
    "oakChair": (0, 0, "from the front: seen from the side it is as thick as its slats, and has no seat"),
    "modernArmchair": (25, 15, "at an angle: the back of the seat is a ball, and depth that the picture shows is flat"),
    "caffe_final": (30, 20, "from above: the saucer stands upright, since the picture's plane is taken to"),
}


def main(library: Path) -> None:
    assets = {asset.id.partition("#")[2]: library / asset.path for asset in open_library(library)}
    rows: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (turn, above, said) in PICTURES.items():
            photo, output = Path(folder) / f"{name}.png", Path(folder) / f"{name}.usdz"
            picture(assets[name], turn, above, size=512).save(photo)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LiftWarning)
                neuralusd.lift(photo, output, height=1.0, backend="silhouette")
            tiles = [PIL.Image.open(photo), *(picture(output, t, 10, 3 * SIZE) for t in TURNS)]
            rows[said] = np.stack([over_white(tile) for tile in tiles])
        said = "the chair and the plant in a room of encoded assets, as `render` shows them with `mini`"
        rows[said] = room(Path(folder))
    contact_sheet(rows).save(IMAGES / "lift.png", optimize=True)
    words().save(IMAGES / "lift_words.png", optimize=True)
    print(IMAGES / "lift.png", IMAGES / "lift_words.png")


def words() -> PIL.Image.Image:
    """The first samples of some words."""
    lifter = open_lifter("mini")
    rows = {}
    for text in WORDS:
        found = lifter(Request(text=text, candidates=4, seed=1), lambda done: None).candidates
        rows[text] = np.stack([over_white(PIL.Image.fromarray(each.picture)) for each in found])
    return contact_sheet(rows)


def picture(file: Path, turn: float, above: float, size: int) -> PIL.Image.Image:
    """An RGBA picture of an asset, shaded, seen from `turn` degrees about its up axis and `above` its horizon."""
    stage = stages.open_stage(file)
    scene = stages.read(stage)
    corners = np.concatenate([asset.corners() for asset in scene.foreground])
    centre, radius = (corners.min(0) + corners.max(0)) / 2, np.linalg.norm(np.ptp(corners, axis=0)) / 2
    around, up = np.radians(turn), np.radians(above)
    # Y up, the front towards +Z; a Z-up stage's front is -Y.
    towards = np.array([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)])
    axis = np.array([0.0, 1.0, 0.0])
    if scene.up_axis == "Z":
        towards, axis = towards[[0, 2, 1]] * [1, -1, 1], axis[[0, 2, 1]]
    eye = centre + towards * radius * 4
    view = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*eye), Gf.Vec3d(*centre), Gf.Vec3d(*axis))
    camera = Camera(np.array(view), focal_length=36.0 * 1.8, horizontal_aperture=36.0, vertical_aperture=36.0)
    passes = stages.render_passes(stage, replace(scene, camera=camera), size, size, supersample=2)
    alpha = (passes.ids >= 0).astype(np.float32)
    return PIL.Image.fromarray((np.dstack([passes.color, alpha]) * 255 + 0.5).astype(np.uint8))


def over_white(image: PIL.Image.Image) -> np.ndarray:
    white = PIL.Image.new("RGBA", image.size, "white")
    tile = PIL.Image.alpha_composite(white, image).convert("RGB").resize((SIZE, SIZE), PIL.Image.Resampling.LANCZOS)
    return np.asarray(tile, np.float32) / 255


def room(folder: Path) -> np.ndarray:
    """The demo's room, then with a lifted chair, then with a plant too."""
    [path] = copy_stages(folder, ["room"])
    stage = stages.sidecar(path)
    neuralusd.encode(stage, image=path.with_suffix(".jpg"))
    camera = stages.read(stage).camera.path
    pictures = [neuralusd.render(stage, camera, seed=1)]
    for name, place, turn, height in (
        ("oakChair", (0.25, -0.5, 0.011), -25, 0.95),
        ("littlePlant", (-0.3, 0.42, 0.401), 0, 0.3),
    ):
        put(stage, folder / f"{name}.usdz", name, place, turn, height)
        pictures.append(neuralusd.render(stage, camera, seed=1))
    # The middle of each, which is half as wide again as it is high.
    tiles = [image.resize((SIZE * 3 // 2, SIZE)).crop((SIZE // 4, 0, SIZE // 4 + SIZE, SIZE)) for image in pictures]
    return np.stack([np.asarray(tile, np.float32) / 255 for tile in tiles])


def put(stage: Usd.Stage, file: Path, name: str, place: tuple[float, ...], turn: float, height: float) -> None:
    """References an asset, which is a metre high, on a Z-up stage."""
    prim = UsdGeom.Xform.Define(stage, stage.GetDefaultPrim().GetPath().AppendChild(name))
    prim.GetPrim().GetReferences().AddReference(str(file))
    prim.AddTranslateOp().Set(Gf.Vec3d(*place))
    prim.AddRotateXYZOp().Set(Gf.Vec3f(90, 0, turn))
    prim.AddScaleOp().Set(Gf.Vec3f(height))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
