"""How large an image is: what was asked for, what the stage's render settings say, or the camera's shape."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from pxr import Gf, Sdf, Usd, UsdGeom, UsdRender
from shots import two_boxes
from stages import add_camera, new_stage
from tiny_backend import save_tiny_backend

import neuralusd
from neuralusd.api import open_shot, render_passes
from neuralusd.api.pictures import PictureWarning
from neuralusd.cli import main
from neuralusd.errors import SceneError
from neuralusd.images import read_provenance
from neuralusd.stage import image_size
from neuralusd.stage.errors import CameraError


@pytest.fixture
def stage():
    """A stage with a wide camera, 36 x 24."""
    stage = new_stage()
    add_camera(stage, (0, 0, 5), path="/Wide", horizontalAperture=36.0, verticalAperture=24.0)
    return stage


def render_settings(stage, resolution=None, camera=None):
    settings = UsdRender.Settings.Define(stage, "/Render/Settings")
    stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")
    if resolution:
        settings.CreateResolutionAttr(Gf.Vec2i(resolution))
    if camera:
        settings.CreateCameraRel().SetTargets([camera])
    return settings


def product(settings, name, resolution=None, camera=None):
    made = UsdRender.Product.Define(settings.GetPrim().GetStage(), f"/Render/{name}")
    settings.GetProductsRel().AddTarget(made.GetPath())
    if resolution:
        made.CreateResolutionAttr(Gf.Vec2i(resolution))
    if camera:
        made.CreateCameraRel().SetTargets([camera])
    return made


class TestTheCamerasShape:
    def test_the_longer_side_has_512_pixels(self, stage):
        assert image_size(stage) == (512, 341)
        assert image_size(stage, longest=128) == (128, 85)
        add_camera(stage, (0, 0, 5), path="/Tall", horizontalAperture=9.0, verticalAperture=16.0)
        assert image_size(stage, "/Tall") == (288, 512)
        assert image_size(stage, "/Wide") == (512, 341)

    def test_a_number_is_the_longer_side(self, stage):
        assert image_size(stage, size=1920) == (1920, 1280)

    def test_an_orthographic_camera_has_one_too(self, stage):
        camera = UsdGeom.Camera(stage.GetPrimAtPath("/Wide"))
        camera.CreateProjectionAttr("orthographic")
        camera.GetFocalLengthAttr().Set(0)
        assert image_size(stage) == (512, 341)

    def test_a_stage_without_a_camera_has_the_shape_of_the_lens_that_it_is_framed_with(self):
        assert image_size(new_stage(), size=960) == (960, 701)  # as usdrecord's

    def test_an_animated_aperture_is_read_where_it_begins(self, stage):
        aperture = stage.GetPrimAtPath("/Wide").GetAttribute("verticalAperture")
        aperture.Clear()
        for time, value in ((1, 18.0), (2, 36.0)):
            aperture.Set(value, time)
        assert image_size(stage) == (512, 256)

    def test_a_sliver_is_a_pixel_thin(self, stage):
        stage.GetPrimAtPath("/Wide").GetAttribute("verticalAperture").Set(0.001)
        assert image_size(stage) == (512, 1)


class TestRenderSettings:
    def test_their_resolution_is_the_images(self, stage):
        render_settings(stage, (1280, 720))
        assert image_size(stage) == (1280, 720)
        assert image_size(stage, "/Wide") == (1280, 720)

    def test_settings_without_a_resolution_leave_the_cameras_shape(self, stage):
        settings = render_settings(stage)  # whose resolution falls back to 2048 x 1080
        assert image_size(stage) == (512, 341)
        settings.CreateResolutionAttr(Gf.Vec2i(1280, 720))
        settings.GetResolutionAttr().Block()
        assert image_size(stage) == (512, 341)

    def test_settings_that_the_stage_does_not_name_are_not_its_own(self, stage):
        UsdRender.Settings.Define(stage, "/Render/Other").CreateResolutionAttr(Gf.Vec2i(1280, 720))
        assert image_size(stage) == (512, 341)

    def test_what_is_asked_for_comes_first(self, stage):
        render_settings(stage, (1280, 720))
        assert image_size(stage, size=(300, 200)) == (300, 200)
        assert image_size(stage, size=[1, 16384]) == (1, 16384)

    def test_a_number_keeps_their_shape(self, stage):
        render_settings(stage, (1280, 720))
        assert image_size(stage, size=640) == (640, 360)
        render_settings(stage, (1080, 1920))
        assert image_size(stage, size=640) == (360, 640)

    def test_a_product_of_the_camera_overrides_them(self, stage):
        add_camera(stage, (0, 0, 5), path="/Other")
        settings = render_settings(stage, (1280, 720), "/Wide")
        product(settings, "Silent")
        product(settings, "OfOther", (400, 300), "/Other")
        product(settings, "Beauty", (1920, 1080))
        product(settings, "Later", (64, 64))
        assert image_size(stage) == image_size(stage, "/Wide") == (1920, 1080)
        assert image_size(stage, "/Other") == (400, 300)

    def test_pixels_become_square_and_the_frame_keeps_its_shape(self, stage):
        settings = render_settings(stage, (1440, 1080))
        settings.CreatePixelAspectRatioAttr(4 / 3)
        assert image_size(stage) == (1920, 1080)
        made = product(settings, "Beauty", (720, 576))
        assert image_size(stage) == (960, 576)
        made.CreatePixelAspectRatioAttr(1.0)
        assert image_size(stage) == (720, 576)

    @pytest.mark.parametrize("resolution", [(0, 720), (1280, -1), (1280, 20000)])
    def test_a_resolution_that_is_none_names_its_prim(self, stage, resolution):
        render_settings(stage, resolution)
        with pytest.raises(SceneError, match=r"</Render/Settings>, resolution: .*1 to 16384"):
            image_size(stage)
        assert image_size(stage, size=(30, 20)) == (30, 20)

    @pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), 1000.0])
    def test_pixels_that_are_none_name_their_prim(self, stage, ratio):
        render_settings(stage, (1280, 720)).CreatePixelAspectRatioAttr(ratio)
        with pytest.raises(SceneError, match="</Render/Settings>"):
            image_size(stage)


@pytest.mark.parametrize("size", [0, -5, 16385, (0, 10), (10, 99999), (10.5, 10), (10,), "10x10", ("10", "10"), 5.5])
def test_sizes_that_are_none(stage, size):
    with pytest.raises(SceneError, match="`size`"):
        image_size(stage, size=size)


def test_cameras_that_are_none(stage):
    with pytest.raises(CameraError, match="</Nope>"):
        image_size(stage, "/Nope")
    stage.GetPrimAtPath("/Wide").GetAttribute("verticalAperture").Set(0.0)
    with pytest.raises(CameraError, match="</Wide>: its verticalAperture is 0"):
        image_size(stage)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return str(save_tiny_backend(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command in the test's own folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


@pytest.fixture
def shot(run, tmp_path, backend):
    """shot.usda in the test's folder, encoded, and edit.usda over it, in which the cup moves."""
    two_boxes(tmp_path / "shot.usda")
    assert run("encode", "shot.usda", "--size", 64, "--backend", backend)[0] == 0
    assert run("edit", "shot.usda", "--move", "/World/Cup", "0,0.2,0", "-o", "edit.usda")[0] == 0
    return tmp_path / "shot.usda"


