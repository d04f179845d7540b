"""A view's pixels, ready to be looked into: mipmaps of its colours, depths around each pixel. Kept while it is used."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from ..kept import Kept
from ..scene import View

# Bytes that are kept; of a view's pixel these.
_KEPT, _PIXEL = 1 << 29, 32


class ViewPixels:
    """What look-ups want of a view."""

    def __init__(self, view: View):
        self.view = view
        self._levels: list[torch.Tensor] = []

    @cached_property
    def around(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(H, W) each: least and greatest depth of the pixels around, and whether one of them shows the asset."""
        depth = torch.from_numpy(self.view.depth)[None, None]
        known = torch.isfinite(depth)
        near = -F.max_pool2d(torch.where(known, -depth, -torch.inf), 3, 1, 1)
        far = F.max_pool2d(torch.where(known, depth, -torch.inf), 3, 1, 1)
        covered = F.max_pool2d((~torch.isinf(depth)).float(), 3, 1, 1) > 0
        return near[0, 0].numpy(), far[0, 0].numpy(), covered[0, 0].numpy()

    def sampled(self, grid: torch.Tensor, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Colours (N, 3) at places `grid` (N, 2) in -1..1, of pixels that are means of 2 ** level squared; and how much
        of the asset is shown there (N,)."""
        image = self._level(int(np.clip(np.floor(level + 0.3), 0, 8)))
        found = F.grid_sample(image, grid[None, None], align_corners=False, padding_mode="border")[0, :, 0]
        # Pixels that do not show the asset have no say.
        return (found[:3] / found[3:].clamp_min(1e-3)).clamp(0, 1).T.numpy(), found[3].numpy()

    def _level(self, number: int) -> torch.Tensor:
        """(1, 4, h, w): colours times how much is shown, and that."""
        if not self._levels:
            image = torch.from_numpy(self.view.color).permute(2, 0, 1)[None].float() / 255
            # A pixel wider than the mask: colours were carried over the outline.
            mask = torch.from_numpy((~np.isinf(self.view.depth)).astype(np.float32))[None, None]
            shown = F.max_pool2d(mask, 3, 1, 1)
            self._levels.append(torch.cat([image * shown, shown], 1))
        while len(self._levels) <= number and min(self._levels[-1].shape[-2:]) > 1:
            self._levels.append(F.avg_pool2d(self._levels[-1], 2, ceil_mode=True, count_include_pad=False))
        return self._levels[min(number, len(self._levels) - 1)]


_kept = Kept(_KEPT, lambda pixels: pixels.view.depth.size * _PIXEL)


def pixels_of(view: View) -> ViewPixels:
    """The pixels of a view, as it was when they were first asked for."""
    return _kept.get(view, lambda: ViewPixels(view))
