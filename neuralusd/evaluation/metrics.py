"""How near an image is to the true one, over all of it and over parts."""

from __future__ import annotations

import numpy as np


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of (H, W, 3) images in 0..1, over `mask` (H, W) bool; NaN over an empty mask."""
    error = np.square(image.astype(np.float64) - truth)
    if mask is not None:
        error = error[mask]
    if not error.size:
        return float("nan")
    return float(10 * np.log10(1 / max(error.mean(), 1e-10)))


def ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al., 2004) of (H, W, 3) images in 0..1, the mean of its map over `mask`."""
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(
        image.astype(np.float64),
        truth.astype(np.float64),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    if mask is None:
        return float(similarity.mean())
    return float(similarity[mask].mean()) if mask.any() else float("nan")
