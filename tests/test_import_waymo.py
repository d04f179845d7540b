"""Waymo Open's Parquet tables, written with the columns and types of its definition, become a world to train on."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from neuralusd.cli import main
from neuralusd.datasets.frames import frames
from neuralusd.datasets.imported import DatasetError, DatasetWarning
from neuralusd.datasets.imported.lens import Lens
from neuralusd.datasets.imported.run import import_dataset
from neuralusd.datasets.packed import pack
from neuralusd.datasets.world import open_world

SEGMENT = "10023947602400723454_1120_000_1140_000"
WIDTH, HEIGHT = 192, 128
F_U, F_V, C_U, C_V = 205.0, 205.0, 94.0, 66.0
K1, K2, P1, P2, K3 = -0.45, 0.1, 0.004, -0.006, 0.05
TIMES = [1552440195362591 + 100_000 * t for t in range(4)]
SIDES = (4.5, 1.9, 1.6)
# In the vehicle's frame: middle (x forward, y left, z up) and heading, at each time. The second car drives ahead.
CARS = {
    "parked": [((14.0 - t, 3.0, 0.9), 0.4) for t in range(4)],
    "driving": [((12.0 + 0.5 * t, -2.5, 0.9), 3.0 + 0.1 * t) for t in range(4)],
}
TRANSFORM = pa.list_(pa.float64(), 16)
# [component].field to type, as `v2/perception/*.py` define them.
KEYS = {
    "key.segment_context_name": pa.string(),
    "key.frame_timestamp_micros": pa.int64(),
    "key.camera_name": pa.int8(),
    "key.laser_object_id": pa.string(),
}


def turn(axis, angle):
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(axis, angle).as_matrix()
    return matrix


def shift(*offset):
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def vehicle_pose(t):
    """World from vehicle: far from the origin, as the dataset's are, on a hill, turning."""
    return shift(860.6 + t, 15568.7, -651.4) @ turn("z", 0.8 + 0.02 * t) @ turn("y", 0.05)


def image_pose(t):
    """The vehicle when the picture was taken: a little later."""
    return vehicle_pose(t) @ shift(0.3, 0.0, 0.01)


def extrinsic():
    """Vehicle from camera; the camera's x is out of the lens, y left, z up."""
    return shift(1.5, -0.02, 2.1) @ turn("y", 0.06) @ turn("z", -0.01)


