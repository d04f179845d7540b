"""Torch modules: crops, encoders, asset tokens, landing. No USD here (see `neuralusd.stage`)."""
