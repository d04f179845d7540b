"""How long stages take to read and tokens to write, beside a loop in plain pxr that does the least for the same result.

python benchmarks/stage.py [--prims 10000] [--assets 200] [--tokens 784] [--width 768] [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pxr import Gf, Kind, Sdf, Usd, UsdGeom

from neuralusd.scene import Tokens
from neuralusd.stage import open_stage, read, render_passes, save, sidecar, write_tokens


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


def plain_read(stage: Usd.Stage) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Path, transform and box of every component, and nothing more, as a script would read them."""
    transforms, out = UsdGeom.XformCache(), []
    boxes = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
    for prim in stage.Traverse():
        if Usd.ModelAPI(prim).GetKind() != Kind.Tokens.component:
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
            prim.GetAttribute(prefix + "viewTransform").Set(Gf.Matrix4d(given.view.tolist()))
    layer.Save()


def plain_open(target: Path) -> float:
    """Opens the tokens that were written and looks at each one."""
    stage = Usd.Stage.Open(str(target))
    total = 0.0
    for prim in stage.Traverse():
        if prim.HasAPI("NeuralTokensAPI", "appearance"):
            shape = prim.GetAttribute("neural:tokens:appearance:shape").Get()
            values = np.asarray(prim.GetAttribute("neural:tokens:appearance:values").Get()).reshape(*shape)
            total += float(values[0, 0])
    return total


def best(work: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prims", 10_000), ("assets", 200), ("tokens", 784), ("width", 768), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if given.assets > given.prims // 5:
        parser.error(f"--assets {given.assets} need --prims {5 * given.assets} or more")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.usdc"
        make_stage(shot, given.prims)
        stage = open_stage(shot)
        assets = len(read(stage).assets)
        if assets != len(plain_read(stage)):
            raise SystemExit("the two readers disagree on what there is")
        ours, plain = best(lambda: read(stage), given.repeat), best(lambda: plain_read(stage), given.repeat)
        rows.append((f"read {len(list(stage.Traverse()))} prims, {assets} assets", ours, plain))

        tokens = make_tokens(given.assets, given.tokens, given.width)
        size = given.assets * given.tokens * given.width * 2 / 1e6
        numbers = iter(range(10_000))

        def write() -> None:
            over = sidecar(shot, Path(folder) / f"ours{next(numbers)}.usdc")
            write_tokens(over, tokens)
            save(over)

        ours = best(write, given.repeat)
        plain = best(lambda: plain_write(shot, Path(folder) / f"plain{next(numbers)}.usdc", tokens), given.repeat)
        rows.append((f"write {given.assets} x {given.tokens} x {given.width} halves, {size:.0f} MB", ours, plain))

        written = sorted(Path(folder).glob("ours*.usdc"))[0]
        ours = best(lambda: read(open_stage(written)), given.repeat)
        plain = best(lambda: plain_open(written), given.repeat)
        rows.append((f"open and read {given.assets} assets with tokens", ours, plain))

        scene = read(stage)
        seconds = best(lambda: render_passes(stage, scene, 256, 256), 1)
    print(f"{'':50} {'neuralusd':>10} {'plain pxr':>10} {'ratio':>6}")
    for name, ours, plain in rows:
        print(f"{name:50} {ours:9.3f}s {plain:9.3f}s {ours / plain:6.2f}")
    print(f"{f'all passes of the {assets} assets at 256 x 256':50} {seconds:9.3f}s")
    print(f"{os.cpu_count()} cores, USD {'.'.join(map(str, Usd.GetVersion()))}")


if __name__ == "__main__":
    main()
