"""Rooms furnished by the grammar, of a few models that these tests make themselves. Blender runs in other processes."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orbit_world import write_thing
from pxr import Usd, UsdGeom, UsdLux
from scipy.spatial.transform import Rotation

from neuralusd import stage as stages
from neuralusd.cli import main
from neuralusd.datasets.furniture_assets import FurnitureAsset, is_held_out, open_library
from neuralusd.datasets.rooms import RULES, Room, room_latents, sample_room
from neuralusd.datasets.rooms_grammar import MOST_OBJECTS
from neuralusd.datasets.rooms_plausibility import facts, penetration
from neuralusd.datasets.rooms_stage import write_room
from neuralusd.datasets.rooms_view import background_view
from neuralusd.datasets.world import open_world
from neuralusd.latents import SceneLatents
from neuralusd.scene import Asset, Camera, pose_2d

needs_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs bpy, the extra `blender`")

# A model's name, as of its file, to its sides in metres.
MODELS = {
    "bed": (1.5, 2.1, 0.9),
    "bedside_table": (0.5, 0.45, 0.5),
    "wardrobe": (1.2, 0.6, 2.0),
    "dresser": (1.3, 0.5, 0.8),
    "desk": (1.3, 0.65, 0.74),
    "chair": (0.45, 0.5, 0.9),
    "lamp": (0.3, 0.3, 0.45),
    "floor_lamp": (0.4, 0.4, 1.6),
    "armchair": (0.8, 0.8, 0.9),
    "plant": (0.5, 0.5, 1.0),
    "sofa": (1.9, 0.85, 0.8),
    "coffee_table": (1.1, 0.6, 0.45),
    "dining_table": (1.6, 0.9, 0.75),
    "tv_stand": (1.3, 0.45, 0.5),
    "tv": (0.8, 0.2, 0.5),
    "vase": (0.2, 0.2, 0.35),
    "bookcase": (0.9, 0.35, 1.8),
}


def named(name: str, held_out: bool) -> str:
    """`name`, with a number that makes it a model to train on, or one that is held out."""
    return next(f"{name}_{n}" for n in range(1000) if is_held_out(f"{name}_{n}") == held_out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A library of things of one box each, and a held-out bed and lamp."""
    made = tmp_path_factory.mktemp("library")
    for name, (w, d, h) in MODELS.items():
        write_box(made, named(name, False), (w, d, h))
    for name in ("bed", "lamp"):
        write_box(made, named(name, True), MODELS[name])
    return made


def write_box(folder: Path, name: str, size: tuple[float, float, float]) -> None:
    """Two boxes: what stands in front is lower, so that one can tell where the front is."""
    w, d, h = size
    low, high = (
        ((-w / 2, -d / 2, 0), (w / 2, 0, h / 2), (0.6, 0.4, 0.3)),
        ((-w / 2, 0, 0), (w / 2, d / 2, h), (0.3,) * 3),
    )
    write_thing(folder / name / f"{name}.usda", name, [low, high])


@pytest.fixture(scope="module")
def library(folder) -> list[FurnitureAsset]:
    return open_library(folder)


def a_room(library: list[FurnitureAsset], seed: int, kind: str = "bedroom", split: str = "train") -> Room:
    return sample_room(library, np.random.default_rng(seed), kind, split)


def in_frame_of(room: Room, index: int, other: int) -> np.ndarray:
    """(3,) where the middle of an object is in the axes of another."""
    return (room.objects[index].position - room.objects[other].position) @ room.objects[other].turn.T


seeds = st.integers(0, 10_000)
kinds = st.sampled_from(list(RULES))


