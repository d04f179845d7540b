"""Training on what moves, and on views whose cameras are known roughly or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralusd.datasets.clips import Clips
from neuralusd.datasets.objects import ObjectViews
from neuralusd.datasets.orbits import orbit_directions
from neuralusd.models.volumes.rendering import render_rays
from neuralusd.models.volumes.skinning import InverseSkinning
from neuralusd.training.articulated import (
    MINI_ARTICULATED,
    ArticulatedAutodecoder,
    FramePoses,
    batch_of,
    load_articulated,
    prepare_views,
    train_articulated,
)
from neuralusd.training.cameras import camera_errors, disturbed, without_cameras

SIZE = 32  # of the pictures; models are shown windows of 16 pixels
SMALL = replace(
    MINI_ARTICULATED,
    decoder={"embedding_dim": 8, "channels": (16, 8, 8), "depth": 1, "attention_resolutions": (), "parts": 2},
    embeddings={"embedding_dim": 8},
    keypoints={"points": 8, "size": 16, "channels": 8, "depth": 2, "reach": 0.4},
    objects=1,
    resolution=16,
    samples=16,
    warm_steps=0,
    rigid_steps=0,
    lr=0.01,
)


def scene(side=24):
    """A grey foot, which is part 0, and a bar of many colours above it, part 1."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    z, y, x = torch.meshgrid(place, place, place, indexing="ij")
    foot = (z < -0.2) & (z > -0.6) & (x.abs() < 0.5) & (y.abs() < 0.35)
    bar = (z > 0) & (z < 0.3) & (x.abs() < 0.6) & (y.abs() < 0.2)
    upper = z > -0.1
    colors = torch.stack([0.5 + 0.5 * x.sign(), 0.5 - 0.5 * x.sign(), 0.3 + 0.6 * (y > 0)])
    color = torch.where(upper, colors, torch.stack([0.4 + 0.4 * (y < 0), 0.4 + 0.3 * x, torch.full_like(x, 0.5)]))
    weights = torch.stack([(~upper).float(), upper.float()])
    return 60.0 * (foot | bar)[None, None], color[None].clamp(0, 1), weights[None]


def clips(frames=15, turning=True):
    """What cameras around it see while the bar turns about the vertical axis."""
    directions = orbit_directions(frames, 0)
    matrices, motion = [], []
    for number, direction in enumerate(directions):
        back = direction
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = right, np.cross(back, right), back
        matrix[3, :3] = 3.2 * back
        matrices.append(matrix)
        angle = 0.9 * np.sin(2.4 * number) if turning else 0.0
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        motion.append([np.eye(4), turn])
    views = Clips(
        color=np.zeros((1, frames, SIZE, SIZE, 3), np.uint8),
        mask=np.zeros((1, frames, SIZE, SIZE), bool),
        camera_to_canonical=np.array(matrices, np.float32)[None],
        intrinsics=np.tile(np.array([1.5, 1.5, 0, 0], np.float32), (1, frames, 1)),
        motion=np.array(motion, np.float32)[None],
        scale=np.ones(1, np.float32),
        names=["bar"],
        texts=["a bar that turns on a foot"],
        parts=np.array([2]),
    )
    density, color, weights = (each.expand(frames, *each.shape[1:]) for each in scene())
    rays = views.rays(np.zeros(frames, int), np.arange(frames))
    moved = torch.from_numpy(views.motion[0])
    skinning = InverseSkinning(weights, moved[..., :3, :3].mT, moved[..., 3, :3], density)
    origins, directions = (torch.from_numpy(each).flatten(1, 2) for each in rays)
    seen = render_rays(density, color, origins, directions, samples=64, deform=skinning)
    views.mask[0] = seen.occupancy.view(frames, SIZE, SIZE).numpy() > 0.5
    views.color[0] = np.where(
        views.mask[0][..., None], seen.color.view(frames, SIZE, SIZE, 3).numpy().clip(0, 1) * 255, 0
    )
    return views


def unseen_error(model, views, config):
    """Mean absolute error of the frames that were not trained on."""
    prepared = prepare_views(views, config)
    held_back = views.split_views()[1]
    batch, more = batch_of(prepared, np.array([0]), held_back[None])
    objects, origins, directions, color, _ = batch
    with torch.no_grad():
        model.eval()
        poses = model.poses(color.movedim(-1, 2), more["cameras"], more["intrinsics"], more["motion"])
        volume = model.decoder(model.embeddings(objects)).float()
        seen, share = model.render(volume, origins, directions, poses)
    return (seen.color.view(color.shape) - color).abs().mean().item(), share


