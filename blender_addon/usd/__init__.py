# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene as USD: which prims objects are, what the neural schema says of them, and where their tokens are kept.

Modules here import `pxr` when they are imported, so `bundled.expose()` comes first.
"""
