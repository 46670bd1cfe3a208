"""Which buffers exist when, and where they fit.

A buffer is a root tensor in one memory: where its producer writes it, and where each transfer copies it.
It lives from the start of the task that writes it (graph inputs: from tick 0) to the end of the last task that
reads it (graph outputs in the io memory: to the end of the frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from h4hc.ir.target import Target
from h4hc.passes.core import first_fit
from h4hc.passes.core.reference import Trace
from h4hc.passes.problem import System

_CLIMB_STEPS = 400


class Lifetime(NamedTuple):
    """Root tensor and memory by index, first and last tick, and bytes."""

    tensor: int
    memory: int
    start: int
    end: int
    bytes: int


def lifetimes(system: System, trace: Trace) -> list[Lifetime]:
    """The buffers of a schedule, in the order of tensors and memories."""
    sizes = system.bytes
    return [
        Lifetime(tensor, memory, start, end, sizes[tensor]) for tensor, memory, start, end in trace[4]
    ]


def lower_bound(buffers: Sequence[Lifetime], alignment: int) -> tuple[int, int]:
    """The most bytes alive at once, and the first tick at which they are."""
    events: list[tuple[int, int]] = []
    for buffer in buffers:
        size = aligned(buffer.bytes, alignment)
        events.append((buffer.start, size))
        events.append((max(buffer.end, buffer.start + 1), -size))
    events.sort()
    live = best = at = 0
    for tick, change in events:
        live += change
        if live > best:
            best, at = live, tick
    return best, at


def aligned(size: int, alignment: int) -> int:
    """`size` rounded up to `alignment`."""
    return -(-size // alignment) * alignment


def pack(buffers: Sequence[Lifetime], alignment: int) -> tuple[list[int], int, int]:
    """Offsets, peak and lower bound: first fit in five orders, then a short climb over orders.

    Buffers are taken to live at least one tick, so that even empty lifetimes do not share addresses.
    """
    sizes = [aligned(buffer.bytes, alignment) for buffer in buffers]
    starts = [buffer.start for buffer in buffers]
    ends = [max(buffer.end, buffer.start + 1) for buffer in buffers]
    bound, _ = lower_bound(buffers, alignment)
    everyone = range(len(buffers))
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
        order = sorted(everyone, key=key)
        offsets, peak = _place(order, starts, ends, sizes)
        if best_peak < 0 or peak < best_peak:
            best, best_offsets, best_peak = order, offsets, peak
        if best_peak <= bound:
            return best_offsets, max(best_peak, 0), bound
    if len(buffers) <= 2000:
        best_offsets, best_peak = _climb(best, best_offsets, best_peak, bound, (starts, ends, sizes))
    return best_offsets, max(best_peak, 0), bound


def _place(
    order: Sequence[int], starts: Sequence[int], ends: Sequence[int], sizes: Sequence[int]
) -> tuple[list[int], int]:
    offsets = first_fit(order, starts, ends, sizes)
    return offsets, max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)


def _climb(
    order: list[int],
    offsets: list[int],
    peak: int,
    bound: int,
    buffers: tuple[list[int], list[int], list[int]],
) -> tuple[list[int], int]:
    """Move a buffer that touches the peak to the front of the order while that helps (as Vela's allocator does)."""
    sizes = buffers[2]
    for step in range(_CLIMB_STEPS):
        top = [b for b in order if offsets[b] + sizes[b] == peak]
        chosen = top[step % len(top)]
        place = order.index(chosen)
        target = place * (step % 7) // 7
        trial = [*order[:target], chosen, *order[target:place], *order[place + 1 :]]
        trial_offsets, trial_peak = _place(trial, *buffers)
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
    """Buffers to spill so that a memory that is too small now comes closer to holding the rest.

    At the tick where most bytes are alive, the largest buffers go until the others fit; if that tick is not the
    problem but fragmentation is, the largest buffer goes.
    """
    buffers = lifetimes(system, trace)
    more: set[tuple[str, str]] = set()
    for index, name in enumerate(system.memories):
        memory = target.memory(name)
        here = [
            b for b in buffers if b.memory == index and b.bytes and (system.tensors[b.tensor], name) not in spilled
        ]
        if sum(aligned(b.bytes, memory.alignment) for b in here) <= memory.bytes:
            continue
        bound, tick = lower_bound(here, memory.alignment)
        if bound <= memory.bytes and pack(here, memory.alignment)[1] <= memory.bytes:
            continue
        alive = sorted((b for b in here if b.start <= tick < max(b.end, b.start + 1)), key=lambda b: -b.bytes)
        excess = max(bound - memory.bytes, 1)
        for buffer in alive:
            if excess <= 0:
                break
            more.add((system.tensors[buffer.tensor], name))
            excess -= aligned(buffer.bytes, memory.alignment)
    return frozenset(more)
