"""Edits are USD edits: xformOps, relationships, presence, a reference. All are authored on the stage's edit target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from pxr import Gf, Sdf, Tf, Usd, UsdGeom

from ..errors import EditError
from ..scene import APPEARANCE, BACKGROUND, GEOMETRY, Tokens
from ..schema import NeuralAssetAPI, NeuralTokensAPI
from .bounds import Transforms
from .donors import DONORS
from .edit import editable_prim
from .pose import write_pose
from .read import read
from .tokens import read_tokens


def move(stage: Usd.Stage, path: str, offset: Sequence[float], time: float | None = None) -> None:
    """Moves a prim by `offset` (3) in metres, along the world's axes."""
    matrix = np.eye(4)
    matrix[3, :3] = _numbers(path, "an offset", offset, 3)
    local_to_world = _local_to_world(stage, path, time)
    write_pose(stage, path, local_to_world @ matrix, time)


def rotate(stage: Usd.Stage, path: str, degrees: float, time: float | None = None) -> None:
    """Turns a prim by `degrees` about the up axis through its own origin, counter-clockwise seen from above."""
    (angle,) = _numbers(path, "an angle", [degrees], 1)
    axis = Gf.Vec3d.YAxis() if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y else Gf.Vec3d.ZAxis()
    turn = np.array(Gf.Matrix4d().SetRotate(Gf.Rotation(axis, float(angle))))
    _about_origin(stage, path, turn, time)


def scale(stage: Usd.Stage, path: str, factor: float, time: float | None = None) -> None:
    """Scales a prim about its own origin. Raises EditError for a factor that is not positive."""
    (value,) = _numbers(path, "a factor", [factor], 1)
    if value <= 0:
        raise EditError(f"<{path}> cannot be scaled by {value:g}; give a factor above 0, or make it absent")
    _about_origin(stage, path, np.diag([value, value, value, 1.0]), time)


def set_presence(stage: Usd.Stage, path: str, presence: float) -> None:
    """Sets how present an asset is, 0 (gone) to 1."""
    (value,) = _numbers(path, "a presence", [presence], 1)
    if not 0 <= value <= 1:
        raise EditError(f"<{path}> cannot have presence {value:g}; it is 0 (gone) to 1")
    _asset(stage, path).CreatePresenceAttr(float(value))


def set_box(stage: Usd.Stage, path: str, box: Sequence[float], time: float | None = None) -> None:
    """Sets where an asset without a place in space is in the image: (x, y, h, w), normalised, x and y of its top left.

    Raises:
        EditError: there is no such asset, it has a place in space, or the box has no size.
    """
    x, y, h, w = _numbers(path, "a box in the image", box, 4)
    if h <= 0 or w <= 0:
        raise EditError(f"<{path}> cannot have a box {h:g} high and {w:g} wide; give x, y, height, width above 0")
    asset = _asset(stage, path)
    if any(known.path == path and known.extent is not None for known in read(stage, None, time).assets):
        raise EditError(f"<{path}> has a place in space, which its box in the image follows; move it instead")
    attribute = asset.CreateBox2dAttr()
    codes = [time] if time is not None else attribute.GetTimeSamples() or [Usd.TimeCode.Default()]
    for code in codes:
        attribute.Set(Gf.Vec4f(float(x), float(y), float(h), float(w)), code)


def take_tokens(stage: Usd.Stage, path: str, modality: str, donor: str) -> None:
    """Lets an asset take one modality's tokens of another prim, by the relationship `neural:tokens:<modality>:from`.

    Args:
        donor: a prim of this stage ("/World/Bottle"), or of another ("other.usda:/World/Bottle"), which is then
        referenced
            below </NeuralDonors>.

    Raises:
        EditError: there is no such asset, donor, or the donor has no such tokens.
    """
    asset = _asset(stage, path)
    source = donor_prim(stage, donor)
    if source == asset.GetPrim():
        raise EditError(f"<{path}> cannot take its own {modality}; name another prim")
    theirs = {tokens.GetName() for tokens in NeuralTokensAPI.GetAll(source)}
    if modality not in theirs:
        has = ", ".join(sorted(theirs)) or "none"
        raise EditError(
            f"<{donor}> has no {modality} tokens (it has: {has}); run `neuralusd encode` on its stage first"
        )
    NeuralTokensAPI.Apply(asset.GetPrim(), modality).CreateFromRel().SetTargets([source.GetPath()])


