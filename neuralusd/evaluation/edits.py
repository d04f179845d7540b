"""Edits with a true answer: USD opinions over a scene's stage that Cycles can render and a model can follow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade

from .. import stage as stages
from ..api import edit as edit_stage
from ..api import edit_over
from ..schema import NeuralAssetAPI

MOVED, ROTATED, RECOLOURED, REPLACED, BACKGROUND = KINDS = (
    "moved",
    "rotated",
    "recoloured",
    "replaced",
    "background replaced",
)


@dataclass(frozen=True)
class View:
    """A prim seen in a frame: what a model's new tokens are encoded from.

    `stage` is the file of a stage, or empty for the edited stage itself.
    """

    stage: str
    path: str
    time: float


@dataclass(frozen=True)
class Edit:
    """One edit of one prim.

    Attributes:
        kind: of `KINDS`. path: the prim.
        value: moved: offset (3) in metres, world axes. rotated: degrees about the up axis. recoloured: linear RGB (3).
            replaced: (16) local-to-world of the new asset, row-major. background replaced: textures, shader's path to
            file.
        donor: where the model's new tokens are seen; None where the edit keeps the tokens. For "replaced" its prim is
            what is referenced.
    """

    kind: str
    path: str
    value: Any
    donor: View | None = None

    def as_json(self, folder: str | os.PathLike) -> dict[str, Any]:
        """Plain JSON, its files relative to `folder`: what a cached truth is known by, on any machine."""
        content = asdict(self)
        if self.kind == BACKGROUND:
            content["value"] = {path: os.path.relpath(file, folder) for path, file in self.value.items()}
        if self.donor is not None and self.donor.stage:
            content["donor"]["stage"] = os.path.relpath(self.donor.stage, folder)
        return content


def write_edit(base: str | Path, output: str | Path, edit: Edit, time: float) -> Path:
    """Writes a layer at `output` over the stage `base` that makes one edit; returns its path.

    Raises:
        EditError, ValueError: what cannot be edited.
    """
    stage = edit_over(base, output, overwrite=True)
    author(stage, edit, time)
    return stages.save(stage)


def author(stage: Usd.Stage, edit: Edit, time: float) -> None:
    """Authors an edit on the stage's edit target; a pose that is animated is changed at all its samples, but for
    "replaced", which stands at `time`."""
    if edit.kind == MOVED:
        edit_stage(stage, move={edit.path: edit.value})
    elif edit.kind == ROTATED:
        edit_stage(stage, rotate={edit.path: edit.value})
    elif edit.kind == RECOLOURED:
        recolour(stage, edit.path, edit.value)
    elif edit.kind == REPLACED:
        assert edit.donor is not None
        _replace(stage, edit.path, edit.donor, np.reshape(edit.value, (4, 4)), time)
    elif edit.kind == BACKGROUND:
        for path, file in edit.value.items():
            shader = UsdShade.Shader(stage.GetPrimAtPath(path))
            shader.GetInput("file").Set(Sdf.AssetPath(_relative(stage, file)))
    else:
        raise ValueError(f"there is no edit '{edit.kind}'; there are: {', '.join(KINDS)}")


def recolour(stage: Usd.Stage, path: str, color: Sequence[float]) -> None:
    """Gives every UsdPreviewSurface below a prim a base colour; a texture that feeds it is multiplied by the colour.

    Args:
        color: linear RGB. Lightness of plain colours is kept in part, so that a thing of two colours stays one.

    Raises:
        ValueError: the prim has no such look.
    """
    tint = np.asarray(color, np.float64)
    looks = _base_colours(stage, path)
    if not looks:
        raise ValueError(f"<{path}> has no UsdPreviewSurface look to recolour")
    for base, texture in looks:
        if texture is not None:
            factor = tint / max(float(tint.max()), 1e-3)
            texture.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(*factor.tolist(), 1.0))
        else:
            old = base.Get()
            light = 0.35 + 0.65 * float(max(old if old is not None else (0.18,)))
            base.Set(Gf.Vec3f(*(tint * light).tolist()))


def can_recolour(stage: Usd.Stage, path: str) -> bool:
    """Whether a prim has a look that `recolour` can change."""
    return bool(_base_colours(stage, path))


def other_textures(stage: Usd.Stage, path: str, random: np.random.Generator) -> dict[str, str]:
    """Another texture for each one below a prim, drawn from the files beside it, of another name before the `_`.

    Returns:
        Path of the UsdUVTexture to file; empty where the prim has no textures, or there are no others.
    """
    chosen = {}
    for prim in Usd.PrimRange(stage.GetPrimAtPath(path)):
        shader = UsdShade.Shader(prim)
        value = shader.GetInput("file").Get() if shader and shader.GetInput("file") else None
        if value is None or not value.resolvedPath:
            continue
        file = Path(value.resolvedPath)
        others = [p for p in sorted(file.parent.glob(f"*{file.suffix}")) if _kind(p) != _kind(file)]
        if others:
            chosen[str(prim.GetPath())] = str(others[int(random.integers(len(others)))])
    return chosen


def floor_plan(stage: Usd.Stage, path: str, time: float) -> np.ndarray:
    """(N, 3) points of the meshes below a prim, in metres, world space; what is inside of a room."""
    unit = UsdGeom.GetStageMetersPerUnit(stage)
    found = [np.zeros((0, 3))]
    for prim in Usd.PrimRange(stage.GetPrimAtPath(path)):
        points = UsdGeom.Mesh(prim).GetPointsAttr().Get(time) if prim.IsA(UsdGeom.Mesh) else None
        if points:
            matrix = np.array(UsdGeom.Mesh(prim).ComputeLocalToWorldTransform(time))
            found.append((np.array(points, np.float64) @ matrix[:3, :3] + matrix[3, :3]) * unit)
    return np.concatenate(found)


def _replace(stage: Usd.Stage, path: str, donor: View, local_to_world: np.ndarray, time: float) -> None:
    """References the donor's prim, with all that its scene says of it, in place of what the prim referenced."""
    prim = stages.editable_prim(stage, path)
    prim.GetReferences().SetReferences([Sdf.Reference(_relative(stage, donor.stage), Sdf.Path(donor.path))])
    animated = UsdGeom.Xformable(prim).GetTimeSamples()
    stages.write_pose(stage, path, local_to_world, time if animated else None)
    other = stages.open_stage(donor.stage)
    # The scene's own opinion of what stands here is stronger than the reference's.
    text = NeuralAssetAPI(other.GetPrimAtPath(donor.path)).GetTextAttr().Get()
    if text:
        NeuralAssetAPI(prim).CreateTextAttr(text)


def _base_colours(stage: Usd.Stage, path: str) -> list[tuple[UsdShade.Input, UsdShade.Shader | None]]:
    """Base colour of every UsdPreviewSurface below a prim, with the texture that feeds it."""
    found = []
    for prim in Usd.PrimRange(stage.GetPrimAtPath(path)):
        shader = UsdShade.Shader(prim)
        if not shader or shader.GetIdAttr().Get() != "UsdPreviewSurface":
            continue
        base = shader.GetInput("diffuseColor") or shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        sources = base.GetConnectedSources()[0]
        if not sources:
            found.append((base, None))
            continue
        texture = UsdShade.Shader(sources[0].source.GetPrim())
        if texture and texture.GetIdAttr().Get() == "UsdUVTexture":
            found.append((base, texture))
    return found


def _kind(file: Path) -> str:
    return file.stem.partition("_")[0]


def _relative(stage: Usd.Stage, file: str) -> str:
    layer = stage.GetEditTarget().GetLayer()
    folder = os.path.dirname(os.path.abspath(layer.realPath or layer.identifier))
    path = os.path.relpath(os.path.abspath(file), folder).replace(os.sep, "/")
    return path if path.startswith("../") else f"./{path}"
