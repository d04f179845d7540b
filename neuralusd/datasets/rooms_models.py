"""Which models of a library play which role in a room: by name, category and size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .furniture_assets import FurnitureAsset

Range = tuple[float, float]


@dataclass(frozen=True)
class Role:
    """What a model must be to play a role.

    Attributes:
        name: regular expression that its name matches somewhere, whatever the case.
        width, depth, height: in metres, along the model's own X, Y and Z at its own size.
        but_not: regular expression that its name must not match; "" for none.
        categories: that it must be of, where it is of any; empty takes all.
    """

    name: str
    width: Range
    depth: Range
    height: Range
    but_not: str = ""
    categories: tuple[str, ...] = ()

    def fits(self, asset: FurnitureAsset) -> bool:
        if not all(
            low <= side <= high
            for side, (low, high) in zip(asset.size, (self.width, self.depth, self.height), strict=True)
        ):
            return False
        if asset.category and self.categories and asset.category not in self.categories:
            return False
        if self.but_not and re.search(self.but_not, asset.name, re.IGNORECASE):
            return False
        return re.search(self.name, asset.name, re.IGNORECASE) is not None


INDOORS = ("Bedroom", "Living room", "Office", "Lights", "Miscellaneous")
ROLES = {
    "bed": Role(r"\bbed\b|futon$|convertible sofa", (0.8, 2.2), (1.75, 2.7), (0.15, 2.0), "hospital|air|baby|crib"),
    "nightstand": Role(
        r"bedside|night ?stand|night table|filing cabinet|^stool$|^crate$", (0.3, 0.65), (0.3, 0.65), (0.35, 0.65)
    ),
    "wardrobe": Role("wardrobe|armoire|cupboard", (0.6, 2.3), (0.3, 0.8), (1.3, 2.4), categories=INDOORS),
    "dresser": Role(r"dresser|^chest\b|commode|sideboard|buffet", (0.6, 1.8), (0.3, 0.65), (0.55, 1.1), "freezer"),
    "bookcase": Role("bookcase|bookshelf|shelves", (0.4, 1.8), (0.2, 0.45), (0.7, 2.3), "upper", ("Living room",)),
    "desk": Role(r"\bdesk\b", (0.9, 1.95), (0.45, 0.9), (0.65, 0.85), "chair|lamp"),
    "desk chair": Role(r"\bchair\b", (0.4, 0.7), (0.4, 0.7), (0.75, 1.1), "class|armchair", ("Office",)),
    "chair": Role(
        r"\bchair\b", (0.38, 0.62), (0.4, 0.65), (0.7, 1.2), "arm|child|bar|desk|leaf|folding", ("Living room",)
    ),
    "armchair": Role("armchair|leaf chair", (0.5, 1.2), (0.5, 1.0), (0.6, 1.1), "sofa", ("Living room", "Bedroom")),
    "dressing table": Role("dressing table|vanity table", (0.6, 1.3), (0.35, 0.6), (0.7, 1.7)),
    "stool": Role(r"\bstool\b|pouf|puff|piano bench", (0.3, 0.95), (0.3, 0.95), (0.35, 0.65)),
    "trunk": Role("trunc?k|bench$|blanket box", (0.8, 1.3), (0.35, 0.6), (0.25, 0.6), "abdominal", INDOORS),
    "clothes rack": Role("clothes rack|coat rack", (0.4, 1.4), (0.2, 0.6), (1.0, 2.0)),
    "crib": Role(r"\bcrib\b|baby bed", (0.5, 0.8), (0.7, 1.35), (0.6, 1.2)),
    "table lamp": Role(
        r"\blamp\b", (0.1, 0.42), (0.1, 0.42), (0.3, 0.85), "desk|camping|outdoor|street|wall|ceiling|pendant"
    ),
    "desk lamp": Role("desk lamp", (0.1, 0.45), (0.1, 0.45), (0.3, 0.6)),
    "floor lamp": Role("floor lamp|standard lamp|^lamp$|torchiere", (0.2, 0.8), (0.2, 0.8), (1.2, 2.0)),
    "plant": Role("plant|yucca|ficus", (0.3, 1.2), (0.3, 1.2), (0.55, 1.9), "", ("Living room",)),
    "small plant": Role("plant|cactus|bonsai|orchid|bamboo", (0.1, 0.46), (0.1, 0.4), (0.1, 0.6), "", ("Living room",)),
    "vase": Role("vase", (0.1, 0.35), (0.1, 0.35), (0.2, 0.55)),
    "computer": Role("laptop|imac|ibook|computer", (0.25, 0.5), (0.2, 0.55), (0.2, 0.5)),
    "television": Role(r"\btv\b|television", (0.5, 1.2), (0.1, 0.4), (0.4, 0.8), "wall|remote|stand|cabinet"),
    "television stand": Role("tv stand|television stand", (0.8, 1.9), (0.3, 0.6), (0.3, 0.75)),
    "toy": Role("teddy|doll house|rocking horse", (0.2, 0.8), (0.2, 0.6), (0.25, 0.9)),
    "ornament": Role("teddy|radio$|mini stereo|candle|^gift", (0.1, 0.5), (0.05, 0.4), (0.14, 0.5)),
    "sofa": Role(r"sofa|couch", (1.3, 2.4), (0.6, 1.15), (0.6, 1.05), "corner|opened|bz"),
    "coffee table": Role("coffee table|living room table|^low table", (0.6, 1.5), (0.4, 0.9), (0.3, 0.56)),
    "dining table": Role(
        r"\btable\b",
        (0.75, 2.4),
        (0.6, 1.3),
        (0.68, 0.82),
        "coffee|living|bar|tennis|football|pool|technical|dressing|lamp|fan|desk|bedside|children",
        ("Living room", "Office", "Kitchen"),
    ),
    "fireplace": Role("fireplace", (0.8, 1.6), (0.2, 0.6), (0.8, 1.5)),
    "piano": Role("upright piano", (1.2, 1.7), (0.4, 0.75), (0.9, 1.5)),
}
# Of the Debian package's models: what no name tells.
LEFT_OUT = {"Blend Swap CC-0#lamp2": "a chandelier"}
# Models that are of use at another size than the catalogue's: a torchiere that is listed as a street lamp.
RESIZED = {"Scopia#farola1": ("floor lamp", 0.72)}
# Names of what is seen more often than other models of its role, by how much.
COMMON = {"nightstand": (r"bedside|night", 4.0), "bed": (r"^bed$", 1.5)}
# Tops that nothing stands on: the box's top is not where the surface is.
NOT_FLAT = ("changing", "children", "bunk")


@dataclass(frozen=True)
class Model:
    """A model in a role. `size` is the model's own times `resize`."""

    asset: FurnitureAsset
    resize: float = 1.0

    @property
    def flat(self) -> bool:
        """Whether something may stand on its top."""
        return not any(word in self.asset.name.lower() for word in NOT_FLAT)


