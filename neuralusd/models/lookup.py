"""Looking up: each surface point of the target asks what the views of its asset saw there.

The stage knows its surfaces, so nothing is thrown from the source onto the target: the target's G-buffer says which
point of which asset each sample shows, and that point is projected into every view of the asset. A view counts where
its own depth says that it saw this very surface, by its angle to it and by its resolution. What no view saw is marked,
and has the stage's own shaded colour, as bright as what was seen beside it; where there is not even that, the colours
around.

The paper has no such channels (Neural USD leaves it to cross-attention); without them this is its plain recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..colors import linear_to_srgb, srgb_to_linear
from ..scene import ALBEDO, APPEARANCE, GEOMETRY, Asset, Camera, GBuffer, Scene, Tokens, View
from ..surfaces.sheets import IS_SKY
from .fill import fill_holes
from .gains import local_gains
from .view_pixels import pixels_of

# What is looked up of each pixel: colour (3), whether a picture saw it, whether anything is known of it, the shaded
# colour (3), the normal in camera space (3), relative log depth, whether it is an object's, whether it is a surface.
CHANNELS = 14
# The first of each of them.
COLOR, SEEN, KNOWN, SHADED, NORMAL, DEPTH, FOREGROUND, SURFACE = 0, 3, 4, 5, 8, 11, 12, 13
# A point belongs to the surface that a view saw where its depth is within this part of the depths around.
_SAME = 0.012
# A picture whose pixels are this much finer than the image's, on a surface, counts not at all, and wholly.
_COARSE, _FINE = 0.25, 0.6
# A donor's points, at most so many; of them this many make a colour; what a normal counts beside a place in the box.
_POINTS, _NEAREST, _TURN = 20_000, 4, 0.15


@dataclass
class LookedUp:
    """`picture` (3, H, W) sRGB in 0..1: the colours that were found, without any network. `channels` (CHANNELS, H, W):
    what a denoiser is told, the colours in -1..1 among it."""

    picture: torch.Tensor
    channels: torch.Tensor


def look_up(scene: Scene, surfaces: GBuffer, without: Sequence[str] = ()) -> LookedUp:
    """What the views of a scene's assets know of an image's surfaces.

    Args:
        scene: assets with tokens, whose `views` are looked into, and the camera of `surfaces`.
        without: paths of assets whose appearance is left out.
    """
    count = len(surfaces)
    color, seen, known = np.zeros((count, 3), np.float32), np.zeros(count, np.float32), np.zeros(count, np.float32)
    lit = linear_to_srgb(surfaces.color * surfaces.shade[:, None] + surfaces.emission)
    order = np.argsort(surfaces.asset, kind="stable")
    numbers, starts = np.unique(surfaces.asset[order], return_index=True)
    for number, here in zip(numbers, np.split(order, starts[1:]), strict=True):
        asset = scene.assets[number] if number >= 0 else None
        surfaced = number < 0 or bool(surfaces.surfaced[number])
        if asset is not None and asset.path in without:
            lit[here] = linear_to_srgb(np.broadcast_to(0.5 * surfaces.shade[here, None], (len(here), 3)))
            continue
        found = _of_asset(asset, surfaces[here], lit[here], surfaced, scene.camera)
        color[here], seen[here], known[here], lit[here] = found
    height, width = surfaces.size
    weight = torch.from_numpy(surfaces.image(known)).clamp(0, 1)
    total = torch.from_numpy(surfaces.image(color * known[:, None])).permute(2, 0, 1)
    picture = _filled(total, weight)
    camera = scene.camera.world_to_camera[:3, :3] / np.linalg.norm(scene.camera.world_to_camera[:3, :3], axis=1)
    sky = surfaces.depth >= IS_SKY
    log_depth = np.log(np.maximum(np.where(sky, np.nan, surfaces.depth), 1e-6))
    log_depth = np.nan_to_num(log_depth - np.nanmean(log_depth)) if not sky.all() else np.zeros(count)
    foreground = np.array([*(asset.role != "background" for asset in scene.assets), False])[surfaces.asset]
    facts = np.concatenate(
        [
            2 * lit - 1,
            surfaces.normals @ camera,
            np.stack([np.clip(log_depth, -3, 3), foreground, ~sky], 1),
        ],
        1,
    ).astype(np.float32)
    flat = torch.from_numpy(surfaces.image(facts)).permute(2, 0, 1)
    told = torch.from_numpy(surfaces.image(seen)).clamp(0, 1)
    channels = torch.cat([picture * 2 - 1, told[None], weight[None], flat])
    return LookedUp(picture, channels.reshape(CHANNELS, height, width))


def nothing_looked_up(height: int, width: int) -> LookedUp:
    """Where nothing is known."""
    return LookedUp(torch.full((3, height, width), 0.5), torch.zeros(CHANNELS, height, width))


def _of_asset(
    asset: Asset | None, samples: GBuffer, lit: np.ndarray, surfaced: bool, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Colour (N, 3) and how far it was seen (N,) and is known (N,), 0 to 1, of an asset's samples; and the stage's own
    shaded colour of them (N, 3), a donor's as its own."""
    tokens = None if asset is None else asset.tokens.get(APPEARANCE)
    views = {} if tokens is None else tokens.views
    if asset is None or tokens is None or not views:
        known = np.full(len(samples), float(surfaced), np.float32)
        return lit, np.zeros(len(samples), np.float32), known, lit
    if borrowed(asset):
        color = _from_donor(asset, tokens, samples)
        ones = np.ones(len(samples), np.float32)
        return color, ones, ones, color
    every = list(views.values())
    pictures = [view for view in every if view.kind != ALBEDO]
    pixels, facing = _pixels_a_unit(asset, samples, camera)
    color, weight, finer = _from_views(pictures, samples, pixels, facing)
    gain = np.array(pictures[0].gain, np.float32) if pictures else np.ones(3, np.float32)
    # What a picture saw too coarsely is finer on the stage, if the stage knows its materials.
    seen = (weight > 0).astype(np.float32) * (_sharp(finer) if surfaced else 1)
    plain, known = lit * gain, np.full(len(samples), float(surfaced), np.float32)
    sky = samples.depth >= IS_SKY
    if pictures and sky.any():
        # A sky has no materials: what is not seen of it is as what is, and where none is seen nothing is known.
        shown = [view.color[np.isfinite(view.depth) & (view.depth >= IS_SKY)] for view in pictures]
        colors = np.concatenate(shown)
        plain[sky] = colors.mean(0) / 255 if len(colors) else 0
        known[sky] = float(len(colors) > 0)
    elif sky.any():
        known[sky] = 1  # the backdrop of the stage's own shaded view
    albedo = [view for view in every if view.kind == ALBEDO]
    # What was seen of base colours is asked where the stage does not say, or where it was told them beside a picture.
    if albedo and (pictures or not surfaced):
        base, share, _ = _from_views(albedo, samples, pixels, facing)
        share = np.where(sky, 0, share)
        plain = np.where(
            share[:, None] > 0, linear_to_srgb(srgb_to_linear(base) * samples.shade[:, None]) * gain, plain
        )
        known = np.maximum(known, share > 0).astype(np.float32)
    lights = local_gains(samples, plain, color, np.where(sky, 0, seen)) if pictures else 1
    color = seen[:, None] * color + (1 - seen[:, None]) * np.clip(plain * lights, 0, 1)
    return color.astype(np.float32), seen, np.maximum(known, seen), np.clip(plain, 0, 1)


