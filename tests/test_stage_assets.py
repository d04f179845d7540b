"""Real assets, of the USD Working Group, where they are at hand."""

from __future__ import annotations

import numpy as np
import pytest
from stages import add_camera, box_of

from neuralusd.scene import pose_2d
from neuralusd.stage import gather_meshes, open_stage, read, render_passes


@pytest.fixture(scope="module")
def full_assets(usd_wg):
    return usd_wg / "full_assets"


def test_the_open_chess_set(full_assets):
    stage = open_stage(full_assets / "OpenChessSet" / "chess_set.usda")
    assets = [a.path for a in read(stage).assets]
    assert len(assets) == 19 and assets[0] == "/ChessSet/Chessboard"
    assert {"/ChessSet/Black/King", "/ChessSet/White/KnightL", "/ChessSet/White/Pawns"} <= set(assets)
    stage.SetEditTarget(stage.GetSessionLayer())
    add_camera(stage, (0.6, 0.8, 1.0), (0, 0.03, 0), focalLength=25.0)
    scene = read(stage)
    passes = render_passes(stage, scene, 64, 64, supersample=1)
    seen = [i for i in range(19) if passes.mask(i).any()]
    assert len(seen) >= 18  # a piece may hide behind another at this size
    for index in seen:
        x, y, h, w = pose_2d(scene.assets[index], scene.camera) * 64
        top, left, bottom, right = box_of(passes.mask(index))
        assert top >= y - 1 and left >= x - 1 and bottom <= y + h + 1 and right <= x + w + 1
    # MaterialX, which usd-core cannot compose: the white pieces are lighter than the black ones, and nothing is plain
    # grey.
    white = passes.color[np.isin(passes.ids, [i for i, a in enumerate(assets) if "/White/" in a])]
    black = passes.color[np.isin(passes.ids, [i for i, a in enumerate(assets) if "/Black/" in a])]
    assert white.mean() > black.mean() + 0.1
    assert passes.color[passes.mask(0)].std() > 0.05


@pytest.mark.parametrize("variant", ["Utah", "Fancy"])
def test_the_teapots_variants(full_assets, variant):
    stage = open_stage(full_assets / "Teapot" / "Teapot.usd")
    stage.SetEditTarget(stage.GetSessionLayer())
    stage.GetPrimAtPath("/Teapot").GetVariantSet("modelVariant").SetVariantSelection(variant)
    scene = read(stage)
    (teapot,) = scene.assets
    assert teapot.path == "/Teapot" and 0.2 < np.ptp(teapot.extent[:, 1]) < 0.32
    passes = render_passes(stage, scene, 64, 64, supersample=1)
    pot = passes.color[passes.mask(0)]
    assert passes.mask(0).mean() > 0.2
    assert (pot[:, 1] > pot[:, 2] + 0.2).all() if variant == "Utah" else pot.std() > 0.05  # green; a printed pattern


def test_the_teapots_in_all_draw_modes_are_their_geometry(full_assets):
    stage = open_stage(full_assets / "Teapot" / "DrawModes.usd")
    scene = read(stage)
    assert len(scene.assets) == 35 and scene.camera.path == "/World/Camera"
    assert len(gather_meshes(stage)) >= 35


def test_subdivision_surfaces_in_motion(full_assets):
    stage = open_stage(full_assets / "SubdivisionSurfaces" / "Creases_SpinningPyramids.usda")
    smooth, edges, corners = read(stage, time=1).assets
    passes = render_passes(stage, read(stage, time=1), 96, 96, color=False)
    sizes = [passes.mask(i).sum() for i in range(3)]
    assert sizes[1] > sizes[2] > sizes[0]  # creases keep more of the cage
    later = render_passes(stage, read(stage, time=12), 96, 96, color=False)
    assert (later.ids != passes.ids).any()


@pytest.mark.parametrize(
    ("puzzle", "radius"),
    # A local opinion beats a variant, in the same layer and from a sublayer; a variant beats a reference.
    [("VariantSetAndLocal1/puzzle_1.usda", 1), ("VariantSetAndLocal2/puzzle_2.usda", 1),
     ("VariantSetAndLocal3/puzzle_3.usda", 2)],
)  # fmt: skip
def test_composition_puzzles(usd_wg, puzzle, radius):
    scene = read(open_stage(usd_wg / "docs" / "CompositionPuzzles" / puzzle))
    low, high = scene.assets[0].corners()[[0, 7]]
    np.testing.assert_allclose(high - low, 2 * radius * 0.01)


@pytest.mark.parametrize(("kind", "radius"), [("problem", 11), ("solution", 14)])
def test_the_payload_puzzle(usd_wg, kind, radius):
    stage = open_stage(usd_wg / "docs" / "CompositionPuzzles" / "PayloadAndReference" / kind / "shot.usda")
    low, high = read(stage).assets[0].corners()[[0, 7]]
    np.testing.assert_allclose(high - low, 2 * radius * 0.01)