def corners(name, t):
    """(8, 3) in the world."""
    middle, heading = CARS[name][t]
    unit = np.array([[x, y, z, 2] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    local = unit * [*SIDES, 1]
    return (local @ (vehicle_pose(t) @ shift(*middle) @ turn("z", heading)).T)[:, :3]


def pinhole(points, t):
    """World points to pixels right and down, and depth, by the definition: u = -y / x, v = -z / x."""
    camera = np.linalg.inv(image_pose(t) @ extrinsic())
    x, y, z = (np.c_[points, np.ones(len(points))] @ camera.T)[:, :3].T
    return np.stack([F_U * -y / x + C_U, F_V * -z / x + C_V, x], 1)


def bent(pixels):
    """Where the lens shows it (OpenCV's model)."""
    x, y = (pixels[:, 0] - C_U) / F_U, (pixels[:, 1] - C_V) / F_V
    r = x**2 + y**2
    radial = 1 + K1 * r + K2 * r**2 + K3 * r**3
    u = x * radial + 2 * P1 * x * y + P2 * (r + 2 * x**2)
    v = y * radial + P1 * (r + 2 * y**2) + 2 * P2 * x * y
    return np.stack([u * F_U + C_U, v * F_V + C_V], 1)


def jpeg(t):
    """The front camera's picture: a dot where the lens shows each corner."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (30, 40, 60))
    draw = ImageDraw.Draw(picture)
    for name in CARS:
        for x, y in bent(pinhole(corners(name, t), t)) - 0.5:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(250, 220, 20))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def table(columns):
    """Name to (type, values); the types of keys are known."""
    return pa.table(
        {name: pa.array(values, KEYS.get(name, kind)) for name, (kind, values) in columns.items()},
    )


def tables():
    """The four tables of a segment, with more cameras and kinds of objects than are read."""
    shots = [(t, camera) for camera in (2, 1) for t in range(4)]  # the front camera is 1
    boxes = [(t, name, 1, 100) for t in range(4) for name in CARS]
    boxes += [(0, "walker", 2, 50), (1, "hidden", 1, 0), (2, "behind", 1, 80)]
    places = {"walker": ((12.0, 0.0, 1.0), 0.0), "hidden": ((12.0, 0.0, 1.0), 0.0), "behind": ((-15.0, 0.0, 1.0), 0.0)}
    placed = [places.get(name) or CARS[name][t] for t, name, _, _ in boxes]
    image, calibration, box = "[CameraImageComponent]", "[CameraCalibrationComponent]", "[LiDARBoxComponent]"
    real = pa.float64()
    numbers = dict(f_u=F_U, f_v=F_V, c_u=C_U, c_v=C_V, k1=K1, k2=K2, p1=P1, p2=P2, k3=K3)
    return {
        "camera_image": {
            "key.segment_context_name": (None, [SEGMENT] * 8),
            "key.frame_timestamp_micros": (None, [TIMES[t] for t, _ in shots]),
            "key.camera_name": (None, [camera for _, camera in shots]),
            f"{image}.image": (pa.binary(), [jpeg(t) if camera == 1 else b"not read" for t, camera in shots]),
            f"{image}.pose.transform": (TRANSFORM, [image_pose(t).flatten().tolist() for t, _ in shots]),
        },
        "camera_calibration": {
            "key.segment_context_name": (None, [SEGMENT] * 2),
            "key.camera_name": (None, [2, 1]),
            **{f"{calibration}.intrinsic.{name}": (real, [1.0, value]) for name, value in numbers.items()},
            f"{calibration}.extrinsic.transform": (TRANSFORM, [np.eye(4).flatten(), extrinsic().flatten()]),
            f"{calibration}.width": (pa.int32(), [WIDTH] * 2),
            f"{calibration}.height": (pa.int32(), [HEIGHT] * 2),
        },
        "lidar_box": {
            "key.segment_context_name": (None, [SEGMENT] * len(boxes)),
            "key.frame_timestamp_micros": (None, [TIMES[t] for t, *_ in boxes]),
            "key.laser_object_id": (None, [name for _, name, _, _ in boxes]),
            **{f"{box}.box.center.{'xyz'[i]}": (real, [middle[i] for middle, _ in placed]) for i in range(3)},
            **{f"{box}.box.size.{'xyz'[i]}": (real, [SIDES[i]] * len(boxes)) for i in range(3)},
            f"{box}.box.heading": (real, [heading for _, heading in placed]),
            f"{box}.type": (pa.int8(), [kind for *_, kind, _ in boxes]),
            f"{box}.num_lidar_points_in_box": (pa.int64(), [hits for *_, hits in boxes]),
        },
        "vehicle_pose": {
            "key.segment_context_name": (None, [SEGMENT] * 4),
            "key.frame_timestamp_micros": (None, TIMES),
            # Single precision, as in the file of the definition's own test data.
            "[VehiclePoseComponent].world_from_vehicle.transform": (
                pa.list_(pa.float32(), 16),
                [vehicle_pose(t).flatten().tolist() for t in range(4)],
            ),
        },
    }


def write_segment(folder, segment=SEGMENT, contents=None):
    for name, columns in (contents or tables()).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table(columns), folder / name / f"{segment}.parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("waymo"), tmp_path_factory.mktemp("world") / "w"
    write_segment(source / "training")
    write_segment(source / "validation", "held_out")
    assert main(["data", "import", "waymo", str(source), "--out", str(out), "--resolution", "128"]) == 0
    return out


def cropped(pixels):
    """Pixels of the whole picture to places (0..1) in its middle square."""
    return (pixels[:, 0] - (WIDTH - HEIGHT) / 2) / HEIGHT, pixels[:, 1] / HEIGHT


def test_boxes_land_where_the_definition_puts_them(world):
    found = list(frames(world, "train"))
    assert len(found) == 4
    for t, (name, usd, _) in enumerate(found):
        assert name == SEGMENT and usd.up_axis == "Z" and len(usd.foreground) == 2
        for asset, (_, of_object) in zip(usd.foreground, about(world), strict=True):
            assert asset.text == "vehicle"
            # The world is put where the clip begins, so points are compared as the camera sees them.
            w, h, depth = *cropped(pinhole(corners(of_object, t), t)), pinhole(corners(of_object, t), t)[:, 2]
            # poses of the vehicle are in single precision, 15 km from the origin: a millimetre
            np.testing.assert_allclose(usd.camera.project(asset.corners()), np.stack([h, w, depth], 1), atol=2e-3)


def about(world):
    (scene,) = open_world(world, "train")
    return [(entry["path"], entry["laser_object_id"]) for entry in scene.about["objects"]]


def test_only_vehicles_that_the_camera_sees(world):
    assert sorted(name for _, name in about(world)) == ["driving", "parked"]


def test_pictures_are_without_the_lens_distortion(world):
    """The dots that the lens bent are at the corners that a pinhole sees."""
    for t, (_, usd, passes) in enumerate(frames(world, "train")):
        looked_at = 0
        for asset in usd.foreground:
            for h, w, _ in usd.camera.project(asset.corners()):
                if 0.03 < h < 0.97 and 0.03 < w < 0.97:
                    looked_at += 1
                    assert passes.color[int(h * 128), int(w * 128)][:2].min() > 0.6, (t, asset.path)
            assert (passes.ids == usd.assets.index(asset)).sum() > 50
        assert looked_at >= 8
        assert not np.isfinite(passes.depth).any()


def test_a_parked_car_stands_still_though_the_camera_drives(world):
    """In the vehicle's frame it comes nearer by a metre a frame, as the vehicle drives; the world turns too."""
    poses = [[a.local_to_world[3, :3] for a in usd.foreground] for _, usd, _ in frames(world, "train")]
    names = [name for _, name in about(world)]
    for name, track in zip(names, np.array(poses).transpose(1, 0, 2), strict=True):
        expected = np.array([corners(name, t).mean(0) for t in range(4)])
        np.testing.assert_allclose(track - track[0], expected - expected[0], atol=3e-3)


def test_validation_is_held_out_and_the_world_packs(world):
    assert [scene.id for scene in open_world(world, "held_out_scenes")] == ["held_out"]
    packed = pack(frames(world, "train"), 3)
    assert packed.has_pose_3d[:, 1:].all() and len(packed) == 4


def test_a_lens_without_distortion_leaves_pictures_alone():
    picture = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    lens = Lens((12, 8), np.array([10.0, 10]), np.array([6.0, 4]), np.zeros(5))
    assert (lens.straightened(picture) == picture).all()


class TestDamagedSegmentsAreLeftOut:
    @pytest.fixture
    def source(self, tmp_path):
        write_segment(tmp_path / "waymo")
        return tmp_path / "waymo"

    def left_out(self, source, tmp_path):
        out = tmp_path / "w"
        with pytest.warns(DatasetWarning) as said:
            import_dataset("waymo", source, out, resolution=32, frames=2)
        (line,) = (out / "failed.jsonl").read_text().splitlines()
        assert len(open_world(out, "train")) == 1
        text = json.loads(line)["error"]
        assert any(text in str(warning.message) for warning in said)
        return text

    def test_missing_table(self, source, tmp_path):
        write_segment(source, "other")
        (source / "lidar_box" / "other.parquet").unlink()
        text = self.left_out(source, tmp_path)
        assert text == f"there is no {source}/lidar_box/other.parquet; download the table lidar_box of this segment too"

    @pytest.mark.parametrize(
        "name, column",
        [
            ("camera_image", "[CameraImageComponent].image"),
            ("camera_image", "[CameraImageComponent].pose.transform"),
            ("camera_calibration", "[CameraCalibrationComponent].intrinsic.k3"),
            ("lidar_box", "[LiDARBoxComponent].box.heading"),
            ("vehicle_pose", "[VehiclePoseComponent].world_from_vehicle.transform"),
        ],
    )
    def test_missing_column(self, source, tmp_path, name, column):
        contents = tables()
        del contents[name][column]
        write_segment(source, "other", contents)
        text = self.left_out(source, tmp_path)
        assert f"{source}/{name}/other.parquet has no column {column}" in text

    def test_truncated_and_empty_tables(self, source, tmp_path):
        write_segment(source, "other")
        file = source / "lidar_box" / "other.parquet"
        whole = file.read_bytes()
        for data, says in ((whole[:-100], "is no whole Parquet file"), (b"", "is empty (0 bytes)")):
            file.write_bytes(data)
            assert f"{file} {says}" in self.left_out(source, tmp_path)

    def test_damaged_picture(self, source, tmp_path):
        contents = tables()
        kind, pictures = contents["camera_image"]["[CameraImageComponent].image"]
        contents["camera_image"]["[CameraImageComponent].image"] = (kind, [data[:300] for data in pictures])
        write_segment(source, "other", contents)
        text = self.left_out(source, tmp_path)
        assert f"{source}/camera_image/other.parquet: the picture at {TIMES[0]} is damaged" in text

    def test_pictures_without_a_pose_of_the_vehicle(self, source, tmp_path):
        contents = tables()
        contents["vehicle_pose"] = {
            name: (kind, values[:2]) for name, (kind, values) in contents["vehicle_pose"].items()
        }
        write_segment(source, "other", contents)
        assert "vehicle_pose/other.parquet has no pose for 2 of the 4 pictures" in self.left_out(source, tmp_path)

    def test_a_box_that_is_not_finite(self, source, tmp_path):
        contents = tables()
        kind, values = contents["lidar_box"]["[LiDARBoxComponent].box.center.y"]
        contents["lidar_box"]["[LiDARBoxComponent].box.center.y"] = (kind, [float("nan"), *values[1:]])
        write_segment(source, "other", contents)
        text = self.left_out(source, tmp_path)
        assert (
            "lidar_box/other.parquet: [LiDARBoxComponent].box.center.y has values that are missing or not finite"
            in text
        )


def test_a_folder_without_tables_says_what_is_looked_for(tmp_path):
    (tmp_path / "segment.tfrecord").touch()
    with pytest.raises(DatasetError, match="camera_image/<segment>.parquet"):
        import_dataset("waymo", tmp_path, tmp_path / "w")
