"""A picture's own pixels on the surface that it shows: `seen_colors`."""

import numpy as np
import pytest
import trimesh

from neuralusd.lifting import Cutout
from neuralusd.lifting.projection import seen_colors
from neuralusd.scene import Camera

GREEN = np.array([0.1, 0.9, 0.1])
SIZE = 96


def fallback(points, normals):
    return np.tile(GREEN, (len(points), 1))


def camera(turn=0.0, projection="perspective", distance=6.0, x=0.0):
    """A camera on +Z that looks at the origin, turned about Y by degrees; its view is 3 wide there."""
    angle = np.radians(turn)
    place = np.eye(4)
    place[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    place[3, :3] = distance * place[2, :3] + x * place[0, :3]
    aperture = 3.0 if projection == "orthographic" else 3.0 * 50 / distance
    return Camera(np.linalg.inv(place), horizontal_aperture=aperture, vertical_aperture=aperture, projection=projection)


def paint(points):
    """What colour a thing has where it is."""
    return np.stack([0.5 + points[:, 0] / 4, 0.5 + points[:, 1] / 4, 0.5 + points[:, 2] / 4], 1)


def photograph(mesh, view, size=SIZE, background=(1.0, 0.0, 1.0)):
    """A picture of a painted mesh, as a camera that is not lifting's sees it."""
    origins, directions = (ray.reshape(-1, 3) for ray in view.rays(size, size))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    places, rays, _ = mesh.ray.intersects_location(origins, unit, multiple_hits=False)
    color = np.tile(np.array(background), (size * size, 1))
    color[rays] = paint(places)
    coverage = np.zeros(size * size, np.float32)
    coverage[rays] = 1
    return Cutout(color.reshape(size, size, 3).astype(np.float32), coverage.reshape(size, size))


def surface_points(mesh, count=4000):
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=0)
    return np.asarray(points), mesh.face_normals[faces]


def box(size, at=(0, 0, 0)):
    return trimesh.creation.box(size, trimesh.transformations.translation_matrix(at))


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_what_the_camera_sees_has_the_pictures_pixels_and_the_rest_the_fallback(projection):
    mesh = box((1.2, 1.6, 0.8))
    view = camera(30, projection)
    color = seen_colors([(photograph(mesh, view), view)], mesh.vertices, mesh.faces, fallback)
    points, normals = surface_points(mesh)
    found = color(points, normals)
    front, right = normals[:, 2] > 0.9, normals[:, 0] > 0.9
    for side in (front, right):
        assert np.median(np.abs(found[side] - paint(points[side])).max(1)) < 0.02
        assert np.abs(found[side] - paint(points[side])).max() < 0.25  # nothing of the background's magenta
    hidden = (normals[:, 2] < -0.9) | (normals[:, 0] < -0.9) | (np.abs(normals[:, 1]) > 0.9)
    assert np.allclose(found[hidden], GREEN)


def test_what_is_behind_something_else_is_not_painted_with_it():
    near, far = box((0.6, 0.6, 0.2), (0, 0, 0.9)), box((2, 2, 0.2))
    mesh = trimesh.util.concatenate([near, far])
    view = camera(0)
    color = seen_colors([(photograph(mesh, view), view)], mesh.vertices, mesh.faces, fallback)
    normal = np.array([[0, 0, 1.0]])
    behind, beside, in_front = (
        color(np.array([place]), normal)[0] for place in ((0, 0, 0.1), (0.8, 0, 0.1), (0, 0, 1))
    )
    assert np.allclose(behind, GREEN, atol=1e-6)
    assert np.allclose(beside, paint(np.array([[0.8, 0, 0.1]]))[0], atol=0.02)
    assert np.allclose(in_front, paint(np.array([[0, 0, 1.0]]))[0], atol=0.02)


def test_a_surface_that_turns_away_fades_to_the_fallback():
    mesh = trimesh.creation.icosphere(4)
    view = camera(0, "orthographic")
    color = seen_colors([(photograph(mesh, view), view)], mesh.vertices, mesh.faces, fallback)
    angles = np.radians(np.linspace(0, 100, 60))
    points = np.stack([np.sin(angles), np.zeros(60), np.cos(angles)], 1)
    found = color(points, points)
    assert np.allclose(found[angles < 1], paint(points[angles < 1]), atol=0.03)
    assert np.allclose(found[angles > 1.5], GREEN)
    assert np.abs(np.diff(found, axis=0)).max() < 0.3  # and nowhere at a step


def test_of_several_pictures_each_point_has_the_one_that_sees_it_best():
    mesh = box((1.2, 1.6, 0.8))
    views = [camera(0), camera(90), camera(180, x=0.2)]
    seen = [(photograph(mesh, view), view) for view in views]
    seen[1][0].color[:] = (0.9, 0.8, 0.1)  # the one from the right is all yellow
    color = seen_colors(seen, mesh.vertices, mesh.faces, fallback)
    points, normals = surface_points(mesh)
    found = color(points, normals)
    for side in (normals[:, 2] > 0.9, normals[:, 2] < -0.9):
        assert np.median(np.abs(found[side] - paint(points[side])).max(1)) < 0.02
    assert np.isclose(found[normals[:, 0] > 0.9], (0.9, 0.8, 0.1), atol=0.01).all(1).mean() > 0.99
    assert np.allclose(found[normals[:, 0] < -0.9], GREEN)


def test_a_picture_that_is_smaller_than_the_surface_does_not_bleed():
    """The surface is wider than the object in the picture: beside the outline there is the fallback."""
    mesh, view = box((2, 1.6, 0.4)), camera(0, "orthographic")
    picture = photograph(box((1, 1.6, 0.4)), view)
    color = seen_colors([(picture, view)], mesh.vertices, mesh.faces, fallback)
    x = np.array([0, 0.45, 0.51, 0.7, 0.9])
    found = color(np.stack([x, 0 * x, 0.2 + 0 * x], 1), np.tile([0, 0, 1.0], (5, 1)))
    assert np.allclose(found[:2], paint(np.stack([x, 0 * x, 0.2 + 0 * x], 1))[:2], atol=0.03)
    assert np.allclose(found[3:], GREEN)
    assert not np.isclose(found[:, 2], 1.0, atol=0.2).any()  # magenta is the background's


def test_without_pictures_it_is_the_fallback():
    assert seen_colors([], np.zeros((3, 3)), np.array([[0, 1, 2]]), fallback) is fallback
    empty = Cutout(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32))
    mesh = box((1, 1, 1))
    color = seen_colors([(empty, camera())], mesh.vertices, mesh.faces, fallback)
    assert np.allclose(color(np.array([[0, 0, 0.5]]), np.array([[0, 0, 1.0]])), GREEN)
