"""The turntable of docs/lift.md: python examples/turntable.py ORBITS [LIFTER]

Lifts one picture of each of a few held-out models of ORBITS, a world of `neuralusd data orbits`, and turns what came of
it. The models shown are CC0, of Blend Swap; good lifts and bad ones, from the best to the worst.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image

from neuralusd.datasets.world import open_world
from neuralusd.evaluation.lifts import around, evaluate_lifts
from neuralusd.evaluation.lifts_cases import LiftCase, read_cases
from neuralusd.evaluation.lifts_rows import LifterRow
from neuralusd.evaluation.report import contact_sheet
from neuralusd.lifting import DEFAULT_LIFTER, open_lifter

OUTPUT = Path(__file__).parent.parent / "docs" / "images" / "lift_turntable.png"
CC0 = "Blend_Swap_CC_0_"
NAMES = ("chair2", "couch2", "modernArmchair", "dustbin", "lockedLocker", "pianoBench", "forkLift", "plant")
SIZE = 144


def main(orbits: str, lifter: str = DEFAULT_LIFTER) -> None:
    scenes = [
        scene
        for split in ("held_out_models", "held_out_categories")
        for scene in open_world(orbits, split)
        if scene.id.removeprefix(CC0) in NAMES
    ]
    row = LifterRow(lifter, open_lifter(lifter), seed=0)
    lines: list[tuple[float, str, np.ndarray]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in read_cases(scenes):
            [found] = evaluate_lifts([case], [row], Path(folder))
            scores = found.rows[lifter].scores
            if scores:
                solid = row.make(case, Path(folder) / case.model.name).solid
                tiles = np.concatenate([picture(case)[None], around(case, solid, SIZE)]) / 255
                said = f"{case.model.text}: Chamfer distance {scores['Chamfer %']:.1f} % of its longest side"
                lines.append((scores["Chamfer %"], said, tiles))
    rows = {said: tiles for _, said, tiles in sorted(lines, key=lambda line: line[0])}
    contact_sheet(rows).save(OUTPUT, optimize=True)
    print(OUTPUT)


def picture(case: LiftCase) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8, what was lifted, before white."""
    view = case.picture
    image = PIL.Image.fromarray((np.where(view.mask[..., None], view.color, 1) * 255).round().astype(np.uint8))
    return np.asarray(image.resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main(*sys.argv[1:])
