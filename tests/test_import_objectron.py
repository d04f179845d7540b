"""Objectron's annotation protobufs and clips, written as its definition says, become a world to train on."""

import base64
import json
import zlib

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from neuralusd.cli import main
from neuralusd.datasets.frames import frames
from neuralusd.datasets.imported import DatasetError, DatasetWarning
from neuralusd.datasets.imported.objectron import UNIT_BOX, read_sequence
from neuralusd.datasets.imported.objectron_messages import message_classes
from neuralusd.datasets.imported.run import import_dataset
from neuralusd.datasets.packed import pack
from neuralusd.datasets.world import open_world

WIDTH, HEIGHT = 96, 128  # of the upright picture
COUNT = 5
# 3x3 row-major, in pixels of the picture as the sensor lies: 128 wide, 96 high.
INTRINSICS = np.array([[110.0, 0, 60], [0, 112, 50], [0, 0, 1]])
BOX = dict(id=3, rotation=(0.3, 0.5, 0.1), translation=(0.05, 0.1, -0.02), scale=(0.3, 0.2, 0.4))
# One message that Objectron's own generated classes serialized (`objectron/schema/annotation_data_pb2.py`).
PUBLISHED = (
    "eJzjiuJgF2JOLi2QYFRSYYCDBnsIRgYQvhYPkADJ7gfSDkY8Z8+csT17xsdu1syZdla8vEDB/VpsyflFealFQhsYOViElIEWSHEwC7HKAuUOSPED"
    "lTTYiQL12oMEHGRBBksVcDBLOSBZA2Q7AHEDEC8A4gNA/AAk78jAIADECkBsAMQOQBwAxAlAXOCo0cBvsIDbSoWhYbcLxKwCCA3mm7gge0URwvhh"
    "D/IPwkoAvoAqFQ=="
)


def rotation(angles):
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", angles).as_matrix()


def view_matrix(frame):
    """World to the landscape camera of an upright phone that goes round the box: columns, OpenGL's axes."""
    angle = 0.2 + 0.15 * frame
    eye = np.array([1.6 * np.sin(angle), 0.7, 1.6 * np.cos(angle)])
    back = eye / np.linalg.norm(eye)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    # the sensor's right is down in the upright picture, and its up is right
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([-up, right, back], 1), eye
    return np.linalg.inv(pose)


