"""How precisely a machine had better compute."""

from __future__ import annotations

import torch


def best_precision() -> str:
    """ "bf16" where the machine computes it in hardware, else "no"."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if capable else "no"
