"""The stages that come along: real geometry that any USD program draws, small, installed, and made by rules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pxr import Usd, UsdGeom

from neuralusd import stage as stages
from neuralusd.demo.frames import ROOMS, SIZE, STAGES
from neuralusd.demo.room import write_stages

PROJECT = Path(__file__).parents[1]
NAMES = (*ROOMS, "character")
# What a program that knows nothing of neuralusd says of a stage: what it draws, how large, and what is wrong.
PLAIN = """
import json, sys
from pxr import Usd, UsdGeom, UsdValidation
stage = Usd.Stage.Open(sys.argv[1])
drawn = [str(p.GetPath()) for p in stage.Traverse() if p.IsA(UsdGeom.Gprim)]
box = UsdGeom.BBoxCache(Usd.TimeCode.EarliestTime(), [UsdGeom.Tokens.default_])
bounds = {str(p.GetPath()): list(box.ComputeWorldBound(p).ComputeAlignedRange().GetSize())
          for p in stage.GetDefaultPrim().GetChildren() if p.IsModel()}
context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
errors = [f"{error.GetName()}: {error.GetMessage()}" for error in context.Validate(stage)]
print(json.dumps({"drawn": drawn, "bounds": bounds, "errors": errors}))
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_program_without_neuralusd_draws_it_and_finds_nothing_wrong(name):
    pytest.importorskip("pxr.UsdValidation")
    command = [sys.executable, "-c", PLAIN, str(STAGES / f"{name}.usda")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["errors"] == []
    assert len(found["drawn"]) >= 10
    assert all(max(size) > 0.1 and min(size) > 0 for size in found["bounds"].values())


@pytest.mark.parametrize("name", NAMES)
def test_its_objects_are_found_and_stand_on_the_floor(name):
    stage = stages.open_stage(STAGES / f"{name}.usda")
    scene = stages.read(stage)
    assert scene.background.path == "/World/Room"
    assert scene.camera.path == "/World/Camera"
    assert len(scene.foreground) >= 1
    for asset in scene.foreground:
        low, high = asset.corners().min(0), asset.corners().max(0)
        assert low[2] > -0.01 and high[2] < 2.65
        assert 0.02 < np.ptp(asset.corners(), axis=0).max() < 3


@pytest.mark.parametrize("name", NAMES)
def test_its_picture_is_of_its_size_and_shows_each_thing_where_it_is(name):
    picture = PIL.Image.open(STAGES / f"{name}.jpg")
    assert picture.size == SIZE
    width, height = SIZE[0] // 2, SIZE[1] // 2
    stage = stages.open_stage(STAGES / f"{name}.usda")
    scene = stages.read(stage, aspect=width / height)
    passes = stages.render_passes(stage, scene, height, width)
    lit = np.asarray(picture.convert("L").resize((width, height), PIL.Image.Resampling.BOX), np.float32)
    # Light and shadow differ from plain colours, but each thing's edges are where its edges are.
    edges = [np.hypot(*np.gradient(image)) for image in (lit, passes.color.mean(2) * 255)]
    for index, asset in enumerate(scene.assets):
        rows, columns = np.nonzero(passes.ids == index)
        box = np.s_[max(rows.min() - 3, 0) : rows.max() + 4, max(columns.min() - 3, 0) : columns.max() + 4]
        assert np.corrcoef(edges[0][box].ravel(), edges[1][box].ravel())[0, 1] > 0.3, asset.path


def test_the_files_are_small():
    files = [path for path in STAGES.rglob("*") if path.is_file()]
    pictures = [path for path in files if path.parent == STAGES and path.suffix == ".jpg"]
    assert {path.stem for path in pictures} == set(NAMES)
    assert max(path.stat().st_size for path in pictures) < 150_000
    assert sum(path.stat().st_size for path in files if path not in pictures) < 1_000_000


def test_a_wheel_holds_them(monkeypatch):
    pytest.importorskip("setuptools")  # which brings distutils where Python has it no more
    from distutils.core import run_setup

    monkeypatch.chdir(PROJECT)
    build = run_setup("setup.py", stop_after="init").get_command_obj("build_py")
    build.ensure_finalized()
    held = {Path(package.replace(".", "/")) / name for package, _, _, names in build.data_files for name in names}
    files = {path.relative_to(PROJECT) for path in STAGES.rglob("*") if path.is_file()}
    assert files and files <= held


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    write_stages(folder)
    return folder


def test_the_rules_make_the_same_stages(anew):
    files = sorted(path.relative_to(anew) for path in anew.rglob("*.usd?"))
    assert files == sorted(path.relative_to(STAGES) for path in STAGES.rglob("*.usd?"))
    for file in files:
        old, new = (Usd.Stage.Open(str(folder / file), Usd.Stage.LoadNone) for folder in (STAGES, anew))
        before, after = (contents(stage) for stage in (old, new))
        assert before.keys() == after.keys(), file
        for name, value in before.items():
            same(value, after[name], f"{file} {name}")


def test_the_rules_make_the_same_textures(anew):
    files = sorted(path.name for path in (anew / "textures").iterdir())
    assert files == sorted(path.name for path in (STAGES / "textures").iterdir())
    for file in files:
        old, new = (np.asarray(PIL.Image.open(folder / "textures" / file), float) for folder in (STAGES, anew))
        assert old.shape == new.shape
        assert np.abs(old - new).mean() < 1, file


def contents(stage):
    """What the root layer of a stage says: kinds and types of prims, values, samples and targets."""
    found = {}
    for spec in stage.GetRootLayer().rootPrims:
        pending = [spec]
        while pending:
            prim = pending.pop()
            pending += prim.nameChildren
            found[prim.path] = (prim.typeName, prim.kind, str(prim.GetInfo("references")))
            for attribute in prim.attributes:
                samples = stage.GetRootLayer().QueryTimeSample
                times = stage.GetRootLayer().ListTimeSamplesForPath(attribute.path)
                found[attribute.path] = [attribute.default, *(samples(attribute.path, time) for time in times)]
            for relationship in prim.relationships:
                found[relationship.path] = str(relationship.targetPathList)
    return found


def same(old, new, where):
    if not isinstance(old, list):
        assert old == new, where
        return
    assert len(old) == len(new), where
    for a, b in zip(old, new, strict=True):
        one, other = np.asarray(a), np.asarray(b)
        if one.dtype.kind == "f":
            assert one.shape == other.shape and np.allclose(one, other, atol=1e-4), where
        else:
            assert a == b, where


def test_the_figures_arm_goes_up():
    stage = stages.open_stage(STAGES / "character.usda")
    tops = []
    for time in (1.0, 12.0, 24.0):
        scene = stages.read(stage, time=time)
        tops.append(scene.asset("/World/Character").corners()[:, 2].max())
    assert tops[0] < tops[1] < tops[2] and tops[2] - tops[0] > 0.15
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (1, 24)
