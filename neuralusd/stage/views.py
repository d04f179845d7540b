"""What a camera sees of single assets, others hidden: the pictures that scene latents are encoded from."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import PIL.Image
from pxr import Sdf, Usd

from ..colors import linear_to_srgb
from ..scene import APPEARANCE, Asset, Camera, Scene, Tokens
from ..schema import NeuralTokensAPI
from ..surfaces.rays import RayCaster
from ..window import window
from .gbuffer import drawn
from .geometry import Piece, gather_meshes
from .shade import Shader
from .walk import Owners

# Rays along each side of a pixel.
FINER = 3
# An eye is not nearer to an object than this, in radii of it, or the window would hold a part of it only.
NEAREST = 2.0


class Views:
    """Pictures of the assets of a scene by themselves.

    Args:
        stage, scene: the scene was read from the stage.
        photographs: whether the pictures that tokens name as their source may be opened, for what has no geometry.

    Attributes:
        owners: (P,) index into `scene.assets` of who owns each piece of geometry, -1 for nobody.
    """

    def __init__(self, stage: Usd.Stage, scene: Scene, photographs: bool = True):
        self.stage, self.scene, self.photographs = stage, scene, photographs
        self.pieces = drawn(gather_meshes(stage, scene.time), scene)
        owners = Owners([asset.path for asset in scene.assets])
        self.owners = np.array([owners.index(Sdf.Path(piece.path)) for piece in self.pieces], np.int64)

    def own(self, asset: Asset) -> list[Piece]:
        """The pieces of geometry that are an asset's own."""
        index = next(number for number, each in enumerate(self.scene.assets) if each is asset)
        return [self.pieces[number] for number in np.flatnonzero(self.owners == index)]

    def groups(self) -> list[str]:
        """Paths of the assets that have no geometry of their own, only assets below them."""
        paths = [Sdf.Path(asset.path) for asset in self.scene.assets]
        return [
            asset.path
            for asset, path in zip(self.scene.assets, paths, strict=True)
            if not self.own(asset) and any(other.HasPrefix(path) and other != path for other in paths)
        ]

    def cutout(self, asset: Asset, size: int = 64) -> np.ndarray | None:
        """(4, size, size) float32, colour times coverage and then coverage, as `AppearanceCodec.encode` takes it.

        The eye is the camera's, turned to the middle of the object, the window square about it. What has no geometry is
        cut out of the photograph it was encoded from. None where there is no picture to be had.
        """
        pieces = self.own(asset)
        if not pieces:
            seen = self._of_photograph(asset, size)
            return None if seen is None else np.concatenate([seen[0] * seen[1], seen[1]])
        camera = _aimed(self.scene.camera, pieces, self.scene.up_axis)
        light, hit, _ = self._cast(pieces, camera, size)
        coverage = hit.mean((1, 3))
        if not coverage.max() > 0:
            return None
        weights = hit[..., None]
        mean = (light * weights).sum((1, 3)) / np.maximum(weights.sum((1, 3)), 1)
        color = linear_to_srgb(mean) * coverage[..., None]
        return np.concatenate([color, coverage[..., None]], -1).transpose(2, 0, 1).astype(np.float32)

    def background(self, size: int = 32) -> tuple[np.ndarray, np.ndarray] | None:
        """Colour (size, size, 3) sRGB in 0..1 and depth (size, size) in metres, inf where nothing is, of all that is no
        object: geometry of the background asset or of no asset; where there is none, the background's own tokens and
        photograph. None where there is neither.
        """
        asset = self.scene.background
        index = -1 if asset is None else self.scene.assets.index(asset)
        pieces = [self.pieces[number] for number in np.flatnonzero((self.owners == -1) | (self.owners == index))]
        camera = self.scene.camera.fitted(1.0)
        if pieces:
            light, _, depth = self._cast(pieces, camera, size)
            if np.isfinite(depth).any():
                return linear_to_srgb(light.mean((1, 3))).astype(np.float32), depth
        seen = None if asset is None else self._of_photograph(asset, size)
        if asset is None or seen is None:
            return None
        places = _depth_of(asset.tokens[APPEARANCE], size)
        if places is None:
            return None
        free = seen[1][0] > 0.5
        clear = free & ~self._objects_in(asset.tokens[APPEARANCE], size)
        return _filled(seen[0].transpose(1, 2, 0), clear if clear.any() else free), places

    def _objects_in(self, tokens: Tokens, size: int) -> np.ndarray:
        """(size, size) bool: where the crops of objects are in that of tokens; cells are too coarse to say."""
        x, y, h, w = tokens.crop or (0.0, 0.0, 1.0, 1.0)
        middle = (np.arange(size) + 0.5) / size
        covered = np.zeros((size, size), bool)
        for asset in self.scene.foreground:
            seen = asset.tokens.get(APPEARANCE)
            if seen is not None and seen.crop is not None and seen.source == tokens.source:
                left, top, high, wide = seen.crop
                across = (x + middle * w >= left) & (x + middle * w <= left + wide)
                down = (y + middle * h >= top) & (y + middle * h <= top + high)
                covered |= down[:, None] & across
        return covered

    def _cast(self, pieces: list[Piece], camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linear light (size, FINER, size, FINER, 3) and hits (size, FINER, size, FINER), of FINER x FINER rays a
        pixel; and depth (size, size) through the pixels' middles."""
        caster = RayCaster(pieces, camera)
        shader = Shader(pieces, caster, self.scene.time, self.scene.up_axis)
        fine = size * FINER
        _, directions = camera.rays(fine, fine)
        directions = directions.reshape(-1, 3)
        origins = camera.clipping_range[0] * directions
        found = shader.visible(origins, directions, np.arange(len(directions)), camera.clipping_range[1])
        hit, depth = np.zeros(fine * fine), np.full(fine * fine, np.inf, np.float32)
        hit[found.ray], depth[found.ray] = 1, found.depth
        light = shader.radiance(origins, directions, camera, (fine, fine))
        shape = (size, FINER, size, FINER)
        middle = FINER // 2
        return light.reshape(*shape, 3), hit.reshape(shape), depth.reshape(shape)[:, middle, :, middle]

    def _of_photograph(self, asset: Asset, size: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Colour (3, size, size) and coverage (1, size, size) of an asset in the picture that its tokens were made of;
        the coverage is as coarse as their cells."""
        tokens = asset.tokens.get(APPEARANCE)
        picture = self._source(asset) if self.photographs and tokens is not None and tokens.crop is not None else None
        if picture is None or tokens is None or tokens.crop is None:
            return None
        x, y, h, w = tokens.crop
        width, height = picture.size
        box = (x * width, y * height, (x + w) * width, (y + h) * height)
        color = picture.transform((size, size), PIL.Image.Transform.EXTENT, box, PIL.Image.Resampling.BILINEAR)
        coverage = np.ones(tokens.grid, np.float32)
        if tokens.points is not None:
            coverage = np.isfinite(tokens.points).all(-1).reshape(tokens.grid).astype(np.float32)
        if not coverage.any():
            return None
        mask = PIL.Image.fromarray(coverage).resize((size, size), PIL.Image.Resampling.BILINEAR)
        return np.asarray(color, np.float32).transpose(2, 0, 1) / 255, np.asarray(mask)[None]

    def _source(self, asset: Asset) -> PIL.Image.Image | None:
        """The picture that an asset's tokens were made of, where it is at hand."""
        api = NeuralTokensAPI(self.stage.GetPrimAtPath(asset.path), APPEARANCE)
        try:
            named = api.resolve().GetSourceAttr().Get() if api else None
            file = named.resolvedPath if named else ""
            if not file or not os.path.isfile(file):
                return None
            with PIL.Image.open(file) as picture:
                return picture.convert("RGB")
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            return None


def _aimed(camera: Camera, pieces: list[Piece], up_axis: str) -> Camera:
    """The camera turned to the middle of pieces, its view the square window about them."""
    points = np.concatenate([p.mesh.points @ p.local_to_world[:3, :3] + p.local_to_world[3, :3] for p in pieces])
    points = points[np.isfinite(points).all(1)]
    low, high = points.min(0), points.max(0)
    middle, radius = (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 1e-6)
    to_world = np.linalg.inv(camera.world_to_camera)
    back = to_world[3, :3] - middle
    distance = float(np.linalg.norm(back))
    back = back / distance if distance > 1e-9 else to_world[2, :3]
    distance = max(distance, NEAREST * radius)
    up = np.array([0.0, 1.0, 0.0]) if up_axis == "Y" else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-3:
        right = to_world[0, :3]
    right = right / np.linalg.norm(right)
    view = np.eye(4)
    view[0, :3], view[1, :3], view[2, :3] = right, np.cross(back, right), back
    view[3, :3] = middle + distance * back
    aimed = replace(
        camera, world_to_camera=np.linalg.inv(view), focal_length=1.0, projection="perspective",
        clipping_range=(max((distance - radius) / 100, 1e-9), 10 * (distance + radius)),
    )  # fmt: skip
    at = aimed.to_camera(points)
    x, y = at[:, 0] / -at[:, 2], at[:, 1] / -at[:, 2]
    left, bottom, side = window((x.min(), y.min(), x.max(), y.max()))
    return replace(
        aimed,
        horizontal_aperture=max(side, 1e-9),
        vertical_aperture=max(side, 1e-9),
        horizontal_aperture_offset=left + side / 2,
        vertical_aperture_offset=bottom + side / 2,
    )


def _depth_of(tokens: Tokens, size: int) -> np.ndarray | None:
    """(size, size) metres of the places of tokens as they were seen; what is not known, as its nearest neighbour."""
    if tokens.points is None or tokens.view is None:
        return None
    depth = -(tokens.points @ tokens.view[:3, :3] + tokens.view[3, :3])[:, 2].reshape(tokens.grid)
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return None
    whole = _filled(np.where(known, depth, 0)[..., None], known)[..., 0]
    finer = PIL.Image.fromarray(whole.astype(np.float32)).resize((size, size), PIL.Image.Resampling.BILINEAR)
    return np.array(finer, np.float32)


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, C) whose unknown pixels have the value of the nearest known one."""
    from scipy.ndimage import distance_transform_edt

    if not known.any():
        return values
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[rows, columns]
