"""Objects as volumes: decoder, rendering, latents and their diffusion, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralusd import stage as stages
from neuralusd.datasets.objects import ObjectViews, canonical_to_world, load_objects, save_objects
from neuralusd.datasets.orbits import orbit_directions
from neuralusd.models.volumes.decoder import VolumeDecoder, activate
from neuralusd.models.volumes.denoiser import SIGMA_DATA, VolumeUNet, loss_weight, training_sigmas
from neuralusd.models.volumes.embeddings import ObjectEmbeddings, hash_index
from neuralusd.models.volumes.normalization import LatentNormalizer
from neuralusd.models.volumes.perceptual import EdgePyramid, VggPyramid
from neuralusd.models.volumes.rendering import box_span, render_rays, sample_volume
from neuralusd.models.volumes.sampling import sample_latents, sigma_schedule

TINY = {"embedding_dim": 16, "channels": (16, 8, 8, 4), "depth": 1, "attention_heads": 2}


def test_a_decoder_splits_at_every_resolution():
    decoder = VolumeDecoder(**TINY).eval()
    embedding = torch.randn(2, 16)
    whole = decoder(embedding)
    assert decoder.resolutions == [4, 8, 16, 32] and whole.shape == (2, 4, 32, 32, 32)
    for resolution in decoder.resolutions[:-1]:
        features = decoder.features(embedding, resolution)
        assert features.shape[1:] == decoder.latent_shape(resolution)
        torch.testing.assert_close(decoder.volume(features), whole)
    density, color = activate(whole)
    assert density.min() >= 0 and 0 <= color.min() and color.max() <= 1
    with pytest.raises(ValueError, match="no volume of side 5; it has 4, 8, 16, 32"):
        decoder.features(embedding, 5)


def test_the_papers_decoder_has_the_papers_shapes():
    with torch.device("meta"):
        decoder = VolumeDecoder()
        assert decoder.latent_shape(8) == (256, 8, 8, 8)
        assert decoder(torch.zeros(1, 1024)).shape == (1, 4, 64, 64, 64)
        parts = VolumeDecoder(channels=(512, 256, 128, 64, 32, 16), parts=10)
        assert parts(torch.zeros(1, 1024)).shape == (1, 14, 128, 128, 128)


def ball(radius=0.5, side=48):
    """A volume of a dense red ball."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    z, y, x = torch.meshgrid(place, place, place, indexing="ij")
    density = 200.0 * ((x**2 + y**2 + z**2).sqrt() < radius)
    color = torch.zeros(1, 3, side, side, side)
    color[:, 0] = 1
    return density[None, None], color


def test_rays_see_a_ball_where_it_is():
    density, color = ball()
    x = torch.linspace(-0.9, 0.9, 19)
    origins = torch.stack([x, torch.zeros(19), torch.full((19,), 3.0)], -1)[None]
    directions = torch.tensor([0.0, 0.0, -2.0]).expand(1, 19, 3)  # of any length
    seen = render_rays(density, color, origins, directions, normals=True)
    inside, outside = x.abs() < 0.42, x.abs() > 0.58
    assert (seen.occupancy[0, inside] > 0.99).all() and (seen.occupancy[0, outside] < 0.01).all()
    surface = 3 - (0.25 - x[inside] ** 2).sqrt()
    assert seen.depth[0, inside] * 2 == pytest.approx(surface.numpy(), abs=0.06)
    normal = torch.stack([x[inside], torch.zeros(int(inside.sum())), (0.25 - x[inside] ** 2).sqrt()], -1) / 0.5
    assert (seen.normals[0, inside] * normal).sum(-1).min() > 0.9
    assert seen.color[0, inside, 0].min() > 0.99 and seen.color[0, :, 1:].max() == 0


STEPS = st.integers(-29, 29).map(lambda step: step / 10 + 0.05)


@given(st.tuples(STEPS, STEPS, STEPS), st.tuples(STEPS, STEPS, STEPS))
@settings(max_examples=60, deadline=None)
def test_a_ray_is_in_the_cube_between_entering_and_leaving(origin, direction):
    origin, direction = torch.tensor(origin), torch.tensor(direction)
    near, far = box_span(origin, direction)
    assert 0 <= near <= far
    if far > near:
        middle = origin + (near + far) / 2 * direction
        assert middle.abs().max() <= 1 + 1e-4
    if origin.abs().max() < 1:
        assert near == 0 and far > 0


