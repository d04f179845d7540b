"""Looking up: what views saw of each surface point of the target, without a network; all about the world is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

from neuralusd import stage as stages
from neuralusd.evaluation.metrics import psnr
from neuralusd.models.lookup import KNOWN, SEEN, look_up
from neuralusd.scene import ALBEDO, PICTURE
from neuralusd.schema import NeuralAssetAPI
from neuralusd.surfaces.gbuffer import gbuffer_of_views, passes_of
from tests.tiny_backend import tiny_pipeline
from tests.tiny_world import boxes_stage

SIZE = 96


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def seen(pipe, stage, time=1, size=SIZE, **changes):
    """The scene at a time with tokens of a picture of it, and the picture."""
    scene = stages.read(stage, "/World/Camera", time)
    passes = stages.render_passes(stage, scene, size, size)
    passes = dataclasses.replace(passes, base=None, shaded=passes.color, **changes)
    tokens = pipe.encode(scene, passes).tokens
    return with_tokens(scene, tokens), passes.color


def with_tokens(scene, tokens):
    return dataclasses.replace(
        scene, assets=[dataclasses.replace(a, tokens=tokens.get(a.path, {})) for a in scene.assets]
    )


def tokens_of(scene):
    return {asset.path: asset.tokens for asset in scene.assets}


def picture(found):
    return found.picture.permute(1, 2, 0).numpy()


def test_what_was_seen_is_found_where_it_is(pipe):
    stage = boxes_stage()
    scene, color = seen(pipe, stage)
    found = look_up(scene, stages.render_gbuffer(stage, scene, SIZE, SIZE))
    assert psnr(picture(found), color) > 33
    assert (found.channels[SEEN] > 0.9).float().mean() > 0.9


def test_another_frame_is_nearer_to_its_truth_than_the_source_is(pipe):
    stage = boxes_stage()
    source, color = seen(pipe, stage, 1)
    target, truth = seen(pipe, stage, 3)
    target = with_tokens(target, tokens_of(source))
    found = picture(look_up(target, stages.render_gbuffer(stage, target, SIZE, SIZE)))
    assert psnr(found, truth) > psnr(color, truth) + 8


@pytest.mark.parametrize("shape", [(48, 80), (160, 64), (31, 33)])
def test_an_image_has_any_size_and_shape(pipe, shape):
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    found = look_up(scene, stages.render_gbuffer(stage, scene, *shape))
    assert found.picture.shape == (3, *shape) and np.isfinite(found.channels.numpy()).all()
    image = pipe(scene, surfaces=stages.render_gbuffer(stage, scene, *shape), output_type="np").images[0]
    assert image.shape == (*shape, 3)


def test_what_no_view_saw_is_marked(pipe):
    """The floor under a box that has gone was never seen; it has the stage's own colour, and says so."""
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    gone = dataclasses.replace(
        scene, assets=[dataclasses.replace(a, presence=0.0 if a.path == "/World/Box1" else 1.0) for a in scene.assets]
    )
    box = stages.render_passes(stage, scene, SIZE, SIZE, color=False)
    number = [a.path for a in scene.assets].index("/World/Box1")
    inside = np.roll(box.mask(number), 0, 0)
    found = look_up(gone, stages.render_gbuffer(stage, gone, SIZE, SIZE))
    ground = inside & (np.arange(SIZE)[:, None] > np.flatnonzero(inside.any(1)).mean())
    assert found.channels[SEEN].numpy()[ground].mean() < 0.4
    assert found.channels[KNOWN].numpy()[ground].mean() > 0.95


def test_presence_between_none_and_all_is_seen_through(pipe):
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    images = []
    for presence in (1.0, 0.5, 0.0):
        assets = [dataclasses.replace(a, presence=presence if a.path == "/World/Box1" else 1.0) for a in scene.assets]
        part = dataclasses.replace(scene, assets=assets)
        images.append(picture(look_up(part, stages.render_gbuffer(stage, part, SIZE, SIZE))))
    off = np.abs(images[1] - (images[0] + images[2]) / 2)
    assert off.mean() < 0.003 and (off > 0.06).mean() < 0.001


