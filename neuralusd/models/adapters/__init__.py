"""The full size's decoder and encoders of Anchored Generation: a FLUX.2 with adapters that listen to a scene's latents.

The paper says what there is, not how wide; what is ours is said where it is.
"""
