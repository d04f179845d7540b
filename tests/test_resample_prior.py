"""The prior over scene latents: its flow, its sampling, its codecs, and that it learns (Anchored Generation)."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import given, settings
from hypothesis import strategies as st
from orbit_world import write_orbits
from tiny_rooms import tiny_autodecoder, tiny_pipeline, tiny_room_latents, tiny_scene, tiny_views

from neuralusd.cli import main
from neuralusd.datasets.furniture_assets import is_held_out
from neuralusd.datasets.objects import object_views
from neuralusd.latents import Anchors, ObjectAnchors, SceneLatents
from neuralusd.models.prior.appearance import AppearanceCodec
from neuralusd.models.prior.background import BackgroundCodec, farness, nearness
from neuralusd.models.prior.scene_prior import ScenePrior
from neuralusd.models.prior.variables import (
    ABSENT,
    MASKED,
    PRESENT,
    Times,
    Variables,
    noise_like,
    noised,
    random_times,
    unmasked,
)
from neuralusd.pipelines.resample import ResamplePipeline
from neuralusd.training.scene_prior import ScenePriorConfig, train_scene_prior

KEEP = ObjectAnchors()


@pytest.fixture(autouse=True)
def its_own_precision():
    """accelerate knows one precision a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def some_variables(count=64, slots=5):
    generator = torch.Generator().manual_seed(0)
    return Variables(
        torch.randn(count, slots, 10, generator=generator),
        torch.randn(count, slots, 8, generator=generator),
        torch.randint(0, 2, (count, slots), generator=generator),
        torch.randn(count, 2, generator=generator),
        torch.randn(count, 6, generator=generator),
    )


def times(value, count=64, slots=5):
    full = torch.full((count, slots), value)
    return Times(full, full, full, torch.full((count,), value), torch.full((count,), value))


# -- the flow ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0, 1))
def test_what_is_noised_is_a_mean_of_data_and_noise_by_its_time(tau):
    clean = some_variables()
    noise = noise_like(clean, torch.Generator().manual_seed(1))
    noisy = noised(clean, noise, times(tau))
    assert torch.allclose(noisy.pose, tau * clean.pose + (1 - tau) * noise.pose, atol=1e-5)
    share = (noisy.presence == MASKED).float().mean()
    assert share == pytest.approx(1 - tau, abs=0.1)
    assert (noisy.presence[noisy.presence != MASKED] == clean.presence[noisy.presence != MASKED]).all()


def test_time_runs_from_the_anchor_to_one():
    alpha = times(0.25)
    assert torch.equal(alpha.at(0).pose, alpha.pose)
    assert torch.equal(alpha.at(1).background, torch.ones(64))
    assert float(alpha.at(0.5).camera[0]) == 0.625