def test_a_photograph_has_the_surface_of_its_depths(pipe):
    """Without geometry the views are all there is: the same camera sees the same picture, and what moves leaves."""
    stage = boxes_stage()
    scene, color = seen(pipe, stage)
    assert psnr(picture(look_up(scene, gbuffer_of_views(scene, SIZE, SIZE))), color) > 26
    assets = []
    for asset in scene.assets:
        matrix = asset.local_to_world.copy()
        if asset.path == "/World/Box0":
            matrix[3, 2] += 0.4
        assets.append(dataclasses.replace(asset, local_to_world=matrix))
    moved = dataclasses.replace(scene, assets=assets)
    numbers = {asset.path: number for number, asset in enumerate(scene.assets)}
    before, after = (passes_of(gbuffer_of_views(s, SIZE, SIZE)).ids == numbers["/World/Box0"] for s in (scene, moved))
    up = np.flatnonzero(before.any(1)).mean() - np.flatnonzero(after.any(1)).mean()
    assert after.sum() > 0.6 * before.sum() and up > 5


def test_a_look_of_another_asset_comes_onto_this_ones_surface(pipe):
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    tokens = tokens_of(scene)
    tokens["/World/Box0"] = {**tokens["/World/Box0"], "appearance": tokens["/World/Box1"]["appearance"]}
    # Boxes of one size are told apart by what they are encoded with, so one is made a little longer.
    look = tokens["/World/Box0"]["appearance"]
    tokens["/World/Box0"]["appearance"] = dataclasses.replace(look, extent=look.extent * np.float32(1.01))
    swapped = with_tokens(scene, tokens)
    surfaces = stages.render_gbuffer(stage, swapped, SIZE, SIZE)
    number = [a.path for a in scene.assets].index("/World/Box0")
    box = passes_of(surfaces).ids == number
    other = passes_of(surfaces).ids == [a.path for a in scene.assets].index("/World/Box1")
    image = picture(look_up(swapped, surfaces))
    own = picture(look_up(scene, surfaces))
    assert np.abs(image[box].mean(0) - own[other].mean(0)).max() < 0.12
    assert np.abs(image[box].mean(0) - own[box].mean(0)).max() > 0.3


def test_views_all_around_know_the_other_sides(pipe):
    stage = boxes_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    views = stages.orbit_views(stage, scene, 4)
    assert set(views) == {"/World/Box0", "/World/Box1"} and len(views["/World/Box0"]) == 4
    assert all(view.kind == ALBEDO and view.placed for view in views["/World/Box0"].values())
    colors = {tuple(np.median(view.color[np.isfinite(view.depth)], 0)) for view in views["/World/Box0"].values()}
    assert len(colors) == 1  # one plain colour from every side, without light


def arm_stage():
    """A bar with four differently coloured quarters, whose upper half a joint bends."""
    stage = boxes_stage(boxes=0)
    root = UsdSkel.Root.Define(stage, "/World/Figure")
    NeuralAssetAPI.Apply(root.GetPrim())
    skeleton = UsdSkel.Skeleton.Define(stage, "/World/Figure/Skel")
    skeleton.CreateJointsAttr(["Hip", "Hip/Arm"])
    up = Gf.Matrix4d().SetTranslate((0, 0, 0.5))
    skeleton.CreateBindTransformsAttr([Gf.Matrix4d(1), up])
    skeleton.CreateRestTransformsAttr([Gf.Matrix4d(1), up])
    animation = UsdSkel.Animation.Define(stage, "/World/Figure/Anim")
    animation.CreateJointsAttr(["Hip", "Hip/Arm"])
    animation.CreateTranslationsAttr([Gf.Vec3f(0), Gf.Vec3f(0, 0, 0.5)])
    animation.CreateScalesAttr([Gf.Vec3h(1), Gf.Vec3h(1)])
    for time, angle in ((1, 0.0), (3, 80.0)):
        bent = Gf.Quatf(Gf.Rotation(Gf.Vec3d(0, 1, 0), angle).GetQuat())
        animation.CreateRotationsAttr().Set(Vt.QuatfArray([Gf.Quatf(1), bent]), time)
    mesh = UsdGeom.Mesh.Define(stage, "/World/Figure/Bar")
    heights = np.linspace(0, 1, 9)
    ring = np.array([(-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1)])
    points = np.array([(x, y, z) for z in heights for x, y in ring], np.float32)
    faces = [
        (4 * i + j, 4 * i + (j + 1) % 4, 4 * i + 4 + (j + 1) % 4, 4 * i + 4 + j) for i in range(8) for j in range(4)
    ]
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateFaceVertexCountsAttr([4] * len(faces))
    mesh.CreateFaceVertexIndicesAttr(np.array(faces).ravel().tolist())
    mesh.CreateSubdivisionSchemeAttr("none")
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    upper = (points[:, 2] > 0.5).astype(int)
    binding.CreateJointIndicesPrimvar(False, 1).Set(upper.tolist())
    binding.CreateJointWeightsPrimvar(False, 1).Set([1.0] * len(points))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    eye = Gf.Matrix4d().SetLookAt(Gf.Vec3d(0, -3, 0.8), Gf.Vec3d(0.2, 0, 0.5), Gf.Vec3d(0, 0, 1)).GetInverse()
    for time in (1, 3):
        camera.MakeMatrixXform().Set(eye, time)
    return stage


