"""The tasks of one frame as a machine of queues, and the closed loop: many frames, list scheduled, a few at a time.

Tiles are those of `h4hc.ir.schedule`. All times are ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from h4hc.ir.schedule import Task, Wait


class Edge(NamedTuple):
    """Tile k of the task waits for `counts[k]` tiles of `source`, `latency` ticks ago, of the frame `frames` before."""

    source: int
    counts: tuple[int, ...]
    latency: int
    frames: int = 0


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


def machine(tasks: Sequence[Task], queues: Sequence[tuple[str, Sequence[int]]]) -> Machine:
    """The arrays of the tasks of one frame; task ids are positions in `tasks`."""
    queue = [0] * len(tasks)
    for number, (_, members) in enumerate(queues):
        for member in members:
            queue[member] = number
    durations = [
        tuple(task.work * (k + 1) // task.tiles - task.work * k // task.tiles for k in range(task.tiles))
        for task in tasks
    ]
    waits = [
        tuple(Edge(*w[:3], frames=frames_between(tasks, t, w)) for w in t.waits if w.reason != "reuse")
        for t in tasks
    ]
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


def frames_between(tasks: Sequence[Task], task: Task, wait: Wait) -> int:
    """How many frames before that of `task` the awaited task works on."""
    return wait.lag - task.stage + tasks[wait.task].stage


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
            for source, counts, latency, _ in self.plant.waits[task]:
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
