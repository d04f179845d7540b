"""Everything of neuralusd that touches `pxr`: a `Scene` from a stage, and back."""

from .cameras import find_camera, find_cameras, frame_stage, read_camera
from .create import create_stage
from .discover import discover_assets
from .edit import editable_prim, ensure_background, write_tokens
from .edits import donor_prim, move, replace_background, rotate, scale, set_box, set_presence, take_tokens
from .gbuffer import render_gbuffer, surfaces_of
from .geometry import Piece, gather_meshes
from .open import composition_problems, open_stage
from .orbit import orbit_views
from .passes import render_passes
from .pose import write_pose
from .read import read
from .settings import image_size, render_settings
from .sidecar import save, sidecar, sidecar_path
from .views_io import write_surfaces
from .volume import read_volume

__all__ = [
    "Piece",
    "composition_problems",
    "create_stage",
    "discover_assets",
    "donor_prim",
    "editable_prim",
    "ensure_background",
    "find_camera",
    "find_cameras",
    "frame_stage",
    "gather_meshes",
    "image_size",
    "move",
    "open_stage",
    "orbit_views",
    "read",
    "read_camera",
    "read_volume",
    "render_gbuffer",
    "render_passes",
    "render_settings",
    "replace_background",
    "rotate",
    "save",
    "scale",
    "set_box",
    "set_presence",
    "sidecar",
    "sidecar_path",
    "surfaces_of",
    "take_tokens",
    "write_pose",
    "write_surfaces",
    "write_tokens",
]
