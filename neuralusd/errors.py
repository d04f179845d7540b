"""What can be wrong. Every message says what is wrong, with which file or prim, and the cure."""

from __future__ import annotations


class SceneError(ValueError):
    """A stage, or a part of one, cannot be used as a scene."""


class TokensError(SceneError):
    """A prim's tokens are missing, damaged, or contradict themselves."""


class EncoderMismatchError(TokensError):
    """Tokens were made by another encoder than the one that is to read them."""


class EditError(SceneError):
    """An edit cannot be made as it was asked for."""


class BackendError(ValueError):
    """Weights are missing, damaged, or not what was asked for."""
