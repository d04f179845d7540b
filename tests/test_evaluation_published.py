"""The published models of Figure 8: each runs through its own diffusers pipeline, or says that it is not there."""

import dataclasses

import numpy as np
import pytest

from neuralusd.evaluation.diffusers_baselines import BASELINES, WeightsNotFound, load_baseline
from neuralusd.evaluation.object_edit import moving, rotating
from neuralusd.evaluation.pairs import Frame, Pair
from neuralusd.evaluation.reconstruction import COLUMNS, evaluate_reconstruction, inverse_rmse
from neuralusd.evaluation.renderer import Renderer
from neuralusd.evaluation.words import describe, instruct, motions
from tests.tiny_backend import tiny_pipeline
from tests.tiny_published import save_published
from tests.tiny_world import boxes_stage, frame


@pytest.fixture(scope="module")
def pair():
    stage = boxes_stage(0)
    source, target = (Frame("scene", *frame(stage, time, 32)) for time in (1, 3))
    return Pair(source, target)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return save_published(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("name", BASELINES)
def test_each_runs_through_its_own_pipeline_from_a_folder(name, published, pair):
    model = load_baseline(name, published[name], steps=2)
    functions = [(model.reconstruct, pair.source), (model.control, pair)]
    made = [function(given, 0) for function, given in functions if function is not None]
    assert made and all(image.shape == (32, 32, 3) and np.isfinite(image).all() for image in made)
    again = [function(given, 0) for function, given in functions if function is not None]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_what_each_is_told_reaches_its_picture(published, pair):
    passes = dataclasses.replace(pair.source.passes, depth=pair.source.passes.depth[:, ::-1].copy())
    mirrored = dataclasses.replace(pair.source, passes=passes)
    for name in ("controlnet", "t2i-adapter"):
        by_depth = load_baseline(name, published[name], steps=2).reconstruct
        assert not np.array_equal(by_depth(pair.source, 0), by_depth(mirrored, 0))
    edit = load_baseline("3dit", published["3dit"], steps=2)
    assert not np.array_equal(edit.reconstruct(pair.source, 0), edit.control(pair, 0))


def test_the_table_runs_what_is_there_and_says_what_is_not(published, pair):
    named = {"sd21": published["sd21"], "instruct-pix2pix": published["instruct-pix2pix"], "3dit": None}
    renderers = {"tiny": Renderer(tiny_pipeline())}
    table = evaluate_reconstruction(renderers, [pair], published=named, published_steps=2)
    assert set(table.rows["tiny"]) == set(COLUMNS)
    assert set(table.rows["copy source"]) == {"controllability"}  # it would be exact, which is no measure
    assert set(table.rows["Stable Diffusion 2.1"]) == {"reconstruction"}
    assert set(table.rows["InstructPix2Pix"]) == {"controllability"}
    assert "OBJect 3DIT" not in table.rows
    assert table.notes["OBJect 3DIT"].startswith("weights not found")


def test_a_model_that_is_not_at_hand_is_never_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFound, match="stabilityai/stable-diffusion-2-1"):
        load_baseline("sd21")


def test_a_folder_that_was_named_and_is_no_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no folder /nowhere/sd"):
        load_baseline("sd21", "/nowhere/sd")
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be loaded as Stable Diffusion 2.1"):
        load_baseline("sd21", str(tmp_path))
    with pytest.raises(ValueError, match="there is no baseline 'dalle'"):
        load_baseline("dalle")


def test_one_over_rmse_of_a_known_error():
    truth = np.zeros((4, 4, 3))
    assert inverse_rmse([truth + 0.1, truth + 0.1], [truth, truth]) == pytest.approx(10)
    assert inverse_rmse([truth], [truth]) == float("inf")


def test_scenes_and_their_differences_are_said_in_words(pair):
    assert describe(pair.source) == "a box and a box in a room"
    assert instruct(Pair(pair.source, pair.source)) == "leave everything as it is"
    moved = motions(pair)
    assert len(moved) == 2 and all(np.hypot(*m.target) > 0 for m in moved)
    assert "the box" in instruct(pair)
    # The camera went round by half a radian, counter-clockwise; what stands still turns the other way before it.
    still = next(m for m in moved if abs(m.degrees + np.degrees(0.5)) < 0.1)
    assert still.turns


def test_the_numbers_of_3dit():
    assert moving(0.25, 0.75) == (0.0, 0.25, 0.75, 0.0)
    assert rotating(90) == pytest.approx((np.pi / 2, 1.0, 0.0, 0.0))
