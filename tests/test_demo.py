"""`make demo`: five pictures in which the right thing changes and the rest stays, by the weights that ship."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from pxr import Sdf

from neuralusd import stage as stages
from neuralusd.demo import EDITS, run_demo
from neuralusd.demo.figure import ARMCHAIR
from neuralusd.demo.frames import SIZE
from neuralusd.images import read_provenance
from neuralusd.pipelines.compositing import footprint

WIDTH, HEIGHT = SIZE


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    return folder, run_demo(folder, say=lines.append), lines


def picture(folder, number):
    return np.asarray(PIL.Image.open(next(folder.glob(f"{number}_*.png"))), np.float32) / 255


def test_there_are_five_pictures_and_a_sheet(demo):
    folder, pictures, lines = demo
    assert [p.name for p in pictures] == [f"{i}_{e.name}.png" for i, e in enumerate(EDITS, 1)] + ["figure1.png"]
    assert all(picture(folder, number).shape == (HEIGHT, WIDTH, 3) for number in range(1, 6))
    assert len(lines) >= 5 and read_provenance(pictures[1])["held"]


def test_every_edit_is_a_layer_over_the_last(demo):
    folder, _, _ = demo
    for number in range(2, 6):
        layer = Sdf.Layer.FindOrOpen(str(next(folder.glob(f"{number}_*.usda"))))
        assert layer.subLayerPaths[0] == "./" + next(folder.glob(f"{number - 1}_*.usda")).name


def test_the_original_looks_like_its_source(demo):
    folder, _, _ = demo
    source = np.asarray(PIL.Image.open(folder / "room.jpg").convert("RGB"), np.float32) / 255
    assert np.sqrt(np.square(picture(folder, 1) - source).mean()) < 0.06


@pytest.mark.parametrize("number", [2, 3, 4])
def test_an_object_edit_changes_its_footprint_alone(demo, number):
    folder, _, _ = demo
    before, after = (stages.open_stage(next(folder.glob(f"{n}_*.usda"))) for n in (number - 1, number))
    where = footprint(*(stages.read(s, aspect=WIDTH / HEIGHT) for s in (before, after)), HEIGHT, WIDTH)
    old, new = picture(folder, number - 1), picture(folder, number)
    assert 0.02 < where.mean() < 0.5
    assert np.array_equal(old[~where], new[~where])
    assert np.abs(old[where] - new[where]).mean() > 0.02


def test_the_armchair_takes_the_vases_colour(demo):
    folder, _, _ = demo
    stage = stages.open_stage(next(folder.glob("3_*.usda")))
    scene = stages.read(stage, aspect=WIDTH / HEIGHT)
    h, w, _ = scene.camera.project(scene.asset(ARMCHAIR).corners()).mean(0)
    region = np.s_[int(h * HEIGHT) - 24 : int(h * HEIGHT) + 24, int(w * WIDTH) - 24 : int(w * WIDTH) + 24]
    was, now = picture(folder, 2)[region].mean((0, 1)), picture(folder, 3)[region].mean((0, 1))
    assert was[2] > was[0] and now[0] > 1.2 * now[2]  # from blue to terracotta and cream


def test_the_background_edit_changes_the_room(demo):
    folder, _, _ = demo
    corner = np.s_[HEIGHT - 40 :, :160]
    assert np.abs(picture(folder, 4)[corner] - picture(folder, 5)[corner]).mean() > 0.06
