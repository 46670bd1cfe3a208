"""The tasks of one frame as a machine of queues, and the closed loop: many frames, list scheduled, a few at a time.

Tiles are those of `h4hc.ir.schedule`. All times are ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from h4hc.ir.schedule import Task, Wait
from h4hc.passes.core import Loop


class Edge(NamedTuple):
    """Tile k of the task waits for `counts[k]` tiles of `source`, `latency` ticks ago, of the frame `frames` before."""

    source: int
    counts: tuple[int, ...]
    latency: int
    frames: int = 0


@dataclass(frozen=True)
class Machine:
    """The tasks of one frame: queue, tile durations, waits, and the queues' orders."""

    queue: tuple[int, ...]
    durations: tuple[tuple[int, ...], ...]
    waits: tuple[tuple[Edge, ...], ...]
    orders: tuple[tuple[int, ...], ...]

    @property
    def load(self) -> tuple[int, ...]:
        """Ticks of work per queue: none of them can begin frames faster."""
        return tuple(sum(sum(self.durations[task]) for task in order) for order in self.orders)

    @cached_property
    def loop(self) -> Loop:
        """The machine as the compiled core has it."""
        return Loop(
            {
                "queue": self.queue,
                "tile_ptr": [0, *accumulate(map(len, self.durations))],
                "duration": [ticks for durations in self.durations for ticks in durations],
                "wait_ptr": [0, *accumulate(map(len, self.waits))],
                "wait_task": [edge.source for edges in self.waits for edge in edges],
                "wait_latency": [edge.latency for edges in self.waits for edge in edges],
                "counts": [count for edges in self.waits for edge in edges for count in edge.counts],
                "order_ptr": [0, *accumulate(map(len, self.orders))],
                "order": [task for order in self.orders for task in order],
            }
        )

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
    return Machine(
        tuple(queue),
        tuple(durations),
        tuple(waits),
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
    return plant.loop.closed(window, frames, round(preference * max(plant.load, default=0)))
