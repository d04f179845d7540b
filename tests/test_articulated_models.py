"""Articulated objects: poses from points, skinning, keypoints, where the right answer is known."""

from __future__ import annotations

import pytest
import torch

from neuralusd.models.volumes.decoder import VolumeDecoder, activate
from neuralusd.models.volumes.keypoints import CanonicalKeypoints, KeypointUNet, in_picture, on_image_plane
from neuralusd.models.volumes.pnp import project, solve_pnp
from neuralusd.models.volumes.rendering import render_rays
from neuralusd.models.volumes.skinning import InverseSkinning, blend, skinning_weights


def poses(count, generator):
    """Any rotations, and points of size 1 in front of the camera."""
    left, _, right = torch.linalg.svd(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    rotation = left @ right
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    aside = torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5
    return rotation, aside + torch.tensor([0.0, 0.0, -4.0])


def degrees(one, other):
    cosine = ((one.mT @ other).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


@pytest.mark.parametrize("count", [5, 8, 27, 125])
@pytest.mark.parametrize("thickness", [1.0, 0.02, 0.0])
def test_a_pose_is_found_again_from_where_points_are_seen(count, thickness):
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(40, count, 3, generator=generator, dtype=torch.float64) * 1.4 - 0.7
    points[..., 1] *= thickness  # in a plane, at last
    points = points + torch.tensor([0.3, -0.2, 0.1])
    rotation, translation = poses(40, generator)
    seen = project(points @ rotation.mT + translation.unsqueeze(1))
    found = solve_pnp(points, seen)
    assert found.found.all() and found.error.max() < 1e-12
    assert degrees(found.rotation, rotation).max() < 1e-3
    torch.testing.assert_close(found.translation, translation, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.linalg.det(found.rotation), torch.ones(40, dtype=torch.float64))


def test_a_pose_bears_noise_and_minds_weights():
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(60, 27, 3, generator=generator, dtype=torch.float64) * 2 - 1
    rotation, translation = poses(60, generator)
    seen = project(points @ rotation.mT + translation.unsqueeze(1))
    noisy = seen + 0.005 * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
    assert degrees(solve_pnp(points, noisy).rotation, rotation).median() < 1
    wrong = noisy.clone()
    wrong[:, :7] = 0
    weights = torch.ones(60, 27, dtype=torch.float64)
    weights[:, :7] = 0
    assert degrees(solve_pnp(points, wrong).rotation, rotation).median() > 3
    assert degrees(solve_pnp(points, wrong, weights).rotation, rotation).median() < 1.2
    half = solve_pnp(points.float(), noisy.float())
    assert half.rotation.dtype == torch.float32 and degrees(half.rotation.double(), rotation).median() < 1


def test_a_pose_has_the_derivatives_of_finite_differences():
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(3, 8, 3, generator=generator, dtype=torch.float64) * 2 - 1
    rotation, translation = poses(3, generator)
    seen = project(points @ rotation.mT + translation.unsqueeze(1))
    seen = seen + 0.03 * torch.randn(seen.shape, generator=generator, dtype=torch.float64)  # an optimum with an error
    weights = torch.rand(3, 8, generator=generator, dtype=torch.float64) + 0.2

    def pose(*given):
        found = solve_pnp(*given)
        return found.rotation, found.translation

    given = tuple(each.requires_grad_() for each in (points, seen, weights))
    assert torch.autograd.gradcheck(pose, given, eps=1e-5, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_what_tells_no_pose_is_told_and_hurts_no_gradient():
    generator = torch.Generator().manual_seed(3)
    points, seen = (torch.randn(6, 8, size, generator=generator) for size in (3, 2))
    rotation, translation = poses(6, generator)
    seen[5] = project(points[5] * 0.5 @ rotation[5].mT.float() + translation[5].float())
    points[5] *= 0.5
    points[0] = 0.4  # all at one place
    points[1] = torch.linspace(-1, 1, 8)[:, None] * torch.tensor([1.0, 2.0, 3.0])  # on a line
    points[2, 0, 1] = torch.nan
    seen[3] = 0.1  # all seen at one place
    weights = torch.ones(6, 8)
    weights[4, 2:] = 0  # two of them count
    for each in (points, seen, weights):
        each.requires_grad_()
    found = solve_pnp(points, seen, weights)
    assert found.found.tolist() == [False] * 5 + [True]
    assert torch.equal(found.rotation[:5], torch.eye(3).expand(5, 3, 3)) and (found.translation[:5] == 0).all()
    (found.rotation.sum() + found.translation.sum()).backward()
    for each in (points, seen, weights):
        assert each.grad.isfinite().all() and (each.grad[:5] == 0).all()
    assert points.grad[5].abs().max() > 0
    with pytest.raises(ValueError, match="takes four points or more; there are 3"):
        solve_pnp(points[:, :3], seen[:, :3])


def two_boxes(side=32):
    """A volume of a red box left of the middle, which is part 0, and a green one to its right, part 1."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    z, y, x = torch.meshgrid(place, place, place, indexing="ij")
    low = (y.abs() < 0.3) & (z.abs() < 0.3)
    left, right = low & (x > -0.7) & (x < -0.1), low & (x > 0.1) & (x < 0.7)
    logits = torch.stack([torch.where(x < 0, 20.0, -20.0), torch.where(x < 0, -20.0, 20.0)])
    density = 200.0 * (left | right)[None]
    color = torch.stack([(x < 0).float(), (x > 0).float(), torch.zeros_like(x)])  # in what is empty, too
    return density[None], color[None], logits[None].softmax(1)


def rays(size=40):
    """Orthographic ones, from above the cube downwards."""
    place = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-place, place, indexing="ij")
    origins = torch.stack([x, y, torch.full_like(x, 2.0)], -1).view(1, -1, 3)
    return origins, torch.tensor([0.0, 0.0, -1.0]).expand_as(origins)


def test_parts_that_stay_are_rendered_as_a_rigid_object():
    torch.manual_seed(0)
    for parts in (0, 1, 3):
        decoder = VolumeDecoder(embedding_dim=8, channels=(8, 8, 4), depth=1, attention_heads=2, parts=parts).eval()
        volume = decoder(torch.randn(2, 8)).detach() * 5
        density, color = activate(volume)
        weights = skinning_weights(volume)
        assert weights.shape == (2, max(1, parts), 16, 16, 16)
        torch.testing.assert_close(weights.sum(1), torch.ones(2, 16, 16, 16))
        count = weights.shape[1]
        still = torch.eye(3).expand(2, count, 3, 3), torch.zeros(2, count, 3)
        origins = torch.randn(2, 50, 3) * 2
        plain = render_rays(density, color, origins, -origins, normals=True)
        skinned = render_rays(density, color, origins, -origins, normals=True, deform=InverseSkinning(weights, *still))
        for name, value in vars(plain).items():
            torch.testing.assert_close(getattr(skinned, name), value, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(skinned.color, plain.color, atol=1e-5, rtol=1e-5)


def test_two_parts_move_apart_and_are_seen_where_they_went():
    density, color, weights = two_boxes()
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rotation = torch.stack([torch.eye(3), turn])[None]
    translation = torch.tensor([[[-0.2, 0.0, 0.0], [0.5, -0.2, 0.0]]])
    seen = render_rays(density, color, *rays(), deform=InverseSkinning(weights, rotation, translation, density))
    picture = seen.color.view(40, 40, 3).movedim(-1, 0)
    # The red box went to the left by 0.2; the green one is turned by 90 degrees and stands at 0.5, 0.2.
    expected = torch.zeros(2, 40, 40)
    place = (torch.arange(40) + 0.5) / 40 * 2 - 1
    y, x = torch.meshgrid(-place, place, indexing="ij")
    expected[0] = ((x > -0.9) & (x < -0.3) & (y.abs() < 0.3)).float()
    expected[1] = ((x > 0.2) & (x < 0.8) & (y > -0.1) & (y < 0.5)).float()
    sharp = (torch.nn.functional.avg_pool2d(expected[None], 3, 1, 1)[0] - expected).abs() < 1e-6
    assert (picture[:2] - expected)[sharp].abs().max() < 0.02 and sharp.float().mean() > 0.8
    assert picture[2].abs().max() == 0
    # Where the green box was, there is nothing of it any more.
    assert picture[1, (y > -0.25) & (y < -0.15) & (x > 0.1) & (x < 0.7)].max() < 0.02


def test_equation_8_is_undone_by_its_approximate_inverse():
    generator = torch.Generator().manual_seed(0)
    density, _, weights = two_boxes()
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.5, 0.2], [0.5, 0.0, 0.1], [-0.2, -0.1, 0.0]]))
    rotation = torch.stack([torch.eye(3), turn])[None]
    translation = torch.tensor([[[-0.1, 0.0, 0.0], [0.15, 0.1, 0.0]]])
    points = torch.rand(1, 400, 3, generator=generator) * torch.tensor([1.2, 0.5, 0.5]) - torch.tensor(
        [0.6, 0.25, 0.25]
    )
    points = points[:, points[0, :, 0].abs() > 0.2]  # inside of the boxes
    there = blend(points, weights, rotation, translation)
    part = (points[0, :, 0] > 0).long()
    by_hand = (rotation[0, part] @ points[0].unsqueeze(-1)).squeeze(-1) + translation[0, part]
    torch.testing.assert_close(there[0], by_hand, atol=1e-4, rtol=1e-4)
    back, present = InverseSkinning(weights, rotation, translation, density)(there)
    torch.testing.assert_close(back, points, atol=2e-3, rtol=1e-3)
    assert (present > 0.99).all()
    # By weights alone it is undone where only one part claims a point.
    skinning = InverseSkinning(weights, rotation, translation)
    back, _ = skinning(there)
    alone = (skinning.claims(there)[1] > 1e-6).sum(1) == 1
    assert alone.any()
    torch.testing.assert_close(back[alone], points[alone], atol=1e-4, rtol=1e-4)


def test_places_stay_exact_under_mixed_precision():
    density, _, weights = two_boxes()
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.5, 0.2], [0.5, 0.0, 0.1], [-0.2, -0.1, 0.0]]))
    poses = torch.stack([torch.eye(3), turn])[None], torch.tensor([[[-0.1, 0.0, 0.0], [0.15, 0.1, 0.0]]])
    points = torch.rand(1, 100, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = InverseSkinning(weights, *poses, density).claims(points)[0]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(InverseSkinning(weights, *poses, density).claims(points)[0], exact)


def test_a_pose_is_learned_through_skinning_and_rendering():
    density, color, weights = two_boxes()
    density = torch.nn.functional.avg_pool3d(density / 20, 7, 1, 3)  # a soft edge tells further

    def skinned(translation):
        return InverseSkinning(weights, torch.eye(3).expand(1, 2, 3, 3), translation, density)

    truth = torch.tensor([[[0.0, 0.0, 0.0], [0.15, 0.1, 0.0]]])
    wanted = render_rays(density, color, *rays(24), samples=32, deform=skinned(truth)).color
    guess = torch.zeros(1, 2, 3, requires_grad=True)
    optimizer = torch.optim.Adam([guess], 0.02)
    for _ in range(40):
        seen = render_rays(density, color, *rays(24), samples=32, deform=skinned(guess))
        loss = (seen.color - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(guess.detach()[..., :2], truth[..., :2], atol=0.03, rtol=0)


def test_the_papers_keypoints_have_the_papers_shapes():
    with torch.device("meta"):
        assert KeypointUNet()(torch.zeros(2, 3, 64, 64)).shape == (2, 10, 125, 2)
    points = CanonicalKeypoints()()
    assert points.shape == (10, 125, 3) and points.abs().max() < 0.7
    assert CanonicalKeypoints(3, 10)().std() > 0.2
    with pytest.raises(ValueError, match="cannot be halved 5 times; take a multiple of 32"):
        KeypointUNet(size=48)


def test_keypoints_with_a_reach_begin_where_they_are_expected():
    unet = KeypointUNet(parts=2, points=4, size=16, channels=4, depth=2, reach=0.3)
    expected = torch.rand(3, 2, 4, 2, generator=torch.Generator().manual_seed(0)) * 3 - 1.5  # partly out of the picture
    picture = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(unet(picture, expected), expected)
    # They follow what the network has learned, and not far.
    torch.nn.init.normal_(unet.heat.weight, std=10.0)
    away = (unet(picture, expected) - expected).norm(dim=-1)
    assert 0.05 < away.mean() < 1.5
    assert unet(picture).abs().max() <= 1  # nothing expected: anywhere in the picture


def test_keypoints_learn_to_follow_what_moves():
    torch.manual_seed(0)
    unet = KeypointUNet(parts=1, points=2, size=32, channels=8, depth=2)
    optimizer = torch.optim.Adam(unet.parameters(), 3e-3)

    def pictures(count):
        """Two dots, red and green, and where they are."""
        where = torch.rand(count, 2, 2) * 1.4 - 0.7
        place = (torch.arange(40) + 0.5) / 40 * 2 - 1
        y, x = torch.meshgrid(-place, place, indexing="ij")
        far = (x - where[..., :1, None]) ** 2 + (y - where[..., 1:, None]) ** 2
        image = torch.zeros(count, 3, 40, 40)
        image[:, :2] = (-far / 0.02).exp()
        return image, where

    for _ in range(60):
        image, where = pictures(16)
        loss = (unet(image)[:, 0] - where).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, where = pictures(64)
    with torch.no_grad():
        assert (unet.eval()(image)[:, 0] - where).abs().median() < 0.08


def test_picture_and_image_plane_are_each_others_inverse():
    intrinsics = torch.tensor([[1.2, 0.9, 0.05, -0.1]])
    corners = torch.tensor([[[-1.0, -1.0], [0.3, 0.8]]])
    seen = on_image_plane(corners, intrinsics)
    torch.testing.assert_close(in_picture(seen, intrinsics), corners)
    # w = 0.5 + fx * x / depth - ox, h = 0.5 - fy * y / depth + oy
    assert (0.5 + 1.2 * seen[0, 0, 0] - 0.05).item() == pytest.approx(0, abs=1e-6)
    assert (0.5 - 0.9 * seen[0, 0, 1] - 0.1).item() == pytest.approx(1)
