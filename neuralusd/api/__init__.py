"""The verbs on stages: what the command line, the service and users call.

Everything is authored on the stage's edit target; nothing is saved that the caller does not save.
"""

from .editing import edit, edit_over
from .encoding import Encoded, PhotoWarning, encode, encode_photo
from .lifting import LiftWarning, lift
from .progress import Cancelled, Progress
from .rendering import render, render_passes
from .resampling import ResampleWarning, resample
from .shots import base_stage, has_tokens, open_shot

__all__ = [
    "Cancelled",
    "Encoded",
    "LiftWarning",
    "PhotoWarning",
    "Progress",
    "ResampleWarning",
    "base_stage",
    "edit",
    "edit_over",
    "encode",
    "encode_photo",
    "has_tokens",
    "lift",
    "open_shot",
    "render",
    "render_passes",
    "resample",
]
