"""An imported scene as a USD stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...scene import Camera


def prim_names(names: Sequence[str]) -> list[str]:
    """Names of prims for the objects of these names: words in capitals without spaces, and a number after each."""
    out = []
    for number, name in enumerate(names):
        words = re.sub(r"[^A-Za-z0-9]+", " ", name).title().replace(" ", "") or "Object"
        out.append(f"{words if words[0].isalpha() else f'Object{words}'}_{number}")
    return out


class StageWriter:
    """Writes the stage of one scene: metres, time codes 1 to T.

    Args:
        file: the .usda. frames: T. up_axis: "Y" or "Z". frames_per_second: of the time codes.
    """

    def __init__(self, file: Path, frames: int, up_axis: str, frames_per_second: float) -> None:
        from pxr import Kind, Usd, UsdGeom

        self.stage = Usd.Stage.CreateNew(str(file))
        UsdGeom.SetStageUpAxis(self.stage, up_axis)
        UsdGeom.SetStageMetersPerUnit(self.stage, 1.0)
        self.stage.SetStartTimeCode(1)
        self.stage.SetEndTimeCode(frames)
        self.stage.SetTimeCodesPerSecond(frames_per_second)
        world = UsdGeom.Xform.Define(self.stage, "/World")
        self.stage.SetDefaultPrim(world.GetPrim())
        Usd.ModelAPI(world).SetKind(Kind.Tokens.assembly)

    def save(self) -> None:
        self.stage.GetRootLayer().Save()

    def background(self, text: str) -> None:
        """/World/Room, the background asset; it has no geometry."""
        from pxr import UsdGeom

        room = UsdGeom.Xform.Define(self.stage, "/World/Room")
        self._asset(room.GetPrim(), "background", text)

    def camera(self, cameras: Sequence[Camera]) -> None:
        """/World/Camera, as these cameras at time codes 1, 2, ..."""
        from pxr import Gf, UsdGeom

        prim = UsdGeom.Camera.Define(self.stage, "/World/Camera")
        for name, values in (
            ("FocalLength", [c.focal_length for c in cameras]),
            ("HorizontalAperture", [c.horizontal_aperture for c in cameras]),
            ("VerticalAperture", [c.vertical_aperture for c in cameras]),
            ("HorizontalApertureOffset", [c.horizontal_aperture_offset for c in cameras]),
            ("VerticalApertureOffset", [c.vertical_aperture_offset for c in cameras]),
        ):
            _author(getattr(prim, f"Create{name}Attr")(), values, float)
        prim.CreateClippingRangeAttr(Gf.Vec2f(*cameras[0].clipping_range))
        transform = np.linalg.inv(np.stack([c.world_to_camera for c in cameras]))
        _author(prim.AddTransformOp(), transform, lambda m: Gf.Matrix4d(*m.reshape(-1).tolist()))

    def object(
        self,
        name: str,
        text: str,
        labels: Mapping[str, Sequence[str]],
        presence: np.ndarray,
        extent: np.ndarray | None = None,
        local_to_world: np.ndarray | None = None,
        boxes_2d: np.ndarray | None = None,
    ) -> str:
        """/World/<name>, a component. Returns its path.

        Args:
            presence: (T,) bool.
            extent: (2, 3), authored as `extentsHint`, and as a cube of purpose guide for people to see. None where the
                object has 2D boxes only.
            local_to_world: (T, 4, 4) of rotation, translation and scale. boxes_2d: (T, 4), see `neural:box2d`.
        """
        from pxr import Gf, Kind, Usd, UsdGeom, UsdSemantics, Vt

        xform = UsdGeom.Xform.Define(self.stage, f"/World/{name}")
        prim = xform.GetPrim()
        api = self._asset(prim, "foreground", text)
        Usd.ModelAPI(prim).SetKind(Kind.Tokens.component)
        if not presence.all():
            _author(api.CreatePresenceAttr(), presence, float)
        for taxonomy, words in labels.items():
            UsdSemantics.LabelsAPI.Apply(prim, taxonomy).CreateLabelsAttr(Vt.TokenArray(list(words)))
        if boxes_2d is not None:
            _author(api.CreateBox2dAttr(), boxes_2d, lambda box: Gf.Vec4f(*box.tolist()))
        if extent is not None and local_to_world is not None:
            low, high = (Gf.Vec3f(*corner.tolist()) for corner in extent)
            UsdGeom.ModelAPI.Apply(prim).SetExtentsHint(Vt.Vec3fArray([low, high]))
            box = UsdGeom.Cube.Define(self.stage, f"/World/{name}/Box")
            box.CreatePurposeAttr(UsdGeom.Tokens.guide)
            box.CreateSizeAttr(1.0)
            box.CreateExtentAttr([(-0.5,) * 3, (0.5,) * 3])
            box.AddTranslateOp().Set(Gf.Vec3d(*extent.mean(0).tolist()))
            box.AddScaleOp().Set(Gf.Vec3f(*(extent[1] - extent[0]).tolist()))
            translate, quaternion, scale = decomposed(local_to_world)
            _author(xform.AddTranslateOp(), translate, lambda v: Gf.Vec3d(*v.tolist()))
            _author(xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble), quaternion, lambda q: Gf.Quatd(*q.tolist()))
            _author(xform.AddScaleOp(), scale, lambda v: Gf.Vec3f(*v.tolist()))
        return str(prim.GetPath())

    @staticmethod
    def _asset(prim: Any, role: str, text: str) -> Any:
        from ...schema import NeuralAssetAPI

        api = NeuralAssetAPI.Apply(prim)
        api.CreateRoleAttr(role)
        if text:
            api.CreateTextAttr(text)
        return api


def decomposed(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translations (T, 3), quaternions (T, 4) with the real part first, and scales (T, 3) of (T, 4, 4) row-vector
    matrices without shear. The quaternions' signs are such that each is on its predecessor's side; scales that are one,
    or the same in all frames, up to single precision, are exactly so.

    Raises:
        ValueError: a matrix is not finite, has shear, mirrors or flattens.
    """
    from scipy.spatial.transform import Rotation

    scale = np.linalg.norm(matrices[:, :3, :3], axis=2)
    if not np.isfinite(matrices).all() or (scale <= 0).any():
        raise ValueError("its pose is not finite, or has a scale of zero")
    rotation = matrices[:, :3, :3] / scale[..., None]
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-3 or (np.linalg.det(rotation) < 0).any():
        raise ValueError("its pose is more than rotation, translation and scale")
    if np.abs(scale / scale[0] - 1).max() < 1e-6:
        scale = np.broadcast_to(scale[0], scale.shape)
    scale = np.where(np.abs(scale - 1) < 1e-6, 1.0, scale)
    quaternion = Rotation.from_matrix(rotation.transpose(0, 2, 1)).as_quat()[:, [3, 0, 1, 2]]
    for t in range(1, len(quaternion)):
        if quaternion[t] @ quaternion[t - 1] < 0:
            quaternion[t] *= -1
    return matrices[:, 3, :3], quaternion, scale


def _author(attribute: Any, values: Sequence[Any] | np.ndarray, convert: Callable[[Any], Any]) -> None:
    """Time samples at 1, 2, ...; the default value where nothing changes."""
    array = np.asarray(values, np.float64)
    if np.ptp(array, axis=0).max() == 0:
        attribute.Set(convert(array[0]))
        return
    for code, value in enumerate(array, 1):
        attribute.Set(convert(value), code)
