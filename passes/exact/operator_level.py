"""The optimal schedule with one tile per operator, as modes and an order of tasks that the simulator replays.

In:  the arrays of a `System`. Out: `OperatorLevel`: a schedule and the least makespan, or a bound on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from h4hc.passes.core import Problem
from h4hc.passes.exact.chain import Chain, Optimum
from h4hc.passes.exact.model import Answer
from h4hc.passes.exact.oracle import Limit, Oracle
from h4hc.passes.exact.piece import ENTRY, Placed, cut_operators, pieces_between
from h4hc.passes.exact.store import Store


@dataclass(frozen=True, slots=True)
class OperatorLevel:
    """`modes` and `order` (see `Problem.trace`; empty: no schedule was found) take `ticks`; none takes less than `bound`.

    `pieces`: how many the problem fell into; `solved`: questions that went to the solver, not to the cache.
    """

    modes: tuple[int, ...]
    order: tuple[int, ...]
    ticks: int
    bound: int
    pieces: int
    solved: int

    @property
    def proved(self) -> bool:
        """Whether `ticks` is the least makespan."""
        return bool(self.modes) and self.ticks == self.bound


def solve_operator_level(
    data: Mapping[str, Any], limit: Limit, store: Store, cuts: Sequence[int] | None = None
) -> OperatorLevel:
    """The least makespan of whole operators on the devices of `data`, under the capacity for resident weights.

    `cuts`: where to take the problem apart (None: wherever that loses nothing). The memory of activations is not
    limited: what is spilled is part of `data`.
    """
    placed = pieces_between(data, cut_operators(data) if cuts is None else cuts)
    oracle = Oracle(store, limit)
    capacity, relaxed = _capacity(data)
    chain = Chain([p.piece for p in placed], data["devices"], capacity, oracle)
    optimum = chain.solve()
    store.save()
    if not optimum.answers:
        return OperatorLevel((), (), 0, optimum.bound, len(placed), oracle.solved)
    modes, order = compose(data, placed, optimum)
    if relaxed and not _fits(data, modes):
        return OperatorLevel((), (), 0, optimum.bound, len(placed), oracle.solved)
    latency = Problem(dict(data)).trace(modes, [1] * len(modes), order)[0]
    return OperatorLevel(modes, order, latency, min(optimum.bound, latency), len(placed), oracle.solved)


def _capacity(data: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The capacity for resident weights, and whether it is left out because several devices have one."""
    holding = {data["mode_device"][m] for m, resident in enumerate(data["mode_resident"]) if resident}
    limits = [data["dev_capacity"][device] for device in sorted(holding)]
    return (limits[0], False) if len(limits) == 1 else (None, bool(limits))


def _fits(data: Mapping[str, Any], modes: Sequence[int]) -> bool:
    used = [0] * data["devices"]
    for v, mode in enumerate(modes):
        m = data["mode_ptr"][v] + mode
        used[data["mode_device"][m]] += data["mode_resident"][m]
    return all(u <= c for u, c in zip(used, data["dev_capacity"], strict=True))


def compose(
    data: Mapping[str, Any], placed: Sequence[Placed], optimum: Optimum
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Modes and order of the whole problem from the answers about its pieces."""
    modes: list[int] = []
    events: list[tuple[int, int, float, int]] = []  # start, end, place among equals, task
    offset = 0
    for part, answer in zip(placed, optimum.answers, strict=True):
        modes += [numbers[m] for numbers, m in zip(part.numbers, answer.modes, strict=True)]
        events += _events(data, part, answer, offset)
        offset += answer.ticks
    return tuple(modes), tuple([event[3] for event in sorted(events)])


def _events(
    data: Mapping[str, Any], part: Placed, answer: Answer, offset: int
) -> list[tuple[int, int, float, int]]:
    piece, events = part.piece, []
    for v, (mode, start) in enumerate(zip(answer.modes, answer.starts, strict=True)):
        begin, number = offset + start, part.first + v
        events.append((begin, begin + piece.modes[v][mode][1], float(number), number))
    for t, memory, start in answer.copies:
        tensor, made = part.tensors[t], piece.tensors[t].producer
        producer = part.first - 1 if made == ENTRY else part.first + made
        task = data["operators"] + tensor * data["memories"] + memory
        events.append((offset + start, offset + start, producer + 0.5, task))
    return events
