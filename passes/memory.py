"""Which buffers exist when, and where they fit.

A buffer is a root tensor in one memory: where its producer writes it, and where each transfer copies it.
It lives from the start of the task that writes it (graph inputs: from tick 0) to the end of the last task that
reads it (graph outputs in the io memory: to the end of the frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from h4hc.ir.system import LifetimeRow, System, Trace
from h4hc.ir.target import Memory, Target
from h4hc.passes.core import first_fit, peak_bytes

_CLIMB_STEPS = 400
_CLIMB_LIMIT = 2000  # buffers


class Lifetime(NamedTuple):
    """Root tensor and memory by index, first and last tick, and bytes."""

    tensor: int
    memory: int
    start: int
    end: int
    bytes: int


def lifetimes(system: System, rows: Sequence[LifetimeRow]) -> list[Lifetime]:
    """The buffers of the trace rows (tensor, memory, start, end), with their sizes."""
    sizes = system.bytes
    return [Lifetime(tensor, memory, start, end, sizes[tensor]) for tensor, memory, start, end in rows]


class Demand(NamedTuple):
    """The buffers of one memory as columns. A buffer lives at least one tick, so that none share addresses by accident."""

    starts: list[int]
    ends: list[int]
    sizes: list[int]


def demand(buffers: Sequence[Lifetime], alignment: int) -> Demand:
    """`buffers` with sizes rounded up to `alignment`."""
    return Demand(
        [start for _, _, start, _, _ in buffers],
        [end if end > start else start + 1 for _, _, start, end, _ in buffers],
        [-(-size // alignment) * alignment for _, _, _, _, size in buffers],
    )


def pack(buffers: Sequence[Lifetime], alignment: int) -> tuple[list[int], int, int]:
    """Offsets, peak and lower bound: first fit in five orders, then a short climb over orders."""
    return _pack(demand(buffers, alignment))


def _pack(columns: Demand) -> tuple[list[int], int, int]:
    starts, ends, sizes = columns
    bound, _ = peak_bytes(starts, ends, sizes)
    keys = (
        lambda b: (-sizes[b], starts[b]),
        lambda b: (starts[b], -sizes[b]),
        lambda b: (starts[b] - ends[b], -sizes[b]),
        lambda b: (-sizes[b] * (ends[b] - starts[b]), starts[b]),
        lambda b: (-ends[b], -sizes[b]),
    )
    best: list[int] = []
    best_offsets: list[int] = []
    best_peak = -1
    for key in keys:
        order = sorted(range(len(sizes)), key=key)
        offsets, peak = _place(order, columns)
        if best_peak < 0 or peak < best_peak:
            best, best_offsets, best_peak = order, offsets, peak
        if best_peak <= bound:
            return best_offsets, best_peak, bound
    if len(sizes) <= _CLIMB_LIMIT:
        best_offsets, best_peak = _climb(best, best_offsets, best_peak, bound, columns)
    return best_offsets, best_peak, bound


def _place(order: Sequence[int], columns: Demand) -> tuple[list[int], int]:
    offsets = first_fit(order, *columns)
    return offsets, max((o + size for o, size in zip(offsets, columns.sizes, strict=True)), default=0)


def _climb(
    order: list[int], offsets: list[int], peak: int, bound: int, columns: Demand
) -> tuple[list[int], int]:
    """Move a buffer that touches the peak to the front of the order while that helps (as Vela's allocator does)."""
    for step in range(_CLIMB_STEPS):
        top = [b for b in order if offsets[b] + columns.sizes[b] == peak]
        chosen = top[step % len(top)]
        place = order.index(chosen)
        target = place * (step % 7) // 7
        trial = [*order[:target], chosen, *order[target:place], *order[place + 1 :]]
        trial_offsets, trial_peak = _place(trial, columns)
        if trial_peak <= peak:
            order, offsets, peak = trial, trial_offsets, trial_peak
        if peak <= bound:
            break
    return offsets, peak


def oversized(system: System, target: Target) -> frozenset[tuple[str, str]]:
    """The (tensor, memory) pairs of tensors that alone exceed a memory with a backing memory."""
    backed = {device.memory for device in target.devices if device.spill}
    return frozenset(
        (tensor, memory)
        for memory in system.memories
        if memory in backed
        for tensor, size in zip(system.tensors, system.bytes, strict=True)
        if size > target.memory(memory).bytes
    )


def overflowing(
    system: System, trace: Trace, target: Target, spilled: frozenset[tuple[str, str]]
) -> frozenset[tuple[str, str]]:
    """Buffers to spill so that the memories hold the rest of this schedule.

    At the tick where most bytes are alive, the largest buffers go until the others fit; then the next such tick. If
    no tick is the problem but fragmentation is, the largest buffer of the fullest tick goes.
    """
    more: set[tuple[str, str]] = set()
    for index, name in enumerate(system.memories):
        memory = target.memory(name)
        rows = [row for row in trace[4] if row[1] == index]
        if spilled:
            rows = [row for row in rows if (system.tensors[row[0]], name) not in spilled]
        while victims := _victims(system, rows, memory):
            more.update((system.tensors[row[0]], name) for row in victims)
            rows = [row for row in rows if row not in victims]
    return frozenset(more)


def _victims(system: System, rows: Sequence[LifetimeRow], memory: Memory) -> list[LifetimeRow]:
    """The buffers that must leave `memory` first; none if it holds all of `rows`."""
    sizes = system.bytes
    alignment = memory.alignment
    columns = Demand(
        [row[2] for row in rows],
        [row[3] if row[3] > row[2] else row[2] + 1 for row in rows],
        [-(-sizes[row[0]] // alignment) * alignment for row in rows],
    )
    if sum(columns.sizes) <= memory.bytes:
        return []
    bound, tick = peak_bytes(*columns)
    if bound <= memory.bytes and _fits(columns, memory.bytes):
        return []
    alive = [(size, row) for row, size in zip(rows, columns.sizes, strict=True) if row[2] <= tick <= row[3]]
    excess = max(bound - memory.bytes, 1)
    victims = []
    for size, row in sorted(alive, key=lambda item: -item[0]):
        if excess <= 0 or not size:
            break
        victims.append(row)
        excess -= size
    return victims


def _fits(columns: Demand, capacity: int) -> bool:
    """Whether some packing stays within `capacity`; the first order that is tried usually does."""
    order = sorted(range(len(columns.sizes)), key=lambda b: -columns.sizes[b])
    return _place(order, columns)[1] <= capacity or _pack(columns)[1] <= capacity
