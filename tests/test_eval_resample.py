"""`neuralusd eval --part resample`: anchored generation, on rooms of a few blocks and a tiny untrained prior."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pxr import Gf, Usd, UsdGeom
from tiny_backend import save_tiny_backend
from tiny_backend import tiny_pipeline as tiny_renderer
from tiny_resample import tiny_prior

from neuralusd import stage as stages
from neuralusd.api.resampling import resample
from neuralusd.cli import main
from neuralusd.datasets.furniture_assets import asset_folder_name, open_library
from neuralusd.datasets.objects import ObjectViews, save_objects
from neuralusd.datasets.room_latents import make_room_latents, save_room_latents
from neuralusd.datasets.rooms import room_latents, sample_room
from neuralusd.datasets.rooms_stage import write_room
from neuralusd.datasets.rooms_view import background_view
from neuralusd.datasets.world import open_world
from neuralusd.evaluation.renderer import Renderer
from neuralusd.evaluation.resample_features import discrepancy, layout_features, told_apart
from neuralusd.evaluation.resample_frames import room_frame
from neuralusd.evaluation.resample_lamps import SHARE, TRUTH, LampTruth, evaluate_lamps, lamp_truths
from neuralusd.evaluation.resample_layouts import ALPHAS, best_of, evaluate_alpha, kept_samples, settled_sample
from neuralusd.evaluation.resample_measures import (
    CLEAN,
    COLLIDING,
    FLOATING,
    OUTSIDE,
    TILTED,
    Seen,
    bootstrapped,
    distance,
    diversity,
    plausibility,
)
from neuralusd.evaluation.resample_operations import (
    BACKGROUND,
    CAMERA,
    COMPLETION,
    LAYOUT,
    OBJECT,
    OPERATIONS,
    UNCONDITIONAL,
    make_task,
)
from neuralusd.evaluation.resample_plans import draw_plan
from neuralusd.evaluation.resample_rooms import as_arrays, from_arrays, known_of, read_room, views_cutouts
from neuralusd.evaluation.resample_rows import MarginalRow, PriorRow, RetrievalRow
from neuralusd.evaluation.resample_stage import asked_for, differences, encoded_stage, kept_prims
from neuralusd.stage.variations import sample_name, select_variant, variant_set

SPLIT = "held_out_scenes"
ROOMS = 5
# Name to width, depth and height in metres, and colour.
FURNITURE = {
    "bed": ((1.5, 2.0, 0.6), (200, 60, 60)),
    "bedside_table": ((0.4, 0.4, 0.5), (60, 160, 60)),
    "lamp": ((0.25, 0.25, 0.5), (230, 210, 60)),
    "dresser": ((1.0, 0.5, 0.9), (60, 60, 200)),
    "desk": ((1.2, 0.6, 0.75), (160, 60, 160)),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder of blocks that the grammar takes for furniture."""
    folder = tmp_path_factory.mktemp("library")
    for name, (size, color) in FURNITURE.items():
        stage = Usd.Stage.CreateNew(str(folder / f"{name}.usda"))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        root = UsdGeom.Xform.Define(stage, "/Thing")
        stage.SetDefaultPrim(root.GetPrim())
        cube = UsdGeom.Cube.Define(stage, "/Thing/Block")
        cube.CreateSizeAttr(1.0)
        cube.AddTranslateOp().Set(Gf.Vec3d(0, 0, size[2] / 2))
        cube.AddScaleOp().Set(Gf.Vec3f(*size))
        cube.CreateDisplayColorAttr([Gf.Vec3f(*(value / 255 for value in color))])
        stage.Save()
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, library):
    """A world of rooms, as `neuralusd data rooms` makes them, without its pictures."""
    world = tmp_path_factory.mktemp("rooms") / "world"
    assets = open_library(library)
    for index in range(ROOMS):
        folder = world / "scenes" / SPLIT / f"{SPLIT}_{index:05d}"
        folder.mkdir(parents=True)
        room = sample_room(assets, np.random.default_rng([5, index]))
        write_room(folder / "scene.usda", room, library, world / "textures")
        about = {
            "kind": room.kind,
            "frames": [],
            "assets": [thing.asset.id for thing in room.objects],
            "objects": [f"/Room/{name}" for name in room.names],
            "lit_lamps": [f"/Room/{n}" for n, thing in zip(room.names, room.objects, strict=True) if thing.glow],
            "evening": room.evening,
            "camera_to_room": room.camera_to_room.tolist(),
            "floor": room.floor.tolist(),
        }
        (folder / "scene.json").write_text(json.dumps(about))
    return world


