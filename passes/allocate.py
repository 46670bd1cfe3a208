"""Allocate: an address for every buffer.

In:  the schedule. Out: the schedule with buffers, memory use, and the waits that protect reused memory.

Rules:
1. No two buffers that live at the same time overlap; offsets are multiples of the memory's alignment.
2. A spilled buffer lies in the backing memory. Weights lie behind the activations of the memory that holds them.
3. Planned times do not protect memory: a late task would corrupt data. Whoever writes to addresses that
   another buffer used waits until every task that touched that buffer has finished, unless queue order and other waits
   imply it (vector clocks). Such waits never delay the planned schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import Buffer, MemoryUse, Schedule, Task, Wait
from h4hc.ir.system import System
from h4hc.passes.core import reuse_waits
from h4hc.passes.memory import Lifetime, lifetimes, pack


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
    schedule, simulated = compilation.schedule, compilation.simulated
    if schedule is None or simulated is None:
        raise ValueError("allocate needs a schedule and a simulated placement")
    system = simulated.system
    alive = lifetimes(system, simulated.trace[4])
    stores = _stores(compilation, system, alive)
    weights = _weight_bytes(compilation)
    offsets = [0] * len(alive)
    memories = []
    for memory in compilation.target.memories:
        here = [i for i, store in enumerate(stores) if store == memory.name]
        placed, peak, bound = pack([alive[i] for i in here], memory.alignment)
        for i, offset in zip(here, placed, strict=True):
            offsets[i] = offset
        used = weights.get(memory.name, 0)
        if used + peak > memory.bytes:
            raise _too_small(compilation, memory.name, used, peak, memory.bytes)
        memories.append(MemoryUse(memory.name, memory.bytes, used, peak, bound))
    buffers = tuple(
        [
            Buffer(i, system.tensors[b.tensor], stores[i], offsets[i], b.bytes, b.start, b.end)
            for i, b in enumerate(alive)
        ]
    )
    tasks = protect_reuse(schedule, buffers)
    return replace(schedule, tasks=tasks, buffers=buffers, memories=tuple(memories))


def _too_small(compilation: Compilation, memory: str, weights: int, peak: int, size: int) -> InfeasibleError:
    return InfeasibleError(
        f"memory {memory} of target {compilation.target.name} has {size} bytes; "
        f"{compilation.source.name} needs {weights} for weights and {peak} for activations",
        code="memory",
        hint=f"enlarge {memory}, or give its devices a larger spill or weights memory",
    )


def _stores(compilation: Compilation, system: System, alive: Sequence[Lifetime]) -> list[str]:
    """The memory that holds each buffer: its own, or the backing one if it is spilled."""
    placement, target = compilation.placement, compilation.target
    if placement is None:
        raise ValueError("allocate needs a placement")
    if not placement.spilled:
        return [system.memories[b.memory] for b in alive]
    backing = {device.memory: device.spill for device in target.devices if device.spill}
    names = [(system.tensors[b.tensor], system.memories[b.memory]) for b in alive]
    return [backing[name[1]] if name in placement.spilled else name[1] for name in names]


def _weight_bytes(compilation: Compilation) -> dict[str, int]:
    """Bytes of weights that each memory holds; resident weights lie in their device instead."""
    graph, placement = compilation.graph, compilation.placement
    if graph is None or placement is None:
        raise ValueError("allocate needs a graph and a placement")
    holder = {device.name: device.weights for device in compilation.target.devices}
    held: dict[str, int] = {}
    for operator, device, mode in zip(graph.operators, placement.devices, placement.modes, strict=True):
        memory = holder[device]
        if memory and mode != "resident":
            held[memory] = held.get(memory, 0) + operator.kernel.weight_bytes
    return held


def protect_reuse(schedule: Schedule, buffers: Sequence[Buffer]) -> tuple[Task, ...]:
    """The tasks with the waits that keep a writer behind the last users of the memory it takes over."""
    tasks = list(schedule.tasks)
    queue, place = [0] * len(tasks), [0] * len(tasks)
    for number, (_, members) in enumerate(schedule.queues):
        for position, member in enumerate(members):
            queue[member], place[member] = number, position
    touching: list[list[int]] = [[] for _ in buffers]
    for task in tasks:
        for buffer in (*task.reads, *task.writes):
            touching[buffer].append(task.id)
    waits = [wait for task in tasks for wait in task.waits]
    memories = {name: i for i, name in enumerate(dict.fromkeys(b.memory for b in buffers))}
    pairs = reuse_waits(
        [task.start for task in tasks],
        [task.end for task in tasks],
        queue,
        place,
        [0, *accumulate(len(task.waits) for task in tasks)],
        [wait.task for wait in waits],
        [_certainty(wait, tasks) for wait in waits],
        [0, *accumulate(len(task.writes) for task in tasks)],
        [buffer for task in tasks for buffer in task.writes],
        [0, *accumulate(map(len, touching))],
        [user for users in touching for user in users],
        [memories[b.memory] for b in buffers],
        [b.offset for b in buffers],
        [b.bytes for b in buffers],
        [b.start for b in buffers],
        [b.end for b in buffers],
    )
    for writer, user in pairs:
        task = tasks[writer]
        wait = Wait(user, (tasks[user].tiles,) * task.tiles, 0, "reuse")
        tasks[writer] = replace(task, waits=(*task.waits, wait))
    return tuple(tasks)


def _certainty(wait: Wait, tasks: Sequence[Task]) -> int:
    """1: the awaited task has finished when the waiting one starts; 0: it has started; -1: neither is certain."""
    if wait.counts[0] >= tasks[wait.task].tiles:
        return 1
    return 0 if wait.counts[0] else -1