def replace_background(stage: Usd.Stage, donor: str, time: float | None = None) -> None:
    """Gives the background the tokens of another, placed so that the donor's picture is seen from where the old one
    was.

    Where the new background is, is an xformOp of the background prim, as every pose.

    Args:
        donor: as for `take_tokens`.

    Raises:
        EditError: the stage has no background, or the donor has no tokens.
    """
    backgrounds = [
        p for p in stage.Traverse() if NeuralAssetAPI(p) and NeuralAssetAPI(p).GetRoleAttr().Get() == BACKGROUND
    ]
    if not backgrounds:
        raise EditError(
            f"{stage.GetRootLayer().identifier} has no background to replace; run `neuralusd encode` on it first"
        )
    path = str(backgrounds[0].GetPath())
    old, new = (read_tokens(prim, time).get(APPEARANCE) for prim in (backgrounds[0], donor_prim(stage, donor)))
    for modality in (APPEARANCE, GEOMETRY):
        take_tokens(stage, path, modality, donor)
    if old is not None and new is not None and old.view is not None and new.view is not None:
        camera_to_world = np.linalg.inv(old.view) @ _local_to_world(stage, path, time)
        # From the camera the donor looks the same at any size; at this one its floor is where the old floor was.
        size = np.diag([*[_depth_ratio(old, new)] * 3, 1.0])
        write_pose(stage, path, new.view @ size @ camera_to_world, time)


def _depth_ratio(old: Tokens, new: Tokens) -> float:
    """How much farther the old background is than the new one, in the lowest quarter of their pictures, or anywhere."""
    depths = []
    for tokens in (old, new):
        if tokens.points is None or tokens.view is None:
            return 1.0
        depths.append(-(tokens.points @ tokens.view[:3, :3] + tokens.view[3, :3])[:, 2].reshape(tokens.grid))
    if old.grid != new.grid:
        return float(np.nanmedian(depths[0]) / np.nanmedian(depths[1]))
    ratio = depths[0] / depths[1]
    rows = old.grid[0] // 4
    lowest = ratio[-rows:] if rows and np.isfinite(ratio[-rows:]).any() else ratio
    return float(np.nanmedian(lowest)) if np.isfinite(lowest).any() else 1.0


def donor_prim(stage: Usd.Stage, donor: str) -> Usd.Prim:
    """The prim a donor's name stands for; see `take_tokens`. Raises EditError when there is none."""
    file, colon, path = donor.rpartition(":")
    if not colon:
        file, path = "", donor
    if not Sdf.Path.IsValidPathString(path) or not Sdf.Path(path).IsAbsolutePath():
        raise EditError(f"'{donor}' is not a prim's path; write /World/Bottle, or other.usda:/World/Bottle")
    if not file:
        prim = stage.GetPrimAtPath(path)
        if not prim:
            raise EditError(f"there is no prim <{path}> on {stage.GetRootLayer().identifier} to take tokens from")
        return prim
    layer = stage.GetEditTarget().GetLayer()
    digest = hashlib.sha256(f"{os.path.abspath(file)}:{path}".encode()).hexdigest()[:8]
    name = Tf.MakeValidIdentifier(f"{Sdf.Path(path).name}_{digest}")
    stage.CreateClassPrim(DONORS)
    prim = stage.CreateClassPrim(DONORS.AppendChild(name))
    prim.GetReferences().SetReferences([Sdf.Reference(_relative(layer, file), Sdf.Path(path))])
    if not NeuralTokensAPI.GetAll(prim):
        stage.RemovePrim(prim.GetPath())
        raise EditError(
            f"{file} has no prim <{path}> with tokens; check the path, or run `neuralusd encode {file}` and name its "
            f"sidecar"
        )
    return prim


def _relative(layer: Sdf.Layer, file: str) -> str:
    target = os.path.abspath(file)
    if not (layer.realPath or layer.identifier) or layer.anonymous:
        return target
    path = os.path.relpath(target, os.path.dirname(layer.realPath or layer.identifier)).replace(os.sep, "/")
    return path if path.startswith("../") else f"./{path}"


def _asset(stage: Usd.Stage, path: str) -> NeuralAssetAPI:
    prim = stage.GetPrimAtPath(path) if Sdf.Path.IsValidPathString(path) else None
    if not prim or prim.IsPseudoRoot():
        known = [str(p.GetPath()) for p in stage.Traverse(Usd.TraverseInstanceProxies()) if NeuralAssetAPI(p)]
        raise EditError(
            f"there is no prim <{path}> on {stage.GetRootLayer().identifier}; its neural assets are: "
            f"{', '.join(known) or 'none'}"
        )
    prim = editable_prim(stage, path)
    return NeuralAssetAPI(prim) if NeuralAssetAPI(prim) else NeuralAssetAPI.Apply(prim)


def _local_to_world(stage: Usd.Stage, path: str, time: float | None) -> np.ndarray:
    return Transforms(stage, time).checked(_asset(stage, path).GetPrim())


def _about_origin(stage: Usd.Stage, path: str, matrix: np.ndarray, time: float | None) -> None:
    local_to_world = _local_to_world(stage, path, time)
    origin = local_to_world[3, :3].copy()
    changed = local_to_world.copy()
    changed[3, :3] = 0
    changed = changed @ matrix
    changed[3, :3] = origin
    write_pose(stage, path, changed, time)


def _numbers(path: str, what: str, values: Sequence[float], count: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise EditError(
            f"<{path}> cannot be edited by {list(values)}; {what} is {count} finite number{'s' * (count > 1)}"
        )
    return array
