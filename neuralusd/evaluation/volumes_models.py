"""Folders that training wrote: an autodecoder (`decoder`, `embeddings`), a latent diffusion model (`decoder`,
`denoiser`, `normalizer`), or both, as models to sample from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.volumes.decoder import VolumeDecoder, activate
from ..models.volumes.denoiser import VolumeUNet
from ..models.volumes.embeddings import ObjectEmbeddings
from ..models.volumes.normalization import LatentNormalizer
from ..models.volumes.sampling import sample_latents

_BATCH = 8

Volume = tuple[torch.Tensor, torch.Tensor]
"""Density (1, 1, S, S, S) per unit of the canonical cube, and colour (1, 3, S, S, S) in 0..1."""


@dataclass
class VolumeModel:
    """What a folder holds.

    Attributes:
        name: of its rows. digest: of all its weights.
        embeddings: of the training objects, and mean, deviation: (E,) of them; None where the folder has none.
        denoiser, normalizer: None where the folder has only an autodecoder.
    """

    name: str
    digest: str
    decoder: VolumeDecoder
    embeddings: ObjectEmbeddings | None = None
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None
    denoiser: VolumeUNet | None = None
    normalizer: LatentNormalizer | None = None

    def objects(self, indices: np.ndarray) -> Iterator[Volume]:
        """The volumes of training objects."""
        assert self.embeddings is not None
        embeddings = self.embeddings
        yield from self._decoded(lambda at: embeddings(torch.from_numpy(np.asarray(indices[at], np.int64))), indices)

    def direct(self, count: int, seed: int) -> Iterator[Volume]:
        """Direct latent sampling (table 3): embeddings from a normal distribution with the mean and the deviation that
        each number of the trained ones has. The paper's is the standard normal one; its embeddings were that, too."""
        assert self.mean is not None and self.deviation is not None
        noise = torch.randn(count, len(self.mean), generator=torch.Generator().manual_seed(seed))
        found = self.mean + self.deviation * noise
        yield from self._decoded(lambda at: found[at], np.arange(count))

    @torch.no_grad()
    def diffused(self, count: int, steps: int, seed: int) -> Iterator[Volume]:
        """Samples of the latent diffusion model, told nothing, without stochasticity (section 4.4)."""
        assert self.denoiser is not None and self.normalizer is not None
        config = self.denoiser.config
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, count, _BATCH):
            shape = (min(_BATCH, count - start), config.channels, *[config.resolution] * 3)
            latents = sample_latents(self.denoiser, shape, generator, steps=steps)
            for latent in self.normalizer.denormalize(latents).split(1):
                yield self._activated(self.decoder.volume(latent))

    @torch.no_grad()
    def _decoded(self, embedding: Callable[[slice], torch.Tensor], every: np.ndarray) -> Iterator[Volume]:
        for start in range(0, len(every), _BATCH):
            for one in embedding(slice(start, start + _BATCH)).split(1):
                yield self._activated(self.decoder(one))

    @staticmethod
    def _activated(volume: torch.Tensor) -> Volume:
        density, color = activate(volume.float())
        return density, color


def load_volume_model(name: str, folder: str | os.PathLike) -> VolumeModel:
    """A folder's model.

    Raises:
        ValueError: there is no decoder in it, something does not fit, or it is not safetensors; says what.
    """
    root = Path(folder)
    if not (root / "decoder" / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no volume model: there is no decoder in it. Name a folder that training the autodecoder "
            "or the latent diffusion model wrote"
        )
    decoder = _load(VolumeDecoder, root, "decoder")
    model = VolumeModel(name, _digest(root), decoder)
    if (root / "embeddings").is_dir():
        model.embeddings = _load(ObjectEmbeddings, root, "embeddings")
        if model.embeddings.config.embedding_dim != decoder.config.embedding_dim:
            raise ValueError(f"{folder}: its embeddings and its decoder are of different lengths")
        with torch.no_grad():
            table = model.embeddings(torch.arange(model.embeddings.config.objects))
        model.mean, model.deviation = table.mean(0), table.std(0)
    if (root / "denoiser").is_dir():
        model.denoiser = _load(VolumeUNet, root, "denoiser")
        if not (root / "normalizer").is_dir():
            raise ValueError(f"{folder}: there is a denoiser without its normalizer")
        model.normalizer = _load(LatentNormalizer, root, "normalizer")
        latent = decoder.latent_shape(model.denoiser.config.resolution)
        if latent[0] != model.denoiser.config.channels:
            raise ValueError(f"{folder}: its denoiser is of another decoder's latents")
    return model


def _load(kind: Any, root: Path, name: str) -> Any:
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(str(root), subfolder=name, use_safetensors=True).float().eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{root / name} cannot be loaded: {text}. Weights have to be safetensors") from error


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*root.glob("*/*.safetensors"), *root.glob("*/config.json"), *root.glob("*.safetensors")]):
        if file.parent.name in ("decoder", "embeddings", "denoiser", "normalizer", root.name):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
