"""What `lift` is asked for, checked before the work: its sources, its numbers, and where its files go."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SceneError
from ..lifting import IMAGE, NOTHING, TEXT, Lifter
from ..lifting.cutout import Mask, Picture
from ..stage.asset import LAYERS
from .outputs import check_free

OUTPUTS = (*LAYERS, ".usdz", ".glb")
HIGHEST = 1e5
# More candidates, or steps of a sampler, than anyone waits for.
MOST_CANDIDATES, MOST_STEPS = 256, 1000
LONGEST_TEXT = 2000


def sources(
    images: Picture | Sequence[Picture] | None, mask: Mask | Sequence[Mask | None] | None
) -> tuple[list[Picture], list[Mask | None]]:
    """The pictures and a mask for each. Raises SceneError where they are not as many, or there are none in a list."""
    if images is None:
        if mask is not None:
            raise SceneError("there is a mask, and no picture that it is of. Give the picture, or leave the mask out.")
        return [], []
    pictures: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images]
    masks: list[Any] = list(mask) if isinstance(mask, (list, tuple)) else [mask]
    if mask is None:
        masks *= len(pictures)
    if not pictures:
        raise SceneError("there is no picture to lift. Give one.")
    if len(masks) != len(pictures):
        raise SceneError(f"there are {len(pictures)} pictures and {len(masks)} masks. Give a mask for each.")
    return pictures, masks


def check_sources(lifter: Lifter, pictures: int, text: str) -> None:
    """Raises SceneError where a lifter makes nothing of so many pictures and a text, with what it does."""
    does = {IMAGE: "pictures", TEXT: "words (--text)", NOTHING: "nothing (--random)"}
    makes = " and of ".join(said for name, said in does.items() if name in lifter.takes)
    name = f"the lifter '{lifter.name}'"
    if pictures and IMAGE not in lifter.takes:
        raise SceneError(f"{name} looks at no pictures; it makes things of {makes}. Name another lifter (--backend).")
    if pictures > lifter.most:
        said = "one picture" if lifter.most == 1 else f"{lifter.most} pictures"
        raise SceneError(f"{name} takes {said}, and there are {pictures}. Leave some out.")
    if text and TEXT not in lifter.takes:
        cure = "Leave the text out; a name says what it is (--name)" if pictures else "Name another (--backend)"
        raise SceneError(f"{name} takes no words; it makes things of {makes}. {cure}.")
    if not pictures and not text and NOTHING not in lifter.takes:
        raise SceneError(f"{name} makes things of {makes}, and there is neither picture nor text. Give one.")


def check_numbers(
    height: float | None, texture_size: int | None, seed: int, candidates: int | None, steps: int | None
) -> None:
    """Raises SceneError for the first that is out of range."""
    if height is not None and not (_is_number(height) and 0 < height <= HIGHEST):
        raise SceneError(f"a height of {height} is none. Give the object's height in metres, above 0.")
    if texture_size is not None and not (_is_number(texture_size) and 64 <= texture_size <= 8192):
        raise SceneError(f"a texture of {texture_size} texels is none. Give a size of 64 to 8192.")
    if not (_is_whole(seed) and 0 <= seed < 2**63):
        raise SceneError(f"{seed} is no seed. Give a whole number of 0 to 2**63 - 1.")
    for value, what, most in ((candidates, "candidates", MOST_CANDIDATES), (steps, "steps", MOST_STEPS)):
        if value is not None and not (_is_whole(value) and 1 <= value <= most):
            raise SceneError(f"{value} {what} are none. Give a whole number of 1 to {most}.")


def check_sampling(lifter: Lifter, **given: Any) -> None:
    """Raises SceneError where what is for samplers is given (not None), and the lifter samples nothing."""
    said = [f"--{name}" for name, value in given.items() if value is not None]
    if said and not lifter.seeded:
        raise SceneError(
            f"the lifter '{lifter.name}' draws no random numbers, so it has one result and no {' or '.join(said)}. "
            "Leave that out, or name another lifter (--backend)."
        )


def check_text(text: str | None) -> str:
    """The text without space around it; "" for None. Raises SceneError for one that says nothing or is too long."""
    if text is None:
        return ""
    words = " ".join(str(text).split())
    if not words or "\0" in words:
        raise SceneError("the text says nothing. Say what to make, as in 'a red armchair'.")
    if len(words) > LONGEST_TEXT:
        raise SceneError(f"the text has {len(words)} characters; {LONGEST_TEXT} are the most. Say it in fewer.")
    return words


def target(output: str | Path | None, gaussians: bool, overwrite: bool) -> Path | None:
    """Where the asset goes. Raises SceneError where it cannot, or where files are there that nobody said to replace."""
    if output is None:
        return None
    path = Path(os.path.abspath(output))
    extension = path.suffix.lower()
    if extension not in OUTPUTS:
        names = ", ".join(suffix[1:] for suffix in OUTPUTS)
        raise SceneError(f"{output} cannot be written: its extension is none of {names}. Name it so.")
    if gaussians and extension == ".glb":
        raise SceneError(f"{output}: glTF holds no Gaussians. Name a .usdz, .usda or .usdc, or leave --gaussians out.")
    for file in [path, *([path.parent / texture_path(path)] if extension in LAYERS else [])]:
        check_free(file, overwrite)
    return path


def texture_path(layer: Path) -> str:
    """Where a layer's texture stands, relative to it: its own name, without what asset paths do not take."""
    stem = re.sub(r"[^\w.-]+", "_", layer.stem)
    if stem != layer.stem:
        stem += "_" + hashlib.sha256(layer.stem.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"textures/{stem}.png"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value)
