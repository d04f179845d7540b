"""Pictures of things that the tests of `lift` lift."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw

RED, BLUE, WHITE = (200, 40, 30), (30, 60, 220), (255, 255, 255)


def mug(size: tuple[int, int] = (160, 128)) -> PIL.Image.Image:
    """A mug on transparent ground: a body that is red left and blue right, and a handle with a hole at its right."""
    image = PIL.Image.new("RGBA", size, (0, 0, 0, 0))
    draw = PIL.ImageDraw.Draw(image)
    draw.ellipse((84, 34, 136, 90), fill=BLUE)
    draw.ellipse((98, 46, 124, 78), fill=(0, 0, 0, 0))
    draw.rectangle((30, 20, 64, 109), fill=RED)
    draw.rectangle((65, 20, 99, 109), fill=BLUE)
    return image


def mask_of(image: PIL.Image.Image) -> np.ndarray:
    """(H, W) bool, where an image is opaque."""
    return np.asarray(image.getchannel("A")) > 127


def on(image: PIL.Image.Image, ground) -> PIL.Image.Image:
    """An opaque picture: an image over a colour, or over noise where `ground` is a random generator."""
    if isinstance(ground, np.random.Generator):
        below = PIL.Image.fromarray(ground.integers(0, 255, (image.height, image.width, 3), np.uint8)).convert("RGBA")
    else:
        below = PIL.Image.new("RGBA", image.size, ground)
    return PIL.Image.alpha_composite(below, image).convert("RGB")
