"""The pictures of docs/: python examples/docs_images.py

Made of the demo's stages with the weights that ship.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from pxr import Gf, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.demo import run_demo
from neuralusd.demo.frames import SIZE

IMAGES = Path(__file__).parent.parent / "docs" / "images"
STRIP, GAP = 26, 8


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder)
        pictures = run_demo(demo, say=print)
        shutil.copyfile(pictures[-1], IMAGES / "figure1.png")
        encode_picture(demo).save(IMAGES / "encode.png", optimize=True)
        render_picture(demo).save(IMAGES / "render.png", optimize=True)


def encode_picture(demo: Path) -> PIL.Image.Image:
    """What encode sees: the picture, the boxes of what it shows, and each asset's own crop."""
    stage = stages.open_stage(demo / "room.neural.usdc")
    scene = stages.read(stage, aspect=SIZE[0] / SIZE[1])
    passes = stages.render_passes(stage, scene, SIZE[1], SIZE[0], color=False)
    source = PIL.Image.open(demo / "room.jpg").convert("RGB")
    picture = np.asarray(source)
    draw = PIL.ImageDraw.Draw(source)
    crops = {}
    for index, asset in enumerate(scene.assets):
        mask = passes.ids == index
        if asset.role != "foreground" or not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        draw.rectangle(box, outline=(255, 220, 0), width=2)
        crop = PIL.Image.fromarray(np.where(mask[..., None], picture, 255).astype(np.uint8)).crop(box)
        crop.thumbnail((160, 146), PIL.Image.Resampling.LANCZOS)
        crops[asset.path.rpartition("/")[2]] = crop
    across = 3
    size = (SIZE[0] + GAP + across * 168, SIZE[1] + STRIP)
    sheet = PIL.Image.new("RGB", size, "white")
    text, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(size=15)
    sheet.paste(source, (0, STRIP))
    text.text((2, 4), "the picture, and the boxes of what it shows", fill="black", font=font)
    for number, (name, crop) in enumerate(crops.items()):
        row, column = divmod(number, across)
        left, top = SIZE[0] + GAP + column * 168, row * (SIZE[1] + STRIP) // 3
        text.text((left, top + 4), name, fill="black", font=font)
        sheet.paste(crop, (left, top + STRIP))
    return sheet


def render_picture(demo: Path) -> PIL.Image.Image:
    """The same tokens from three cameras, 8 degrees apart."""
    tile = (512, 341)
    sheet = PIL.Image.new("RGB", (3 * (tile[0] + GAP) - GAP, tile[1] + STRIP), "white")
    text, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(size=15)
    for column, degrees in enumerate((-8, 0, 8)):
        stage = stages.sidecar(demo / "room.neural.usdc", demo / f"camera{degrees}.usda")
        camera = UsdGeom.Camera.Get(stage, "/World/Camera")
        matrix = camera.GetLocalTransformation()
        turned = matrix * Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d.ZAxis(), degrees))
        UsdGeom.Xformable(camera).MakeMatrixXform().Set(turned)
        image = neuralusd.render(stage, "/World/Camera", size=SIZE, seed=0)
        left = column * (tile[0] + GAP)
        text.text((left + 2, 4), f"{degrees} degrees around the room", fill="black", font=font)
        sheet.paste(image.resize(tile, PIL.Image.Resampling.LANCZOS), (left, STRIP))
    return sheet


if __name__ == "__main__":
    main()
