# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in a way that a person can do something about."""


class Problem(Exception):
    """What is wrong and the cure, in a sentence or two."""
