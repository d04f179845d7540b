"""Whether samples can be told from rooms of the grammar: a discrepancy and a classifier, over features with names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..datasets.rooms_plausibility import Box, LayoutFacts, facts
from ..latents import ObjectLatents, SceneLatents
from .resample_measures import TOLERANCE, Frame, Mean
from .resample_rooms import KINDS
from .volumes_kid import kid

# How things stand to each other and to the walls; metres, but where a name says otherwise.
ARRANGEMENT = (
    "objects, number",
    *(f"{kind}s, number" for kind in (*KINDS, "other")),
    "largest: back to wall",
    "bed: to nearest nightstand",
    "bed and nightstand: heads in line",
    "bed and nightstand: turned alike, cosine",
    "lamp: above what is below it",
    "seat: to nearest table",
    "seat: faces table, cosine",
    "storage: back to wall",
    "spread on the floor",
    "distance of the nearest to the camera",
    "size, mean logarithm",
    "height of undersides, mean",
    "in view, share",
)
# What the grammar never does by more than the tolerance, and hardly at all.
CONTACT = ("deepest collision", "highest above what is below", "deepest in the floor", "tilt", "turned from the walls")
_FAR = 4.0
_FOLDS = 5
_RIDGE = 0.3


def layout_features(
    scene: SceneLatents, frame: Frame, kinds: Sequence[str], found: LayoutFacts | None = None
) -> np.ndarray:
    """(len(ARRANGEMENT) + len(CONTACT),) of a scene in its room; what a room does not have is as far as can be.

    Args:
        kinds: of its present objects (see `KINDS`). found: the facts of the scene, where they are known already.
    """
    objects = [one for one in scene.objects if one.presence]
    found = facts(scene, *frame, tolerance=TOLERANCE) if found is None else found
    boxes = [box_of(one, frame[0]) for one in objects]
    of = {kind: [box for box, each in zip(boxes, kinds, strict=True) if each == kind] for kind in (*KINDS, "other")}
    values = [float(len(objects)), *(float(len(of[kind])) for kind in (*KINDS, "other"))]
    values.append(_clip(found.back_to_wall))
    values += _bed(of["bed"], of["nightstand"])
    values.append(_support(of["lamp"], boxes))
    values += _seat(of["seat"], of["table"])
    values.append(_mean([_back_to_wall(box, frame[1]) for box in of["storage"]]))
    middles = np.array([box[0] for box in boxes]).reshape(-1, 3)
    values.append(float(middles[:, :2].std(0).mean()) if len(boxes) else 0.0)
    distances = [-one.translation[2] for one in objects]
    values.append(_clip(min(distances, default=_FAR)))
    values.append(float(np.mean([np.log(one.scale).mean() for one in objects])) if objects else 0.0)
    values.append(_mean([box[0][2] - box[2][2] / 2 for box in boxes]))
    inside = [abs(one.translation[:2] * scene.focal / max(-one.translation[2], 1e-6)).max() <= 0.5 for one in objects]
    values.append(float(np.mean(inside)) if inside else 0.0)
    return np.array([*values, *_contact(found, boxes)], np.float64)


def box_of(one: ObjectLatents, camera_to_room: np.ndarray) -> Box:
    """Middle (3,), axes as rows (3, 3) and sides (3,) of an object in its room, metres."""
    from ..stage.latents import rotation_of

    turn = camera_to_room[:3, :3]
    return one.translation @ turn + camera_to_room[3, :3], rotation_of(one.rotation) @ turn, np.asarray(one.scale)


def _clip(value: float) -> float:
    return float(np.clip(value, -_FAR, _FAR)) if np.isfinite(value) else _FAR


def _mean(values: Sequence[float]) -> float:
    return _clip(float(np.mean(values))) if values else _FAR


def _bed(beds: Sequence[Box], stands: Sequence[Box]) -> list[float]:
    """Gap, offset of the backs, and cosine of the turn, of the bed's nearest nightstand."""
    if not beds or not stands:
        return [_FAR, _FAR, 0.0]
    bed = max(beds, key=lambda box: float(np.prod(box[2])))
    stand = min(stands, key=lambda box: float(np.linalg.norm(box[0] - bed[0])))
    local = (stand[0] - bed[0]) @ bed[1].T
    gap = abs(local[0]) - (bed[2][0] + stand[2][0]) / 2
    heads = (local[1] + stand[2][1] / 2) - bed[2][1] / 2
    return [_clip(gap), _clip(abs(heads)), float(bed[1][1] @ stand[1][1])]


def _support(lamps: Sequence[Box], boxes: Sequence[Box]) -> float:
    gaps = []
    for lamp in lamps:
        bottom = lamp[0][2] - lamp[2][2] / 2
        tops = [0.0]
        for box in boxes:
            beside = np.abs((lamp[0] - box[0]) @ box[1].T)
            if box is not lamp and (beside[:2] <= box[2][:2] / 2).all():
                tops.append(box[0][2] + box[2][2] / 2)
        gaps.append(min(abs(bottom - top) for top in tops))
    return _mean(gaps)