def projection_matrix():
    """ARKit's, for the picture as the sensor lies."""
    (fx, _, cx), (_, fy, cy), _ = INTRINSICS
    near, far = 0.001, 1000.0
    return np.array(
        [
            [2 * fx / HEIGHT, 0, 1 - 2 * cx / HEIGHT, 0],
            [0, 2 * fy / WIDTH, 2 * cy / WIDTH - 1, 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def keypoints(frame):
    """(9, 3): places in the upright picture, 0..1 right and down, and depths, by the intrinsics alone."""
    world = (UNIT_BOX * BOX["scale"]) @ rotation(BOX["rotation"]).T + BOX["translation"]
    x, y, z = (np.c_[world, np.ones(9)] @ view_matrix(frame).T)[:, :3].T
    (fx, _, cx), (_, fy, cy), _ = INTRINSICS
    across, down = cx + fx * x / -z, cy - fy * y / -z  # of the picture as the sensor lies
    return np.stack([1 - down / WIDTH, across / HEIGHT, -z], 1)  # turned clockwise it is upright


def sequence(count=COUNT):
    message = message_classes()["Sequence"]()
    box = message.objects.add(id=BOX["id"], category="cereal_box", type=1)
    box.rotation.extend(rotation(BOX["rotation"]).flatten())
    box.translation.extend(BOX["translation"])
    box.scale.extend(BOX["scale"])
    for number in range(count):
        frame = message.frame_annotations.add(frame_id=number, timestamp=number / 30)
        frame.camera.image_resolution_width, frame.camera.image_resolution_height = HEIGHT, WIDTH
        frame.camera.intrinsics.extend(INTRINSICS.flatten())
        frame.camera.view_matrix.extend(view_matrix(number).flatten())
        frame.camera.projection_matrix.extend(projection_matrix().flatten())
        frame.camera.transform.extend(np.linalg.inv(view_matrix(number)).flatten())
        annotation = frame.annotations.add(object_id=BOX["id"], visibility=1)
        for index, (x, y, depth) in enumerate(keypoints(number)):
            point = annotation.keypoints.add(id=index)
            point.point_2d.x, point.point_2d.y, point.point_2d.depth = x, y, depth
    return message


def write_video(path, count=COUNT):
    """An upright clip as a phone stores it: frames as the sensor lies, and how to turn them. A dot on each keypoint."""
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "6", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = HEIGHT, WIDTH, "yuv444p"
        stream.set_display_rotation(-90)
        for number in range(count):
            picture = Image.new("RGB", (WIDTH, HEIGHT), (40, 40, 60))
            draw = ImageDraw.Draw(picture)
            for x, y, _ in keypoints(number):
                x, y = x * WIDTH - 0.5, y * HEIGHT - 0.5
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(250, 220, 20))
            turned = np.ascontiguousarray(np.rot90(np.asarray(picture)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(turned, format="rgb24")))
        container.mux(stream.encode())


def write_clip(source, name="cereal_box/batch-1/2", message=None, count=COUNT):
    annotation, folder = source / "annotations" / f"{name}.pbdata", source / "videos" / name
    annotation.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    annotation.write_bytes((message or sequence()).SerializeToString())
    write_video(folder / "video.MOV", count)
    return annotation, folder / "video.MOV"


@pytest.fixture(scope="module")
def objectron(tmp_path_factory):
    source = tmp_path_factory.mktemp("objectron")
    write_clip(source)
    write_clip(source, "cereal_box/batch-1/3")
    (source / "index").mkdir()
    (source / "index" / "cereal_box_annotations_test").write_text("cereal_box/batch-1/3\n")
    return source


@pytest.fixture(scope="module")
def world(objectron, tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "w"
    assert main(["data", "import", "objectron", str(objectron), "--out", str(out), "--resolution", "96"]) == 0
    return out


def cropped(points):
    """Places in the upright picture (0..1) to places in its middle, which is as wide as high in view angle."""
    height = WIDTH * INTRINSICS[0, 0] / INTRINSICS[1, 1]
    return points[:, 0], (points[:, 1] * HEIGHT - (HEIGHT - height) / 2) / height


def test_boxes_land_on_the_annotated_keypoints(world):
    (scene,) = open_world(world, "train")
    assert scene.id == "cereal_box_batch-1_2"
    found = list(frames(world, "train"))
    assert len(found) == COUNT
    for number, (_, usd, _) in enumerate(found):
        (box,) = usd.foreground
        assert box.text == "cereal box" and box.labels == ("cereal box",) and usd.up_axis == "Y"
        h, w, depth = usd.camera.project(box.corners()).T
        across, down = cropped(keypoints(number)[1:])
        np.testing.assert_allclose(w, across, atol=2e-5)
        np.testing.assert_allclose(h, down, atol=2e-5)
        np.testing.assert_allclose(depth, keypoints(number)[1:, 2], atol=1e-5)
        np.testing.assert_allclose(sorted(box.extent[1] - box.extent[0]), sorted(BOX["scale"]), atol=1e-6)


def test_pictures_stand_upright_under_the_boxes(world):
    """At every corner of the stage's box there is the dot that the clip shows at its keypoint."""
    for _, usd, passes in frames(world, "train"):
        (box,) = usd.foreground
        for h, w, _ in usd.camera.project(box.corners()):
            if 0.05 < h < 0.95 and 0.05 < w < 0.95:
                red, green, blue = passes.color[int(h * 96), int(w * 96)]
                assert red > 0.7 and green > 0.6 and blue < 0.4
        assert passes.color[2, 2].max() < 0.4
        mask = passes.ids == usd.assets.index(box)
        assert 0.03 < mask.mean() < 0.5 and not np.isfinite(passes.depth).any()


def test_the_index_decides_what_is_held_out_and_the_world_packs(world):
    assert [scene.id for scene in open_world(world, "held_out_scenes")] == ["cereal_box_batch-1_3"]
    packed = pack(frames(world, "train"), 3)
    assert packed.has_pose_3d[:, 1].all() and packed.has_pose_2d[:, 1].all()


def test_field_numbers_are_the_published_ones(tmp_path):
    file = tmp_path / "published.pbdata"
    file.write_bytes(zlib.decompress(base64.b64decode(PUBLISHED)))
    message = read_sequence(file)
    (thing,), (frame,) = message.objects, message.frame_annotations
    assert (thing.id, thing.category, thing.type) == (7, "cup", 1)
    assert list(thing.rotation) == [0, 0, 1, 1, 0, 0, 0, 1, 0] and list(thing.translation) == [0.5, -1, 2]
    np.testing.assert_allclose(thing.scale, [0.1, 0.2, 0.3], rtol=1e-6)
    assert frame.frame_id == 4 and frame.timestamp == 1.5 and list(frame.camera.transform) == list(range(16))
    assert (frame.camera.image_resolution_width, frame.camera.image_resolution_height) == (1920, 1440)
    assert list(frame.camera.intrinsics) == [1500, 0, 960, 0, 1500, 720, 0, 0, 1]
    point = frame.annotations[0].keypoints[0]
    assert (point.point_2d.x, point.point_2d.y, point.point_2d.depth, point.point_3d.z) == (0.25, 0.75, 2, -2)


def left_out(source, out):
    """Imports a folder with a damaged clip; what is said of it."""
    with pytest.warns(DatasetWarning) as said:
        import_dataset("objectron", source, out, resolution=32, frames=2)
    (line,) = (out / "failed.jsonl").read_text().splitlines()
    (text,) = [str(warning.message) for warning in said if warning.category is DatasetWarning]
    assert json.loads(line)["error"] in text
    assert len(open_world(out, "train")) == 1
    return text


class TestDamagedClipsAreLeftOut:
    @pytest.fixture
    def source(self, tmp_path):
        write_clip(tmp_path / "objectron", "cereal_box/batch-1/2")
        (tmp_path / "objectron" / "index").mkdir()
        (tmp_path / "objectron" / "index" / "cereal_box_annotations_test").write_text("")
        return tmp_path / "objectron"

    def test_truncated_annotation(self, source, tmp_path):
        annotation, _ = write_clip(source, "cereal_box/batch-1/4")
        annotation.write_bytes(annotation.read_bytes()[:-20])
        assert f"{annotation} is no whole Objectron annotation" in left_out(source, tmp_path / "w")

    def test_empty_annotation(self, source, tmp_path):
        annotation, _ = write_clip(source, "cereal_box/batch-1/4")
        annotation.write_bytes(b"")
        assert f"{annotation} is empty" in left_out(source, tmp_path / "w")

    def test_empty_video(self, source, tmp_path):
        _, video = write_clip(source, "cereal_box/batch-1/4")
        video.write_bytes(b"")
        assert f"{video} is empty" in left_out(source, tmp_path / "w")

    def test_cut_video(self, source, tmp_path):
        _, video = write_clip(source, "cereal_box/batch-1/4")
        video.write_bytes(video.read_bytes()[:2000])
        assert str(video) in left_out(source, tmp_path / "w")

    def test_missing_video(self, source, tmp_path):
        _, video = write_clip(source, "cereal_box/batch-1/4")
        video.unlink()
        assert f"{video.parent} has no video.MOV" in left_out(source, tmp_path / "w")

    def test_more_annotated_frames_than_the_video_has(self, source, tmp_path):
        annotation, video = write_clip(source, "cereal_box/batch-1/4", count=3)
        text = left_out(source, tmp_path / "w")
        assert f"{annotation} annotates frame 4" in text and f"{video} has 3 frames" in text

    def test_a_camera_that_does_not_fit_the_keypoints(self, source, tmp_path):
        message = sequence()
        for frame in message.frame_annotations:  # as if it were of the upright picture
            turned = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ view_matrix(frame.frame_id)
            frame.camera.view_matrix[:] = turned.flatten()
        write_clip(source, "cereal_box/batch-1/4", message)
        assert "% of the picture away from its own 2D keypoints" in left_out(source, tmp_path / "w")

    def test_a_box_that_is_not_finite(self, source, tmp_path):
        message = sequence()
        message.objects[0].scale[1] = float("nan")
        annotation, _ = write_clip(source, "cereal_box/batch-1/4", message)
        assert f"{annotation}: object 3 (scale) has values that are not finite" in left_out(source, tmp_path / "w")

    def test_a_frame_without_a_camera(self, source, tmp_path):
        message = sequence()
        message.frame_annotations[2].ClearField("camera")
        write_clip(source, "cereal_box/batch-1/4", message)
        assert "the camera of frame 2 (view_matrix) has 0 values" in left_out(source, tmp_path / "w")


def test_a_folder_without_annotations_says_what_is_looked_for(tmp_path):
    with pytest.raises(DatasetError, match="annotations/<class>/<batch>/<number>.pbdata"):
        import_dataset("objectron", tmp_path, tmp_path / "w")


def test_without_an_index_a_fifth_is_held_out_the_same_every_time(tmp_path):
    from neuralusd.datasets.imported.objectron import find_scenes

    for number in range(200):
        file = tmp_path / "annotations" / "cup" / "batch-0" / f"{number}.pbdata"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = find_scenes(tmp_path)
    held_out = [reference.id for reference in found if reference.split == "held_out_scenes"]
    assert 20 < len(held_out) < 70 and found[0].id == "cup_batch-0_0"
    assert held_out == [reference.id for reference in find_scenes(tmp_path) if reference.split == "held_out_scenes"]