def test_a_look_stays_on_a_surface_that_bends(pipe):
    """The source shows the arm straight, red at its tip; bent, the tip is somewhere else and is red there."""
    stage = arm_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    scene.assets = [
        dataclasses.replace(a, surfaces=stages.surfaces_of(stage, scene).get(a.path, {})) for a in scene.assets
    ]
    passes = stages.render_passes(stage, scene, SIZE, SIZE)
    number = [a.path for a in scene.assets].index("/World/Figure")
    rows = np.flatnonzero(passes.mask(number).any(1))
    painted = passes.color.copy()
    tip = passes.mask(number) & (np.arange(SIZE)[:, None] < rows[0] + len(rows) * 0.2)
    painted[tip] = (1, 0, 0)
    tokens = pipe.encode(scene, dataclasses.replace(passes, color=painted, base=None)).tokens
    surfaces = {a.path: a.surfaces for a in scene.assets}
    bent = with_tokens(stages.read(stage, "/World/Camera", 3), tokens)
    bent.assets = [dataclasses.replace(a, surfaces=surfaces[a.path]) for a in bent.assets]
    seen_now = stages.render_gbuffer(stage, bent, SIZE, SIZE)
    image = picture(look_up(bent, seen_now))
    figure = passes_of(seen_now).ids == number
    red = (image[..., 0] > 0.7) & (image[..., 1] < 0.3) & figure
    # The tip points to the side now: red is at its far end, and no longer on top.
    columns = np.flatnonzero(figure.any(0))
    assert red.sum() > 0.5 * tip.sum()
    assert np.flatnonzero(red.any(0)).min() > columns[0] + 0.6 * len(columns)


def test_views_come_back_from_a_layer_as_they_were_written(pipe, tmp_path):
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    path = tmp_path / "shot.usdc"
    stage.Export(str(path))
    opened = Usd.Stage.Open(str(path))
    stages.write_tokens(opened, tokens_of(scene))
    opened.Save()
    again = stages.read(Usd.Stage.Open(str(path)), "/World/Camera", 1)
    for asset in scene.assets:
        [(name, view)] = asset.tokens["appearance"].views.items()
        back = again.asset(asset.path).tokens["appearance"].views[name]
        assert name == PICTURE and np.array_equal(back.color, view.color) and back.lens == pytest.approx(view.lens)
        known = np.isfinite(view.depth)
        assert np.array_equal(np.isinf(back.depth), np.isinf(view.depth))
        assert back.depth[known] == pytest.approx(view.depth[known], rel=1e-4)


def test_a_damaged_view_names_its_prim(pipe, tmp_path):
    from neuralusd.errors import TokensError
    from neuralusd.schema import NeuralViewAPI

    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    stages.write_tokens(stage, tokens_of(scene))
    api = NeuralViewAPI(stage.GetPrimAtPath("/World/Box0"), PICTURE)
    data = np.asarray(api.GetColorAttr().Get())
    api.GetColorAttr().Set(Vt.UCharArray.FromNumpy(data[: len(data) // 2].copy()))
    damaged = stages.read(stage, "/World/Camera", 1)
    with pytest.raises(TokensError, match=r"</World/Box0>: view picture cannot be read.*Encode the prim again"):
        look_up(damaged, stages.render_gbuffer(stage, damaged, 32, 32))


def test_without_poses_nothing_is_placed_and_without_looks_nothing_is_known(pipe):
    stage = boxes_stage()
    scene, _ = seen(pipe, stage)
    surfaces = stages.render_gbuffer(stage, scene, SIZE, SIZE)
    every = [asset.path for asset in scene.assets]
    assert float(look_up(scene, surfaces, every).channels[SEEN].max()) == 0
    whole, less = (
        pipe(scene, surfaces=surfaces, drop=drop, output_type="np", num_inference_steps=1).images[0]
        for drop in ((), ("pose_2d", "pose_3d"))
    )
    assert np.abs(whole - less).mean() > 0.01
