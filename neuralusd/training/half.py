"""Weights as they are shipped: in half precision, as safetensors.

python -m neuralusd.training.half out/lift neuralusd/weights/mini_lift
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def halve(source: str | Path, target: str | Path) -> int:
    """Writes a diffusers pipeline that is in `source` to `target` in half precision. Its revision stays: it says which
    training the weights are of.

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
    pipeline = read_pipeline(ours.get(name, DiffusionPipeline), str(source), f"what is in '{source}'", torch.float16)
    pipeline.save_pretrained(str(target), safe_serialization=True)
    return sum(file.stat().st_size for file in Path(target).glob("*/*.safetensors"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a pipeline's weights in half precision."""
    from neuralusd.errors import BackendError

    parser = argparse.ArgumentParser(prog="python -m neuralusd.training.half", description=main.__doc__)
    parser.add_argument("source", metavar="DIR", help="of a pipeline that `neuralusd train` wrote")
    parser.add_argument("target", metavar="DIR", help="folder to write")
    given = parser.parse_args(arguments)
    try:
        size = halve(given.source, given.target)
    except (BackendError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.target}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
