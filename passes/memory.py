"""Which buffers exist when, and where they fit.

A buffer is a root tensor in one memory: where its producer writes it, and where each transfer copies it.
It lives from the start of the task that writes it (graph inputs: from tick 0) to the end of the last task that
reads it (graph outputs in the io memory: to the end of the frame).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from h4hc.ir.compilation import Compilation
from h4hc.ir.system import LifetimeRow, System, Trace
from h4hc.ir.target import Memory, Target
from h4hc.passes.core import Problem, pack_within, peak_bytes
from h4hc.passes.core import pack as first_fits
from h4hc.passes.core.packing import climb_steps
from h4hc.passes.sharing import Demand, Lifetime, course_of, demand, family, merged, places

NODES = {"fast": 4000, "balanced": 10_000, "exact": 100_000}  # of exact packing, by effort
_STEPS = 6  # capacities that exact packing tries
_EXACT_LIMIT = 400  # buffers


def lifetimes(system: System, rows: Sequence[LifetimeRow]) -> list[Lifetime]:
    """The buffers of the trace rows (tensor, memory, start, end), with their sizes."""
    sizes = system.bytes
    return [Lifetime(tensor, memory, start, end, sizes[tensor]) for tensor, memory, start, end in rows]


def pack(
    buffers: Sequence[Lifetime], alignment: int, nodes: int = 0, enough: int = 0
) -> tuple[list[int], int, int]:
    """Offsets, peak and lower bound: first fit in five orders, then a short climb over orders.

    If that stays above the bound, branch and bound of up to `nodes` nodes. A peak of `enough` bytes ends the search.
    """
    columns = demand(buffers, alignment)
    offsets, peak, bound = first_fits(*columns, enough, climb_steps(len(buffers)))
    if nodes and bound < peak and len(offsets) <= _EXACT_LIMIT:
        offsets, peak = _pack_exactly(columns, offsets, peak, bound, alignment, nodes)
    return offsets, peak, bound


def _pack_exactly(
    columns: Demand, offsets: list[int], peak: int, bound: int, alignment: int, nodes: int
) -> tuple[list[int], int]:
    starts, ends, sizes = columns
    moments = sorted(set(starts))
    first = [bisect_left(moments, start) for start in starts]
    count = [bisect_left(moments, end) - begin for begin, end in zip(first, ends, strict=True)]
    found = least_peak(Sections(first, count, sizes, len(moments)), bound, peak, alignment, nodes)
    return (offsets, peak) if found is None else found


class Sections(NamedTuple):
    """Buffers that live for `count` sections from `first` of a circle of `sections`."""

    first: list[int]
    counts: list[int]
    sizes: list[int]
    sections: int


def least_peak(
    items: Sections, bound: int, peak: int, alignment: int, nodes: int
) -> tuple[list[int], int] | None:
    """Offsets and a peak below `peak`, as close to `bound` as about `nodes` nodes per step allow; None if none is found.

    First `bound` itself is tried, then the middle of what is left: above the last capacity that failed.
    """
    chosen = [b for b, size in enumerate(items.sizes) if size]
    first, counts, sizes = ([column[b] for b in chosen] for column in items[:3])
    low, best = bound, None
    for step in range(_STEPS):
        if low >= peak:
            break
        capacity = low + (peak - low) // 2 // alignment * alignment if step else bound
        status, found = -1, list[int]()
        for order, budget in _attempts(first, counts, sizes, nodes):
            status, found = pack_within(order, first, counts, sizes, items.sections, capacity, budget)
            if status >= 0:
                break
        if status == 1:
            offsets = [0] * len(items.sizes)
            for b, offset in zip(chosen, found, strict=True):
                offsets[b] = offset
            peak = max(offset + size for offset, size in zip(offsets, items.sizes, strict=True))
            best = offsets, peak
        else:
            low = capacity + alignment
    return best


def _attempts(
    first: Sequence[int], counts: Sequence[int], sizes: Sequence[int], nodes: int
) -> Iterator[tuple[list[int], int]]:
    """Orders in which to try buffers, each with its share of `nodes`.

    Many shallow searches find more than one deep one: long-lived first, large areas first, early ones first, and then
    the first two with weights that vary by up to a half, always the same ones. The last search is a deep one.
    """
    numbers = range(len(sizes))
    yield sorted(numbers, key=lambda b: (-counts[b], -sizes[b])), 2 * len(sizes)
    yield sorted(numbers, key=lambda b: (-counts[b] * sizes[b], first[b])), 2 * len(sizes)
    yield sorted(numbers, key=lambda b: (first[b], -sizes[b])), 2 * len(sizes)
    state = 1
    for number in range(nodes // (2 * len(sizes) + 1)):
        weights = []
        for b in numbers:
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            weights.append((64 + (state >> 16) % 64) * counts[b] * (sizes[b] if number % 2 else 1))
        yield sorted(numbers, key=lambda b, w=weights: (-w[b], b)), 2 * len(sizes)  # type: ignore[misc]
    yield sorted(numbers, key=lambda b: (-counts[b], -sizes[b])), nodes


def oversized(system: System, target: Target) -> frozenset[tuple[str, str]]:
    """The (tensor, memory) pairs of tensors that alone exceed a memory with a backing memory, and of their parts."""
    backed = {device.memory for device in target.devices if device.spill}
    largest = max(system.bytes, default=0)
    return frozenset(
        (system.tensors[member], memory)
        for memory in system.memories
        if memory in backed and largest > target.memory(memory).bytes
        for tensor, size in enumerate(system.bytes)
        if size > target.memory(memory).bytes
        for member in (family(system, tensor) if system.parts else (tensor,))
    )


def overflowing(
    system: System,
    problem: Problem,
    modes: Sequence[int],
    trace: Trace,
    target: Target,
    spilled: frozenset[tuple[str, str]],
) -> frozenset[tuple[str, str]]:
    """Buffers to spill so that the memories hold the rest of this schedule (see h4hc.passes.core.spilling)."""
    held = weight_bytes(system, modes, target)
    memories = [target.memory(name) for name in system.memories]
    rooms = [(memory.alignment, memory.bytes - held.get(memory.name, 0)) for memory in memories]
    gone = list[tuple[int, int]]()
    if spilled:
        index = {name: tensor for tensor, name in enumerate(system.tensors)}
        gone = [(index[name], system.memories.index(memory)) for name, memory in spilled]
    shared = system.bytes, system.parts, system.overwrites
    found = problem.overflowing(modes, trace[3], trace[4], *shared, rooms, gone)
    return frozenset([(system.tensors[tensor], system.memories[memory]) for tensor, memory in found])


def aligned(size: int, memory: Memory) -> int:
    """The bytes that `size` of them take in `memory`."""
    return -(-size // memory.alignment) * memory.alignment


def stores_of(
    compilation: Compilation, system: System, buffers: Sequence[LifetimeRow | Lifetime]
) -> list[str]:
    """The memory that holds each buffer: its own, or the backing one if it is spilled."""
    placement, target = compilation.placement, compilation.target
    if placement is None:
        raise ValueError("buffers lie somewhere once there is a placement")
    if not placement.spilled:
        return [system.memories[row[1]] for row in buffers]
    backing = {device.memory: device.spill for device in target.devices if device.spill}
    names = [(system.tensors[row[0]], system.memories[row[1]]) for row in buffers]
    return [backing[name[1]] if name in placement.spilled else name[1] for name in names]


def weight_bytes(system: System, modes: Sequence[int], target: Target) -> dict[str, int]:
    """Bytes of weights that each memory of activations holds; resident weights lie in their device instead."""
    data, held = system.data, dict[str, int]()
    holders = [target.device(name).weights for name in system.devices]
    if not set(holders).intersection(system.memories):
        return held
    for v, mode in enumerate(modes):
        m = data["mode_ptr"][v] + mode
        holder = holders[data["mode_device"][m]]
        if holder in system.memories and not data["mode_resident"][m]:
            held[holder] = held.get(holder, 0) + system.weights[v]
    return held


class Need(NamedTuple):
    """Bytes that the buffers of a memory need at least at some tick, and the room there is beside weights."""

    memory: str
    bound: int
    room: int


def usage(system: System, modes: Sequence[int], trace: Trace, target: Target) -> list[Need]:
    """What a schedule without spilled buffers needs of each memory."""
    held = weight_bytes(system, modes, target)
    course = course_of(system, modes, trace[3])
    needs = []
    for index, name in enumerate(system.memories):
        memory = target.memory(name)
        buffers = lifetimes(system, [row for row in trace[4] if row[1] == index])
        _, spans = merged(buffers, places(system, course, buffers))
        bound, _ = peak_bytes(*demand(spans, memory.alignment))
        needs.append(Need(name, bound, memory.bytes - held.get(name, 0)))
    return needs
