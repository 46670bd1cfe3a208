"""Woven: placements and orders of several frames in flight, made from nothing but the costs.

In:  the arrays of h4hc.passes.core, the number of frames. Out: ticks between frames, modes, and when tasks start.

Rules:
1. The operators are cut into as many strands as there are frames, at places where few tensors are alive. In every interval each
   strand runs once, for another frame: a job shop, which h4hc.passes.core.weaving fills from its beginning to its end.
2. Strands are about equally long in ticks at the prices of h4hc.passes.load. Where exactly to cut is tried at random.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from h4hc.passes.core import Problem
from h4hc.passes.load import Bound

MOST_FRAMES = 8
# Ways to cut, states, and how many of these have the same next operators; many ways pay where there are many.
_EFFORT = {2: (20, 1000, 20)}
_MANY = (250, 100, 1)
_FULL_SIZE = 320  # operators above which fewer ways are tried
_SHIFT = 0.06  # of all ticks, by which a cut is moved at most


class Line(NamedTuple):
    """The priced ticks before every operator and in all, and the operators before which a cut may be."""

    ends: Sequence[int]
    places: Sequence[int]


Woven = tuple[int, list[int], list[int]]  # ticks between frames, modes, starts as in `Problem.steady`


def weaves(problem: Problem, data: Mapping[str, Any], bound: Bound, frames: int, heat: int) -> list[Woven]:
    """What ways to cut the operators lead to, the shortest interval first; every `heat` (0, 1 ...) tries others."""
    if not 2 <= frames <= MOST_FRAMES or data["operators"] < frames:
        return []
    count, states, alike = _EFFORT.get(frames, _MANY)
    count = -(-count * _FULL_SIZE // max(_FULL_SIZE, data["operators"]))
    line = Line(tuple(accumulate(_priced(data, bound), initial=0)), _few_alive(data))
    tried = dict.fromkeys(cuts(line, frames, number) for number in range(heat * count, (heat + 1) * count))
    found = [problem.weave(place, bound.prices, bound.byte_prices, states, alike) for place in tried]
    return sorted(one for one in found if one is not None)


def cuts(line: Line, frames: int, number: int) -> tuple[int, ...]:
    """Where the strands begin, and the number of operators; `number` 0: equally long, others: moved at random."""
    random, (ends, places) = Random(number), line
    before, found = [ends[v] for v in places], [0]
    for strand in range(1, frames):
        wanted = (strand / frames + (random.random() * 2 - 1) * _SHIFT * (number > 0)) * ends[-1]
        at = bisect_left(before, wanted)
        near = min(places[max(0, at - 1) : at + 1], key=lambda v: abs(ends[v] - wanted))
        found.append(max(near, found[-1]))
    return (*found, len(ends) - 1)


def _priced(data: Mapping[str, Any], bound: Bound) -> list[int]:
    """The cost of every operator in its cheapest mode."""
    costs = [
        bound.prices[device] * work + bound.byte_prices[device] * resident
        for device, work, resident in zip(
            data["mode_device"], data["mode_work"], data["mode_resident"], strict=True
        )
    ]
    pointers: Sequence[int] = data["mode_ptr"]
    return [min(costs[pointers[v] : pointers[v + 1]]) for v in range(data["operators"])]


def _few_alive(data: Mapping[str, Any]) -> list[int]:
    """The operators before which the fewest tensors, or one more, are made that are read by them or later ones."""
    change = [0] * (data["operators"] + 1)
    for tensor, producer in enumerate(data["producer"]):
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        if producer >= 0 and readers:
            change[producer + 1] += 1
            change[max(readers) + 1] -= 1
    alive = list(accumulate(change))[:-1]
    few = min(alive[1:], default=0) + 1
    return [v for v, count in enumerate(alive) if v and count <= few]