def test_a_volume_is_sampled_in_x_y_z():
    volume = torch.zeros(1, 3, 4, 4, 4)
    place = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    volume[0, 0], volume[0, 1], volume[0, 2] = place, place[:, None], place[:, None, None]
    points = torch.rand(1, 50, 3) * 1.4 - 0.7
    torch.testing.assert_close(sample_volume(volume, points), points)


def test_hashed_embeddings_are_those_of_the_equations():
    objects = torch.tensor([0, 1, 77, 299_999])
    found = hash_index(objects, 256, 32768)
    for row, k in zip(found.tolist(), objects.tolist(), strict=True):
        expected = [((((2**31 + 2 * i * i + 1) * k) % 2**32) >> 17) for i in range(256)]
        assert row == expected
    embeddings = ObjectEmbeddings(2000, 1024, codebooks=256, entries=32768)
    assert embeddings(objects[:3]).shape == (3, 1024)
    with pytest.raises(ValueError, match="cannot tell 1000 objects apart"):
        ObjectEmbeddings(1000, 64, codebooks=8, entries=16)
    with pytest.raises(ValueError, match="power of two"):
        ObjectEmbeddings(10, 64, codebooks=8, entries=12)


def test_robust_normalisation_does_not_mind_outliers(tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, generator=generator) * 3 + 5
    features[:200] = 1e4
    robust, plain = LatentNormalizer().fit(features), LatentNormalizer(robust=False).fit(features)
    assert robust.center.item() == pytest.approx(5, abs=0.1) and robust.scale.item() == pytest.approx(3, abs=0.15)
    assert plain.scale > 500
    torch.testing.assert_close(robust.denormalize(robust.normalize(features)), features, rtol=1e-4, atol=1e-3)
    robust.save_pretrained(tmp_path)
    assert LatentNormalizer.from_pretrained(tmp_path).scale == robust.scale
    with pytest.raises(ValueError, match="constant or not finite"):
        LatentNormalizer().fit(torch.ones(100))


def test_the_sampler_draws_from_the_distribution_that_the_denoiser_knows():
    """Data of two points: the best denoiser is known, and samples must be one point or the other, as often."""
    points = torch.tensor([-0.5, 0.5])

    def denoise(latents, sigma):
        distance = (latents.unsqueeze(-1) - points) ** 2 / (2 * sigma.view(-1, 1, 1, 1, 1, 1) ** 2)
        return ((-distance).softmax(-1) * points).sum(-1)

    shape = (500, 1, 1, 1, 1)
    seen = []
    for churn in (0.0, 20.0):
        generator = torch.Generator().manual_seed(0)
        found = sample_latents(denoise, shape, generator, steps=16, churn=churn, on_step=lambda n, _: seen.append(n))
        assert (found.abs() - 0.5).abs().max() < 0.02
        assert found.mean().abs() < 0.1
    assert seen == 2 * list(range(1, 17))
    again = sample_latents(denoise, shape, torch.Generator().manual_seed(0), steps=16, churn=20.0)
    assert torch.equal(again, found)
    assert sigma_schedule(4).tolist() == pytest.approx([80.0, 9.723, 0.4700, 0.002, 0], rel=1e-2)


