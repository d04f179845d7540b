"""A scene, and what differs between two frames of it, in words: what models that are told, not shown, are given."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..scene import Asset, Scene, pose_2d
from .pairs import Frame, Pair

# A centre that goes less far, of the image, or an object that turns less, has not moved for words.
_FAR, _TURN = 0.03, 8.0


@dataclass(frozen=True)
class Motion:
    """What an asset does between two frames, as their cameras see it.

    Attributes:
        name: in words. target: (w, h) of its centre in the target image, 0..1. shift: by how much that went right and
            down.
        size: factor of its box. degrees: turn about the up axis relative to the camera, counter-clockwise from above.
    """

    name: str
    target: tuple[float, float]
    shift: tuple[float, float]
    size: float
    degrees: float

    @property
    def moves(self) -> bool:
        return float(np.hypot(*self.shift)) > _FAR

    @property
    def turns(self) -> bool:
        return abs(self.degrees) > _TURN


def name_of(asset: Asset) -> str:
    """An asset in words: its `neural:text`, else its labels, else the name of its prim."""
    words = asset.text or ", ".join(asset.labels) or asset.path.rpartition("/")[2].rstrip("_0123456789").lower()
    return re.sub(r"^(an?|the) ", "", words)


def describe(frame: Frame) -> str:
    """What a frame shows: "a teck chair, a lamp and a sink cabinet in a room"."""
    seen = [frame.scene.assets[i] for i in np.unique(frame.passes.ids[frame.passes.ids >= 0])]
    things = [_with_article(name_of(a)) for a in seen if a.role == "foreground"]
    background = frame.scene.background
    place = f" in {_with_article(name_of(background))}" if background is not None else ""
    return (_joined(things) or "nothing") + place


def motions(pair: Pair) -> list[Motion]:
    """What every asset that both frames show does from source to target, the largest first."""
    found = []
    for asset in pair.source.scene.foreground:
        other = next((a for a in pair.target.scene.foreground if a.path == asset.path), None)
        boxes = [pose_2d(a, f.scene.camera) if a else None for a, f in ((asset, pair.source), (other, pair.target))]
        before, after = boxes
        if other is None or before is None or after is None:
            continue
        centres = [(box[0] + box[3] / 2, box[1] + box[2] / 2) for box in (before, after)]
        found.append(
            (
                before[2] * before[3],
                Motion(
                    name_of(asset),
                    (float(centres[1][0]), float(centres[1][1])),
                    (float(centres[1][0] - centres[0][0]), float(centres[1][1] - centres[0][1])),
                    float(np.sqrt(after[2] * after[3] / max(before[2] * before[3], 1e-9))),
                    _turn(asset, other, pair.source.scene, pair.target.scene),
                ),
            )
        )
    return [motion for _, motion in sorted(found, key=lambda entry: -entry[0])]


def instruct(pair: Pair) -> str:
    """The difference from source to target as an instruction: "move the chair left and down, turn the lamp by 20
    degrees"."""
    parts = []
    for motion in motions(pair):
        right, down = motion.shift
        ways = [word for far, word in ((abs(right), "right" if right > 0 else "left"),) if far > _FAR]
        ways += [word for far, word in ((abs(down), "down" if down > 0 else "up"),) if far > _FAR]
        if ways:
            parts.append(f"move the {motion.name} {' and '.join(ways)}")
        if not 0.9 < motion.size < 1.1:
            parts.append(f"make the {motion.name} {'larger' if motion.size > 1 else 'smaller'}")
        if motion.turns:
            way = "counter-clockwise" if motion.degrees > 0 else "clockwise"
            parts.append(f"turn the {motion.name} {way} by {abs(motion.degrees):.0f} degrees")
    return ", ".join(parts) or "leave everything as it is"


def _turn(before: Asset, after: Asset, source: Scene, target: Scene) -> float:
    """Degrees about the up axis between two poses as their cameras see them, in -180..180."""
    angles = []
    flat = [0, 1] if source.up_axis == "Z" else [2, 0]
    for asset, scene in ((before, source), (after, target)):
        facing = -np.linalg.inv(scene.camera.world_to_camera)[2, :3][flat]
        own = asset.local_to_world[flat[0], :3][flat]
        angles.append(np.degrees(np.arctan2(own[1], own[0]) - np.arctan2(facing[1], facing[0])))
    return float((angles[1] - angles[0] + 180) % 360 - 180)


def _with_article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _joined(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
