"""The seam of neuralusd: a scene as plain numpy dataclasses.

USD people read this without torch, machine learning people without pxr. `neuralusd.stage` makes a
`Scene` from a stage and writes one back; `neuralusd.pipelines` turn a `Scene` into an image.

Conventions, the same everywhere in neuralusd:

* World space is measured in metres (a stage's `metersPerUnit` is applied when it is read); its up axis is the stage's.
* Matrices are 4x4 float64 and act on row vectors, `point @ matrix`, as USD's `Gf.Matrix4d` does.
* Camera space looks down -Z with +Y up, as a `UsdGeom.Camera`. Depth is the distance along the viewing
  axis in metres, so it is positive in front of the camera.
* Image coordinates are normalised: `h` runs down from 0 (top edge) to 1 (bottom edge), `w` right from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

FOREGROUND = "foreground"
BACKGROUND = "background"
APPEARANCE = "appearance"
GEOMETRY = "geometry"
PICTURE = "picture"
ALBEDO = "albedo"


def box_corners(low: np.ndarray, high: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(8, 3) corners of the axis-aligned box from `low` (3,) to `high` (3,), carried by `matrix` (4, 4); x varies
    slowest."""
    unit = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    return (low + unit * (high - low)) @ matrix[:3, :3] + matrix[3, :3]


@dataclass(eq=False)
class View:
    """A picture of one asset: the part of an image that shows it, and the camera that took it.

    Attributes:
        color: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 in metres along the viewing axis; inf where the pixel does not show the asset, NaN where
            it does at an unknown depth.
        transform: (4, 4) from the asset's local space to the camera's.
        lens: (fx, fy, ox, oy), so that w = 0.5 + fx * x / depth - ox and h = 0.5 - fy * y / depth + oy in camera space;
            an orthographic camera has the same with depth left out.
        crop: (x, y, h, w) of these pixels in the whole image, normalised to it.
        orthographic: whether the camera is.
        kind: "picture" (the asset in its light) or "albedo" (its plain base colour).
        gain: (3,) how many times as bright, in sRGB values, the picture is as the asset's base colour under even light.
        source: the image the crop was taken from, for people.
    """

    color: np.ndarray
    depth: np.ndarray
    transform: np.ndarray
    lens: tuple[float, float, float, float]
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    orthographic: bool = False
    kind: str = PICTURE
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    source: str = ""

    @property
    def placed(self) -> bool:
        """Whether its depths are known."""
        return bool(np.isfinite(self.depth).any())

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the asset's local space to (N, 3) of row and column, as parts of the crop, and depth in
        metres. Behind a perspective camera rows and columns are not finite."""
        x, y, z = (points @ self.transform[:3, :3] + self.transform[3, :3]).T
        fx, fy, ox, oy = self.lens
        with np.errstate(divide="ignore", invalid="ignore"):
            over = np.ones_like(z) if self.orthographic else np.where(z < 0, -1 / z, np.nan)
        left, top, high, wide = self.crop
        w, h = 0.5 + fx * x * over - ox, 0.5 - fy * y * over + oy
        return np.stack([(h - top) / high, (w - left) / wide, -z], 1)

    def unproject(self, places: np.ndarray) -> np.ndarray:
        """The inverse of `project`: (N, 3) of row, column and depth to points (N, 3) in the asset's local space."""
        row, column, depth = places.T
        fx, fy, ox, oy = self.lens
        left, top, high, wide = self.crop
        times = np.ones_like(depth) if self.orthographic else depth
        x = (left + column * wide - 0.5 + ox) / fx * times
        y = (0.5 + oy - top - row * high) / fy * times
        inverse = np.linalg.inv(self.transform)
        return np.stack([x, y, -depth], 1) @ inverse[:3, :3] + inverse[3, :3]


@dataclass(eq=False)
class Surface:
    """Where a piece of an asset's geometry was when the asset's views were taken.

    Attributes:
        transform: (4, 4) from the piece's local space to the asset's.
        points: (V, 3) float32 in the piece's local space, of its authored vertices; None where they do not change.
    """

    transform: np.ndarray
    points: np.ndarray | None = None


