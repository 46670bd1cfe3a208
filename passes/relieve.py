"""Relieve: spill one more buffer of a placement, so that several frames in flight have room.

A buffer takes a place for every frame that holds it. Of those that hold data when the memory is fullest, and would make
enough room by themselves, the smallest goes, else the one that takes most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import Schedule
from h4hc.ir.system import Simulated, System
from h4hc.passes.core import Problem
from h4hc.passes.problem import backing, build_system, with_spills


def spilling(compilation: Compilation, schedule: Schedule, error: InfeasibleError) -> Compilation | None:
    """`compilation` with a buffer spilled from the memory that is too small for `schedule`; None if none can be."""
    simulated, placement = compilation.simulated, compilation.placement
    if simulated is None or placement is None:
        raise ValueError("spilling needs a simulated placement")
    if error.shortage is None:
        return None
    memory = error.shortage.what.removeprefix("memory ")
    system, target = simulated.system, compilation.target
    buffers = [
        (buffer, system.tensors[tensor])
        for (tensor, where, *_), buffer in zip(simulated.trace[4], _buffers(schedule, simulated), strict=True)
        if system.memories[where] == memory and (system.tensors[tensor], memory) not in placement.spilled
    ]
    fullest = _fullest([buffer for buffer, _ in buffers], max(1, schedule.initiation_interval))
    footprints = [(buffer.bytes, name) for buffer, name in buffers if buffer in fullest]
    excess = error.shortage.needed - error.shortage.available
    enough = [row for row in footprints if row[0] >= excess]
    chosen = min(enough) if enough else max(footprints, default=None)
    if chosen is None:
        return None
    spilled = placement.spilled | {(name, memory) for name in _together(system, chosen[1])}
    try:
        backing(target, memory)
    except InfeasibleError:
        return None
    system = with_spills(build_system(compilation), target, spilled)
    trace = Problem(system.data).trace(simulated.modes, simulated.tiles)
    return replace(
        compilation,
        placement=replace(placement, spilled=frozenset(spilled)),
        simulated=Simulated(system, simulated.modes, simulated.tiles, trace),
    )


def _together(system: System, name: str) -> list[str]:
    """`name` and the tensors that lie inside it, or around it, or are written over it."""
    ties = [(part[1], part[2]) for part in system.parts] + [(old, new) for _, old, new in system.overwrites]
    found, before = {system.tensors.index(name)}, 0
    while before != len(found):
        before = len(found)
        found |= {other for tie in ties if found & set(tie) for other in tie}
    return [system.tensors[number] for number in sorted(found)]


class _Buffer(NamedTuple):
    """Bytes of all copies, and when within its frame a buffer holds data."""

    bytes: int
    start: int
    end: int


def _buffers(schedule: Schedule, simulated: Simulated) -> list[_Buffer]:
    count, interval = len(simulated.trace[4]), max(1, schedule.initiation_interval)
    starts, ends = [schedule.latency] * count, [0] * count
    for task in schedule.tasks:
        for buffer in (*task.reads, *task.writes):
            starts[buffer], ends[buffer] = min(starts[buffer], task.start), max(ends[buffer], task.end)
    sizes = [simulated.system.bytes[row[0]] for row in simulated.trace[4]]
    return [
        _Buffer(size * max(1, -(-(end - start) // interval)), start, end)
        for size, start, end in zip(sizes, starts, ends, strict=True)
    ]


def _fullest(buffers: Sequence[_Buffer], interval: int) -> set[_Buffer]:
    """Those that hold data at the moment of the interval at which most bytes do."""

    def alive(moment: int) -> list[_Buffer]:
        return [b for b in buffers if (moment - b.start) % interval < b.end - b.start]

    moments = sorted({buffer.start % interval for buffer in buffers})
    return set(max(map(alive, moments), key=lambda group: sum(b.bytes for b in group), default=[]))