def size_of(path):
    with PIL.Image.open(path) as image:
        return image.size


def pixels(path):
    with PIL.Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def ask_for(shot, resolution):
    """Gives the shot's sidecar render settings with a resolution."""
    stage = Usd.Stage.Open(str(shot.with_name("shot.neural.usdc")))
    render_settings(stage, resolution)
    stage.Save()


class TestRender:
    @pytest.mark.parametrize(("asked", "size"), [("48x32", (48, 32)), ("20X40", (20, 40)), ("24", (24, 24))])
    def test_a_picture_is_as_large_as_one_asks(self, run, shot, backend, asked, size):
        status, out, _ = run("render", "shot.usda", "-o", "a.png", "--size", asked, "--backend", backend, "--json")
        assert status == 0 and tuple(json.loads(out)["images"][0]["size"]) == size
        assert size_of("a.png") == size and tuple(read_provenance("a.png")["size"]) == size

    def test_else_as_the_stage_says(self, run, shot, backend):
        ask_for(shot, (40, 20))
        for options, size in (([], (40, 20)), (["--size", 20], (20, 10)), (["--size", "16x16"], (16, 16))):
            assert run("render", "shot.usda", "-o", "a.png", "--backend", backend, *options)[0] == 0
            assert size_of("a.png") == size

    def test_another_shape_shows_more_and_distorts_nothing(self, shot):
        stage = open_shot(shot)
        wide, names = render_passes(stage, size=(96, 48))
        square, _ = render_passes(stage, size=(48, 48))
        assert wide.ids.shape == wide.depth.shape == (48, 96)
        assert np.array_equal(wide.ids[:, 24:72], square.ids)
        assert (square.ids == names.index("/World/Cup")).sum() > 10

    def test_frames_of_another_size_are_made_again(self, run, shot, backend):
        command = ["render", "shot.usda", "-o", "f.png", "--frames", "1:2", "--backend", backend, "--resume"]
        assert run(*command, "--size", 16)[0] == 0
        assert run(*command, "--size", 16)[1] == ""
        assert run(*command, "--size", 24)[1].split() == ["f.0001.png", "f.0002.png"]

    @pytest.mark.parametrize("asked", ["0x10", "10x", "10x20x30", "-5", "1e3", "20000", "10x99999", "big"])
    def test_what_is_no_size_is_wrong_usage(self, run, asked):
        for command in (["render", "shot.usda", "-o", "a.png"], ["encode", "shot.usda"]):
            status, out, err = run(*command, f"--size={asked}")
            assert status == 2 and out == "" and "--size" in err

    def test_a_resolution_that_is_none_is_an_error_that_names_the_settings(self, run, shot, backend):
        ask_for(shot, (0, 20))
        status, _, err = run("render", "shot.usda", "-o", "a.png", "--backend", backend)
        assert status == 1 and "</Render/Settings>, resolution" in err and "bug" not in err


