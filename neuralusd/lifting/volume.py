"""The learned lifter: an autodecoder's volumes, sampled by latent 3D diffusion and brought to pictures (3DVADER)."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from ..annotate.errors import ImageError
from ..backends import read_pipeline
from ..errors import BackendError
from ..scene import Camera
from ..window import window
from .shape import IMAGE, NOTHING, TEXT, Candidate, ColorOf, Cutout, Lifted, Radiance, Request, Step, VolumeCode

if TYPE_CHECKING:
    from ..models.volumes.views import WindowCameras
    from ..pipelines.lift import LiftedVolume, LiftPipeline

# Rows: x, y, z of the canonical cube (Z up, front towards -Y) in the lifter's space (Y up, front towards +Z).
UPRIGHT = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
# Samples of the surface a cell's side; parts of less than this share of the largest are left out.
FINER = 3
CRUMB = 0.01
# What lets less than this share of the light through, over a cell's side, is solid.
SOLID = 0.5
MOST_PICTURES = 8


class VolumeLifter:
    """Lifts pictures, words or nothing with the weights of a `LiftPipeline`.

    Args:
        folder: of the pipeline, in diffusers' format. name: what people ask for it by.

    Raises:
        BackendError: the weights are missing, damaged, of another kind, or not safetensors.
    """

    seeded = True
    most = MOST_PICTURES
    takes = frozenset({IMAGE, TEXT, NOTHING})

    def __init__(self, folder: str | Path, name: str = "mini") -> None:
        self.name = name
        self.pipeline = load_lift_pipeline(str(folder))
        self.revision = str(self.pipeline.config.revision)

    def __call__(self, request: Request, step: Step = lambda done: None) -> Lifted:
        """The object in the pictures, in a canonical unit of half the cube that holds it.

        Raises:
            ImageError: a picture shows nothing. BackendError: there is no text encoder for words, or a number is out of
            range.
        """
        size = self.pipeline.picture_size
        framed = [frame(picture, size) for picture in request.pictures]
        try:
            found = self.pipeline(
                np.stack([pixels for pixels, _ in framed]) if framed else None,
                request.text,
                seed=request.seed,
                num_inference_steps=request.steps,
                candidates=request.candidates,
                on_step=lambda done: step(0.95 * done),
            )
        except ValueError as error:
            raise BackendError(f"'{self.name}' cannot lift this: {error}") from error
        best = found[0]
        distance, origin, spacing = surface_distance(best.density)
        if not (distance < 0).any():
            raise ImageError("the sample is empty. Ask for another seed, or for more candidates")
        views = [
            _camera(best.cameras, number, picture.coverage.shape, box)
            for number, (picture, (_, box)) in enumerate(zip(request.pictures, framed, strict=True))
        ]
        lifted = Lifted(
            distance,
            origin,
            spacing,
            _colors(best),
            views[0] if views else _free_camera(best.cameras),
            [],
            list(zip(request.pictures, views, strict=True)),
            upright_radiance(best.density, best.color),
            self._code(best),
            [Candidate(-volume.error, volume.picture) for volume in found],
            _height(best, distance, spacing),
        )
        step(1.0)
        return lifted

    def _code(self, made: LiftedVolume) -> VolumeCode:
        # Cells go (z, y, x) in a volume, (x, y, z) in a prim.
        latent = made.latent.transpose(3, 2, 1, 0).astype(np.float16)
        embedding = np.zeros(0, np.float32) if made.embedding is None else made.embedding
        return VolumeCode(latent, embedding, self.name, self.revision, UPRIGHT.copy())

    def decode(self, code: VolumeCode) -> Radiance:
        """Density and colour of a code that these weights made, in the space of its `to_lifter` before it: the
        lifter's, a canonical unit being half the cube.

        Raises:
            BackendError: it is of other weights.
        """
        if code.revision != self.revision:
            raise BackendError(
                f"the volume was made by '{code.decoder}', revision {code.revision or 'unknown'}, and '{self.name}' is "
                f"revision {self.revision}; decode it with the weights that made it, or lift again"
            )
        try:
            density, color = self.pipeline.decode(code.latent.transpose(3, 2, 1, 0))
        except ValueError as error:
            raise BackendError(str(error)) from error
        return upright_radiance(density, color)


def frame(picture: Cutout, size: int) -> tuple[np.ndarray, tuple[float, float, float]]:
    """What the model is shown of a cutout, (4, size, size) float32, and the window (left, top, side) in pixels.

    Raises:
        ImageError: nothing of the picture is object.
    """
    rows, columns = (np.flatnonzero((picture.coverage > 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ImageError(f"{picture.source or 'the picture'} shows no object: all of it is background")
    left, top, side = window((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    coverage = picture.coverage[..., None].clip(0, 1)
    values = np.concatenate([picture.color.clip(0, 1) * coverage, coverage], -1).astype(np.float32)
    finer = size * max(1, math.ceil(side / size))
    layers = [
        PIL.Image.fromarray(values[..., layer])
        .transform(
            (finer, finer),
            PIL.Image.Transform.EXTENT,
            (left, top, left + side, top + side),
            PIL.Image.Resampling.BILINEAR,
        )
        .resize((size, size), PIL.Image.Resampling.BOX)
        for layer in range(4)
    ]
    return np.stack([np.asarray(layer) for layer in layers]), (left, top, side)


def surface_distance(density: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """`Lifted.distance`, origin and spacing of a density (S, S, S) per canonical unit, indexed z, y, x."""
    from scipy.ndimage import label, zoom

    side = len(density)
    opacity = 1 - np.exp(-density * 2 / side)
    solid = min(SOLID, 0.5 * float(opacity.max()))  # a faint sample has a surface all the same
    parts, count = label(opacity > solid)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        crumbs = np.isin(parts, np.flatnonzero(sizes < CRUMB * sizes.max()) + 1)
        opacity = np.where(crumbs, 0, opacity)
    upright = opacity.transpose(2, 0, 1)[:, :, ::-1]  # x, z, and y from the back to the front
    fine = zoom(np.pad(upright, 1), FINER, order=1, mode="nearest", grid_mode=True)
    slope = np.linalg.norm(np.gradient(fine), axis=0)
    distance = ((solid - fine) / np.maximum(slope, 0.02)).clip(-3, 3).astype(np.float32)
    spacing = 2 / side / FINER
    origin = np.full(3, -1 - 2 / side + spacing / 2)
    return distance, origin, spacing


def upright_radiance(density: np.ndarray, color: np.ndarray) -> Radiance:
    """Density (S, S, S) per canonical unit and color (S, S, S, 3), indexed z, y, x, in the lifter's space."""
    side = len(density)
    upright = np.ascontiguousarray(density.transpose(2, 0, 1)[:, :, ::-1])
    painted = np.ascontiguousarray(color.transpose(2, 0, 1, 3)[:, :, ::-1])
    return Radiance(upright, painted, np.full(3, -1 + 1 / side), 2 / side)


