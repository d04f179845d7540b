"""A figure in a striped shirt that raises its arm: a skeleton, skinned meshes, an animation. Metres, Z up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

from ..stage.skin import skinned_points
from .author import Asset
from .shapes import Shape, cage, joined, loft

FIRST, LAST = 1, 24
# Where the joints are while the skeleton rests, its arms held away. It faces -Y; its left is at +X.
_CENTRE = {"Hips": (0, 0, 0.93), "Spine": (0, 0, 1.05), "Chest": (0, 0.005, 1.20), "Neck": (0, 0.01, 1.455),
           "Head": (0, 0.0, 1.54)}  # fmt: skip
_SIDE = {"Arm": (0.165, 0.01, 1.385), "ForeArm": (0.352, 0.01, 1.198), "Hand": (0.522, -0.01, 1.028),
         "Thigh": (0.085, 0, 0.90), "Shin": (0.095, -0.01, 0.49), "Foot": (0.10, 0.015, 0.09)}  # fmt: skip
_PARENTS = {"Spine": "Hips", "Chest": "Spine", "Neck": "Chest", "Head": "Neck", "Arm": "Chest", "ForeArm": "Arm",
            "Hand": "ForeArm", "Thigh": "Hips", "Shin": "Thigh", "Foot": "Shin"}  # fmt: skip
STRIPES = 0.32


def _joints() -> dict[str, np.ndarray]:
    """Joint to its place at rest, parents before children."""
    out = {name: np.array(at, float) for name, at in _CENTRE.items()}
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        out |= {side + name: np.array(at) * [sign, 1, 1] for name, at in _SIDE.items()}
    return out


JOINTS = _joints()
NAMES = list(JOINTS)


def _parent(name: str) -> str | None:
    for side in ("Left", "Right"):
        if name.startswith(side):
            above = _PARENTS[name.removeprefix(side)]
            return side + above if above in _SIDE else above
    return _PARENTS.get(name)


def _path(name: str) -> str:
    above = _parent(name)
    return f"{_path(above)}/{name}" if above else name


def _chain(along: np.ndarray, joints: Sequence[str], starts: Sequence[float], soft: Sequence[float]) -> np.ndarray:
    """(V, J) weights of vertices that are so far along a chain of joints, of which each but the first starts softly."""
    rise = [np.ones_like(along)]
    for start, width in zip(starts, soft, strict=True):
        t = np.clip((along - start) / (2 * width) + 0.5, 0, 1)
        rise.append(t * t * (3 - 2 * t))
    rise.append(np.zeros_like(along))
    out = np.zeros((len(along), len(NAMES)))
    for i, joint in enumerate(joints):
        out[:, NAMES.index(joint)] = rise[i] - rise[i + 1]
    return out


def _spine(points: np.ndarray) -> np.ndarray:
    starts = [JOINTS[name][2] for name in ("Spine", "Chest", "Neck", "Head")]
    return _chain(points[:, 2], ("Hips", "Spine", "Chest", "Neck", "Head"), starts, (0.06, 0.07, 0.02, 0.035))


def _arm(points: np.ndarray, side: str) -> np.ndarray:
    """Weights of an arm's vertices by how far along it they are."""
    shoulder, elbow, wrist = (JOINTS[side + name] for name in ("Arm", "ForeArm", "Hand"))
    upper = float(np.linalg.norm(elbow - shoulder))
    way = (elbow - shoulder) / upper
    along = (points - shoulder) @ way
    lower = float((wrist - shoulder) @ way)
    joints = ("Chest", side + "Arm", side + "ForeArm", side + "Hand")
    return _chain(along, joints, (0.005, upper, lower), (0.075, 0.045, 0.02))


def _leg(points: np.ndarray, side: str) -> np.ndarray:
    starts = [-JOINTS[side + name][2] for name in ("Thigh", "Shin", "Foot")]
    joints = ("Hips", *(side + name for name in ("Thigh", "Shin", "Foot")))
    return _chain(-points[:, 2], joints, starts, (0.07, 0.06, 0.02))


def _ring(centre: Sequence[float], right: Sequence[float], ahead: Sequence[float], sides: int = 8) -> np.ndarray:
    """(sides, 3) of the cage of an ellipse with half axes `right` and `ahead`."""
    angle = 2 * np.pi * np.arange(sides) / sides
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.array(centre, float) + cage(sides) * (c * np.array(right, float) + s * np.array(ahead, float))