@pytest.fixture(scope="module")
def views(library):
    """Three views of each model: its colour, and its outline from the front."""
    names = [asset_folder_name(asset.id) for asset in open_library(library)]
    color = np.zeros((len(names), 3, 32, 32, 3), np.uint8)
    mask = np.zeros((len(names), 3, 32, 32), bool)
    for index, name in enumerate(names):
        (width, _, height), shade = FURNITURE[name]
        half = (12 * np.array([width, height]) / max(width, height)).round().astype(int)
        mask[index, :, 16 - half[1] : 16 + half[1], 16 - half[0] : 16 + half[0]] = True
        color[index][mask[index]] = shade
    pose = np.tile(np.eye(4, dtype=np.float32), (len(names), 3, 1, 1))
    intrinsics = np.tile(np.array([1, 1, 0, 0], np.float32), (len(names), 3, 1))
    return ObjectViews(color, mask, pose, intrinsics, np.ones(len(names), np.float32), names, names)


@pytest.fixture(scope="module")
def training(library):
    return make_room_latents(open_library(library), 40, 8, seed=3)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_prior(slots=8)


@pytest.fixture(scope="module")
def space(pipeline, training, views, library):
    return known_of(pipeline, training, views_cutouts(views, 64), views.names, open_library(library))


@pytest.fixture(scope="module")
def case(world, tmp_path_factory):
    folders = open_world(world, SPLIT)
    cases = [read_room(folder, 64, tmp_path_factory.mktemp("cache")) for folder in folders]
    return max(cases, key=lambda each: len(each.latents.objects))


# -- rooms, read off their stages -------------------------------------------------------------------------------------


def test_a_room_is_read_off_its_stage_as_the_grammar_laid_it_out(world, library, case):
    index = int(case.name[-5:])
    room = sample_room(open_library(library), np.random.default_rng([5, index]))
    wanted, ids = room_latents(room)
    assert [one.path for one in case.latents.objects] == [one.path for one in wanted.objects]
    assert case.names == [asset_folder_name(each) for each in ids]
    for one, true in zip(case.latents.objects, wanted.objects, strict=True):
        assert one.translation == pytest.approx(true.translation, abs=1e-4)
        assert one.scale == pytest.approx(true.scale, rel=1e-4)
        assert abs(one.rotation @ true.rotation) == pytest.approx(1, abs=1e-6)


def test_what_looks_like_a_model_is_of_its_kind(space, views):
    kinds = dict(zip(space.rooms.names, space.kinds, strict=True))
    assert kinds["bed"] == "bed" and kinds["bedside_table"] == "nightstand" and kinds["desk"] == "table"
    index, far = space.nearest(space.models[2])
    assert index == 2 and far == 0


