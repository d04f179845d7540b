"""PNG files that say how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.PngImagePlugin

_KEY = "neuralusd"


def save_image(image: PIL.Image.Image, path: str | Path) -> Path:
    """Writes a PNG with the image's `info["neuralusd"]` as JSON text; whole or not at all.

    Raises OSError when the folder cannot be written to.
    """
    path = Path(path)
    text = PIL.PngImagePlugin.PngInfo()
    if _KEY in image.info:
        text.add_itxt(_KEY, json.dumps(image.info[_KEY], ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        image.save(partial, "PNG", pnginfo=text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_provenance(path: str | Path) -> dict[str, Any]:
    """How an image was made (seed, weights, stage, camera, versions, ...); empty for an image of another maker."""
    with PIL.Image.open(path) as image:
        text = getattr(image, "text", {}).get(_KEY)
    return json.loads(text) if text else {}
