"""Clips of furniture that moves in its joints: stages, joints, pictures, and reading them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from pxr import Usd, UsdGeom, UsdPhysics

from neuralusd.cli import main
from neuralusd.datasets.articulated import ClipTask, write_task
from neuralusd.datasets.articulated_furniture import KINDS, draw_model
from neuralusd.datasets.clips import part_motion, read_clips

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender is not here as a Python module (the extra `blender`)"
)
UsdValidation = pytest.importorskip("pxr.UsdValidation")


def clip(folder, kind, index=0, frames=7):
    task = ClipTask(str(folder), "train", index, kind, frames, 32, 1, 1, 3)
    folder.mkdir(parents=True, exist_ok=True)
    write_task(folder / f"{kind}_{index}.usda", task)
    return Usd.Stage.Open(str(folder / f"{kind}_{index}.usda"))


def local_to_world(stage, path, time):
    return np.array(UsdGeom.XformCache(time).GetLocalToWorldTransform(stage.GetPrimAtPath(path)))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_move_as_their_joints_allow(tmp_path, kind):
    for index in range(3):
        stage = clip(tmp_path, kind, index)
        joints = [UsdPhysics.Joint(prim) for prim in stage.Traverse() if prim.IsA(UsdPhysics.Joint)]
        assert joints
        for joint in joints:
            [parent], [child] = joint.GetBody0Rel().GetTargets(), joint.GetBody1Rel().GetTargets()
            axis = "XYZ".index(joint.GetPrim().GetAttribute("physics:axis").Get())
            lower, upper = (joint.GetPrim().GetAttribute(f"physics:{end}Limit").Get() for end in ("lower", "upper"))
            assert lower < upper
            seen = []
            for time in [Usd.TimeCode.Default(), *map(Usd.TimeCode, range(1, 8))]:
                moved = local_to_world(stage, child, time) @ np.linalg.inv(local_to_world(stage, parent, time))
                away = moved[3, :3] - joint.GetLocalPos0Attr().Get()
                turn = moved[:3, :3]
                if joint.GetPrim().IsA(UsdPhysics.PrismaticJoint):
                    seen.append(away[axis])
                    assert np.abs(np.delete(away, axis)).max() < 1e-6 and np.abs(turn - np.eye(3)).max() < 1e-6
                else:
                    first, second = (axis + 1) % 3, (axis + 2) % 3
                    seen.append(np.degrees(np.arctan2(turn[first, second], turn[first, first])))
                    assert np.abs(away).max() < 1e-5 and turn[axis, axis] == pytest.approx(1)
            assert min(seen) > lower - 1e-3 and max(seen) < upper + 1e-3
            assert np.ptp(seen) > 0.2 * (upper - lower)
            assert seen[0] == pytest.approx((lower + upper) / 2, abs=1e-3)  # what the stage has as default


@pytest.mark.parametrize("kind", KINDS)
def test_meshes_are_closed_and_face_outwards(kind):
    for index in range(3):
        for part in draw_model(kind, np.random.default_rng(index)).parts:
            for shape in part.shapes:
                edges = [(face[i - 1], face[i]) for face in shape.faces for i in range(len(face))]
                assert len(set(edges)) == len(edges) and all((end, start) in edges for start, end in edges)
                points = shape.points - shape.points.mean(0)
                fans = [
                    points[[face[0], face[i], face[i + 1]]] for face in shape.faces for i in range(1, len(face) - 1)
                ]
                assert all(np.linalg.det(triangle) > 0 for triangle in fans)  # convex, around the middle


@pytest.mark.parametrize("kind", KINDS)
def test_usds_own_validators_have_nothing_to_say(tmp_path, kind):
    stage = clip(tmp_path, kind)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert not [(error.GetName(), error.GetMessage()) for error in errors]


def test_a_seed_is_a_clip_and_others_are_others(tmp_path):
    stages = [clip(tmp_path / name, "chest", index) for name, index in (("a", 0), ("b", 0), ("c", 1))]
    texts = [stage.GetRootLayer().ExportToString() for stage in stages]
    assert texts[0] == texts[1] != texts[2]


def test_motion_is_where_the_rigid_bodies_went(tmp_path):
    stage = clip(tmp_path, "lamp")
    motion = part_motion(stage, "/World/Asset", [1, 4])
    assert motion.shape == (2, 3, 4, 4) and motion[:, 0] == pytest.approx(np.broadcast_to(np.eye(4), (2, 4, 4)))
    shade = "/World/Asset/Head/Shade"
    point = np.array([0.1, 0.02, 0.0, 1.0])
    default = local_to_world(stage, shade, Usd.TimeCode.Default())
    for found, time in zip(motion[:, 2], (1, 4), strict=True):
        assert point @ default @ found == pytest.approx(point @ local_to_world(stage, shade, Usd.TimeCode(time)))
    # Without defaults the first frame is what the others are told from.
    for prim in stage.Traverse():
        for attribute in prim.GetAttributes():
            if attribute.GetName().startswith("xformOp:") and attribute.GetNumTimeSamples():
                attribute.ClearDefault()
    motion = part_motion(stage, "/World/Asset", [1, 4])
    assert (
        motion[0] == pytest.approx(np.broadcast_to(np.eye(4), (3, 4, 4))) and np.abs(motion[1] - motion[0]).max() > 0.1
    )
    head = UsdGeom.Xformable(stage.GetPrimAtPath("/World/Asset/Head"))
    head.AddScaleOp().Set((1, 1, 1), 1)
    head.GetOrderedXformOps()[-1].Set((1, 2, 1), 4)
    with pytest.raises(ValueError, match="</World/Asset/Head> changes its size; parts are rigid"):
        part_motion(stage, "/World/Asset", [1, 4])
    with pytest.raises(ValueError, match="nothing at or below </World/Lights> is a rigid body; apply PhysicsRigidBody"):
        part_motion(stage, "/World/Lights", [1])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("articulated") / "clips"
    command = ["data", "articulated", "--out", str(folder), "--kind", "trunk", "--kind", "chest", "--clips", "2"]
    small = ["--held-out-clips", "1", "--frames", "3", "--resolution", "40", "--samples", "1", "--workers", "1"]
    assert main([*command, *small, "--quiet"]) == 0
    return folder, [*command, *small]


@needs_blender
def test_pictures_show_the_parts_where_the_stage_has_them(world, capsys):
    folder, command = world
    clips = read_clips(folder)
    assert clips.color.shape == (2, 3, 40, 40, 3) and clips.motion.shape[:2] == (2, 3)
    assert clips.texts[0] == "a trunk with a lid" and clips.parts[0] == 2 and clips.parts[1] >= 3
    assert 0.03 < clips.mask.mean() < 0.7 and not clips.mask[:, :, 0].any()  # all of it is in view
    assert (clips.color[~clips.mask] == 0).all()
    # Every point that a picture shows is in a part's box, where the part is moved to.
    scene = next((folder / "scenes" / "train").glob("*trunk"))
    stage = Usd.Stage.Open(str(scene / "scene.usda"))
    boxes = UsdGeom.BBoxCache(Usd.TimeCode.Default(), ["default"])
    ranges = []
    for path in ("/World/Asset/Body", "/World/Asset/Lid"):
        box = boxes.ComputeUntransformedBound(stage.GetPrimAtPath(path)).ComputeAlignedRange()
        ranges.append(np.array([box.GetMin(), box.GetMax()]))
    origins, directions = clips.rays(np.zeros(3, int), np.arange(3))
    shares = np.zeros((3, 3))
    for seen in range(3):
        with np.load(scene / f"passes.{seen + 1:04d}.npz") as passes:
            depth = passes["depth"][clips.mask[0, seen]]
        points = (origins[seen] + 0 * directions[seen])[clips.mask[0, seen]]
        points = points + depth[:, None] * directions[seen][clips.mask[0, seen]]
        for told in range(3):
            inside = np.zeros(len(points), bool)
            for part, extent in enumerate(ranges):
                prim = "/World/Asset/" + ("Body", "Lid")[part]
                rest = local_to_world(stage, prim, Usd.TimeCode.Default())
                canonical = np.c_[points, np.ones(len(points))] @ np.linalg.inv(clips.motion[0, told, part])
                local = (world_points(stage, clips, canonical) @ np.linalg.inv(rest))[:, :3]
                inside |= ((local > extent[0] - 0.01) & (local < extent[1] + 0.01)).all(1)
            shares[seen, told] = inside.mean()
    assert np.diag(shares).min() > 0.98 and shares.min() < 0.9
    assert main(command) == 0 and "1 held_out_clips, 2 train" in capsys.readouterr().out  # nothing is left to do


def world_points(stage, clips, canonical):
    """Canonical points of the first clip in metres: the cameras are known in both."""
    camera = local_to_world(stage, "/World/Camera", Usd.TimeCode(1))
    return canonical @ np.linalg.inv(clips.camera_to_canonical[0, 0]) @ camera


@needs_blender
def test_clips_say_how_they_were_made_and_fewer_frames_can_be_taken(world):
    folder, _ = world
    about = json.loads(next((folder / "scenes" / "held_out_clips").glob("*/scene.json")).read_text())
    assert about["category"] == "trunk" and about["frames"] == [1, 2, 3] and about["seed"] == 0
    clips = read_clips(folder)
    some = clips.frames(np.array([2, 0]))
    assert some.color.shape[1] == 2 and np.array_equal(some.motion[:, 0], clips.motion[:, 2])
    with pytest.raises(FileNotFoundError, match="has no split 'other'"):
        read_clips(folder, "other")


def test_wrong_wishes_are_told(tmp_path, capsys):
    for wish, answer in (
        (["--kind", "door"], "no kind of articulated furniture 'door'; there are cabinet, chest, lamp, chair, trunk"),
        (["--frames", "1"], "nothing moves in 1 frame"),
        (["--clips", "-3"], "there cannot be -3 clips"),
    ):
        assert main(["data", "articulated", "--out", str(tmp_path / "clips"), *wish]) == 1
        assert answer in capsys.readouterr().err
    assert not (tmp_path / "clips").exists()