@dataclass
class Tokens:
    """What an encoder saw of one asset: one vector a cell of a crop (Neural USD, section 3.3.1).

    Attributes:
        values: (K, D) float16, the cells of the crop in row-major order.
        encoder: id of the encoder that made them. Tokens are only ever used with that encoder.
        revision: revision of the encoder's weights.
        grid: (rows, columns) of the crop's cells; rows * columns == K.
        points: (K, 3) float32, where each cell lies in the asset's local space; NaN where the cell saw nothing of the
            asset or its depth is unknown. None where no cell has a known place.
        extent: (2, 3) float32, the asset's local box when it was encoded. Another asset that takes these tokens
            places their points by this box relative to its own.
        crop: (x, y, h, w) of the crop in the source image, normalised to the image.
        view: (4, 4) from the asset's local space to the space of the camera that saw it.
        source: the image the crop was taken from, for people; never read back by a renderer.
        digest: identifies what the encoder was given, so that only what changed is encoded again.
        views: the pictures of the prim that the tokens are of, by name; what a renderer looks up.
        prim: path of the prim that the tokens are of, on the stage that they were read from; empty of tokens that were
            not read from one, which are the asset's own.
    """

    values: np.ndarray
    encoder: str
    revision: str
    grid: tuple[int, int]
    points: np.ndarray | None = None
    extent: np.ndarray | None = None
    crop: tuple[float, float, float, float] | None = None
    view: np.ndarray | None = None
    source: str = ""
    digest: str = ""
    views: Mapping[str, View] = field(default_factory=dict)
    prim: str = ""


@dataclass
class Box2D:
    """A box in the image: top left corner, height and width, normalised (Neural USD, section 3.3.2)."""

    x: float
    y: float
    h: float
    w: float

    def array(self) -> np.ndarray:
        """(4,) float64 in the paper's order: x, y, h, w."""
        return np.array([self.x, self.y, self.h, self.w], dtype=np.float64)


