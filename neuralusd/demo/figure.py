"""Figure 1 of Neural USD, on `mini`: original, pose, appearance, geometry, background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from .. import stage as stages
from ..api import edit, edit_over, encode, render
from ..evaluation.report import contact_sheet
from ..images import save_image
from .frames import copy_frame, read_passes

FRAMES = Path(__file__).parent / "frames"
# Pixels of a panel's side in the figure.
TILE = 256


@dataclass(frozen=True)
class Edit:
    """One panel: its name, what it says to a reader, and the arguments of `neuralusd.edit`."""

    name: str
    says: str
    arguments: dict[str, Any] = field(default_factory=dict)


CHAIR, ARMCHAIR, VASE = "/World/ModernArmchair_2", "/World/Armchair_1", "/World/Vase_3"
CHAIRS, PLANKS = "{output}/chairs.neural.usdc", "{output}/planks.neural.usdc"

EDITS = (
    Edit("original", "the scene as it was encoded"),
    Edit(
        "pose",
        "the shell chair comes nearer and turns",
        {"move": {CHAIR: (-0.2, -0.3, 0.0)}, "rotate": {CHAIR: 10.0}},
    ),
    Edit("appearance", "the armchair takes the vase's look", {"appearance": {ARMCHAIR: VASE}}),
    Edit(
        "geometry",
        "a wooden chair of another scene stands in the shell chair's place",
        {"replace": {CHAIR: f"{CHAIRS}:/World/ChildrenChair_1"}},
    ),
    Edit("background", "the room of a third scene", {"background": f"{PLANKS}:/World/Room"}),
)


def run_demo(
    output: str | Path,
    *,
    backend: str | Path = "mini",
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Encodes three held-out frames, writes five layers over one stage, each over the last, and renders each.

    Args:
        output: folder of the stages, layers and pictures. say: called with a line as each thing is done.

    Returns:
        The five pictures and the contact sheet, last.
    """
    output = Path(output)
    sidecars = {}
    for source in sorted(FRAMES.glob("*.usda")):
        path = copy_frame(source, output)
        stage = stages.sidecar(path)
        done = encode(stage, image=path.with_suffix(".png"), passes=read_passes(path, stage), backend=backend)
        sidecars[source.stem] = stages.save(stage)
        say(f"encoded {len(done.encoded)} assets of {path.name} into {sidecars[source.stem].name}")
    below, image, stage = sidecars["room"], None, stages.open_stage(sidecars["room"])
    pictures: list[Path] = []
    panels = []
    for number, step in enumerate(EDITS, start=1):
        layer = output / f"{number}_{step.name}.usda"
        layer.unlink(missing_ok=True)
        edited = edit_over(below, layer)
        edit(edited, **_placed(step.arguments, output))
        stages.save(edited)
        # The first panel is the stage as it was encoded; there is no image before it to keep.
        image = render(edited, backend=backend, seed=seed, before=stage, before_image=image, hold=number > 1)
        pictures.append(save_image(image, output / f"{number}_{step.name}.png"))
        say(f"{pictures[-1].name}: {step.says}")
        panels.append((f"({'abcde'[number - 1]}) {step.name}: {step.says}", image))
        below, stage = layer, edited
    sheet = _sheet(output, panels)
    pictures.append(output / "figure1.png")
    sheet.save(pictures[-1])
    return pictures


def _placed(arguments: Any, output: Path) -> Any:
    """Arguments with "{output}" in their strings replaced."""
    if isinstance(arguments, dict):
        return {name: _placed(value, output) for name, value in arguments.items()}
    return arguments.replace("{output}", str(output)) if isinstance(arguments, str) else arguments


def _sheet(output: Path, panels: list[tuple[str, PIL.Image.Image]]) -> PIL.Image.Image:
    """The source photograph and the panels side by side, with its name above."""
    source = PIL.Image.open(output / "room.png").convert("RGB")
    tiles = {"source": source} | {title.split(":")[0]: image for title, image in panels}
    columns = []
    for title, image in tiles.items():
        shown = np.asarray(image.resize((TILE, TILE), PIL.Image.Resampling.LANCZOS), np.float32) / 255
        columns.append(contact_sheet({title: shown[None]}))
    sheet = PIL.Image.new("RGB", (sum(c.width for c in columns) + 4 * (len(columns) - 1), columns[0].height), "white")
    left = 0
    for column in columns:
        sheet.paste(column, (left, 0))
        left += column.width + 4
    return sheet
