"""What a picture of a stage costs, and an edit of it, beside plain pxr, trimesh's own rays and the splat of pixels.

python benchmarks/render.py [--stage FILE] [--asset PATH] [--size 128 512 1920x1080] [--backend mini] [--repeat 3]

The stage is the demo's room, encoded from its picture; any other is encoded from its own base colours, in a copy. An
edit moves one object (the first, unless --asset names one) a little, each time, and keeps the rest of the image before
it. Rows are the fastest of some runs, but for the first, of which there is only one; runs of different rows take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh
from pxr import Usd, UsdGeom
from trimesh.ray.ray_pyembree import RayMeshIntersector

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import edit_over
from neuralusd.backends import load_backend
from neuralusd.demo.figure import CHAIR
from neuralusd.demo.frames import copy_stages
from neuralusd.evaluation.baselines import splat_source
from neuralusd.evaluation.pairs import Frame, Pair
from neuralusd.models.lookup import look_up

STEP = 0.002


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_read(stage: Usd.Stage) -> None:
    """The least that a renderer of a stage's meshes does with pxr alone: points, topology and place of each."""
    cache = UsdGeom.XformCache()
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if mesh := UsdGeom.Mesh(prim):
            np.asarray(mesh.GetPointsAttr().Get())
            np.asarray(mesh.GetFaceVertexIndicesAttr().Get())
            cache.GetLocalToWorldTransform(prim)


def soup(stage: Usd.Stage) -> trimesh.Trimesh:
    """All triangles of a stage in world space, as one mesh."""
    points, faces, count = [], [], 0
    for piece in stages.gather_meshes(stage):
        points.append(piece.mesh.points @ piece.local_to_world[:3, :3] + piece.local_to_world[3, :3])
        faces.append(piece.mesh.triangles + count)
        count += len(piece.mesh.points)
    return trimesh.Trimesh(np.concatenate(points), np.concatenate(faces), process=False)


class Case:
    """An encoded stage, an edit of it, and the work that is measured at one size."""

    def __init__(self, encoded: Path, folder: Path, asset: str | None, size: tuple[int, int], backend: str):
        self.width, self.height = size
        self.backend = backend
        self.stage = stages.open_stage(encoded)
        self.scene = stages.read(self.stage, None, None, self.width / self.height)
        self.asset = asset or self.scene.foreground[0].path
        self.edited = edit_over(encoded, folder / f"edit{self.width}x{self.height}.usda")
        self.mesh = soup(self.stage)
        self.rays = RayMeshIntersector(self.mesh)
        origins, directions = self.scene.camera.rays(self.height, self.width)
        self.origins, self.directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
        self.first = timed(self.surfaces)
        self.before = neuralusd.render(self.stage, size=size, backend=backend)

    def move(self) -> None:
        neuralusd.edit(self.edited, move={self.asset: (STEP, 0.0, 0.0)})

    def surfaces(self) -> None:
        scene = stages.read(self.edited, self.scene.camera.path or None, None, self.width / self.height)
        scene.camera = self.scene.camera
        self.made = stages.render_gbuffer(self.edited, scene, self.height, self.width)
        self.found = scene

    def passes_and_lookup(self) -> None:
        self.surfaces()
        look_up(self.found, self.made)

    def render(self) -> None:
        neuralusd.render(
            self.edited, size=(self.width, self.height), backend=self.backend, before=self.stage,
            before_image=self.before,
        )  # fmt: skip

    def cast(self) -> None:
        self.rays.intersects_first(self.origins, self.directions)

    def build_and_cast(self) -> None:
        RayMeshIntersector(self.mesh).intersects_first(self.origins, self.directions)

    def splat(self) -> Callable[[], object] | None:
        """Of a square image: the splat of its pixels, each with its depth."""
        if self.width != self.height:
            return None
        seen = stages.render_passes(self.stage, self.scene, self.height, self.width, color=False)
        frame = Frame("stage", self.scene, replace(seen, color=np.asarray(self.before, np.float32) / 255))
        moved = Pair(frame, replace(frame, scene=stages.read(self.edited, None, None, 1.0)))
        return lambda: splat_source(moved)


def measure(case: Case, repeat: int) -> list[tuple[str, float]]:
    rows: dict[str, Callable[[], object] | None] = {
        "plain pxr: read all meshes": lambda: plain_read(case.stage),
        "trimesh's rays, one a pixel": case.cast,
        "the same, its tree made": case.build_and_cast,
        "splat of the picture's pixels": case.splat(),
        "surfaces of an edit": case.surfaces,
        "surfaces of an edit and look-up": case.passes_and_lookup,
        "the edit's image": case.render,
    }
    times: dict[str, list[float]] = {name: [] for name, work in rows.items() if work is not None}
    for _ in range(repeat + 1):
        for name in times:
            case.move()
            work = rows[name]
            assert work is not None
            times[name].append(timed(work))
    # The first of each warms up.
    return [("surfaces, the first time", case.first), *((name, min(found[1:])) for name, found in times.items())]


def encoded_room(folder: Path, backend: str) -> Path:
    [shot] = copy_stages(folder, ["room"])
    stage = stages.sidecar(shot)
    neuralusd.encode(stage, image=shot.with_suffix(".jpg"), backend=backend)
    return stages.save(stage)


def encoded_copy(file: str, folder: Path, backend: str) -> Path:
    stage = Usd.Stage.CreateNew(str(folder / "copy.usdc"))
    below = Usd.Stage.Open(file)
    stage.GetRootLayer().subLayerPaths.append(os.path.abspath(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.GetStageUpAxis(below))
    UsdGeom.SetStageMetersPerUnit(stage, UsdGeom.GetStageMetersPerUnit(below))
    neuralusd.encode(stage, backend=backend, size=1024)
    stage.GetRootLayer().Save()
    return folder / "copy.usdc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage")
    parser.add_argument("--asset")
    parser.add_argument("--size", nargs="+", default=["128x128", "512x512", "1920x1080"])
    parser.add_argument("--backend", default="mini")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    load_backend(given.backend)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asset = given.asset or (None if given.stage else CHAIR)
        encoded = (
            encoded_copy(given.stage, folder, given.backend) if given.stage else encoded_room(folder, given.backend)
        )
        print(f"| {Path(given.stage).name if given.stage else 'the room of the demo'} | seconds | of trimesh's rays |")
        print("| --- | --- | --- |")
        for text in given.size:
            width, height = (int(part) for part in text.split("x"))
            rows = measure(Case(encoded, folder, asset, (width, height), given.backend), given.repeat)
            rays = dict(rows)["trimesh's rays, one a pixel"]
            for row, seconds in rows:
                print(f"| {text}: {row} | {seconds:.3f} | {seconds / rays:.2f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{os.cpu_count()} cores; at most {peak:.1f} GB of memory")


if __name__ == "__main__":
    main()