@dataclass
class Camera:
    """A pinhole or orthographic camera.

    Attributes:
        world_to_camera: (4, 4), metres to metres.
        focal_length, horizontal_aperture, vertical_aperture, horizontal_aperture_offset, vertical_aperture_offset:
            as UsdGeom.Camera's, all in the same unit. For an orthographic camera the apertures are the
            width and height of the view in metres, the offsets too.
        projection: "perspective" or "orthographic".
        clipping_range: near and far in metres.
        path: the camera prim's path; empty when the camera was framed for a stage that has none.
    """

    world_to_camera: np.ndarray
    focal_length: float = 50.0
    horizontal_aperture: float = 36.0
    vertical_aperture: float = 36.0
    horizontal_aperture_offset: float = 0.0
    vertical_aperture_offset: float = 0.0
    projection: str = "perspective"
    clipping_range: tuple[float, float] = (0.01, 1e6)
    path: str = ""

    def fitted(self, aspect: float) -> Camera:
        """The camera whose aperture has `aspect` (width over height), by UsdRender's `expandAperture`."""
        from dataclasses import replace

        horizontal, vertical = self.horizontal_aperture, self.vertical_aperture
        if horizontal > vertical * aspect:
            return replace(self, vertical_aperture=horizontal / aspect)
        return replace(self, horizontal_aperture=vertical * aspect)

    @property
    def lens(self) -> tuple[float, float, float, float]:
        """(fx, fy, ox, oy), so that w = 0.5 + fx * x / depth - ox and h = 0.5 - fy * y / depth + oy in camera space.

        An orthographic camera has the same with depth left out.
        """
        focal = 1.0 if self.projection == "orthographic" else self.focal_length
        return (
            focal / self.horizontal_aperture,
            focal / self.vertical_aperture,
            self.horizontal_aperture_offset / self.horizontal_aperture,
            self.vertical_aperture_offset / self.vertical_aperture,
        )

    def to_camera(self, world_points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in metres to camera space (..., 3) in metres."""
        return world_points @ self.world_to_camera[:3, :3] + self.world_to_camera[3, :3]

    def project(self, world_points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to (..., 3) of normalised `h`, normalised `w`, and depth in metres.

        Points at or behind a perspective camera's eye have depth <= 0 and non-finite `h`, `w`.
        """
        return self.project_camera_points(self.to_camera(world_points))

    def project_camera_points(self, camera_points: np.ndarray) -> np.ndarray:
        """Camera-space points (..., 3) to (..., 3) of normalised `h`, normalised `w`, and depth in metres."""
        depth = -camera_points[..., 2]
        if self.projection == "orthographic":
            x, y = camera_points[..., 0], camera_points[..., 1]
        else:
            scale = np.divide(self.focal_length, depth, out=np.full_like(depth, np.nan), where=depth > 0)
            x, y = camera_points[..., 0] * scale, camera_points[..., 1] * scale
        w = (x - self.horizontal_aperture_offset) / self.horizontal_aperture + 0.5
        h = 0.5 - (y - self.vertical_aperture_offset) / self.vertical_aperture
        return np.stack([h, w, depth], axis=-1)

    def rays(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """World-space rays through the centres of an image's pixels.

        Returns:
            origins (height, width, 3) in metres and directions (height, width, 3) scaled so that
            `origin + depth * direction` is the point at that depth (directions are not of unit length).
        """
        h = (np.arange(height) + 0.5) / height
        w = (np.arange(width) + 0.5) / width
        return self.rays_through(*np.broadcast_arrays(h[:, None], w[None, :]))

    def rays_through(self, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World-space rays through places of the image, normalised `h` and `w` (...): as `rays`, (..., 3) each."""
        x = (w - 0.5) * self.horizontal_aperture + self.horizontal_aperture_offset
        y = (0.5 - h) * self.vertical_aperture + self.vertical_aperture_offset
        camera_to_world = np.linalg.inv(self.world_to_camera)
        zero, one = np.zeros_like(x), np.ones_like(x)
        if self.projection == "orthographic":
            origins, directions = np.stack([x, y, zero], -1), np.stack([zero, zero, -one], -1)
        else:
            origins = np.zeros((*x.shape, 3))
            directions = np.stack([x / self.focal_length, y / self.focal_length, -one], -1)
        return origins @ camera_to_world[:3, :3] + camera_to_world[3, :3], directions @ camera_to_world[:3, :3]


@dataclass
class Asset:
    """One prim that a neural renderer knows about.

    Attributes:
        path: the prim's path on the stage.
        local_to_world: (4, 4), the prim's local space to metres.
        extent: (2, 3), the local axis-aligned box (minimum, maximum). None where the prim has no geometry: then
            `box2d` is its pose.
        box2d: the authored box of an asset without geometry; None where the box follows from `extent` and a camera.
        role: "foreground" or "background". A scene has at most one background.
        presence: 0 (absent) to 1 (present).
        text: what the asset is, in words.
        labels: UsdSemantics labels of the prim.
        tokens: modality ("appearance", "geometry", ...) to `Tokens`.
        surfaces: path of a piece of its geometry, relative to the asset ("." is the asset itself), to where it was when
            the asset's views were taken. What is not there is where it was.
    """

    path: str
    local_to_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    extent: np.ndarray | None = None
    box2d: Box2D | None = None
    role: str = FOREGROUND
    presence: float = 1.0
    text: str = ""
    labels: tuple[str, ...] = ()
    tokens: dict[str, Tokens] = field(default_factory=dict)
    surfaces: Mapping[str, Surface] = field(default_factory=dict)

    @property
    def shape_prim(self) -> str:
        """Path of the prim whose shape the asset has: its own, unless its geometry tokens are another's."""
        shape = self.tokens.get(GEOMETRY)
        return shape.prim if shape is not None and shape.prim else self.path

    def shape_to_world(self) -> np.ndarray:
        """(4, 4) from the local space of `shape_prim` to metres; another's box is stretched to this one's."""
        shape = self.tokens.get(GEOMETRY)
        if shape is None or self.shape_prim == self.path or shape.extent is None or self.extent is None:
            return self.local_to_world
        (low, high), (from_low, from_high) = (np.asarray(box, np.float64) for box in (self.extent, shape.extent))
        size = from_high - from_low
        stretch = np.where(size > 1e-9, (high - low) / np.maximum(size, 1e-9), 1.0)
        into = np.diag([*stretch, 1.0])
        into[3, :3] = low - from_low * stretch
        return into @ self.local_to_world

    def corners(self) -> np.ndarray:
        """(8, 3) corners of the box in metres, world space; x varies slowest. Raises ValueError without an extent."""
        if self.extent is None:
            raise ValueError(f"<{self.path}> has no extent, so it has no 3D box")
        low, high = np.asarray(self.extent, dtype=np.float64)
        return box_corners(low, high, self.local_to_world)


@dataclass
class Scene:
    """Assets seen by a camera at one time.

    Attributes:
        assets: foreground assets and at most one background; in the stage's traversal order.
        camera: the camera, its aperture already fitted to the image's aspect.
        time: time code; None is the default time.
        source: identifier of the stage's root layer.
        up_axis: "Y" or "Z"; meters_per_unit: what was applied to come to metres.
    """

    assets: list[Asset]
    camera: Camera
    time: float | None = None
    source: str = ""
    up_axis: str = "Y"
    meters_per_unit: float = 1.0

    def asset(self, path: str) -> Asset:
        """The asset at `path`. Raises KeyError that lists the assets there are."""
        for asset in self.assets:
            if asset.path == path:
                return asset
        known = ", ".join(f"<{a.path}>" for a in self.assets) or "none"
        raise KeyError(f"<{path}> is not a neural asset of {self.source or 'the scene'}; it has: {known}")

    @property
    def foreground(self) -> list[Asset]:
        return [a for a in self.assets if a.role == FOREGROUND]

    @property
    def background(self) -> Asset | None:
        return next((a for a in self.assets if a.role == BACKGROUND), None)


@dataclass
class Passes:
    """What a camera sees of a scene, a value a pixel.

    Attributes:
        ids: (H, W) int32, index into `Scene.assets` of the asset seen; -1 where nothing of any asset is seen.
        depth: (H, W) float32 in metres along the viewing axis; inf where nothing is seen.
        points: (H, W, 3) float32, the point seen in the local space of the asset seen (in world metres where no
            asset); NaN where nothing is seen.
        normals: (H, W, 3) float32 unit normals in world space, facing the camera; 0 where nothing is seen. May be None.
        color: (H, W, 3) float32 display-referred sRGB in 0..1. May be None.
        base: (H, W, 3) float32, the surfaces' base colours as sRGB in 0..1, without any light. May be None.
        shaded: (H, W, 3) float32 sRGB in 0..1, the base colours under the even light of the shaded view, where `color`
            is another picture. May be None.
        lit: whether `color` is a picture with its light, not the shaded view.
    """

    ids: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    normals: np.ndarray | None = None
    color: np.ndarray | None = None
    base: np.ndarray | None = None
    shaded: np.ndarray | None = None
    lit: bool = True

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool, the pixels that see asset `index` of the scene."""
        return self.ids == index


@dataclass(eq=False)
class GBuffer:
    """The surfaces that an image shows, as N samples.

    A pixel that one surface fills has one sample; one that an outline crosses, or that is seen through, has several.

    Attributes:
        size: (height, width) of the image.
        pixel: (N,) int, row * width + column. weight: (N,) float32, how much of its pixel a sample is; what a pixel's
            weights lack of 1 sees no surface.
        asset: (N,) int32, index into `Scene.assets`; -1 where the surface is of no asset.
        points: (N, 3) float32 in the asset's local space (world metres where of no asset), where this point of the
            surface was when the asset's views were taken. It follows a surface that deforms.
        facing: (N, 3) float32, the unit normal there, of the side that is seen.
        depth: (N,) float32 in metres along the viewing axis.
        normals: (N, 3) float32, unit, world space, of the side that is seen.
        color, emission: (N, 3) float32, linear: base colour, and light of its own. roughness, metallic: (N,) float32.
        shade: (N,) float32, how the lamp and the sky of the shaded view light it.
        surfaced: (A,) bool, which of `Scene.assets` have geometry of the stage; the others' surface is that of their
            views.
    """

    size: tuple[int, int]
    pixel: np.ndarray
    weight: np.ndarray
    asset: np.ndarray
    points: np.ndarray
    facing: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    color: np.ndarray
    emission: np.ndarray
    roughness: np.ndarray
    metallic: np.ndarray
    shade: np.ndarray
    surfaced: np.ndarray

    def __len__(self) -> int:
        return len(self.pixel)

    def __getitem__(self, chosen: np.ndarray) -> GBuffer:
        """Some of the samples."""
        whole = ("size", "surfaced")
        return GBuffer(
            **{
                f.name: getattr(self, f.name) if f.name in whole else getattr(self, f.name)[chosen]
                for f in fields(self)
            }
        )

    def image(self, values: np.ndarray) -> np.ndarray:
        """(height, width, ...) of values (N, ...): each pixel the sum of its samples' by their weights."""
        height, width = self.size
        flat = values.reshape(len(values), -1)
        out = np.stack(
            [np.bincount(self.pixel, self.weight * flat[:, i], height * width) for i in range(flat.shape[1])], -1
        )
        return out.reshape(height, width, *values.shape[1:]).astype(np.float32)


def reindexed(ids: np.ndarray, paths: Sequence[str], scene: Scene) -> np.ndarray:
    """(H, W) int32: `ids`, which index `paths` (-1 for none), as indices into `scene.assets`; -1 for what it lacks."""
    index = {asset.path: number for number, asset in enumerate(scene.assets)}
    lookup = np.array([*(index.get(path, -1) for path in paths), -1], dtype=np.int32)
    return lookup[ids]


# The corners the paper's 3D pose is made of: the box's origin and the ends of its three axes, as rows of
# `Asset.corners`.
POSE_CORNERS = (0, 4, 2, 1)


def pose_3d(asset: Asset, camera: Camera) -> np.ndarray:
    """(4, 3) of (h, w, depth): four corners that span the box, projected (Neural USD, section 3.3.2, equation 3)."""
    return camera.project(asset.corners()[list(POSE_CORNERS)])


def pose_2d(asset: Asset, camera: Camera) -> np.ndarray | None:
    """(4,) of (x, y, h, w): the tight box of the projected 3D box, clipped at the near plane and to the image.

    An asset without an extent gives its authored `box2d`. None when nothing of the box is in view.
    """
    if asset.extent is None:
        return None if asset.box2d is None else asset.box2d.array()
    points = _clip_box(camera.to_camera(asset.corners()), max(camera.clipping_range[0], 1e-6), camera.projection)
    if len(points) == 0:
        return None
    h, w, _ = camera.project_camera_points(points).T
    top, bottom = max(h.min(), 0.0), min(h.max(), 1.0)
    left, right = max(w.min(), 0.0), min(w.max(), 1.0)
    if bottom <= top or right <= left:
        return None
    return np.array([left, top, bottom - top, right - left])


def _clip_box(corners: np.ndarray, near: float, projection: str) -> np.ndarray:
    """Corners (8, 3) of a box in camera space, and where its edges cross the near plane; only what is in front."""
    if projection == "orthographic":
        near = -np.inf
    depth = -corners[:, 2]
    points = [corners[depth >= near]]
    for i in range(8):
        for bit in (1, 2, 4):
            j = i ^ bit
            if i < j and (depth[i] < near) != (depth[j] < near):
                t = (near - depth[i]) / (depth[j] - depth[i])
                points.append((corners[i] + t * (corners[j] - corners[i]))[None])
    return np.concatenate(points)