@pytest.fixture(scope="module")
def bar():
    return clips()


def test_parts_with_given_motion_are_learned_where_a_rigid_object_is_a_blur(bar, tmp_path):
    errors = {}
    for motion in ("given", "none"):
        config = replace(SMALL, motion=motion, steps=120)
        model = train_articulated(bar, config, tmp_path / motion, seed=1, mixed_precision="no", checkpoint_steps=1000)
        errors[motion], share = unseen_error(model, bar, config)
        if motion == "given":
            assert share.min() > 0.1  # both parts are something
    assert errors["given"] < 0.75 * errors["none"]


def test_parts_whose_motion_is_found_from_pictures_alone_beat_a_rigid_object(tmp_path):
    """Nobody says what turns, nor where to; frames that were not trained on."""
    bar = clips(40)
    errors = {}
    for motion, steps in (("none", 0), ("estimated", 60)):
        config = replace(SMALL, motion=motion, rigid_steps=steps, steps=260)
        model = train_articulated(bar, config, tmp_path / motion, seed=1, mixed_precision="no", checkpoint_steps=1000)
        errors[motion], share = unseen_error(model, bar, config)
    assert share.min() > 0.1
    assert errors["estimated"] < 0.85 * errors["none"], errors


def test_parts_begin_as_a_rigid_object_seen_by_the_given_cameras(bar):
    model = ArticulatedAutodecoder(SMALL, 1, 15).eval()
    batch, more = batch_of(prepare_views(bar, model.config), np.array([0]), np.arange(6)[None])
    image = batch[3].movedim(-1, 2)
    poses = model.poses(image, more["cameras"], more["intrinsics"])
    assert (poses.rotation - torch.eye(3)).abs().max() < 1e-3 and poses.translation.abs().max() < 1e-3
    assert poses.missed < 1e-4 and poses.strayed == 0
    # A part that would leave the cube is told so.
    model.unet.forward = lambda image, expected: expected + 1.5
    assert model.poses(image, more["cameras"], more["intrinsics"]).strayed > 0.05


def test_disturbed_cameras_are_brought_back(tmp_path):
    """A rigid object, and cameras that are turned by ten degrees on average."""
    truth = clips(24, turning=False)
    rough = disturbed(truth, 10.0)
    before = camera_errors(rough, truth)
    assert 8 < before.mean() < 12
    config = replace(SMALL, cameras="refined", motion="none", resolution=20, steps=300, views=6, camera_lr=0.5)
    model = train_articulated(rough, config, tmp_path, seed=0, mixed_precision="no", checkpoint_steps=1000)
    after = camera_errors(model.corrections.corrected(rough), truth)
    assert np.median(after) < 3.5 and after.mean() < 0.4 * before.mean(), (
        before.mean(),
        after.mean(),
        np.median(after),
    )
    loaded = load_articulated(tmp_path)
    assert np.array_equal(camera_errors(loaded.corrections.corrected(rough), truth), after)


def test_how_far_cameras_are_off_does_not_mind_a_turn_of_all(bar):
    assert camera_errors(bar, bar) == pytest.approx(0, abs=0.1)
    whole = np.eye(4, dtype=np.float32)
    whole[:3, :3] = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    turned = replace(bar, camera_to_canonical=bar.camera_to_canonical @ whole)
    assert camera_errors(turned, bar) == pytest.approx(0, abs=0.1)
    assert camera_errors(disturbed(turned, 20.0), bar).mean() > 10


@pytest.mark.parametrize("cameras", ["given", "estimated"])
def test_poses_are_estimated_while_training_and_a_killed_run_goes_on(bar, tmp_path, cameras):
    config = replace(SMALL, cameras=cameras, warm_steps=4, rigid_steps=2, steps=10)
    whole = train_articulated(bar, config, tmp_path / "whole", mixed_precision="no", log_steps=1)
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [entry["of"] for entry in log] == ["warm"] * 4 + ["rigid"] * 2 + ["parts"] * 4
    for folder in ("decoder", "embeddings", "keypoints", "points"):
        assert (tmp_path / "whole" / folder / "config.json").exists()
    loaded = load_articulated(tmp_path / "whole")
    for (name, one), other in zip(whole.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    (tmp_path / "whole" / "points" / "config.json").unlink()
    with pytest.raises(ValueError, match="whole holds no model of `train_articulated`: .*config.json"):
        load_articulated(tmp_path / "whole")
    # Stopped after six steps, and taken up.
    stopped = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuralusd.training.articulated.batch_of", killed_after(6, batch_of))
        with pytest.raises(KeyboardInterrupt):
            train_articulated(bar, config, stopped, mixed_precision="no", checkpoint_steps=2)
    again = train_articulated(bar, config, stopped, mixed_precision="no", checkpoint_steps=2)
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3, msg=name)
    with pytest.raises(ValueError, match="stopped holds a run with another prior, seed; take another folder"):
        train_articulated(bar, replace(config, prior=1.0), stopped, seed=1, mixed_precision="no")


