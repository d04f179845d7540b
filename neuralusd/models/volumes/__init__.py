"""Objects as volumes: the autodecoder and the latent diffusion of "Autodecoding Latent 3D Diffusion Models" (3DVADER,
Ntavelis et al., 2023). No USD.

Volumes are (B, C, S, S, S) with dimensions z, y, x of the object's canonical cube from -1 to 1, as
`torch.nn.functional.grid_sample` reads them.
"""