def _seat(seats: Sequence[Box], tables: Sequence[Box]) -> list[float]:
    if not seats or not tables:
        return [_FAR, 0.0]
    gaps, faces = [], []
    for seat in seats:
        table = min(tables, key=lambda box: float(np.linalg.norm((box[0] - seat[0])[:2])))
        toward = (table[0] - seat[0])[:2]
        gaps.append(float(np.linalg.norm(toward)) - table[2][1] / 2)
        front = -seat[1][1][:2]
        faces.append(float(front @ toward / max(np.linalg.norm(front) * np.linalg.norm(toward), 1e-6)))
    return [_mean(gaps), float(np.mean(faces))]


def _back_to_wall(box: Box, floor: np.ndarray) -> float:
    back = (box[0] + box[1][1] * box[2][1] / 2)[:2]
    low, high = floor.min(0), floor.max(0)
    return float(np.min([*(back - low), *(high - back)]))


def _contact(found: LayoutFacts, boxes: Sequence[Box]) -> list[float]:
    yaws = [np.degrees(np.arctan2(axes[0, 1], axes[0, 0])) for _, axes, _ in boxes]
    off = [min(yaw % 90, 90 - yaw % 90) for yaw in yaws]
    return [
        _clip(max((depth for *_, depth in found.collisions), default=0.0)),
        _clip(max((gap for _, gap in found.floating), default=0.0)),
        _clip(max((depth for _, depth in found.sunk), default=0.0)),
        float(found.tilt.max(initial=0.0)),
        float(np.median(off)) if off else 0.0,
    ]


# -- two samples --------------------------------------------------------------------------------------------------


def standardised(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Over the reference's deviations, and not beyond 5 of them: one sample that is far off must not decide."""
    return np.clip((features - reference.mean(0)) / reference.std(0).clip(1e-3), -5, 5)


def discrepancy(features: np.ndarray, reference: np.ndarray, seed: int = 0) -> Mean:
    """The squared maximum mean discrepancy of arrangements, as KID has it (`volumes_kid.kid`), and its error."""
    count = len(ARRANGEMENT)
    given, true = (standardised(each[:, :count], reference[:, :count]) for each in (features, reference))
    return kid(given, true, seed)


def told_apart(
    features: np.ndarray, rooms: np.ndarray, reference: np.ndarray, seed: int = 0, contact: bool = True
) -> Mean:
    """Accuracy in per cent, and its bootstrap error over rooms, with which a classifier (kernel ridge regression) tells
    samples from rooms of the grammar, in folds that it was not fitted to: 50 is best, 100 worst.

    Both classes weigh the same. All samples of a room are in one fold.

    Args:
        features: (N, F) of samples; rooms: (N,) which room each is of. reference: (M, F) of other rooms.
        contact: whether it sees the `CONTACT` features.
    """
    columns = len(ARRANGEMENT) + (len(CONTACT) if contact else 0)
    values = np.concatenate([features, reference])[:, :columns]
    labels = np.concatenate([np.ones(len(features)), np.zeros(len(reference))])
    groups = np.concatenate([rooms, rooms.max() + 1 + np.arange(len(reference))])
    random = np.random.default_rng([seed, 21])
    every = np.unique(groups)
    fold_of = dict(zip(every.tolist(), (random.permutation(len(every)) % _FOLDS).tolist(), strict=True))
    folds = np.array([fold_of[group] for group in groups.tolist()])
    right = np.zeros(len(labels))
    for fold in range(_FOLDS):
        held = folds == fold
        if not held.any() or len(np.unique(labels[~held])) < 2:
            right[held] = 0.5
            continue
        base = values[~held]
        score = _trained(standardised(base, base), labels[~held])(standardised(values[held], base))
        right[held] = (score > 0) == (labels[held] > 0.5)
    # Rooms are drawn with replacement within either class.
    draws = []
    classes = [np.unique(groups[labels == label]) for label in (0, 1)]
    sums = {group: (right[groups == group].sum(), (groups == group).sum()) for group in every.tolist()}
    table = np.array([sums[group] for group in every.tolist()])
    index = {group: place for place, group in enumerate(every.tolist())}
    places = [np.array([index[group] for group in found.tolist()]) for found in classes]

    def accuracy(chosen: Sequence[np.ndarray]) -> float:
        return 50 * float(sum(table[each, 0].sum() / table[each, 1].sum() for each in chosen))

    for _ in range(500):
        draws.append(accuracy([random.choice(each, len(each)) for each in places]))
    return accuracy(places), float(np.std(draws, ddof=1))


def _trained(values: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Kernel ridge regression with a Gaussian kernel as wide as the features are many, both classes of one weight."""
    wide = 1.0 / values.shape[1]
    target = np.where(labels > 0.5, 1.0, -1.0)
    weight = np.where(labels > 0.5, len(labels) / (2 * labels.sum()), len(labels) / (2 * (1 - labels).sum()))
    kernel = _gaussian(values, values, wide)
    solution = np.linalg.solve(kernel + _RIDGE * np.diag(1 / weight), target)
    return lambda features: _gaussian(features, values, wide) @ solution


def _gaussian(a: np.ndarray, b: np.ndarray, wide: float) -> np.ndarray:
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.exp(-wide * squared.clip(0))
