"""Allocate: an address for every buffer.

In:  the schedule. Out: the schedule with buffers, memory use, and the waits that protect reused memory.

Rules:
1. No two buffers that live at the same time overlap; offsets are multiples of the memory's alignment.
2. Parts of a joined or divided tensor lie inside it, and results over inputs that die (h4hc.passes.sharing).
3. A spilled buffer lies in the backing memory. Weights lie behind the activations of the memory that holds them.
4. Planned times do not protect memory: a late task would corrupt data. Whoever writes to addresses that
   another buffer used waits until every task that touched that buffer has finished, unless queue order and other waits
   imply it (vector clocks). Such waits never delay the planned schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

from h4hc.errors import InfeasibleError, Shortage
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import WEIGHT_LOAD, Buffer, MemoryUse, Schedule, Task, Wait
from h4hc.ir.system import Simulated
from h4hc.passes.core import reuse_waits
from h4hc.passes.memory import NODES, lifetimes, pack, stores_of
from h4hc.passes.rotate import arcs, frame_lifetimes, pack_circular, protect_rotation
from h4hc.passes.sharing import (
    WEIGHTS,
    Course,
    Lifetime,
    course_of,
    merged,
    places,
    widened,
)

_FETCHED_SHARE = 4  # of the nodes of exact packing: weights are fetched into room that would be idle
RESIDENT = "resident"  # how the names of modes begin in which weights stay in their device


@dataclass(frozen=True, slots=True)
class Allocate:
    """Place every buffer and protect reused memory."""

    name: str = "allocate"
    needs: tuple[str, ...] = ("graph", "placement", "simulated", "schedule")
    provides: tuple[str, ...] = ("schedule",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `schedule` with memory."""
        return replace(compilation, schedule=allocate(compilation))


def allocate(compilation: Compilation) -> Schedule:
    """`compilation.schedule` with offsets and reuse waits."""
    schedule = compilation.schedule
    if schedule is None:
        raise ValueError("allocate needs a schedule")
    buffers, memories = place_buffers(compilation, schedule)
    if schedule.frames_in_flight > 1:
        tasks = protect_rotation(schedule, buffers, protect_reuse)
    else:
        tasks = protect_reuse(schedule, buffers)
    return replace(schedule, tasks=tasks, buffers=buffers, memories=memories)


def place_buffers(
    compilation: Compilation, schedule: Schedule, quickly: bool = False
) -> tuple[tuple[Buffer, ...], tuple[MemoryUse, ...]]:
    """An offset for every buffer of `schedule`; raises InfeasibleError if a memory is too small.

    `quickly`: any offsets that fit will do.
    """
    simulated = compilation.simulated
    if simulated is None:
        raise ValueError("allocate needs a simulated placement")
    system, interval = simulated.system, schedule.initiation_interval
    fetched = [task for task in schedule.tasks if task.kind == WEIGHT_LOAD]
    nodes = 0 if quickly else NODES[compilation.options.effort] // (_FETCHED_SHARE if fetched else 1)
    alive = lifetimes(system, simulated.trace[4])
    rotating = schedule.frames_in_flight > 1
    if rotating:
        alive = frame_lifetimes(schedule, system, alive)
    course = _course(schedule, simulated)
    alive = widened(system, course, alive)
    stores = stores_of(compilation, system, alive)
    where = places(system, course, alive, stores)
    for span in fetched_weights(compilation, schedule, fetched):
        where.block.append(len(alive))
        where.offset.append(0)
        alive.append(span)
        stores.append(system.memories[span.memory])
    weights = _weight_bytes(compilation)
    offsets, copies, strides = [0] * len(alive), [1] * len(alive), [0] * len(alive)
    memories = []
    members: dict[str, list[tuple[int, Lifetime]]] = {}
    for b, span in zip(*merged(alive, where), strict=True):
        members.setdefault(stores[b], []).append((b, span))
    for memory in compilation.target.memories:
        here = members.get(memory.name, [])
        chosen = [span for _, span in here]
        if rotating:
            items = arcs(chosen, system, interval, memory.alignment)
            placed, peak, bound = pack_circular(items, interval, memory.alignment, nodes)
            for (b, _), arc in zip(here, items, strict=True):
                copies[b], strides[b] = arc.copies, arc.size if arc.copies > 1 else 0
        else:
            enough = memory.bytes - weights.get(memory.name, 0) if quickly else 0
            placed, peak, bound = pack(chosen, memory.alignment, nodes, enough)
        for (b, _), offset in zip(here, placed, strict=True):
            offsets[b] = offset
        used = weights.get(memory.name, 0)
        if used + peak > memory.bytes:
            raise _too_small(compilation, schedule.frames_in_flight, memory.name, (used, peak, memory.bytes))
        memories.append(MemoryUse(memory.name, memory.bytes, used, peak, bound))
    names = [("" if b.tensor == WEIGHTS else system.tensors[b.tensor]) for b in alive]
    holders = [""] * (len(alive) - len(fetched)) + [task.operator for task in fetched]
    rows = zip(alive, names, stores, *where, holders, strict=True)
    buffers = [
        Buffer(
            i, name, store, offsets[block] + offset, size, start, end, copies[block], strides[block], holder
        )
        for i, ((_, _, start, end, size), name, store, block, offset, holder) in enumerate(rows)
    ]
    return tuple(buffers), tuple(memories)


