"""Surfaces as triangles, and what rays see of them. numpy and Embree; neither USD nor torch.

`neuralusd.stage` gives the surfaces of a stage, `sheets` those of what has only been seen.
"""
