"""Moving a prim by the xformOps it already has."""

from __future__ import annotations

import numpy as np
from pxr import Gf, Usd, UsdGeom

from .bounds import Transforms
from .edit import editable_prim
from .errors import TransformError
from .open import quiet
from .walk import time_code

Op = UsdGeom.XformOp
EULER = {Op.TypeRotateXYZ: "xyz", Op.TypeRotateXZY: "xzy", Op.TypeRotateYXZ: "yxz", Op.TypeRotateYZX: "yzx",
         Op.TypeRotateZXY: "zxy", Op.TypeRotateZYX: "zyx"}  # fmt: skip
SINGLE = {Op.TypeRotateX: 0, Op.TypeRotateY: 1, Op.TypeRotateZ: 2}
# How far, relative to the matrix's size, the composed transform may be from the one asked for: single precision ops.
CLOSE = 2e-6
OWN_OP = "neural"


def write_pose(stage: Usd.Stage, path: str, local_to_world: np.ndarray, time: float | None = None) -> None:
    """Authors xformOps in the edit target so that the prim's composed local-to-world is `local_to_world`.

    The prim's own translate, rotate (or orient) and scale are set where these can express the pose, whatever their
    order and pivots; a prim with one matrix op has that set; a prim without ops gets translate, rotateXYZ and scale.
    Where none of that can express it (a shear, say) the op order becomes a single matrix, `xformOp:transform:neural`.

    Args:
        local_to_world: (4, 4) to metres, as `Asset.local_to_world`.
        time: time code; None authors default values. Samples that weaker layers have of an op are carried along, so the
            other frames stay.

    Raises:
        SceneError: `path` is no prim.
        TransformError: the matrix is singular or not finite, the prim cannot have a transform, or its ops are
        animated in the edit
            target itself and no time is given.
    """
    prim = editable_prim(stage, path)
    matrix = np.asarray(local_to_world, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
        raise TransformError(f"<{path}>: the new local-to-world must be a finite (4, 4) matrix that can be inverted.")
    if not prim.IsA(UsdGeom.Xformable):
        kind = prim.GetTypeName() or "prim without a type"
        raise TransformError(
            f"<{path}> is a {kind}, which has no transform. Move the prims in it, or make it an Xform."
        )
    xformable = UsdGeom.Xformable(prim)
    reset = xformable.GetResetXformStack()
    to_world = np.eye(4)
    to_world[:3, :3] *= UsdGeom.GetStageMetersPerUnit(stage)
    if not reset:
        to_world = Transforms(stage, time).local_to_world(prim.GetParent())
    if abs(np.linalg.det(to_world)) < 1e-30:
        raise TransformError(
            f"<{path}>: the transform of its parent is singular, so it cannot be placed. Correct that first."
        )
    local = matrix @ np.linalg.inv(to_world)
    local[:, 3] = [0, 0, 0, 1]

    ops = xformable.GetOrderedXformOps()
    code = time_code(time)
    values = _solve(ops, local, code) if ops else _fresh(local)
    with quiet():
        if values is None:
            op = _own_op(xformable)
            xformable.SetXformOpOrder([op], reset)
            values = {op: Gf.Matrix4d(local.tolist())}
        elif not ops:
            values = {xformable.AddXformOp(*signature): value for signature, value in values.items()}
        for op, value in values.items():
            _set(op.GetAttr(), value, time)


def _own_op(xformable: UsdGeom.Xformable) -> UsdGeom.XformOp:
    attribute = xformable.GetPrim().GetAttribute(f"xformOp:transform:{OWN_OP}")
    if attribute:
        return UsdGeom.XformOp(attribute)
    return xformable.AddTransformOp(UsdGeom.XformOp.PrecisionDouble, OWN_OP)


def _fresh(local: np.ndarray) -> dict | None:
    """Values of translate, rotateXYZ and scale ops, by their signatures, for a prim that has none; None for a shear."""
    parts = _decompose(local[:3, :3], np.ones(3), scale_first=True)
    if parts is None:
        return None
    scale, rotation = parts
    out = {(Op.TypeTranslate, Op.PrecisionDouble): Gf.Vec3d(*local[3, :3].tolist())}
    angles = _euler(rotation, "xyz", np.zeros(3))
    if not np.allclose(angles, 0, atol=1e-9):
        out[Op.TypeRotateXYZ, Op.PrecisionDouble] = Gf.Vec3d(*angles.tolist())
    if not np.allclose(scale, 1, atol=1e-9):
        out[Op.TypeScale, Op.PrecisionDouble] = Gf.Vec3d(*scale.tolist())
    return out


def _solve(ops: list[UsdGeom.XformOp], local: np.ndarray, code: Usd.TimeCode) -> dict | None:
    """New values of some of the ops, so that all of them together make `local`; None where they can't.

    In row vectors the local transform is the product of the ops' matrices from the last of the order to the first.
    """
    matrices = [np.array(op.GetOpTransform(code)) for op in ops]
    if not all(np.isfinite(m).all() for m in matrices):
        return None
    free = [i for i, op in enumerate(ops) if not _paired(op, ops)]

    def find(types: set) -> int | None:
        found = [i for i in free if ops[i].GetOpType() in types]
        return found[0] if len(found) == 1 else None

    matrix = find({Op.TypeTransform})
    if matrix is not None:
        return _checked(ops, matrices, {matrix: _remainder(matrices, matrix, local)}, local, code)
    turn, size = find({*EULER, *SINGLE, Op.TypeOrient}), find({Op.TypeScale})
    new: dict[int, np.ndarray] = {}
    if not _same(_product(matrices)[:3, :3], local[:3, :3]):
        others = [m for i, m in enumerate(matrices) if i not in (turn, size)]
        if any(not _same(m[:3, :3], np.eye(3)) for m in others):
            return None
        old = np.diag(matrices[size])[:3] if size is not None else np.ones(3)
        parts = _decompose(local[:3, :3], old, turn is None or size is None or size > turn)
        if parts is None:
            return None
        for index, linear in ((size, np.diag(parts[0])), (turn, parts[1])):
            if index is not None:
                new[index] = np.eye(4)
                new[index][:3, :3] = linear
            elif not _same(linear, np.eye(3)):
                return None
    placed = [new.get(i, m) for i, m in enumerate(matrices)]
    shift = find({Op.TypeTranslate})
    if shift is not None:
        new[shift] = _remainder(placed, shift, local)
    return _checked(ops, matrices, new, local, code)


def _paired(op: UsdGeom.XformOp, ops: list[UsdGeom.XformOp]) -> bool:
    """Whether an op is there as its own inverse too, as a pivot is."""
    names = [o.GetOpName() for o in ops]
    return op.IsInverseOp() or f"!invert!{op.GetOpName()}" in names


def _product(matrices: list[np.ndarray]) -> np.ndarray:
    out = np.eye(4)
    for matrix in matrices:
        out = matrix @ out
    return out


def _remainder(matrices: list[np.ndarray], index: int, local: np.ndarray) -> np.ndarray:
    """What the op at `index` must be for the product of all to be `local`."""
    after, before = _product(matrices[:index]), _product(matrices[index + 1 :])
    return np.linalg.inv(before) @ local @ np.linalg.inv(after)


def _checked(
    ops: list[UsdGeom.XformOp],
    matrices: list[np.ndarray],
    new: dict[int, np.ndarray],
    local: np.ndarray,
    code: Usd.TimeCode,
) -> dict | None:
    """The new matrices as the ops' own values; None where an op cannot hold its matrix or the result misses `local`."""
    values, reached = {}, list(matrices)
    for index, matrix in new.items():
        value = _value(ops[index], matrix, code)
        if value is None:
            return None
        values[ops[index]] = value
        reached[index] = _as_usd_reads(ops[index], value)
    return values if _same(_product(reached), local) else None


def _as_usd_reads(op: UsdGeom.XformOp, value: object) -> np.ndarray:
    """(4, 4) that USD makes of a value of an op, in the op's precision."""
    stage = Usd.Stage.CreateInMemory()
    same = UsdGeom.Xform.Define(stage, "/Scratch").AddXformOp(op.GetOpType(), op.GetPrecision())
    same.Set(value)
    return np.array(same.GetOpTransform(Usd.TimeCode.Default()))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= CLOSE * max(np.abs(b).max(), 1e-12))