def test_every_variable_has_a_time_of_its_own_in_training():
    drawn = random_times(torch.zeros(500, 4, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert len(torch.unique(drawn.pose)) == len(torch.unique(drawn.presence)) == 2000


def test_training_meets_what_people_anchor():
    empty = torch.zeros(2000, 5, dtype=torch.bool)
    empty[:, 3:] = True
    drawn = random_times(empty, torch.Generator().manual_seed(0), anchored=1.0)
    kept = drawn.map(lambda time: time == 1)
    # What is not kept of a scene is all at one moment.
    for scene in range(50):
        every = torch.cat([drawn.pose[scene], drawn.appearance[scene], drawn.presence[scene], drawn.camera[[scene]]])
        assert len(torch.unique(every[every < 1])) <= 1
    # An empty slot is closed as a whole, or open as a whole, as all others of its scene.
    assert torch.equal(kept.pose[:, 3:], kept.presence[:, 3:]) and torch.equal(kept.pose[:, 3], kept.appearance[:, 4])
    pose, appearance, presence = kept.pose[:, :3], kept.appearance[:, :3], kept.presence[:, :3]
    closed = kept.presence[:, 3] & kept.camera & kept.background
    layout = ~pose.any(1) & appearance.all(1) & presence.all(1) & closed
    completion = (pose == appearance).all(1) & (pose == presence).all(1) & pose.any(1) & ~pose.all(1)
    look = pose.all(1) & presence.all(1) & ~appearance.all(1) & closed
    for found in (layout, completion, look):
        assert found.float().mean() > 0.003


def test_presence_is_known_at_the_end_and_follows_its_probability():
    masked = torch.full((4000,), MASKED)
    half, full = torch.full((4000,), 0.5), torch.ones(4000)
    drawn = unmasked(masked, torch.full((4000,), 0.3), half, full, torch.Generator().manual_seed(0))
    assert (drawn != MASKED).all()
    assert (drawn == PRESENT).float().mean() == pytest.approx(0.3, abs=0.03)
    partly = unmasked(masked, half, half, half + 0.25, torch.Generator().manual_seed(0))
    assert (partly != MASKED).float().mean() == pytest.approx(0.5, abs=0.03)
    known = torch.full((4000,), ABSENT)
    assert torch.equal(unmasked(known, full, half, full, torch.Generator()), known)


def test_the_prior_knows_no_order_of_slots():
    prior = ScenePrior(slots=5, tokens=2, token_dim=4, background_dim=6, width=32, layers=2, heads=4).eval()
    noisy, when = some_variables(3), random_times(torch.zeros(3, 5, dtype=torch.bool), torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Variables(
        noisy.pose[:, order], noisy.appearance[:, order], noisy.presence[:, order], noisy.camera, noisy.background
    )
    at = Times(when.pose[:, order], when.appearance[:, order], when.presence[:, order], when.camera, when.background)
    with torch.no_grad():
        (velocity, logits), (other, other_logits) = prior(noisy, when), prior(shuffled, at)
    assert torch.allclose(velocity.pose[:, order], other.pose, atol=1e-5)
    assert torch.allclose(logits[:, order], other_logits, atol=1e-5)
    assert torch.allclose(velocity.background, other.background, atol=1e-5)


def test_the_full_size_has_as_many_parameters_as_the_papers():
    with torch.device("meta"):
        prior = ScenePrior()
    assert prior.config.layers == 12
    assert sum(each.numel() for each in prior.parameters()) / 1e6 == pytest.approx(118, abs=2)


# -- sampling ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3), min_size=3, max_size=3),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 1.0]),
)
def test_what_is_anchored_is_the_very_array_that_came_in(alphas, camera, background, insertion):
    pipeline, scene = tiny_pipeline(), tiny_scene(tiny_pipeline())
    anchors = Anchors([ObjectAnchors(*alpha) for alpha in alphas], camera, background, insertion)
    for sample in pipeline(scene, anchors, samples=2, num_inference_steps=2):
        for before, after, alpha in zip(scene.objects, sample.objects, anchors.objects, strict=False):
            assert after.path == before.path
            if alpha.presence == 1:
                assert after.presence == before.presence
            if alpha.pose == 1:
                assert after.translation is before.translation
                assert after.rotation is before.rotation
                assert after.scale is before.scale
            elif after.presence:
                assert not np.array_equal(after.translation, before.translation)
                assert np.linalg.norm(after.rotation) == pytest.approx(1)
                assert (after.scale > 0).all()
            if alpha.appearance == 1:
                assert after.appearance is before.appearance
        assert (sample.focal is scene.focal) == (camera == 1)
        assert (sample.background is scene.background) == (background == 1)
        invented = sample.objects[len(scene.objects) :]
        assert all(one.presence and one.path == "" and one.appearance is not None for one in invented)
        if insertion == 1:
            assert not invented


def test_the_same_seed_is_the_same_sample_and_another_is_not(pipeline):
    scene = tiny_scene(pipeline)
    open_layout = Anchors([ObjectAnchors(pose=0)] * 3)
    first, second = pipeline(scene, open_layout, samples=2, seed=3, num_inference_steps=3)
    [again] = pipeline(scene, open_layout, samples=1, seed=3, num_inference_steps=3)
    [other] = pipeline(scene, open_layout, samples=1, seed=4, num_inference_steps=3)
    assert np.allclose(first.objects[0].translation, again.objects[0].translation, atol=1e-4)
    for different in (second, other):
        assert not np.allclose(first.objects[0].translation, different.objects[0].translation, atol=1e-2)


def test_a_removed_object_stays_away_and_an_unknown_appearance_stays_unknown(pipeline):
    scene = tiny_scene(pipeline)
    scene.objects[1].presence = False
    scene.objects[2].appearance = None
    [sample] = pipeline(scene, Anchors([ObjectAnchors(pose=0), KEEP, KEEP]), num_inference_steps=3)
    assert [one.presence for one in sample.objects] == [True, False, True]
    assert sample.objects[2].appearance is None


def test_guidance_changes_samples_and_progress_may_stop_them(pipeline):
    scene, anchors = tiny_scene(pipeline), Anchors([ObjectAnchors(pose=0), KEEP, KEEP])
    [plain] = pipeline(scene, anchors, num_inference_steps=3)
    [guided] = pipeline(scene, anchors, num_inference_steps=3, guidance_scale=3)
    assert not np.allclose(plain.objects[0].translation, guided.objects[0].translation)
    seen = []

    def stop(done):
        seen.append(done)
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(scene, anchors, num_inference_steps=4, on_step=stop)
    assert seen == [0.25, 0.5, 0.75]


def test_saved_and_loaded_it_samples_the_same(pipeline, tmp_path):
    scene, anchors = tiny_scene(pipeline), Anchors([ObjectAnchors(0, 0, 1)] * 3, insertion=0)
    pipeline.save_pretrained(tmp_path)
    loaded = ResamplePipeline.from_pretrained(tmp_path, use_safetensors=True)
    [first] = pipeline(scene, anchors, num_inference_steps=3)
    [second] = loaded(scene, anchors, num_inference_steps=3)
    assert np.allclose(first.objects[0].appearance, second.objects[0].appearance, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: s.objects.extend(s.objects) or a.objects.extend(a.objects), "at most 5"),
        (lambda s, a: setattr(a.objects[1], "pose", 1.5), "</Room/Lamp>'s pose is 1.5"),
        (lambda s, a: setattr(a, "background", float("nan")), "anchor of the background"),
        (lambda s, a: setattr(s, "revision", "other"), "read them from the stage again"),
        (
            lambda s, a: setattr(s.objects[0], "scale", np.array([1.0, 0.0, 1.0])),
            "</Room/Bed> has a box without a size",
        ),
        (lambda s, a: setattr(s.objects[0], "translation", np.array([np.nan, 0, 0])), "not finite"),
        (lambda s, a: setattr(s.objects[0], "appearance", np.zeros((3, 3), np.float32)), "appearance tokens of"),
        (lambda s, a: setattr(s, "focal", np.array([0.0, 1.0])), "focal length"),
        (lambda s, a: a.objects.pop(), "2 objects are anchored"),
    ],
)
def test_what_cannot_be_sampled_is_said(pipeline, change, message):
    scene = tiny_scene(pipeline)
    anchors = Anchors([ObjectAnchors() for _ in scene.objects])
    change(scene, anchors)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        pipeline(scene, anchors)