# --- the grammar ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seeds, kinds)
def test_a_room_is_clean_and_small_enough(library, seed, kind):
    room = a_room(library, seed, kind)
    latents, ids = room_latents(room)
    about = facts(latents, room.camera_to_room, room.floor, tolerance=0.002)
    assert about.clean, about
    assert about.tilt.max() < 1e-3
    assert 3 <= about.objects == len(ids) <= MOST_OBJECTS
    assert len(set(room.names)) == len(room.names)
    assert all(0.85 < factor < 1.15 for thing in room.objects for factor in thing.scale)


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_a_bed_has_its_head_to_a_wall_and_nightstands_beside_it(library, seed):
    room = a_room(library, seed)
    assert room.names[0] == "Bed"
    bed = room.objects[0]
    head = np.array([0.0, bed.size[1] / 2, 0.0]) @ bed.turn + bed.position
    (west, _), (east, north) = room.floor[0], room.floor[2]
    assert min(head[0] - west, east - head[0], north - head[1]) < 0.05
    for index, thing in enumerate(room.objects):
        if thing.role == "nightstand":
            beside = in_frame_of(room, index, 0)
            assert thing.yaw == bed.yaw
            assert 0 < abs(beside[0]) - (bed.size[0] + thing.size[0]) / 2 < 0.15
            assert beside[1] + thing.size[1] / 2 == pytest.approx(bed.size[1] / 2)
        if thing.support is not None:
            below = room.objects[thing.support]
            assert thing.position[2] == pytest.approx(below.position[2] + below.size[2])


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_chairs_face_their_table_and_armchairs_the_room(library, seed):
    room = a_room(library, seed, "dining room")
    table = room.objects[0]
    chairs = [thing for thing in room.objects if thing.role == "chair"]
    for chair in chairs:
        front = np.array([0.0, -1.0, 0.0]) @ chair.turn
        # Within its breadth, half a metre before a chair is the table.
        seat = chair.position + front * (chair.size[1] / 2 + 0.3)
        assert (np.abs((seat - table.position) @ table.turn.T)[:2] < table.size[:2] / 2).all()


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_a_sofa_faces_its_table_and_the_television(library, seed):
    room = a_room(library, seed, "living room")
    for index, thing in enumerate(room.objects):
        if thing.role == "coffee table":
            x, y, _ = in_frame_of(room, index, 0)
            assert abs(x) < 1e-9 and y < 0
        if thing.role == "television stand":
            assert abs(in_frame_of(room, index, 0)[0]) < 0.6
            assert thing.turn[1] @ room.objects[0].turn[1] == pytest.approx(-1)


@settings(deadline=None, max_examples=60)
@given(seeds, kinds)
def test_the_camera_stands_in_the_room_and_sees_every_object(library, seed, kind):
    room = a_room(library, seed, kind)
    eye, right, back = room.camera_to_room[3, :3], room.camera_to_room[0], room.camera_to_room[2]
    (west, south), (east, north) = room.floor[0], room.floor[2]
    # So no wall is between it and the room.
    assert west < eye[0] < east and south < eye[1] < north and 0.5 < eye[2] < room.height
    assert right[2] == pytest.approx(0) and 0 < back[2] < 0.45  # no roll, looking down a little
    camera = Camera(np.linalg.inv(room.camera_to_room), float(room.focal[0]), 1.0, 1.0)
    for thing in room.objects:
        low = np.asarray(thing.asset.minimum)
        local = np.eye(4)
        local[:3, :3] = np.diag(thing.scale) @ thing.turn
        local[3, :3] = thing.position - np.array([*(low + np.asarray(thing.asset.size) / 2)[:2], 0]) @ local[:3, :3]
        asset = Asset("/Room/Thing", local, np.stack([low, low + np.asarray(thing.asset.size)]))
        assert pose_2d(asset, camera) is not None
        assert -np.max(camera.to_camera(asset.corners())[:, 2]) > 0


