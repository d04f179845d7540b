"""Edits with true answers: chosen, authored as USD, rendered by Cycles in other processes, and compared with."""

import importlib.util

import numpy as np
import pytest
from pxr import Usd, UsdShade

from neuralusd import stage as stages
from neuralusd.cli import main
from neuralusd.datasets.frames import frames as world_frames
from neuralusd.datasets.world import open_world
from neuralusd.evaluation import command, truths
from neuralusd.evaluation.cases import plan_cases
from neuralusd.evaluation.edit_error import COLUMNS, edited_region, evaluate_edits
from neuralusd.evaluation.edits import BACKGROUND, KINDS, MOVED, RECOLOURED, REPLACED, ROTATED, recolour, write_edit
from neuralusd.evaluation.pairs import Frame
from neuralusd.evaluation.renderer import Renderer
from neuralusd.evaluation.sequence import STEPS, evaluate_sequence
from neuralusd.evaluation.truths import render_truths, write_stages
from tests.evaluation_world import SPLIT, write_world
from tests.tiny_backend import save_tiny_backend, tiny_pipeline

needs_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs bpy, the extra `blender`")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("eval") / "world")


@pytest.fixture(scope="module")
def found(world):
    return [Frame(*frame) for frame in world_frames(world, SPLIT)]


@pytest.fixture(scope="module")
def files(world):
    return {scene.id: scene.stage_path for scene in open_world(world, SPLIT)}


@pytest.fixture(scope="module")
def case(found, files):
    """A frame that has all five edits, and a sequence."""
    return next(c for c in plan_cases(found, files, 4, seed=0) if len(c.edits) == len(KINDS) and c.sequence)


def boxes(file, case):
    """Path to corners of the foreground at the time that is edited."""
    scene = stages.read(stages.open_stage(file), case.camera, case.time)
    return {asset.path: asset.corners() for asset in scene.foreground}


def color(file, path):
    stage = Usd.Stage.Open(str(file))
    return tuple(UsdShade.Shader(stage.GetPrimAtPath(f"{path}/Look/Surface")).GetInput("diffuseColor").Get())


def test_cases_are_the_same_for_a_seed_and_of_all_scenes(found, files):
    cases = plan_cases(found, files, 3, seed=1)
    assert {case.name for case in cases} == set(files)
    assert plan_cases(found, files, 3, seed=1) == cases != plan_cases(found, files, 3, seed=2)
    assert all(case.view != case.time for case in cases)


def test_a_moved_object_goes_a_third_of_its_width_stays_in_view_and_touches_nothing(case, tmp_path):
    edit = case.edits[MOVED]
    before, after = boxes(case.stage, case), boxes(write_edit(case.stage, tmp_path / "a.usda", edit, case.time), case)
    scene = stages.read(stages.open_stage(case.stage), case.camera, case.time)
    right = np.linalg.inv(scene.camera.world_to_camera)[0, :3]
    went = after[edit.path] - before[edit.path]
    assert went == pytest.approx(np.tile(edit.value, (8, 1)), abs=1e-5) and abs(went[:, 2]).max() < 1e-6
    assert np.linalg.norm(went[0]) >= np.ptp(before[edit.path] @ right) / 3 - 1e-6
    projected = scene.camera.project(after[edit.path])
    assert (projected[:, :2] > 0).all() and (projected[:, :2] < 1).all()
    (other,) = (path for path in after if path != edit.path)
    assert after[other] == pytest.approx(before[other])
    low, high = after[edit.path].min(0), after[edit.path].max(0)
    assert (low > after[other].max(0))[:2].any() or (high < after[other].min(0))[:2].any()


def test_a_turned_object_stays_where_it_is(case, tmp_path):
    edit = case.edits[ROTATED]
    before, after = boxes(case.stage, case), boxes(write_edit(case.stage, tmp_path / "a.usda", edit, case.time), case)
    assert 30 <= abs(edit.value) <= 90
    assert after[edit.path].mean(0) == pytest.approx(before[edit.path].mean(0), abs=1e-5)
    assert not np.allclose(after[edit.path], before[edit.path], atol=0.02)


