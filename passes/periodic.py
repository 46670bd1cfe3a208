"""Several frames in flight: from the tasks of one frame to a periodic schedule.

1. Closed loop: frame f may start once frame f - W is done; list scheduling over many frames, older frames first.
2. One frame of the steady state gives the cyclic order of every queue, and how many intervals after its frame began
   each task runs (its stage).
3. The smallest initiation interval of that order is its maximum cycle ratio, over queue order (which wraps around)
   and waits; the longest paths at that interval are the times of the schedule.

Tiles are those of `h4hc.ir.schedule`. All times are ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.passes.closed_loop import Machine, closed_loop

FRAMES = 12  # of the closed loop, beyond three for every frame in flight
_PREFERENCES = (0.0, 0.01, 0.03, 0.1)


@dataclass(frozen=True, slots=True)
class Periodic:
    """A periodic schedule: a frame begins every `interval` ticks.

    `starts` and `ends` are per task, from the beginning of its frame; `stages` the whole intervals before
    `starts`; `orders` the order of each queue within an interval.
    """

    interval: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    stages: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...]

    @property
    def latency(self) -> int:
        """From the beginning of a frame to its last end."""
        return max(self.ends, default=0)


def candidates(plant: Machine, window: int, *, quick: bool = False) -> list[Periodic]:
    """Periodic schedules of up to `window` frames in flight, without those that others beat in interval and latency.

    The closed loop is run with several preferences for older frames, and each of its last frames gives an order.
    `quick`: only with as many frames as may be, and few preferences.
    """
    found: dict[tuple[int, int], Periodic] = {}
    for frames in range(window if quick else 2, window + 1):
        for share in _PREFERENCES[::2] if quick else _PREFERENCES:
            starts = closed_loop(plant, frames, FRAMES + 3 * frames, share)
            for steady in range(len(starts) - 2 * frames, len(starts) - frames):
                first, before = min(starts[steady]), min(starts[steady - frames])
                period = max(1, -(-(first - before) // frames))
                plan = periodic(plant, [start - first for start in starts[steady]], period, window)
                found.setdefault((plan.interval, plan.latency), plan)
    kept: list[Periodic] = []
    for (_, latency), plan in sorted(found.items()):
        if not kept or latency < kept[-1].latency:
            kept.append(plan)
    return kept


def periodic(plant: Machine, offsets: Sequence[int], period: int, window: int) -> Periodic:
    """The schedule in the cyclic order that tasks starting at `offsets` in their frame have at `period`.

    Its interval is the smallest that this order allows with up to `window` frames in flight.
    """
    period = max(period, max(offsets, default=0) // window + 1)
    stages = [offset // period for offset in offsets]
    orders = tuple(
        tuple(sorted(order, key=lambda task: (offsets[task] % period, plant.lasts(task), position[task])))
        for order, position in ((order, {t: i for i, t in enumerate(order)}) for order in plant.orders)
    )
    return quickest(plant, orders, stages, window)


def quickest(plant: Machine, orders: Sequence[Sequence[int]], stages: Sequence[int], window: int) -> Periodic:
    """The schedule of the smallest interval in these cyclic orders, with up to `window` frames in flight."""
    cycle = _cycle(plant, orders, stages, window)
    interval = plant.loop.smallest_interval(*cycle)
    while (times := plant.loop.times(*cycle, interval)) is None:  # the order settles slowly
        interval += max(1, interval // 256)
    return _normalised(plant, times, stages, interval)


def slowed(plant: Machine, plan: Periodic, interval: int, window: int) -> Periodic:
    """`plan` in the same order at a larger interval, with the shortest latency there."""
    times = plant.loop.times(*_cycle(plant, plan.orders, plan.stages, window), interval)
    if times is None:
        raise ValueError(f"an interval of {interval} ticks is not feasible")
    return _normalised(plant, times, plan.stages, interval)


def _cycle(
    plant: Machine, orders: Sequence[Sequence[int]], stages: Sequence[int], window: int
) -> tuple[list[int], list[int], list[int], int]:
    """Fixed cyclic orders as the compiled core has them: the tasks of the queues, stages, by how many windows each wait goes
    back, frames in flight. A frame begins when the one so many before it has ended.
    """
    lags = [
        stages[task] - stages[edge.source] + edge.frames
        for task, edges in enumerate(plant.waits)
        for edge in edges
    ]
    return [task for order in orders for task in order], list(stages), lags, window


def _normalised(
    plant: Machine, times: Sequence[Sequence[int]], stages: Sequence[int], interval: int
) -> Periodic:
    """The schedule whose tiles end at `times` in the interval of their stage, counted from its first task."""
    starts = [ends[0] - plant.durations[task][0] + stages[task] * interval for task, ends in enumerate(times)]
    ends = [ends[-1] + stages[task] * interval for task, ends in enumerate(times)]
    first = min(starts, default=0)
    starts, ends = [start - first for start in starts], [end - first for end in ends]
    orders = tuple(
        tuple(
            sorted(
                order,
                key=lambda task: (starts[task] % interval, plant.lasts(task), starts[task], position[task]),
            )
        )
        for order, position in ((order, {t: i for i, t in enumerate(order)}) for order in plant.orders)
    )
    return Periodic(
        interval, tuple(starts), tuple(ends), tuple(start // interval for start in starts), orders
    )
