"""A photograph to a scene: files that the user has, and the geometry that comes of them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from neuralusd.annotate import ImageError, ModelError, annotate, photo_scene, to_scene
from neuralusd.scene import pose_2d

WIDTH, HEIGHT = 64, 48
# At 90 degrees the image is twice as wide as what it shows is far: a pixel is depth / 32 on each side.
WIDE = 90.0
CHAIR = (slice(8, 40), slice(4, 20))  # rows, columns: 32 pixels high, 16 wide
CUP = (slice(20, 28), slice(40, 52))  # 8 high, 12 wide


@pytest.fixture
def files(tmp_path):
    """A photograph of a chair 2 m away and a cup 1 m away, before a wall at 4 m; its mask; its depth in millimetres."""
    color = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    color[CHAIR], color[CUP] = (180, 40, 40), (40, 40, 180)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[CHAIR], ids[CUP] = 1, 2
    millimetres = np.full((HEIGHT, WIDTH), 4000, np.uint16)
    millimetres[CHAIR], millimetres[CUP] = 2000, 1000
    paths = {name: tmp_path / f"{name}.png" for name in ("photo", "mask", "depth")}
    for name, values in (("photo", color), ("mask", ids), ("depth", millimetres)):
        Image.fromarray(values).save(paths[name])
    return paths


def scene_of(files, **options):
    given = {"masks": files["mask"], "depth_map": files["depth"], "field_of_view": WIDE, "progress": False}
    return photo_scene(files["photo"], **(given | options))


class TestGeometry:
    def test_boxes_are_where_the_objects_are_in_metres(self, files):
        scene, _ = scene_of(files, prompts="chair, cup")
        chair = scene.asset("/World/Chair")
        # Columns 4 to 20 of 64 are 28 to 12 pixels left of the middle, 2/32 m each; rows 8 to 40 of 48 are 16 to -16.
        np.testing.assert_allclose(chair.corners().min(0), [-1.75, -1.0, -3.0], atol=1e-6)
        np.testing.assert_allclose(chair.corners().max(0), [-0.75, 1.0, -2.0], atol=1e-6)
        cup = scene.asset("/World/Cup")
        np.testing.assert_allclose(cup.corners().min(0), [0.25, -0.125, -1.25], atol=1e-6)
        np.testing.assert_allclose(cup.corners().max(0), [0.625, 0.125, -1.0], atol=1e-6)

    def test_local_space_is_centred_in_the_box(self, files):
        scene, _ = scene_of(files)
        for asset in scene.foreground:
            np.testing.assert_allclose(asset.extent[0], -asset.extent[1])
            np.testing.assert_array_equal(asset.local_to_world[:3, :3], np.eye(3))

    def test_assets_say_what_they_are_and_the_background_is_last(self, files):
        scene, _ = scene_of(files, prompts=["office chair", "cup"])
        assert [asset.path for asset in scene.assets] == ["/World/OfficeChair", "/World/Cup", "/World/Background"]
        assert scene.assets[0].text == "office chair"
        assert scene.assets[0].labels == ("office chair",)
        assert scene.background is scene.assets[-1]
        assert scene.source == str(files["photo"])

    def test_passes_hold_every_pixel(self, files):
        scene, passes = scene_of(files)
        assert passes.mask(0)[CHAIR].all() and passes.mask(0).sum() == 32 * 16
        assert passes.mask(1)[CUP].all() and passes.mask(1).sum() == 8 * 12
        assert passes.mask(2).sum() == WIDTH * HEIGHT - 32 * 16 - 8 * 12
        assert set(np.unique(passes.depth)) == {1.0, 2.0, 4.0}
        np.testing.assert_allclose(passes.color[CHAIR][5, 5], np.array([180, 40, 40]) / 255, atol=1e-6)

    def test_points_in_local_space_are_seen_where_they_are(self, files):
        scene, passes = scene_of(files)
        for index, asset in enumerate(scene.assets):
            mask = passes.mask(index)
            world = passes.points[mask] @ asset.local_to_world[:3, :3] + asset.local_to_world[3, :3]
            rows, columns = np.nonzero(mask)
            expected = np.stack([(rows + 0.5) / HEIGHT, (columns + 0.5) / WIDTH, passes.depth[mask]], -1)
            np.testing.assert_allclose(scene.camera.project(world), expected, atol=1e-5)

    def test_camera_has_the_field_of_view_and_the_aspect(self, files):
        scene, _ = scene_of(files, field_of_view=60.0)
        camera = scene.camera
        assert np.degrees(2 * np.arctan(camera.horizontal_aperture / 2 / camera.focal_length)) == pytest.approx(60)
        assert camera.horizontal_aperture / camera.vertical_aperture == pytest.approx(WIDTH / HEIGHT)
        np.testing.assert_array_equal(camera.world_to_camera, np.eye(4))

    @settings(deadline=None, max_examples=30)
    @given(
        rows=st.tuples(st.integers(0, 40), st.integers(3, 40)),
        columns=st.tuples(st.integers(0, 50), st.integers(3, 40)),
        depth=st.floats(0.3, 50),
        view=st.floats(20, 120),
    )
    def test_the_front_of_a_box_covers_its_mask(self, rows, columns, depth, view):
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[rows[0] : rows[0] + rows[1], columns[0] : columns[0] + columns[1]] = 7
        metres = np.where(ids > 0, depth, depth * 2)
        scene, passes = photo_scene(
            np.zeros((HEIGHT, WIDTH, 3), np.uint8), masks=ids, depth_map=metres, field_of_view=view, progress=False
        )
        seen = np.argwhere(passes.mask(0))
        low, high = seen.min(0), seen.max(0) + 1
        expected = [low[1] / WIDTH, low[0] / HEIGHT, (high - low)[0] / HEIGHT, (high - low)[1] / WIDTH]
        # The back of a box is smaller in the image, and inside where the box is before the camera; else it sticks out.
        x, y, h, w = pose_2d(scene.assets[0], scene.camera)
        assert x <= expected[0] + 1e-6 and y <= expected[1] + 1e-6
        assert x + w >= expected[0] + expected[3] - 1e-6 and y + h >= expected[1] + expected[2] - 1e-6
        front = scene.camera.project(scene.assets[0].corners()[1::2])  # the corners of the highest z, which is nearest
        np.testing.assert_allclose(front[:, 2], depth, rtol=1e-5)
        np.testing.assert_allclose([front[:, 1].min(), front[:, 0].min()], expected[:2], atol=1e-5)

    def test_depth_that_bled_over_an_outline_is_neither_in_the_box_nor_in_the_pass(self, files):
        metres = np.full((HEIGHT, WIDTH), 4.0)
        metres[CHAIR], metres[CUP] = 2.0, 1.0
        metres[CHAIR][:, -1] = 3.9  # the chair's last column has the wall's depth
        scene, passes = scene_of(files, depth_map=metres, prompts="chair, cup")
        corners = scene.asset("/World/Chair").corners()
        assert corners[:, 2].max() == pytest.approx(-2) and corners[:, 2].min() > -3.5
        assert np.isinf(passes.depth[CHAIR][:, -1]).all()
        assert np.isnan(passes.points[CHAIR][:, -1]).all()
        assert passes.mask(0)[CHAIR].all()

    def test_a_surface_that_recedes_is_as_deep_as_it_is_seen(self, files):
        road = np.zeros((HEIGHT, WIDTH), np.uint8)
        road[8:40, 28:36] = 1
        metres = np.full((HEIGHT, WIDTH), 8.0)
        metres[8:40] = np.linspace(5.0, 2.0, 32)[:, None]  # from 5 m at its top to 2 m at its foot
        scene, _ = scene_of(files, masks=road, depth_map=metres)
        low, high = scene.foreground[0].corners().min(0), scene.foreground[0].corners().max(0)
        np.testing.assert_allclose([low[2], high[2]], [-5.0, -2.0], atol=1e-6)
        np.testing.assert_allclose([low[0], high[0]], [-4 * 5 / 32, 4 * 5 / 32], atol=1e-6)

    def test_a_round_object_keeps_its_outline(self, files):
        """A ball of radius 0.4 m, 2 m away: its outline is farther than nearly all of what is seen of it."""
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        away = np.hypot(rows + 0.5 - HEIGHT / 2, columns + 0.5 - WIDTH / 2) * 2 / 32
        ball = away < 0.4
        metres = np.where(ball, 2 - np.sqrt(np.clip(0.16 - away**2, 0, None)), 8.0)
        scene, passes = scene_of(files, masks=ball.astype(int), depth_map=metres)
        assert np.isfinite(passes.depth[ball]).all()
        np.testing.assert_allclose(pose_2d(scene.assets[0], scene.camera)[2:], [0.8 / 3, 0.8 / 4], rtol=0.25)

    def test_without_depth_objects_have_a_box_in_the_image(self, files):
        scene, passes = scene_of(files, depth_map=None, prompts="chair, cup")
        chair = scene.asset("/World/Chair")
        assert chair.extent is None
        np.testing.assert_allclose(chair.box2d.array(), [4 / 64, 8 / 48, 32 / 48, 16 / 64])
        np.testing.assert_allclose(pose_2d(chair, scene.camera), chair.box2d.array())
        assert np.isinf(passes.depth).all() and np.isnan(passes.points).all()

    def test_an_object_without_known_depth_has_a_box_in_the_image_and_the_others_do_not(self, files):
        metres = np.full((HEIGHT, WIDTH), 4.0)
        metres[CUP] = np.nan
        scene, _ = scene_of(files, depth_map=metres, prompts="chair, cup")
        assert scene.asset("/World/Cup").extent is None and scene.asset("/World/Cup").box2d is not None
        assert scene.asset("/World/Chair").extent is not None

    def test_a_large_photograph_is_reduced_and_nothing_else_changes(self, files, tmp_path):
        for name in ("photo", "mask", "depth"):
            image = Image.open(files[name])
            image.resize((WIDTH * 8, HEIGHT * 8), Image.Resampling.NEAREST).save(tmp_path / f"large_{name}.png")
        large, passes = photo_scene(
            tmp_path / "large_photo.png", masks=tmp_path / "large_mask.png", depth_map=tmp_path / "large_depth.png",
            field_of_view=WIDE, max_size=WIDTH * 2, progress=False,
        )  # fmt: skip
        small, _ = scene_of(files)
        assert passes.ids.shape == (HEIGHT * 2, WIDTH * 2)
        for a, b in zip(large.foreground, small.foreground, strict=True):
            np.testing.assert_allclose(a.corners(), b.corners(), atol=1e-6)

    def test_the_smaller_of_two_masks_that_overlap_is_in_front(self, files):
        table, cup = np.zeros((2, HEIGHT, WIDTH), bool)
        table[20:40, 10:50], cup[22:28, 20:26] = True, True
        for masks in ({"table": table, "cup": cup}, {"cup": cup, "table": table}):
            annotation = annotate(files["photo"], masks=masks, depth_map=files["depth"], progress=False)
            assert annotation.labels == list(masks)
            np.testing.assert_array_equal(annotation.ids == annotation.labels.index("cup"), cup)


class TestNames:
    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (["cup", "cup", "Cup"], ["Cup", "Cup2", "Cup3"]),
            (["café crème", "3-legged stool", "椅子"], ["CafeCreme", "Object3LeggedStool", "Object"]),
            (["background", "camera"], ["Background2", "Camera2"]),
        ],
    )
    def test_prims_have_valid_names_each_once(self, files, labels, names):
        masks = {}
        for index in range(len(labels)):
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[5:10, 5 + 10 * index : 10 + 10 * index] = True
            masks[f"{index}"] = mask
        scene, _ = scene_of(files, masks=masks, prompts=labels)
        assert [asset.path for asset in scene.foreground] == [f"/World/{name}" for name in names]
        assert [asset.text for asset in scene.foreground] == labels

    def test_as_many_names_as_masks(self, files):
        with pytest.raises(ImageError, match="2 masks, but 3 names for them: chair, cup, table"):
            scene_of(files, prompts="chair, cup, table")


class TestMasks:
    def expect(self, files, masks, **options):
        scene, passes = scene_of(files, masks=masks, **options)
        np.testing.assert_array_equal(passes.mask(0)[CHAIR], True)
        np.testing.assert_array_equal(passes.mask(1)[CUP], True)
        assert (passes.ids != 2).sum() == 32 * 16 + 8 * 12
        return scene

    def test_colours(self, files, tmp_path):
        colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        colors[CHAIR], colors[CUP] = (10, 200, 30), (250, 3, 3)
        Image.fromarray(colors).save(tmp_path / "colors.png")
        self.expect(files, tmp_path / "colors.png")

    def test_palette(self, files, tmp_path):
        image = Image.open(files["mask"]).convert("P")
        ids = Image.fromarray(np.asarray(Image.open(files["mask"])), mode=None)
        image = Image.frombytes("P", ids.size, ids.tobytes())
        image.putpalette([0, 0, 0, 200, 10, 10, 10, 10, 200])
        image.save(tmp_path / "palette.png")
        self.expect(files, tmp_path / "palette.png")

    def test_sixteen_bits(self, files, tmp_path):
        ids = np.asarray(Image.open(files["mask"])).astype(np.uint16) * 1000
        Image.fromarray(ids).save(tmp_path / "ids.png")
        self.expect(files, tmp_path / "ids.png")

    def test_a_folder_names_its_objects(self, files, tmp_path):
        folder = tmp_path / "masks"
        folder.mkdir()
        ids = np.asarray(Image.open(files["mask"]))
        Image.fromarray((ids == 1).astype(np.uint8) * 255).save(folder / "arm_chair.png")
        cut_out = np.zeros((HEIGHT, WIDTH, 4), np.uint8)  # what a paint program saves: nothing around the object
        cut_out[CUP] = (9, 9, 9, 255)
        Image.fromarray(cut_out).save(folder / "cup.png")
        scene = self.expect(files, folder)
        assert [asset.path for asset in scene.foreground] == ["/World/ArmChair", "/World/Cup"]
        self.expect(files, [folder / "arm_chair.png", folder / "cup.png"])

    def test_arrays(self, files):
        ids = np.asarray(Image.open(files["mask"]))
        self.expect(files, ids.astype(np.int64))
        self.expect(files, np.stack([ids == 1, ids == 2]))

    def test_soft_edges_are_no_objects(self, files, tmp_path):
        ids = np.asarray(Image.open(files["mask"])).astype(np.uint8)
        soft = np.array(ids) * 100
        soft[8, 3], soft[9, 3] = 37, 61
        Image.fromarray(soft).save(tmp_path / "soft.png")
        annotation = annotate(files["photo"], masks=tmp_path / "soft.png", depth_map=files["depth"], progress=False)
        assert len(annotation.labels) == 2
        assert any("2 ids of a few pixels" in note for note in annotation.notes)

    def test_another_size_names_both(self, files, tmp_path):
        Image.fromarray(np.ones((50, 70), np.uint8)).save(tmp_path / "mask.png")
        with pytest.raises(ImageError, match="mask.png is 70x50, but the photograph is 64x48"):
            scene_of(files, masks=tmp_path / "mask.png")

    @pytest.mark.parametrize(
        ("masks", "says"),
        [
            (np.zeros((HEIGHT, WIDTH), np.uint8), "all is background"),
            (np.zeros((2, HEIGHT, WIDTH), bool), "show no object, they are empty: 1, 2"),
            (np.ones((HEIGHT, WIDTH), np.float32), "must hold whole numbers"),
            (np.random.default_rng(0).integers(0, 1500, (HEIGHT, WIDTH)), "is it a mask"),
            ({"chair": np.zeros((HEIGHT, WIDTH), bool)}, "empty: chair"),
        ],
    )
    def test_what_is_no_mask(self, files, masks, says):
        with pytest.raises(ImageError, match=says):
            scene_of(files, masks=masks)

    def test_a_jpeg_and_an_empty_folder_are_no_masks(self, files, tmp_path):
        Image.open(files["mask"]).save(tmp_path / "mask.jpg")
        with pytest.raises(ImageError, match="JPEG, which blurs ids"):
            scene_of(files, masks=tmp_path / "mask.jpg")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ImageError, match="has no masks"):
            scene_of(files, masks=tmp_path / "empty")


class TestDepthFiles:
    @pytest.mark.parametrize("name", ["depth.npy", "depth.npz", "depth.tiff"])
    def test_metres(self, files, tmp_path, name):
        metres = np.asarray(Image.open(files["depth"])).astype(np.float32) / 1000
        path = tmp_path / name
        if name.endswith("npy"):
            np.save(path, metres)
        elif name.endswith("npz"):
            np.savez(path, depth=metres, confidence=np.ones(3))
        else:
            Image.fromarray(metres).save(path)
        _, passes = scene_of(files, depth_map=path)
        np.testing.assert_allclose(passes.depth, metres)

    def test_a_smaller_map_of_the_same_shape_fits(self, files):
        metres = np.asarray(Image.open(files["depth"]))[::4, ::4] / 1000  # as a phone's depth
        _, passes = scene_of(files, depth_map=metres)
        assert passes.depth.shape == (HEIGHT, WIDTH)
        assert set(np.unique(passes.depth)) == {1.0, 2.0, 4.0}

    def test_unknown_depth_is_infinite(self, files):
        metres = np.full((HEIGHT, WIDTH), 4.0)
        metres[0, :4] = 0.0, -1.0, np.nan, np.inf
        _, passes = scene_of(files, depth_map=metres)
        assert np.isinf(passes.depth[0, :4]).all() and np.isfinite(passes.depth[0, 4:]).all()

    def test_millimetres_read_as_metres_are_noticed(self, files):
        annotation = annotate(
            files["photo"], masks=files["mask"], depth_map=np.full((HEIGHT, WIDTH), 2000.0), progress=False
        )
        assert any("divide it by 1000" in note for note in annotation.notes)

    @pytest.mark.parametrize(
        ("depth", "says"),
        [
            (np.full((HEIGHT, WIDTH), np.nan), "knows no depth"),
            (np.ones((WIDTH, HEIGHT)), "is 48x64, which is not the shape of the photograph, 64x48"),
            (np.ones((HEIGHT, WIDTH, 3)), r"must be numbers of shape \(height, width\)"),
        ],
    )
    def test_what_is_no_depth(self, files, depth, says):
        with pytest.raises(ImageError, match=says):
            scene_of(files, depth_map=depth)

    def test_files_that_are_no_depth(self, files, tmp_path):
        with pytest.raises(ImageError, match="8 bits a channel"):
            scene_of(files, depth_map=files["mask"])
        np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(ImageError, match="objects.npy is not a whole NumPy file of numbers"):
            scene_of(files, depth_map=tmp_path / "objects.npy")
        np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
        with pytest.raises(ImageError, match="holds a, b; name the depth map `depth`"):
            scene_of(files, depth_map=tmp_path / "two.npz")
        with pytest.raises(ImageError, match="EXR is not read"):
            scene_of(files, depth_map=tmp_path / "depth.exr")
        with pytest.raises(ImageError, match="absent.npy does not exist"):
            scene_of(files, depth_map=tmp_path / "absent.npy")


class TestPhotographs:
    def test_turned_by_exif_is_upright(self, files, tmp_path):
        """A camera held upright stores the picture lying, and says so."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        lying = Image.open(files["photo"]).transpose(Image.Transpose.ROTATE_90)
        lying.save(tmp_path / "turned.png", exif=exif)
        assert lying.size == (HEIGHT, WIDTH)
        _, upright = scene_of(files)
        _, turned = scene_of(files | {"photo": tmp_path / "turned.png"})
        np.testing.assert_array_equal(turned.color, upright.color)

    def test_field_of_view_from_exif(self, files, tmp_path):
        """26 mm in 35 mm terms on a 4:3 sensor: the diagonals agree, so 67.2 degrees across."""
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
        Image.open(files["photo"]).save(tmp_path / "photo.jpg", exif=exif)
        annotation = annotate(tmp_path / "photo.jpg", masks=files["mask"], depth_map=files["depth"], progress=False)
        expected = 2 * np.degrees(np.arctan(0.8 * np.hypot(36, 24) / 2 / 26))
        assert annotation.field_of_view == pytest.approx(expected) == pytest.approx(67.3, abs=0.1)
        assert not any("was assumed" in note for note in annotation.notes)
        chosen = annotate(tmp_path / "photo.jpg", masks=files["mask"], field_of_view=40.0, progress=False)
        assert chosen.field_of_view == 40.0

    def test_an_unknown_camera_is_assumed_and_said(self, files):
        annotation = annotate(files["photo"], masks=files["mask"], depth_map=files["depth"], progress=False)
        assert annotation.field_of_view == 50.0
        assert any("field of view of 50 degrees was assumed" in note for note in annotation.notes)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "YCbCr"])
    def test_every_kind_of_image_becomes_rgb(self, files, tmp_path, mode):
        path = tmp_path / ("photo.tiff" if mode in ("CMYK", "YCbCr") else "photo.png")
        rgb = Image.open(files["photo"])
        if mode == "I;16":
            Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257).save(path)
        else:
            rgb.convert(mode).save(path)
        _, passes = scene_of(files | {"photo": path})
        assert passes.color.shape == (HEIGHT, WIDTH, 3) and passes.color.dtype == np.float32
        tolerance = {"1": 0.3, "P": 0.1}.get(mode, 0.02)
        assert abs(passes.color[0].mean() - 200 / 255) < tolerance

    def test_what_is_transparent_is_white(self, files, tmp_path):
        rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        rgba[CHAIR] = (180, 40, 40, 255)
        Image.fromarray(rgba).save(tmp_path / "cut.png")
        annotation = annotate(tmp_path / "cut.png", masks=files["mask"], progress=False)
        assert annotation.color[0, 0].tolist() == [1.0, 1.0, 1.0]
        assert any("transparent" in note for note in annotation.notes)

    def test_the_colour_profile_is_applied(self, files, tmp_path):
        """The same picture, stored as Lab with a Lab profile, comes out in sRGB again."""
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        stored = ImageCms.profileToProfile(Image.open(files["photo"]), srgb, lab, outputMode="LAB")
        stored.save(tmp_path / "lab.tiff", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
        _, plain = scene_of(files)
        _, tagged = scene_of(files | {"photo": tmp_path / "lab.tiff"})
        np.testing.assert_allclose(tagged.color, plain.color, atol=10 / 255)  # Lab of 8 bits is coarse
        Image.open(files["photo"]).save(tmp_path / "damaged.png", icc_profile=b"no profile")
        annotation = annotate(tmp_path / "damaged.png", masks=files["mask"], progress=False)
        assert any("read as sRGB" in note for note in annotation.notes)

    def test_arrays_and_pil_images_are_photographs_too(self, files):
        image = Image.open(files["photo"])
        _, expected = scene_of(files)
        for photo in (image, np.asarray(image), np.asarray(image) / 255):
            _, passes = photo_scene(photo, masks=files["mask"], depth_map=files["depth"], progress=False)
            np.testing.assert_allclose(passes.color, expected.color, atol=1e-6)

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda whole: b"", r"is empty \(0 bytes\)"),
            (lambda whole: whole[: len(whole) // 2], "is damaged or cannot be read"),
            (lambda whole: b"#usda 1.0\n", "is not an image that Pillow can read"),
            (lambda whole: whole[:20] + b"\xff" * 40 + whole[60:], "is damaged|is not an image"),
        ],
    )
    def test_files_that_are_no_photograph(self, files, tmp_path, make, says):
        noise = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(noise, "png")
        (tmp_path / "bad.png").write_bytes(make(noise.getvalue()))
        with pytest.raises(ImageError, match=rf"bad\.png ({says})"):
            scene_of(files | {"photo": tmp_path / "bad.png"})

    def test_no_file_a_folder_and_a_bomb(self, files, tmp_path, monkeypatch):
        with pytest.raises(ImageError, match="absent.png does not exist"):
            scene_of(files | {"photo": tmp_path / "absent.png"})
        with pytest.raises(ImageError, match="is a folder"):
            scene_of(files | {"photo": tmp_path})
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(ImageError, match="too large to be opened safely"):
            scene_of(files)

    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (np.zeros((4, 4)), r"must be \(height, width, 3\)"),
            (np.full((4, 4, 3), 7.0), r"in 0..1"),
            (np.full((4, 4, 3), np.nan), r"finite"),
            (np.zeros((4, 4, 3), np.int64), "must be uint8"),
            (np.zeros((0, 4, 3), np.uint8), r"must be \(height, width, 3\)"),
        ],
    )
    def test_arrays_that_are_no_photograph(self, array, says):
        with pytest.raises(ImageError, match=says):
            photo_scene(array, masks=np.ones((4, 4), int), progress=False)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({}, "comes from a detector and a segmenter"),
            ({"detector": "a/b"}, "comes from a detector and a segmenter"),
            ({"masks": np.ones((HEIGHT, WIDTH), int), "segmenter": "a/b"}, "not both"),
            ({"masks": np.ones((HEIGHT, WIDTH), int), "depth": "a/b", "depth_map": "c.npy"}, "not both"),
        ],
    )
    def test_objects_and_depth_come_from_one_place(self, files, options, says):
        with pytest.raises(ModelError, match=says):
            annotate(files["photo"], progress=False, **options)

    def test_field_of_view_is_in_degrees(self, files):
        with pytest.raises(ImageError, match="in degrees, between 1 and 170; not 0.5"):
            scene_of(files, field_of_view=0.5)

    def test_an_annotation_can_be_corrected_before_it_is_placed(self, files):
        annotation = annotate(files["photo"], masks=files["mask"], depth_map=files["depth"], progress=False)
        annotation.labels[0] = "throne"
        annotation.depth = annotation.depth * 2
        scene, passes = to_scene(annotation)
        assert scene.assets[0].path == "/World/Throne"
        assert passes.depth.max() == 8.0
        assert annotation.depth.max() == 8.0