# -- codecs -----------------------------------------------------------------------------------------------------------


def test_appearance_tokens_decode_to_the_volume_that_they_pool():
    decoder = {"embedding_dim": 8, "channels": (8, 4), "depth": 1, "attention_resolutions": ()}
    codec = AppearanceCodec(4, 4, decoder=decoder, channels=(8, 8)).eval()
    latents = torch.randn(10, 8, 4, 4, 4)
    tokens = codec.fit(latents).pool(latents)
    assert tokens.shape == (10, 4, 4)
    assert float(tokens.square().mean()) == pytest.approx(1, rel=0.8)
    # Ten objects have nine directions, and the tokens sixteen numbers.
    assert torch.allclose(codec.latents(tokens), latents, atol=1e-3)
    with torch.no_grad():
        density, color = codec.decode(tokens)
    assert density.shape == (10, 1, 8, 8, 8) and color.shape == (10, 3, 8, 8, 8)


@settings(deadline=None)
@given(st.floats(0.05, 500))
def test_depth_survives_its_way_to_nearness_and_back(depth):
    assert float(farness(nearness(torch.tensor(depth)))) == pytest.approx(depth, rel=1e-3)


def test_a_background_without_depth_is_far():
    assert float(nearness(torch.tensor(float("inf")))) == 0
    color, depth = BackgroundCodec(6, 8).eval().decode(torch.zeros(2, 6))
    assert color.shape == (2, 3, 32, 32) and depth.shape == (2, 32, 32)
    assert torch.isfinite(depth).all()


# -- training ---------------------------------------------------------------------------------------------------------