def killed_after(steps, work):
    count = iter(range(steps))

    def counted(*arguments):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return work(*arguments)

    return counted


def test_keypoints_learn_where_the_given_cameras_see_them(bar, tmp_path):
    """The warm steps: afterwards PnP finds the cameras, from pictures alone."""
    unet = {"points": 8, "size": 16, "channels": 16, "depth": 2}
    config = replace(SMALL, warm_steps=150, steps=150, views=8, lr=5e-3, keypoints=unet)
    model = train_articulated(bar, config, tmp_path, mixed_precision="no", checkpoint_steps=1000)
    model.anchored = False
    trained_on = bar.split_views()[0]
    batch, more = batch_of(prepare_views(bar, config), np.array([0]), trained_on[None])
    with torch.no_grad():
        poses = model.train().poses(batch[3].movedim(-1, 2), more["cameras"], more["intrinsics"])
    turn = poses.rotation[0]
    angle = torch.rad2deg(torch.arccos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)))
    assert angle.median() < 15  # from where the cameras have it: not moved at all


def test_parts_begin_in_regions_of_their_own(bar):
    model = ArticulatedAutodecoder(replace(SMALL, prior=8.0), 1, 15)
    batch, more = batch_of(prepare_views(bar, model.config), np.array([0]), np.array([[0]]))
    still = FramePoses(torch.eye(3).expand(1, 1, 2, 3, 3), torch.zeros(1, 1, 2, 3), torch.zeros(()), torch.zeros(()))
    solid = torch.zeros(1, 6, 16, 16, 16)
    solid[:, 0] = 20
    palette = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    seen, share = model.render(solid, batch[1], batch[2], still, palette=palette)
    picture = seen.color.view(16, 16, 3)
    assert picture[:3, :, 1].mean() > 0.8 > 0.2 > picture[:3, :, 0].mean()  # the last part at the top
    assert picture[-3:, :, 0].mean() > 0.8 and share.tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_without_cameras_all_views_are_seen_from_one_stand(bar):
    alone = without_cameras(bar)
    assert np.ptp(alone.camera_to_canonical, axis=1).max() == 0
    origins, directions = alone.rays(np.array([0]), np.array([0]))
    edge = directions[0, 0, SIZE // 2] / np.linalg.norm(directions[0, 0, SIZE // 2])
    nearest = origins[0, 0, 0] - edge * (origins[0, 0, 0] @ edge)
    assert np.linalg.norm(nearest) == pytest.approx(1, abs=0.1)  # the sphere fills the picture


def test_what_does_not_fit_is_told(bar, tmp_path):
    with pytest.raises(ValueError, match="set motion to 'estimated' as well"):
        ArticulatedAutodecoder(replace(SMALL, cameras="estimated", motion="given"), 1, 15)
    with pytest.raises(ValueError, match="these are 'known' and 'estimated'"):
        ArticulatedAutodecoder(replace(SMALL, cameras="known"), 1, 15)
    with pytest.raises(ValueError, match="12 views of an object are trained on, and a step renders 40"):
        train_articulated(bar, replace(SMALL, views=40), tmp_path)
    with pytest.raises(ValueError, match="up to 2 parts, and the decoder has 1"):
        train_articulated(bar, replace(SMALL, motion="given", decoder={**SMALL.decoder, "parts": 1}), tmp_path)
    names = [name for name in vars(bar) if name not in ("motion", "parts")]
    rigid = ObjectViews(**{name: getattr(bar, name) for name in names})
    with pytest.raises(ValueError, match="do not tell how parts move; take clips"):
        train_articulated(rigid, replace(SMALL, motion="given"), tmp_path)
