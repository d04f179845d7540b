"""Weights as they are shipped: in half precision, as safetensors.

python -m neuralusd.training.half out/lift neuralusd/weights/mini_lift
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuralusd.pipelines.lift import LiftPipeline


def halve(source: str | Path, target: str | Path, embedding_dim: int | None = None) -> int:
    """Writes a diffusers pipeline that is in `source` to `target` in half precision. Its revision stays, as long as the
    weights are those of the training.

    Args:
        embedding_dim: of `lift`, see `shorten`.

    Returns:
        Bytes of all its weights.

    Raises:
        BackendError: there is no pipeline, or it is not of safetensors.
    """
    import torch
    from diffusers import DiffusionPipeline

    from neuralusd.backends import read_pipeline
    from neuralusd.pipelines.lift import LiftPipeline
    from neuralusd.pipelines.render import NeuralUSDPipeline
    from neuralusd.pipelines.resample import ResamplePipeline

    index = Path(source) / "model_index.json"
    name = json.loads(index.read_text(encoding="utf-8")).get("_class_name") if index.is_file() else None
    ours = {kind.__name__: kind for kind in (LiftPipeline, NeuralUSDPipeline, ResamplePipeline)}
    pipeline = read_pipeline(ours.get(name, DiffusionPipeline), str(source), f"what is in '{source}'", torch.float32)
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


def shorten(pipeline: LiftPipeline, embedding_dim: int) -> None:
    """Keeps that many principal components of the training objects' embeddings, as the decoder's first layer sees them:
    most of a small decoder's weights are in that layer, and the last components say little."""
    import torch

    from neuralusd.models.volumes.decoder import VolumeDecoder
    from neuralusd.models.volumes.embeddings import ObjectEmbeddings
    from neuralusd.training.checkpoint import weights_digest

    decoder, embeddings = pipeline.decoder, pipeline.embeddings
    table, first = embeddings.table.weight, decoder.first
    with torch.no_grad():
        mean = table.mean(0)
        left, size, right = torch.linalg.svd((table - mean) @ first.weight.T, full_matrices=False)
        # Numbers of a deviation of 1 / sqrt(dim) all together, as training begins with.
        scale = size[:embedding_dim].square().sum().sqrt() / len(table) ** 0.5
        known = {name: value for name, value in decoder.config.items() if not name.startswith("_")}
        short = VolumeDecoder(**{**known, "embedding_dim": embedding_dim})
        kept = {name: value for name, value in decoder.state_dict().items() if not name.startswith("first.")}
        short.load_state_dict(kept, strict=False)
        short.first.weight.copy_((right[:embedding_dim] * scale).T)
        short.first.bias.copy_(first.bias + first.weight @ mean)
        objects = ObjectEmbeddings(embeddings.config.objects, embedding_dim)
        objects.table.weight.copy_(left[:, :embedding_dim] * size[:embedding_dim] / scale)
    pipeline.register_modules(decoder=short.eval(), embeddings=objects.eval())
    pipeline.register_to_config(revision=weights_digest(pipeline.components.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a pipeline's weights in half precision."""
    from neuralusd.errors import BackendError

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
