"""What neuralusd sees in a stage, and what is wrong with it: the stage's part of `neuralusd doctor`. No torch."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pxr import Sdf, Usd, UsdGeom

from . import stage as stages
from .backends import DEFAULT_BACKEND, find_backend
from .errors import BackendError, SceneError
from .scene import Asset, Scene
from .schema import NeuralAssetAPI
from .validators import ERROR, Issue, validate


@dataclass
class Inspection:
    """What is in a stage.

    Attributes:
        stage: the root layer's file. up_axis, meters_per_unit: its own. frames: start and end time code, if it says.
        cameras: paths. camera: the one that would be rendered with; None where the stage would be framed.
        marked: whether the assets are marked as such; otherwise they are those that `encode` would take.
        assets: of each asset path, role, pose ("geometry", "box2d" or "everywhere"), presence, and tokens (modality to
            shape, encoder and revision).
        problems: what keeps the stage from being used, or could not be composed.
        notes: what was left out, or may not be meant.
        issues: what is wrong with neural prims, see `neuralusd.validators`.
    """

    stage: str
    up_axis: str
    meters_per_unit: float
    frames: tuple[float, float] | None
    cameras: list[str]
    camera: str | None = None
    marked: bool = False
    assets: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing keeps the stage from being encoded and rendered."""
        return not self.problems and not any(issue.severity == ERROR for issue in self.issues)


def inspect_stage(
    stage: Usd.Stage, camera: str | None = None, time: float | None = None, backend: str | Path | None = None
) -> Inspection:
    """Looks at a stage as `encode` and `render` would. Never raises for what is wrong with the stage."""
    found = Inspection(
        stage=stage.GetRootLayer().realPath or stage.GetRootLayer().identifier,
        up_axis=str(UsdGeom.GetStageUpAxis(stage)),
        meters_per_unit=UsdGeom.GetStageMetersPerUnit(stage),
        frames=(stage.GetStartTimeCode(), stage.GetEndTimeCode()) if stage.HasAuthoredTimeCodeRange() else None,
        cameras=stages.find_cameras(stage),
        problems=stages.composition_problems(stage),
        issues=validate(stage),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            scene = stages.read(stage, camera, time)
        except SceneError as error:
            found.problems.append(str(error))
        else:
            found.camera = scene.camera.path or None
            found.marked = any(NeuralAssetAPI(stage.GetPrimAtPath(Sdf.Path(a.path))) for a in scene.foreground)
            found.assets = [_asset(asset) for asset in scene.assets]
            found.notes += _mismatches(
                scene, backend or stages.render_settings(stage).get("backend") or DEFAULT_BACKEND
            )
    found.notes += dict.fromkeys(str(warning.message) for warning in caught)
    return found


def expected_encoders(backend: str | Path) -> dict[str, tuple[str, str]]:
    """Modality to the id and revision of the encoder that a local backend reads; empty for one that is not here."""
    try:
        folder = Path(find_backend(backend))
    except BackendError:
        return {}
    found = {}
    for modality in ("appearance", "geometry"):
        try:
            config = json.loads((folder / f"{modality}_encoder" / "config.json").read_text(encoding="utf-8"))
            found[modality] = (config["identifier"], config["revision"])
        except (OSError, ValueError, KeyError):
            continue
    return found


def _asset(asset: Asset) -> dict[str, Any]:
    pose = "geometry" if asset.extent is not None else "box2d" if asset.box2d is not None else "everywhere"
    return {
        "path": asset.path,
        "role": asset.role,
        "pose": pose,
        "presence": asset.presence,
        "tokens": {
            name: {"shape": list(tokens.values.shape), "encoder": tokens.encoder, "revision": tokens.revision}
            for name, tokens in asset.tokens.items()
        },
    }


def _mismatches(scene: Scene, backend: str | Path) -> list[str]:
    expected = expected_encoders(backend)
    foreign = [
        asset.path
        for asset in scene.assets
        if any(
            (t.encoder, t.revision) != expected.get(name, (t.encoder, t.revision)) for name, t in asset.tokens.items()
        )
    ]
    if not foreign:
        return []
    names = ", ".join(f"<{path}>" for path in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    return [
        f"the backend '{backend}' does not read the tokens of {len(foreign)} of {len(scene.assets)} assets ({names}): "
        "they are another encoder's. Encode the stage again, or render it with the backend that made them."
    ]
