"""Files of MOVi-E's format, of small scenes that this makes itself.

The features, their types and their order are those of the published definition,
https://github.com/google-research/kubric/blob/main/challenges/movi/movi_e.py, flattened as
https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/core/example_serializer.py flattens them. Left
out are `normal` and `object_coordinates`, which are 16-bit RGB. The container is written by the `tfrecord` package,
which shares no code with our reader.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tfrecord
from pxr import Gf, Usd, UsdGeom
from scipy.spatial.transform import Rotation

from neuralusd import stage as stages

FOCAL, SENSOR = 35.0, 32.0
ASSETS = ["11pro_SL_TRX_FG", "3D_Dollhouse_Lamp", "BABY_CAR", "Android_Lego"]
CATEGORIES = [14, 16, 16, 10]  # Shoe, Toys, Toys, Legos


@dataclass
class Video:
    """What a file holds, as the dataset says it: `features` of the Example, and the truth beside it.

    `ids` (T, H, W), -1 for the background; `depth` (T, H, W) along the axis; `bounds` (n, 2, 3) of the objects.
    """

    features: dict[str, tuple[Any, str]]
    ids: np.ndarray
    depth: np.ndarray
    bounds: np.ndarray


def movi_video(seed: int = 0, frames: int = 4, side: int = 32, objects: int = 3) -> Video:
    """A video of boxes on a floor, seen by a camera that moves; the first of them flies and turns."""
    random = np.random.default_rng(seed)
    # bounds need not be around the origin: as of a scanned shoe, whose origin is at its heel
    bounds = np.stack([-random.uniform(0.2, 0.8, (objects, 3)), random.uniform(0.2, 0.8, (objects, 3))], 1)
    angle = np.arange(objects) * 2 * np.pi / objects + random.uniform(0, 1)
    start = np.c_[1.6 * np.cos(angle), 1.6 * np.sin(angle), -bounds[:, 0, 2]]
    positions = np.repeat(start[:, None], frames, 1)
    quaternions = np.repeat(turned(np.c_[np.zeros((objects, 2)), random.uniform(0, 3, objects)])[:, None], frames, 1)
    for t in range(frames):
        positions[0, t] += [0, 0.1 * t, 0.8 + 0.2 * t]
        quaternions[0, t] = turned(np.array([0.5 + 0.2 * t, 0.3, 0.4]))
    eye = np.array([7.5, -3.0, 4.5]) + np.arange(frames)[:, None] * [0.0, 0.25, 0.05]
    look = np.stack([looking(point) for point in eye])
    stage = _stage(bounds, positions, quaternions, eye, look)
    seen = [stages.render_passes(stage, stages.read(stage, "/World/Camera", t), side, side) for t in range(frames)]
    depth = np.stack([passes.depth for passes in seen])
    ids = np.stack([passes.ids for passes in seen]) - 1  # the floor is the first asset
    depth[~np.isfinite(depth)] = 40.0  # the dome that is everywhere in MOVi
    ids[ids < 0] = -1
    # Kubric's depth is the distance from the camera's centre
    middles = (np.arange(side) + 0.5) / side - 0.5
    along = np.sqrt(1 + (middles[:, None] ** 2 + middles**2) * (SENSOR / FOCAL) ** 2)
    distance = depth * along
    low, high = distance.min(), distance.max()
    corners = np.stack([[_corners(bounds[i], positions[i, t], quaternions[i, t]) for t in range(frames)]
                        for i in range(objects)])  # fmt: skip
    visible = np.stack([[(image == i).sum() for image in ids] for i in range(objects)])
    boxes = [[_box(image == i) for image in ids if (image == i).any()] for i in range(objects)]
    color = random.integers(40, 255, (objects + 1, 3))
    features = {
        "metadata/video_name": (str(seed).encode(), "byte"),
        "metadata/width": (side, "int"),
        "metadata/height": (side, "int"),
        "metadata/num_frames": (frames, "int"),
        "metadata/num_instances": (objects, "int"),
        "metadata/depth_range": ([low, high], "float"),
        "metadata/forward_flow_range": ([-1.0, 1.0], "float"),
        "metadata/backward_flow_range": ([-1.0, 1.0], "float"),
        "background": (b"abandoned_church", "byte"),
        "camera/focal_length": (FOCAL, "float"),
        "camera/sensor_width": (SENSOR, "float"),
        "camera/field_of_view": (2 * np.arctan2(SENSOR / 2, FOCAL), "float"),
        "camera/positions": (eye.ravel(), "float"),
        "camera/quaternions": (look.ravel(), "float"),
        "instances/mass": (np.ones(objects), "float"),
        "instances/friction": (np.full(objects, 0.5), "float"),
        "instances/restitution": (np.full(objects, 0.5), "float"),
        "instances/positions": (positions.ravel(), "float"),
        "instances/quaternions": (quaternions.ravel(), "float"),
        "instances/velocities": (np.zeros(objects * frames * 3), "float"),
        "instances/angular_velocities": (np.zeros(objects * frames * 3), "float"),
        "instances/bboxes_3d": (corners.ravel(), "float"),
        "instances/image_positions": (np.zeros(objects * frames * 2), "float"),
        "instances/bboxes/ragged_flat_values": (np.concatenate(boxes).ravel(), "float"),
        "instances/bboxes/ragged_row_lengths_0": ([len(part) for part in boxes], "int"),
        "instances/bbox_frames/ragged_flat_values": (np.nonzero(visible)[1], "int"),
        "instances/bbox_frames/ragged_row_lengths_0": ((visible > 0).sum(1), "int"),
        "instances/visibility": (visible.ravel(), "int"),
        "instances/asset_id": ([name.encode() for name in ASSETS[:objects]], "byte"),
        "instances/category": (CATEGORIES[:objects], "int"),
        "instances/scale": (np.full(objects, 1.5), "float"),
        "instances/is_dynamic": ([1] + [0] * (objects - 1), "int"),
        "events/collisions/frame": ([], "int"),
        "events/collisions/force": ([], "float"),
        "video": ([_png(color[image + 1].astype(np.uint8)) for image in ids], "byte"),
        "segmentations": ([_png((image + 1).astype(np.uint8)) for image in ids], "byte"),
        "depth": ([_png(np.round((d - low) / (high - low) * 65535).astype(np.uint16)) for d in distance], "byte"),
        "forward_flow": (np.zeros(frames * side * side * 2, int), "int"),
        "backward_flow": (np.zeros(frames * side * side * 2, int), "int"),
    }
    return Video(features, ids, depth, bounds)


def write_movi(file: Path, videos: list[Video]) -> Path:
    """A file of the dataset; its name says split and shard, as movi_e-train.tfrecord-00000-of-00001."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = tfrecord.TFRecordWriter(str(file))
    for video in videos:
        writer.write({name: (np.asarray(v).tolist() if k != "byte" else v, k) for name, (v, k) in
                      video.features.items()})  # fmt: skip
    writer.close()
    return file