def test_the_same_seed_is_the_same_room_and_another_is_another(library):
    first, again, other = (room_latents(a_room(library, seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first.objects[0].translation, again.objects[0].translation)
    assert not np.array_equal(first.objects[0].translation, other.objects[0].translation)


def test_splits_share_no_model_where_a_role_has_held_out_ones(library):
    for seed in range(30):
        for split in ("train", "held_out_scenes"):
            assert not any(thing.asset.held_out for thing in a_room(library, seed, split=split).objects)
        for thing in a_room(library, seed, split="held_out_models").objects:
            # Only a bed and a lamp are held out; the rest is of what there is.
            assert thing.asset.held_out == (thing.role in ("bed", "table lamp"))


def test_what_cannot_be_furnished_is_told(library):
    without = [asset for asset in library if not asset.name.startswith("bed ")]
    with pytest.raises(ValueError, match="a bedroom needs a bed, but no model of the split 'train' is one"):
        a_room(without, 0)
    with pytest.raises(ValueError, match="must be one of bedroom, living room, dining room, not 'kitchen'"):
        a_room(library, 0, "kitchen")
    tiny = [replace(asset, size=tuple(side / 10 for side in asset.size)) for asset in library]
    with pytest.raises(ValueError, match="by its name and size"):
        a_room(tiny, 0)


# --- its stage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RULES)
def test_a_stage_says_what_the_latents_say(library, folder, tmp_path, kind):
    for seed in range(5):
        room = a_room(library, seed, kind)
        file = tmp_path / f"room{seed}.usda"
        write_room(file, room, folder)
        scene = stages.read(stages.open_stage(file))
        latents, ids = room_latents(room)
        assert scene.background.path == "/Room/Shell" and scene.camera.path == "/Room/Camera"
        assert [asset.path for asset in scene.foreground] == [thing.path for thing in latents.objects]
        assert [asset.text for asset in scene.foreground] == [thing.text for thing in latents.objects]
        assert scene.camera.focal_length / scene.camera.horizontal_aperture == pytest.approx(latents.focal[0])
        for asset, thing, model in zip(scene.foreground, latents.objects, ids, strict=True):
            rotation = Rotation.from_quat(thing.rotation[[1, 2, 3, 0]])
            unit = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) - 0.5
            corners = rotation.apply(unit * thing.scale) + thing.translation
            assert np.abs(corners - scene.camera.to_camera(asset.corners())).max() < 1e-5
            assert model == Path(asset_layer(file, asset.path)).stem


def asset_layer(file: Path, path: str) -> str:
    """The file that a prim references."""
    stage = Usd.Stage.Open(str(file))
    return stage.GetPrimAtPath(path).GetPrimStack()[-1].layer.realPath


@pytest.mark.parametrize("kind", RULES)
def test_the_background_view_is_what_the_stage_shows_without_its_objects(library, folder, tmp_path, kind):
    for seed in range(4):
        room = a_room(library, seed, kind)
        file = tmp_path / f"room{seed}.usda"
        write_room(file, room, folder)
        stage = stages.open_stage(file)
        scene = stages.read(stage)
        for asset in scene.foreground:
            stage.GetPrimAtPath(asset.path).SetActive(False)
        scene.assets = [scene.background]
        passes = stages.render_passes(stage, scene, 32, 32)
        color, depth = background_view(room)
        assert color.dtype == depth.dtype == np.float32 and color.shape == (32, 32, 3)
        assert np.array_equal(np.isfinite(depth), np.isfinite(passes.depth))
        seen = np.isfinite(depth)
        assert seen.mean() > 0.5
        assert np.abs(depth[seen] - passes.depth[seen]).max() < 1e-4
        # Where the texture is not shown, its mean is.
        assert np.abs(color - passes.color).mean() < 0.06
        assert np.abs(color.mean((0, 1)) - passes.color.mean((0, 1))).max() < 0.02


def evening(library: list[FurnitureAsset]) -> Room:
    """A room that its lamps light."""
    rooms = (a_room(library, seed) for seed in range(200))
    return next(room for room in rooms if room.evening and any(thing.glow > 1 for thing in room.objects))


def lamps(stage: Usd.Stage) -> list[str]:
    """Paths of the bulbs."""
    return [str(prim.GetPath()) for prim in stage.Traverse() if prim.IsA(UsdLux.SphereLight)]


def test_a_lamp_holds_its_light(library, folder, tmp_path):
    room = evening(library)
    write_room(tmp_path / "room.usda", room, folder)
    stage = Usd.Stage.Open(str(tmp_path / "room.usda"))
    lit = [f"/Room/{name}/Bulb" for name, thing in zip(room.names, room.objects, strict=True) if thing.glow]
    assert lamps(stage) == lit
    bulb = UsdGeom.Xformable(stage.GetPrimAtPath(lit[0])).ComputeLocalToWorldTransform(0).ExtractTranslation()
    thing = room.objects[room.names.index(lit[0].split("/")[2])]
    assert np.abs((np.array(bulb) - thing.position)[:2]).max() < 0.2
    assert thing.position[2] + 0.4 * thing.size[2] < bulb[2] < thing.position[2] + thing.size[2]
    stage.GetPrimAtPath(lit[0]).GetParent().SetActive(False)
    assert lamps(stage) == lit[1:]


# --- a world of them --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory, folder) -> Path:
    out = tmp_path_factory.mktemp("rooms")
    command = [sys.executable, "-m", "neuralusd", "data", "rooms", "--out", str(out), "--furniture", str(folder)]
    options = ["--rooms", "2", "--held-out-rooms", "0", "--held-out-models", "1", "--workers", "1"]
    command += [*options, "--resolution", "48", "--samples", "2", "--kind", "bedroom", "--kind", "living room"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 held_out_models, 2 train" in done.stdout
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("rgb.*")}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and {path: path.stat().st_mtime_ns for path in out.rglob("rgb.*")} == stamps
    return out


@needs_blender
def test_a_world_of_rooms_is_read_as_every_world(world):
    bedroom, living_room = open_world(world)
    assert bedroom.about["kind"] == "bedroom" and living_room.about["kind"] == "living room"
    for scene in (bedroom, *open_world(world, "held_out_models")):
        assert scene.frames == (1,)
        passes = scene.read(1)
        assert passes.rgb.shape == (48, 48, 3) and 20 < passes.rgb.mean() < 240
        stage = stages.open_stage(scene.stage_path)
        read = stages.read(stage)
        assert passes.paths == tuple(asset.path for asset in read.assets)
        assert [asset.path for asset in read.foreground] == scene.about["objects"]
        cast = stages.render_passes(stage, read, 48, 48, color=False)
        agree = cast.ids == passes.ids
        assert agree.mean() > 0.98
        both = agree & np.isfinite(cast.depth) & np.isfinite(passes.depth)
        assert np.abs(cast.depth[both] - passes.depth[both]).mean() < 0.01
        assert np.allclose(scene.about["camera_to_room"], np.linalg.inv(read.camera.world_to_camera))
    assert is_held_out(open_world(world, "held_out_models")[0].about["assets"][0])


@needs_blender
def test_without_the_lamp_its_light_is_gone_from_the_picture(library, folder, tmp_path):
    file = tmp_path / "room.usda"
    write_room(file, evening(library), folder)
    stage = Usd.Stage.Open(str(file))
    for path in lamps(stage):
        stage.GetPrimAtPath(path).GetParent().SetActive(False)
    stage.Export(str(tmp_path / "without.usda"))
    program = (
        "import sys; from neuralusd.datasets.cycles import render_frames\n"
        "for name in ('room', 'without'):\n"
        "    render_frames(f'{sys.argv[1]}/{name}.usda', [1], 32, f'{sys.argv[1]}/{name}', samples=4)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    with_it, without = (
        np.asarray(PIL.Image.open(tmp_path / name / "rgb.0001.png")) / 255.0 for name in ("room", "without")
    )
    assert (with_it**2.2).mean() > 1.3 * (without**2.2).mean()


def test_the_command_tells_what_is_wrong(folder, tmp_path, capsys):
    def told(*options: str) -> str:
        assert main(["data", "rooms", "--out", str(tmp_path / "out"), *options]) != 0
        return capsys.readouterr().err

    assert "no rooms of kind 'kitchen'; there are bedroom" in told("--kind", "kitchen")
    assert "-1 is not a whole number of at least 0" in told("--rooms", "-1")
    assert "no .sh3f furniture catalogue" in told("--furniture", str(tmp_path / "nowhere"))
    few = tmp_path / "few"
    write_box(few, named("bed", False), MODELS["bed"])
    assert "no model of 1 is a sofa for a living room" in told("--furniture", str(few), "--kind", "living room")
    assert "falls into the split 'held_out_models'" in told("--furniture", str(few))
    (tmp_path / "out").rmdir()


# --- plausibility -----------------------------------------------------------------------------------------------------


def moved(room: Room, index: int, by: tuple[float, float, float] = (0, 0, 0), turn: Rotation | None = None):
    """Facts of a room in which an object was moved by metres in the room, and turned about the middle of its box."""
    latents, _ = room_latents(room)
    thing = latents.objects[index]
    to_camera = room.camera_to_room[:3, :3].T
    thing.translation = thing.translation + np.asarray(by) @ to_camera
    if turn is not None:
        into = Rotation.from_matrix(to_camera.T)
        before = Rotation.from_quat(thing.rotation[[1, 2, 3, 0]])
        thing.rotation = (into * turn * into.inv() * before).as_quat()[[3, 0, 1, 2]]
    return facts(latents, room.camera_to_room, room.floor)


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(0.05, 1.0))
def test_what_floats_or_is_sunk_is_told_with_how_far(library, seed, far):
    room = a_room(library, seed)
    (floating,) = [found for found in moved(room, 0, (0, 0, far)).floating if found[0] == 0]
    assert floating[1] == pytest.approx(far)
    sunk = moved(room, 0, (0, 0, -min(far, 0.3))).sunk
    assert sunk[0] == (0, pytest.approx(min(far, 0.3)))


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(0.05, 3.0))
def test_what_leaves_the_room_is_told_with_how_far(library, seed, far):
    room = a_room(library, seed)
    corners = room.objects[0].corners()
    out = moved(room, 0, (0, room.floor[2, 1] - corners[:, 1].max() + far, 0)).outside
    assert (0, pytest.approx(far)) in out


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(1, 60))
def test_tilt_is_told_in_degrees(library, seed, degrees):
    tilt = moved(a_room(library, seed), 0, turn=Rotation.from_euler("x", degrees, degrees=True)).tilt
    assert tilt[0] == pytest.approx(degrees) and tilt[1:].max(initial=0) < 1e-3


