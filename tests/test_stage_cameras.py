"""Cameras: found, read as USD's own frustum sees, framed where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pxr import Gf, Sdf, UsdGeom, UsdRender
from stages import add_camera, new_stage

from neuralusd.scene import pose_2d
from neuralusd.stage import find_camera, find_cameras, frame_stage, read, read_camera
from neuralusd.stage.errors import CameraError, EmptyStageError


@st.composite
def lenses(draw):
    return {
        "projection": draw(st.sampled_from(["perspective", "orthographic"])),
        "focalLength": draw(st.floats(5, 200)),
        "horizontalAperture": draw(st.floats(5, 50)),
        "verticalAperture": draw(st.floats(5, 50)),
        "horizontalApertureOffset": draw(st.floats(-10, 10)),
        "verticalApertureOffset": draw(st.floats(-10, 10)),
    }


@given(lenses(), st.sampled_from([1.0, 0.01]), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
@settings(deadline=None, max_examples=50)
def test_projection_is_that_of_usds_frustum(lens, meters_per_unit, scale):
    stage = new_stage("Z", meters_per_unit)
    add_camera(stage, (3, -7, 2), (1, 0, 0.5), **lens)
    parent = UsdGeom.Xform.Define(stage, "/Rig")
    parent.AddRotateXYZOp().Set(Gf.Vec3f(10, 20, 30))
    # Scaled, mirrored and sheared rigs: the frustum drops all of it.
    factors = [s if abs(s) > 0.1 else 1.0 for s in scale]
    parent.AddScaleOp().Set(Gf.Vec3f(*factors))
    Sdf.CopySpec(stage.GetRootLayer(), "/Camera", stage.GetRootLayer(), "/Rig/Camera")
    camera = read_camera(stage, "/Rig/Camera", aspect=lens["horizontalAperture"] / lens["verticalAperture"])
    frustum = UsdGeom.Camera(stage.GetPrimAtPath("/Rig/Camera")).GetCamera().frustum
    matrix = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
    view = frustum.ComputeViewMatrix().GetInverse()
    for point in [(0.1, 0.2, -2.0), (-0.5, 0.3, -7.0)]:
        world = view.Transform(Gf.Vec3d(*point))
        x, y, _ = matrix.Transform(world)
        h, w, depth = camera.project(np.array(world) * meters_per_unit)
        np.testing.assert_allclose([h, w], [(1 - y) / 2, (1 + x) / 2], atol=1e-5)
        np.testing.assert_allclose(depth, -point[2] * meters_per_unit, rtol=1e-6)
    np.testing.assert_allclose(camera.clipping_range, np.array([0.01, 10000]) * meters_per_unit, rtol=1e-6)


def test_lens_and_place_are_read_at_the_time():
    stage = new_stage()
    camera = UsdGeom.Camera.Define(stage, "/Camera")
    move = camera.AddTranslateOp()
    move.Set((0, 0, 1), 1)
    move.Set((0, 0, 3), 3)
    camera.GetFocalLengthAttr().Set(20, 1)
    camera.GetFocalLengthAttr().Set(40, 3)
    at = read_camera(stage, "/Camera", 2)
    assert at.focal_length == 30
    np.testing.assert_allclose(np.linalg.inv(at.world_to_camera)[3, :3], [0, 0, 2])


def test_which_camera_a_stage_is_seen_by():
    stage = new_stage()
    assert find_camera(stage) is None and find_cameras(stage) == []
    for name in ("First", "main_cam", "Shot", "Bound"):
        UsdGeom.Camera.Define(stage, f"/Cameras/{name}")
    assert find_cameras(stage) == [f"/Cameras/{n}" for n in ("First", "main_cam", "Shot", "Bound")]
    assert find_camera(stage) == "/Cameras/main_cam"
    stage.RemovePrim("/Cameras/main_cam")
    assert find_camera(stage) == "/Cameras/First"
    stage.GetRootLayer().customLayerData = {"cameraSettings": {"boundCamera": "/Cameras/Bound"}}
    assert find_camera(stage) == "/Cameras/Bound"
    settings_prim = UsdRender.Settings.Define(stage, "/Render/Settings")
    settings_prim.CreateCameraRel().SetTargets(["/Cameras/Shot"])
    stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")
    assert find_camera(stage) == "/Cameras/Shot"
    assert find_camera(stage, "/Cameras/First") == "/Cameras/First"


@pytest.mark.parametrize(
    ("path", "what"), [("/Cube", "a Cube, no camera"), ("/Nowhere", "no prim"), ("x y", "no prim")]
)
def test_a_path_that_is_no_camera_lists_those_there_are(path, what):
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    add_camera(stage, (0, 0, 5), path="/Rig/Left")
    with pytest.raises(CameraError, match=f"<{path}> is {what}.*</Rig/Left>"):
        read(stage, path)


@pytest.mark.parametrize(("attribute", "value"), [("focalLength", 0.0), ("horizontalAperture", -1.0)])
def test_a_lens_that_makes_no_picture_is_named(attribute, value):
    stage = new_stage()
    add_camera(stage, (0, 0, 5), **{attribute: value})
    with pytest.raises(CameraError, match=f"</Camera>: its {attribute} is {value}"):
        read_camera(stage, "/Camera")


def test_a_camera_scaled_to_nothing_is_named():
    stage = new_stage()
    UsdGeom.Camera.Define(stage, "/Camera").AddScaleOp().Set((0, 1, 1))
    with pytest.raises(CameraError, match="</Camera>: its transform is singular"):
        read_camera(stage, "/Camera")


@pytest.mark.parametrize("up", ["Y", "Z"])
@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9])
@pytest.mark.parametrize("size", [(3, 1, 1), (1, 3, 1), (1, 1, 3)])
def test_a_stage_without_a_camera_is_framed_from_its_front(up, aspect, size):
    stage = new_stage(up, 0.01)
    cube = UsdGeom.Cube.Define(stage, "/Box")
    cube.AddTranslateOp().Set((100, 200, 300))
    cube.AddScaleOp().Set(size)
    scene = read(stage, aspect=aspect)
    assert scene.camera.path == ""
    x, y, h, w = pose_2d(scene.assets[0], scene.camera)
    np.testing.assert_allclose([x + w / 2, y + h / 2], 0.5, atol=1e-6)
    assert 0.2 < max(h, w) and 0 < min(x, y) and max(x + w, y + h) < 1
    forward, upward = (
        -np.linalg.inv(scene.camera.world_to_camera)[2, :3],
        np.linalg.inv(scene.camera.world_to_camera)[1, :3],
    )
    np.testing.assert_allclose(forward, [0, 1, 0] if up == "Z" else [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(upward, [0, 0, 1] if up == "Z" else [0, 1, 0], atol=1e-12)
    near, far = scene.camera.clipping_range
    depths = scene.camera.project(scene.assets[0].corners())[:, 2]
    assert near < depths.min() and depths.max() < far


def test_framing_is_usdrecords():
    # UsdAppUtils' free camera: a 50 mm lens backed off until the front's diagonal fits the horizontal field of view.
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Box").AddScaleOp().Set((1, 2, 3))
    camera = frame_stage(stage)
    half_view = np.arctan(20.955 / 2 / 50)
    np.testing.assert_allclose(
        np.linalg.inv(camera.world_to_camera)[3, :3], [0, 0, np.hypot(1, 2) / np.tan(half_view) + 3], rtol=1e-5
    )


def test_a_stage_with_nothing_to_see_is_an_error():
    stage = new_stage()
    add_camera(stage, (0, 0, 5))
    with pytest.raises(EmptyStageError, match="nothing to see"):
        read(stage)
    UsdGeom.Imageable(UsdGeom.Cube.Define(stage, "/Hidden")).MakeInvisible()
    with pytest.raises(EmptyStageError, match="visibility"):
        read(stage)
    with pytest.raises(EmptyStageError, match="nothing to see"):
        frame_stage(stage)


def test_an_aspect_that_is_none_is_refused():
    stage = new_stage()
    add_camera(stage, (0, 0, 5))
    with pytest.raises(CameraError, match="`aspect` is 0"):
        read_camera(stage, "/Camera", aspect=0)
