"""Rooms from above: a sheet of what rows made of some rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ..latents import SceneLatents
from .resample_features import box_of
from .resample_measures import Frame, Seen
from .resample_operations import Task
from .resample_rooms import OTHER

SIDE, _MARGIN, _LABEL, _FINER = 190, 6, 14, 2
COLORS = {
    "bed": (86, 130, 190),
    "nightstand": (146, 104, 60),
    "lamp": (240, 190, 40),
    "storage": (120, 150, 96),
    "table": (176, 120, 170),
    "seat": (214, 110, 90),
    OTHER: (140, 140, 140),
}
Drawn = tuple[str, Seen, Sequence[bool]]
"""A plan's title, the sample, and what is kept of its present objects."""
Line = tuple[str, Sequence[Drawn]]
"""A room's title and its plans."""
_FREE, _KEPT = (200, 40, 40), (20, 20, 20)


def draw_plan(
    scene: SceneLatents, frame: Frame | None, kinds: Sequence[str], kept: Sequence[bool], side: int = SIDE
) -> PIL.Image.Image:
    """A room from above, its front wall's side below: boxes in the colours of their kinds, a line at their fronts.
    What is kept has a thick black outline, what was sampled a red one; a triangle is the camera, and its view.

    Args:
        frame: camera-to-room and the floor; None draws no room, only a word.
        kinds, kept: of the objects that are present.
    """
    big = side * _FINER
    image = PIL.Image.new("RGB", (big, big), "white")
    draw = PIL.ImageDraw.Draw(image)
    if frame is None:
        font = PIL.ImageFont.load_default(9 * _FINER)
        draw.text((big / 2, big / 2), "no floor", fill=(150, 0, 0), font=font, anchor="mm")
        return image.resize((side, side), PIL.Image.Resampling.LANCZOS)
    camera_to_room, floor = frame
    boxes = [box_of(one, camera_to_room) for one in scene.objects if one.presence]
    eye = camera_to_room[3, :2]
    low, high = floor.min(0), floor.max(0)
    # An open side of the floor is far: what is drawn is what there is, and what stands a little outside.
    reach = [eye, *(box[0][:2] for box in boxes)]
    low = np.maximum(low, np.min(reach, axis=0) - 1.5)
    high = np.minimum(high, np.max(reach, axis=0) + 1.5)
    ground = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    low = np.maximum(np.minimum(low, np.min(reach, axis=0)), low - 1.5)
    high = np.minimum(np.maximum(high, np.max(reach, axis=0)), high + 1.5)
    span = float(np.clip((high - low).max() + 0.3, 1.0, 14.0))
    middle = (low + high) / 2

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        scaled = (np.asarray(points) - middle) / span * (big - 2 * _MARGIN)
        return [(float(big / 2 + x), float(big / 2 - y)) for x, y in scaled]

    draw.polygon(at(ground), fill=(246, 243, 236))
    for index in range(4):
        a, b = floor[index], floor[(index + 1) % 4]
        on_edge = np.abs(np.stack([a, b])[:, None] - ground[None]).max(-1).min(1).max() < 1e-6
        if on_edge and index != 0:  # the south is open
            draw.line(at(np.array([a, b])), fill=(90, 80, 70), width=3 * _FINER)
    wide = 0.5 / float(scene.focal[0])
    sides = np.array([[-wide, 0, -1], [wide, 0, -1]]) @ camera_to_room[:3, :3]
    for ray in sides[:, :2]:
        draw.line(at(np.array([eye, eye + 0.9 * ray / max(np.linalg.norm(ray), 1e-6)])), fill=(120, 120, 200), width=2)
    font = PIL.ImageFont.load_default(9 * _FINER)
    order = sorted(range(len(boxes)), key=lambda index: boxes[index][0][2])
    for index in order:
        place, axes, size = boxes[index]
        right, back = axes[0, :2] * size[0] / 2, axes[1, :2] * size[1] / 2
        corners = place[:2] + np.array([-right - back, right - back, right + back, -right + back])
        color = COLORS.get(kinds[index], COLORS[OTHER])
        outline = _KEPT if kept[index] else _FREE
        points = at(corners)
        draw.polygon(points, fill=color)
        draw.line([*points, points[0]], fill=outline, width=(3 if kept[index] else 2) * _FINER, joint="curve")
        front = at(np.array([place[:2] - 0.72 * back - 0.6 * right, place[:2] - 0.72 * back + 0.6 * right]))
        draw.line(front, fill="white", width=_FINER)
        [(x, y)] = at(place[None, :2])
        draw.text((x, y), kinds[index], fill="black", font=font, anchor="mm")
    return image.resize((side, side), PIL.Image.Resampling.LANCZOS)


def plans_sheet(lines: Sequence[Line], side: int = SIDE) -> PIL.Image.Image:
    """A line a room."""
    across = max((len(plans) for _, plans in lines), default=1)
    height = side + 2 * _LABEL
    sheet = PIL.Image.new("RGB", (across * (side + 4), max(1, len(lines)) * height), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for number, (title, plans) in enumerate(lines):
        draw.text((4, number * height), title, fill=(90, 90, 90))
        for column, (name, seen, kept) in enumerate(plans):
            left, top = column * (side + 4), number * height + _LABEL
            draw.text((left + 2, top), _fitting(name, side), fill="black")
            sheet.paste(draw_plan(seen.scene, seen.frame, seen.kinds, kept, side), (left, top + _LABEL))
    return sheet


def _fitting(text: str, side: int) -> str:
    most = side // 6
    return text if len(text) <= most else f"{text[: most - 1]}…"


def kept_of(task: Task, sample: SceneLatents) -> list[bool]:
    """Of a sample's present objects, whether pose and look are the room's."""
    count = len(sample.objects)
    free = [a or b for a, b in zip(task.moved(count), task.redressed(count), strict=True)]
    return [not each for each, one in zip(free, sample.objects, strict=True) if one.presence]


def plan_lines(
    names: Sequence[str],
    tasks: Sequence[Task],
    shown: Mapping[str, Sequence[Sequence[Seen]]],
    rows: Sequence[tuple[str, int]],
    truth: str,
) -> list[Line]:
    """Lines of `plans_sheet`: the room itself, and so many samples of each of `rows` (name, samples)."""
    lines: list[Line] = []
    for index, (name, task) in enumerate(zip(names, tasks, strict=True)):
        own = shown[truth][index][0]
        plans: list[Drawn] = [("the room", own, [True] * sum(one.presence for one in own.scene.objects))]
        for row, count in rows:
            for number, seen in enumerate(shown[row][index][:count]):
                title = row if count == 1 else f"{row} {number + 1}"
                plans.append((title, seen, kept_of(task, seen.scene)))
        lines.append((f"{name}: {task.operation}", plans))
    return lines
