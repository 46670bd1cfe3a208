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

Several frames in flight. Every queue runs its list once per window, window after window. A task of stage k works on
frame r - k in window r; where there is no such frame, it waits and is counted as done, and does nothing else. A wait
with lag l is for the awaited task in window r - l, and holds where that is before the first. The buffer of frame f lies
at `offset` + (f mod `copies`)·`stride`. Planned times are those of frame 0; frame f comes f initiation intervals
later. With one frame in flight all stages and lags are 0, and a frame begins when the one before it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

TICK_SECONDS = 1e-9
WEIGHT_LOAD = "weight_load"


class Wait(NamedTuple):
    """`counts[k]` tiles of task `task` must be finished, `latency` ticks ago, before tile k starts.

    `reason`: ``data`` (the tile reads what the awaited tiles wrote) or ``reuse`` (the tile writes
    memory that the awaited task still reads or writes) or ``order`` (it works at the port of a memory at which the awaited task
    works, or would take room earlier than planned). `lag`: windows ago.
    """

    task: int
    counts: tuple[int, ...]
    latency: int = 0
    reason: str = "data"
    lag: int = 0


class Buffer(NamedTuple):
    """`bytes` at `offset` in `memory`, holding `tensor` (a root) from tick `start` to tick `end`.

    Consecutive frames use `copies` such places, `stride` bytes apart, in turn. A buffer of weights holds no tensor,
    but the encoded weights of operator `weights`.
    """

    id: int
    tensor: str
    memory: str
    offset: int
    bytes: int
    start: int
    end: int
    copies: int = 1
    stride: int = 0
    weights: str = ""


class Task(NamedTuple):
    """One entry of a queue. `reads` and `writes` are buffer ids.

    `kind`: ``compute`` (`operator` is set), ``transfer`` (`tensor`, the root tensor moved, is set) or ``weight_load`` (of
    the weights of `operator`). `resource`: a device name, ``<link>.<channel>`` or ``<memory>.fetch``. `start` is when its
    first tile starts. `stage`: how many windows behind the newest frame it works.
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
    stage: int = 0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of one memory: capacity, weights kept in it, activation peak, and the peak's lower bound."""

    memory: str
    capacity: int
    weights: int
    peak: int
    lower_bound: int


@dataclass(frozen=True, slots=True)
class Point:
    """What `frames` frames in flight achieve: initiation interval and latency in ticks."""

    frames: int
    interval: int
    latency: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """One frame: `latency` in ticks, energy in picojoules.

    `queues`: per resource, task ids in order. `initiation_interval` is in ticks; `interval_bound` the work of the
    busiest resource, below which no schedule of this placement comes. `static_energy` is the static power of every
    device that has at least one task, times the interval. `front` holds the intervals that more frames in flight
    would allow, with the latencies that they cost.
    """

    tasks: tuple[Task, ...]
    buffers: tuple[Buffer, ...]
    queues: tuple[tuple[str, tuple[int, ...]], ...]
    memories: tuple[MemoryUse, ...]
    latency: int
    initiation_interval: int
    dynamic_energy: int
    static_energy: int
    frames_in_flight: int = 1
    interval_bound: int = 0
    front: tuple[Point, ...] = ()

    @property
    def energy(self) -> int:
        return self.dynamic_energy + self.static_energy
