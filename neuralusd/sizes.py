"""How large images may be."""

LARGEST_SIDE = 16384
"""Pixels of a side that an image has at most."""
