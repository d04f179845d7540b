"""Crops, tokens and landing: what the paper's sections 3.3 and 3.4 promise, on scenes where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralusd.models.asset_tokenizer import AssetTokenizer, Keep
from neuralusd.models.box_landing import BOX_FACTS, land_boxes
from neuralusd.models.crops import crop_assets, encode_crops, mask_boxes, token_points, whole_images
from neuralusd.models.encoders import DinoCropEncoder, PatchCropEncoder
from neuralusd.models.landing import (
    TokenLanding,
    in_gaps,
    nearest_in_front,
    shared_among_cells,
    surface_points,
    within_outline,
)
from neuralusd.models.tensors import TokenTensors, scene_tensors, slots, token_tensors
from tests.tiny_world import boxes_stage, frame

SIZE = 64


@pytest.fixture(scope="module")
def seen():
    return look()


def look(seed=0):
    """A scene of two boxes as tensors: (scene, target tensors, color, depth, masks)."""
    scene, passes = frame(boxes_stage(seed), 1, SIZE)
    order = slots(scene)
    masks = np.stack([passes.ids == scene.assets.index(asset) for asset in order]).astype(np.float32)
    color = torch.from_numpy(passes.color).permute(2, 0, 1)[None]
    depth = torch.from_numpy(passes.depth)[None]
    return scene, scene_tensors([scene]), color, depth, torch.from_numpy(masks)[None]


def landed_tokens(seen, grid=(8, 8), factor=2):
    """Tokens that are the crops' own pixels, so that what lands can be compared with the picture."""
    _, target, color, depth, masks = seen
    crops = crop_assets(color, depth, masks, grid[0] * factor)
    points = token_points(depth, masks, crops, grid, target.camera, target.local_to_world)
    pixels = torch.nn.functional.pixel_unshuffle(crops.appearance[:, :3], factor).flatten(2).transpose(1, 2)
    values = torch.zeros(*crops.present.shape, *pixels.shape[1:])
    values[crops.image, crops.slot] = pixels
    landing = TokenLanding(pixels.shape[-1], grid, factor, 3, SIZE // 2)
    with torch.no_grad():
        landing.unfold.weight.zero_()
        for channel in range(3):
            for cell in range(factor * factor):
                landing.unfold.weight[cell * 3 + channel, channel * factor * factor + cell] = 1
    return landing, TokenTensors(values, points, target.extent, crops.present)


def test_a_crop_shows_its_asset_and_nothing_else(seen):
    scene, _, color, depth, masks = seen
    before = crop_assets(color, depth, masks, 32)
    painted = torch.where(masks[:, 2:3] > 0, torch.ones_like(color), color)  # another object turns white
    after = crop_assets(painted, depth, masks, 32)
    row = before.row(0, 1)
    assert torch.equal(before.appearance[row], after.appearance[row])
    assert not torch.equal(before.appearance[before.row(0, 2)], after.appearance[after.row(0, 2)])


def test_sliced_features_know_what_is_around(seen):
    """As Neural Assets has them, which is why the paper encodes each crop by itself."""
    _, _, color, depth, masks = seen
    encoder = PatchCropEncoder(in_channels=4, crop_size=32, patch_size=4, token_dim=48).eval()
    for parameter in encoder.mix.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    painted = torch.where(masks[:, 2:3] > 0, torch.ones_like(color), color)  # another object turns white

    def tokens(picture, sliced):
        crops = crop_assets(picture, depth, masks, 32)
        whole = whole_images(picture, depth, 32) if sliced else None
        with torch.no_grad():
            return encode_crops(encoder, "appearance", crops, whole)[crops.row(0, 1)]

    assert torch.equal(tokens(color, False), tokens(painted, False))
    assert not torch.equal(tokens(color, True), tokens(painted, True))
    assert tokens(color, True).shape == tokens(color, False).shape


def test_an_encoder_of_colour_takes_depth_too(seen):
    _, _, color, depth, masks = seen
    crops = crop_assets(color, depth, masks, 32)
    shared = PatchCropEncoder(in_channels=4, crop_size=32, patch_size=4, token_dim=48)
    assert encode_crops(shared, "geometry", crops).shape == encode_crops(shared, "appearance", crops).shape


def test_the_background_has_its_foreground_masked(seen):
    _, _, color, depth, masks = seen
    crops = crop_assets(color, depth, masks, SIZE)
    mask = crops.appearance[crops.row(0, 0), 3]
    assert 0 < mask.mean() < 1
    assert (crops.appearance[crops.row(0, 0), :3][:, mask == 0] == 0).all()


def test_normalised_depth_does_not_say_where_the_object_is(seen):
    """Section 3.3.1: raw depth ties an object to its place; normalised depth is the same nearer and farther."""
    _, _, color, depth, masks = seen
    near, far = crop_assets(color, depth, masks, 32), crop_assets(color, depth + 5, masks, 32)
    torch.testing.assert_close(near.geometry, far.geometry, atol=1e-4, rtol=0)
    raw_near = crop_assets(color, depth, masks, 32, normalize_depth=False)
    raw_far = crop_assets(color, depth + 5, masks, 32, normalize_depth=False)
    assert (raw_near.geometry - raw_far.geometry).abs().max() > 0.3


def test_boxes_are_tight_around_masks():
    masks = torch.zeros(1, 2, 20, 10)
    masks[0, 0, 4:9, 2:7] = 1
    x, y, h, w = mask_boxes(masks, margin=0.0)[0, 0].tolist()
    assert (x * 10, y * 20, h * 20, w * 10) == pytest.approx((1.5, 3.5, 6, 6))  # half a pixel wider on each side
    assert mask_boxes(masks)[0, 1].tolist() == [0, 0, 0, 0]


def test_token_points_lie_on_the_objects(seen):
    scene, target, color, depth, masks = seen
    crops = crop_assets(color, depth, masks, 32)
    points = token_points(depth, masks, crops, (8, 8), target.camera, target.local_to_world)[0]
    for slot, asset in enumerate(slots(scene)):
        if asset.role == "foreground":
            seen_points = points[slot][torch.isfinite(points[slot]).all(-1)].numpy()
            low, high = asset.extent
            assert len(seen_points) > 10
            inside = ((seen_points > low - 0.15) & (seen_points < high + 0.15)).all(-1)
            assert inside.mean() > 0.9


def test_tokens_land_on_the_picture_they_came_from(seen):
    _, target, color, depth, _ = seen
    landing, tokens = landed_tokens(seen)
    picture = landing(target, tokens, target.presence)[0]
    there = picture[3] > 0
    truth = torch.nn.functional.avg_pool2d(color * 2 - 1, 2)[0]
    known = torch.nn.functional.avg_pool2d(torch.isfinite(depth).float()[None], 2)[0, 0] == 1
    assert there[known].float().mean() > 0.95 and there.float().mean() < 1  # the sky has no depth and lands nowhere
    assert (picture[:3] - truth).abs().mean(0)[there].median() < 0.05


def test_a_moved_object_takes_its_tokens_along(seen):
    scene, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    box = slots(scene)[1]
    only = torch.zeros_like(target.presence)
    only[0, 1] = 1

    def centre(moved):
        rows, columns = (landing(moved, tokens, only)[0, 3] > 0).nonzero(as_tuple=True)
        return np.array([rows.float().mean() + 0.5, columns.float().mean() + 0.5]) / landing.resolution

    still = centre(target)
    box.local_to_world[3, :3] += [0.0, 0.3, 0.1]
    try:
        expected = np.diff([scene.camera.project(box.corners() - [0, 0.3, 0.1]).mean(0)[:2],
                            scene.camera.project(box.corners()).mean(0)[:2]], axis=0)[0]  # fmt: skip
        assert centre(scene_tensors([scene])) - still == pytest.approx(expected, abs=0.03)
    finally:
        box.local_to_world[3, :3] -= [0.0, 0.3, 0.1]


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_the_nearest_point_is_seen(seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(200, 3, generator=generator) * 1.4 - 0.2
    image = torch.randint(0, 2, (200,), generator=generator)
    winner = nearest_in_front(places, image, 2, 4)
    for which in range(2):
        for cell in range(16):
            row, column = divmod(cell, 4)
            here = (image == which) & (places[:, 2] > 0)
            here &= (places[:, 0] >= row / 4) & (places[:, 0] < (row + 1) / 4)
            here &= (places[:, 1] >= column / 4) & (places[:, 1] < (column + 1) / 4)
            index = winner[which, cell].item()
            if not here.any():
                assert index == -1
            else:
                assert here[index] and places[index, 2] == places[here, 2].min()


def test_surface_points_continue_planes_and_stop_at_edges():
    row, column = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    plane = torch.stack([column, row, 2 * column + row], -1)
    plane[:, 2:] += torch.tensor([0.0, 0.0, 100.0])  # a depth edge between the second and the third column
    plane[3, 3] = torch.nan
    fine = surface_points(plane.reshape(1, 16, 3), (4, 4), 2).view(8, 8, 3)
    on_first = fine[:, :4]
    torch.testing.assert_close(on_first[..., 2], 2 * on_first[..., 0] + on_first[..., 1])
    assert fine[6:, 6:].isnan().all() and fine[:6].isfinite().all()


def test_tokens_of_another_asset_fill_the_box(seen):
    """Appearance swaps land inside of the target's box, whatever the donor's size."""
    scene, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    donor = TokenTensors(tokens.values, tokens.points * 10, tokens.extent * 10, tokens.present)
    only = torch.zeros_like(target.presence)
    only[0, 1] = 1
    own, other = landing(target, tokens, only), landing(target, donor, only)
    # Rounding lets a point on a cell's edge land beside it.
    assert ((own - other).abs().amax(1) < 1e-3).float().mean() > 0.98


def test_the_half_that_was_never_seen_lands_mirrored():
    seen = look(seed=5)  # a box that shows the camera its left and its right
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen, (16, 16))
    right = torch.where(tokens.points[..., :1] > 0, tokens.points, torch.nan)
    half = TokenTensors(tokens.values, right, tokens.extent, tokens.present)
    plain = landing(target, half, only(target, 1))[0]
    landing.mirror = True
    mirrored = landing(target, half, only(target, 1))[0]
    box = land_boxes(target, torch.zeros(1, 3, 1), only(target, 1), landing.resolution)[0, 0] > 0
    seen_before, seen_after = plain[3] > 0, mirrored[3] > 0
    assert (box & ~seen_before).sum() > 0.4 * box.sum()
    assert (box & ~seen_after).sum() < 0.05 * box.sum()
    # What was seen stays as it was, and what was not is marked as guessed.
    assert torch.equal(mirrored[:3, seen_before], plain[:3, seen_before])
    assert torch.equal(mirrored[5] < 0, seen_after & ~seen_before)


def test_backgrounds_and_cards_are_not_mirrored(seen):
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    flat = torch.zeros_like(target.presence)
    plain = landing(target, tokens, only(target, 0)), landing(target, tokens, only(target, 1), flat)
    landing.mirror = True
    again = landing(target, tokens, only(target, 0)), landing(target, tokens, only(target, 1), flat)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_an_outline_passes_within_the_outermost_cells():
    grid, factor = (6, 8), 4
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")
    seen = (rows >= 2) & (rows < 5) & (columns >= 1)
    points = torch.where(seen.flatten()[:, None], torch.zeros(48, 3), torch.nan)[None]
    inside = within_outline(points, grid, factor).view(24, 32)
    # Cells of rows 2 to 4 are seen, and of columns 1 to 7, where the crop ends: a quarter of a cell is a finer one.
    assert (inside[:, 16] > 0.5).nonzero()[:, 0].tolist() == list(range(9, 19))
    assert (inside[14] > 0.5).nonzero()[:, 0].tolist() == list(range(5, 31))
    # A line of single cells stays.
    line = torch.where((rows == 3).flatten()[:, None], torch.zeros(48, 3), torch.nan)[None]
    assert (within_outline(line, grid, factor).view(24, 32)[:, 16] > 0.5).sum() == factor // 2


def test_a_borrowed_look_keeps_to_the_outline_of_its_geometry(seen):
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen, (16, 16))
    landing.coverage = True
    values = torch.ones_like(tokens.values)  # the donor covered all of every cell
    own = TokenTensors(values, tokens.points, tokens.extent, tokens.present)
    borrowed = replace(own, borrowed=only(target, 1))
    nobody = replace(own, borrowed=torch.zeros_like(target.presence))
    full, kept = (landing(target, each, only(target, 1))[0, 3] > 0 for each in (own, borrowed))
    assert torch.equal(landing(target, nobody, only(target, 1))[0, 3] > 0, full)
    assert 0.5 < kept.sum() / full.sum() <= 1 and not (kept & ~full).any()
    soft, hard = (landing(target, each, only(target, 1))[0, :3] for each in (borrowed, own))
    assert not torch.equal(soft, hard)


