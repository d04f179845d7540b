"""The generative prior over scene latents, and the codecs of what it draws (Anchored Generation, section 2.3)."""
