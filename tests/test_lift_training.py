"""Training the models of `lift` on a small world of orbits, and lifting with them."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from orbit_world import write_orbits

from neuralusd.annotate.errors import ImageError
from neuralusd.cli import main
from neuralusd.datasets.captions import captions, color_word
from neuralusd.datasets.carving import carve
from neuralusd.datasets.objects import object_views
from neuralusd.errors import BackendError
from neuralusd.lifting import open_lifter
from neuralusd.lifting.shape import Cutout, Request
from neuralusd.lifting.volume import VolumeLifter, frame, load_lift_pipeline
from neuralusd.models.volumes.conditions import TextEncoder, bin_direction, direction_bin
from neuralusd.models.volumes.decoder import VolumeDecoder, activate
from neuralusd.models.volumes.embeddings import ObjectEmbeddings
from neuralusd.models.volumes.fitting import embed, look, search_cameras
from neuralusd.models.volumes.rendering import render_rays
from neuralusd.models.volumes.views import orbit_cameras
from neuralusd.pipelines.lift import LiftPipeline
from neuralusd.training.autodecoder import AutodecoderConfig, draw, train_autodecoder, views_of
from neuralusd.training.latent_diffusion import LatentDiffusionConfig
from neuralusd.training.lift import LIFT_CONFIGS, LiftTrainingConfig, train_lift

TINY = LiftTrainingConfig(
    AutodecoderConfig(
        decoder={"embedding_dim": 8, "channels": (16, 16, 8), "depth": 1, "attention_resolutions": (8,)},
        embeddings={"embedding_dim": 8},
        objects=2,
        views=2,
        resolution=16,
        samples=16,
        carved_steps=60,
        steps=80,
        lr=1e-2,
    ),
    LatentDiffusionConfig(
        unet={"width": 8, "multipliers": (1, 2), "depth": 1, "attention_heads": 2, "context_dim": 16, "pooled_dim": 16},
        picture_encoder={"resolution": 16, "channels": (8, 16), "token_dim": 16},
        text=None,
        word_dim=384,
        batch_size=2,
        steps=60,
        lr=3e-3,
        ema_decay=0.9,
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_orbits(tmp_path_factory.mktemp("world"), size=32, views=10)


@pytest.fixture(scope="module")
def views(world):
    return object_views(world)


@pytest.fixture(scope="module")
def weights(views, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    train_lift(views, TINY, folder, mixed_precision="no")
    return folder


def test_outlines_carve_the_object_and_its_pictures_colour_it(views):
    chair = views.names.index("chair_a")
    occupancy, color = carve(views, chair, 16)
    # The chair is 0.5 wide and 1 high: half of the cube's width of 1.1 high, in the middle of it.
    across, high = (np.flatnonzero(occupancy.max(axes) > 0.2) for axes in ((0, 1), (1, 2)))
    assert len(across) == pytest.approx(16 * 0.5 / 1.1, abs=2) and len(high) == pytest.approx(16 / 1.1, abs=2)
    assert 0.02 < occupancy.mean() < 0.2
    seat, back = color[7, 5, 8], color[12, 10, 8]
    assert seat.argmax() == 0 and back.argmax() == 2


def test_a_window_about_the_object_keeps_every_ray(views):
    small = views.cropped(24)
    assert small.mask.mean() > views.mask.mean()
    for index in range(2):
        origins, directions = small.rays(np.array([index]), np.array([3]))
        found = np.argwhere(small.mask[index, 3]).mean(0).astype(int)
        point = origins[0, 0, 0] + directions[0, found[0], found[1]] * np.linalg.norm(
            origins[0, 0, 0]
        ) / np.linalg.norm(directions[0, found[0], found[1]])
        assert np.abs(point).max() < 0.6  # through the object's middle, or not far from it


def test_every_fifth_view_is_held_back(views):
    trained, held_back = views.split_views()
    assert list(held_back) == [2, 7] and len(trained) == 8 and not set(trained) & set(held_back)


def test_captions_name_the_colour(views):
    said = dict(zip(views.names, captions(views), strict=True))
    assert said["chair_a"][0] == "chair a" or said["chair_a"][0] == "chair_a"
    assert any("red" in text or "blue" in text for text in said["chair_a"])
    assert color_word(np.array([[170, 30, 30]] * 4, np.uint8)) == "red" and color_word(np.zeros((0, 3), np.uint8)) == ""


def test_an_autodecoder_learns_views_that_it_was_not_shown(views, weights):
    decoder = VolumeDecoder.from_pretrained(weights / "autodecoder" / "decoder").eval()
    embeddings = ObjectEmbeddings.from_pretrained(weights / "autodecoder" / "embeddings")
    objects = np.arange(len(views))
    _, origins, directions, color, mask = views_of(views.cropped(16), objects, np.array([[2, 7]] * len(views)))
    with torch.no_grad():
        density, volume = activate(decoder(embeddings(torch.from_numpy(objects))))
        seen = render_rays(density, volume, origins.flatten(1, 3), directions.flatten(1, 3), samples=32)
    shown, truth = seen.occupancy.view(mask.shape) > 0.5, mask > 0.5
    assert (shown & truth).sum() / (shown | truth).sum() > 0.5
    about = json.loads((weights / "autodecoder" / "training_config.json").read_text())
    assert about["perceptual"] == "edges" and about["trained_steps"] == 80
    log = [json.loads(line) for line in (weights / "autodecoder" / "log.jsonl").read_text().splitlines()]
    assert [entry["of"] for entry in log][0] == "carved" and log[-1]["of"] == "rendered"


def test_a_run_that_was_cut_off_goes_on(views, tmp_path):
    config = dataclasses.replace(TINY.autodecoder, steps=12, carved_steps=6)
    whole = train_autodecoder(views, config, tmp_path / "whole", mixed_precision="no", checkpoint_steps=4)

    calls = []

    def cut(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuralusd.training.autodecoder.draw", cut)
        with pytest.raises(KeyboardInterrupt):
            train_autodecoder(views, config, tmp_path / "cut", mixed_precision="no", checkpoint_steps=4)
    assert (tmp_path / "cut" / "checkpoint").exists() and not (tmp_path / "cut" / "decoder").exists()
    again = train_autodecoder(views, config, tmp_path / "cut", mixed_precision="no", checkpoint_steps=4)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_wrong_numbers_are_said(views, tmp_path):
    with pytest.raises(ValueError, match="8 views of an object are trained on, and a step renders 20"):
        train_autodecoder(views, dataclasses.replace(TINY.autodecoder, views=20), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_direction_is_found_again():
    for index in (0, 5, 23, 24, 95):
        turn, elevation = bin_direction(torch.tensor(index))
        eye = orbit_cameras(turn.view(1), elevation.view(1)).axes()[0]
        assert direction_bin(eye).item() == index


def test_the_camera_of_a_picture_is_found(views):
    occupancy, color = carve(views, views.names.index("chair_a"), 16)
    volume = torch.from_numpy(np.concatenate([occupancy[..., None], color], -1)).permute(3, 0, 1, 2)[None]
    volume = torch.cat([volume[:, :1] * 12 - 2, torch.logit(volume[:, 1:].clamp(0.01, 0.99))], 1)
    turns = torch.arange(12) * math.pi / 6
    truth = orbit_cameras(turns[4:5], torch.tensor([0.4]))
    seen = look(volume, truth, 24)
    picture = torch.cat([seen.color, seen.occupancy.unsqueeze(-1)], -1).view(1, 24, 24, 4).permute(0, 3, 1, 2)
    # The window of the truth is about the whole cube, that of what is searched about the outline: crop alike.
    rows, columns = ((picture[0, 3] > 0.5).any(axis).nonzero() for axis in (1, 0))
    box = picture[..., rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    size = max(box.shape[-2:])
    aside, above = size - box.shape[-1], size - box.shape[-2]
    box = torch.nn.functional.pad(box, (aside // 2, aside - aside // 2, above // 2, above - above // 2))
    found = search_cameras(volume, box, (turns[None], torch.full((1, 12), 0.4)))
    assert found.cameras.turn.item() == pytest.approx(turns[4].item())


def cutout(views, name, view=4):
    index = views.names.index(name)
    return Cutout(views.color[index, view].astype(np.float32) / 255, views.mask[index, view].astype(np.float32))


def test_a_picture_is_lifted_by_the_weights(views, weights):
    lifter = VolumeLifter(weights, "tiny")
    assert open_lifter(weights).revision == lifter.revision and len(lifter.revision) == 12
    done = []
    lifted = lifter(Request([cutout(views, "table_a")], candidates=3, steps=4), done.append)
    assert done[-1] == 1.0 and done == sorted(done)
    assert (lifted.distance < 0).any() and lifted.distance[0].min() > 0 and lifted.distance[-1].min() > 0
    assert [candidate.picture.shape[2] for candidate in lifted.candidates] == [4, 4, 4]
    assert lifted.code.latent.shape == (8, 8, 8, 16) and lifted.code.revision == lifter.revision
    assert lifted.code.embedding.shape == (8,) and lifted.code.embedding.any()
    assert lifted.height > 0 and len(lifted.seen) == 1
    again = lifter.decode(lifted.code)  # as a NeuralVolume prim holds it, in half precision
    assert np.abs(again.density - lifted.radiance.density).mean() < 0.02 * lifted.radiance.density.mean() + 1e-3
    with pytest.raises(BackendError, match="made by 'tiny', revision other"):
        lifter.decode(dataclasses.replace(lifted.code, revision="other"))
    again = lifter(Request([cutout(views, "table_a")], candidates=3, steps=4))
    np.testing.assert_array_equal(lifted.distance, again.distance)
    other = lifter(Request([cutout(views, "table_a")], candidates=3, steps=4, seed=1))
    assert not np.array_equal(lifted.distance, other.distance)


def test_the_found_camera_frames_the_object_where_the_picture_has_it(views, weights, tmp_path):
    folder = shutil.copytree(weights, tmp_path / "unfitted")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "fit_steps": 0}))
    picture = cutout(views, "table_a")
    lifted = VolumeLifter(folder, "tiny")(Request([picture], candidates=2, steps=4))
    inside = np.argwhere(lifted.distance < 0) * lifted.spacing + lifted.origin
    rows, columns, _ = lifted.view.project(inside).T
    height, width = picture.coverage.shape
    truth = np.argwhere(picture.coverage > 0.5)
    middle = (np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2) * [height, width]
    assert middle == pytest.approx((truth.min(0) + truth.max(0) + 1) / 2, abs=5)


def test_an_embedding_is_found_again(weights):
    pipeline = load_lift_pipeline(str(weights))
    decoder, table = pipeline.decoder, pipeline.embeddings.table.weight
    first = decoder.features(table[:3], decoder.config.resolution)
    torch.testing.assert_close(embed(first, decoder), table[:3], atol=1e-3, rtol=1e-2)
    later = decoder.features(table[:1], 8)
    found = decoder.features(embed(later, decoder), 8)
    assert (found - later).square().mean() < 0.2 * later.square().mean()


def solid(made):
    return (1 - np.exp(-made.density * 2 / len(made.density)) > 0.5).any()


def test_what_it_was_trained_on_is_among_the_candidates(views, weights):
    pipeline = LiftPipeline.from_pretrained(str(weights), direction_weight=0.0)
    numbers = {"candidates": 1, "num_inference_steps": 1, "fit_steps": 0}
    every = pipeline.decoder.features(pipeline.embeddings.table.weight, 8).numpy()
    taken = 0
    for name in views.names:
        picture, _ = frame(cutout(views, name), pipeline.picture_size)
        [drawn] = pipeline(picture[None], known=0, **numbers)
        [best] = pipeline(picture[None], known=len(views), **numbers)
        if solid(drawn):  # what is nothing at all is never the best, however near
            assert best.error <= drawn.error
        known = np.abs(every - best.latent).max((1, 2, 3, 4)).min() < 1e-3
        assert known == (best.error != drawn.error) and (known or solid(best))
        taken += known
    assert taken
    [fitted] = pipeline(picture[None], known=len(views), **{**numbers, "fit_steps": 20})
    assert np.abs(fitted.latent - best.latent).max() > 1e-3


def test_what_is_nothing_at_all_comes_last(views, weights):
    """Air is less unlike a thin chair than a wrong solid is, but it is no chair."""
    air, thin = torch.full((1, 4, 16, 16, 16), -9.0), torch.full((1, 4, 16, 16, 16), -9.0)
    thin[:, 0, 1:15, 8, 8] = 9.0
    picture, _ = frame(cutout(views, "chair_a"), 24)
    angles = torch.zeros(1, 4), torch.linspace(-0.2, 1.0, 4)[None]
    nothing, something = (search_cameras(volume, torch.from_numpy(picture)[None], angles) for volume in (air, thin))
    assert nothing.empty and not something.empty and something.cost < nothing.cost == float("inf")
    assert np.isfinite(nothing.error)


def test_several_pictures_words_and_nothing_are_lifted_too(views, weights):
    lifter = VolumeLifter(weights, "tiny")
    lifted = lifter(Request([cutout(views, "chair_a", 1), cutout(views, "chair_a", 5)], candidates=1, steps=2))
    assert len(lifted.seen) == 2
    said = lifter(Request(text="a red chair", candidates=1, steps=2))
    free = lifter(Request(candidates=1, steps=2))
    assert not said.seen and not free.seen and said.height is None
    assert not np.array_equal(said.distance, free.distance)


def test_weights_are_shipped_in_half_precision(views, weights, tmp_path, capsys):
    from neuralusd.training.half import main as halve

    assert halve([str(weights), str(tmp_path / "half")]) == 0
    assert "MB" in capsys.readouterr().out
    file = Path("decoder", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / "half" / file).stat().st_size < 0.6 * (weights / file).stat().st_size
    lifter = VolumeLifter(tmp_path / "half", "half")
    assert lifter.revision == VolumeLifter(weights, "whole").revision
    assert lifter.pipeline.decoder.first.weight.dtype == torch.float32  # computed with in full
    request = Request([cutout(views, "table_a")], candidates=1, steps=2)
    assert (lifter(request).distance < 0).any()
    assert halve([str(tmp_path), str(tmp_path / "none")]) == 1
    assert "cannot be loaded" in capsys.readouterr().err


def test_embeddings_are_shortened_without_a_change_where_nothing_is_lost(views, weights, tmp_path, capsys):
    """Four objects differ in three directions, so three numbers say all of them; two do not."""
    from neuralusd.training.half import main as halve

    truth = load_lift_pipeline(str(weights))
    with torch.no_grad():
        wanted = truth.decoder(truth.known_embeddings())
    apart = []
    for count in (3, 2):
        assert halve([str(weights), str(tmp_path / str(count)), "--embedding-dim", str(count)]) == 0
        short = load_lift_pipeline(str(tmp_path / str(count)))
        assert short.decoder.config.embedding_dim == count and short.config.revision != truth.config.revision
        with torch.no_grad():
            found = short.decoder(short.known_embeddings())
        apart.append((found - wanted).abs().mean() / wanted.abs().mean())
    assert apart[0] < 5e-3 < apart[1]
    capsys.readouterr()
    assert halve([str(weights), str(tmp_path / "x"), "--embedding-dim", "9"]) == 1
    assert "9 numbers of an embedding cannot be kept: give 1 to 4" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_lifted_is_said(views, weights, tmp_path):
    lifter = VolumeLifter(weights, "tiny")
    empty = Cutout(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32), source="empty.png")
    with pytest.raises(ImageError, match="empty.png shows no object"):
        lifter(Request([empty]))
    with pytest.raises(BackendError, match="candidates is 0"):
        lifter(Request(candidates=0))
    with pytest.raises(BackendError, match="cannot be loaded"):
        VolumeLifter(tmp_path)
    with pytest.raises(BackendError, match="not a folder of a diffusers pipeline"):
        open_lifter(tmp_path)
    (weights / "denoiser" / "copy.bin").touch()
    (tmp_path / "model_index.json").write_text((weights / "model_index.json").read_text())
    with pytest.raises(BackendError, match="cannot be loaded"):
        VolumeLifter(tmp_path)


def test_a_text_encoder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no text encoder"):
        TextEncoder(tmp_path)
    features, mask = TextEncoder()(["a red armchair", "x " * 100])
    assert features.shape == (2, 32, 384) and mask.sum(1).tolist() == [5, 32] and (features[0, 5:] == 0).all()


def test_train_in_the_shell(world, tmp_path, capsys):
    config = tmp_path / "tiny.json"
    small = dataclasses.replace(
        TINY,
        autodecoder=dataclasses.replace(TINY.autodecoder, steps=4, carved_steps=2),
        diffusion=dataclasses.replace(TINY.diffusion, steps=2),
    )
    config.write_text(json.dumps(small.to_dict()))
    command = ["train", "--world", str(world), "-o", str(tmp_path / "out")]
    assert main([*command, "--config", str(config), "--precision", "fp32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == len(object_views(world))
    assert "image" in open_lifter(tmp_path / "out").takes
    again = tmp_path / "out" / "training_config.json"
    more = ["--config", str(again), "--autodecoder", str(tmp_path / "out" / "autodecoder"), "--precision", "fp32"]
    assert main([*command[:-1], str(tmp_path / "more"), *more, "--quiet"]) == 0
    config.write_text(json.dumps({"autodecoder": {"stepps": 3}}))
    assert main([*command, "--config", str(config)]) == 1
    assert "autodecoder has no field stepps" in capsys.readouterr().err
    assert main([*command, "--config", "lift-mini", "--dino", "x"]) == 2
    assert "configurations of `lift` do not take it" in capsys.readouterr().err


def test_the_full_size_and_every_ablation_can_be_built():
    from neuralusd.cli.train import LIFT_NAMES
    from neuralusd.models.volumes.conditions import PictureEncoder
    from neuralusd.models.volumes.denoiser import VolumeUNet

    assert set(LIFT_NAMES) == set(LIFT_CONFIGS)
    with torch.device("meta"):
        for config in LIFT_CONFIGS.values():
            decoder = VolumeDecoder(**config.autodecoder.decoder)
            shape = decoder.latent_shape(config.diffusion.resolution)
            unet = VolumeUNet(
                **{**config.diffusion.unet, "channels": shape[0], "resolution": config.diffusion.resolution}
            )
            encoder = PictureEncoder(**config.diffusion.picture_encoder)
            assert unet.config.context_dim == encoder.config.token_dim
            tokens = torch.zeros(1, 3, unet.config.context_dim)
            assert unet(torch.zeros(1, *shape), torch.ones(1), tokens).shape == (1, *shape)
