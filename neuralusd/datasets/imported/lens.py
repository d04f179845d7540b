"""Lens distortion, and pictures without it: USD's cameras are pinholes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass
class Lens:
    """A camera with OpenCV's radial and tangential distortion.

    See "Detailed Description" of https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html.

    Attributes:
        size: (width, height) in pixels.
        focal, center: (2,) across and down, in pixels from the top left corner of the top left pixel.
        distortion: (5,) k1, k2, p1, p2, k3.
    """

    size: tuple[int, int]
    focal: np.ndarray
    center: np.ndarray
    distortion: np.ndarray

    def distorted(self, points: np.ndarray) -> np.ndarray:
        """Where the lens shows what a pinhole of the same focal length would show at `points` (..., 2), in pixels."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = np.moveaxis((points - self.center) / self.focal, -1, 0)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        bent = [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ]
        return np.stack(bent, -1) * self.focal + self.center

    def straightened(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 as a pinhole camera of the same size, focal length and centre would see it.

        Between pixels it is interpolated linearly; where the pinhole sees more than the lens did, its edge is repeated.
        """
        from scipy.ndimage import map_coordinates

        if not np.any(self.distortion):
            return picture
        channels = [
            map_coordinates(picture[..., channel], self._places, np.float32, order=1, mode="nearest")
            for channel in range(picture.shape[-1])
        ]
        return (np.stack(channels, -1) + 0.5).clip(0, 255).astype(np.uint8)

    @cached_property
    def _places(self) -> np.ndarray:
        """(2, H, W) row and column in the bent picture of each pixel of the straight one."""
        width, height = self.size
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        bent = self.distorted(np.stack([columns, rows], -1)) - 0.5
        return np.stack([bent[..., 1], bent[..., 0]]).astype(np.float32)