def test_samples_are_the_same_after_a_way_through_a_file(space, case, tmp_path):
    scene = case.encoded(space.pipeline)
    task = make_task(COMPLETION, case, scene, 0)
    row = PriorRow("tiny", space, steps=2)
    samples = kept_samples(row, task, case, 2, 0, tmp_path)
    again = kept_samples(row, task, case, 2, 0, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    for first, second in zip(samples, again, strict=True):
        for one, other in zip(first.objects, second.objects, strict=True):
            assert np.array_equal(one.translation, other.translation) and one.presence == other.presence
            assert np.array_equal(one.appearance, other.appearance)
    [back] = from_arrays(as_arrays([replace(scene, objects=[])]))
    assert back.objects == [] and np.array_equal(back.background, scene.background)


# -- operations and rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_row_changes_what_an_operation_keeps(operation, space, case):
    scene = case.encoded(space.pipeline)
    task = make_task(operation, case, scene, 0)
    rows = [PriorRow("tiny", space, steps=2), MarginalRow(space), MarginalRow(space, True), RetrievalRow(space)]
    for row in rows:
        for sample in row.sample(task, 2, 1):
            for index, alpha in enumerate(task.anchors.objects):
                one, own = sample.objects[index], task.scene.objects[index]
                if alpha.pose == 1:
                    assert np.array_equal(one.translation, own.translation) and np.array_equal(one.scale, own.scale)
                if alpha.appearance == 1:
                    assert np.array_equal(one.appearance, own.appearance)
            assert (operation in (UNCONDITIONAL, CAMERA)) or np.array_equal(sample.focal, scene.focal)
            kept = operation not in (UNCONDITIONAL, BACKGROUND)
            assert np.array_equal(sample.background, scene.background) == kept
            assert task.invents or len(sample.objects) == len(task.scene.objects)


def test_what_is_completed_stands_and_what_varies_carries_nothing(space, case):
    scene = case.encoded(space.pipeline)
    completed = make_task(COMPLETION, case, scene, 0)
    assert 1 <= len(completed.scene.objects) <= max(1, len(scene.objects) // 2)
    varied = make_task(OBJECT, case, scene, 0)
    [index] = varied.changed
    others = replace(scene, objects=[one for number, one in enumerate(scene.objects) if number != index])
    for task, part in ((completed, completed.scene), (varied, others)):
        assert plausibility(Seen.of(task, part, case, space))[FLOATING] == 0


def test_the_nearest_room_to_a_training_room_is_itself(space, case):
    rooms, number = space.rooms, 7
    there = np.flatnonzero(rooms.model[number] >= 0)
    objects = [space.object(number, slot) for slot in there]
    scene = replace(
        case.encoded(space.pipeline),
        objects=objects,
        focal=rooms.focal[number].astype(np.float64),
        background=space.backgrounds[number],
    )
    task = make_task(LAYOUT, replace(case, latents=scene), scene, 0)
    [sample] = RetrievalRow(space).sample(task, 1, 0)
    found = sorted(tuple(one.translation.round(4)) for one in sample.objects)
    assert found == sorted(tuple(one.translation.round(4)) for one in objects)


# -- measures ---------------------------------------------------------------------------------------------------------


def test_a_room_of_the_grammar_is_plausible_and_what_is_wrong_with_one_is_counted(space, case):
    scene = case.encoded(space.pipeline)
    task = make_task(LAYOUT, case, scene, 0)

    def measured(changed):
        return plausibility(Seen.of(task, replace(scene, objects=changed), case, space))

    fine = measured(scene.objects)
    assert fine[CLEAN] == 100 and fine["objects"] == len(scene.objects) and fine["in view %"] == 100
    up, east = case.camera_to_room[:3, 2], case.camera_to_room[:3, 0]
    first, *rest = scene.objects
    assert measured([replace(first, translation=first.translation + 0.2 * up), *rest])[FLOATING] == 100
    assert measured([replace(first, translation=first.translation + 9 * east), *rest])[OUTSIDE] == 100
    assert measured([first, replace(first, path="")])[COLLIDING] == 100
    leaning = replace(first, rotation=np.array([np.cos(0.2), np.sin(0.2), 0, 0]))
    assert measured([leaning])[TILTED] == 100


def test_the_best_of_some_tries_stands_where_one_of_them_does(space, case):
    scene = case.encoded(space.pipeline)
    task = make_task(LAYOUT, case, scene, 0)
    wrong = replace(scene, objects=[scene.objects[0], *scene.objects[:-1]])  # two in one place
    judge = partial(settled_sample, task, case=case, space=space)
    assert judge(scene).flaws == 0 < judge(wrong).flaws
    taken = best_of([wrong, scene, wrong, wrong, scene, wrong], judge, 2)  # three tries of two samples
    assert [each.flaws == 0 for each in taken] == [True, True]
    assert plausibility(Seen.of(task, taken[0].sample, case, space))[CLEAN] == 100


def test_floor_and_walls_are_found_in_the_depth_of_a_background(library):
    assets, found = open_library(library), 0
    for number in range(12):
        room = sample_room(assets, np.random.default_rng([9, number]))
        frame = room_frame(background_view(room, 32)[1], room.focal)
        if frame is None:
            continue
        found += 1
        tilt = np.degrees(np.arccos(np.clip(frame[0][:3, 2] @ room.camera_to_room[:3, 2], -1, 1)))
        assert tilt < 1.0
        assert frame[0][3, 2] == pytest.approx(room.camera_to_room[3, 2], abs=0.05)
        # A wall is where it is, or not seen at all; the camera's yaw is known but for quarter turns.
        sides = np.ptp(frame[1], axis=0)
        true = np.ptp(room.floor, axis=0)
        closed = sides[sides < 8]
        assert all(min(abs(side - true)) < 0.15 for side in closed)
    assert found >= 10
    assert room_frame(np.full((32, 32), np.inf, np.float32), np.ones(2)) is None


def test_samples_that_are_alike_have_no_diversity_and_others_have(space, case):
    scene = case.encoded(space.pipeline)
    task = make_task(LAYOUT, case, scene, 0)
    same = diversity(task, [scene, scene], space)
    other = diversity(task, MarginalRow(space).sample(task, 3, 0), space)
    assert same["poses apart m"] == 0 and same["varied %"] == 0
    assert other["poses apart m"] > 0.2 and other["varied %"] == 100


def test_the_discrepancy_and_the_classifier_know_the_grammars_rooms_from_others(space, library):
    assets = open_library(library)

    def features(first, scattered):
        rows = []
        for number in range(first, first + 60):
            rng = np.random.default_rng([4, number])
            room = sample_room(assets, rng)
            scene, ids = room_latents(room)
            if scattered:
                for one in scene.objects:
                    one.translation = one.translation + rng.normal(0, 0.5, 3)
            kinds = [space.by_name[asset_folder_name(name)] for name in ids]
            rows.append(layout_features(scene, (room.camera_to_room, room.floor), kinds))
        return np.array(rows)

    truth, alike, scattered = features(0, False), features(100, False), features(200, True)
    groups = np.arange(60) // 2
    assert told_apart(alike, groups, truth)[0] < 65 < 85 < told_apart(scattered, groups, truth)[0]
    near, error = discrepancy(alike, truth)
    assert discrepancy(scattered, truth)[0] > near + 3 * error


def test_bootstrap_draws_rooms_and_not_samples():
    mean, error = bootstrapped([[0.0] * 50, [1.0] * 50])
    assert mean == 0.5 and error > 0.2  # a hundred samples, but two rooms
    assert np.isnan(bootstrapped([[1.0, 2.0]])[1])


def test_a_sample_at_alpha_one_is_the_room(space, case, tmp_path):
    scene = case.encoded(space.pipeline)
    assert all(value == pytest.approx(0, abs=1e-6) for value in distance(scene, scene).values())
    row = PriorRow("tiny", space, steps=4)
    table = evaluate_alpha([case], [row], tmp_path, seed=0)
    line = table.rows["tiny"]["place m"]
    assert list(line) == list(ALPHAS) and line[1.0][0] == 0 and line[0.0][0] > line[0.75][0] > 0


def test_a_plan_shows_boxes_where_they_stand(case):
    kinds = ["bed"] * len(case.latents.objects)
    kept = np.asarray(draw_plan(case.latents, (case.camera_to_room, case.floor), kinds, [True] * len(kinds)))
    free = np.asarray(draw_plan(case.latents, (case.camera_to_room, case.floor), kinds, [False] * len(kinds)))
    changed = (kept != free).any(-1)
    assert 0.005 < changed.mean() < 0.3  # the outlines
    assert (np.abs(kept.astype(int) - (86, 130, 190)).max(-1) < 8).mean() > 0.02


# -- stages and pictures ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    return str(save_tiny_backend(tmp_path_factory.mktemp("drawing")))


@pytest.mark.filterwarnings("ignore::neuralusd.api.ResampleWarning")
def test_what_is_kept_of_a_stage_is_the_same_and_a_change_of_one_bit_is_found(pipeline, case, drawing, tmp_path):
    base = stages.open_stage(encoded_stage(case, drawing, tmp_path))
    asked = asked_for(OBJECT, case, case.latents, 0)
    made = resample(base, tmp_path / "made.usda", samples=1, backend=pipeline, render_backend=drawing, **asked)
    kept = kept_prims(OBJECT, case, case.latents, stages.read(base), 0)
    free = {name.partition(":")[0] for name in asked["vary"]}
    assert {path for path, _ in kept} | free == {one.path for one in case.latents.objects} | {
        "/Room/Camera",
        "/Room/Shell",
    }
    select_variant(made, variant_set(made), sample_name(1))
    changed, count = differences(base, made, kept)
    assert changed == [] and count > 20 * len(kept)
    assert differences(base, made, [(next(iter(free)), ())])[0]  # what is free did change
    moved = made.GetPrimAtPath(kept[0][0])
    translate = moved.GetAttribute("xformOp:translate")
    translate.Set(Gf.Vec3d(*np.nextafter(np.array(translate.Get()), np.inf)))
    assert f"<{kept[0][0]}>.xformOp:translate" in differences(base, made, kept)[0]
    assert not any("translate" in each for each in differences(base, made, [(kept[0][0], ("xformOp",))])[0])


def write_frame(truth, picture, stage):
    """A frame as Cycles leaves it, but of a picture that is made up."""
    scene = stages.read(stages.open_stage(stage))
    passes = stages.render_passes(stages.open_stage(stage), scene, *picture.shape[:2], color=False)
    truth.folder.mkdir(parents=True)
    PIL.Image.fromarray((picture * 255).astype(np.uint8)).save(truth.folder / "rgb.0001.png")
    paths = np.array([asset.path for asset in scene.assets])
    np.savez(truth.folder / "passes.0001.npz", depth=passes.depth, ids=passes.ids.astype(np.int8), paths=paths)
    (truth.folder / "scene.json").write_text(json.dumps({"frames": [1]}))


def test_how_much_of_a_lamps_light_goes_with_it(world, library, tmp_path):
    lit = [folder for folder in open_world(world, SPLIT) if folder.about["lit_lamps"]]
    [truth, *_] = truths = lamp_truths(open_world(world, SPLIT), tmp_path, 4, 32)
    assert sorted(each.folder.id for each in truths) == sorted(folder.id for folder in lit)
    without = stages.read(stages.open_stage(truth.after.stage))
    assert not {asset.path for asset in without.assets} & set(truth.lamps)
    edited = stages.open_stage(truth.after.stage)
    lamp = UsdGeom.Imageable(edited.GetPrimAtPath(truth.lamps[0]))
    assert lamp.ComputeVisibility() == UsdGeom.Tokens.invisible
    assert not truth.done and evaluate_lamps({}, [truth]).rooms == []
    bright, dark = np.full((32, 32, 3), 0.2), np.full((32, 32, 3), 0.2)
    bright[:, 16:] = 0.8
    write_frame(truth.before, bright, truth.folder.stage_path)
    write_frame(truth.after, dark, truth.folder.stage_path)
    table = evaluate_lamps({"tiny": Renderer(tiny_renderer())}, [truth])
    assert table.rooms == [truth.folder.id] and isinstance(truth, LampTruth)
    assert table.rows[TRUTH][SHARE][0] == pytest.approx(100)
    # Random weights know nothing of lamps.
    assert abs(table.rows["tiny"][SHARE][0]) < 50 and abs(table.rows["tiny, held"][SHARE][0]) < 50
    assert table.images["tiny: without"].shape == (1, 32, 32, 3)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, pipeline, views, training):
    folder = tmp_path_factory.mktemp("inputs")
    pipeline.save_pretrained(folder / "prior")
    save_objects(views, folder / "objects.npz")
    save_room_latents(training, folder / "training.npz")
    return folder


def command(world, library, inputs: Path, output: Path, *more: str) -> list[str]:
    backend = inputs / "drawing"
    if not backend.is_dir():
        save_tiny_backend(backend)
    return [
        *("eval", "--part", "resample", "--rooms", str(world), "--furniture", str(library)),
        *("--backend", f"tiny={backend}"),
        *("--prior", f"tiny={inputs / 'prior'}", "--objects", str(inputs / "objects.npz")),
        *("--room-latents", str(inputs / "training.npz"), "--split", SPLIT, "--steps", "2", "-o", str(output)),
        *more,
    ]


def test_the_tables_and_sheets(world, library, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("neuralusd.evaluation.resample_layouts.REFERENCE", 12)
    monkeypatch.setattr("neuralusd.evaluation.resample_stage.MOST", 1)
    monkeypatch.setattr("neuralusd.evaluation.resample_lamps.MOST", 0)  # no Cycles here
    assert main(command(world, library, inputs, tmp_path, "--cases", "3", "--variants", "2")) == 0
    content = json.loads((tmp_path / "resample.json").read_text())[SPLIT]
    assert len(content["rooms"]) == 3 and "--variants 2" in content["command"]
    for operation in OPERATIONS:
        rows = content[operation]
        assert rows["(the room itself)"]["objects"][0] > 0
        assert {"independent marginals", "nearest room"} <= set(rows)
        assert (tmp_path / f"resample_{SPLIT}_{operation}.png").is_file()
    assert content[LAYOUT]["(the room itself)"]["plausible %"] == [100.0, 0.0]
    assert content[LAYOUT]["tiny, guidance 1"]["plausible %"][0] < 50
    assert "tiny, guidance 2" not in content[UNCONDITIONAL]  # nothing is kept that could guide
    assert content["alpha"]["tiny, guidance 1"]["place m"]["1"][0] == 0
    assert content["stages"]["changed"] == []
    kept = content["stages"]["unchanged"]
    assert [kept[operation] for operation in (COMPLETION, LAYOUT, BACKGROUND, CAMERA)] == [[1, 1]] * 4
    # A room whose one free object the camera does not see cannot be resampled so, and that is said.
    assert kept[OBJECT] == [1, 1] or "has no tokens" in content["stages"]["left out"][0]
    drawn = content["stages"]["rows"][COMPLETION]
    # Both pictures look up the same surfaces; what holding is worth, only trained weights can tell.
    assert drawn["PSNR of what is kept, held"][0] > drawn["PSNR of what is kept, not held"][0] - 1 > 0
    report = (tmp_path / "report.md").read_text()
    assert "# Anchored generation of rooms" in report and "3 rooms, 2 samples of each, seed 0" in report
    # A second run finds all samples.
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "resample").rglob("*.npz")}
    assert main(command(world, library, inputs, tmp_path, "--cases", "3", "--variants", "2")) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "resample").rglob("*.npz")} == before


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("--rooms", "--rooms DIR"),
        ("--prior", "--prior DIR"),
        ("--objects", "--objects FILE"),
        ("--furniture", "--furniture DIR"),
    ],
)
def test_what_is_missing_is_said(left_out, said, world, library, inputs, tmp_path, capsys):
    words = command(world, library, inputs, tmp_path)
    at = words.index(left_out)
    assert main(words[:at] + words[at + 2 :]) == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_inputs_that_do_not_belong_together_are_said(world, library, inputs, views, tmp_path, capsys):
    fewer = replace(
        views,
        **{name: value[:2] for name, value in vars(views).items() if isinstance(value, np.ndarray)},
        names=views.names[:2],
        texts=views.texts[:2],
    )
    save_objects(fewer, tmp_path / "fewer.npz")
    assert main(command(world, library, inputs, tmp_path / "out", "--objects", str(tmp_path / "fewer.npz"))) == 1
    assert "are not among the objects" in capsys.readouterr().err
    assert main(command(world, library, inputs, tmp_path / "out", "--prior", str(tmp_path))) == 1
    assert "no diffusers pipeline" in capsys.readouterr().err
    assert main(command(world, library, inputs, tmp_path / "out", "--variants", "0")) == 1
    assert "--variants has to be at least 1" in capsys.readouterr().err


def test_a_file_that_is_something_else_is_named(world, library, inputs, tmp_path, capsys):
    text = tmp_path / "notes.npz"
    text.write_text("no arrays")
    for option in ("--objects", "--room-latents"):
        assert main(command(world, library, inputs, tmp_path / "out", option, str(text))) == 1
        assert "notes.npz is not what it is given as" in capsys.readouterr().err
