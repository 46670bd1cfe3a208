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
from itertools import pairwise

from h4hc.passes.closed_loop import Machine, closed_loop

FRAMES = 12  # of the closed loop, beyond three for every frame in flight
_PREFERENCES = (0.0, 0.01, 0.03, 0.1)
_MOST_WINDOWS = 96
_LONGEST_PERIOD = 6  # windows
_MOST_PASSES = 400


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
    cycle = _Cycle(plant, orders, stages, window)
    interval = cycle.smallest_interval()
    while (times := cycle.times(interval)) is None:  # the order settles slowly
        interval += max(1, interval // 256)
    return _normalised(plant, times, cycle.stages, interval)


def slowed(plant: Machine, plan: Periodic, interval: int, window: int) -> Periodic:
    """`plan` in the same order at a larger interval, with the shortest latency there."""
    cycle = _Cycle(plant, plan.orders, plan.stages, window)
    times = cycle.times(interval)
    if times is None:
        raise ValueError(f"an interval of {interval} ticks is not feasible")
    return _normalised(plant, times, cycle.stages, interval)


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


class _Cycle:
    """Fixed cyclic queue orders and stages: how fast they can run, and when.

    A frame begins when the one `window` frames before it has ended.
    """

    def __init__(
        self, plant: Machine, orders: Sequence[Sequence[int]], stages: Sequence[int], window: int
    ) -> None:
        self.plant, self.stages, self.frames = plant, stages, window
        self.span = max(stages, default=0)
        self.before = [-1] * len(plant.queue)
        self.last = [-1] * len(plant.queue)  # of a queue's first task: the task that ends the window before
        for order in orders:
            for a, b in pairwise(order):
                self.before[b] = a
            if order:
                self.last[order[0]] = order[-1]
        self.edges = [
            [(edge, stages[task] - stages[edge.source] + edge.frames) for edge in edges]
            for task, edges in enumerate(plant.waits)
        ]
        self.order = self._topological(orders)

    def _topological(self, orders: Sequence[Sequence[int]]) -> list[int]:
        """Tasks so that what each waits for within its window comes first."""
        after: list[list[int]] = [[] for _ in self.before]
        waiting = [0] * len(self.before)
        for task, before in enumerate(self.before):
            sources = {edge.source for edge, lag in self.edges[task] if lag == 0}
            if before >= 0:
                sources.add(before)
            waiting[task] = len(sources)
            for source in sources:
                after[source].append(task)
        ready = [task for task, count in enumerate(waiting) if not count]
        for task in ready:
            for follower in after[task]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    ready.append(follower)
        if len(ready) < len(self.before):
            raise ValueError("queue order and waits of a window have a circle")
        return ready

    def smallest_interval(self) -> int:
        """The maximum cycle ratio, rounded up: how fast windows follow each other once all run as early as they can."""
        reach = self.frames + self.span
        history: list[list[list[int]]] = []
        done: list[int] = []
        for _ in range(_MOST_WINDOWS):
            history.append(self._window(history, done))
            for period in range(1, min(_LONGEST_PERIOD, len(history) - reach - 1) + 1):
                grown = _growth(history, period, reach + 1)
                if grown is not None:
                    return max(1, -(-grown // period))
        half = len(history) // 2  # a longer period than was looked for: about that
        grown = max(map(_last, history[-1])) - max(map(_last, history[half]))
        return max(1, -(-grown // (len(history) - 1 - half)))

    def _window(self, history: Sequence[Sequence[Sequence[int]]], done: list[int]) -> list[list[int]]:
        """The tile ends of the next window if everything runs as early as it can; `done`: when each frame ended."""
        ends: list[list[int]] = [[] for _ in self.before]
        done.append(0)
        for task in self.order:
            moment, frame = 0, len(history) - self.stages[task]
            released = done[frame - self.frames] if frame >= self.frames else 0
            if self.before[task] >= 0:
                moment = ends[self.before[task]][-1]
            elif history:
                moment = history[-1][self.last[task]][-1]
            moment = max(moment, released)
            made = []
            for tile, duration in enumerate(self.plant.durations[task]):
                for (source, counts, latency, _), lag in self.edges[task]:
                    if counts[tile] and (lag == 0 or lag <= len(history)):
                        past = ends if lag == 0 else history[-lag]
                        moment = max(moment, past[source][counts[tile] - 1] + latency)
                moment += duration
                made.append(moment)
            ends[task] = made
            if frame >= 0:
                done[frame] = max(done[frame], moment)
        return ends

    def times(self, interval: int) -> list[list[int]] | None:
        """The earliest tile ends within a window that repeat every `interval`, no task starting before its frame.

        None if there are none. These are the times of the shortest latency.
        """
        ends = [
            [duration[0] - stage * interval] * len(duration)
            for duration, stage in zip(self.plant.durations, self.stages, strict=True)
        ]
        for _ in range(_MOST_PASSES):
            changed = False
            end = max((e[-1] + k * interval for e, k in zip(ends, self.stages, strict=True)), default=0)
            for task in self.order:
                old = ends[task]
                moment = old[0] - self.plant.durations[task][0]
                moment = max(moment, end - (self.frames + self.stages[task]) * interval)
                if self.before[task] >= 0:
                    moment = max(moment, ends[self.before[task]][-1])
                else:
                    moment = max(moment, ends[self.last[task]][-1] - interval)
                done = []
                for tile, duration in enumerate(self.plant.durations[task]):
                    for (source, counts, latency, _), lag in self.edges[task]:
                        if counts[tile]:
                            moment = max(moment, ends[source][counts[tile] - 1] + latency - lag * interval)
                    moment += duration
                    done.append(moment)
                if done != old:
                    ends[task], changed = done, True
            if not changed:
                return ends
        return None


def _last(ends: Sequence[int]) -> int:
    return ends[-1]


def _growth(history: Sequence[Sequence[Sequence[int]]], period: int, windows: int) -> int | None:
    """By how much every task ends later than `period` windows ago, if that holds for the last `windows` windows.

    What a window depends on reaches back less than `windows`: then it holds for ever.
    """
    if len(history) < windows + period:
        return None
    grown = history[-1][0][-1] - history[-1 - period][0][-1]
    for back in range(1, windows + 1):
        new, old = history[-back], history[-back - period]
        if any(a[k] - b[k] != grown for a, b in zip(new, old, strict=True) for k in range(len(a))):
            return None
    return grown
