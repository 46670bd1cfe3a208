"""The schedule: tasks in queues, semaphores, buffers.

Time is counted in integer ticks of `TICK_SECONDS`, energy in integer picojoules, so that every
sum is exact and a replay can be compared for equality.

Execution model. Every device is a queue, and so is every DMA channel. A queue runs its tasks in
order, one at a time. A task is a sequence of `tiles` equal pieces; tile k of a task with `work`
ticks lasts work·(k+1)//tiles - work·k//tiles ticks, and runs as soon as tile k-1 (for k = 0: the
task before it in the queue) has finished and, for each of its waits, the awaited task has
finished at least `counts[k]` tiles and `latency` ticks have passed since. Nothing else delays it.
Finished tiles are counted by one semaphore per task. Row r of a tensor of R rows that is produced in T
tiles is complete when ceil((r + 1)·T/R) tiles have finished: after t tiles, t·R//T rows are.
"""

from __future__ import annotations

from dataclasses import dataclass

TICK_SECONDS = 1e-9


@dataclass(frozen=True, slots=True)
class Wait:
    """`counts[k]` tiles of task `task` must be finished, `latency` ticks ago, before tile k starts.

    `reason`: ``data`` (the tile reads what the awaited tiles wrote) or ``reuse`` (the tile writes
    memory that the awaited task still reads or writes).
    """

    task: int
    counts: tuple[int, ...]
    latency: int = 0
    reason: str = "data"


@dataclass(frozen=True, slots=True)
class Buffer:
    """`bytes` at `offset` in `memory`, holding `tensor` (a root) from tick `start` to tick `end`."""

    id: int
    tensor: str
    memory: str
    offset: int
    bytes: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of a queue. `reads` and `writes` are buffer ids.

    `kind`: ``compute`` (`operator` is set) or ``transfer`` (`tensor`, the root tensor moved, is set).
    `resource`: a device name, or ``<link>.<channel>``. `start` is when its first tile starts.
    """

    id: int
    kind: str
    resource: str
    operator: str
    tensor: str
    start: int
    end: int
    work: int
    tiles: int
    energy: int
    bytes: int
    waits: tuple[Wait, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of one memory: capacity, weights kept in it, activation peak, and the peak's lower bound."""

    memory: str
    capacity: int
    weights: int
    peak: int
    lower_bound: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """One frame: `latency` in ticks, energy in picojoules.

    `static_energy` is the static power of every device that has at least one task, times the latency.
    `queues`: per resource, task ids in order. `initiation_interval` is in ticks.
    """

    tasks: tuple[Task, ...]
    buffers: tuple[Buffer, ...]
    queues: tuple[tuple[str, tuple[int, ...]], ...]
    memories: tuple[MemoryUse, ...]
    latency: int
    initiation_interval: int
    dynamic_energy: int
    static_energy: int

    @property
    def energy(self) -> int:
        return self.dynamic_energy + self.static_energy
