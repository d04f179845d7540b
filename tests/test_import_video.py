"""Plain videos become a world by detectors, trackers and depth models: transformers' classes, tiny weights."""

import json

import av
import numpy as np
import pytest
import tiny_annotators as tiny
import tiny_world
from PIL import Image

from neuralusd.annotate import Annotation, ImageError, ModelError
from neuralusd.annotate.clip import annotate_clip
from neuralusd.annotate.segment import segment
from neuralusd.annotate.track import associate, track
from neuralusd.cli import main
from neuralusd.datasets.frames import frames
from neuralusd.datasets.imported import DatasetError, DatasetWarning, ImportedCamera, ImportedObject, ImportedScene
from neuralusd.datasets.imported.annotated import annotated
from neuralusd.datasets.imported.clips import Annotators, ClipWarning, find_clips, read_poses, scene_of
from neuralusd.datasets.imported.scene import ImportedFrame
from neuralusd.datasets.imported.write import write_scene
from neuralusd.datasets.packed import pack
from neuralusd.datasets.world import open_world

BOXES = [(10, 10, 40, 40), (50, 20, 80, 50)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    made = {name: tiny.seeded(getattr(tiny, name), root / name) for name in ("yolos", "sam", "sam2_video", "zoedepth")}
    return {name: str(folder) for name, folder in made.items()}


@pytest.fixture(scope="module")
def pictures():
    """Four of noise, 90x60, each shifted a little: random weights see nothing in anything else."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    return [np.ascontiguousarray(noise[:, shift : shift + 90]) for shift in range(4)]


def write_video(path, pictures, rate=5):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory, pictures):
    return write_video(tmp_path_factory.mktemp("clips") / "my clip.mp4", pictures)


def disk(x, y, radius=8, shape=(60, 90)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


class TestFollowing:
    def test_masks_are_followed_by_their_overlap_and_their_label(self):
        """Two cups pass near each other, listed in another order in every frame; a table lies where the first was."""
        at = [(20 + 4 * t, 20) for t in range(5)], [(70 - 4 * t, 40) for t in range(5)]
        seen = []
        for t in range(5):
            found = [("cup", disk(*at[0][t])), ("cup", disk(*at[1][t])), ("table", disk(20, 20))]
            order = [(t + i) % 3 for i in range(3)]
            seen.append(([found[i][0] for i in order], [found[i][1] for i in order]))
        labels, objects = associate(seen)
        assert labels == ["cup", "cup", "table"]
        for t in range(5):
            assert objects[t] == [(t + i) % 3 for i in range(3)]

    def test_what_was_hidden_for_a_while_is_the_same_and_for_long_is_another(self):
        cup = (["cup"], [disk(30, 30)])
        nothing = ([], [])
        assert associate([cup, nothing, nothing, nothing, cup])[1] == [[0], [], [], [], [0]]
        assert associate([cup, nothing, nothing, nothing, nothing, cup])[1] == [[0], [], [], [], [], [1]]

    def test_the_tracker_begins_with_the_masks_of_the_boxes(self, models, pictures):
        """SAM 2's first frame is what SAM 2 of a single picture answers with the same weights."""
        images = [Image.fromarray(picture) for picture in pictures]
        followed = track(images, models["sam2_video"], BOXES)
        assert len(followed) == 4 and all(mask.shape == (60, 90) for of_frame in followed for mask in of_frame)
        alone = segment(images[0], models["sam2_video"], BOXES)
        assert all((a == b).all() and 0 < a.mean() < 1 for a, b in zip(followed[0], alone, strict=True))
        assert (followed[1][0] != followed[0][0]).any()

    def test_what_is_no_tracker_is_refused_by_its_name(self, models, pictures):
        with pytest.raises(ModelError, match="is of type sam; give a SAM 2 for video"):
            track([Image.fromarray(pictures[0])], models["sam"], BOXES)


@pytest.mark.parametrize("follow", ["segmenter", "tracker"])
def test_a_clip_becomes_a_world_to_train_on(follow, models, clip, tmp_path, capsys):
    out = tmp_path / "world"
    arguments = ["data", "import", "video", str(clip), "--out", str(out), "--detector", models["yolos"]]
    arguments += ["--threshold", "0", "--depth", models["zoedepth"], "--objects", "4", "--resolution", "32"]
    arguments += [f"--{follow}", models["sam" if follow == "segmenter" else "sam2_video"]]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["scenes"] == {"train": 1}
    assert any("field of view of 50 degrees was assumed" in note for note in said["notes"])
    (scene,) = open_world(out, "train")
    assert scene.id == "my_clip" and scene.about["camera"] == "standing still" and len(scene.frames) == 4
    found = list(frames(out, "train"))
    for _, usd, passes in found:
        assert 1 <= len(usd.foreground) <= 4 and usd.foreground[0].extent is not None
        assert usd.foreground[0].text in ("chair", "table", "cup")
        assert np.isfinite(passes.depth).any() and passes.color.shape == (32, 32, 3)
    packed = pack(found, 5)
    assert packed.has_pose_3d[:, 1].any()


def test_without_depth_objects_have_2d_boxes(models, clip, tmp_path):
    out = tmp_path / "world"
    arguments = ["data", "import", "video", str(clip), "--out", str(out), "--detector", models["yolos"]]
    assert main([*arguments, "--threshold", "0", "--segmenter", models["sam"], "--resolution", "32"]) == 0
    for _, usd, passes in frames(out, "train"):
        assert all(asset.extent is None and asset.box2d is not None for asset in usd.foreground)
        assert not np.isfinite(passes.depth).any()


@pytest.fixture(scope="module")
def seen():
    """A stage whose geometry is known, as perfect models would see it from its moving camera."""
    stage = tiny_world.boxes_stage(0, frames=3)
    rendered = [tiny_world.frame(stage, time, 96) for time in (1, 2, 3)]
    annotations, poses = [], []
    for scene, passes in rendered:
        camera = scene.camera
        view = 2 * np.degrees(np.arctan(camera.horizontal_aperture / 2 / camera.focal_length))
        paths = [asset.path for asset in scene.foreground]
        ids = np.full(passes.ids.shape, -1, np.int32)
        for number, path in enumerate(paths):
            ids[passes.ids == [asset.path for asset in scene.assets].index(path)] = number
        annotations.append(Annotation(passes.color, ids, ["box"] * 2, [1.0] * 2, passes.depth, view))
        poses.append(np.linalg.inv(camera.world_to_camera))
    return rendered, annotations, np.array(poses)


class TestBoxes:
    def test_boxes_of_a_posed_camera_are_where_the_objects_are(self, seen):
        rendered, annotations, poses = seen
        scene = scene_of(annotations, poses)
        for number, (truth, _) in enumerate(rendered):
            for thing, asset in zip(scene.objects, truth.foreground, strict=True):
                corners = asset.corners()
                middle, size = thing.local_to_world[number, 3, :3], thing.extent[1] - thing.extent[0]
                # The back of what is seen is a guess; the sides are within half of the box's own size.
                assert np.abs(middle - corners.mean(0)).max() < 0.25 * np.ptp(corners, axis=0).max()
                np.testing.assert_allclose(size, np.ptp(corners, axis=0), rtol=0.5)

    def test_what_moves_moves_as_far_in_the_import(self, seen):
        rendered, annotations, poses = seen
        scene = scene_of(annotations, poses)
        path = np.array([truth.foreground[0].local_to_world[3, :3] for truth, _ in rendered])
        ours = scene.objects[0].local_to_world[:, 3, :3]
        np.testing.assert_allclose(ours[2] - ours[0], path[2] - path[0], atol=0.12)

    def test_it_is_written_and_read_as_any_world(self, seen, tmp_path):
        _, annotations, poses = seen
        folder = tmp_path / "scenes" / "train" / "clip"
        folder.mkdir(parents=True)
        write_scene(scene_of(annotations, poses), folder, {"id": "clip"}, resolution=96)
        for (_, usd, passes), annotation in zip(frames(tmp_path, "train"), annotations, strict=True):
            for number, asset in enumerate(usd.foreground):
                assert ((passes.ids == usd.assets.index(asset)) == (annotation.ids == number)).all()
                h, w, _ = usd.camera.project(asset.corners()).T
                rows, columns = np.nonzero(annotation.ids == number)
                inside = (rows / 96 > h.min()) & (rows / 96 < h.max()) & (columns / 96 > w.min())
                assert (inside & (columns / 96 < w.max())).mean() > 0.9


class TestPoses:
    def poses(self, path, count=4, **changes):
        matrix = np.eye(4)
        matrix[:3, 3] = 1, 2, 3
        said = {"fl_x": 50, "w": 100, "frames": [{"transform_matrix": matrix.tolist()}] * count} | changes
        path.write_text(json.dumps(said))
        return path

    def test_transforms_json_is_read_on_row_vectors(self, tmp_path):
        poses = read_poses(self.poses(tmp_path / "transforms.json"), 4)
        assert poses.camera_to_world.shape == (4, 4, 4) and poses.camera_to_world[0, 3].tolist() == [1, 2, 3, 1]
        assert poses.field_of_view == pytest.approx(90)

    @pytest.mark.parametrize(
        "changes, says",
        [
            ({"frames": [{"file": "a.png"}]}, "is no transforms.json"),
            ({"frames": [{"transform_matrix": np.diag([2.0, 2, 2, 1]).tolist()}] * 4}, "poses that are no motion"),
            ({"frames": []}, "has 0 poses, its video 4 frames"),
        ],
    )
    def test_wrong_files_are_named(self, tmp_path, changes, says):
        path = self.poses(tmp_path / "transforms.json", **changes)
        with pytest.raises(DatasetError, match=says) as error:
            read_poses(path, 4)
        assert str(path) in str(error.value)
        path.write_text('{"frames": [')
        with pytest.raises(DatasetError, match="is no whole JSON file"):
            read_poses(path, 4)

    def test_poses_of_another_number_of_frames_stop_the_import(self, clip, tmp_path):
        path = self.poses(tmp_path / "transforms.json", count=3)
        with pytest.raises(DatasetError, match="has 3 poses, its video 4 frames"):
            find_clips([clip], Annotators("d", "s"), poses=path)


class TestDatasetsThatLackMasksAndDepth:
    @pytest.fixture
    def scene(self, pictures):
        """One object 4 m in front of a camera that stands still."""
        pose = np.eye(4)
        pose[3, :3] = 0.2, 0.1, -4
        box = ImportedObject("box", extent=np.array([[-1.0] * 3, [1.0] * 3]), local_to_world=np.tile(pose, (4, 1, 1)))
        camera = ImportedCamera((90, 60), np.array([80.0, 80]), np.array([45.0, 30]), np.tile(np.eye(4), (4, 1, 1)))
        return ImportedScene(camera, [box], lambda indices: (ImportedFrame(pictures[i]) for i in indices))

    def test_masks_are_the_segmenters_answer_to_the_projected_box(self, scene, models, pictures):
        (frame,) = annotated(scene, segmenter=models["sam"]).frames([2])
        x, y = (np.array([-0.8, 1.2]) / 3 * 80 + 45), (np.array([-1.1, 0.9]) / 3 * 80 + 30)
        box = (x[0], max(y[0], 0.0), x[1], y[1])
        (expected,) = segment(Image.fromarray(pictures[2]), models["sam"], [box])
        assert ((frame.ids == 0) == expected).all() and frame.depth is None

    def test_depth_agrees_with_the_boxes(self, scene, models):
        (frame,) = annotated(scene, depth=models["zoedepth"]).frames([0])
        rows, columns = slice(1, 53), slice(24, 76)
        assert np.median(frame.depth[rows, columns]) == pytest.approx(4, rel=0.05)
        assert frame.ids is None


class TestWrongInput:
    def say(self, arguments, capsys):
        status = main(["data", "import", "video", *map(str, arguments)])
        return status, capsys.readouterr().err

    def test_an_empty_video_is_left_out_and_the_others_are_imported(self, clip, models, tmp_path):
        from neuralusd.datasets.imported.run import import_clips

        empty = tmp_path / "empty.mp4"
        empty.touch()
        annotators = Annotators(models["yolos"], segmenter=models["sam"], threshold=0.0)
        with pytest.warns(ClipWarning), pytest.warns(DatasetWarning, match=f"{empty} is empty"):
            assert import_clips([empty, clip], tmp_path / "w", annotators, resolution=32) == {"train": 1}

    def test_nothing_found_names_the_clip_and_the_cure(self, clip, models, tmp_path, capsys):
        arguments = [clip, "--out", tmp_path / "w", "--detector", models["yolos"], "--segmenter", models["sam"]]
        status, err = self.say([*arguments, "--threshold", "0.99"], capsys)
        assert status == 1 and str(clip) in err and "lower the threshold" in err and "Traceback" not in err

    def test_usage(self, clip, tmp_path, capsys):
        status, err = self.say([clip, "--out", tmp_path / "w", "--detector", "d"], capsys)
        assert status == 2 and "name a --segmenter or a --tracker" in err
        status, err = self.say([tmp_path, "--out", tmp_path / "w", "--detector", "d", "--tracker", "t"], capsys)
        assert status == 1 and f"{tmp_path} has no video in it" in err
        missing = tmp_path / "missing.mp4"
        status, err = self.say([missing, "--out", tmp_path / "w", "--detector", "d", "--tracker", "t"], capsys)
        assert status == 1 and f"there is no video {missing}" in err

    def test_a_missing_model_stops_the_import_with_a_cure(self, clip, models, tmp_path, capsys):
        arguments = [clip, "--out", tmp_path / "w", "--detector", tmp_path / "none", "--segmenter", models["sam"]]
        status, err = self.say(arguments, capsys)
        assert status == 1 and f"the detector {tmp_path / 'none'} is not a folder here" in err

    def test_an_annotated_clip_needs_masks_from_somewhere(self, pictures):
        with pytest.raises(ValueError, match="a segmenter or from a tracker"):
            annotate_clip(pictures, detector="d")

    def test_nothing_in_a_clip(self, pictures, models):
        with pytest.raises(ImageError, match="no object was found in 2 frames or more"):
            annotate_clip(pictures, detector=models["yolos"], segmenter=models["sam"], threshold=0.99)


def test_long_clips_are_several_scenes(tmp_path):
    small = [np.full((16, 16, 3), number, np.uint8) for number in range(62)]
    file = write_video(tmp_path / "long.mkv", small)
    found = find_clips([file], Annotators("d", "s"))
    assert [reference.id for reference in found] == ["long_0000", "long_0001", "long_0002"]
    assert [reference.id for reference in find_clips([file], Annotators("d", "s"), rate=1.0)] == ["long"]
