"""Which buffers have to leave memories that are too small for a schedule. Python twin of native/spill.c."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from h4hc.ir.system import LifetimeRow, System, TaskRow
from h4hc.passes.core.packing import climb_steps, first_fit, pack, peak_bytes
from h4hc.passes.sharing import Course, Demand, Lifetime, course_of, demand, family, merged, places


class Room(NamedTuple):
    """What addresses in a memory are multiples of, and the bytes that it has for activations."""

    alignment: int
    bytes: int


def overflowing(
    data: Mapping[str, Any],
    modes: Sequence[int],
    rows: Sequence[TaskRow],
    buffers: Sequence[LifetimeRow],
    sizes: Sequence[int],
    parts: Sequence[tuple[int, int, int, int]],
    overwrites: Sequence[tuple[int, int, int]],
    rooms: Sequence[tuple[int, int]],
    gone: Iterable[tuple[int, int]],
) -> list[tuple[int, int]]:
    """The buffers (tensor, memory) to spill so that every memory holds the rest of a schedule, in order.

    At the tick where most bytes are alive, the largest buffers go until the others fit; then the next such tick. If
    no tick is the problem but fragmentation is, the largest buffer of the fullest tick goes. What lies inside a buffer
    goes with it. `rows` and `buffers`: of a trace; `sizes`: bytes by tensor; `parts` and `overwrites`: see System;
    `rooms`: see Room, by memory; `gone`: buffers that are spilled already.
    """
    system = System(dict(data), (), (), (), (), tuple(sizes), tuple(overwrites), tuple(parts))
    course, spilled = course_of(system, modes, rows), set(gone)
    more: set[tuple[int, int]] = set()
    for memory, (alignment, size) in enumerate(rooms):
        room = Room(alignment, size)
        alive = [
            Lifetime(*row, sizes[row[0]]) for row in buffers if row[1] == memory and row[:2] not in spilled
        ]
        if sum(-(-buffer.bytes // alignment) * alignment for buffer in alive) <= size:
            continue
        while victims := _victims(system, course, alive, room):
            more.update((tensor, memory) for tensor in victims)
            alive = [buffer for buffer in alive if buffer.tensor not in victims]
    return sorted(more, key=lambda buffer: (buffer[1], buffer[0]))


def _victims(system: System, course: Course, buffers: Sequence[Lifetime], room: Room) -> set[int]:
    """The tensors whose buffers must leave a memory first; none if it holds all of `buffers`."""
    where = places(system, course, buffers)
    blocks, spans = merged(buffers, where)
    columns = demand(spans, room.alignment)
    bound, tick = peak_bytes(*columns)
    if bound <= room.bytes and _fits(columns, room.bytes):
        return set()
    excess = max(bound - room.bytes, 1)
    alive = [
        (size, b)
        for b, span, size in zip(blocks, spans, columns.sizes, strict=True)
        if span.start <= tick <= span.end
    ]
    victims: set[int] = set()
    for size, b in sorted(alive, key=lambda item: -item[0]):
        if excess <= 0 or not size:
            break
        group = family(system, buffers[b].tensor)
        if len(group) == 1:
            members = [buffer for buffer, block in zip(buffers, where.block, strict=True) if block == b]
            group = [buffer.tensor for buffer in members if buffer.start <= tick <= buffer.end]
        victims.update(group)
        excess -= size
    return victims


def _fits(columns: Demand, capacity: int) -> bool:
    """Whether some packing stays within `capacity`; the first order that is tried usually does."""
    count = len(columns.sizes)
    order = sorted(range(count), key=lambda b: -columns.sizes[b])
    if first_fit(order, *columns)[1] <= capacity:
        return True
    return pack(*columns, capacity, climb_steps(count))[1] <= capacity
