"""What can be wrong with a photograph and with the models that look at it."""

from __future__ import annotations

from ..errors import SceneError


class ImageError(SceneError):
    """A photograph, a mask or a depth map cannot be used."""


class ModelError(SceneError):
    """A detector, a segmenter or a depth model cannot be had, is of the wrong kind, or lacks something."""
