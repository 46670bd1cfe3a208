"""The tasks of a frame as queues, many frames at a time: Python twin of native/loop.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

MOST_WINDOWS = 96
LONGEST_PERIOD = 6  # windows
MOST_PASSES = 400


class _Wait(NamedTuple):
    """Tile k waits for `counts[k]` tiles of `source`, `latency` ticks ago."""

    source: int
    counts: Sequence[int]
    latency: int


class Loop:
    """The tasks of one frame on their queues. All times are ticks.

    The dictionary holds, with pointers (`*_ptr`) where a row has several entries: per task `queue`, the durations of its
    tiles (`tile_ptr`, `duration`), its waits (`wait_ptr`): `wait_task`, `wait_latency`, and for each tile how many of that task's
    tiles must have ended (`counts`); per queue its tasks (`order_ptr`, `order`).
    """

    def __init__(self, data: Mapping[str, Sequence[int]]) -> None:
        self.queue = data["queue"]
        self.durations = [data["duration"][a:b] for a, b in pairwise(data["tile_ptr"])]
        self.waits: list[list[_Wait]] = []
        self.readers: list[list[int]] = [[] for _ in self.queue]
        used = 0
        for task, (first, last) in enumerate(pairwise(data["wait_ptr"])):
            tiles = len(self.durations[task])
            self.waits.append([])
            for w in range(first, last):
                counts = data["counts"][used : used + tiles]
                self.waits[task].append(_Wait(data["wait_task"][w], counts, data["wait_latency"][w]))
                self.readers[data["wait_task"][w]].append(task)
                used += tiles
        self.order_ptr, self.order = data["order_ptr"], data["order"]

    def closed(self, window: int, frames: int, handicap: int) -> list[list[int]]:
        """When each task of each frame starts if at most `window` frames are in flight.

        Of the tasks whose waits are scheduled, the one that can run without stalling first goes next, where a frame counts
        as `handicap` ticks later than the one before it; of equals the older frame, then the one that comes first in its
        queue.
        """
        return _Closed(self, window, frames, handicap).run()

    def smallest_interval(
        self, order: Sequence[int], stages: Sequence[int], lags: Sequence[int], window: int
    ) -> int:
        """The maximum cycle ratio, rounded up: how fast windows follow each other once all run as early as they can.

        `order`: of the queues, in a window, one after the other; `stages`: windows by which each task's frame is behind the
        newest; `lags`: windows by which each wait's task is; `window`: frames in flight. Raises ValueError if queue order
        and waits of a window have a circle.
        """
        return _Cycle(self, order, stages, lags, window).smallest_interval()

    def times(
        self, order: Sequence[int], stages: Sequence[int], lags: Sequence[int], window: int, interval: int
    ) -> list[list[int]] | None:
        """The earliest tile ends within a window that repeat every `interval`, no task starting before its frame.

        None if there are none. These are the times of the shortest latency. Raises ValueError as `smallest_interval`.
        """
        return _Cycle(self, order, stages, lags, window).times(interval)


class _Closed:
    """List scheduling of the instances (frame, task)."""

    def __init__(self, loop: Loop, window: int, frames: int, handicap: int) -> None:
        self.loop, self.window, self.frames, self.handicap = loop, window, frames, handicap
        count, queues = len(loop.queue), len(loop.order_ptr) - 1
        self.place = [0] * count
        for first, last in pairwise(loop.order_ptr):
            for position, task in enumerate(loop.order[first:last]):
                self.place[task] = position
        self.waiting = [[len(waits) for waits in loop.waits] for _ in range(frames)]
        self.left = [count] * frames
        self.starts = [[0] * count for _ in range(frames)]
        self.ends: list[list[list[int]]] = [[[] for _ in range(count)] for _ in range(frames)]
        self.released = [0] * frames
        self.free = [0] * queues
        self.ready: list[list[tuple[int, int]]] = [[] for _ in range(queues)]
        self.best: list[tuple[int, int, int, int] | None] = [None] * queues

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
            for number in sorted(self._commit(frame, task, queue)):
                self._choose(number)

    def _release(self, frame: int, moment: int) -> set[int]:
        """`frame` may start: its tasks without waits are ready."""
        self.released[frame] = moment
        changed = set()
        for task, waits in enumerate(self.loop.waits):
            if not waits:
                self.ready[self.loop.queue[task]].append((frame, task))
                changed.add(self.loop.queue[task])
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
        return self._tiles(frame, task, queue)[-1] - sum(self.loop.durations[task])

    def _tiles(self, frame: int, task: int, queue: int) -> list[int]:
        """The ends of the tiles of an instance if it runs next on its queue."""
        moment = max(self.free[queue], self.released[frame])
        ends = []
        for tile, duration in enumerate(self.loop.durations[task]):
            for source, counts, latency in self.loop.waits[task]:
                if counts[tile]:
                    moment = max(moment, self.ends[frame][source][counts[tile] - 1] + latency)
            moment += duration
            ends.append(moment)
        return ends

    def _commit(self, frame: int, task: int, queue: int) -> set[int]:
        """Run an instance; the queues whose choice may differ now."""
        ends = self._tiles(frame, task, queue)
        self.ends[frame][task] = ends
        self.starts[frame][task] = ends[0] - self.loop.durations[task][0]
        self.free[queue] = ends[-1]
        self.ready[queue].remove((frame, task))
        changed = {queue}
        for reader in self.loop.readers[task]:
            self.waiting[frame][reader] -= 1
            if not self.waiting[frame][reader]:
                self.ready[self.loop.queue[reader]].append((frame, reader))
                changed.add(self.loop.queue[reader])
        self.left[frame] -= 1
        if not self.left[frame] and frame + self.window < self.frames:
            done = max(tiles[-1] for tiles in self.ends[frame])
            changed |= self._release(frame + self.window, done)
        return changed


class _Cycle:
    """Fixed cyclic queue orders and stages: how fast they can run, and when.

    A frame begins when the one `window` frames before it has ended.
    """

    def __init__(
        self, loop: Loop, order: Sequence[int], stages: Sequence[int], lags: Sequence[int], window: int
    ) -> None:
        self.loop, self.stages, self.frames = loop, stages, window
        self.span = max(stages, default=0)
        self.before = [-1] * len(loop.queue)
        self.last = [-1] * len(loop.queue)  # of a queue's first task: the task that ends the window before
        for first, end in pairwise(loop.order_ptr):
            tasks = order[first:end]
            for a, b in pairwise(tasks):
                self.before[b] = a
            if tasks:
                self.last[tasks[0]] = tasks[-1]
        lag = iter(lags)
        self.edges = [[(wait, next(lag)) for wait in waits] for waits in loop.waits]
        self.order = self._topological()

    def _topological(self) -> list[int]:
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
        if not self.order:
            return 1
        reach = self.frames + self.span
        history: list[list[list[int]]] = []
        done: list[int] = []
        for _ in range(MOST_WINDOWS):
            history.append(self._window(history, done))
            for period in range(1, min(LONGEST_PERIOD, len(history) - reach - 1) + 1):
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
            for tile, duration in enumerate(self.loop.durations[task]):
                for (source, counts, latency), lag in self.edges[task]:
                    if counts[tile] and 0 <= lag <= len(history):
                        past = ends if lag == 0 else history[-lag]
                        moment = max(moment, past[source][counts[tile] - 1] + latency)
                moment += duration
                made.append(moment)
            ends[task] = made
            if frame >= 0:
                done[frame] = max(done[frame], moment)
        return ends

    def times(self, interval: int) -> list[list[int]] | None:
        ends = [
            [duration[0] - stage * interval] * len(duration)
            for duration, stage in zip(self.loop.durations, self.stages, strict=True)
        ]
        for _ in range(MOST_PASSES):
            changed = False
            end = max((e[-1] + k * interval for e, k in zip(ends, self.stages, strict=True)), default=0)
            for task in self.order:
                old = ends[task]
                moment = old[0] - self.loop.durations[task][0]
                moment = max(moment, end - (self.frames + self.stages[task]) * interval)
                if self.before[task] >= 0:
                    moment = max(moment, ends[self.before[task]][-1])
                else:
                    moment = max(moment, ends[self.last[task]][-1] - interval)
                done = []
                for tile, duration in enumerate(self.loop.durations[task]):
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