def test_a_replacement_stands_in_the_box_of_what_it_replaces(case, tmp_path):
    edit = case.edits[REPLACED]
    file = write_edit(case.stage, tmp_path / "a.usda", edit, case.time)
    before, after = boxes(case.stage, case)[edit.path], boxes(file, case)[edit.path]
    assert (after.min(0) >= before.min(0) - 1e-5).all() and (after.max(0) <= before.max(0) + 1e-5).all()
    assert after[:, 2].min() == pytest.approx(before[:, 2].min(), abs=1e-5)
    assert color(file, edit.path) == color(edit.donor.stage, edit.donor.path)
    asset = stages.read(stages.open_stage(file), case.camera, case.time).asset(edit.path)
    assert asset.text == stages.read(stages.open_stage(edit.donor.stage), None, 1).asset(edit.donor.path).text


def test_the_scene_itself_is_never_written_to(case, tmp_path):
    before = case.stage.read_bytes()
    for kind, edit in case.edits.items():
        write_edit(case.stage, tmp_path / f"{kind}.usda", edit, case.time)
    assert case.stage.read_bytes() == before


def test_a_prim_without_a_look_cannot_be_recoloured(case):
    stage = Usd.Stage.CreateInMemory()
    stage.DefinePrim("/Thing", "Xform")
    with pytest.raises(ValueError, match="</Thing> has no UsdPreviewSurface look"):
        recolour(stage, "/Thing", (1, 0, 0))


@pytest.fixture(scope="module")
def rendered(case, tmp_path_factory):
    """The case's truths by Cycles, two samples a pixel."""
    folder = tmp_path_factory.mktemp("truths")
    made = write_stages([case], folder, samples=2, resolution=32)
    assert render_truths(made, samples=2, resolution=32, failures=folder / "failed.jsonl") == 0
    return made


@needs_blender
def test_cycles_sees_the_edits_where_their_footprints_are(rendered):
    (made,) = rendered
    before = made.frame(made.before)
    for kind, truth in made.edits.items():
        after = made.frame(truth)
        where = edited_region(made.case.edits[kind], before, after)
        change = np.abs(after.picture - before.picture).max(-1)
        assert 0 < where.mean() < 1
        assert change[where].mean() > 0.03, kind
        # Only light gets out of a footprint; much of it comes from a new background.
        spill = 0.4 if kind == BACKGROUND else 0.25
        assert change[~where].mean() < spill * change[where].mean(), kind
    seen = made.frame(made.edits[RECOLOURED], made.case.view)
    assert seen.scene.time == made.case.view != made.case.time


@needs_blender
def test_what_is_rendered_is_kept_and_taken_up(rendered, case, monkeypatch):
    (made,) = rendered
    folder = made.before.folder.parent.parent
    again = write_stages([case], folder, samples=2, resolution=32)
    assert again == rendered and all(truth.done for truth in again[0].all())
    monkeypatch.setattr(truths, "run_tasks", lambda *_: pytest.fail("nothing is left to render"))
    assert render_truths(again, samples=2, resolution=32) == 0
    assert not write_stages([case], folder, samples=3, resolution=32)[0].before.done
    picture = made.before.folder / "rgb.0001.png"
    picture = next(made.before.folder.glob("rgb.*.png")) if not picture.exists() else picture
    whole = picture.read_bytes()
    picture.write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged .* delete it and run again"):
        made.frame(made.before)
    picture.write_bytes(whole)


