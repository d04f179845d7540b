"""Figure 1 of Neural USD, on the stages that come along: original, pose, appearance, geometry, background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from .. import stage as stages
from ..api import edit, edit_over, encode, render
from ..images import save_image
from .frames import SIZE, copy_stages

# Pixels of a panel in the figure, of the strip that says what it is, and between panels.
TILE, STRIP, GAP = (512, 341), 26, 8
COLUMNS = 3


@dataclass(frozen=True)
class Edit:
    """One panel: its name, what it says to a reader, and the arguments of `neuralusd.edit`."""

    name: str
    says: str
    arguments: dict[str, Any] = field(default_factory=dict)


CHAIR, ARMCHAIR, VASE = "/World/ShellChair", "/World/Armchair", "/World/Vase"
CHAIRS, PLANKS = "{output}/chairs.neural.usdc", "{output}/planks.neural.usdc"

EDITS = (
    Edit("original", "the scene as it was encoded"),
    Edit(
        "pose",
        "the shell chair comes nearer and turns",
        {"move": {CHAIR: (0.12, -0.45, 0.0)}, "rotate": {CHAIR: 12.0}},
    ),
    Edit("appearance", "the armchair takes the vase's look", {"appearance": {ARMCHAIR: VASE}}),
    Edit(
        "geometry",
        "another room's chair in the shell chair's place",
        {"replace": {CHAIR: f"{CHAIRS}:/World/WoodenChair"}},
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
    """Encodes three rooms from their pictures, writes five layers over one, each over the last, and renders each.

    Args:
        output: folder of the stages, layers and pictures. say: called with a line as each thing is done.

    Returns:
        The five pictures and the contact sheet, last.
    """
    output = Path(output)
    sidecars = {}
    for path in copy_stages(output):
        stage = stages.sidecar(path)
        done = encode(stage, image=path.with_suffix(".jpg"), backend=backend)
        sidecars[path.stem] = stages.save(stage)
        say(f"encoded {len(done.encoded)} assets of {path.name} into {sidecars[path.stem].name}")
    below, image, stage = sidecars["room"], None, stages.open_stage(sidecars["room"])
    pictures: list[Path] = []
    source = "source: a picture of the stage by a path tracer"
    panels: list[tuple[str, PIL.Image.Image]] = [(source, PIL.Image.open(output / "room.jpg"))]
    for number, step in enumerate(EDITS, start=1):
        layer = output / f"{number}_{step.name}.usda"
        layer.unlink(missing_ok=True)
        edited = edit_over(below, layer)
        edit(edited, **_placed(step.arguments, output))
        stages.save(edited)
        # The first panel is the stage as it was encoded; there is no image before it to keep.
        before = None if number == 1 else stage
        image = render(
            edited, size=SIZE, backend=backend, seed=seed, before=before, before_image=image, hold=number > 1
        )
        pictures.append(save_image(image, output / f"{number}_{step.name}.png"))
        say(f"{pictures[-1].name}: {step.says}")
        panels.append((f"({'abcde'[number - 1]}) {step.name}: {step.says}", image))
        below, stage = layer, edited
    pictures.append(output / "figure1.png")
    _sheet(panels).save(pictures[-1], optimize=True)
    return pictures


def _placed(arguments: Any, output: Path) -> Any:
    """Arguments with "{output}" in their strings replaced."""
    if isinstance(arguments, dict):
        return {name: _placed(value, output) for name, value in arguments.items()}
    return arguments.replace("{output}", str(output)) if isinstance(arguments, str) else arguments


def _sheet(panels: list[tuple[str, PIL.Image.Image]]) -> PIL.Image.Image:
    """Panels in rows, each below a strip that says what it is."""
    rows = -(-len(panels) // COLUMNS)
    across, down = TILE[0] + GAP, TILE[1] + STRIP + GAP
    sheet = PIL.Image.new("RGB", (COLUMNS * across - GAP, rows * down - GAP), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=15)
    for index, (title, image) in enumerate(panels):
        row, column = divmod(index, COLUMNS)
        draw.text((column * across + 2, row * down + 4), title, fill="black", font=font)
        tile = image.convert("RGB").resize(TILE, PIL.Image.Resampling.LANCZOS)
        sheet.paste(tile, (column * across, row * down + STRIP))
    return sheet
