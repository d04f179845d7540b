"""A textured mesh as binary glTF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from .shape import TexturedMesh

ROUGHNESS = 0.6


def write_glb(mesh: TexturedMesh, path: str | os.PathLike[str], name: str, extras: dict[str, Any]) -> None:
    """Writes a .glb, whole or not at all: one mesh called `name`, its texture within, in metres, Y up, as glTF has it.

    Args:
        extras: written as the scene's `extras`, for people: JSON values.

    Raises:
        OSError: the folder cannot be written to.
    """
    import trimesh

    # glTF shares a point between faces only where its texture coordinates are the same too.
    points = np.zeros(len(mesh.uv), np.int64)
    points[mesh.uv_faces] = mesh.faces
    material = trimesh.visual.material.PBRMaterial(
        name=name,
        baseColorTexture=PIL.Image.fromarray(mesh.texture),
        baseColorFactor=[255, 255, 255, 255],
        metallicFactor=0.0,
        roughnessFactor=ROUGHNESS,
    )
    shaped = trimesh.Trimesh(
        mesh.points[points],
        mesh.uv_faces,
        vertex_normals=mesh.normals[points],
        visual=trimesh.visual.TextureVisuals(uv=mesh.uv, material=material),
        process=False,
    )
    scene = trimesh.Scene()
    scene.add_geometry(shaped, node_name=name, geom_name=name)
    scene.metadata.update(extras)
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
