"""The visual hull: what is left of the canonical cube when all that pictures show to be empty is carved away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..datasets.carving import carve
from ..datasets.objects import ObjectViews
from ..lifting.mesh import surface
from .lifts_cases import OrbitModel
from .lifts_solid import Solid, painted_solid

CELLS = 48


def visual_hull(model: OrbitModel, chosen: Sequence[int], cells: int = CELLS) -> Solid:
    """The solid within the outlines of the chosen views, cut by the model's canonical cube, in the world.

    It is told the true cameras and the true cube, which lifters are not.

    Raises:
        ValueError: nothing is within all outlines.
    """
    occupancy, color = carve(object_views(model), 0, cells, chosen)
    # Volumes are indexed z, y, x; around the cube there is nothing.
    occupancy, color = np.pad(occupancy.transpose(2, 1, 0), 1), color.transpose(2, 1, 0, 3)
    spacing = 2 / cells
    points, faces, _ = surface(1 - 2 * occupancy, spacing, np.full(3, -1 - spacing / 2))
    middles = np.argwhere(_near_surface(occupancy[1:-1, 1:-1, 1:-1]))
    places = (middles + 0.5) * spacing - 1
    solid = painted_solid(points, faces, places, color[tuple(middles.T)], nearest=2)
    return solid.placed(model.cube)


def object_views(model: OrbitModel) -> ObjectViews:
    """A model's pictures as the arrays that volumes are learned from: one object."""
    color = np.stack([np.where(view.mask[..., None], view.color, 0) for view in model.views])
    matrices = [np.linalg.inv(model.cube @ view.camera.world_to_camera) for view in model.views]
    return ObjectViews(
        color=(color * 255).round().astype(np.uint8)[None],
        mask=np.stack([view.mask for view in model.views])[None],
        camera_to_canonical=np.stack(matrices).astype(np.float32)[None],
        intrinsics=np.array([[view.camera.lens for view in model.views]], np.float32),
        scale=np.array([model.half], np.float32),
        names=[model.name],
        texts=[model.text],
    )


def _near_surface(occupancy: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation, binary_erosion

    solid = occupancy > 0.25
    return binary_dilation(solid) & ~binary_erosion(solid)
