"""The main job on a held-out scene: the paper's Figure 1, five edits as five USD layers over one stage."""

from .figure import EDITS, run_demo

__all__ = ["EDITS", "run_demo"]