class Models:
    """The models of a library by role.

    Args:
        library: the assets. split: None takes all of them, "held_out_models" in each role the held-out ones where
            there are any, else those that are trained on; every other split those that are trained on.
    """

    def __init__(self, library: Sequence[FurnitureAsset], split: str | None = None):
        self.by_role: dict[str, list[Model]] = {}
        self._cumulated: dict[str, np.ndarray] = {}
        for role, rule in ROLES.items():
            found = [Model(a) for a in library if a.id not in LEFT_OUT and a.id not in RESIZED and rule.fits(a)]
            found += [Model(a, RESIZED[a.id][1]) for a in library if RESIZED.get(a.id, ("",))[0] == role]
            if split is not None:
                kept = [model for model in found if model.asset.held_out == (split == "held_out_models")]
                found = kept or (found if split == "held_out_models" else [])
            self.by_role[role] = found
            word, factor = COMMON.get(role, ("", 1.0))
            weights = np.array([factor if re.search(word, m.asset.name, re.IGNORECASE) else 1.0 for m in found])
            self._cumulated[role] = np.cumsum(weights) / max(weights.sum(), 1e-9)

    def __contains__(self, role: str) -> bool:
        return bool(self.by_role[role])

    def choose(self, role: str, rng: np.random.Generator) -> Model | None:
        """One of the models of a role; None where the library has none."""
        found = self.by_role[role]
        return found[int(np.searchsorted(self._cumulated[role][:-1], rng.random()))] if found else None


_known: dict[tuple, tuple[list[FurnitureAsset], Models]] = {}


def models_of(library: Sequence[FurnitureAsset] | Models, split: str | None = None) -> Models:
    """The models of a library by role; finding them takes longer than laying out a room, so they are remembered."""
    if isinstance(library, Models):
        return library
    key = (split, *map(id, library))
    if key not in _known:
        if len(_known) >= 8:
            _known.clear()
        # The assets are kept too, so that an identity stands for the same asset as long as it is remembered.
        _known[key] = (list(library), Models(library, split))
    return _known[key][1]