class TestHold:
    def test_an_edit_has_the_size_of_the_picture_that_it_keeps_to(self, run, shot, backend):
        assert run("render", "shot.usda", "-o", "before.png", "--size", "48x32", "--backend", backend)[0] == 0
        command = ["render", "edit.usda", "-o", "after.png", "--before-image", "before.png", "--backend", backend]
        assert run(*command)[::2] == (0, "")
        before, after = pixels("before.png"), pixels("after.png")
        assert after.shape == (32, 48, 3)
        changed = (before != after).any(-1)
        # The cup is left of the middle, the bottle right of it.
        assert changed[:, :22].any() and not changed[:, 26:].any()

    def test_a_large_picture_is_kept_pixel_by_pixel(self, shot, backend):
        before = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 1500, 3), np.uint8))
        image = neuralusd.render(open_shot(shot.with_name("edit.usda")), backend=backend, before_image=before)
        same = (np.asarray(image) == np.asarray(before)).all(-1)
        assert image.size == before.size and same[:, 800:].all() and not same.all()

    def test_one_of_another_size_is_resized_and_one_says_so(self, run, shot, backend):
        PIL.Image.new("RGB", (60, 40), "white").save(shot.with_name("before.png"))
        command = ["render", "edit.usda", "-o", "after.png", "--before-image", "before.png", "--backend", backend]
        status, _, err = run(*command, "--size", "48x32")
        assert status == 0 and "before.png has 60x40 pixels" in err and "48x32" in err and "resized" in err
        after = pixels("after.png")
        assert after.shape == (32, 48, 3) and (after[:, 26:] == 255).all()
        white = PIL.Image.new("RGB", (60, 40), "white")
        with pytest.warns(PictureWarning, match="60x40"):
            neuralusd.render(open_shot(shot.with_name("edit.usda")), backend=backend, before_image=white, size=(48, 32))

    def test_one_of_another_shape_is_refused(self, run, shot, backend):
        PIL.Image.new("RGB", (60, 40), "white").save(shot.with_name("before.png"))
        command = ["render", "edit.usda", "-o", "after.png", "--before-image", "before.png", "--backend", backend]
        status, _, err = run(*command, "--size", "32x32")
        assert status == 1 and "before.png has 60x40 pixels" in err and "another shape" in err
        assert not shot.with_name("after.png").exists()


class TestEncode:
    def test_the_picture_that_is_encoded_may_be_larger(self, run, shot, backend, tmp_path):
        command = ["encode", "shot.usda", "--backend", backend, "--json"]
        assert json.loads(run(*command, "--size", "64x64")[1])["encoded"] == []
        assert "/World/Cup" in json.loads(run(*command, "--size", 128)[1])["encoded"]

    def test_views_all_around_are_kept_with_the_tokens(self, run, shot, backend, tmp_path):
        command = ["encode", "shot.usda", "--backend", backend, "--size", 64, "--views", 4, "-o", "around.neural.usdc"]
        assert run(*command)[0] == 0
        found = {layer: views(tmp_path / layer) for layer in ("shot.neural.usdc", "around.neural.usdc")}
        assert found["around.neural.usdc"] == found["shot.neural.usdc"] + 4

    def test_the_base_colours_go_with_a_picture(self, run, shot, backend, tmp_path):
        PIL.Image.new("RGB", (64, 64), "white").save("lit.png")
        PIL.Image.new("RGB", (64, 64), "red").save("plain.png")
        command = ["encode", "shot.usda", "--backend", backend, "--force", "-o", "lit.neural.usdc"]
        status, _, err = run(*command, "--albedo", "plain.png")
        assert status == 2 and "--image" in err
        assert run(*command, "--image", "lit.png", "--albedo", "plain.png")[0] == 0
        assert run(*command, "--image", "lit.png", "--albedo", "gone.png")[0] == 1

    @pytest.mark.parametrize("options", [["--views", 4], ["--albedo", "a.png"], ["--size", 64]])
    def test_photographs_have_none_of_them(self, run, options):
        status, _, err = run("encode", "photo.png", "-o", "s.usda", *options)
        assert status == 2 and "this is for stages" in err

    @pytest.mark.parametrize("count", ["-1", "65", "many"])
    def test_what_is_no_number_of_views(self, run, count):
        assert run("encode", "shot.usda", f"--views={count}")[0] == 2


def views(path):
    """How many views of the cup a layer holds."""
    layer = Sdf.Layer.FindOrOpen(str(path))
    schemas = layer.GetPrimAtPath("/World/Cup").GetInfo("apiSchemas").GetAppliedItems()
    return sum(schema.startswith("NeuralViewAPI") for schema in schemas)