def _torso() -> tuple[Shape, np.ndarray]:
    """The shirt and its weights: a body of eight columns, in whose sides four faces give way to each sleeve."""
    # Height, half width, half depth, how far back.
    levels = [(0.865, 0.176, 0.128, 0.0), (0.88, 0.176, 0.128, 0.0), (0.96, 0.160, 0.115, 0), (1.06, 0.146, 0.106, 0),
              (1.16, 0.155, 0.113, 0), (1.265, 0.166, 0.118, 0.002), (1.345, 0.172, 0.112, 0.006),
              (1.425, 0.150, 0.082, 0.012), (1.452, 0.085, 0.064, 0.012), (1.475, 0.058, 0.056, 0.008),
              (1.484, 0.056, 0.054, 0.006)]  # fmt: skip
    rings = np.stack([_ring((0, y, z), (a, 0, 0), (0, b, 0)) for z, a, b, y in levels])
    body = loft(rings, (False, False))
    body.uv[:, 1] = body.points[body.indices, 2]
    low, high = 5, 7
    face = np.arange(len(body.counts)).reshape(len(levels) - 1, 8)
    keep = np.ones(len(body.counts), bool)
    parts, weights = [], []
    for side, columns in (("Left", (7, 0, 1)), ("Right", (3, 4, 5))):
        keep[face[low:high][:, list(columns[:2])].ravel()] = False
        a, b, c = columns
        # Round the hole, counter-clockwise seen from outside, from its lower front (of the right side, its back) up.
        hole = [(low, a), (low, b), (low, c), (low + 1, c), (high, c), (high, b), (high, a), (low + 1, a)]
        sleeve, weight = _sleeve(np.array([rings[i, j] for i, j in hole]), side)
        parts.append(sleeve)
        weights.append(weight)
    shape = joined(body.faces(keep), *parts)
    trunk = _spine(body.points)
    used = np.unique(body.indices[np.repeat(keep, body.counts)])
    return _welded(shape, np.concatenate([trunk[used], *weights]))


def _sleeve(hole: np.ndarray, side: str) -> tuple[Shape, np.ndarray]:
    """A sleeve from its hole (8, 3) to the wrist; texture coordinates round it and along it."""
    shoulder, elbow, wrist = (JOINTS[side + name] for name in ("Arm", "ForeArm", "Hand"))
    way = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
    up = np.array([-way[2], 0, way[0]]) * np.sign(way[0])
    ahead = np.cross(way, up)
    rings = [hole]
    middle = hole.mean(0)
    for at, radius in ((0.045, 0.078), (0.10, 0.066), (0.18, 0.059), (0.245, 0.056), (0.275, 0.055), (0.31, 0.054),
                       (0.40, 0.047), (0.475, 0.041), (0.487, 0.040)):  # fmt: skip
        bend = elbow - shoulder if at < 0.265 else wrist - elbow
        start = shoulder if at < 0.265 else elbow
        past = at if at < 0.265 else at - float(np.linalg.norm(elbow - shoulder))
        centre = start + bend / np.linalg.norm(bend) * past
        # Each vertex stays where it is round the arm.
        ring = []
        for h in hole:
            flat = (h - middle) @ np.stack([up, ahead], 1)
            flat /= np.linalg.norm(flat)
            ring.append(centre + cage(8) * radius * (flat[0] * up + flat[1] * ahead))
        rings.append(np.array(ring))
    shape = loft(np.stack(rings), (False, False))
    weight = _arm(shape.points, side)
    return shape, weight


