"""Weights as they are shipped: in half precision, as safetensors. For those of `lift`:

python -m neuralusd.training.half out/lift neuralusd/weights/mini_lift --embedding-dim 128
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from neuralusd.backends import read_pipeline
from neuralusd.errors import BackendError
from neuralusd.models.volumes.embeddings import ObjectEmbeddings
from neuralusd.pipelines.lift import LiftPipeline
from neuralusd.pipelines.render import NeuralUSDPipeline
from neuralusd.pipelines.resample import ResamplePipeline
from neuralusd.training.checkpoint import weights_digest

KINDS = {kind.__name__: kind for kind in (LiftPipeline, NeuralUSDPipeline, ResamplePipeline)}


def halve(source: str | Path, target: str | Path, embedding_dim: int | None = None) -> int:
    """Writes a diffusers pipeline that is in `source` to `target` in half precision. Its revision stays, as long as the
    weights are those of the training.

    Args:
        embedding_dim: of `lift`, see `shorten`.

    Returns:
        Bytes of all its weights.

    Raises:
        BackendError: there is no pipeline, or it is not of safetensors. ValueError: see `shorten`.
    """
    index = Path(source) / "model_index.json"
    name = json.loads(index.read_text(encoding="utf-8")).get("_class_name") if index.is_file() else None
    pipeline = read_pipeline(KINDS.get(name, DiffusionPipeline), str(source), f"what is in '{source}'", torch.float32)
    if embedding_dim is not None:
        shorten(pipeline, embedding_dim)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.half()
    pipeline.save_pretrained(str(target), safe_serialization=True)
    for file in Path(target).rglob("*.json"):  # where the weights lay is nobody's business
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return sum(file.stat().st_size for file in Path(target).glob("*/*.safetensors"))


def shorten(pipeline: DiffusionPipeline, embedding_dim: int) -> None:
    """Keeps that many principal components of the training objects' embeddings, as the decoder's first layer sees them:
    most of a small decoder's weights are in that layer, and the last components say little. The revision is new.

    Raises:
        ValueError: it is no pipeline of `lift` with embeddings, or has not as many components.
    """
    if not isinstance(pipeline, LiftPipeline) or pipeline.embeddings is None:
        raise ValueError(f"a {type(pipeline).__name__} without embeddings of objects has none to shorten")
    decoder, first = pipeline.decoder, pipeline.decoder.first
    table = pipeline.known_embeddings()
    most = min(table.shape)
    if not 1 <= embedding_dim <= most:
        raise ValueError(f"{embedding_dim} numbers of an embedding cannot be kept: give 1 to {most}")
    with torch.no_grad():
        mean = table.mean(0)
        left, size, right = torch.linalg.svd((table - mean) @ first.weight.T, full_matrices=False)
        # Numbers of a deviation of 1 / sqrt(dim) all together, as training begins with.
        scale = size[:embedding_dim].square().sum().sqrt() / len(table) ** 0.5
        short = decoder.with_embedding_dim(embedding_dim)
        short.first.weight.copy_((right[:embedding_dim] * scale).T)
        short.first.bias.copy_(first.bias + first.weight @ mean)
        objects = ObjectEmbeddings(len(table), embedding_dim)
        objects.table.weight.copy_(left[:, :embedding_dim] * size[:embedding_dim] / scale)
    pipeline.register_modules(decoder=short.eval(), embeddings=objects.eval())
    pipeline.register_to_config(revision=weights_digest(pipeline.components.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a pipeline's weights in half precision."""
    parser = argparse.ArgumentParser(prog="python -m neuralusd.training.half", description=main.__doc__)
    parser.add_argument("source", metavar="DIR", help="of a pipeline that `neuralusd train` wrote")
    parser.add_argument("target", metavar="DIR", help="folder to write")
    parser.add_argument("--embedding-dim", type=int, metavar="N", help="of lift: keep N numbers of an embedding")
    given = parser.parse_args(arguments)
    try:
        size = halve(given.source, given.target, given.embedding_dim)
    except (BackendError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.target}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
