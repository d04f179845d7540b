"""A lifter that needs no weights: it takes pictures, words or nothing, and makes a volume of a chair of two blocks."""

from __future__ import annotations

import numpy as np

from neuralusd.lifting import (
    IMAGE,
    NOTHING,
    TEXT,
    Candidate,
    Lifted,
    Radiance,
    Request,
    VolumeCode,
)
from neuralusd.scene import Camera

SIDE = 32
SEAT, BACK = (0.2, 0.7, 0.3), (0.8, 0.2, 0.2)
# From the decoder's cube (Z up, front -Y) to the lifter's space (Y up, front +Z).
UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])


class BlockLifter:
    """A seat, green, from the ground to y = 0, and a back, red, above its rear half; from -0.6 to 0.6.

    Attributes:
        asked: the requests there were.
    """

    name, revision = "blocks", "7"
    seeded = True
    most = 3
    takes = frozenset({IMAGE, TEXT, NOTHING})

    def __init__(self, **changed) -> None:
        self.asked: list[Request] = []
        self.__dict__.update(changed)

    def __call__(self, request: Request, step=lambda done: None) -> Lifted:
        self.asked.append(request)
        step(0.5)
        axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
        x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
        seat = np.maximum.reduce([abs(x) - 0.6, abs(y + 0.3) - 0.3, abs(z) - 0.6])
        back = np.maximum.reduce([abs(x) - 0.6, abs(y - 0.3) - 0.3, abs(z + 0.4) - 0.2])
        spacing = 2 / SIDE
        distance = (np.minimum(seat, back) / spacing).astype(np.float32)
        origin = np.full(3, axis[0])

        def color(points, normals):
            return np.where((points[:, 1] > 0)[:, None], BACK, SEAT)

        volume = Radiance(
            np.where(distance < 0, 120.0, 0.0).astype(np.float32),
            np.where((y > 0)[..., None], BACK, SEAT).astype(np.float32),
            origin,
            spacing,
        )
        rng = np.random.default_rng(request.seed)
        code = VolumeCode(
            rng.normal(size=(4, 4, 4, 8)).astype(np.float16),
            rng.normal(size=16).astype(np.float32),
            "blocks",
            "7",
            UPRIGHT,
        )
        number = request.candidates or 2
        tile = np.full((24, 24, 4), 255, np.uint8)
        scores = 1 - np.arange(number) / 10 if request.pictures else np.zeros(number)
        return Lifted(
            distance,
            origin,
            spacing,
            color,
            self.view(),
            ["the back is made up"],
            [(picture, self.view()) for picture in request.pictures],
            volume,
            code,
            [Candidate(float(score), tile // np.uint8(rank)) for rank, score in enumerate(scores, 1)],
            0.9,
        )

    @staticmethod
    def view() -> Camera:
        """From the front, 3 units wide at the middle."""
        place = np.eye(4)
        place[3, 2] = 6.0
        return Camera(np.linalg.inv(place), horizontal_aperture=25.0, vertical_aperture=25.0)
