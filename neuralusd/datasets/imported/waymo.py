"""Waymo Open (Sun et al., 2020), Perception, as a world: the front camera and the boxes of vehicles, from Parquet.

Tables, columns and frames of reference are those of version 2, as defined in
https://github.com/waymo-research/waymo-open-dataset, `src/waymo_open_dataset/v2/` (`component.py` for the names of
columns, `perception/{base,box,camera_image,context,pose}.py`) and `tutorial/tutorial_v2.ipynb` for the folders. The
vehicle's x is forward, y left, z up; the camera's x is out of the lens, y left, z up
(`src/waymo_open_dataset/wdl_limited/camera/camera_model.cc`).

As the paper (Neural USD, appendix A.3): the front camera, boxes of vehicles, which turn by their heading alone, and 2D
boxes that are the projected 3D boxes, since the annotated ones are of another sensor and do not fit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .lens import Lens
from .projection import picture_box
from .scene import (
    HELD_OUT_SCENES,
    TRAIN,
    DatasetError,
    ImportedCamera,
    ImportedFrame,
    ImportedObject,
    ImportedScene,
    Reader,
    SceneReference,
)

DESCRIPTION = """\
SOURCE is a folder with Waymo Open's Perception tables, version 2 (Parquet):

  [training|validation/]camera_image/<segment>.parquet
  [training|validation/]camera_calibration/<segment>.parquet
  [training|validation/]lidar_box/<segment>.parquet
  [training|validation/]vehicle_pose/<segment>.parquet

