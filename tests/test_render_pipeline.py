"""The Neural USD pipeline over scenes: encode, render, hold, refuse. Weights are tiny and untrained."""

from __future__ import annotations

import dataclasses

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from neuralusd.errors import EncoderMismatchError, TokensError
from neuralusd.pipelines.compositing import composite, feather, footprint
from neuralusd.pipelines.render import NeuralUSDPipeline
from neuralusd.scene import Box2D
from neuralusd.training.build import build_pipeline, save_pipeline
from neuralusd.training.config import SD21
from tests.tiny_backend import TINY, tiny_pipeline
from tests.tiny_world import boxes_stage, frame


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture
def scene(pipe):
    """Two boxes in a room, with tokens."""
    scene, passes = frame(boxes_stage(), 1, 64)
    tokens = pipe.encode(scene, passes, source="boxes.png").tokens
    for asset in scene.assets:
        asset.tokens = tokens[asset.path]
    return scene


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_encode_makes_tokens_of_everything_seen(pipe):
    scene, passes = frame(boxes_stage(), 1, 64)
    encoding = pipe.encode(scene, passes, source="boxes.png")
    assert set(encoding.tokens) == {"/World/Room", "/World/Box0", "/World/Box1"}
    tokens = encoding.tokens["/World/Box0"]["appearance"]
    rows, columns = tokens.grid
    assert tokens.values.shape == (rows * columns, TINY.encoder["token_dim"]) and tokens.values.dtype == np.float16
    assert tokens.points.shape == (rows * columns, 3) and tokens.source == "boxes.png"
    assert tokens.view == pytest.approx(scene.asset("/World/Box0").local_to_world @ scene.camera.world_to_camera)


def test_an_asset_behind_the_camera_is_not_seen(pipe):
    scene, passes = frame(boxes_stage(), 1, 64)
    index = next(i for i, asset in enumerate(scene.assets) if asset.path == "/World/Box1")
    passes.ids[passes.ids == index] = -1
    assert pipe.encode(scene, passes).unseen == ["/World/Box1"]


def test_only_what_changed_is_encoded_again(pipe, scene):
    known = {asset.path: {name: tokens.digest for name, tokens in asset.tokens.items()} for asset in scene.assets}
    _, passes = frame(boxes_stage(), 1, 64)
    assert pipe.encode(scene, passes, known=known).tokens == {}
    index = next(i for i, asset in enumerate(scene.assets) if asset.path == "/World/Box1")
    passes.color[passes.ids == index] = 0.5
    assert list(pipe.encode(scene, passes, known=known).tokens) == ["/World/Box1"]


def test_a_picture_is_needed_to_encode(pipe):
    scene, passes = frame(boxes_stage(), 1, 64)
    with pytest.raises(TokensError, match="no picture"):
        pipe.encode(scene, dataclasses.replace(passes, color=None))


def test_the_same_seed_gives_the_same_image(pipe, scene):
    images = [pipe(scene, generator=seeded(seed), output_type="np").images[0] for seed in (3, 3, 4)]
    assert images[0].shape == (32, 32, 3)
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_a_saved_pipeline_is_the_same_pipeline(scene, tmp_path):
    save_pipeline(tiny_pipeline(), tmp_path)
    assert not list(tmp_path.rglob("*.bin")) and len(list(tmp_path.rglob("*.safetensors"))) == 5
    first, second = (NeuralUSDPipeline.from_pretrained(tmp_path) for _ in range(2))
    scene, passes = frame(boxes_stage(), 1, 64)
    for asset in scene.assets:
        asset.tokens = first.encode(scene, passes).tokens[asset.path]
    images = [p(scene, generator=seeded(), output_type="np").images[0] for p in (first, second)]
    assert np.array_equal(*images)
    assert first.appearance_encoder.config.revision != "untrained"


def test_scenes_render_as_a_batch(pipe, scene):
    alone = pipe(scene, generator=[seeded(5)], output_type="np").images[0]
    both = pipe([scene, scene], generator=[seeded(5), seeded(6)], output_type="np").images
    assert both[0] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_any_scheduler_of_diffusers_samples(pipe, scene, scheduler):
    components = {**pipe.components, "scheduler": scheduler(prediction_type="sample")}
    other = NeuralUSDPipeline(**components, sample_size=TINY.resolution)
    other.set_progress_bar_config(disable=True)
    image = other(scene, num_inference_steps=3, generator=seeded(), output_type="np").images[0]
    assert np.isfinite(image).all()


def test_guidance_of_one_modality_changes_the_image(pipe, scene):
    plain = pipe(scene, generator=seeded(), output_type="np").images
    more = pipe(scene, generator=seeded(), modality_guidance={"appearance": 4.0}, output_type="np").images
    none = pipe(scene, generator=seeded(), modality_guidance={"appearance": 0.0}, output_type="np").images
    assert np.array_equal(plain, none) and not np.allclose(plain, more)


def test_progress_comes_and_the_run_can_be_cancelled(pipe, scene):
    steps = []

    def stop_at_two(pipeline, step, timestep, values):
        steps.append(step)
        pipeline._interrupt = step == 1
        return {}

    pipe(scene, num_inference_steps=5, generator=seeded(), callback_on_step_end=stop_at_two)
    assert steps == [0, 1]


def test_tokens_of_another_encoder_are_refused(pipe, scene):
    scene.assets[1].tokens["appearance"].revision = "of-yesterday"
    with pytest.raises(
        EncoderMismatchError, match=r"<.*> has appearance tokens .*of-yesterday.*encode the stage again"
    ):
        pipe(scene)


