"""Everything of neuralusd that touches `pxr`: a `Scene` from a stage, and back."""

from .cameras import find_camera, find_cameras, frame_stage, read_camera
from .discover import discover_assets
from .edit import editable_prim, ensure_background, write_tokens
from .geometry import Piece, gather_meshes
from .open import composition_problems, open_stage
from .passes import render_passes
from .pose import write_pose
from .read import read
from .sidecar import save, sidecar, sidecar_path

__all__ = [
    "Piece",
    "composition_problems",
    "discover_assets",
    "editable_prim",
    "ensure_background",
    "find_camera",
    "find_cameras",
    "frame_stage",
    "gather_meshes",
    "open_stage",
    "read",
    "read_camera",
    "render_passes",
    "save",
    "sidecar",
    "sidecar_path",
    "write_pose",
    "write_tokens",
]