@needs_blender
def test_the_edit_table_has_its_rows_and_held_edits_change_nothing_outside(rendered, found, files):
    world = {(str(files[f.name]), f.scene.time): f for f in found}
    table = evaluate_edits({"tiny": Renderer(tiny_pipeline())}, rendered, world)
    assert list(table.rows) == list(KINDS)
    assert "splat" in table.rows[MOVED] and "splat" not in table.rows[RECOLOURED]
    assert set(table.rows[BACKGROUND]) == {"not edited", "tiny, not held"}
    for kind in (MOVED, ROTATED, RECOLOURED, REPLACED):
        rows = table.rows[kind]
        assert set(rows["tiny, held"]) == set(COLUMNS) - {"LPIPS inside"}
        assert rows["tiny, held"]["PSNR outside, picture"] == pytest.approx(99)
        assert rows["tiny, not held"]["PSNR outside, picture"] < 60
        assert rows["not edited"]["PSNR outside, truth"] > rows["not edited"]["PSNR inside"]
    # The splat of a move is the answer but for holes and light.
    assert table.rows[MOVED]["splat"]["PSNR inside"] > table.rows[MOVED]["not edited"]["PSNR inside"]
    assert table.images[MOVED]["(truth)"].shape == (1, 32, 32, 3)


@needs_blender
def test_a_sequence_drifts_only_where_it_is_not_held(rendered, found, files):
    world = {(str(files[f.name]), f.scene.time): f for f in found}
    table = evaluate_sequence({"tiny": Renderer(tiny_pipeline())}, rendered, world)
    assert table.count == 1 and list(table.never["tiny, held"]) == list(STEPS)
    first_three = [table.never["tiny, held"][step] for step in STEPS[:3]]
    assert first_three == pytest.approx([99, 99, 99])
    assert table.never["tiny, not held"]["3 geometry"] < 60
    # A background is the whole image, so nothing holds what stands before it; the pose after it is held again.
    held = table.never["tiny, held"]
    assert held["4 background"] < 60 and held["5 pose again"] == pytest.approx(held["4 background"], abs=0.01)
    assert table.images["(truth)"].shape[0] == 6


@needs_blender
def test_one_command_writes_tables_plots_and_pictures_of_all_parts(world, tmp_path, capsys):
    backend = save_tiny_backend(tmp_path / "tiny")
    out = tmp_path / "out"
    arguments = ["eval", "--world", str(world), "--backend", f"tiny={backend}", "--split", SPLIT, "--pairs", "2"]
    status = main([*arguments, "--cases", "1", "--samples", "1", "--no-ablations", "-o", str(out)])
    assert status == 0, capsys.readouterr().err
    names = {path.name for path in out.iterdir()}
    for part in command.WORLD_PARTS:
        assert {f"{part}.json", f"{part}.md"} <= names
    assert {f"{SPLIT}.png", f"figure8_{SPLIT}.png", f"drift_{SPLIT}.png", f"edits_{SPLIT}_moved.png"} <= names
    report = (out / "report.md").read_text()
    assert report.count("seed 0: `neuralusd eval --world") == 4
    assert "| OBJect 3DIT | weights not found" in report and "| LPIPS" not in report
    assert "LPIPS is left out" in report and "LPIPS is left out" in capsys.readouterr().err


def test_without_blender_the_parts_that_need_it_are_left_out_with_a_note(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(truths, "has_blender", lambda: False)
    backend = save_tiny_backend(tmp_path / "tiny")
    arguments = ["eval", "--world", str(world), "--backend", f"tiny={backend}", "--split", SPLIT, "--cases", "1"]
    assert main([*arguments, "--part", "edits,sequence", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "pip install 'neuralusd[blender]'" in said and "part 'sequence' is left out" in said
    assert not (tmp_path / "out" / "edits.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "pictures"], "edits, sequence, lift, volumes, resample but not 'pictures'"),
        (["--baseline", "dalle"], "--baseline knows sd21"),
        (["--cases", "0"], "--cases has to be at least 1"),
        (["--lpips", "/nowhere"], "/nowhere is no folder with LPIPS weights"),
        (["--world", "/nowhere"], "/nowhere has no split"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_done(world, tmp_path, capsys, arguments, message):
    status = main(["eval", "--world", str(world), "--split", SPLIT, "-o", str(tmp_path / "out"), *arguments])
    assert status == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
