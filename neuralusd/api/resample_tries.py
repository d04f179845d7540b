"""Samples that do not stand are drawn again: of some tries, the one that stands, or that lacks least to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..latents import SceneLatents
from ..stage.settle import UNSEEN
from .resample_request import MOST_SAMPLES


class Judged(Protocol):
    """A sample that is settled; `flaws` as `neuralusd.stage.settle.flaws` says."""

    @property
    def flaws(self) -> float: ...


Candidate = TypeVar("Candidate", bound=Judged)


def draw_to_stand(
    draw: Callable[[Sequence[int], int], Sequence[SceneLatents]],
    judge: Callable[[SceneLatents], Candidate],
    samples: int,
    tries: int,
) -> list[Candidate]:
    """The best of at most `tries` candidates of each sample; no more are drawn of one that stands.

    Args:
        draw: given the numbers that decide what is drawn, and which try it is, the samples of these numbers. A sample's
            candidates depend on its own number alone.
        judge: settles a sample.
    """
    best: dict[int, Candidate] = {}
    left = list(range(samples))
    for attempt in range(tries):
        drawn = draw([number + attempt * MOST_SAMPLES for number in left], attempt)
        for number, sample in zip(left, drawn, strict=True):
            candidate = judge(sample)
            if number not in best or candidate.flaws < best[number].flaws:
                best[number] = candidate
        left = [number for number in left if best[number].flaws > UNSEEN]
        if not left:
            break
    return [best[number] for number in range(samples)]