def fetched_weights(
    compilation: Compilation, schedule: Schedule, fetched: Sequence[Task]
) -> Iterator[Lifetime]:
    """The buffers that `fetched` tasks write: from the start of each to the end of the operator whose weights it loads."""
    simulated = compilation.simulated
    if simulated is None:
        raise ValueError("allocate needs a simulated placement")
    users = {task.operator: task for task in schedule.tasks if task.kind == "compute"} if fetched else {}
    for task in fetched:
        user = users[task.operator]
        memory = compilation.target.device(user.resource).memory
        yield Lifetime(WEIGHTS, simulated.system.memories.index(memory), task.start, user.end, task.bytes)


def _course(schedule: Schedule, simulated: Simulated) -> Course:
    """When the operators and transfers of `schedule` run, and where."""
    system = simulated.system
    course = course_of(system, simulated.modes, simulated.trace[3])
    if schedule.frames_in_flight == 1 or not (system.parts or system.overwrites):
        return course
    start, end, moved = [*course.start], [*course.end], dict(course.moved)
    for row, task in zip(simulated.trace[3], schedule.tasks, strict=False):  # fetches come last
        if row[1] < 0:
            start[row[0]], end[row[0]] = task.start, task.end
        else:
            moved[row[0], row[1]] = task.end
    return Course(course.memory, start, end, moved)


def _too_small(
    compilation: Compilation, frames: int, memory: str, needs: tuple[int, int, int]
) -> InfeasibleError:
    weights, peak, size = needs
    with_frames = f" with {frames} frames in flight" if frames > 1 else ""
    fewer = "allow fewer frames in flight, or " if frames > 1 else ""
    change = (f"memory {memory}", *(("frames in flight",) if frames > 1 else ()))
    return InfeasibleError(
        f"memory {memory} of target {compilation.target.name} has {size} bytes; "
        f"{compilation.source.name} needs {weights} for weights and {peak} for activations{with_frames}",
        code="memory",
        hint=f"{fewer}enlarge {memory}, or give its devices a larger spill or weights memory",
        shortage=Shortage(f"memory {memory}", weights + peak, size, "B", change),
    )


def _weight_bytes(compilation: Compilation) -> dict[str, int]:
    """Bytes of weights that each memory holds; resident weights lie in their device instead."""
    simulated, placement = compilation.simulated, compilation.placement
    if simulated is None or placement is None:
        raise ValueError("allocate needs a simulated placement")
    holder = {device.name: device.weights for device in compilation.target.devices}
    held: dict[str, int] = {}
    for size, device, mode in zip(simulated.system.weights, placement.devices, placement.modes, strict=True):
        memory = holder[device]
        if memory and not mode.startswith(RESIDENT):
            held[memory] = held.get(memory, 0) + size
    return held


def protect_reuse(schedule: Schedule, buffers: Sequence[Buffer]) -> tuple[Task, ...]:
    """The tasks with the waits that keep a writer behind the last users of the memory it takes over."""
    tasks = schedule.tasks
    queue, place = [0] * len(tasks), [0] * len(tasks)
    for number, (_, members) in enumerate(schedule.queues):
        for position, member in enumerate(members):
            queue[member], place[member] = number, position
    tiles = [task.tiles for task in tasks]
    waits, reads, writes = [t.waits for t in tasks], [t.reads for t in tasks], [t.writes for t in tasks]
    awaited, certain = list[int](), list[int]()
    for wait in chain.from_iterable(waits):
        first, number = wait.counts[0], wait.task
        awaited.append(number)
        # the awaited task has finished when this one starts; it has started; neither is certain
        certain.append(1 if first >= tiles[number] else 0 if first else -1)
    memories = {name: i for i, name in enumerate(dict.fromkeys([b.memory for b in buffers]))}
    pairs = reuse_waits(
        [task.start for task in tasks],
        [task.end for task in tasks],
        queue,
        place,
        [0, *accumulate(map(len, waits))],
        awaited,
        certain,
        [0, *accumulate(map(len, reads))],
        [*chain.from_iterable(reads)],
        [0, *accumulate(map(len, writes))],
        [*chain.from_iterable(writes)],
        [memories[b.memory] for b in buffers],
        [b.offset for b in buffers],
        [b.bytes for b in buffers],
        [b.start for b in buffers],
        [b.end for b in buffers],
    )
    for writer, user in pairs:
        waits[writer] += (Wait(user, (tiles[user],) * tiles[writer], 0, "reuse"),)
    return tuple(
        [
            task if task.waits is found else task._replace(waits=found)
            for task, found in zip(tasks, waits, strict=True)
        ]
    )
