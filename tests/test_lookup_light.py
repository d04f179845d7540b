"""What was not seen has the light that is beside it; outlines keep nothing of others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neuralusd import stage as stages
from neuralusd.models.lookup import SEEN, look_up
from tests.test_lookup import SIZE, picture, tokens_of, with_tokens
from tests.tiny_backend import tiny_pipeline
from tests.tiny_world import boxes_stage

BOX = "/World/Box1"


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def lit(pipe, light):
    """The scene with tokens of its picture under a light (H, W) that the stage knows nothing of; and without a box."""
    stage = boxes_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    passes = stages.render_passes(stage, scene, SIZE, SIZE)
    color = np.clip(passes.color * light[..., None], 0, 1).astype(np.float32)
    tokens = pipe.encode(
        scene, dataclasses.replace(passes, color=color, base=None, shaded=passes.color, lit=True)
    ).tokens
    scene = with_tokens(scene, tokens)
    gone = dataclasses.replace(
        scene, assets=[dataclasses.replace(a, presence=0.0 if a.path == BOX else 1.0) for a in scene.assets]
    )
    return stage, scene, gone, passes


def test_the_light_of_a_floor_goes_on_under_what_stood_on_it(pipe):
    """The picture is bright on the left and dark on the right; so is the floor where a box was taken away."""
    light = np.broadcast_to(np.linspace(1.3, 0.4, SIZE)[None, :], (SIZE, SIZE))
    stage, scene, gone, passes = lit(pipe, light)
    found = look_up(gone, stages.render_gbuffer(stage, gone, SIZE, SIZE))
    assets = [dataclasses.replace(a, presence=1.0) for a in gone.assets if a.path != BOX]
    stage.GetPrimAtPath(BOX).SetActive(False)
    empty = stages.render_passes(stage, dataclasses.replace(gone, assets=assets), SIZE, SIZE)
    truth = np.clip(empty.color * light[..., None], 0, 1)
    hidden = (found.channels[SEEN].numpy() < 0.01) & np.isfinite(empty.depth)
    assert hidden.sum() > 100
    assert np.abs(picture(found) - truth)[hidden].mean() < 0.03
    even = np.abs(empty.color * light.mean() - truth)[hidden].mean()
    assert np.abs(picture(found) - truth)[hidden].mean() < even / 2


def test_a_wall_is_not_lit_as_the_floor_beside_it_is(pipe):
    """Light is told apart by the direction a surface faces: a floor three times as bright leaves sides as they are."""
    stage = boxes_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    passes = stages.render_passes(stage, scene, SIZE, SIZE)
    top = passes.normals[..., 2] > 0.9
    color = np.where(top[..., None], passes.color, 0.4 * passes.color).astype(np.float32)
    tokens = pipe.encode(
        scene, dataclasses.replace(passes, color=color, base=None, shaded=passes.color, lit=True)
    ).tokens
    later = with_tokens(stages.read(stage, "/World/Camera", 3), tokens)
    surfaces = stages.render_gbuffer(stage, later, SIZE, SIZE)
    found = look_up(later, surfaces)
    truth = stages.render_passes(stage, later, SIZE, SIZE)
    sides = (np.abs(truth.normals[..., 2]) < 0.1) & np.isfinite(truth.depth)
    assert np.abs(picture(found) - 0.4 * truth.color)[sides].mean() < 0.06


def test_nothing_of_a_box_is_left_where_it_stood(pipe):
    """The picture is a little blurred, as all are: the floor beside the box has its colour, and must not keep it."""
    import PIL.Image
    import PIL.ImageFilter

    stage = boxes_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    passes = stages.render_passes(stage, scene, SIZE, SIZE)
    image = PIL.Image.fromarray(np.rint(passes.color * 255).astype(np.uint8))
    color = np.asarray(image.filter(PIL.ImageFilter.GaussianBlur(0.6)), np.float32) / 255
    tokens = pipe.encode(scene, dataclasses.replace(passes, color=color, base=None, shaded=passes.color)).tokens
    view = tokens["/World/Room"]["appearance"].views["picture"]
    shown = np.isfinite(view.depth)
    assert np.ptp(view.color[shown & (view.depth < 1e5)][:, 0].astype(int)) < 60  # the floor's own shades alone
    own = tokens[BOX]["appearance"].views["picture"]
    inside = own.color[np.isfinite(own.depth)].astype(int)
    assert (np.abs(inside - np.median(inside, 0)).max(1) < 90).mean() > 0.95


def test_what_was_seen_at_a_grazing_angle_has_the_stages_own_detail(pipe):
    """A picture from the side says little of a floor's texture; the stage knows it."""
    stage = boxes_stage()
    scene = stages.read(stage, "/World/Camera", 1)
    low = dataclasses.replace(scene.camera, world_to_camera=_looking(np.array([3.0, 0.0, 0.12])))
    passes = stages.render_passes(stage, dataclasses.replace(scene, camera=low), SIZE, SIZE)
    tokens = pipe.encode(
        dataclasses.replace(scene, camera=low), dataclasses.replace(passes, base=None, shaded=passes.color)
    ).tokens
    above = dataclasses.replace(scene.camera, world_to_camera=_looking(np.array([0.3, 0.0, 3.0])))
    high = with_tokens(dataclasses.replace(scene, camera=above), tokens)
    steep = look_up(high, stages.render_gbuffer(stage, high, SIZE, SIZE)).channels[SEEN].numpy()
    same = with_tokens(dataclasses.replace(scene, camera=low), tokens)
    again = look_up(same, stages.render_gbuffer(stage, same, SIZE, SIZE)).channels[SEEN].numpy()
    assert np.median(steep) < 0.2 and np.median(again) > 0.95


def _looking(eye):
    """World to a camera at `eye` that looks at the origin, z up."""
    from pxr import Gf

    return np.array(Gf.Matrix4d().SetLookAt(Gf.Vec3d(*eye.tolist()), Gf.Vec3d(0, 0, 0), Gf.Vec3d(0, 0, 1)))


def test_an_asset_whose_own_box_has_changed_is_not_stretched(pipe):
    """An asset's own tokens are of itself: nothing is stretched where only its box has changed."""
    stage = boxes_stage()
    scene = with_tokens(stages.read(stage, "/World/Camera", 1), {})
    asset = scene.asset(BOX)
    passes = stages.render_passes(stage, scene, SIZE, SIZE)
    tokens = tokens_of(with_tokens(scene, pipe.encode(scene, passes).tokens))[BOX]
    larger = dataclasses.replace(asset, tokens=tokens, extent=asset.extent * 2)
    assert larger.shape_prim == BOX and np.array_equal(larger.shape_to_world(), asset.local_to_world)
