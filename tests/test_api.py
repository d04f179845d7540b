"""The verbs on stages, with a tiny untrained backend: what they author, keep, and refuse. Not how pictures look."""

import numpy as np
import PIL.Image
import pytest
import torch
from pxr import Sdf, Usd, UsdGeom, UsdRender
from shots import add_box, photograph, two_boxes
from stages import add_camera, new_stage
from tiny_backend import save_tiny_backend

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import Cancelled, PhotoWarning, base_stage, edit_over, encode_photo, has_tokens, open_shot
from neuralusd.errors import BackendError, EditError, EncoderMismatchError, SceneError, TokensError
from neuralusd.images import read_provenance, save_image
from neuralusd.scene import pose_2d
from neuralusd.schema import NeuralAssetAPI, NeuralRenderSettingsAPI, NeuralTokensAPI
from neuralusd.stage.errors import EmptyStageError

ALL = ["/World/Background", "/World/Bottle", "/World/Cup"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return save_tiny_backend(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, backend):
    """A folder with shot.usda and its tokens in shot.neural.usdc."""
    folder = tmp_path_factory.mktemp("encoded")
    stage = stages.sidecar(two_boxes(folder / "shot.usda"))
    neuralusd.encode(stage, backend=backend)
    stages.save(stage)
    return folder


@pytest.fixture
def shot(tmp_path, encoded):
    """A copy of that folder's stage, of one's own."""
    for file in encoded.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "shot.usda"


def array(image):
    return np.asarray(image).astype(int)


class TestEncode:
    def test_every_asset_and_the_background_get_tokens_and_the_shot_is_not_touched(self, tmp_path, backend):
        shot = two_boxes(tmp_path / "shot.usda")
        before = shot.read_bytes()
        stage = stages.sidecar(shot)
        done = neuralusd.encode(stage, "/World/Cam", backend=backend)
        assert (done.encoded, done.unchanged, done.unseen) == (ALL, [], [])
        assert done.camera == "/World/Cam" and not done.framed
        stages.save(stage)
        assert shot.read_bytes() == before
        scene = stages.read(Usd.Stage.Open(str(tmp_path / "shot.neural.usdc")))
        assert sorted(asset.path for asset in scene.assets) == ALL
        for asset in scene.assets:
            assert {name: t.values.shape for name, t in asset.tokens.items()} == {
                "appearance": (16, 24),
                "geometry": (16, 8),
            }

    def test_what_has_not_changed_is_not_encoded_again(self, shot, backend):
        stage = open_shot(shot)
        done = neuralusd.encode(stage, backend=backend)
        assert (done.encoded, done.unchanged) == ([], ALL)
        assert not stage.GetRootLayer().dirty
        assert neuralusd.encode(stage, backend=backend, force=True).encoded == ALL

    def test_only_what_changed_is_encoded_again(self, shot, backend):
        stage = stages.sidecar(shot)
        stage.GetPrimAtPath("/World/Cup").GetAttribute("primvars:displayColor").Set([(0, 1, 0)])
        done = neuralusd.encode(stage, backend=backend)
        # The background is not: the outline's pixels, which are partly the cup, belong to neither.
        assert done.encoded == ["/World/Cup"] and set(done.unchanged) == {"/World/Background", "/World/Bottle"}

    def test_tokens_taken_from_another_prim_do_not_make_it_encode_again(self, shot, backend):
        stage = stages.sidecar(shot)
        neuralusd.edit(stage, appearance={"/World/Cup": "/World/Bottle"})
        assert neuralusd.encode(stage, backend=backend).encoded == []

    def test_one_asset_alone_leaves_the_others_assets(self, tmp_path, backend):
        stage = stages.sidecar(two_boxes(tmp_path / "shot.usda"))
        assert neuralusd.encode(stage, backend=backend, assets=["/World/Cup"]).encoded == ["/World/Cup"]
        assert neuralusd.encode(stage, backend=backend).encoded == ["/World/Background", "/World/Bottle"]

    def test_a_prim_that_is_no_asset_becomes_one_when_it_is_named(self, shot, backend):
        stage = stages.sidecar(shot)
        add_box(stage, "/World/New", (0, 0, 0), size=0.5)
        assert "/World/New" not in neuralusd.encode(stage, backend=backend).encoded
        assert neuralusd.encode(stage, backend=backend, assets=["/World/New"]).encoded == ["/World/New"]

    @pytest.mark.parametrize("path", ["/World/Nope", "World", "not a path"])
    def test_assets_that_are_no_prims_are_named(self, shot, backend, path):
        with pytest.raises(SceneError, match=f"<{path}>"):
            neuralusd.encode(stages.sidecar(shot), backend=backend, assets=[path])

    def test_a_background_does_not_move_with_an_asset_that_is_the_root(self, tmp_path, backend):
        stage = new_stage(path=str(tmp_path / "pot.usda"))
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Pot").GetPrim())
        Usd.ModelAPI(stage.GetDefaultPrim()).SetKind("component")
        add_box(stage, "/Pot/Body", (0, 0, 0))
        add_camera(stage, (0, 0, 8), path="/Cam")
        assert set(neuralusd.encode(stage, backend=backend).encoded) == {"/Pot", "/Background"}

    def test_a_stage_without_a_camera_is_framed(self, tmp_path, backend):
        stage = stages.sidecar(two_boxes(tmp_path / "shot.usda", camera=False))
        done = neuralusd.encode(stage, backend=backend)
        assert done.framed and done.encoded == ALL

    def test_an_image_is_seen_with_its_own_aspect(self, shot, backend):
        """The camera's aperture grows to a wide image's, so that the crop of an object is where the image shows it."""
        stage = stages.sidecar(shot)
        image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 180, 3), np.uint8))
        image.save(shot.with_name("frame.png"))
        neuralusd.encode(stage, backend=backend, image=shot.with_name("frame.png"))
        scene = stages.read(stage, "/World/Cam", aspect=3.0)
        cup = scene.asset("/World/Cup")
        assert np.allclose(cup.tokens["appearance"].crop, pose_2d(cup, scene.camera), atol=0.05)
        assert cup.tokens["appearance"].source == "./frame.png"

    def test_passes_mean_the_assets_they_were_made_with(self, tmp_path, backend):
        """The background that is defined on the way stands before an asset that was there."""
        stage = new_stage(path=str(tmp_path / "two_roots.usda"))
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/A").GetPrim())
        add_box(stage, "/A/Left", (-1.2, 0, 0))
        add_box(stage, "/Z", (1.2, 0, 0))
        add_camera(stage, (0, 0, 8), path="/Cam")
        for path in ("/A/Left", "/Z"):
            NeuralAssetAPI.Apply(stage.GetPrimAtPath(path))
        scene = stages.read(stage)
        passes = stages.render_passes(stage, scene, 48, 48)
        where = {asset.path: np.argwhere(passes.mask(index)).mean(0) / 48 for index, asset in enumerate(scene.assets)}
        assert set(neuralusd.encode(stage, passes=passes, backend=backend).encoded) == {*where, "/A/Background"}
        for asset in stages.read(stage).foreground:
            x, y, h, w = asset.tokens["appearance"].crop
            assert np.allclose([y + h / 2, x + w / 2], where[asset.path], atol=0.05)

    def test_a_camera_that_sees_nothing_is_named(self, tmp_path, backend):
        stage = new_stage(path=str(tmp_path / "away.usda"))
        add_box(stage, "/Box", (0, 0, 0))
        add_camera(stage, (0, 0, 5), target=(0, 0, 10), path="/Away")
        with pytest.raises(EmptyStageError, match="</Away> sees none"):
            neuralusd.encode(stage, backend=backend)

    def test_an_asset_out_of_view_is_said_to_be_unseen(self, shot, backend):
        stage = stages.sidecar(shot)
        neuralusd.edit(stage, move={"/World/Cup": (0, 0, 100)})
        assert neuralusd.encode(stage, backend=backend).unseen == ["/World/Cup"]

    def test_a_folder_of_pickles_is_no_backend(self, shot, tmp_path):
        folder = tmp_path / "pickles"
        (folder / "unet").mkdir(parents=True)
        (folder / "model_index.json").write_text(
            '{"_class_name": "NeuralUSDPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
        )
        (folder / "unet/config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
        torch.save({"weight": torch.ones(1)}, folder / "unet/diffusion_pytorch_model.bin")
        with pytest.raises(BackendError, match="safetensors"):
            neuralusd.encode(open_shot(shot), backend=folder)


class TestPhotographs:
    def test_a_photograph_becomes_a_stage_that_renders(self, tmp_path, backend):
        photo, ids, depth = photograph(tmp_path)
        (tmp_path / "out").mkdir()
        with pytest.warns(PhotoWarning, match="field of view of 50 degrees was assumed"):
            stage = encode_photo(
                photo, tmp_path / "out/scene.usda", masks=ids, depth_map=depth, prompts="cup, bowl", backend=backend
            )
        assert (tmp_path / "out/scene.usda").is_file()
        scene = stages.read(Usd.Stage.Open(str(tmp_path / "out/scene.usda")))
        assert [asset.path for asset in scene.assets] == ["/World/Cup", "/World/Bowl", "/World/Background"]
        cup = scene.asset("/World/Cup")
        assert cup.tokens["appearance"].source == "../photo.png"
        assert np.allclose(cup.tokens["appearance"].crop, (10 / 80, 20 / 60, 25 / 60, 20 / 80), atol=0.06)
        assert cup.local_to_world[3, 2] == pytest.approx(-2, abs=0.3)
        assert neuralusd.render(stage, backend=backend, size=(32, 32)).size == (32, 32)

    def test_an_object_that_others_hide_is_left_out_and_the_others_are_not_mixed_up(self, tmp_path, backend):
        photo, ids, _ = photograph(tmp_path)
        seen = np.asarray(PIL.Image.open(ids))
        masks = np.stack([seen == 1, seen > 0, seen == 2])  # the second is behind the two others
        with pytest.warns(PhotoWarning, match="</World/Object2> is left out"):
            stage = encode_photo(photo, tmp_path / "scene.usda", masks=masks, backend=backend)
        crops = {asset.path: asset.tokens["appearance"].crop for asset in stages.read(stage).foreground}
        assert list(crops) == ["/World/Object", "/World/Object3"]
        assert crops["/World/Object3"][0] == pytest.approx(45 / 80, abs=0.03)

    def test_a_file_that_is_there_is_not_overwritten_unasked(self, tmp_path, backend):
        photo, ids, _ = photograph(tmp_path)
        scene = two_boxes(tmp_path / "scene.usda")
        before = scene.read_bytes()
        with pytest.raises(SceneError, match="exists"):
            encode_photo(photo, scene, masks=ids, backend=backend)
        assert scene.read_bytes() == before
        with pytest.warns(PhotoWarning):
            stage = encode_photo(photo, scene, masks=ids, backend=backend, overwrite=True)
        assert not stage.GetPrimAtPath("/World/Bottle") and stage.GetPrimAtPath("/World/Object")

    def test_what_has_only_a_box_in_the_image_is_not_moved_in_space(self, tmp_path, backend):
        photo, ids, _ = photograph(tmp_path)
        with pytest.warns(PhotoWarning, match="no place in space"):
            stage = encode_photo(photo, tmp_path / "scene.usda", masks=ids, backend=backend)
        with pytest.raises(EditError, match="</World/Object> has a box in the image"):
            neuralusd.edit(stage, move={"/World/Object": (1, 0, 0)})

    def test_what_has_only_a_box_in_the_image_is_a_card_there(self, tmp_path):
        """Without depth an object has no geometry but its outline; where its box goes, its picture goes."""
        from neuralusd.pipelines.render import NeuralUSDPipeline
        from neuralusd.training.build import build_pipeline
        from neuralusd.training.config import MINI

        pipeline: NeuralUSDPipeline = build_pipeline(MINI)  # untrained it shows what landed
        pipeline.save_pretrained(tmp_path / "landing", safe_serialization=True)
        photo, ids, _ = photograph(tmp_path)
        with pytest.warns(PhotoWarning):
            stage = encode_photo(photo, tmp_path / "scene.usda", masks=ids, backend=tmp_path / "landing")
        stages.save(stage)
        before = array(neuralusd.render(stage, backend=tmp_path / "landing", size=32))
        edited = edit_over(tmp_path / "scene.usda", tmp_path / "edit.usda")
        x, y, h, w = NeuralAssetAPI(stage.GetPrimAtPath("/World/Object")).GetBox2dAttr().Get()
        neuralusd.edit(edited, box={"/World/Object": (x, y - 0.2, h, w)})
        after = array(neuralusd.render(edited, backend=tmp_path / "landing", size=32))
        side = len(before)

        def middle(image, down):
            top, left = int((y + down + h / 4) * side), int((x + w / 4) * side)
            return image[top : top + int(h * side / 2), left : left + int(w * side / 2)].mean((0, 1)).astype(float)

        assert middle(after, -0.2) == pytest.approx(middle(before, 0), abs=12)
        assert np.abs(middle(after, -0.2) - middle(before, -0.2)).max() > 24

    def test_a_box_needs_a_size_and_an_asset_without_a_place(self, tmp_path, backend):
        photo, ids, _ = photograph(tmp_path)
        with pytest.warns(PhotoWarning):
            stage = encode_photo(photo, tmp_path / "scene.usda", masks=ids, backend=backend)
        with pytest.raises(EditError, match="</World/Object>.*0 high"):
            neuralusd.edit(stage, box={"/World/Object": (0.1, 0.1, 0, 0.2)})
        with pytest.raises(EditError, match="</World/Cup> has a place in space"):
            neuralusd.edit(open_shot(two_boxes(tmp_path / "shot.usda")), box={"/World/Cup": (0.1, 0.1, 0.2, 0.2)})


class TestRender:
    def test_the_same_seed_gives_the_same_file(self, shot, backend, tmp_path):
        files = [
            save_image(neuralusd.render(open_shot(shot), backend=backend, size=32, seed=seed), tmp_path / f"{name}.png")
            for name, seed in (("a", 7), ("b", 7), ("c", 8))
        ]
        a, b, c = (file.read_bytes() for file in files)
        assert a == b
        assert (array(PIL.Image.open(files[0])) != array(PIL.Image.open(files[2]))).any()
        made = read_provenance(files[0])
        assert made["seed"] == 7 and made["steps"] == 2 and made["guidance"] == 3.0 and made["camera"] == "/World/Cam"
        assert len(made["weights"]) == 12
        assert {"neuralusd", "usd-core", "torch"} <= made["versions"].keys()

    def test_a_stage_without_tokens_says_how_to_make_them(self, tmp_path, backend):
        with pytest.raises(TokensError, match="neuralusd encode .*shot.usda"):
            neuralusd.render(open_shot(two_boxes(tmp_path / "shot.usda")), backend=backend)

    def test_tokens_of_another_encoder_are_refused(self, shot, tmp_path):
        other = save_tiny_backend(tmp_path / "other", seed=1)
        with pytest.raises(EncoderMismatchError, match="</World/Cup>.*encode the stage again"):
            neuralusd.render(open_shot(shot), backend=other)

    def test_the_stages_render_settings_decide_what_nobody_says(self, shot, backend):
        stage = stages.sidecar(shot)
        settings = UsdRender.Settings.Define(stage, "/Render/Settings")
        neural = NeuralRenderSettingsAPI.Apply(settings.GetPrim())
        neural.CreateSeedAttr(5)
        neural.CreateStepsAttr(3)
        neural.CreateBackendAttr(str(backend))
        stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")
        made = neuralusd.render(stage).info["neuralusd"]
        assert (made["seed"], made["steps"], made["backend"]) == (5, 3, str(backend))
        assert neuralusd.render(stage, seed=6).info["neuralusd"]["seed"] == 6

    def test_progress_is_told_and_can_cancel(self, shot, backend):
        told = []
        neuralusd.render(open_shot(shot), backend=backend, size=32, steps=4, progress=lambda *step: told.append(step))
        assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
        with pytest.raises(Cancelled):
            neuralusd.render(open_shot(shot), backend=backend, size=32, steps=4, progress=lambda step, steps: step == 2)


def moved(stage, path="/World/Cup"):
    return np.array(UsdGeom.Xformable(stage.GetPrimAtPath(path)).ComputeLocalToWorldTransform(0).ExtractTranslation())


class TestEdits:
    def test_an_edit_is_a_layer_and_keeps_the_pixels_it_does_not_touch(self, shot, backend):
        files = {file: file.read_bytes() for file in shot.parent.iterdir()}
        edited = edit_over(shot, shot.with_name("edit.usda"))
        neuralusd.edit(edited, move={"/World/Cup": (0, 0.2, 0)})
        stages.save(edited)
        assert {file: file.read_bytes() for file in files} == files
        assert np.allclose(moved(edited), (-1.2, 0.2, 0))
        before = array(neuralusd.render(open_shot(shot), backend=backend, size=32, seed=7))
        after = array(neuralusd.render(open_shot(shot.with_name("edit.usda")), backend=backend, size=32, seed=7))
        alone = array(neuralusd.render(edited, backend=backend, size=32, seed=7, hold=False))
        changed = (before != after).any(-1)
        # The cup is left of the middle; the bottle right of it.
        assert changed[:, :14].any() and not changed[:, 18:].any()
        assert (before != alone)[:, 18:].any()

    def test_the_image_before_may_be_given(self, shot, backend):
        edited = edit_over(shot, shot.with_name("edit.usda"))
        neuralusd.edit(edited, presence={"/World/Bottle": 0})
        white = PIL.Image.new("RGB", (32, 32), "white")
        image = array(neuralusd.render(edited, backend=backend, size=32, before_image=white))
        assert (image[:, :14] == 255).all() and (image != 255).any()

    def test_an_edit_of_an_edit_keeps_to_the_edit(self, shot, backend):
        below = shot
        for name, path in (("one.usda", "/World/Cup"), ("two.usda", "/World/Bottle")):
            edited = edit_over(below, shot.with_name(name))
            neuralusd.edit(edited, move={path: (0, 0.2, 0)})
            below = stages.save(edited)
        assert base_stage(edited).GetRootLayer().GetDisplayName() == "one.usda"
        assert base_stage(base_stage(edited)).GetRootLayer().GetDisplayName() == "shot.neural.usdc"
        one = array(neuralusd.render(open_shot(shot.with_name("one.usda")), backend=backend, size=32))
        told = []
        two = array(neuralusd.render(edited, backend=backend, size=32, progress=lambda *step: told.append(step)))
        changed = (one != two).any(-1)
        assert changed[:, 18:].any() and not changed[:, :14].any()
        assert told[-1] == (6, 6)  # two steps for each of the three images

    def test_an_edit_of_a_stage_without_a_camera_is_framed_as_the_stage(self, tmp_path, backend):
        stage = stages.sidecar(two_boxes(tmp_path / "shot.usda", camera=False))
        neuralusd.encode(stage, backend=backend)
        stages.save(stage)
        edited = edit_over(tmp_path / "shot.usda", tmp_path / "edit.usda")
        neuralusd.edit(edited, move={"/World/Cup": (-0.3, 0, 0)})
        before, after = (array(neuralusd.render(one, backend=backend, size=32)) for one in (stage, edited))
        assert (before == after)[:, 18:].all() and (before != after)[:, :14].any()

    def test_all_of_an_animated_prims_motion_moves(self, tmp_path):
        stage = new_stage(path=str(tmp_path / "shot.usda"))
        translate = add_box(stage, "/Box", (0, 0, 0)).GetOrderedXformOps()[0]
        for time in (1, 2, 3):
            translate.Set((float(time), 0, 0), time)
        stage.Save()
        edited = edit_over(tmp_path / "shot.usda", tmp_path / "edit.usda")
        neuralusd.edit(edited, move={"/Box": (0, 5, 0)})
        places = [tuple(edited.GetPrimAtPath("/Box").GetAttribute("xformOp:translate").Get(t)) for t in (1, 2.5, 3)]
        assert places == [(1, 5, 0), (2.5, 5, 0), (3, 5, 0)]

    def test_a_look_comes_from_another_stage_whose_tokens_are_in_its_sidecar(self, shot, backend, tmp_path):
        (tmp_path / "other").mkdir()
        other = two_boxes(tmp_path / "other/other.usda")
        stage = stages.sidecar(other)
        neuralusd.encode(stage, backend=backend)
        stages.save(stage)
        edited = edit_over(shot, shot.with_name("edit.usda"))
        neuralusd.edit(
            edited, replace={"/World/Cup": f"{other}:/World/Bottle"}, background=f"{other}:/World/Background"
        )
        stages.save(edited)
        scene = stages.read(open_shot(shot.with_name("edit.usda")))
        donor = stages.read(stage).asset("/World/Bottle")
        for modality in ("appearance", "geometry"):
            assert np.array_equal(scene.asset("/World/Cup").tokens[modality].values, donor.tokens[modality].values)
        assert "other/other.neural.usdc" in shot.with_name("edit.usda").read_text()

    def test_an_existing_layer_is_edited_further_or_begun_anew(self, shot):
        output = shot.with_name("edit.usda")
        for overwrite, place in ((False, -1.0), (False, -0.8), (True, -1.0)):
            edited = edit_over(shot, output, overwrite=overwrite)
            neuralusd.edit(edited, move={"/World/Cup": (0.2, 0, 0)})
            stages.save(edited)
            assert moved(Usd.Stage.Open(str(output)))[0] == pytest.approx(place)

    def test_a_layer_of_the_stage_is_never_overwritten(self, shot):
        """Nor is one below it, whose name an artist might give by mistake."""
        layout = two_boxes(shot.with_name("layout.usda"))
        layer = Sdf.Layer.FindOrOpen(str(shot))
        layer.subLayerPaths.append("./layout.usda")
        layer.Save()
        before = layout.read_bytes()
        for name in ("layout.usda", "shot.usda", "shot.neural.usdc"):
            with pytest.raises(SceneError, match=f"{name} is part of"):
                edit_over(shot, shot.with_name(name), overwrite=True)
        assert layout.read_bytes() == before

    def test_a_stage_that_was_not_encoded_can_be_edited_and_encoded_then(self, tmp_path, backend):
        edited = edit_over(two_boxes(tmp_path / "shot.usda"), tmp_path / "edit.usda")
        neuralusd.edit(edited, rotate={"/World/Cup": 30}, scale={"/World/Bottle": 2})
        stages.save(edited)
        stage = stages.sidecar(tmp_path / "edit.usda")
        assert neuralusd.encode(stage, backend=backend).encoded == ALL
        assert has_tokens(stage) and not has_tokens(edited)


def test_render_finds_the_tokens_in_the_sidecar(shot):
    assert open_shot(shot).GetRootLayer().GetDisplayName() == "shot.neural.usdc"
    stage = Usd.Stage.Open(str(shot))
    prim = stage.GetPrimAtPath("/World/Cup")
    NeuralAssetAPI.Apply(prim)
    NeuralTokensAPI.Apply(prim, "appearance")
    stage.Save()
    assert open_shot(shot).GetRootLayer().GetDisplayName() == "shot.usda"
