"""The verbs as diffusers pipelines over a `neuralusd.scene.Scene`. No USD here."""