Every segment becomes a scene: the front camera, its lens distortion taken out of
the pictures, and the 3D boxes of vehicles that it sees and lidar hits. 2D boxes
are the projected 3D boxes; so are the masks, unless --segmenter names a model.
There is no depth, unless --depth names one. `training` becomes the split train,
`validation` held_out_scenes; tables that are in neither are train.
"""

SPLITS = {"training": TRAIN, "validation": HELD_OUT_SCENES}
TABLES = ("camera_image", "camera_calibration", "lidar_box", "vehicle_pose")
FRONT = 1  # CameraName.FRONT
VEHICLE = 1  # BoxType.TYPE_VEHICLE
RATE = 10.0  # pictures a second

SEGMENT, TIME, CAMERA = "key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name"
OBJECT = "key.laser_object_id"
IMAGE, IMAGE_POSE = "[CameraImageComponent].image", "[CameraImageComponent].pose.transform"
VEHICLE_POSE = "[VehiclePoseComponent].world_from_vehicle.transform"
CALIBRATION = "[CameraCalibrationComponent]"
INTRINSIC = [f"{CALIBRATION}.intrinsic.{name}" for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")]
EXTRINSIC, WIDTH, HEIGHT = (f"{CALIBRATION}.{name}" for name in ("extrinsic.transform", "width", "height"))
BOX = "[LiDARBoxComponent]"
BOX_NUMBERS = [
    *(f"{BOX}.box.center.{axis}" for axis in "xyz"),
    *(f"{BOX}.box.size.{axis}" for axis in "xyz"),
    f"{BOX}.box.heading",
]
BOX_TYPE, BOX_POINTS = f"{BOX}.type", f"{BOX}.num_lidar_points_in_box"

# Our camera looks down -Z with +Y up; Waymo's along +x with +z up. Columns: our axes in Waymo's camera.
WAYMO_FROM_OURS = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)


def find_scenes(source: Path) -> list[SceneReference]:
    """The segments of a folder. Raises DatasetError where there are none."""
    references = []
    for folder in (source / "training", source / "validation", source):
        for file in sorted((folder / "camera_image").glob("*.parquet")):
            split = SPLITS.get(folder.name, TRAIN)
            references.append(SceneReference(split, file.stem, _loader(folder, file.stem)))
    if not references:
        raise DatasetError(
            f"{source} has no tables of Waymo Open: {source}/[training|validation/]camera_image/<segment>.parquet. "
            "Name the folder of the Perception dataset, version 2 (Parquet); version 1 (TFRecord) is not read"
        )
    return references


def _loader(folder: Path, segment: str) -> Callable[[], ImportedScene]:
    return lambda: load_segment(folder, segment)


def load_segment(folder: Path, segment: str) -> ImportedScene:
    """A segment by its folder of tables and its name. Raises DatasetError that names the file."""
    files = {table: folder / table / f"{segment}.parquet" for table in TABLES}
    image, calibration = files["camera_image"], files["camera_calibration"]
    shots = _front(_read(image, [TIME, CAMERA, IMAGE_POSE]), image)
    lens, extrinsic = _calibration(calibration)
    poses = _read(files["vehicle_pose"], [TIME, VEHICLE_POSE])
    vehicle = {
        int(t): m for t, m in zip(poses[TIME], _matrices(poses, VEHICLE_POSE, files["vehicle_pose"]), strict=True)
    }
    times = [int(time) for time in shots[TIME]]
    if sorted(set(times)) != times:
        order = np.argsort(shots[TIME], kind="stable")
        shots = {name: [values[i] for i in order] for name, values in shots.items()}
        times = [int(time) for time in shots[TIME]]
        if len(set(times)) != len(times):
            raise DatasetError(f"{image} has several pictures of the front camera at one time; download it again")
    missing = [time for time in times if time not in vehicle]
    if missing:
        raise DatasetError(
            f"{files['vehicle_pose']} has no pose for {len(missing)} of the {len(times)} pictures of {image}: "
            "they do not belong together, or it is incomplete. Download both again"
        )
    # The car's own pose at the time of the picture, which is not that of the boxes' frame.
    to_world = _matrices(shots, IMAGE_POSE, image) @ extrinsic @ WAYMO_FROM_OURS
    # The world's origin is kilometres away, too far for single precision: put it where the clip begins.
    origin = np.round(to_world[0, :3, 3])
    to_world[:, :3, 3] -= origin
    camera = ImportedCamera(lens.size, lens.focal, lens.center, to_world.transpose(0, 2, 1))
    objects = _objects(files["lidar_box"], times, vehicle, origin, camera)

    def pictures(indices: Sequence[int]) -> Iterator[ImportedFrame]:
        for index in indices:
            yield ImportedFrame(lens.straightened(_picture(image, times[index], lens.size)))

    return ImportedScene(
        camera=camera,
        objects=objects,
        frames=pictures,
        up_axis="Z",
        frames_per_second=RATE,
        background="street",
        about={"segment": segment, "tables": str(folder), "origin": origin.tolist()},
    )


def _read(path: Path, columns: list[str], filters: list[tuple] | None = None) -> dict[str, list[Any]]:
    """Columns of a table, as lists. Raises DatasetError where the file or a column is missing, or the file damaged."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"reading Waymo Open needs pyarrow: pip install 'neuralusd[datasets]' ({' '.join(str(error).split())})"
        ) from error
    if not path.is_file():
        raise DatasetError(f"there is no {path}; download the table {path.parent.name} of this segment too")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty (0 bytes); download it again")
    try:
        there = pyarrow.parquet.read_schema(path).names
        missing = [column for column in columns if column not in there]
        if missing:
            raise DatasetError(
                f"{path} has no column {missing[0]}, so it is not the table {path.parent.name} of Waymo Open, version 2"
            )
        table = pyarrow.parquet.read_table(path, columns=columns, filters=filters, partitioning=None)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is no whole Parquet file ({_first_line(error)}); download it again") from error
    return {name: table.column(name).to_pylist() for name in columns}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _front(rows: dict[str, list[Any]], path: Path) -> dict[str, list[Any]]:
    """The rows of the front camera."""
    keep = [index for index, name in enumerate(rows[CAMERA]) if name == FRONT]
    if not keep:
        raise DatasetError(f"{path} has no row of the front camera (camera_name {FRONT})")
    return {name: [values[index] for index in keep] for name, values in rows.items()}


def _matrices(rows: dict[str, list[Any]], column: str, path: Path) -> np.ndarray:
    """(T, 4, 4) of a column of row-major transforms, which act on column vectors."""
    try:
        matrices = np.array(rows[column], np.float64).reshape(-1, 4, 4)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: {column} is not 16 numbers in every row; download it again") from error
    if not np.isfinite(matrices).all() or (np.abs(np.linalg.det(matrices[:, :3, :3]) - 1) > 0.01).any():
        raise DatasetError(f"{path}: {column} has matrices that are no motion; download it again")
    return matrices


def _numbers(rows: dict[str, list[Any]], columns: list[str], path: Path) -> np.ndarray:
    """(rows, columns) float64, all finite."""
    values = np.array([rows[column] for column in columns], np.float64).T
    if not np.isfinite(values).all():
        bad = columns[int(np.argwhere(~np.isfinite(values))[0, 1])]
        raise DatasetError(f"{path}: {bad} has values that are missing or not finite; download it again")
    return values