def turned(vector: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) of w, x, y, z of rotation vectors (..., 3)."""
    return Rotation.from_rotvec(vector).as_quat()[..., [3, 0, 1, 2]]


def looking(eye: np.ndarray) -> np.ndarray:
    """The quaternion of a camera at `eye` that looks at the origin: it looks down -Z, with +Y up."""
    matrix = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*eye), Gf.Vec3d(0), Gf.Vec3d(0, 0, 1)).GetInverse()
    quaternion = matrix.ExtractRotationQuat()
    return np.array([quaternion.GetReal(), *quaternion.GetImaginary()])


def _stage(bounds, positions, quaternions, eye, look) -> Usd.Stage:
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    floor = UsdGeom.Xform.Define(stage, "/World/Floor")
    _cube(stage, "/World/Floor/Cube", np.array([[-6, -6, -1], [6, 6, 0]]))
    _mark(floor)
    for index, (box, place, turn) in enumerate(zip(bounds, positions, quaternions, strict=True)):
        thing = UsdGeom.Xform.Define(stage, f"/World/Thing{index}")
        _pose(thing, place, turn)
        _cube(stage, f"/World/Thing{index}/Cube", box)
        _mark(thing)
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    camera.CreateFocalLengthAttr(FOCAL)
    camera.CreateHorizontalApertureAttr(SENSOR)
    camera.CreateVerticalApertureAttr(SENSOR)
    _pose(camera, eye, look)
    return stage


def _mark(xform) -> None:
    from neuralusd.schema import NeuralAssetAPI

    NeuralAssetAPI.Apply(xform.GetPrim())


def _cube(stage, path, box) -> None:
    cube = UsdGeom.Cube.Define(stage, path)
    cube.CreateSizeAttr(1.0)
    cube.AddTranslateOp().Set(Gf.Vec3d(*box.mean(0).tolist()))
    cube.AddScaleOp().Set(Gf.Vec3f(*(box[1] - box[0]).tolist()))


def _pose(xform, places, turns) -> None:
    translate, orient = xform.AddTranslateOp(), xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble)
    for time, (place, turn) in enumerate(zip(places, turns, strict=True)):
        translate.Set(Gf.Vec3d(*place.tolist()), time)
        orient.Set(Gf.Quatd(*turn.tolist()), time)


def _corners(box: np.ndarray, place: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(8, 3) as Kubric's `bbox_3d`: the product of the bounds with x slowest, turned, moved."""
    unit = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return Rotation.from_quat(turn[[1, 2, 3, 0]]).apply(box[0] + unit * (box[1] - box[0])) + place


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return [rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width]


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
