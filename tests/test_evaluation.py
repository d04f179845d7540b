"""Metrics, baselines and tables on a world where the answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neuralusd.evaluation.baselines import copy_source, splat_source
from neuralusd.evaluation.control import METRICS, evaluate_control
from neuralusd.evaluation.locality import evaluate_locality
from neuralusd.evaluation.metrics import psnr, ssim
from neuralusd.evaluation.pairs import Frame, sample_pairs, with_tokens
from neuralusd.evaluation.report import contact_sheet, markdown
from tests.tiny_backend import tiny_pipeline
from tests.tiny_world import boxes_stage, frame


@pytest.fixture(scope="module")
def frames():
    return [
        Frame(f"scene{seed}", *frame(stage, time, 32))
        for seed in range(2)
        for stage in [boxes_stage(seed)]
        for time in (1, 2, 3)
    ]


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def test_psnr_of_a_known_error():
    truth = np.zeros((8, 8, 3))
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    half = truth.copy()
    half[4:] = 1
    assert psnr(half, truth, mask) == pytest.approx(100) and psnr(half, truth, ~mask) == pytest.approx(0)
    assert np.isnan(psnr(truth, truth, np.zeros((8, 8), bool)))


def test_ssim_is_one_for_the_truth_and_less_for_noise():
    truth = np.random.default_rng(0).random((32, 32, 3))
    assert ssim(truth, truth) == pytest.approx(1)
    assert ssim(truth[::-1], truth) < 0.3


def test_pairs_are_different_frames_of_one_scene(frames):
    pairs = sample_pairs(frames, 20, seed=0)
    assert all(pair.source.name == pair.target.name and pair.source is not pair.target for pair in pairs)
    assert {pair.source.name for pair in pairs} == {"scene0", "scene1"}
    again = sample_pairs(frames, 20, seed=0)
    assert [id(p.source) for p in pairs] == [id(p.source) for p in again]
    with pytest.raises(ValueError, match="two frames"):
        sample_pairs(frames[:1], 1, seed=0)


def test_the_splat_is_nearer_than_the_copy(frames):
    pairs = sample_pairs(frames, 8, seed=0)
    copied, splat = (np.mean([psnr(f(p), p.truth) for p in pairs]) for f in (copy_source, splat_source))
    assert splat > copied + 1


def test_a_pairs_tokens_come_from_its_source(frames, pipe):
    pair = sample_pairs(frames, 1, seed=0)[0]
    scene = with_tokens(pipe, pair)
    box = scene.asset("/World/Box0")
    assert box.tokens["appearance"].view == pytest.approx(
        pair.source.scene.asset("/World/Box0").local_to_world @ pair.source.scene.camera.world_to_camera
    )
    assert box.local_to_world == pytest.approx(pair.target.scene.asset("/World/Box0").local_to_world)


def test_the_table_has_a_row_for_each_part_zeroed(frames, pipe):
    table = evaluate_control({"tiny": pipe}, sample_pairs(frames, 3, seed=0), batch_size=2, shown=2)
    assert list(table.rows)[:2] == ["copy source", "depth splat, holes from source"]
    assert "tiny, appearance zeroed" in table.rows and "tiny, landing off" in table.rows
    assert all(set(METRICS) == set(row) for name, row in table.rows.items() if name != "(truth)")
    assert table.rows["tiny"] != table.rows["tiny, landing off"]  # a part that is zeroed changes what is rendered
    text = markdown(table.rows, METRICS)
    assert text.count("\n") == len(table.rows)
    assert contact_sheet(table.images).size[0] == 2 * 32


def test_held_edits_change_nothing_outside(frames, pipe):
    rows = evaluate_locality(pipe, frames[:2])
    assert rows["held"]["PSNR outside"] == pytest.approx(99)
    assert rows["not held"]["PSNR outside"] < 60
    nothing = [
        dataclasses.replace(f, passes=dataclasses.replace(f.passes, ids=np.full((32, 32), -1))) for f in frames[:1]
    ]
    assert evaluate_locality(pipe, nothing) == {}
