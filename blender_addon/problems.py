# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in a way that a person can do something about."""

from __future__ import annotations

import os


class Problem(Exception):
    """What is wrong and the cure, in a sentence or two."""


def plain(error: Exception, folder: str) -> str:
    """What an error says, its files in the folder of the request by their names alone: that folder is gone by then."""
    return str(error).replace(folder + os.sep, "") if folder else str(error)
