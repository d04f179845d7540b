"""The pictures of docs/: python examples/docs_images.py

Made of the demo's held-out frames with the weights that ship.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
from pxr import Gf, UsdGeom

import neuralusd
from neuralusd import stage as stages
from neuralusd.demo import run_demo
from neuralusd.demo.frames import read_passes
from neuralusd.evaluation.report import contact_sheet

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder)
        pictures = run_demo(demo, say=print)
        shutil.copyfile(pictures[-1], IMAGES / "figure1.png")
        encode_picture(demo).save(IMAGES / "encode.png")
        render_picture(demo).save(IMAGES / "render.png")


def encode_picture(demo: Path) -> PIL.Image.Image:
    """What encode sees: the picture, the boxes of its assets, and each asset's own crop."""
    stage = stages.open_stage(demo / "room.neural.usdc")
    scene = stages.read(stage)
    passes = read_passes(demo / "room.usda", stage)
    source = PIL.Image.fromarray(np.round(passes.color * 255).astype(np.uint8)).resize((256, 256))
    sheet = PIL.Image.new("RGB", (256 + 8 + 3 * 128 + 16, 272), "white")
    draw = PIL.ImageDraw.Draw(source)
    text = PIL.ImageDraw.Draw(sheet)
    assets = [a for a in scene.assets if a.tokens]
    for index, asset in enumerate(assets):
        x, y, h, w = asset.tokens["appearance"].crop
        if asset.role == "foreground":
            draw.rectangle([x * 256, y * 256, (x + w) * 256, (y + h) * 256], outline=(255, 220, 0))
        mask = passes.mask(scene.assets.index(asset))
        color = np.where(mask[..., None], passes.color, 1.0)
        height, width = mask.shape
        box = [int(x * width), int(y * height), int(np.ceil((x + w) * width)), int(np.ceil((y + h) * height))]
        crop = PIL.Image.fromarray(np.round(color * 255).astype(np.uint8)).crop(box).resize((120, 120))
        left, top = 264 + index % 3 * 128, index // 3 * 136
        sheet.paste(crop, (left, top + 14))
        text.text((left, top), asset.path.rpartition("/")[2], fill="black")
    sheet.paste(source, (0, 14))
    text.text((0, 0), "source, and the boxes of what it shows", fill="black")
    return sheet


def render_picture(demo: Path) -> PIL.Image.Image:
    """The same tokens from three cameras, 8 degrees apart."""
    pictures = []
    for degrees in (-8, 0, 8):
        stage = stages.sidecar(demo / "room.neural.usdc", demo / f"camera{degrees}.usda")
        camera = UsdGeom.Camera.Get(stage, "/World/Camera")
        matrix = camera.GetLocalTransformation()
        turned = matrix * Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d.ZAxis(), degrees))
        UsdGeom.Xformable(camera).MakeMatrixXform().Set(turned)
        image = neuralusd.render(stage, "/World/Camera", seed=0)
        pictures.append(np.asarray(image, np.float32) / 255)
    return contact_sheet({"-8, 0 and 8 degrees around the room": np.stack(pictures)}, scale=2)


if __name__ == "__main__":
    main()