def test_a_denoiser_learns_from_conditions_and_starts_as_edm_says():
    torch.manual_seed(0)
    unet = VolumeUNet(2, 4, 16, (1, 2), 1, (4, 2), 2, context_dim=6)
    clean = torch.randn(2, 2, 4, 4, 4) * SIGMA_DATA
    low = torch.full((2,), 1e-4)
    torch.testing.assert_close(unet(clean, low), clean, atol=1e-3, rtol=0)  # nothing to take away
    optimizer = torch.optim.Adam(unet.parameters(), 1e-2)
    words = torch.eye(6)[:2, None]  # each condition is one clean volume
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        sigma = 20 * training_sigmas(2, generator)  # so noisy that only the condition tells
        noisy = clean + sigma.view(-1, 1, 1, 1, 1) * torch.randn(clean.shape, generator=generator)
        error = (unet(noisy, sigma, words) - clean).square().mean((1, 2, 3, 4))
        loss = (loss_weight(sigma) * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = 20 * torch.randn(clean.shape, generator=generator)
    with torch.no_grad():
        right, wrong = (unet(noise, torch.full((2,), 20.0), each) for each in (words, words.flip(0)))
    assert (right - clean).square().mean() < 0.7 * (wrong - clean).square().mean()
    padded = torch.cat([words, torch.randn(2, 3, 6)], 1)
    hidden = torch.tensor([[True, False, False, False]]).expand(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(unet(noise, torch.full((2,), 20.0), padded, hidden), right, atol=1e-4, rtol=1e-4)


def test_the_perceptual_loss_asks_for_edges_in_their_places(tmp_path):
    truth = torch.zeros(1, 3, 32, 32)
    truth[..., 16:] = 1
    loss = EdgePyramid()
    moved, grey = truth.roll(2, -1), torch.full_like(truth, 0.5)
    assert loss(truth, truth) == 0 < loss(moved, truth) < loss(grey, truth)
    with pytest.raises(ValueError, match="features.0.weight is missing"):
        VggPyramid(tmp_path)


def views_of_a_box(count=10, size=16):
    """What cameras around a box of three colours see, by ray casting."""
    from pxr import Gf, Usd, UsdGeom, Vt

    from neuralusd.datasets.furniture_layout import camera_matrix
    from neuralusd.schema import NeuralAssetAPI

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    box = UsdGeom.Cube.Define(stage, "/Box")
    box.CreateSizeAttr(1.0)
    box.AddTranslateOp().Set((3, 2, 1))
    box.AddScaleOp().Set((2.0, 1.0, 0.6))
    box.CreateDisplayColorAttr(Vt.Vec3fArray([Gf.Vec3f(0.8, 0.2, 0.1)]))
    NeuralAssetAPI.Apply(box.GetPrim()).CreateTextAttr("a box")
    camera = UsdGeom.Camera.Define(stage, "/Camera")
    camera.CreateHorizontalApertureAttr(20.0)
    camera.CreateVerticalApertureAttr(20.0)
    camera.CreateFocalLengthAttr(28.0)
    transform = camera.AddTransformOp()
    metres = UsdGeom.GetStageMetersPerUnit(stage)
    middle = np.array([3.0, 2.0, 1.0])
    rows: dict[str, list] = {"color": [], "mask": [], "camera_to_canonical": [], "intrinsics": []}
    for direction in orbit_directions(count, 0):
        transform.Set(Gf.Matrix4d(*camera_matrix(middle + 4 * direction, middle).ravel().tolist()))
        scene = stages.read(stage, "/Camera")
        passes = stages.render_passes(stage, scene, size, size)
        matrix, half = canonical_to_world(scene)
        mask = passes.ids == scene.assets.index(scene.foreground[0])
        rows["color"].append((np.where(mask[..., None], passes.color, 0) * 255).astype(np.uint8))
        rows["mask"].append(mask)
        rows["camera_to_canonical"].append(np.linalg.inv(matrix @ scene.camera.world_to_camera).astype(np.float32))
        rows["intrinsics"].append(np.array(scene.camera.lens, np.float32))
    assert half == pytest.approx(1.1 * metres, rel=1e-4)
    arrays = {name: np.stack(values)[None] for name, values in rows.items()}
    return ObjectViews(**arrays, scale=np.array([half], np.float32), names=["box"], texts=["a box"])


@pytest.fixture(scope="module")
def box_views():
    return views_of_a_box()


def test_the_rays_of_what_shows_an_object_go_through_its_box(box_views, tmp_path):
    origins, directions = (torch.from_numpy(part) for part in box_views.rays(np.zeros(10, int), np.arange(10)))
    # In the canonical cube the box is from -0.909 to 0.909 along x, half of that along y.
    scale = torch.tensor([1.1, 2.2, 1.1 / 0.3])
    near, far = box_span(origins * scale, directions * scale)
    mask = torch.from_numpy(box_views.mask[0])
    assert mask.float().mean() > 0.05
    assert ((far > near) == mask).float().mean() > 0.99
    save_objects(box_views, tmp_path / "box.npz")
    again = load_objects(tmp_path / "box.npz")
    assert again.texts == ["a box"] and np.array_equal(again.camera_to_canonical, box_views.camera_to_canonical)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="holds no views of objects"):
        load_objects(tmp_path / "other.npz")
