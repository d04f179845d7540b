"""Geometry that an asset takes of another prim: that prim's shape, with its materials, in the asset's own box."""

from __future__ import annotations

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade

import neuralusd
from neuralusd import stage as stages
from neuralusd.surfaces.gbuffer import passes_of
from tests.tiny_backend import save_tiny_backend
from tests.tiny_world import boxes_stage

BOX, SIZE = "/World/Box1", 96


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return save_tiny_backend(tmp_path_factory.mktemp("backend"))


def ball_stage(path, scale, up):
    """A ball of unit diameter in units of `scale` metres, whose blue material is beside it, not below."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageMetersPerUnit(stage, scale)
    UsdGeom.SetStageUpAxis(stage, up)
    ball = UsdGeom.Xform.Define(stage, "/World/Ball")
    sphere = UsdGeom.Sphere.Define(stage, "/World/Ball/Shape")
    sphere.CreateRadiusAttr(0.5 / scale)
    material = UsdShade.Material.Define(stage, "/Looks/Blue")
    shader = UsdShade.Shader.Define(stage, "/Looks/Blue/Surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(0.02, 0.02, 0.7))
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(ball.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()
    return stage


def encoded(folder, backend, scale=1.0, up="Z"):
    """The file of the ball with tokens, and a sidecar over boxes that have them too."""
    ball_stage(folder / "ball.usda", scale, up)
    ball = stages.sidecar(folder / "ball.usda")
    neuralusd.encode(ball, backend=backend, size=SIZE)
    return stages.save(ball), encoded_boxes(boxes_stage(), folder, backend)


def encoded_boxes(boxes, folder, backend):
    boxes.GetRootLayer().Export(str(folder / "boxes.usda"))
    stage = stages.sidecar(folder / "boxes.usda")
    neuralusd.encode(stage, "/World/Camera", 1, backend=backend, size=SIZE)
    return stage


@pytest.mark.parametrize(("scale", "up"), [(1.0, "Z"), (0.01, "Y")])
def test_a_box_with_a_balls_geometry_is_a_ball(backend, tmp_path, scale, up):
    donor, stage = encoded(tmp_path, backend, scale, up)
    before = stages.read(stage, "/World/Camera", 1)
    number = [asset.path for asset in before.assets].index(BOX)
    cube = stages.render_gbuffer(stage, before, SIZE, SIZE)
    neuralusd.edit(stage, geometry={BOX: f"{donor}:/World/Ball"})
    after = stages.read(stage, "/World/Camera", 1)
    assert after.asset(BOX).shape_prim.startswith("/NeuralDonors/")
    ball = stages.render_gbuffer(stage, after, SIZE, SIZE)
    masks = [passes_of(each).ids == number for each in (cube, ball)]
    assert 0.4 < masks[1].sum() / masks[0].sum() < 0.85
    assert (masks[1] & ~masks[0]).sum() < 0.05 * masks[0].sum()  # it stands in the box
    # Its materials are found though they are not below the donor.
    shown = ball.color[ball.asset == number]
    assert np.median(shown[:, 2]) > 0.5 and np.median(shown[:, 0]) < 0.1
    # Its points are in its own space, where its views saw it.
    points = ball.points[ball.asset == number]
    assert np.allclose(np.linalg.norm(points, axis=1), 0.5 / scale, rtol=0.02)


def test_geometry_of_a_prim_of_the_same_stage(backend, tmp_path):
    stage = boxes_stage()
    sphere = UsdGeom.Sphere.Define(stage, "/World/Box0/Ball")
    sphere.CreateRadiusAttr(0.5)
    stage = encoded_boxes(stage, tmp_path, backend)
    neuralusd.edit(stage, geometry={BOX: "/World/Box0"})
    scene = stages.read(stage, "/World/Camera", 1)
    assert scene.asset(BOX).shape_prim == "/World/Box0" and scene.asset("/World/Box0").shape_prim == "/World/Box0"
    found = passes_of(stages.render_gbuffer(stage, scene, SIZE, SIZE)).ids
    assert all((found == number).any() for number in range(len(scene.assets)))
    # Encoding looks at the stage's own geometry, whatever tokens say.
    own = stages.render_passes(stage, scene, SIZE, SIZE).ids
    plain = stages.render_passes(boxes_stage(), scene, SIZE, SIZE).ids
    assert (own == plain).mean() > 0.95


def test_a_donor_whose_file_is_gone_leaves_the_picture_of_its_views(backend, tmp_path):
    donor, stage = encoded(tmp_path, backend)
    neuralusd.edit(stage, replace={BOX: f"{donor}:/World/Ball"})
    edited = stages.open_stage(stages.save(stage))
    (tmp_path / "ball.usda").rename(tmp_path / "elsewhere.usda")
    scene = stages.read(edited, "/World/Camera", 1)
    image = neuralusd.render(edited, "/World/Camera", 1, size=SIZE, backend=backend)
    assert image.size == (SIZE, SIZE) and scene.asset(BOX).tokens


def test_a_donors_file_that_changes_is_seen_by_the_next_stage(backend, tmp_path):
    """No stage of a donor is held open: what is rendered later has what is in its file then."""
    donor, stage = encoded(tmp_path, backend)
    neuralusd.edit(stage, geometry={BOX: f"{donor}:/World/Ball"})
    path = stages.save(stage)

    def blue():
        opened = stages.open_stage(path)
        scene = stages.read(opened, "/World/Camera", 1)
        made = stages.render_gbuffer(opened, scene, SIZE, SIZE)
        number = [asset.path for asset in scene.assets].index(BOX)
        return float(np.median(made.color[made.asset == number][:, 2]))

    del stage
    assert blue() > 0.5
    text = (tmp_path / "ball.usda").read_text()
    (tmp_path / "ball.usda").write_text(text.replace("(0.02, 0.02, 0.7)", "(0.02, 0.02, 0.2)"))
    assert 0.1 < blue() < 0.3
