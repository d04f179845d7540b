"""The scene's own geometry: cameras, boxes and poses, without USD."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from neuralusd.scene import BACKGROUND, POSE_CORNERS, Asset, Box2D, Camera, Scene, pose_2d, pose_3d

numbers = st.floats(-5, 5)


@st.composite
def cameras(draw):
    camera_to_world = np.eye(4)
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    camera_to_world[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    camera_to_world[3, :3] = [draw(numbers) for _ in range(3)]
    return Camera(
        world_to_camera=np.linalg.inv(camera_to_world),
        focal_length=draw(st.floats(10, 100)),
        horizontal_aperture=draw(st.floats(10, 40)),
        vertical_aperture=draw(st.floats(10, 40)),
        horizontal_aperture_offset=draw(st.floats(-5, 5)),
        vertical_aperture_offset=draw(st.floats(-5, 5)),
        projection=draw(st.sampled_from(["perspective", "orthographic"])),
    )


@given(cameras(), st.floats(0.1, 50))
@settings(deadline=None)
def test_rays_lead_to_the_points_that_project_to_their_pixels(camera, depth):
    origins, directions = camera.rays(4, 6)
    seen = camera.project(origins + depth * directions)
    expected_h, expected_w = np.meshgrid((np.arange(4) + 0.5) / 4, (np.arange(6) + 0.5) / 6, indexing="ij")
    np.testing.assert_allclose(seen[..., 0], expected_h, atol=1e-9)
    np.testing.assert_allclose(seen[..., 1], expected_w, atol=1e-9)
    np.testing.assert_allclose(seen[..., 2], depth, rtol=1e-9)


def test_up_is_up_and_right_is_right():
    camera = Camera(np.eye(4), focal_length=10, horizontal_aperture=20, vertical_aperture=20)
    h, w, depth = camera.project(np.array([1.0, 2.0, -4.0]))
    assert h < 0.5 and w > 0.5 and depth == 4
    np.testing.assert_allclose([h, w], [0.5 - 2 / 4 / 2, 0.5 + 1 / 4 / 2])


def test_what_is_behind_a_camera_has_no_place_in_the_image():
    camera = Camera(np.eye(4))
    h, w, depth = camera.project(np.array([0.0, 0.0, 3.0]))
    assert np.isnan(h) and np.isnan(w) and depth == -3


@given(cameras(), st.floats(0.2, 5))
@settings(deadline=None)
def test_a_fitted_camera_has_the_aspect_and_shows_no_less(camera, aspect):
    fitted = camera.fitted(aspect)
    np.testing.assert_allclose(fitted.horizontal_aperture / fitted.vertical_aperture, aspect)
    assert fitted.horizontal_aperture >= camera.horizontal_aperture * (1 - 1e-12)
    assert fitted.vertical_aperture >= camera.vertical_aperture * (1 - 1e-12)


def unit_cube(place=(0.0, 0.0, -5.0)) -> Asset:
    local_to_world = np.eye(4)
    local_to_world[3, :3] = place
    return Asset("/Cube", local_to_world, extent=np.array([[-0.5] * 3, [0.5] * 3]))


def test_corners_of_a_box():
    corners = unit_cube().corners()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners[0], [-0.5, -0.5, -5.5])
    np.testing.assert_allclose(corners[7], [0.5, 0.5, -4.5])
    # The pose's corners are the origin of the box and the ends of its x, y and z axes.
    np.testing.assert_allclose(np.diff(corners[list(POSE_CORNERS)], axis=0)[0], [1, 0, 0])
    np.testing.assert_allclose(corners[list(POSE_CORNERS)][1:] - corners[0], np.eye(3))


def test_pose_3d_is_the_projection_of_four_corners():
    asset, camera = unit_cube(), Camera(np.eye(4))
    np.testing.assert_allclose(pose_3d(asset, camera), camera.project(asset.corners())[[0, 4, 2, 1]])


def test_pose_2d_is_clipped_to_the_image():
    camera = Camera(np.eye(4), focal_length=10, horizontal_aperture=20, vertical_aperture=20)
    whole = pose_2d(unit_cube(), camera)
    np.testing.assert_allclose(whole, [0.5 - 0.5 / 4.5 / 2, 0.5 - 0.5 / 4.5 / 2, 0.5 / 4.5, 0.5 / 4.5])
    x, y, h, w = pose_2d(unit_cube((-5.0, 0.0, -5.0)), camera)
    assert x == 0 and 0 < w < whole[3] and h == pytest.approx(whole[2])
    assert pose_2d(unit_cube((-50.0, 0.0, -5.0)), camera) is None
    assert pose_2d(unit_cube((0.0, 0.0, 5.0)), camera) is None


def test_a_box_around_the_camera_fills_the_image():
    camera = Camera(np.eye(4), focal_length=10, horizontal_aperture=20, vertical_aperture=20)
    np.testing.assert_allclose(pose_2d(unit_cube((0.0, 0.0, 0.0)), camera), [0, 0, 1, 1])


def test_an_asset_without_geometry_has_the_box_it_was_given():
    asset = Asset("/Word", box2d=Box2D(0.1, 0.2, 0.3, 0.4))
    np.testing.assert_array_equal(pose_2d(asset, Camera(np.eye(4))), [0.1, 0.2, 0.3, 0.4])
    assert pose_2d(Asset("/Nothing"), Camera(np.eye(4))) is None
    with pytest.raises(ValueError, match="</Word> has no extent"):
        pose_3d(asset, Camera(np.eye(4)))


def test_a_scene_knows_its_assets():
    cube, sky = unit_cube(), Asset("/Sky", role=BACKGROUND)
    scene = Scene([cube, sky], Camera(np.eye(4)), source="shot.usda")
    assert scene.asset("/Cube") is cube and scene.foreground == [cube] and scene.background is sky
    with pytest.raises(KeyError, match=r"</Kube> is not a neural asset of shot.usda; it has: </Cube>, </Sky>"):
        scene.asset("/Kube")
