# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs and the set-up as operators."""

from __future__ import annotations

import bpy

from .display import NEURALUSD_OT_standard_view
from .encode import NEURALUSD_OT_encode
from .hold import NEURALUSD_OT_hold, NEURALUSD_OT_release
from .lift import NEURALUSD_OT_lift
from .render import NEURALUSD_OT_render
from .resample import (
    NEURALUSD_OT_forget_samples,
    NEURALUSD_OT_pin,
    NEURALUSD_OT_resample,
    NEURALUSD_OT_take,
)
from .setup import NEURALUSD_OT_check, NEURALUSD_OT_setup, NEURALUSD_OT_stop

CLASSES = (
    NEURALUSD_OT_encode,
    NEURALUSD_OT_render,
    NEURALUSD_OT_lift,
    NEURALUSD_OT_resample,
    NEURALUSD_OT_take,
    NEURALUSD_OT_forget_samples,
    NEURALUSD_OT_pin,
    NEURALUSD_OT_hold,
    NEURALUSD_OT_release,
    NEURALUSD_OT_check,
    NEURALUSD_OT_setup,
    NEURALUSD_OT_stop,
    NEURALUSD_OT_standard_view,
)


def register() -> None:
    """Adds the operators."""
    for each in CLASSES:
        bpy.utils.register_class(each)


def unregister() -> None:
    """Removes them."""
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)
