"""Scene latents as plain numpy: what `resample` draws and keeps (Anchored Generation, equations 1, 4, 5, 8 and 9).

Poses are relative to the camera, as in the paper: camera space looks down -Z with +Y up, in metres. An object's own
axes are canonical, Z up and its front towards -Y, whatever the up axis of its stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class ObjectLatents:
    """o of equation 4: one object.

    Attributes:
        translation: (3,) metres, camera space, of the middle of its box.
        rotation: (4,) unit quaternion w, x, y, z, from the canonical axes to camera space.
        scale: (3,) metres, the box's sides along the canonical axes.
        appearance: (K, D) float32 tokens of shape and look, see `AppearanceCodec`; None where nobody encoded it.
        presence: whether the slot is occupied (z).
        path: of the prim that it was read from; "" for one that was sampled. text: what it is, in words.
    """

    translation: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    appearance: np.ndarray | None = None
    presence: bool = True
    path: str = ""
    text: str = ""


@dataclass
class SceneLatents:
    """Y of equation 9.

    Attributes:
        objects: in slots' order, at most `ScenePrior`'s `slots`.
        focal: (2,) f_x and f_y as multiples of the image's width and height (c of equation 8).
        background: (B,) float32 token (b of equation 8); None where nobody encoded it.
        encoder, revision: of the codec that made appearance and background; "" where there are none.
    """

    objects: list[ObjectLatents] = field(default_factory=list)
    focal: np.ndarray = field(default_factory=lambda: np.ones(2))
    background: np.ndarray | None = None
    encoder: str = ""
    revision: str = ""


@dataclass
class ObjectAnchors:
    """alpha of equation 12 of an object's variables: 1 keeps one as it is, 0 resamples it, between varies it."""

    pose: float = 1.0
    appearance: float = 1.0
    presence: float = 1.0


@dataclass
class Anchors:
    """alpha of every variable of a scene.

    Attributes:
        objects: in the order of `SceneLatents.objects`.
        camera, background: of the scene's two. insertion: of the presence of empty slots: 1 leaves them empty, 0 lets
            objects come where the prior wants them.
    """

    objects: list[ObjectAnchors] = field(default_factory=list)
    camera: float = 1.0
    background: float = 1.0
    insertion: float = 1.0