def _welded(shape: Shape, weights: np.ndarray) -> tuple[Shape, np.ndarray]:
    """A shape whose vertices in one place are one vertex, with the mean of their weights."""
    _, first, inverse = np.unique(np.round(shape.points, 6), axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = np.bincount(inverse)[:, None]
    mean = np.zeros((len(first), weights.shape[1]))
    np.add.at(mean, inverse, weights)
    return Shape(shape.points[first], shape.counts, inverse[shape.indices], shape.uv), mean / count


def _trousers() -> tuple[Shape, np.ndarray]:
    """Hips of eight columns that part into two legs at three vertices between them."""
    hips = np.stack([_ring((0, 0, z), (a, 0, 0), (0, b, 0)) for z, a, b in (
        (1.0, 0.145, 0.103), (0.95, 0.157, 0.112), (0.88, 0.166, 0.12))])  # fmt: skip
    body = loft(hips[::-1], (False, False))
    seat = hips[-1]
    between = np.array([[0, y, 0.805] for y in (0.062, 0.0, -0.062)])
    parts, weights = [body], [_spine(body.points)]
    for side, sign in (("Left", 1), ("Right", -1)):
        order = (6, 7, 0, 1, 2) if sign > 0 else (2, 3, 4, 5, 6)
        top = np.concatenate([seat[list(order)], between if sign > 0 else between[::-1]])
        rings = [top]
        start = np.arctan2(top[0, 1], top[0, 0] - sign * 0.08)
        for z, radius, y in (
            (0.74, 0.086, 0.003),
            (0.62, 0.077, 0),
            (0.50, 0.066, -0.006),
            (0.45, 0.064, -0.006),
            (0.30, 0.062, 0.004),
            (0.12, 0.060, 0.012),
            (0.075, 0.060, 0.014),
            (0.068, 0.057, 0.014),
        ):
            angle = start + 2 * np.pi * np.arange(8) / 8
            x = sign * (0.085 + 0.015 * (0.9 - z))
            rings.append(
                np.c_[x + cage(8) * radius * np.cos(angle), y + cage(8) * radius * np.sin(angle), np.full(8, z)]
            )
        leg = loft(np.stack(rings[::-1]), (False, False))
        parts.append(leg)
        weights.append(_leg(leg.points, side))
    return _welded(joined(*parts), np.concatenate(weights))


def _head() -> tuple[Shape, np.ndarray]:
    levels = [(1.43, 0.05, 0.05, 0.01), (1.48, 0.046, 0.047, 0.008), (1.515, 0.047, 0.05, 0.002),
              (1.53, 0.060, 0.073, -0.010), (1.56, 0.072, 0.088, -0.014), (1.615, 0.080, 0.098, -0.008),
              (1.675, 0.082, 0.101, -0.002), (1.725, 0.073, 0.091, 0.002), (1.757, 0.048, 0.060, 0.004),
              (1.768, 0.02, 0.025, 0.004)]  # fmt: skip
    shape = loft(np.stack([_ring((0, y, z), (a, 0, 0), (0, b, 0), 12) for z, a, b, y in levels]), (False, True))
    return shape, _spine(shape.points)


def _hair() -> tuple[Shape, np.ndarray]:
    """A cap over the top and the back of the head."""
    head, _ = _head()
    starts = np.concatenate([[0], np.cumsum(head.counts)[:-1]])
    middle = np.add.reduceat(head.points[head.indices], starts) / head.counts[:, None]
    # The hairline rises from the neck to the forehead.
    above = middle[:, 2] > 1.585 + 0.085 * np.clip(0.5 - middle[:, 1] / 0.09, 0, 1)
    cap = head.faces(above)
    centre = np.array([0, 0.0, 1.64])
    cap.points[:] = centre + (cap.points - centre) * 1.07 + [0, 0.004, 0.003]
    return cap, _spine(cap.points)


def _ball(centre: Sequence[float], radius: Sequence[float]) -> Shape:
    rows = [(0.45, -0.95), (0.85, -0.6), (1.0, 0.0), (0.85, 0.6), (0.45, 0.95)]
    plan = np.stack([_ring((0, 0, z), (r, 0, 0), (0, r, 0)) for r, z in rows])
    return loft(plan).scaled(*radius).moved(*centre)


def _face() -> tuple[Shape, np.ndarray]:
    """Two eyes."""
    shape = joined(*(_ball((0.031 * s, -0.101, 1.635), (0.0105, 0.007, 0.014)) for s in (-1, 1)))
    return shape, _only(shape, "Head")


def _skin() -> tuple[Shape, np.ndarray]:
    """Head, nose, ears and hands."""
    head, weights = _head()
    parts, all_weights = [head], [weights]
    for ball in (
        _ball((0, -0.112, 1.605), (0.011, 0.014, 0.014)),
        *(_ball((0.084 * s, 0.004, 1.615), (0.011, 0.018, 0.025)) for s in (-1, 1)),
    ):
        parts.append(ball)
        all_weights.append(_only(ball, "Head"))
    for side in ("Left", "Right"):
        hand, weights = _hand(side)
        parts.append(hand)
        all_weights.append(weights)
    return joined(*parts), np.concatenate(all_weights)


def _only(shape: Shape, joint: str) -> np.ndarray:
    out = np.zeros((len(shape.points), len(NAMES)))
    out[:, NAMES.index(joint)] = 1
    return out


def _hand(side: str) -> tuple[Shape, np.ndarray]:
    """A hand with its fingers together, flat against the thigh, its thumb ahead."""
    elbow, wrist = JOINTS[side + "ForeArm"], JOINTS[side + "Hand"]
    way = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    ahead = np.array([0, -1.0, 0]) - way * (way @ [0, -1.0, 0])
    ahead /= np.linalg.norm(ahead)
    thin = np.cross(way, ahead)
    rings = []
    for at, wide, deep in ((-0.05, 0.028, 0.026), (0.0, 0.030, 0.024), (0.03, 0.043, 0.022), (0.07, 0.049, 0.020),
                           (0.11, 0.046, 0.018), (0.15, 0.037, 0.014), (0.17, 0.018, 0.009)):  # fmt: skip
        rings.append(_ring(wrist + way * at, ahead * wide, thin * deep))
    palm = loft(np.stack(rings))
    thumb = []
    lean = way * 0.75 + ahead * 0.66
    for at, radius in ((0.0, 0.014), (0.025, 0.014), (0.05, 0.012), (0.062, 0.006)):
        right = np.cross(lean, thin)
        thumb.append(_ring(wrist + way * 0.025 + ahead * 0.024 + lean * at, right * radius, thin * radius))
    shape = joined(palm, _outside_out(loft(np.stack(thumb))))
    weights = _arm(shape.points, side)
    weights[len(palm.points) :] = _only(shape, side + "Hand")[len(palm.points) :]
    return _outside_out(shape), weights


def _outside_out(shape: Shape) -> Shape:
    """A closed shape with its faces turned outward, should they all look inward."""
    starts = np.concatenate([[0], np.cumsum(shape.counts)[:-1]])
    a, b, c = (shape.points[shape.indices[starts + i]] for i in range(3))
    if (np.cross(a, b) * c).sum() >= 0:
        return shape
    indices, uv = shape.indices.copy(), shape.uv.copy()
    for start, count in zip(starts, shape.counts, strict=True):
        indices[start : start + count] = indices[start : start + count][::-1]
        uv[start : start + count] = uv[start : start + count][::-1]
    return Shape(shape.points, shape.counts, indices, uv)


def _shoes() -> tuple[Shape, np.ndarray]:
    parts, weights = [], []
    for side in ("Left", "Right"):
        x = JOINTS[side + "Foot"][0]
        rings = []
        for y, wide, tall in ((0.085, 0.024, 0.05), (0.075, 0.036, 0.09), (0.03, 0.043, 0.105), (-0.03, 0.043, 0.095),
                              (-0.09, 0.049, 0.07), (-0.14, 0.045, 0.052), (-0.165, 0.026, 0.034)):  # fmt: skip
            ring = _ring((x, y, tall / 2), (wide, 0, 0), (0, 0, tall / 2))
            ring[:, 2] = np.maximum(ring[:, 2], 0.0)
            rings.append(ring)
        shoe = loft(np.stack(rings))
        parts.append(shoe)
        weights.append(_only(shoe, side + "Foot"))
    return joined(*parts), np.concatenate(weights)


def character(folder: Path) -> Path:
    """The figure; its animation is part of it."""
    asset = Asset(folder, "Character")
    body = UsdSkel.Root.Define(asset.stage, "/Character/Body")
    asset.stage.RemovePrim("/Character/Geometry")
    skeleton = _write_skeleton(asset.stage, "/Character/Body/Skeleton")
    looks = {
        "Shirt": asset.look("Shirt", (1, 1, 1), "shirt", 0.9),
        "Trousers": asset.look("Trousers", (0.17, 0.15, 0.11), roughness=0.9),
        "Skin": asset.look("Skin", (0.62, 0.37, 0.25), roughness=0.55),
        "Hair": asset.look("Hair", (0.075, 0.04, 0.022), roughness=0.6),
        "Eyes": asset.look("Eyes", (0.01, 0.01, 0.012), roughness=0.2),
        "Shoes": asset.look("Shoes", (0.55, 0.12, 0.06), roughness=0.5),
    }
    pieces = {"Shirt": _torso(), "Trousers": _trousers(), "Skin": _skin(), "Hair": _hair(), "Eyes": _face(),
              "Shoes": _shoes()}  # fmt: skip
    tiles = {"Shirt": STRIPES}
    for name, (shape, weights) in pieces.items():
        mesh = asset.mesh(name, shape.tiled(tiles.get(name, 1.0)), looks[name], double_sided=True, below="Body")
        _bind(mesh, weights, skeleton)
    extent = body.CreateExtentAttr()
    for frame in range(FIRST, LAST + 1):
        every = np.concatenate(list(skinned_points(body.GetPrim(), frame).values()))
        box = np.round([every.min(0), every.max(0)], 4).astype(np.float32)
        extent.Set(Vt.Vec3fArray.FromNumpy(box), frame)
    for start, setter in ((FIRST, asset.stage.SetStartTimeCode), (LAST, asset.stage.SetEndTimeCode)):
        setter(start)
    asset.stage.SetTimeCodesPerSecond(24)
    return asset.save()


def _bind(mesh: UsdGeom.Mesh, weights: np.ndarray, skeleton: UsdSkel.Skeleton) -> None:
    """Binds a mesh to its two strongest joints a vertex."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :2]
    strongest = np.take_along_axis(weights, order, 1)
    strongest = np.round(strongest / strongest.sum(1, keepdims=True), 4)
    strongest[:, 1] = 1 - strongest[:, 0]
    api = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    api.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    api.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    api.CreateJointIndicesPrimvar(False, 2).Set(Vt.IntArray.FromNumpy(order.ravel().astype(np.int32)))
    api.CreateJointWeightsPrimvar(False, 2).Set(Vt.FloatArray.FromNumpy(strongest.ravel().astype(np.float32)))


def _write_skeleton(stage: Usd.Stage, path: str) -> UsdSkel.Skeleton:
    skeleton = UsdSkel.Skeleton.Define(stage, path)
    joints = Vt.TokenArray([_path(name) for name in NAMES])
    skeleton.CreateJointsAttr(joints)
    rest = []
    for name in NAMES:
        above = _parent(name)
        rest.append(JOINTS[name] - (JOINTS[above] if above else 0))
    skeleton.CreateBindTransformsAttr([Gf.Matrix4d().SetTranslate(Gf.Vec3d(*JOINTS[n].tolist())) for n in NAMES])
    skeleton.CreateRestTransformsAttr([Gf.Matrix4d().SetTranslate(Gf.Vec3d(*r.tolist())) for r in rest])
    animation = UsdSkel.Animation.Define(stage, f"{path}/RaiseArm")
    animation.CreateJointsAttr(joints)
    animation.CreateTranslationsAttr([Gf.Vec3f(*r.tolist()) for r in rest])
    animation.CreateScalesAttr([Gf.Vec3h(1, 1, 1)] * len(NAMES))
    rotations = animation.CreateRotationsAttr()
    for frame in range(FIRST, LAST + 1):
        rotations.Set(Vt.QuatfArray([_rotation(name, frame) for name in NAMES]), frame)
    binding = UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    return skeleton


# Joint to its turns, (axis, degrees at the first frame, at the last), one after another. The right arm is at -X.
_TURNS: dict[str, list[tuple[str, float, float]]] = {
    "LeftArm": [("y", 33, 30)],
    "LeftForeArm": [("y", 6, 6), ("x", 12, 14)],
    "RightArm": [("y", -33, 78), ("z", 0, -8)],
    "RightForeArm": [("x", 12, 0), ("y", -6, 48)],
    "RightHand": [("y", 0, 14)],
    "Chest": [("y", 0, 4), ("z", 0, -5)],
    "Spine": [("y", 0, 2)],
    "Head": [("z", 4, -12), ("x", 0, -4)],
}


def _rotation(name: str, frame: int) -> Gf.Quatf:
    share = (frame - FIRST) / (LAST - FIRST)
    share = share * share * (3 - 2 * share)
    out = Gf.Rotation(Gf.Vec3d(1, 0, 0), 0)
    axes = {"x": Gf.Vec3d(1, 0, 0), "y": Gf.Vec3d(0, 1, 0), "z": Gf.Vec3d(0, 0, 1)}
    for axis, first, last in _TURNS.get(name, []):
        out = out * Gf.Rotation(axes[axis], first + (last - first) * share)
    quat = out.GetQuat()
    return Gf.Quatf(round(quat.GetReal(), 6), *(round(x, 6) for x in quat.GetImaginary()))


def studio(folder: Path) -> Path:
    """A paper backdrop that sweeps from the floor up."""
    asset = Asset(folder, "Studio")
    paper = asset.look("Paper", (0.40, 0.50, 0.50), roughness=0.95)
    profile = [(-4.0, 0), (0.6, 0), (1.1, 0), (1.5, 0.08), (1.75, 0.35), (1.8, 0.8), (1.8, 3.6)]
    rings = np.array([[(x, y, z) for x in (-4.5, -1.5, 1.5, 4.5)] for y, z in profile])
    asset.mesh("Backdrop", loft(rings, (False, False), around=False), paper, double_sided=True)
    return asset.save()


__all__ = ["FIRST", "LAST", "character", "studio"]
