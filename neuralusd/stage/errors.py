"""What can be wrong with a stage. Every message says what is wrong, with which file or prim, and the cure."""

from __future__ import annotations

from ..errors import SceneError, TokensError

__all__ = [
    "CameraError",
    "EmptyStageError",
    "ExtentError",
    "SaveError",
    "SceneError",
    "StageOpenError",
    "StageWarning",
    "TokensError",
    "TransformError",
]


class StageOpenError(SceneError):
    """A file is missing, empty, damaged, or not USD."""


class SaveError(SceneError):
    """A layer cannot be written."""


class EmptyStageError(SceneError):
    """A stage holds nothing that could be seen."""


class CameraError(SceneError):
    """A camera is missing, is not a camera, or cannot be used."""


class TransformError(SceneError):
    """A prim's transform is not finite, is singular, or cannot be authored."""


class ExtentError(SceneError):
    """A prim's box is empty or not finite."""


class StageWarning(UserWarning):
    """Something of a stage was left out; the rest is usable."""