def test_tokens_that_are_not_finite_are_refused(pipe, scene):
    values = scene.assets[1].tokens["appearance"].values.copy()
    values[1, 1] = np.nan  # where reading a stage does not look
    scene.assets[1].tokens["appearance"].values = values
    with pytest.raises(TokensError, match=r"<.*> has appearance tokens that are not finite; encode the stage again"):
        pipe(scene)


def test_a_scene_without_tokens_is_refused(pipe, scene):
    for asset in scene.assets:
        asset.tokens = {}
    with pytest.raises(TokensError, match="neuralusd encode"):
        pipe(scene)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_inference_steps": 0}, "`num_inference_steps`"),
        ({"modality_guidance": {"colour": 1.0}}, "colour"),
        ({"drop": ["colour"]}, "`drop`"),
        ({"hold_image": np.zeros((32, 32, 3))}, "together"),
        ({"hold_image": np.zeros((8, 8, 3)), "footprint": np.zeros((8, 8), bool)}, r"\(32, 32, 3\)"),
    ],
)
def test_wrong_arguments_are_named(pipe, scene, arguments, error):
    with pytest.raises(ValueError, match=error):
        pipe(scene, **arguments)


def test_a_scene_of_one_absent_asset_still_renders(pipe, scene):
    for asset in scene.assets:
        asset.presence = 0.0
    assert np.isfinite(pipe(scene, generator=seeded(), output_type="np").images).all()


def test_an_asset_with_a_2d_box_only_renders(pipe, scene):
    asset = scene.asset("/World/Box1")
    asset.extent, asset.box2d = None, Box2D(0.4, 0.4, 0.2, 0.2)
    assert np.isfinite(pipe(scene, generator=seeded(), output_type="np").images).all()


def moved(scene, offset):
    """The scene with its first box moved."""
    assets = list(scene.assets)
    index = next(i for i, asset in enumerate(assets) if asset.path == "/World/Box0")
    matrix = assets[index].local_to_world.copy()
    matrix[3, :3] += offset
    assets[index] = dataclasses.replace(assets[index], local_to_world=matrix)
    return dataclasses.replace(scene, assets=assets)


def test_what_an_edit_does_not_touch_stays(pipe, scene):
    after = moved(scene, [0.0, 0.3, 0.0])
    where = footprint(scene, after, 32, 32)
    assert 0 < where.mean() < 0.8
    before = pipe(scene, generator=seeded(), output_type="np").images[0]
    held = pipe(after, generator=seeded(), hold_image=before, footprint=where, output_type="np").images[0]
    assert np.array_equal(held[~where], before[~where].astype(held.dtype))
    assert not np.allclose(held[where], before[where])


def test_the_footprint_is_where_the_object_was_and_is(scene):
    after = moved(scene, [0.0, 0.3, 0.0])
    where = footprint(scene, after, 64, 64)
    for state in (scene, after):
        h, w, _ = state.camera.project(state.asset("/World/Box0").corners()).T
        inside = (h > 0) & (h < 1) & (w > 0) & (w < 1)
        assert where[(h[inside] * 64).astype(int), (w[inside] * 64).astype(int)].all()
    assert not footprint(scene, scene, 64, 64).any()


def test_another_camera_or_background_changes_everything(scene):
    camera = dataclasses.replace(scene.camera, focal_length=scene.camera.focal_length * 1.1)
    assert footprint(scene, dataclasses.replace(scene, camera=camera), 16, 16).all()
    assets = [dataclasses.replace(a, tokens={}) if a.role == "background" else a for a in scene.assets]
    assert footprint(scene, dataclasses.replace(scene, assets=assets), 16, 16).all()


def test_the_seam_is_soft_and_inside_of_the_footprint():
    mask = np.zeros((64, 64), bool)
    mask[20:50, 20:50] = True
    weight = feather(mask, fraction=0.1)
    assert (weight[~mask] == 0).all() and weight[35, 35] == 1 and 0 < weight[20, 35] < 0.5
    joined = composite(np.ones((64, 64, 3)), np.zeros((64, 64, 3)), weight)
    assert np.abs(np.diff(joined[:, 35, 0])).max() < 0.4


def test_stable_diffusion_2_1_is_the_same_class(tmp_path):
    """The full size's classes, small: AutoencoderKL, DINO, a UNet of Stable Diffusion's blocks, the plain recipe."""
    config = dataclasses.replace(
        SD21,
        vae={**SD21.vae, "block_out_channels": (16, 16, 16, 16), "norm_num_groups": 4, "layers_per_block": 1},
        unet={
            "block_out_channels": (16, 16, 32, 32), "attention_head_dim": (1, 1, 2, 2), "norm_num_groups": 4,
            "use_linear_projection": True, "layers_per_block": 1,
        },
        asset_tokenizer={**SD21.asset_tokenizer, "cross_attention_dim": 32, "hidden_dim": 32, "pose_dim": 16},
        encoder={
            "dino": {
                "model_type": "vit", "patch_size": 8, "image_size": 32, "hidden_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "intermediate_size": 32,
            },
            "crop_size": 32,
        },
        resolution=64,
    )  # fmt: skip
    torch.manual_seed(0)
    pipeline = build_pipeline(config)
    pipeline.save_pretrained(tmp_path)
    pipeline = NeuralUSDPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    scene, passes = frame(boxes_stage(), 1, 64)
    tokens = pipeline.encode(scene, passes).tokens
    for asset in scene.assets:
        asset.tokens = tokens[asset.path]
    image = pipeline(scene, num_inference_steps=2, generator=seeded()).images[0]
    assert isinstance(image, PIL.Image.Image) and image.size == (64, 64)
