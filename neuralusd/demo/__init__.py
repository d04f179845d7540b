"""The main job on stages that come along: the paper's Figure 1, five edits as five USD layers over one stage."""

from .figure import EDITS, run_demo

__all__ = ["EDITS", "run_demo"]
