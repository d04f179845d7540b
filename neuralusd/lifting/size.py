"""How high things are, for an object whose height nobody says."""

from __future__ import annotations

import re

# Metres. Medians of the models of that name in the furniture world, and of its kinds of people; cars are not in it.
TYPICAL = {
    "apple": 0.08, "armchair": 0.85, "bed": 0.95, "bench": 0.65, "bookcase": 1.75, "bottle": 0.2, "bowl": 0.15,
    "box": 0.35, "boy": 1.3, "cabinet": 0.8, "car": 1.5, "chair": 0.87, "coffee table": 0.48, "couch": 0.85,
    "cup": 0.08, "cupboard": 1.5, "desk": 0.72, "desk lamp": 0.4, "dog": 0.7, "floor lamp": 1.6, "girl": 1.3,
    "glass": 0.12, "horse": 1.9, "lamp": 0.48, "man": 1.8, "mug": 0.1, "person": 1.7, "piano": 1.4, "plant": 0.4,
    "plate": 0.03, "pot": 0.3, "shelf": 1.2, "shelves": 1.2, "sofa": 0.8, "stool": 0.8, "table": 0.75,
    "table lamp": 0.4, "teddy bear": 0.3, "toy": 0.2, "tree": 3.0, "tv": 0.6, "vase": 0.4, "wardrobe": 2.1,
    "woman": 1.66,
}  # fmt: skip
DEFAULT_HEIGHT = 1.0


def typical_height(label: str) -> tuple[float, str]:
    """Metres, and the word of `label` that they are typical of; `DEFAULT_HEIGHT` and "" where none is known.

    What a thing is stands last in English: an "armchair with a plant" is rarer than a "plant chair".
    """
    words = re.findall(r"[^\W\d_]+", label.lower())
    for end in range(len(words), 0, -1):
        for begin in range(max(0, end - 2), end):
            word = " ".join(words[begin:end])
            for form in (word, word.removesuffix("s")):
                if form in TYPICAL:
                    return TYPICAL[form], form
    return DEFAULT_HEIGHT, ""
