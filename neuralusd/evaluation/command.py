"""`neuralusd eval`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

SPLITS = ("held_out_scenes", "held_out_models")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `neuralusd eval`."""
    parser.add_argument(
        "--world", required=True, metavar="DIR", help="a furniture world, made by `neuralusd data furniture`"
    )
    parser.add_argument(
        "--backend",
        action="append",
        metavar="[NAME=]BACKEND",
        help="weights to evaluate; may be repeated (default: mini)",
    )
    parser.add_argument("--split", action="append", choices=SPLITS, help="default: both")
    parser.add_argument("--pairs", type=int, default=96, help="source and target frames a split (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="denoising steps (default: the backend's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the backend's)")
    parser.add_argument("--no-ablations", action="store_true", help="leave out the rows with a part zeroed")
    parser.add_argument("-o", "--output", default="out/eval", metavar="DIR", help="default: %(default)s")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the tables as Markdown and JSON and a contact sheet for each split; returns their content."""
    from ..backends import load_backend
    from ..datasets.frames import frames
    from .baselines import landed_tokens
    from .control import METRICS, evaluate_control
    from .locality import COLUMNS, evaluate_locality
    from .pairs import Frame, sample_pairs
    from .report import contact_sheet, markdown, write_json

    if importlib.util.find_spec("skimage") is None:
        raise ValueError("neuralusd eval needs scikit-image, which is not installed: pip install 'neuralusd[train]'")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    named = [text.partition("=") for text in args.backend or ["mini"]]
    pipelines = {name: load_backend(location or name) for name, _, location in named}
    content: dict[str, Any] = {}
    text = []
    for split in args.split or SPLITS:
        found = [Frame(*frame) for frame in frames(args.world, split)]
        pairs = sample_pairs(found, args.pairs, args.seed)
        baselines = {"landed tokens, no denoiser": landed_tokens(pairs)}
        table = evaluate_control(
            pipelines,
            pairs,
            seed=args.seed,
            steps=args.steps,
            guidance=args.guidance,
            ablations=not args.no_ablations,
            baselines=baselines,
        )
        content[split] = {"rows": table.rows, **table.settings}
        text.append(f"## {split.replace('_', ' ').capitalize()}\n\n{markdown(table.rows, METRICS)}\n")
        locality = evaluate_locality(
            next(iter(pipelines.values())), [pair.source for pair in pairs[:32]], seed=args.seed
        )
        content[split]["locality"] = locality
        text.append(f"### Edit locality\n\n{markdown(locality, COLUMNS)}\n")
        contact_sheet(table.images).save(output / f"{split}.png")
        write_json(output / "control.json", content)
        (output / "control.md").write_text("\n".join(text))
    return content