def test_a_trained_prior_puts_the_lamp_where_the_bed_says(tmp_path):
    """In these rooms the lamp always stands 1 m to the right of the bed, and the bed anywhere."""
    views, rooms = tiny_views(), tiny_room_latents(400)
    tiny_autodecoder(views, tmp_path / "autodecoder")
    config = ScenePriorConfig(
        prior={"slots": 3, "width": 64, "layers": 2, "heads": 4},
        appearance={"tokens": 2, "token_dim": 2, "channels": (8, 8)},
        background={"dim": 6, "width": 8},
        codec_steps=20,
        batch_size=32,
        steps=1500,
        lr=3e-3,
        ema_decay=0.98,
        anchored=0.5,
    )
    pipeline = train_scene_prior(views, rooms, tmp_path / "autodecoder", config, tmp_path / "out", mixed_precision="no")
    errors, counts = [], []
    for place in (-1.0, 0.0, 1.0):
        scene = tiny_scene(pipeline, place)
        scene.objects = scene.objects[:2]
        anchors = Anchors([ObjectAnchors(appearance=0), ObjectAnchors(pose=0, appearance=0)])
        for sample in pipeline(scene, anchors, samples=8, num_inference_steps=20):
            errors.append(sample.objects[1].translation[0] - (place + 1.0))
    assert np.abs(errors).mean() < 0.7  # 1.1, were the bed not heard
    for sample in pipeline(
        SceneLatents(), Anchors(insertion=0, camera=0, background=0), samples=16, num_inference_steps=20
    ):
        counts.append(len(sample.objects))
    assert np.mean(counts) == pytest.approx(2, abs=0.4)
    again = ResamplePipeline.from_pretrained(tmp_path / "out", use_safetensors=True)
    assert again.encoder == pipeline.encoder != ("lift-volume-pool", "untrained")


def test_rooms_of_unknown_models_are_refused(tmp_path):
    views, rooms = tiny_views(), tiny_room_latents(4)
    rooms.names[0] = "sofa"
    with pytest.raises(ValueError, match="1 models that the objects' views lack, as sofa"):
        train_scene_prior(views, rooms, tmp_path, ScenePriorConfig(), tmp_path / "out")


# -- the command ------------------------------------------------------------------------------------------------------

BEDROOM = {"bed": (1.5, 2.1, 0.9), "bedside_table": (0.5, 0.45, 0.5), "lamp": (0.3, 0.3, 0.45), "wardrobe": (1, 0.6, 2)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Orbits of what a bedroom needs, a box each, and an autodecoder of them."""
    things = {}
    for name, (x, y, z) in BEDROOM.items():
        known = next(f"{name}_{number}" for number in range(99) if not is_held_out(f"{name}_{number}"))
        things[known] = [((-x / 2, -y / 2, 0), (x / 2, y / 2, z), (0.6, 0.3, 0.2))]
    folder = write_orbits(tmp_path_factory.mktemp("world"), size=24, views=5, scenes={"train": things})
    tiny_autodecoder(object_views(folder), folder / "autodecoder")
    return folder


def test_the_command_lays_out_rooms_and_trains_a_backend(world, tmp_path, capsys):
    config = {
        "prior": {"slots": 6, "width": 32, "layers": 1, "heads": 2},
        "appearance": {"tokens": 2, "token_dim": 2, "channels": [8, 8]},
        "background": {"dim": 4, "width": 8},
        "rooms": 12,
        "codec_steps": 3,
        "batch_size": 4,
        "steps": 4,
    }
    (tmp_path / "prior.json").write_text(json.dumps(config))
    command = ["train", "--config", str(tmp_path / "prior.json"), "--world", str(world), "-o", str(tmp_path / "out")]
    command += ["--autodecoder", str(world / "autodecoder"), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["rooms"] == 12
    pipeline = ResamplePipeline.from_pretrained(tmp_path / "out", use_safetensors=True)
    made = pipeline(SceneLatents(), Anchors(insertion=0, camera=0, background=0), num_inference_steps=2)
    assert len(made[0].objects) <= pipeline.slots == 6
    written = json.loads((tmp_path / "out" / "training_config.json").read_text())
    assert written["trained_steps"] == 4 and written["rooms"] == 12
    again = [
        word if word != str(tmp_path / "prior.json") else str(tmp_path / "out/training_config.json") for word in command
    ]
    assert main(again) == 0  # the configuration that a run writes can be read, and what is done is not done twice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "prior-mini"], "give --autodecoder DIR"),
        (["--config", "prior-mini", "--autodecoder", "x", "--vgg", "y"], "--vgg: configurations of `resample`"),
        (["--config", "bad.json", "--autodecoder", "x"], "there is no field stepps"),
    ],
)
def test_wrong_arguments_are_explained(world, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text(json.dumps({"codec_steps": 3, "stepps": 4}))
    assert main(["train", "--world", str(world), "-o", str(tmp_path / "out"), *arguments]) != 0
    assert message in capsys.readouterr().err