def _value(op: UsdGeom.XformOp, matrix: np.ndarray, code: Usd.TimeCode) -> object | None:
    """A matrix as a value of an op, in the op's own type."""
    kind, old = op.GetOpType(), op.Get(code)
    type_name = op.GetAttr().GetTypeName()
    if kind == Op.TypeTransform:
        return Gf.Matrix4d(matrix.tolist())
    if kind == Op.TypeOrient:
        quaternion = Gf.Matrix4d(matrix.tolist()).ExtractRotationQuat()
        return type(type_name.defaultValue)(quaternion)
    if kind in SINGLE:
        axis = SINGLE[kind]
        angles = _euler(matrix[:3, :3], "xyz", np.eye(3)[axis] * float(old or 0))
        return float(angles[axis]) if np.allclose(np.delete(angles, axis), 0, atol=1e-6) else None
    if kind in EULER:
        numbers = _euler(matrix[:3, :3], EULER[kind], np.array(old if old is not None else (0, 0, 0), dtype=float))
    elif kind == Op.TypeScale:
        numbers = np.diag(matrix)[:3]
    else:
        numbers = matrix[3, :3]
    return type(type_name.defaultValue)(*numbers.tolist())


def _decompose(linear: np.ndarray, old_scale: np.ndarray, scale_first: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Scale (3,) and rotation (3, 3) whose product is `linear`; None for a shear.

    Args:
        old_scale: its signs are kept where the handedness allows.
        scale_first: whether points are scaled before they are rotated: linear = diag(scale) @ rotation.
    """
    rows = linear if scale_first else linear.T
    lengths = np.linalg.norm(rows, axis=1)
    axes = rows / lengths[:, None]
    if not np.allclose(axes @ axes.T, np.eye(3), atol=CLOSE):
        return None
    signs = np.where(old_scale < 0, -1.0, 1.0)
    if np.linalg.det(axes) * signs.prod() < 0:
        signs[0] = -signs[0]
    rotation = axes * signs[:, None]
    return lengths * signs, rotation if scale_first else rotation.T


def _euler(rotation: np.ndarray, order: str, old: np.ndarray) -> np.ndarray:
    """(3,) degrees about X, Y and Z of a rotation for row vectors applied in `order`; the turn nearest to `old`."""
    from scipy.spatial.transform import Rotation

    angles = np.zeros(3)
    # Gimbal lock leaves one angle free; SciPy sets it to zero and warns, and either choice is the same rotation.
    first, second, third = Rotation.from_matrix(rotation.T).as_euler(order, degrees=True, suppress_warnings=True)
    angles[["xyz".index(axis) for axis in order]] = first, second, third
    return angles + 360 * np.round((old - angles) / 360)


def _set(attribute: Usd.Attribute, value: object, time: float | None) -> None:
    layer = attribute.GetStage().GetEditTarget().GetLayer()
    spec = attribute.GetStage().GetEditTarget().GetPropertySpecForScenePath(attribute.GetPath())
    own = bool(spec) and bool(layer.ListTimeSamplesForPath(spec.path))
    if time is None:
        if own:
            raise TransformError(
                f"<{attribute.GetPath()}> is animated in {layer.identifier}. Give a time, or edit in a layer of its "
                f"own."
            )
        attribute.Set(value)
        return
    if not own:
        samples = {sample: attribute.Get(sample) for sample in attribute.GetTimeSamples()}
        for sample, old in samples.items():
            attribute.Set(old, sample)
    attribute.Set(value, time)