def _colors(made: LiftedVolume) -> ColorOf:
    """The volume's colours half a cell below the surface, where it is solid."""
    from scipy.ndimage import map_coordinates

    volume = upright_radiance(made.density, made.color)

    def color(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        cells = ((points - 0.5 * volume.spacing * normals) - volume.origin) / volume.spacing
        bands = [map_coordinates(volume.color[..., band], cells.T, order=1, mode="nearest") for band in range(3)]
        return np.stack(bands, -1)

    return color


def _camera(cameras: WindowCameras, number: int, shape: tuple[int, ...], box: tuple[float, float, float]) -> Camera:
    """The camera of a whole picture (height, width) whose window `box` a fitted camera shows."""
    height, width = shape
    left, top, side = box
    half = math.exp(float(cameras.log_half[number]))
    middle_x = float(cameras.right[number]) + 2 * half * ((width / 2 - left) / side - 0.5)
    middle_y = float(cameras.up[number]) - 2 * half * ((height / 2 - top) / side - 0.5)
    return _placed(cameras, number, 2 * half * width / side, 2 * half * height / side, middle_x, middle_y)


def _free_camera(cameras: WindowCameras) -> Camera:
    half = math.exp(float(cameras.log_half[0]))
    return _placed(cameras, 0, 2 * half, 2 * half, float(cameras.right[0]), float(cameras.up[0]))


def _placed(cameras: WindowCameras, number: int, wide: float, high: float, x: float, y: float) -> Camera:
    eye, axes = (value[number].detach().cpu().numpy().astype(np.float64) for value in cameras.axes())
    camera_to_cube = np.eye(4)
    camera_to_cube[:3, :3], camera_to_cube[3, :3] = axes, eye
    distance = float(np.linalg.norm(eye))
    return Camera(
        world_to_camera=np.linalg.inv(camera_to_cube @ UPRIGHT),
        focal_length=1.0,
        horizontal_aperture=wide,
        vertical_aperture=high,
        horizontal_aperture_offset=x,
        vertical_aperture_offset=y,
        clipping_range=(distance / 100, distance * 3),
    )


def _height(made: LiftedVolume, distance: np.ndarray, spacing: float) -> float | None:
    """Metres, by the learned size of a canonical unit."""
    if made.log_size is None:
        return None
    high = np.flatnonzero((distance < 0).any((0, 2)))
    return float(math.exp(made.log_size) * (high[-1] - high[0] + 1) * spacing)


@lru_cache(maxsize=2)
def load_lift_pipeline(folder: str) -> LiftPipeline:
    """The pipeline in a folder, which stays loaded.

    Raises:
        BackendError: see `VolumeLifter`.
    """
    import torch

    from ..pipelines.lift import LiftPipeline

    return read_pipeline(LiftPipeline, folder, f"the weights of lift in '{folder}'", torch.float32)