def test_what_stands_where_another_stands_collides(library):
    room = next(
        r for r in (a_room(library, seed) for seed in range(99)) if "Nightstand" in r.names and r.objects[0].yaw == 0
    )
    index = room.names.index("Nightstand")
    bed, stand = room.objects[0], room.objects[index]
    inward = np.sign(bed.position[0] - stand.position[0])
    gap = abs(bed.position[0] - stand.position[0]) - (bed.size[0] + stand.size[0]) / 2
    assert not moved(room, index).collisions
    (found,) = [c for c in moved(room, index, (inward * (gap + 0.1), 0, 0)).collisions if c[:2] == (0, index)]
    assert found[2] == pytest.approx(0.1)


@given(st.integers(0, 1000), st.floats(0.01, 0.4))
def test_the_depth_of_a_collision_does_not_depend_on_the_frame(seed, depth):
    size = np.array([1.0, 0.8, 0.6])
    turn = Rotation.random(random_state=seed).as_matrix()
    first = (np.zeros(3), turn, size)
    other = ((np.array([1.0 - depth, 0.1, 0.05])) @ turn, turn, size)
    assert penetration(first, other) == pytest.approx(min(depth, 0.6 - 0.05))
    apart = ((np.array([1.0 + depth, 0.1, 0.05])) @ turn, turn, size)
    assert penetration(first, apart) == 0


def test_facts_refuse_what_is_no_layout(library):
    latents, _ = room_latents(a_room(library, 0))
    with pytest.raises(ValueError, match=r"floor \(4, 2\)"):
        facts(latents, np.eye(4), np.zeros((3, 2)))
    latents.objects[0].translation = np.full(3, np.nan)
    with pytest.raises(ValueError, match="not finite"):
        facts(latents, np.eye(4), np.zeros((4, 2)))
    latents.objects[0].presence = False
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert facts(latents, np.eye(4), square).objects == len(latents.objects) - 1
    nothing = facts(SceneLatents(), np.eye(4), square)
    assert nothing.clean and nothing.objects == 0 and np.isnan(nothing.back_to_wall)


def test_the_facts_of_a_room_know_its_bed(library):
    room = a_room(library, 1)
    latents, _ = room_latents(room)
    about = facts(latents, room.camera_to_room, room.floor)
    assert about.back_to_wall < 0.05
    area = np.prod(room.floor[2] - room.floor[0])
    standing = sum(np.prod(thing.size[:2]) for thing in room.objects if thing.support is None)
    assert about.covered == pytest.approx(standing / area, rel=0.1)
    json.dumps({"collisions": about.collisions, "covered": about.covered})
