"""How long stages take to read and tokens to read and write, beside the least that plain pxr and safetensors need for
the same result.

python benchmarks/stage.py [--prims 10000] [--assets 200] [--tokens 784] [--width 768] [--repeat 5]

Medians of runs that take turns, so that whatever else the machine does falls on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from pxr import Gf, Kind, Sdf, Usd, UsdGeom

from neuralusd.scene import Tokens
from neuralusd.stage import open_stage, read, render_passes, save, sidecar, write_tokens
from neuralusd.stage.tokens import read_tokens

FIELDS = ("values", "points")
STORED = ("values", "shape", "points", "viewTransform", "grid", "encoder", "revision", "extent", "crop", "source")
OTHERS = ("pxr", "safetensors")


def make_stage(path: Path, prims: int) -> None:
    """A stage of `prims` prims on disk: components of an Xform and four gprims each."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, "Y")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    with Sdf.ChangeBlock():
        layer = stage.GetRootLayer()
        for index in range(prims // 5):
            asset = Sdf.CreatePrimInLayer(layer, f"/World/Group{index // 100}/Asset{index}")
            asset.specifier, asset.typeName, asset.kind = Sdf.SpecifierDef, "Xform", Kind.Tokens.component
            move = Sdf.AttributeSpec(asset, "xformOp:translate", Sdf.ValueTypeNames.Double3)
            move.default = Gf.Vec3d(index % 100, 0, index // 100)
            order = Sdf.AttributeSpec(asset, "xformOpOrder", Sdf.ValueTypeNames.TokenArray, Sdf.VariabilityUniform)
            order.default = ["xformOp:translate"]
            for part in range(4):
                cube = Sdf.PrimSpec(asset, f"Part{part}", Sdf.SpecifierDef, "Cube")
                size = Sdf.AttributeSpec(cube, "size", Sdf.ValueTypeNames.Double)
                size.default = 0.2 * (part + 1)
                extent = Sdf.AttributeSpec(cube, "extent", Sdf.ValueTypeNames.Float3Array)
                extent.default = [(-0.1 * (part + 1),) * 3, (0.1 * (part + 1),) * 3]
    for prim in stage.TraverseAll():
        if not prim.GetTypeName():
            prim.SetSpecifier(Sdf.SpecifierDef)
            prim.SetTypeName("Xform")
    camera = UsdGeom.Camera.Define(stage, "/Camera")
    camera.AddTranslateOp().Set((50, 10, 150))
    stage.Save()


def is_component(prim: Usd.Prim) -> bool:
    return Usd.ModelAPI(prim).GetKind() == Kind.Tokens.component


def plain_read(
    stage: Usd.Stage, wanted: Callable[[Usd.Prim], bool] = is_component
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Path, transform and box of every component, and nothing more, as a script would read them."""
    transforms, out = UsdGeom.XformCache(), []
    boxes = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
    for prim in stage.Traverse():
        if not wanted(prim):
            continue
        box = boxes.ComputeUntransformedBound(prim).ComputeAlignedRange()
        matrix = np.array(transforms.GetLocalToWorldTransform(prim))
        out.append((str(prim.GetPath()), matrix, np.array([box.min, box.max])))
    UsdGeom.Camera(stage.GetPrimAtPath("/Camera")).GetCamera(Usd.TimeCode.Default())
    return out


def make_tokens(assets: int, count: int, width: int) -> dict[str, dict[str, Tokens]]:
    values = np.random.default_rng(0).normal(size=(count, width)).astype(np.float16)
    points = np.zeros((count, 3), np.float32)
    tokens = Tokens(values, "benchmark", "1", (1, count), points=points, view=np.eye(4))
    return {f"/World/Group{i // 100}/Asset{i}": {"appearance": tokens} for i in range(assets)}


def plain_write(shot: Path, target: Path, tokens: dict[str, dict[str, Tokens]]) -> None:
    """The same attributes into a crate file by Usd alone, saved as a layer of its own."""
    layer = Sdf.Layer.CreateNew(str(target))
    layer.subLayerPaths.append(f"./{shot.name}")
    stage = Usd.Stage.Open(layer)
    for path, sets in tokens.items():
        prim = stage.GetPrimAtPath(path)
        prim.ApplyAPI("NeuralAssetAPI")
        for modality, given in sets.items():
            prim.ApplyAPI("NeuralTokensAPI", modality)
            prefix = f"neural:tokens:{modality}:"
            prim.GetAttribute(prefix + "values").Set(given.values)
            prim.GetAttribute(prefix + "points").Set(given.points)
            prim.GetAttribute(prefix + "shape").Set(Gf.Vec2i(*given.values.shape))
            prim.GetAttribute(prefix + "grid").Set(Gf.Vec2i(*given.grid))
            prim.GetAttribute(prefix + "encoder").Set(given.encoder)
            prim.GetAttribute(prefix + "revision").Set(given.revision)
            prim.GetAttribute(prefix + "viewTransform").Set(Gf.Matrix4d(np.eye(4).tolist()))
    layer.Save()


def plain_tokens(prim: Usd.Prim) -> tuple[Any, ...]:
    """All that is stored of a prim's tokens."""
    get = {name: prim.GetAttribute(f"neural:tokens:appearance:{name}") for name in STORED}
    shape, view = get["shape"].Get(), np.array(get["viewTransform"].Get())
    values = np.asarray(get["values"].Get()).reshape(shape[0], shape[1])
    digest = get["values"].GetCustomDataByKey("neuralusd:digest")
    return values, np.asarray(get["points"].Get()), view, digest, *(get[name].Get() for name in STORED[4:])


def batch(values: list[np.ndarray]) -> np.ndarray:
    """What a network is given: every value read once from the file."""
    return np.stack(values)


def our_open(target: Path) -> np.ndarray:
    """Opens a stage and has all its tokens."""
    stage = open_stage(target)
    prims = [prim for prim in stage.Traverse() if prim.HasAPI("NeuralTokensAPI")]
    return batch([read_tokens(prim)["appearance"].values for prim in prims])


def plain_open(target: Path) -> np.ndarray:
    stage = Usd.Stage.Open(str(target))
    return batch([plain_tokens(prim)[0] for prim in stage.Traverse() if prim.HasAPI("NeuralTokensAPI", "appearance")])


def our_scene(target: Path) -> np.ndarray:
    """Opens a stage and has the places, boxes and tokens of its assets."""
    return batch([asset.tokens["appearance"].values for asset in read(open_stage(target)).assets])


def plain_scene(target: Path) -> np.ndarray:
    stage = Usd.Stage.Open(str(target))
    marked = plain_read(stage, lambda prim: prim.HasAPI("NeuralAssetAPI"))
    return batch([plain_tokens(stage.GetPrimAtPath(path))[0] for path, _, _ in marked])


def file_write(target: Path, tokens: dict[str, dict[str, Tokens]]) -> None:
    """The values and points as they are, one after another."""
    arrays = {f"{path}/{name}": getattr(sets["appearance"], name) for path, sets in tokens.items() for name in FIELDS}
    safetensors.numpy.save_file(arrays, target)


def file_open(target: Path) -> np.ndarray:
    arrays = safetensors.numpy.load_file(target)
    return batch([array for name, array in arrays.items() if name.endswith("/values")])


def turns(repeat: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each, over runs that take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeat):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prims", 10_000), ("assets", 200), ("tokens", 784), ("width", 768), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if given.assets > given.prims // 5:
        parser.error(f"--assets {given.assets} need --prims {5 * given.assets} or more")
    rows: list[tuple[str, str, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.usdc"
        make_stage(shot, given.prims)
        stage = open_stage(shot)
        assets = len(read(stage).assets)
        if assets != len(plain_read(stage)):
            raise SystemExit("the two readers disagree on what there is")
        times = turns(given.repeat, lambda: read(stage), lambda: plain_read(stage))
        rows.append((f"read {len(list(stage.Traverse()))} prims, {assets} assets", "pxr", times[0], times[1]))

        tokens = make_tokens(given.assets, given.tokens, given.width)
        size = given.assets * given.tokens * given.width * 2 / 1e6
        ours, plain, file = (Path(folder) / name for name in ("ours.usdc", "plain.usdc", "plain.safetensors"))

        def write() -> None:
            ours.unlink(missing_ok=True)
            over = sidecar(shot, ours)
            write_tokens(over, tokens)
            save(over)

        def write_plain() -> None:
            plain.unlink(missing_ok=True)
            plain_write(shot, plain, tokens)

        what = f"{given.assets} x {given.tokens} x {given.width} halves, {size:.0f} MB"
        times = turns(given.repeat, write, write_plain, lambda: file_write(file, tokens))
        rows += [(f"write {what}", other, times[0], taken) for other, taken in zip(OTHERS, times[1:], strict=True)]

        works = (lambda: our_open(ours), lambda: plain_open(ours), lambda: file_open(file))
        if not np.array_equal(works[0](), works[1]()) or not np.array_equal(works[0](), works[2]()):
            raise SystemExit("the readers disagree on the tokens")
        times = turns(given.repeat, *works)
        rows += [(f"open and take in {what}", o, times[0], taken) for o, taken in zip(OTHERS, times[1:], strict=True)]
        times = turns(given.repeat, lambda: our_scene(ours), lambda: plain_scene(ours))
        rows.append(("the same, and the assets' places and boxes", "pxr", times[0], times[1]))
        written = open_stage(ours)
        prims = [prim for prim in written.Traverse() if prim.HasAPI("NeuralTokensAPI")]
        times = turns(given.repeat, lambda: [read_tokens(p) for p in prims], lambda: [plain_tokens(p) for p in prims])
        rows.append((f"tokens of {len(prims)} prims that are open, left in the file", "pxr", times[0], times[1]))

        scene = read(stage)
        seconds = turns(1, lambda: render_passes(stage, scene, 256, 256))[0]
    print(f"{'':54} {'neuralusd':>10} {'beside':>11} {'takes':>10} {'ratio':>6}")
    for name, other, mine, theirs in rows:
        print(f"{name:54} {mine:9.3f}s {other:>11} {theirs:9.3f}s {mine / theirs:6.2f}")
    print(f"{f'all passes of the {assets} assets at 256 x 256':54} {seconds:9.3f}s")
    print(f"{os.cpu_count()} cores, USD {'.'.join(map(str, Usd.GetVersion()))}")


if __name__ == "__main__":
    main()
