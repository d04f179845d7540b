"""Metrics, baselines and tables on a world where the answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neuralusd.evaluation import plots
from neuralusd.evaluation.baselines import copy_source, splat_source
from neuralusd.evaluation.control import COLUMNS, DIFFERENCE, ERROR, METRICS, evaluate_control
from neuralusd.evaluation.locality import evaluate_locality
from neuralusd.evaluation.lpips import load_lpips
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
    measured = {metric for metric in METRICS if "LPIPS" not in metric}
    assert set(table.rows["tiny"]) == measured
    off = table.rows["tiny, landing off"]
    assert set(off) == measured | {DIFFERENCE, ERROR}
    assert off[DIFFERENCE] == pytest.approx(off["PSNR"] - table.rows["tiny"]["PSNR"])
    assert table.rows["tiny"] != table.rows["tiny, landing off"]  # a part that is zeroed changes what is rendered
    text = markdown(table.rows, COLUMNS)
    assert "LPIPS" not in text
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


@pytest.fixture
def lpips_folder(tmp_path):
    """Random weights by the names of the published ones, at their channels."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    blocks, channels = [(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)], [64, 128, 256, 512, 512]
    lines, vgg, old = {}, {}, 3
    for number, (block, width) in enumerate(zip(blocks, channels, strict=True)):
        for index in block:
            vgg[f"features.{index}.weight"] = torch.randn(width, old, 3, 3) * (2 / (9 * old)) ** 0.5
            vgg[f"features.{index}.bias"] = torch.zeros(width)
            old = width
        lines[f"lin{number}.model.1.weight"] = torch.rand(1, width, 1, 1)
    save_file(vgg, tmp_path / "vgg16.safetensors")
    save_file(lines, tmp_path / "lpips.safetensors")
    return tmp_path


def test_lpips_with_weights_of_a_folder_grows_with_the_distortion_and_keeps_to_its_mask(lpips_folder):
    lpips = load_lpips(lpips_folder)
    truth = np.random.default_rng(0).random((32, 32, 3))
    noise = np.random.default_rng(1).random((32, 32, 3)) - 0.5
    assert lpips.distance(truth, truth) == 0
    little, much = (lpips.distance(np.clip(truth + s * noise, 0, 1), truth) for s in (0.1, 0.6))
    assert 0 < little < much
    left = truth.copy()
    left[:, :8] = 0
    mask = np.zeros((32, 32), bool)
    mask[:, :8] = True
    assert lpips.distance(left, truth, mask) > lpips.distance(left, truth, ~mask)
    assert np.isnan(lpips.distance(left, truth, np.zeros((32, 32), bool)))


def test_the_control_table_has_lpips_where_weights_are_at_hand(frames, pipe, lpips_folder):
    pairs = sample_pairs(frames, 2, seed=0)
    rows = evaluate_control({"tiny": pipe}, pairs, ablations=False, lpips=load_lpips(lpips_folder)).rows
    assert set(METRICS) <= set(rows["tiny"]) and rows["tiny"]["LPIPS"] > 0


def test_lpips_without_all_its_weights_is_refused(lpips_folder):
    (lpips_folder / "lpips.safetensors").unlink()
    with pytest.raises(ValueError, match="there is no lin0.model.1.weight"):
        load_lpips(lpips_folder)
    (lpips_folder / "broken.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="broken.safetensors cannot be read"):
        load_lpips(lpips_folder)


def test_a_table_leaves_out_columns_that_nothing_has_and_shows_notes():
    text = markdown({"a": {"PSNR": 1.0}, "b": {}}, ("PSNR", "LPIPS"), {"b": "weights not found"})
    assert text.splitlines() == ["| | PSNR |", "| --- | ---: |", "| a | 1.00 |", "| b | weights not found |"]


def test_plots_are_written(tmp_path):
    rows = {"a": {"x": 2.0, "y": 3.0}, "only x": {"x": 4.0}, "none": {}}
    plots.save(plots.scatter(rows, "x", "y", "title"), tmp_path / "scatter.png")
    plots.save(plots.bars({"kind": rows}, "x", "title"), tmp_path / "bars.png")
    plots.save(plots.lines(rows, ("x", "y"), "title", "dB"), tmp_path / "lines.png")
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())
