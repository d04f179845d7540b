"""Keep what was not edited: where an edit may change the image, and joining the edit to the image before it."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw

from ..scene import Asset, Camera, Scene, Tokens


def footprint(before: Scene, after: Scene, height: int, width: int, margin: float = 0.12) -> np.ndarray:
    """Where an edit may change the image.

    That is the projected boxes, before and after, of every asset that changed (pose, box, presence, tokens), wider by
    `margin` of each box's size for contact shadows and reflections. A change of camera or of the background is the
    whole image.

    Returns:
        (height, width) bool.
    """
    whole = np.ones((height, width), bool)
    if _camera_changed(before.camera, after.camera):
        return whole
    mask = PIL.Image.new("1", (width, height))
    draw = PIL.ImageDraw.Draw(mask)
    earlier = {asset.path: asset for asset in before.assets}
    later = {asset.path: asset for asset in after.assets}
    for path in earlier.keys() | later.keys():
        old, new = earlier.get(path), later.get(path)
        if old is not None and new is not None and not _asset_changed(old, new):
            continue
        for asset in (old, new):
            if asset is None or asset.presence <= 0:
                continue
            if asset.role == "background":
                return whole
            polygon = _outline(asset, after.camera, margin)
            if polygon is None:
                return whole
            if len(polygon) > 2:
                draw.polygon([(w * width, h * height) for h, w in polygon], fill=1)
    return np.array(mask)


def _camera_changed(before: Camera, after: Camera) -> bool:
    same_lens = (
        before.projection == after.projection
        and np.isclose(before.focal_length / before.horizontal_aperture, after.focal_length / after.horizontal_aperture)
        and np.isclose(before.focal_length / before.vertical_aperture, after.focal_length / after.vertical_aperture)
        and np.isclose(before.horizontal_aperture_offset, after.horizontal_aperture_offset)
        and np.isclose(before.vertical_aperture_offset, after.vertical_aperture_offset)
    )
    return not (same_lens and np.allclose(before.world_to_camera, after.world_to_camera))


def _asset_changed(before: Asset, after: Asset) -> bool:
    def different(a: np.ndarray | None, b: np.ndarray | None) -> bool:
        return (a is None) != (b is None) or (a is not None and b is not None and not np.allclose(a, b))

    boxes = [None if asset.box2d is None else asset.box2d.array() for asset in (before, after)]
    return (
        before.role != after.role
        or not np.isclose(before.presence, after.presence)
        or different(before.local_to_world, after.local_to_world)
        or different(before.extent, after.extent)
        or different(*boxes)
        or before.tokens.keys() != after.tokens.keys()
        or any(_tokens_changed(before.tokens[name], after.tokens[name]) for name in before.tokens)
    )


def _tokens_changed(before: Tokens, after: Tokens) -> bool:
    return before.values.shape != after.values.shape or not np.array_equal(before.values, after.values)


def _outline(asset: Asset, camera: Camera, margin: float) -> np.ndarray | None:
    """(n, 2) of h, w: the convex outline of the asset's box, wider by `margin`; None when it can't be said."""
    from scipy.spatial import ConvexHull, QhullError

    if asset.extent is None:
        if asset.box2d is None:
            return None
        x, y, h, w = asset.box2d.array()
        corners = np.array([[y, x], [y, x + w], [y + h, x + w], [y + h, x]])
    else:
        projected = camera.project(asset.corners())
        if camera.projection == "perspective" and (projected[:, 2] <= 1e-6).any():
            return None
        corners = projected[:, :2]
    centre = (corners.min(0) + corners.max(0)) / 2
    wider = centre + (corners - centre) * (1 + 2 * margin)
    try:
        return wider[ConvexHull(wider).vertices]
    except QhullError:
        return np.zeros((0, 2))


def feather(mask: np.ndarray, fraction: float = 0.03) -> np.ndarray:
    """(H, W) float in 0..1: 0 outside of the mask, rising to 1 within `fraction` of the image's height inside of it."""
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        return np.ones(mask.shape, np.float32)
    ramp = np.clip(distance_transform_edt(mask) / max(1.0, fraction * mask.shape[0]), 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def composite(image: np.ndarray, held: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`image` where `weight` (H, W) is 1, `held` where it is 0; both (H, W, 3)."""
    return held + (image - held) * weight[..., None]
