"""An embedding an object: stored one by one, or hashed from codebooks (section B.3)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

_BITS = 32  # w of equation 10


class ObjectEmbeddings(ModelMixin, ConfigMixin):
    """`embeddings(objects)`, (B,) indices to (B, embedding_dim).

    Args:
        objects: how many there are. embedding_dim: l_v.
        codebooks: n_c smaller vectors make up one; 0 stores one vector an object.
        entries: n_h vectors a codebook, a power of two.

    Raises:
        ValueError: the codebooks do not fit, or two objects would take the same entries of all of them.
    """

    @register_to_config
    def __init__(self, objects: int, embedding_dim: int = 1024, codebooks: int = 0, entries: int = 256) -> None:
        super().__init__()
        if codebooks and (embedding_dim % codebooks or entries & (entries - 1)):
            raise ValueError(
                f"{codebooks} codebooks have to divide the embedding's {embedding_dim}, and their {entries} entries to "
                "be a power of two"
            )
        if codebooks and not _apart(objects, codebooks, entries):
            raise ValueError(
                f"{codebooks} codebooks of {entries} entries cannot tell {objects} objects apart; take more of either"
            )
        count, width = (codebooks * entries, embedding_dim // codebooks) if codebooks else (objects, embedding_dim)
        self.table = nn.Embedding(count, width)

    def forward(self, objects: torch.Tensor) -> torch.Tensor:
        books, entries = self.config.codebooks, self.config.entries
        if not books:
            return self.table(objects)
        index = hash_index(objects, books, entries)
        return self.table(index + torch.arange(books, device=index.device) * entries).flatten(1)


def _apart(objects: int, codebooks: int, entries: int) -> bool:
    """Whether every object takes entries that no other takes all of."""
    weight = torch.randint(2**62, (codebooks,), generator=torch.Generator().manual_seed(0)) | 1
    chunks = torch.arange(objects).split(max(1, 2**22 // codebooks))
    digests = torch.cat([(hash_index(chunk, codebooks, entries) * weight).sum(1) for chunk in chunks])
    return len(torch.unique(digests)) == objects


def hash_index(objects: torch.Tensor, codebooks: int, entries: int) -> torch.Tensor:
    """Equations 10 and 11: which entry of each codebook an object takes, (B,) int64 to (B, codebooks)."""
    book = torch.arange(codebooks, device=objects.device)
    multiplier = 2 ** (_BITS - 1) + 2 * book**2 + 1
    bits = entries.bit_length() - 1
    return ((multiplier * objects.unsqueeze(-1)) % 2**_BITS) >> (_BITS - bits)