def _calibration(path: Path) -> tuple[Lens, np.ndarray]:
    """The front camera's lens, and its pose (4, 4) in the vehicle's frame."""
    rows = _front(_read(path, [CAMERA, *INTRINSIC, EXTRINSIC, WIDTH, HEIGHT]), path)
    numbers = _numbers(rows, [*INTRINSIC, WIDTH, HEIGHT], path)[0]
    if (numbers[:2] <= 0).any() or (numbers[-2:] < 1).any():
        raise DatasetError(f"{path}: the front camera has no focal length or no size; download it again")
    size = (int(numbers[-2]), int(numbers[-1]))
    return Lens(size, numbers[:2], numbers[2:4], numbers[4:9]), _matrices(rows, EXTRINSIC, path)[0]


def _objects(
    path: Path, times: list[int], vehicle: dict[int, np.ndarray], origin: np.ndarray, camera: ImportedCamera
) -> list[ImportedObject]:
    """The vehicles that the front camera sees, each by its id over all pictures."""
    rows = _read(path, [TIME, OBJECT, BOX_TYPE, BOX_POINTS, *BOX_NUMBERS])
    numbers = _numbers(rows, BOX_NUMBERS, path)
    frame = {time: index for index, time in enumerate(times)}
    if rows[TIME] and not any(int(time) in frame for time in rows[TIME]):
        raise DatasetError(f"{path} has boxes, but at none of the times of the pictures: it is of another segment")
    tracks: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row, (time, name, kind, hits) in enumerate(
        zip(rows[TIME], rows[OBJECT], rows[BOX_TYPE], rows[BOX_POINTS], strict=True)
    ):
        # What no ray of the lidar meets is hidden behind something.
        if kind == VEHICLE and time in frame and hits:
            tracks.setdefault(str(name), []).append((frame[time], numbers[row]))
    objects = []
    for name in sorted(tracks):
        thing = _object(name, tracks[name], times, vehicle, origin, path)
        seen = [picture_box(camera, thing, index) is not None for index in range(len(times))]
        if any(seen):
            thing.presence = np.array(seen)
            objects.append(thing)
    return objects


def _object(
    name: str,
    track: list[tuple[int, np.ndarray]],
    times: list[int],
    vehicle: dict[int, np.ndarray],
    origin: np.ndarray,
    path: Path,
) -> ImportedObject:
    """One vehicle; `presence` are the pictures for which it is annotated."""
    sizes = np.array([numbers[3:6] for _, numbers in track])
    if (sizes <= 0).any():
        raise DatasetError(f"{path}: the object {name} has a box without size; download it again")
    usual = np.median(sizes, axis=0)
    matrices = np.full((len(times), 4, 4), np.nan)
    present = np.zeros(len(times), bool)
    for index, numbers in track:
        cosine, sine = np.cos(numbers[6]), np.sin(numbers[6])
        box = np.eye(4)
        box[:2, :2] = [[cosine, -sine], [sine, cosine]]
        box[:3, 3] = numbers[:3]
        to_world = vehicle[times[index]] @ box
        to_world[:3, 3] -= origin
        # Boxes of one vehicle mostly are of one size; where they are not, it is scaled.
        to_world[:3, :3] *= numbers[3:6] / usual
        matrices[index], present[index] = to_world.T, True
    return ImportedObject(
        name="vehicle",
        text="vehicle",
        labels={"category": ["vehicle"]},
        extent=np.stack([-usual / 2, usual / 2]),
        local_to_world=matrices,
        presence=present,
        about={"laser_object_id": name},
    )


def _picture(path: Path, time: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 of the front camera at a time, as the lens bent it."""
    from PIL import Image

    rows = _read(path, [IMAGE], [(TIME, "==", time), (CAMERA, "==", FRONT)])
    try:
        with Image.open(io.BytesIO(rows[IMAGE][0])) as image:
            picture = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise DatasetError(
            f"{path}: the picture at {time} is damaged ({_first_line(error)}); download it again"
        ) from error
    if picture.shape[1::-1] != size:
        found = "x".join(str(side) for side in picture.shape[1::-1])
        raise DatasetError(
            f"{path}: the picture at {time} is {found}, its camera {size[0]}x{size[1]}; download it again"
        )
    return picture


READER = Reader(
    kind="waymo",
    title="Waymo Open",
    summary="drives: the front camera and vehicles' boxes, from Parquet",
    description=DESCRIPTION,
    find=find_scenes,
)
