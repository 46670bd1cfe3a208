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
from typing import NamedTuple

from h4hc.ir.schedule import Task

FRAMES = 12  # of the closed loop, beyond three for every frame in flight
_PREFERENCES = (0.0, 0.01, 0.03, 0.1)
_MOST_WINDOWS = 96
_LONGEST_PERIOD = 6  # windows
_MOST_PASSES = 400


class Edge(NamedTuple):
    """Tile k of the task waits for `counts[k]` tiles of `source`, `latency` ticks ago."""

    source: int
    counts: tuple[int, ...]
    latency: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The tasks of one frame: queue, tile durations, waits, readers, and the queues' orders."""

    queue: tuple[int, ...]
    durations: tuple[tuple[int, ...], ...]
    waits: tuple[tuple[Edge, ...], ...]
    readers: tuple[tuple[int, ...], ...]
    orders: tuple[tuple[int, ...], ...]

    @property
    def load(self) -> tuple[int, ...]:
        """Ticks of work per queue: none of them can begin frames faster."""
        return tuple(sum(sum(self.durations[task]) for task in order) for order in self.orders)

    def lasts(self, task: int) -> bool:
        """Whether `task` takes time; of tasks that start at one tick, those that take none come first."""
        return any(self.durations[task])


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


def machine(tasks: Sequence[Task], queues: Sequence[tuple[str, Sequence[int]]]) -> Machine:
    """The arrays of a one-frame schedule; task ids are positions in `tasks`."""
    queue = [0] * len(tasks)
    for number, (_, members) in enumerate(queues):
        for member in members:
            queue[member] = number
    durations = [
        tuple(task.work * (k + 1) // task.tiles - task.work * k // task.tiles for k in range(task.tiles))
        for task in tasks
    ]
    waits = [tuple(Edge(w.task, w.counts, w.latency) for w in t.waits if w.reason == "data") for t in tasks]
    readers: list[list[int]] = [[] for _ in tasks]
    for task, edges in enumerate(waits):
        for edge in edges:
            readers[edge.source].append(task)
    return Machine(
        tuple(queue),
        tuple(durations),
        tuple(waits),
        tuple(map(tuple, readers)),
        tuple(tuple(members) for _, members in queues),
    )


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
                plan = periodic(plant, [start - first for start in starts[steady]], period)
                found.setdefault((plan.interval, plan.latency), plan)
    kept: list[Periodic] = []
    for (_, latency), plan in sorted(found.items()):
        if not kept or latency < kept[-1].latency:
            kept.append(plan)
    return kept


def closed_loop(plant: Machine, window: int, frames: int, preference: float = 0.0) -> list[list[int]]:
    """When each task of each frame starts if at most `window` frames are in flight.

    Of the tasks whose waits are scheduled, the one that can run without stalling first goes next, where a frame counts
    as `preference` (a share of the busiest queue's work) later than the one before it; of equals the older
    frame, then the one that comes first in its queue.
    """
    return _ClosedLoop(plant, window, frames, round(preference * max(plant.load, default=0))).run()


class _ClosedLoop:
    """List scheduling of the instances (frame, task)."""

    def __init__(self, plant: Machine, window: int, frames: int, handicap: int) -> None:
        self.plant, self.window, self.frames, self.handicap = plant, window, frames, handicap
        count = len(plant.queue)
        self.count = count
        self.place = [0] * count
        for order in plant.orders:
            for position, task in enumerate(order):
                self.place[task] = position
        self.waiting = [[len(edges) for edges in plant.waits] for _ in range(frames)]
        self.left = [count] * frames
        self.starts = [[0] * count for _ in range(frames)]
        self.ends: list[list[list[int]]] = [[[] for _ in range(count)] for _ in range(frames)]
        self.released = [0] * frames
        self.free = [0] * len(plant.orders)
        self.ready: list[list[tuple[int, int]]] = [[] for _ in plant.orders]
        self.best: list[tuple[int, int, int, int] | None] = [None] * len(plant.orders)

    def run(self) -> list[list[int]]:
        for frame in range(min(self.window, self.frames)):
            self._release(frame, 0)
        for queue in range(len(self.free)):
            self._choose(queue)
        while True:
            candidates = [(best, queue) for queue, best in enumerate(self.best) if best is not None]
            if not candidates:
                return self.starts
            (_, frame, _, task), queue = min(candidates)
            changed = self._commit(frame, task, queue)
            for number in sorted(changed):
                self._choose(number)

    def _release(self, frame: int, moment: int) -> set[int]:
        """`frame` may start: its tasks without waits are ready."""
        self.released[frame] = moment
        changed = set()
        for task, edges in enumerate(self.plant.waits):
            if not edges:
                self.ready[self.plant.queue[task]].append((frame, task))
                changed.add(self.plant.queue[task])
        return changed

    def _choose(self, queue: int) -> None:
        """The best ready instance of `queue`."""
        self.best[queue] = min(
            (
                (self._stall_free(frame, task, queue) + self.handicap * frame, frame, self.place[task], task)
                for frame, task in self.ready[queue]
            ),
            default=None,
        )

    def _stall_free(self, frame: int, task: int, queue: int) -> int:
        """The latest start from which the instance would end when it does, working without a pause."""
        return self._tiles(frame, task, queue)[-1] - sum(self.plant.durations[task])

    def _tiles(self, frame: int, task: int, queue: int) -> list[int]:
        """The ends of the tiles of an instance if it runs next on its queue."""
        moment = max(self.free[queue], self.released[frame])
        ends = []
        for tile, duration in enumerate(self.plant.durations[task]):
            for source, counts, latency in self.plant.waits[task]:
                if counts[tile]:
                    moment = max(moment, self.ends[frame][source][counts[tile] - 1] + latency)
            moment += duration
            ends.append(moment)
        return ends

    def _commit(self, frame: int, task: int, queue: int) -> set[int]:
        """Run an instance; the queues whose choice may differ now."""
        ends = self._tiles(frame, task, queue)
        self.ends[frame][task] = ends
        self.starts[frame][task] = ends[0] - self.plant.durations[task][0]
        self.free[queue] = ends[-1]
        self.ready[queue].remove((frame, task))
        changed = {queue}
        for reader in self.plant.readers[task]:
            self.waiting[frame][reader] -= 1
            if not self.waiting[frame][reader]:
                self.ready[self.plant.queue[reader]].append((frame, reader))
                changed.add(self.plant.queue[reader])
        self.left[frame] -= 1
        if not self.left[frame] and frame + self.window < self.frames:
            done = max(tiles[-1] for tiles in self.ends[frame])
            changed |= self._release(frame + self.window, done)
        return changed


def periodic(plant: Machine, offsets: Sequence[int], period: int) -> Periodic:
    """The schedule in the cyclic order that tasks starting at `offsets` in their frame have at `period`.

    Its interval is the smallest that this order allows.
    """
    stages = [offset // period for offset in offsets]
    orders = tuple(
        tuple(sorted(order, key=lambda task: (offsets[task] % period, plant.lasts(task), position[task])))
        for order, position in ((order, {t: i for i, t in enumerate(order)}) for order in plant.orders)
    )
    cycle = _Cycle(plant, orders, stages)
    return _timed(plant, cycle, cycle.smallest_interval())


def slowed(plant: Machine, plan: Periodic, interval: int) -> Periodic:
    """`plan` in the same order at a larger interval, with the shortest latency there."""
    return _timed(plant, _Cycle(plant, plan.orders, plan.stages), interval)


def _timed(plant: Machine, cycle: _Cycle, interval: int) -> Periodic:
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
    """Fixed cyclic queue orders and stages: how fast they can run, and when."""

    def __init__(self, plant: Machine, orders: Sequence[Sequence[int]], stages: Sequence[int]) -> None:
        self.plant, self.stages = plant, stages
        self.before = [-1] * len(plant.queue)
        self.last = [-1] * len(plant.queue)  # of a queue's first task: the task that ends the window before
        for order in orders:
            for a, b in pairwise(order):
                self.before[b] = a
            if order:
                self.last[order[0]] = order[-1]
        self.edges = [
            [(edge, stages[task] - stages[edge.source]) for edge in edges]
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
        most = max((lag for edges in self.edges for _, lag in edges), default=0)
        history: list[list[list[int]]] = []
        for _ in range(_MOST_WINDOWS):
            history.append(self._window(history, most))
            for period in range(1, min(_LONGEST_PERIOD, len(history) - most - 1) + 1):
                grown = _growth(history, period, most + 1)
                if grown is not None:
                    return max(1, -(-grown // period))
        half = len(history) // 2  # a longer period than was looked for: bound the ratio from above
        grown = max(map(_last, history[-1])) - max(map(_last, history[half]))
        interval = max(1, -(-grown // (len(history) - 1 - half)))
        while self.times(interval) is None:
            interval += max(1, interval // 256)
        return interval

    def _window(self, history: Sequence[Sequence[Sequence[int]]], most: int) -> list[list[int]]:
        """The tile ends of the next window if everything runs as early as it can."""
        ends: list[list[int]] = [[] for _ in self.before]
        for task in self.order:
            moment = 0
            if self.before[task] >= 0:
                moment = ends[self.before[task]][-1]
            elif history:
                moment = history[-1][self.last[task]][-1]
            done = []
            for tile, duration in enumerate(self.plant.durations[task]):
                for (source, counts, latency), lag in self.edges[task]:
                    if counts[tile] and (lag == 0 or lag <= len(history)):
                        past = ends if lag == 0 else history[-lag]
                        moment = max(moment, past[source][counts[tile] - 1] + latency)
                moment += duration
                done.append(moment)
            ends[task] = done
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
            for task in self.order:
                old = ends[task]
                moment = old[0] - self.plant.durations[task][0]
                if self.before[task] >= 0:
                    moment = max(moment, ends[self.before[task]][-1])
                else:
                    moment = max(moment, ends[self.last[task]][-1] - interval)
                done = []
                for tile, duration in enumerate(self.plant.durations[task]):
                    for (source, counts, latency), lag in self.edges[task]:
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
