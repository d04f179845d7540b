"""`neuralusd eval --part lift`: measures and rows on shapes whose answers are known, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from neuralusd.cli import main
from neuralusd.datasets.world import open_world
from neuralusd.evaluation import lifts
from neuralusd.evaluation.lifts import CHAMFER, IOU, PSNR, evaluate_lifts, summarize
from neuralusd.evaluation.lifts_align import by_camera
from neuralusd.evaluation.lifts_cases import plan_case, read_cases, read_model
from neuralusd.evaluation.lifts_hull import visual_hull
from neuralusd.evaluation.lifts_retrieval import picture_feature, picture_index
from neuralusd.evaluation.lifts_rows import HullRow, LifterRow, RetrievalRow, TruthRow
from neuralusd.evaluation.point_clouds import (
    Distances,
    coverage,
    matching_distance,
    outer_points,
    register,
)
from neuralusd.lifting import open_lifter
from neuralusd.scene import Camera
from tests.orbit_world import write_orbits
from tests.tiny_lifter import BlockLifter


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_orbits(tmp_path_factory.mktemp("orbits") / "world")


@pytest.fixture(scope="module")
def chair(world):
    return read_model(open_world(world, "held_out_models")[0])


# -- points -----------------------------------------------------------------------------------------------------------


def test_distances_of_points_that_are_known():
    line = np.stack([np.arange(10.0), np.zeros(10), np.zeros(10)], 1)
    beside = line + [0, 0.3, 0]
    distances = Distances.between(line, beside)
    assert distances.chamfer == pytest.approx(20 * 0.09) and distances.mean == pytest.approx(0.3)
    assert distances.f_score(0.2) == 0 and distances.f_score(0.4) == 1
    half = Distances.between(line[:5], line)  # all of it is right, and half of the truth is there
    assert half.f_score(0.1) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert half.mean == pytest.approx((1 + 2 + 3 + 4 + 5) / 10 / 2)
    with pytest.raises(ValueError, match="empty"):
        Distances.between(line, np.empty((0, 3)))


def test_coverage_and_matching_distance_are_those_of_the_equations():
    def cloud(x):
        return np.array([[x, 0.0, 0.0], [x, 1.0, 0.0]])

    references = [cloud(0), cloud(10), cloud(20), cloud(30)]
    same = [cloud(0.1), cloud(9.9)]
    assert coverage(references, references) == 1 and matching_distance(references, references) == 0
    assert coverage(same, references) == 0.5
    # Both points of both clouds: four times the squared distance to the nearest generated one.
    assert matching_distance(same, references) == pytest.approx(4 * (0.01 + 0.01 + 10.1**2 + 20.1**2) / 4)
    assert coverage([cloud(0)] * 5, references) == 0.25  # one mode, however often


def test_points_are_taken_of_what_is_seen_from_outside():
    box, inner = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((0.6, 0.6, 0.6))
    both = trimesh.util.concatenate([box, inner])
    points = outer_points(both.vertices + 1e4, both.faces, 2000) - 1e4
    assert points.shape == (2000, 3)
    assert np.abs(points).max(1) == pytest.approx(0.5, abs=1e-3)
    assert np.array_equal(outer_points(both.vertices, both.faces, 50), outer_points(both.vertices, both.faces, 50))
    with pytest.raises(ValueError, match="no surface"):
        outer_points(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10)


def test_registration_finds_a_small_similarity_and_never_makes_it_worse():
    mesh = trimesh.util.concatenate(
        [trimesh.creation.box((1, 0.5, 0.2)), trimesh.creation.icosphere(radius=0.3).apply_translation((0.4, 0.3, 0.4))]
    )
    truth, points = (outer_points(mesh.vertices, mesh.faces, 2000, seed) for seed in (0, 1))
    turn = trimesh.transformations.euler_matrix(0.1, 0.15, -0.1)[:3, :3]
    moved = 1.15 * points @ turn + [0.08, -0.05, 0.04]
    matrix = register(moved, truth)
    found = moved @ matrix[:3, :3] + matrix[3, :3]
    noise = Distances.between(points, truth).mean
    assert Distances.between(moved, truth).mean > 3 * noise
    assert Distances.between(found, truth).mean < 1.2 * noise
    assert np.cbrt(np.linalg.det(matrix[:3, :3])) == pytest.approx(1 / 1.15, rel=0.03)
    other = np.random.default_rng(0).random((2000, 3))
    matrix = register(other, truth)
    after = Distances.between(other @ matrix[:3, :3] + matrix[3, :3], truth).mean
    assert after <= Distances.between(other, truth).mean


# -- a case -----------------------------------------------------------------------------------------------------------


def test_the_lifted_view_is_three_quarter_and_the_others_are_around_it(chair):
    case = plan_case(chair)
    toward = chair.toward()
    azimuth = np.degrees(np.arctan2(toward[:, 1], toward[:, 0]))
    assert -150 < azimuth[case.given[0]] < -30
    assert len(set(case.given)) == 4 and not set(case.given) & set(case.unseen)
    assert len(case.given) + len(case.unseen) == len(chair.views)
    cutout = case.picture.cutout()
    assert cutout.label == "" and cutout.source == ""  # a lifter is told nothing but the picture
    with pytest.raises(ValueError, match="6 are the fewest"):
        plan_case(replace(chair, views=chair.views[:3]))


def test_the_true_mesh_is_what_its_pictures_show(chair):
    assert chair.longest == pytest.approx(1.0)
    for view in chair.views:
        color, depth = chair.solid.see(view.camera, *view.mask.shape)
        assert ((np.isfinite(depth)) == view.mask).mean() > 0.99
        both = np.isfinite(depth) & view.mask
        assert np.median(np.abs(depth[both] - view.depth[both])) < 1e-3
        assert np.median(np.abs(color - view.color)[both]) < 0.1


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_a_lift_comes_to_where_its_camera_saw_it(chair, projection):
    """The true shape, in a space that is turned, moved and three times as large, is brought back."""
    case = plan_case(chair)
    matrix = np.eye(4)
    matrix[:3, :3] = 3 * trimesh.transformations.euler_matrix(0.4, 1.0, 2.0)[:3, :3]
    matrix[3, :3] = (5, -2, 1)
    moved = chair.solid.placed(matrix)
    camera = case.picture.camera
    pose = np.linalg.inv(matrix) @ camera.world_to_camera @ np.diag([3, 3, 3, 1])
    view = replace(camera, world_to_camera=pose)
    if projection == "orthographic":
        distance = np.linalg.norm(np.linalg.inv(pose)[3, :3] - moved.placed_points.mean(0))
        width = float(camera.horizontal_aperture / camera.focal_length * distance)
        view = Camera(pose, horizontal_aperture=width, vertical_aperture=width, projection="orthographic")
    placed = by_camera(moved, view, camera, case.picture.depth)
    error = np.linalg.norm(placed.placed_points - chair.solid.placed_points, axis=1).max() / chair.longest
    assert error < (1e-3 if projection == "perspective" else 0.1)
    # A lift that is twice as far away and twice as large looks the same, and is put in the same place.
    if projection == "perspective":
        eye = np.linalg.inv(pose)[3, :3]
        double = np.diag([2.0, 2.0, 2.0, 1.0])
        double[3, :3] = -eye
        again = by_camera(moved.placed(double), view, camera, case.picture.depth)
        assert np.allclose(again.placed_points, placed.placed_points, atol=1e-3)


def test_more_outlines_carve_nearer_to_the_truth(chair):
    case = plan_case(chair)
    truth = outer_points(chair.points, chair.faces, 3000)
    errors = []
    for count in (1, 4, 8):
        hull = visual_hull(chair, range(8) if count == 8 else case.given[:count], cells=32)
        assert np.abs((hull.placed_points - chair.cube[3, :3]) / chair.half).max() < 1.05
        errors.append(Distances.between(outer_points(hull.placed_points, hull.faces, 3000), truth).mean)
    assert errors[0] > errors[1] > errors[2]


def test_a_model_is_retrieved_by_its_picture(world, tmp_path):
    train = open_world(world, "train")
    index = picture_index(train, tmp_path)
    for case in read_cases(list(open_world(world, "held_out_models"))):
        name, frame = index.nearest(picture_feature(case.picture.color, case.picture.mask))
        assert name == case.model.name.replace("_b", "_a")
        assert frame == case.given[0] + 1  # the same model, so the same view of it
    again = picture_index(train, tmp_path)
    assert np.array_equal(again.features, index.features) and again.frames == index.frames


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_truth_is_the_ceiling_and_what_is_the_same_model_comes_near_it(world, tmp_path):
    train = open_world(world, "train")
    rows = [
        LifterRow("silhouette", open_lifter("silhouette"), 0),
        RetrievalRow(picture_index(train, tmp_path), train),
        HullRow(1),
        TruthRow(),
    ]
    cases = list(read_cases([open_world(world, "held_out_models")[0]]))
    [found] = evaluate_lifts(cases, rows, tmp_path / "cache")
    truth, retrieved = found.rows["(truth)"].scores, found.rows["retrieval"]
    assert retrieved.note == "chair_a"
    assert truth[CHAMFER] < 1 and truth[IOU] > 0.95 and truth["F 2 %"] > 95
    assert retrieved.scores[CHAMFER] == pytest.approx(truth[CHAMFER], abs=0.1)
    for name in ("silhouette", "visual hull, 1 picture"):
        scores = found.rows[name].scores
        assert scores[CHAMFER] > 2 * truth[CHAMFER] and scores[IOU] < truth[IOU] and scores[PSNR] < truth[PSNR]
        assert scores[CHAMFER + lifts.ALIGNED] <= scores[CHAMFER]
    assert found.rows["silhouette"].seconds > 0


def test_what_is_measured_is_not_measured_again(world, tmp_path, monkeypatch):
    rows = [LifterRow("silhouette", open_lifter("silhouette"), 0), TruthRow()]
    cases = list(read_cases([open_world(world, "held_out_categories")[0]]))
    [before] = evaluate_lifts(cases, rows, tmp_path)
    monkeypatch.setattr(LifterRow, "_lift", lambda *_: pytest.fail("it was lifted again"))
    monkeypatch.setattr(lifts, "_measured", lambda *_: pytest.fail("it was measured again"))
    [after] = evaluate_lifts(cases, rows, tmp_path)
    assert after.rows["silhouette"].scores == before.rows["silhouette"].scores
    monkeypatch.undo()
    # A file that a kill left damaged is made again, as are other settings.
    monkeypatch.setattr(LifterRow, "_lift", lambda *_: pytest.fail("it was lifted again"))
    for file in (tmp_path / "box").glob("silhouette.*.npz"):
        if not file.name.endswith(".lift.npz"):
            file.write_bytes(file.read_bytes()[:100])
    [again] = evaluate_lifts(cases, rows, tmp_path)
    assert again.rows["silhouette"].scores == before.rows["silhouette"].scores


def test_means_have_standard_errors_and_differences_are_of_pairs():
    def case(name, first, second, seconds=(2.0, 6.0), run="a"):
        rows = {}
        for row, value, spent in zip(("one", "two"), (first, second), seconds, strict=True):
            scores = {} if value is None else {CHAMFER: value, IOU: 0.5}
            rows[row] = lifts.Result(scores=scores, seconds=spent, run=run if row == "one" else "a")
        picture = np.zeros((4, 4, 3), np.uint8)
        return lifts.CaseResults(name, "", picture, picture[None], rows)

    table = summarize([case("x", 1, 2), case("y", 3, 5), case("z", 5, None, run="b")], "one", "one")
    assert table.counts == {"one": 3, "two": 2}
    assert table.rows["one"][CHAMFER] == (3, pytest.approx(2 / np.sqrt(3)))
    assert table.rows["two"][f"{CHAMFER} to first"] == (1.5, pytest.approx(0.5))
    assert table.rows["two"]["seconds, ratio"] == (3, 0)  # the case of another run does not count


def test_a_lifter_is_given_as_many_pictures_as_the_row_says_and_what_it_is_sampled_with(world, tmp_path):
    [case] = read_cases([open_world(world, "held_out_categories")[0]])
    lifter = BlockLifter()
    rows = [LifterRow("blocks", lifter, 5), LifterRow("blocks, 3 pictures", lifter, 5, 3, candidates=2, steps=7)]
    made = [row.make(case, tmp_path) for row in rows]
    one, three = lifter.asked
    assert [len(one.pictures), len(three.pictures)] == [1, 3]
    assert (three.seed, three.candidates, three.steps, three.text) == (5, 2, 7, "")
    assert np.array_equal(one.pictures[0].coverage >= 0.5, case.picture.mask)
    # Kept, and only made again with another seed, whose noise may be another shape.
    again = rows[1].make(case, tmp_path)
    assert len(lifter.asked) == 2 and np.array_equal(again.solid.placed_points, made[1].solid.placed_points)
    LifterRow("blocks", lifter, 6).make(case, tmp_path)
    assert len(lifter.asked) == 3
    red = made[0].solid.see(case.picture.camera, 32, 32)[0]
    assert (red[..., 0] > 0.5).any()


def test_a_lifter_that_fails_is_counted_and_not_averaged(world, tmp_path):
    class Broken:
        name, revision, seeded, most, takes = "broken", "1", False, 1, frozenset({"image"})

        def __call__(self, request, step):
            raise ValueError("no weights for that")

    cases = list(read_cases([open_world(world, "held_out_categories")[0]]))
    found = evaluate_lifts(cases, [LifterRow("broken", Broken(), 0)], tmp_path)
    assert found[0].rows["broken"].failure == "no weights for that"
    assert summarize(found, "broken", "silhouette").counts == {"broken": 0}


# -- the command ------------------------------------------------------------------------------------------------------


def test_eval_writes_tables_sheets_and_json_and_goes_on_where_it_was(world, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["eval", "--orbits", str(world), "--lifter", "flat=silhouette"]
    arguments += ["--cases", "1", "-o", str(out)]
    assert main([*arguments, "--split", "held_out_categories"]) == 0, capsys.readouterr().err
    stamps = {path: path.stat().st_mtime_ns for path in (out / "lifts").rglob("*.npz")}
    assert main(arguments) == 0
    assert stamps and all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    report = (out / "report.md").read_text()
    assert "# Lifts of held-out models" in report and "## Held out categories" in report
    for row in ("flat", "retrieval", "visual hull, 1 picture", "visual hull, 4 pictures", "(truth)"):
        assert f"| {row} |" in report
    assert "seed 0: `neuralusd eval --orbits" in report
    content = json.loads((out / "lift.json").read_text())["held_out_models"]
    assert content["made"] == {row: 1 for row in content["rows"]}
    mean, error = content["rows"]["flat"][CHAMFER]
    assert mean > 0 and error is None
    names = {path.name for path in out.iterdir()}
    for split in ("held_out_models", "held_out_categories"):
        assert {f"lift_{split}.png", f"turntable_{split}.png", f"lift_f_{split}.png"} <= names


def test_a_model_that_is_damaged_is_left_out_with_a_word(world, tmp_path, capsys):
    broken = tmp_path / "world"
    shutil.copytree(world, broken)
    (broken / "scenes" / "held_out_models" / "chair_b" / "passes.0002.npz").write_bytes(b"PK")
    shutil.rmtree(broken / "scenes" / "train")
    out = tmp_path / "out"
    command = ["eval", "--orbits", str(broken), "--split", "held_out_models", "--lifter", "silhouette"]
    assert main([*command, "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert "chair_b: " in said and "it is left out" in said and "there are no training models to retrieve" in said
    assert "| retrieval | no training models |" in (out / "lift.md").read_text()
    assert json.loads((out / "lift.json").read_text())["held_out_models"]["made"]["silhouette"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --world DIR"),
        (["--part", "lift"], "--part lift needs --orbits DIR"),
        (["--orbits", "/nowhere"], "/nowhere has no split"),
        (["--orbits", "WORLD", "--part", "control"], "--part control needs --world DIR"),
        (["--orbits", "WORLD", "--lifter", "spoon"], "'spoon' is no lifter"),
        (["--orbits", "WORLD", "--pictures", "5"], "--pictures takes numbers of 1 to 4"),
        (["--orbits", "WORLD", "--pictures", "4", "--lifter", "silhouette"], "none of the lifters takes 4 pictures"),
        (["--orbits", "WORLD", "--split", "held_out_scenes"], "has no split held_out_scenes"),
        (["--orbits", "WORLD", "--part", "volumes"], "--part volumes needs --volumes DIR"),
        (["--volumes", "/nowhere"], "needs the training objects"),
        (["--orbits", "WORLD", "--part", "volumes", "--volumes", "/nowhere"], "/nowhere holds no volume model"),
        (["--volumes", "/nowhere", "--objects", "/nowhere.npz"], "there is no file /nowhere.npz"),
    ],
)
def test_eval_says_what_it_lacks(world, tmp_path, capsys, arguments, message):
    arguments = [str(world) if argument == "WORLD" else argument for argument in arguments]
    assert main(["eval", *arguments, "-o", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
