"""Prims are moved by the xformOps they have, and end up exactly where they were asked to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pxr import Gf, Usd, UsdGeom
from scipy.spatial.transform import Rotation
from stages import new_stage

from neuralusd.schema import NeuralAssetAPI
from neuralusd.stage import read, sidecar, write_pose
from neuralusd.stage.errors import StageWarning, TransformError


@pytest.fixture
def shot(tmp_path):
    """A file with a cube and a ball, in centimetres."""
    stage = new_stage("Z", 0.01, tmp_path / "shot.usda")
    UsdGeom.Cube.Define(stage, "/World/Cube")
    UsdGeom.Sphere.Define(stage, "/World/Ball").AddTranslateOp().Set((5, 0, 0))
    stage.Save()
    return tmp_path / "shot.usda"


angles = st.floats(-180, 180)
places = st.tuples(*[st.floats(-10, 10)] * 3)
OPS = {
    "translate": lambda x, v: x.AddTranslateOp().Set(Gf.Vec3d(*v[0])),
    "pivot": lambda x, v: x.AddTranslateOp(opSuffix="pivot").Set(Gf.Vec3d(*v[1])),
    "rotate": lambda x, v: getattr(x, f"AddRotate{v[2]}Op")().Set(Gf.Vec3f(*v[3])),
    "orient": lambda x, v: x.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(
        Gf.Quatd(*Rotation.from_euler("xyz", v[3], degrees=True).as_quat()[[3, 0, 1, 2]].tolist())
    ),
    "rotateY": lambda x, v: x.AddRotateYOp().Set(v[3][0]),
    "scale": lambda x, v: x.AddScaleOp().Set(Gf.Vec3f(*v[4])),
    "unpivot": lambda x, v: x.AddTranslateOp(opSuffix="pivot", isInverseOp=True),
    "matrix": lambda x, v: x.AddTransformOp().Set(Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*v[0]))),
}
STACKS = [
    [], ["translate"], ["translate", "rotate", "scale"], ["translate", "orient", "scale"], ["matrix"], ["rotateY"],
    ["translate", "pivot", "rotate", "scale", "unpivot"], ["translate", "pivot", "orient", "unpivot", "scale"],
    ["scale", "rotate", "translate"], ["rotate", "translate"], ["translate", "matrix"],
    ["translate", "scale", "rotateY"],
]  # fmt: skip


@st.composite
def posed(draw):
    """A prim with one of many op stacks below a parent that turns, scales and moves it."""
    stage = new_stage(draw(st.sampled_from("YZ")), draw(st.sampled_from([1.0, 0.01])))
    parent = UsdGeom.Xform.Define(stage, "/World")
    parent.AddTranslateOp().Set(Gf.Vec3d(*draw(places)))
    parent.AddRotateXYZOp().Set(Gf.Vec3f(*(draw(angles) for _ in range(3))))
    parent.AddScaleOp().Set(Gf.Vec3f(draw(st.floats(0.5, 2))))
    prim = UsdGeom.Xform.Define(stage, "/World/Thing")
    stack = draw(st.sampled_from(STACKS))
    values = (draw(places), draw(places), draw(st.sampled_from(["XYZ", "ZYX", "YXZ"])),
              [draw(angles) for _ in range(3)], [draw(st.floats(0.5, 2)) for _ in range(3)])  # fmt: skip
    for name in stack:
        OPS[name](prim, values)
    if draw(st.booleans()):
        prim.SetResetXformStack(True)
    UsdGeom.Cube.Define(stage, "/World/Thing/Cube")
    NeuralAssetAPI.Apply(prim.GetPrim())
    return stage, stack


@st.composite
def matrices(draw):
    matrix = np.eye(4)
    rotation = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    matrix[:3, :3] = np.diag([draw(st.floats(0.2, 3)) for _ in range(3)]) @ rotation
    if draw(st.integers(0, 4)) == 0:
        matrix[:3, :3] = matrix[:3, :3] @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    matrix[3, :3] = draw(places)
    return matrix


@given(posed(), matrices())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_pose_is_what_was_asked_for_whatever_ops_there_are(stage_and_stack, matrix):
    stage, _ = stage_and_stack
    prim = stage.GetPrimAtPath("/World/Thing")
    resets = UsdGeom.Xformable(prim).GetResetXformStack()
    write_pose(stage, "/World/Thing", matrix)
    np.testing.assert_allclose(read(stage).assets[0].local_to_world, matrix, atol=1e-4)
    assert UsdGeom.Xformable(prim).GetResetXformStack() == resets


@given(posed(), places)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_moving_only_moves(stage_and_stack, place):
    stage, stack = stage_and_stack
    prim = stage.GetPrimAtPath("/World/Thing")
    before = list(UsdGeom.Xformable(prim).GetXformOpOrderAttr().Get() or [])
    matrix = read(stage).assets[0].local_to_world
    matrix[3, :3] += place
    write_pose(stage, "/World/Thing", matrix)
    after = list(UsdGeom.Xformable(prim).GetXformOpOrderAttr().Get())
    np.testing.assert_allclose(read(stage).assets[0].local_to_world, matrix, atol=1e-4)
    if "translate" in stack and "matrix" not in stack:
        assert after == before  # the gizmo's own translate was edited
    if stack == ["matrix"]:
        assert after == before


def test_a_prim_without_ops_gets_the_common_ones():
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([2, 2, 2]) @ Rotation.from_euler("z", 30, degrees=True).as_matrix().T
    matrix[3, :3] = [1, 2, 3]
    write_pose(stage, "/Cube", matrix)
    order = ["xformOp:translate", "xformOp:rotateXYZ", "xformOp:scale"]
    assert list(UsdGeom.Xformable(stage.GetPrimAtPath("/Cube")).GetXformOpOrderAttr().Get()) == order
    assert UsdGeom.XformCommonAPI(stage.GetPrimAtPath("/Cube"))
    np.testing.assert_allclose(stage.GetPrimAtPath("/Cube").GetAttribute(order[1]).Get(), [0, 0, 30], atol=1e-6)


def test_a_pose_at_a_time_leaves_the_other_frames(shot):
    stage = Usd.Stage.Open(str(shot))
    move = UsdGeom.Xformable(stage.GetPrimAtPath("/World/Ball")).GetOrderedXformOps()[0]
    for time in (1, 2, 3):
        move.Set(Gf.Vec3d(time, 0, 0), time)
    stage.Save()
    over = sidecar(stage)
    matrix = read(over, time=2).asset("/World/Ball").local_to_world
    matrix[3, 1] = 7
    write_pose(over, "/World/Ball", matrix, time=2)
    seen = [read(over, time=t).asset("/World/Ball").local_to_world[3, :3].tolist() for t in (1, 2, 3)]
    np.testing.assert_allclose(seen, [[0.01, 0, 0], [0.02, 7, 0], [0.03, 0, 0]], atol=1e-9)
    matrix[3, :3] = 9
    write_pose(over, "/World/Cube", matrix)
    with pytest.raises(TransformError, match="animated in .*Give a time"):
        write_pose(over, "/World/Ball", matrix)


def test_a_still_pose_over_an_animated_one_holds_at_all_times(shot):
    stage = Usd.Stage.Open(str(shot))
    move = UsdGeom.Xformable(stage.GetPrimAtPath("/World/Ball")).GetOrderedXformOps()[0]
    for time in (1, 2):
        move.Set(Gf.Vec3d(time, 0, 0), time)
    stage.Save()
    over = sidecar(stage)
    matrix = np.diag([0.01, 0.01, 0.01, 1.0])
    write_pose(over, "/World/Ball", matrix)
    np.testing.assert_allclose(read(over, time=2).asset("/World/Ball").local_to_world, matrix, atol=1e-9)


def test_an_asset_inside_an_instance_can_be_moved():
    stage = new_stage()
    stage.CreateClassPrim("/Set")
    for name in ("A", "B"):
        UsdGeom.Cube.Define(stage, f"/Set/{name}")
        NeuralAssetAPI.Apply(stage.GetPrimAtPath(f"/Set/{name}"))
    for index in (1, 2):
        prim = UsdGeom.Xform.Define(stage, f"/Room{index}").GetPrim()
        prim.GetReferences().AddInternalReference("/Set")
        prim.SetInstanceable(True)
    matrix = np.eye(4)
    matrix[3, 0] = 5
    with pytest.warns(StageWarning, match="</Room2> is made not instanceable"):
        write_pose(stage, "/Room2/A", matrix)
    places = {a.path: a.local_to_world[3, 0] for a in read(stage).assets}
    assert places == {"/Room1/A": 0, "/Room1/B": 0, "/Room2/A": 5, "/Room2/B": 0}


@pytest.mark.parametrize(
    ("path", "matrix", "what"),
    [("/Cube", np.zeros((4, 4)), "inverted"), ("/Cube", np.full((4, 4), np.nan), "finite"),
     ("/Cube", np.eye(3), "4, 4"),
     ("/Scope", np.eye(4), "a Scope, which has no transform"), ("/Flat/Cube", np.eye(4), "parent is singular")],
)  # fmt: skip
def test_a_pose_that_cannot_be_is_refused(path, matrix, what):
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    UsdGeom.Scope.Define(stage, "/Scope")
    UsdGeom.Xform.Define(stage, "/Flat").AddScaleOp().Set((0, 1, 1))
    UsdGeom.Cube.Define(stage, "/Flat/Cube")
    with pytest.raises(TransformError, match=f"<{path}>.*{what}"):
        write_pose(stage, path, matrix)
