"""Scene latents of a stage, and back: poses relative to a camera (Anchored Generation, equations 4, 5 and 8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..latents import ObjectLatents, SceneLatents
from ..scene import Asset, Camera, Scene, pose_2d
from .errors import CameraError

# Rows: the canonical axes x, y, z (Z up, front towards -Y) as local axes of prims on a Y-up stage (front towards +Z).
Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
# Metres. A box is not thinner than this for the prior, which knows the logarithm of its sides.
THINNEST = 1e-3
# How far the axes may be from square before it is said.
SHEAR = 1e-3


@dataclass
class ReadLatents:
    """What `read_latents` found.

    Attributes:
        latents: without appearance and background, which a codec makes of pictures (see `Views`).
        left_alone: path of an asset that is not among the latents, and so stays as it is, to the reason.
        notes: what was assumed, a sentence each.
    """

    latents: SceneLatents
    left_alone: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_latents(
    scene: Scene, *, groups: Collection[str] = (), absent: Collection[str] = (), text: Mapping[str, str] | None = None
) -> ReadLatents:
    """Where the foreground assets of a scene are, for the camera that sees them.

    The box of an object is that of its prim; the axes of the box are canonical after `canonical_axes`. Of a sheared
    transform the nearest rotation is taken, of a mirrored one the rotation without its mirror; what is left over stays
    with the prim (see `placed`).

    Args:
        groups: paths of assets that only hold others. They are left alone: what they hold is resampled.
        absent: paths of assets of presence 0 that are wanted as empty slots; others of presence 0 are left alone.
        text: path to what an asset is, where that is better known than by its text and its labels.

    Raises:
        CameraError: the camera is orthographic, so it has no focal length to which poses could be relative.
    """
    camera = scene.camera
    if camera.projection == "orthographic":
        raise CameraError(
            f"camera <{camera.path}> is orthographic, and scene latents are of perspective cameras. Name another one."
        )
    found = ReadLatents(SceneLatents(focal=focal_of(camera)))
    for asset in scene.foreground:
        reason = _reason(asset, camera, groups, absent)
        if reason:
            found.left_alone[asset.path] = reason
            continue
        rotation, scale, residual = _decomposed(asset, camera, scene.up_axis)
        if np.abs(residual @ residual.T - np.eye(3)).max() > SHEAR:
            found.notes.append(f"<{asset.path}> is sheared; its pose was read as the nearest one that is not")
        middle = np.mean(asset.corners(), axis=0)
        found.latents.objects.append(
            ObjectLatents(
                translation=camera.to_camera(middle),
                rotation=quaternion_of(rotation),
                scale=np.maximum(scale, THINNEST),
                presence=asset.presence > 0,
                path=asset.path,
                text=(text or {}).get(asset.path) or asset.text or (asset.labels[0] if asset.labels else ""),
            )
        )
    return found


def _reason(asset: Asset, camera: Camera, groups: Collection[str], absent: Collection[str]) -> str:
    """Why an asset is not among the latents; "" where it is."""
    if asset.extent is None:
        return "it has a box in the image and no place in space; encode its photograph with depth to resample it"
    if asset.path in groups:
        return "it only holds other assets, which are resampled themselves"
    if asset.presence <= 0 and asset.path not in absent:
        return "its presence is 0"
    if pose_2d(asset, camera) is None:
        return f"camera <{camera.path}> does not see it"
    return ""


def focal_of(camera: Camera) -> np.ndarray:
    """(2,) f_x and f_y in widths and heights of the image (equation 8)."""
    return camera.focal_length / np.array([camera.horizontal_aperture, camera.vertical_aperture])


def canonical_axes(up_axis: str) -> np.ndarray:
    """(3, 3), rows: the canonical axes as local axes of a prim on a stage of that up axis."""
    return Y_UP.copy() if up_axis == "Y" else np.eye(3)


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """(4,) w, x, y, z of a rotation (3, 3) for row vectors."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation.T).as_quat()
    return np.array([w, x, y, z])


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) for row vectors, of a quaternion w, x, y, z that need not be of unit length."""
    from scipy.spatial.transform import Rotation

    w, x, y, z = np.asarray(quaternion, np.float64)
    return Rotation.from_quat([x, y, z, w]).as_matrix().T


def _decomposed(asset: Asset, camera: Camera, up_axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation (3, 3) from the canonical axes to camera space, the box's sides (3,) in metres along them, and the
    residual (3, 3) with rows of unit length: the axes are diag(sides) @ residual @ rotation."""
    axes = canonical_axes(up_axis)
    linear = axes @ asset.local_to_world[:3, :3] @ camera.world_to_camera[:3, :3]
    lengths = np.linalg.norm(linear, axis=1)
    unit = linear / lengths[:, None]
    proper = unit * [[-1.0], [1.0], [1.0]] if np.linalg.det(unit) < 0 else unit
    left, _, right = np.linalg.svd(proper)
    rotation = left @ right
    return rotation, lengths * _sides(asset, up_axis), unit @ rotation.T


def _sides(asset: Asset, up_axis: str) -> np.ndarray:
    """(3,) of the local box along the canonical axes, in the prim's own units."""
    return np.abs(canonical_axes(up_axis)) @ np.ptp(np.asarray(asset.extent, np.float64), axis=0)


def placed(asset: Asset, scene: Scene, latents: ObjectLatents) -> np.ndarray:
    """(4, 4) local-to-world that gives an asset of `scene` the pose of `latents`, seen by the scene's camera.

    A mirror or a shear that the prim has, it keeps; a side without a length keeps its scale.
    """
    _, sides, residual = _decomposed(asset, scene.camera, scene.up_axis)
    lengths = np.linalg.norm(canonical_axes(scene.up_axis) @ asset.local_to_world[:3, :3], axis=1)
    grown = np.where(sides > THINNEST, lengths * latents.scale / np.maximum(sides, THINNEST), lengths)
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    linear = grown[:, None] * (residual @ rotation_of(latents.rotation)) @ to_world[:3, :3]
    return _about(canonical_axes(scene.up_axis).T @ linear, np.mean(np.asarray(asset.extent), axis=0), latents, scene)


def placed_anew(scene: Scene, latents: ObjectLatents) -> tuple[np.ndarray, np.ndarray]:
    """Local-to-world (4, 4) and extent (2, 3) of a new asset of that pose: in units of the stage, not scaled, its
    origin in the middle of its box's bottom."""
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    axes = canonical_axes(scene.up_axis)
    size = np.abs(axes.T) @ latents.scale / scene.meters_per_unit
    up = 1 if scene.up_axis == "Y" else 2
    low, high = -size / 2, size / 2
    low[up], high[up] = 0.0, size[up]
    extent = np.stack([low, high])
    linear = scene.meters_per_unit * axes.T @ rotation_of(latents.rotation) @ to_world[:3, :3]
    return _about(linear, extent.mean(0), latents, scene), extent


def _about(linear: np.ndarray, middle: np.ndarray, latents: ObjectLatents, scene: Scene) -> np.ndarray:
    to_world = np.linalg.inv(scene.camera.world_to_camera)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[3, :3] = latents.translation @ to_world[:3, :3] + to_world[3, :3] - middle @ linear
    return matrix
