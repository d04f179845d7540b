"""The demo's stages, made anew: python -m neuralusd.demo.room FOLDER

Three rooms with furniture, lights and a camera. Each thing is a component in a file of its own below `assets`, with
textures beside them; a room is a short layer that references them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pxr import Gf, Kind, Usd, UsdGeom, UsdLux, UsdRender

from ..schema import NeuralAssetAPI
from .author import new_stage, place
from .character import FIRST, LAST, character, studio
from .frames import SIZE
from .furniture import FURNITURE
from .shells import BACK, LEFT, RIGHT, SHELLS
from .textures import TEXTURES, make_texture

# The camera stands in the same place in each room.
EYE, TARGET = (0.2, -3.3, 1.36), (0.1, 0.3, 0.67)
QUALITY = 82


@dataclass(frozen=True)
class Thing:
    """What stands where on a stage: a prim's name, the asset's, (x, y, z) in metres, degrees about the up axis."""

    name: str
    asset: str
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: float = 0.0


ROOM = (
    Thing("Rug", "rug", (0.1, 0.15, 0)),
    Thing("ShellChair", "shell_chair", (-0.98, 0.25, 0.011), 32),
    Thing("Armchair", "armchair", (1.08, 0.45, 0.011), -34),
    Thing("Table", "table", (0.06, 0.42, 0.011)),
    Thing("Vase", "vase", (-0.06, 0.44, 0.401)),
    Thing("Books", "books", (0.30, 0.36, 0.401), 24),
    Thing("Lamp", "lamp", (1.85, 1.6, 0)),
    Thing("Plant", "plant", (-1.85, 1.6, 0), 40),
    Thing("Picture", "picture", (-0.62, BACK, 1.40)),
)
CHAIRS = (
    Thing("WoodenChair", "wooden_chair", (-0.98, 0.2, 0), 32),
    Thing("SecondChair", "wooden_chair", (0.55, 0.7, 0), -24),
    Thing("Bookshelf", "bookshelf", (-0.55, BACK - 0.17, 0)),
    Thing("Plant", "plant", (1.55, 1.2, 0)),
)
CHARACTER = (
    Thing("Character", "character", (-0.28, 0, 0), -8),
    Thing("Chair", "wooden_chair", (0.85, 0.3, 0), -30),
    Thing("Plant", "plant", (-1.3, 0.6, 0), 10),
)
PLANKS = (Thing("Bench", "bench", (-1.3, 1.85, 0)),)


def write_stages(folder: str | Path) -> list[Path]:
    """Writes room, chairs, planks and character (.usda), their assets and textures to `folder`; returns the stages."""
    folder = Path(folder).resolve()
    textures = folder / "textures"
    textures.mkdir(parents=True, exist_ok=True)
    for name in TEXTURES:
        PIL.Image.fromarray(make_texture(name)).save(textures / f"{name}.jpg", quality=QUALITY, optimize=True)
    assets = {make.__name__: make(folder) for make in (*FURNITURE, *SHELLS, character, studio)}
    return [
        _room(folder, "room", assets, "oak_room", ROOM, _sun_from_the_left),
        _room(folder, "chairs", assets, "tile_room", CHAIRS, _sun_from_the_right),
        _room(folder, "planks", assets, "plank_room", PLANKS, _sun_from_behind),
        _character(folder, assets),
    ]


def _room(
    folder: Path,
    name: str,
    assets: dict[str, Path],
    shell: str,
    things: Sequence[Thing],
    light: Callable[[Usd.Stage], None],
    view: tuple[Sequence[float], Sequence[float]] = (EYE, TARGET),
) -> Path:
    stage = new_stage(folder / f"{name}.usda", "World", Kind.Tokens.assembly)
    room = place(stage, "/World/Room", assets[shell], (0, 0, 0))
    # What is not furniture: the background of a neural picture.
    NeuralAssetAPI.Apply(room).CreateRoleAttr("background")
    for thing in things:
        place(stage, f"/World/{thing.name}", assets[thing.asset], thing.at, thing.turn)
    write_camera(stage, *view)
    UsdGeom.Scope.Define(stage, "/World/Lights")
    light(stage)
    stage.GetRootLayer().Save()
    return folder / f"{name}.usda"


def _character(folder: Path, assets: dict[str, Path]) -> Path:
    path = _room(folder, "character", assets, "studio", CHARACTER, _studio_lights, ((0.1, -3.5, 1.15), (0.08, 0, 0.98)))
    stage = Usd.Stage.Open(str(path))
    stage.SetStartTimeCode(FIRST)
    stage.SetEndTimeCode(LAST)
    stage.SetTimeCodesPerSecond(24)
    stage.GetRootLayer().Save()
    return path


def write_camera(stage: Usd.Stage, eye: Sequence[float], target: Sequence[float], focal_length: float = 35.0) -> None:
    """/World/Camera, full frame, its focal length in millimetres; and render settings that name it."""
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    # Lengths of the lens are in tenths of a unit, which is the metre.
    camera.CreateFocalLengthAttr(focal_length / 100)
    camera.CreateHorizontalApertureAttr(0.36)
    camera.CreateVerticalApertureAttr(0.24)
    camera.CreateClippingRangeAttr(Gf.Vec2f(0.05, 100.0))
    camera.AddTransformOp().Set(looking(eye, target))
    settings = UsdRender.Settings.Define(stage, "/Render/Settings")
    settings.CreateResolutionAttr(Gf.Vec2i(*SIZE))
    settings.CreateCameraRel().SetTargets([camera.GetPath()])
    stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")


def looking(eye: Sequence[float], target: Sequence[float]) -> Gf.Matrix4d:
    """Local to world of a camera or a light at `eye` that looks at `target` along its -Z."""
    view = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*eye), Gf.Vec3d(*target), Gf.Vec3d.ZAxis())
    rows = np.round(np.array(view.GetInverse()), 9) + 0.0
    return Gf.Matrix4d(*rows.ravel().tolist())


def write_light(stage: Usd.Stage, name: str, kind: Any, color: Sequence[float], intensity: float) -> Any:
    """A light of a kind of UsdLux, its colour linear, its intensity in what UsdLux calls nits."""
    light = kind.Define(stage, f"/World/Lights/{name}")
    light.CreateColorAttr(Gf.Vec3f(*map(float, color)))
    light.CreateIntensityAttr(float(intensity))
    return light


def _sky(stage: Usd.Stage, intensity: float, color: Sequence[float] = (0.80, 0.89, 1.0)) -> None:
    write_light(stage, "Sky", UsdLux.DomeLight, color, intensity)


def _sun(stage: Usd.Stage, way: Sequence[float], intensity: float, color: Sequence[float] = (1.0, 0.86, 0.68)) -> None:
    """A sun whose light goes the way (3,)."""
    sun = write_light(stage, "Sun", UsdLux.DistantLight, color, intensity)
    sun.CreateAngleAttr(1.2)
    sun.CreateNormalizeAttr(True)
    sun.AddTransformOp().Set(looking([-10 * w for w in way], (0, 0, 0)))


def _window(
    stage: Usd.Stage, eye: Sequence[float], target: Sequence[float], size: tuple[float, float], intensity: float
) -> None:
    """What the sky sends through a window."""
    window = write_light(stage, "Window", UsdLux.RectLight, (0.86, 0.93, 1.0), intensity)
    window.CreateWidthAttr(size[0])
    window.CreateHeightAttr(size[1])
    window.AddTransformOp().Set(looking(eye, target))


def _sun_from_the_left(stage: Usd.Stage) -> None:
    _sky(stage, 1.25)
    _sun(stage, (0.80, 0.22, -0.56), 4.2)
    _window(stage, (LEFT - 0.25, -1.05, 1.52), (0, -1.05, 1.52), (2.0, 1.45), 7.0)


def _sun_from_the_right(stage: Usd.Stage) -> None:
    _sky(stage, 1.9)
    _sun(stage, (-0.80, 0.42, -0.50), 6.0)
    _window(stage, (RIGHT + 0.25, -1.05, 1.52), (0, -1.05, 1.52), (1.9, 1.45), 15.0)


def _sun_from_behind(stage: Usd.Stage) -> None:
    _sky(stage, 2.6)
    _sun(stage, (-0.28, -0.62, -0.66), 7.0)
    _window(stage, (0.92, BACK + 0.25, 1.29), (0.92, 0, 1.29), (1.7, 1.2), 9.0)


def _studio_lights(stage: Usd.Stage) -> None:
    _sky(stage, 0.32, (0.92, 0.96, 1.0))
    for name, eye, size, color, intensity in (
        ("Key", (-2.8, -2.4, 3.0), (1.2, 1.2), (1.0, 0.93, 0.84), 28.0),
        ("Fill", (3.4, -2.4, 1.8), (1.6, 1.6), (0.84, 0.92, 1.0), 1.8),
        ("Rim", (3.4, 0.4, 2.6), (0.8, 0.8), (1.0, 0.95, 0.88), 12.0),
    ):
        light = write_light(stage, name, UsdLux.RectLight, color, intensity)
        light.CreateWidthAttr(size[0])
        light.CreateHeightAttr(size[1])
        light.AddTransformOp().Set(looking(eye, (0, 0, 1.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for path in write_stages(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    main()