@given(st.floats(0.3, 0.7), st.floats(0.3, 0.7))
@settings(max_examples=25, deadline=None)
def test_a_point_is_shared_by_the_cells_around_it(h, w):
    """Of a constant the cells show the constant; of a point their shares' centre is its place."""
    places = torch.tensor([[h, w, 1.0]])
    zero = torch.zeros(1, dtype=torch.int64)
    everywhere = torch.zeros(1, 64, dtype=torch.int64)  # all cells see this asset
    cells, points, shares = shared_among_cells(places, zero, zero, everywhere, 8)
    assert (points == 0).all() and 1 <= len(cells) <= 4
    # Each cell shows nothing but this point; how much of the cell it is does not matter then.
    assert shares.tolist() == pytest.approx([1.0] * len(cells))
    centre = torch.stack([cells // 8, cells % 8], -1).float() + 0.5
    assert (centre - torch.tensor([h, w]) * 8).abs().amax() <= 1


def test_what_is_behind_does_not_show_through_a_surface_that_came_near():
    """Points of a near surface two cells apart: the surface behind is seen beside it, not between its points."""
    side, near, far = 16, 1.0, 2.0
    middle = (torch.arange(side) + 0.5) / side
    every = torch.stack(torch.meshgrid(middle, middle, indexing="ij"), -1).view(-1, 2)
    sparse = every.view(side, side, 2)[4:12:2, 4:12:2].reshape(-1, 2)
    hw = torch.cat([every, sparse])
    depth = torch.cat([torch.full((len(every),), far), torch.full((len(sparse),), near)])
    places, image = torch.cat([hw, depth[:, None]], -1), torch.zeros(len(hw), dtype=torch.int64)
    fine = nearest_in_front(places, image, 1, side)
    coarse = nearest_in_front(places, image, 1, side // 2).view(1, side // 2, 1, side // 2, 1)
    coarse = coarse.expand(-1, -1, 2, -1, 2).reshape(1, -1)
    gaps = in_gaps(fine, coarse, depth).view(side, side)
    assert gaps[4:11, 4:11].sum() == 7 * 7 - 16  # all between the points, which stay
    assert not gaps[:4].any() and not gaps[:, :4].any() and not gaps[12:].any() and not gaps[:, 12:].any()
    # A lattice with gaps of three cells is one that can be looked through.
    wide = torch.full((1, side * side), len(every))
    wide = torch.where(torch.arange(side * side) % side % 4 == 0, wide, torch.arange(side * side))
    assert not in_gaps(wide, wide, depth).any()


def test_surfaces_behind_take_no_share():
    places = torch.tensor([[0.5, 0.5, 1.0], [0.5, 0.5, 1.01], [0.5, 0.5, 2.0]])
    image, asset = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    winner = nearest_in_front(places, image, 1, 4)
    cells, points, shares = shared_among_cells(places, image, asset, winner, 4)
    assert sorted(points.tolist()) == [0, 1] and shares.tolist() == pytest.approx([0.5, 0.5])
    other = torch.tensor([0, 1, 1])  # of another asset, however near, neither
    assert shared_among_cells(places, image, other, winner, 4)[1].tolist() == [0]


def only(target, *kept):
    keep = torch.zeros_like(target.presence)
    keep[0, list(kept)] = 1
    return keep


def span(mask):
    """(x, y, h, w) of where a mask is set, normalised."""
    rows, columns = (np.flatnonzero(mask.any(axis).numpy()) for axis in (1, 0))
    side = len(mask)
    return np.array([columns[0], rows[0], np.ptp(rows) + 1, np.ptp(columns) + 1]) / side


@pytest.mark.parametrize("why", ["left out", "never known"])
def test_without_geometry_an_asset_lands_as_a_card_in_its_box(seen, why):
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    pointwise = None
    if why == "left out":
        pointwise = torch.zeros_like(target.presence)
    else:
        tokens = TokenTensors(tokens.values, tokens.points * torch.nan, tokens.extent, tokens.present)
    for slot in (1, 2):
        there = landing(target, tokens, only(target, slot), pointwise)[0, 3] > 0
        # The crop's margin makes the card a little larger than the box.
        assert span(there) == pytest.approx(target.pose_2d[0, slot].numpy(), abs=0.1)
        x, y, h, w = (target.pose_2d[0, slot] * landing.resolution).round().int().tolist()
        assert there[y + 1 : y + h - 1, x + 1 : x + w - 1].all()


def test_a_background_without_geometry_fills_the_image(seen):
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    assert (landing(target, tokens, only(target, 0), torch.zeros_like(target.presence))[0, 3] > 0).all()


def test_cards_stand_before_each_other_as_their_boxes_say(seen):
    _, target, *_ = seen
    landing, tokens = landed_tokens(seen)
    flat = torch.zeros_like(target.presence)
    # Without the cells that the coarser grid fills: another card's own cells go before those.
    apart = [landing(target, tokens, only(target, slot), flat)[0] for slot in (1, 2)]
    overlap = torch.stack([(landed[3] > 0) & (landed[5] == 0) for landed in apart]).all(0)
    nearer = 1 + int(target.pose_3d[0, 1:3].unflatten(-1, (4, 3))[..., 2].mean(-1).argmin())
    both = landing(target, tokens, only(target, 1, 2), flat)[0]
    front = landing(target, tokens, only(target, nearer), flat)[0]
    assert overlap.any()
    assert torch.equal(both[:3, overlap], front[:3, overlap])


@pytest.mark.parametrize("resolution", [16, 64])
def test_boxes_land_where_boxes_are_seen(seen, resolution):
    scene, target, *_ = seen
    _, passes = frame(boxes_stage(), 1, resolution)
    features = torch.tensor([[[9.0], [1.0], [2.0]]])
    landed = land_boxes(target, features, target.presence, resolution)[0]
    order = [scene.assets.index(asset) for asset in slots(scene)]
    ids = np.vectorize({index: slot for slot, index in enumerate(order)}.get)(
        np.where(passes.ids < 0, order[0], passes.ids)
    )
    assert landed.shape == (BOX_FACTS + 1, resolution, resolution)
    assert torch.equal(landed[0] > 0, torch.from_numpy(ids > 0))  # these assets are boxes, so the rays see the same
    assert torch.equal(landed[-1], torch.from_numpy(ids).float())
    for slot in (1, 2):
        low, high = slots(scene)[slot].extent
        points = passes.points[ids == slot]
        entered = landed[1:4, ids == slot].T.numpy() * (high - low) + low
        assert entered == pytest.approx(points, abs=1e-3)


def test_a_box_that_is_left_out_hides_nothing(seen):
    _, target, *_ = seen
    features = torch.ones(1, 3, 1)
    both, one = (land_boxes(target, features, keep, 32)[0] for keep in (target.presence, only(target, 2)))
    assert (land_boxes(target, features, only(target), 32) == 0).all()
    assert (one[0] <= both[0]).all() and one[0].sum() > 0


def tokenizer(**changes):
    settings_ = {
        "appearance_dim": 12, "geometry_dim": 8, "grid": (4, 4), "pose_dim": 8, "hidden_dim": 16,
        "cross_attention_dim": 20,
        "appearance_landing": None, "geometry_landing": None, "latent_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    return AssetTokenizer(**{**settings_, **changes}).eval()


def random_tokens(target, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = target.presence.shape
    return TokenTensors(
        torch.randn(*shape, 16, width, generator=generator), torch.full((*shape, 16, 3), torch.nan), target.extent,
        torch.ones(shape),
    )  # fmt: skip


def test_every_asset_gives_as_many_tokens_as_cells(seen):
    _, target, *_ = seen
    conditions = tokenizer()(target, random_tokens(target, 12), random_tokens(target, 8, 1))
    assert conditions.tokens.shape == (1, 3 * 16 + 1, 20)  # equation 7, and one for nothing
    assert conditions.landing is None and conditions.base is None


def test_dropping_everything_forgets_everything(seen):
    _, target, *_ = seen
    model = tokenizer()
    nothing = [
        model(target, random_tokens(target, 12, s), random_tokens(target, 8, s), Keep.none(target)).tokens
        for s in (0, 1)
    ]
    assert torch.equal(*nothing)


@pytest.mark.parametrize("part", ["appearance", "geometry", "pose_2d", "pose_3d"])
def test_each_modality_matters_until_it_is_dropped(seen, part):
    scene, target, *_ = seen
    model, keep = tokenizer(), Keep.all(target)
    a, g = random_tokens(target, 12), random_tokens(target, 8, 1)
    full = model(target, a, g, keep).tokens
    setattr(keep, part, torch.zeros_like(target.presence))
    assert not torch.allclose(full, model(target, a, g, keep).tokens)


def landing_tokenizer():
    return tokenizer(
        appearance_landing=(3, 2, 16), geometry_landing=(2, 2, 16), box_landing=16, latent_size=8, latent_channels=12
    )


@pytest.mark.parametrize("parts", [("appearance",), ("geometry",), ("pose_3d",), ("pose_2d", "pose_3d"), ("landing",)])
def test_what_is_dropped_is_gone_from_the_landing_too(seen, parts):
    _, target, *_ = seen
    _, tokens = landed_tokens(seen, (4, 4))
    model, keep = landing_tokenizer(), Keep.all(target)
    geometry = TokenTensors(tokens.values[..., :8], tokens.points, tokens.extent, tokens.present)
    full = model(target, tokens, geometry, keep).landing
    for part in parts:
        setattr(keep, part, torch.zeros_like(target.presence))
    dropped = model(target, tokens, geometry, keep).landing
    assert dropped.shape == full.shape and not torch.allclose(full, dropped)


def test_an_asset_without_a_pose_has_no_place(seen):
    _, target, *_ = seen
    _, tokens = landed_tokens(seen, (4, 4))
    model, keep = landing_tokenizer(), Keep.all(target)
    geometry = TokenTensors(tokens.values[..., :8], tokens.points, tokens.extent, tokens.present)
    keep.pose_2d, keep.pose_3d = only(target, 0), only(target, 0)
    gone, alone = model(target, tokens, geometry, keep), Keep.all(target)
    alone.asset = only(target, 0)
    assert torch.equal(gone.landing, model(target, tokens, geometry, alone).landing)


def test_cross_attention_can_be_closed_alone(seen):
    _, target, *_ = seen
    _, tokens = landed_tokens(seen, (4, 4))
    geometry = TokenTensors(tokens.values[..., :8], tokens.points, tokens.extent, tokens.present)
    model, keep = landing_tokenizer(), Keep.all(target)
    keep.attention = torch.zeros_like(target.presence)
    full, closed = model(target, tokens, geometry), model(target, tokens, geometry, keep)
    assert torch.equal(full.landing, closed.landing) and not torch.equal(full.tokens, closed.tokens)


def test_an_absent_asset_is_masked(seen):
    scene, *_ = seen
    scene.assets[1].presence = 0.0
    try:
        target = scene_tensors([scene])
    finally:
        scene.assets[1].presence = 1.0
    conditions = tokenizer()(target, random_tokens(target, 12), random_tokens(target, 8))
    assert conditions.mask.view(-1)[:-1].view(3, 16).any(-1).tolist() == [True, False, True]


def test_dropout_has_the_papers_probabilities():
    scene, _ = frame(boxes_stage(), 1, 16)
    target = scene_tensors([scene] * 4000)
    torch.manual_seed(0)
    keep = Keep.sample(target, modality=0.25, pose=0.25, everything=0.1)
    assert keep.pose_3d.mean().item() == pytest.approx(0.9 * 0.75, abs=0.02)
    assert keep.appearance.mean().item() == pytest.approx(0.9 * 0.75, abs=0.02)
    everything = (keep.appearance + keep.geometry + keep.pose_2d + keep.pose_3d).sum(1) == 0
    assert everything.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_a_share_of_the_scenes_can_drop_nothing():
    scene, _ = frame(boxes_stage(), 1, 16)
    target = scene_tensors([scene] * 2000)
    torch.manual_seed(0)
    keep = Keep.sample(target, modality=0.5, pose=0.5, everything=0.1, landing=0.5, nothing=0.4)
    parts = torch.stack([keep.asset, keep.appearance, keep.geometry, keep.pose_2d, keep.pose_3d, keep.landing])
    assert (parts.amin((0, 2)) == 1).float().mean().item() == pytest.approx(0.4, abs=0.03)


def test_patch_tokens_start_as_pixels():
    encoder = PatchCropEncoder(in_channels=4, crop_size=32, patch_size=4, token_dim=48)
    for parameter in encoder.embed.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        encoder.embed.weight += torch.eye(64)[:48].view(48, 4, 4, 4)
    crops = torch.randn(2, 4, 32, 32)
    pixels = torch.nn.functional.unfold(crops[:, :3], 4, stride=4).transpose(1, 2)
    torch.testing.assert_close(encoder(crops), pixels)


@pytest.mark.parametrize(
    "dino",
    [
        {"model_type": "vit", "patch_size": 8, "image_size": 32},
        {"model_type": "dinov2", "patch_size": 8, "image_size": 32},
        {"model_type": "dinov3_vit", "patch_size": 8, "image_size": 32, "num_register_tokens": 2},
    ],
)
def test_dino_encoders_give_their_patches(dino, tmp_path):
    config = {**dino, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = DinoCropEncoder(config, in_channels=2, crop_size=48).eval()
    crops = torch.randn(3, 2, 48, 48)
    tokens = encoder(crops)
    assert encoder.grid == (6, 6) and tokens.shape == (3, 36, 32)
    encoder.save_pretrained(tmp_path / "encoder")
    again = DinoCropEncoder.from_pretrained(tmp_path / "encoder").eval()
    torch.testing.assert_close(again(crops), tokens)


def test_dino_sees_pictures_scaled_as_those_it_was_trained_on():
    config = {"model_type": "vit", "patch_size": 8, "image_size": 32, "hidden_size": 32, "num_hidden_layers": 1}
    encoder = DinoCropEncoder({**config, "num_attention_heads": 2, "intermediate_size": 64}, crop_size=32).eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda module, args, named: seen.append(named), with_kwargs=True)
    white = torch.ones(1, 4, 32, 32)
    white[..., 16:] = 0  # cut out
    encoder(white)
    pixels = seen[0]["pixel_values"][0]
    assert pixels[:, 0, 0].tolist() == pytest.approx([2.249, 2.429, 2.640], abs=1e-3)  # as ImageNet's white
    assert (pixels[..., 16:] == 0).all()


def test_scenes_of_different_sizes_batch_together():
    small, _ = frame(boxes_stage(boxes=1), 1, 16)
    large, _ = frame(boxes_stage(boxes=3), 1, 16)
    target = scene_tensors([small, large])
    assert target.presence.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert token_tensors([small, large], "appearance", (4, 2)).present.sum() == 0