def borrowed(asset: Asset) -> bool:
    """Whether an asset's look is another's than its shape: the boxes of the two were different things', or the look is
    that of a photograph without depth, which has no box."""
    look, shape = asset.tokens.get(APPEARANCE), asset.tokens.get(GEOMETRY)
    if look is None or shape is None or shape.extent is None:
        return False
    if look.extent is None:
        return True
    return not np.allclose(look.extent, shape.extent, rtol=1e-4, atol=1e-7)


def _sharp(finer: np.ndarray) -> np.ndarray:
    """(N,) how much a picture counts whose pixels on a surface are so many times finer than the image's."""
    return ((finer - _COARSE) / (_FINE - _COARSE)).clip(0, 1).astype(np.float32)


def _from_views(
    views: Sequence[View], samples: GBuffer, pixels: np.ndarray, facing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour (N, 3) and weight (N,) of points by what views saw of them; a weight of 0 is not seen. And how many times
    finer than the image the finest view saw them (N,).

    Args:
        pixels, facing: (N,) each, as `_pixels_a_unit` gives them.
    """
    total, weights = np.zeros((len(samples), 3), np.float32), np.zeros(len(samples), np.float32)
    finest = np.zeros(len(samples), np.float32)
    for view in views:
        color, weight, finer = _from_view(view, samples, pixels, facing)
        total += color * weight[:, None]
        weights += weight
        finest = np.maximum(finest, finer)
    return total / np.maximum(weights, 1e-12)[:, None], weights, finest


def _from_view(
    view: View, samples: GBuffer, pixels: np.ndarray, facing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    height, width = view.depth.shape
    places = view.project(samples.points.astype(np.float64))
    row, column, depth = places.T
    with np.errstate(invalid="ignore"):
        inside = (row >= 0) & (row <= 1) & (column >= 0) & (column <= 1) & (depth > 0)
    at = np.flatnonzero(inside)
    color, weight = np.zeros((len(samples), 3), np.float32), np.zeros(len(samples), np.float32)
    finer = np.zeros(len(samples), np.float32)
    if not len(at):
        return color, weight, finer
    grid = torch.from_numpy(np.stack([2 * column[at] - 1, 2 * row[at] - 1], 1).astype(np.float32))
    stored = pixels_of(view)
    nearest, farthest, covered = stored.around
    rows = np.clip((row[at] * height).astype(int), 0, height - 1)
    columns = np.clip((column[at] * width).astype(int), 0, width - 1)
    low, high, distance = nearest[rows, columns], farthest[rows, columns], depth[at]
    endless = (distance >= IS_SKY) & (high >= IS_SKY)
    placed = (distance >= low * (1 - _SAME)) & (distance <= high * (1 + _SAME)) | endless
    # A view without depths is a card: what it shows is where it is.
    same = (placed if view.placed else np.ones(len(at), bool)) & covered[rows, columns]
    angle = _angles(view, samples.points[at], samples.facing[at])
    # Pixels a metre, of a picture that is looked at steeply: fewer of them are of the surface.
    apart = np.ones(len(at)) if view.orthographic else np.maximum(distance, 1e-6)
    density = height / view.crop[2] * view.lens[1] / apart * abs(np.linalg.det(view.transform[:3, :3])) ** (1 / 3)
    value = np.maximum(angle, 0.02) ** 2 * density**2
    weight[at] = np.where(same & (angle > 0.0), np.maximum(value, 1e-20), 0)
    times = density / np.maximum(pixels[at], 1e-9)
    found, shown = stored.sampled(grid, float(np.log2(max(np.median(times), 1e-9))))
    color[at] = found
    # Where hardly anything of the asset is shown its colour is anybody's guess.
    weight[at[shown < 0.25]] = 0
    # Across the view a surface shows as many pixels as if it faced it; how steep it is says how many fewer along it.
    finer[at] = np.where(weight[at] > 0, times * np.maximum(angle, 0) / np.maximum(facing[at], 0.05), 0)
    return color, weight, finer


def _angles(view: View, points: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """(N,) cosine of the angle at which a view looks at points (N, 3) with normals (N, 3); 1 where there is none."""
    inverse = np.linalg.inv(view.transform)
    toward = np.broadcast_to(inverse[2, :3], points.shape) if view.orthographic else inverse[3, :3] - points
    toward = toward / np.maximum(np.linalg.norm(toward, axis=1, keepdims=True), 1e-12)
    flat = ~facing.any(1)
    return np.where(flat, 1.0, (toward * facing).sum(1))


def _pixels_a_unit(asset: Asset, samples: GBuffer, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(N,) pixels of the image a unit of the asset's local space, of surfaces that would face the camera; and the
    cosine (N,) of the angle at which they do."""
    height, width = samples.size
    row, column = np.divmod(samples.pixel, width)
    camera = camera.fitted(width / height)
    _, directions = camera.rays_through((row + 0.5) / height, (column + 0.5) / width)
    cosine = np.abs((samples.normals * directions).sum(1)) / np.maximum(np.linalg.norm(directions, axis=1), 1e-12)
    apart = np.ones(len(samples)) if camera.projection == "orthographic" else np.maximum(samples.depth, 1e-6)
    size = abs(np.linalg.det(asset.shape_to_world()[:3, :3])) ** (1 / 3)
    return height * camera.lens[1] / apart * size, np.where(samples.normals.any(1), cosine, 1.0)


def _from_donor(asset: Asset, tokens: Tokens, samples: GBuffer) -> np.ndarray:
    """(N, 3) colours of another asset's look: of its surface at the same place of its box that faces the same way."""
    views = list(tokens.views.values())
    if tokens.extent is None:
        return _by_card(asset, views[0], samples)
    shape = asset.tokens[GEOMETRY].extent
    low, high = np.asarray(shape, np.float64)
    wanted = (samples.points - low) / np.maximum(high - low, 1e-9)
    places, normals, colors = _cloud(views, np.asarray(tokens.extent, np.float64))
    if not len(places):
        return _by_card(asset, views[0], samples)
    size = (high - low) / max((high - low).max(), 1e-9)
    features = np.concatenate([places * size, _TURN * normals], 1)
    of = np.concatenate([wanted * size, _TURN * samples.facing], 1)
    distance, nearest = cKDTree(features).query(of, k=min(_NEAREST, len(features)), workers=-1)
    distance, nearest = distance.reshape(len(of), -1), nearest.reshape(len(of), -1)
    share = 1 / (distance + 0.01) ** 2
    share /= share.sum(1, keepdims=True)
    # An albedo is lit by the light of the place that it comes to.
    color = np.einsum("nk,nkc->nc", share, colors[nearest])
    if all(view.kind == ALBEDO for view in views):
        color = srgb_to_linear(color) * samples.shade[:, None]
        return linear_to_srgb(color)
    return color.astype(np.float32)


def _cloud(views: Sequence[View], extent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in the box (P, 3), normals (P, 3) and colours (P, 3) of what the views saw of an asset."""
    low, high = extent
    pictures = [view for view in views if view.kind != ALBEDO] or views
    parts = []
    for view in pictures:
        height, width = view.depth.shape
        row, column = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        depth = np.where(np.isfinite(view.depth), view.depth, np.nan).astype(np.float64)
        points = view.unproject(np.stack([row.ravel(), column.ravel(), depth.ravel()], 1)).reshape(height, width, 3)
        along, down = np.gradient(points, axis=1) if width > 1 else 0 * points, np.gradient(points, axis=0)
        normal = np.cross(along, down)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        eye = np.linalg.inv(view.transform)[3, :3]
        normal *= np.where(((eye - points) * normal).sum(-1, keepdims=True) < 0, -1, 1)
        good = np.isfinite(points).all(-1) & np.isfinite(normal).all(-1)
        parts.append((points[good], normal[good], view.color[good].astype(np.float32) / 255))
    points, normals, colors = (np.concatenate(part) for part in zip(*parts, strict=True))
    every = max(1, len(points) // _POINTS)
    places = (points[::every] - low) / np.maximum(high - low, 1e-9)
    return places, normals[::every], colors[::every]


def _by_card(asset: Asset, donor: View, samples: GBuffer) -> np.ndarray:
    """(N, 3) colours of a donor without depths: its picture in place of this one's."""
    own = next(iter(asset.tokens[GEOMETRY].views.values()), donor)
    row, column, _ = own.project(samples.points.astype(np.float64)).T
    places = np.nan_to_num(np.stack([2 * column - 1, 2 * row - 1], 1)).clip(-1, 1).astype(np.float32)
    return pixels_of(donor).sampled(torch.from_numpy(places), 0.0)[0]


def _filled(total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(3, H, W) colours, `total` of which `weight` (H, W) is known; what is not has the colours around."""
    if bool((weight > 0.999).all()):
        return total.clamp(0, 1)
    colors = total / weight.clamp_min(1e-6)
    filled = fill_holes(colors[None], (weight > 0.05).float()[None, None] * weight[None, None])[0]
    return (total + (1 - weight) * filled).clamp(0, 1)
