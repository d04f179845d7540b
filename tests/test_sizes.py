"""How large an image is: what was asked for, what the stage's render settings say, or the camera's shape."""

import pytest
from pxr import Gf, UsdGeom, UsdRender
from stages import add_camera, new_stage

from neuralusd.errors import SceneError
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
