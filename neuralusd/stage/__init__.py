"""Everything of neuralusd that touches `pxr`: a `Scene` from a stage, and back."""

from .cameras import find_camera, find_cameras, frame_stage, read_camera
from .discover import discover_assets
from .geometry import Piece, gather_meshes
from .passes import render_passes
from .read import read

__all__ = [
    "Piece",
    "discover_assets",
    "find_camera",
    "find_cameras",
    "frame_stage",
    "gather_meshes",
    "read",
    "read_camera",
    "render_passes",
]
