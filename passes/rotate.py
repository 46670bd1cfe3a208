"""Memory of a periodic schedule: buffers in several copies, arcs of time, reuse from frame to frame.

A buffer that lives longer than the initiation interval needs one copy per frame that holds it, used in turn; such
copies are never free for others. The others live for an arc of the interval, the same in every frame, and share
addresses where their arcs do not meet.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from h4hc.ir.schedule import WEIGHT_LOAD, Buffer, Schedule, Task, Wait
from h4hc.ir.system import System
from h4hc.passes.cliques import heaviest
from h4hc.passes.closed_loop import frames_between
from h4hc.passes.memory import Sections, least_peak
from h4hc.passes.sharing import WEIGHTS, Lifetime

MOST_ARCS = 400  # of exact packing
Protect = Callable[[Schedule, Sequence[Buffer]], tuple[Task, ...]]


@dataclass(frozen=True, slots=True)
class Arc:
    """`size` bytes for `length` ticks from `start` (within the interval), in each of `copies` places.

    `whole`: the places are never free for others.
    """

    start: int
    length: int
    size: int
    copies: int
    whole: bool

    @property
    def footprint(self) -> int:
        """Bytes of all copies."""
        return self.size * self.copies


def frame_lifetimes(schedule: Schedule, system: System, alive: Sequence[Lifetime]) -> list[Lifetime]:
    """`alive` at the times of the tasks of `schedule`, whose reads and writes count buffers in that order, and then those
    of fetched weights.

    A graph input is there from the beginning of its frame; a graph output until one interval after the end of it,
    so that it can be fetched.
    """
    count = len(alive) + sum(task.kind == WEIGHT_LOAD for task in schedule.tasks)
    starts: list[int | None] = [None] * count
    ends = [0] * count
    for task in schedule.tasks:
        for number in task.writes:
            starts[number] = task.start if starts[number] is None else min(starts[number] or 0, task.start)
        for number in (*task.reads, *task.writes):
            ends[number] = max(ends[number], task.end)
    for number, buffer in enumerate(alive):
        if system.data["sink"][buffer.tensor] and buffer.memory == system.data["io_memory"]:
            ends[number] = schedule.latency + schedule.initiation_interval
    return [
        buffer._replace(start=start or 0, end=end)
        for buffer, start, end in zip(alive, starts, ends, strict=False)
    ]


def arcs(buffers: Sequence[Lifetime], system: System, interval: int, alignment: int) -> list[Arc]:
    """The arcs of `buffers`. A graph input has one copy more: the next frame's arrives while it is read."""
    found = []
    for buffer in buffers:
        given = (
            buffer.tensor != WEIGHTS
            and system.data["producer"][buffer.tensor] < 0
            and buffer.memory == system.data["io_memory"]
        )
        length = max(1, buffer.end - buffer.start)
        count = -(-length // interval) + given
        size = -(-buffer.bytes // alignment) * alignment
        found.append(Arc(buffer.start % interval, length, size, count, given or length >= interval))
    return found


def pack_circular(
    items: Sequence[Arc], interval: int, alignment: int = 1, nodes: int = 0
) -> tuple[list[int], int, int]:
    """Offsets (of the first copy), peak and lower bound.

    Every place of a buffer that outlives the interval holds data of some frame at every tick of the interval; so those
    lie at the bottom, and count in full. The others: first fit in three orders, then branch and bound of up to
    `nodes` nodes. The bound is the most bytes alive at one tick, or of arcs that meet pairwise if the first is not reached.
    """
    offsets, bottom = [0] * len(items), 0
    for i, arc in enumerate(items):
        if arc.whole:
            offsets[i], bottom = bottom, bottom + arc.footprint
    numbers = [i for i, arc in enumerate(items) if not arc.whole]
    rest = [items[i] for i in numbers]
    moments = sorted({arc.start for arc in rest})
    first, count = _sections(rest, moments, interval)
    alive = [0] * len(moments)
    for begin, many, arc in zip(first, count, rest, strict=True):
        for k in range(begin, begin + many):
            alive[k % len(moments)] += arc.footprint
    bound = max(alive, default=0)
    found, peak = _pack_arcs(rest, interval, bound)
    if bound < peak and len(rest) <= MOST_ARCS:
        bound = _pairwise(rest, interval, bound)
    if nodes and bound < peak and len(rest) <= MOST_ARCS:
        sections = Sections(first, count, [arc.footprint for arc in rest], len(moments))
        found, peak = least_peak(sections, bound, peak, alignment, nodes) or (found, peak)
    for i, offset in zip(numbers, found, strict=True):
        offsets[i] = bottom + offset
    return offsets, bottom + peak, bottom + bound


def _pairwise(rest: Sequence[Arc], interval: int, bound: int) -> int:
    """The most bytes of arcs that meet pairwise, but not less than `bound`."""
    meets = [
        sum(1 << j for j, other in enumerate(rest) if j != i and _meet(arc, other, interval))
        for i, arc in enumerate(rest)
    ]
    return heaviest([arc.footprint for arc in rest], meets, bound)


def _sections(rest: Sequence[Arc], moments: Sequence[int], interval: int) -> tuple[list[int], list[int]]:
    """Per arc its first of the sections between `moments`, and how many it lives in."""
    first, count = [], []
    for arc in rest:
        begin, end = bisect_left(moments, arc.start), arc.start + arc.length
        last = (
            bisect_left(moments, end)
            if end <= interval
            else len(moments) + bisect_left(moments, end - interval)
        )
        first.append(begin)
        count.append(last - begin)
    return first, count


def _pack_arcs(rest: Sequence[Arc], interval: int, bound: int) -> tuple[list[int], int]:
    """Offsets and peak: the best of first fit in three orders."""
    numbers = range(len(rest))
    orders = (
        sorted(numbers, key=lambda i: (-rest[i].footprint, rest[i].start)),
        sorted(numbers, key=lambda i: (rest[i].start, -rest[i].footprint)),
        sorted(numbers, key=lambda i: (-rest[i].length, -rest[i].footprint)),
    )
    best: list[int] = []
    peak = -1
    for order in orders:
        offsets = _first_fit(order, rest, interval)
        top = max((offsets[i] + arc.footprint for i, arc in enumerate(rest)), default=0)
        if peak < 0 or top < peak:
            best, peak = offsets, top
        if peak <= bound:
            break
    return best, peak


def _meet(a: Arc, b: Arc, interval: int) -> bool:
    """Whether the arcs share a tick."""
    return (b.start - a.start) % interval < a.length or (a.start - b.start) % interval < b.length


def _first_fit(order: Sequence[int], items: Sequence[Arc], interval: int) -> list[int]:
    offsets = [0] * len(items)
    placed: list[int] = []
    for number in order:
        arc, offset = items[number], 0
        if arc.footprint:
            taken = sorted((offsets[i], items[i].footprint) for i in placed if _meet(items[i], arc, interval))
            for start, size in taken:
                if offset + arc.footprint <= start:
                    break
                offset = max(offset, start + size)
            placed.append(number)
        offsets[number] = offset
    return offsets


def protect_rotation(schedule: Schedule, buffers: Sequence[Buffer], protect: Protect) -> tuple[Task, ...]:
    """The tasks with waits that keep a writer behind the last users of its memory, in its frame or an earlier one.

    The waits of one frame in the middle of an explicit run of many frames hold for every frame.
    """
    period = schedule.initiation_interval
    reach = max((task.stage for task in schedule.tasks), default=0)
    reach += max((buffer.copies for buffer in buffers), default=1) + 1
    explicit, places = unrolled(schedule, buffers, 2 * reach + 2)
    count = len(schedule.tasks)
    protected = protect(explicit, places)
    middle = protected[reach * count : (reach + 1) * count]
    tasks = []
    for task, instance in zip(schedule.tasks, middle, strict=True):
        waits = list(task.waits)
        for wait in instance.waits:
            if wait.reason == "reuse":
                frame, user = divmod(wait.task, count)
                lag = task.stage - schedule.tasks[user].stage + reach - frame
                waits.append(wait._replace(task=user, lag=lag))
        tasks.append(task._replace(waits=tuple(waits)))
    if period < 1 or any(wait.lag < 0 for task in tasks for wait in task.waits):
        raise ValueError("a task would wait for a window to come")
    return tuple(tasks)


def unrolled(schedule: Schedule, buffers: Sequence[Buffer], frames: int) -> tuple[Schedule, list[Buffer]]:
    """`frames` frames of a periodic schedule as one schedule: tasks and buffers of frame f behind those of f - 1."""
    period, count, places = schedule.initiation_interval, len(schedule.tasks), len(buffers)
    tasks = [
        _instance(task, frame, schedule, places, frames) for frame in range(frames) for task in schedule.tasks
    ]
    copies_of = [
        Buffer(
            frame * places + b.id, b.tensor, b.memory, b.offset + frame % b.copies * b.stride, b.bytes,
            b.start + frame * period, b.end + frame * period,
        )
        for frame in range(frames)
        for b in buffers
    ]  # fmt: skip
    last = max((task.stage for task in schedule.tasks), default=0)
    queues = []
    for name, order in schedule.queues:
        members = [
            frame * count + task
            for window in range(frames + last)
            for task in order
            if 0 <= (frame := window - schedule.tasks[task].stage) < frames
        ]
        queues.append((name, tuple(members)))
    return replace(schedule, tasks=tuple(tasks), queues=tuple(queues)), copies_of


def _instance(task: Task, frame: int, schedule: Schedule, places: int, frames: int) -> Task:
    """`task` of `frame`, with its waits for tasks of the `frames` frames that exist."""
    count, shift = len(schedule.tasks), frame * schedule.initiation_interval
    waits = []
    for wait in task.waits:
        source = frame - frames_between(schedule.tasks, task, wait)
        if 0 <= source < frames:
            waits.append(Wait(source * count + wait.task, wait.counts, wait.latency, wait.reason))
    return task._replace(
        id=frame * count + task.id,
        start=task.start + shift,
        end=task.end + shift,
        waits=tuple(waits),
        reads=tuple(frame * places + b for b in task.reads),
        writes=tuple(frame * places + b for b in task.writes),
    )
