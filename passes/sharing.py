"""Which buffers lie inside others, and which are written over others.

Two ways to share addresses on purpose:
1. A part of a joined or divided tensor lies inside the buffer of the whole (`System.parts`), in every memory where the
   operator that joins or divides runs. The whole lives from its first writer to its last reader.
2. An operator writes its result over an input (`System.overwrites`) that nobody reads later, if nobody else still
   reads it when the operator starts. Tile by tile, what is overwritten has been read.
Buffers that share so form a block, which is placed as one. A block is of one kind: nothing is written over a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from h4hc.ir.system import System, TaskRow

WEIGHTS = -1  # in place of a tensor: fetched weights


class Lifetime(NamedTuple):
    """Root tensor and memory by index, first and last tick, and bytes."""

    tensor: int
    memory: int
    start: int
    end: int
    bytes: int


class Course(NamedTuple):
    """When and where a placement runs: per operator memory, start and end; per transfer (tensor, destination) its end."""

    memory: Sequence[int]
    start: Sequence[int]
    end: Sequence[int]
    moved: dict[tuple[int, int], int]


class Places(NamedTuple):
    """Per buffer the one that stands for its block, and bytes from the beginning of that."""

    block: list[int]
    offset: list[int]


class Demand(NamedTuple):
    """The buffers of one memory as columns. A buffer lives at least one tick, so that none share addresses by accident."""

    starts: list[int]
    ends: list[int]
    sizes: list[int]


def demand(buffers: Sequence[Lifetime], alignment: int) -> Demand:
    """`buffers` with sizes rounded up to `alignment`."""
    if not buffers:
        return Demand([], [], [])
    _, _, starts, ends, sizes = zip(*buffers, strict=True)
    return Demand(
        [*starts],
        [end if end > start else start + 1 for start, end in zip(starts, ends, strict=True)],
        [-(-size // alignment) * alignment for size in sizes],
    )


def memories_of(system: System, modes: Sequence[int]) -> list[int]:
    """The memory in which each operator works."""
    data = system.data
    pointers, device_of, memory_of = data["mode_ptr"], data["mode_device"], data["dev_memory"]
    return [memory_of[device_of[pointers[v] + mode]] for v, mode in enumerate(modes)]


def course_of(system: System, modes: Sequence[int], rows: Sequence[TaskRow]) -> Course:
    """The course of a trace."""
    count = system.data["operators"]
    start, end = [0] * count, [0] * count
    moved = {}
    for index, memory, _, begin, finish in rows:
        if memory < 0:
            start[index], end[index] = begin, finish
        else:
            moved[index, memory] = finish
    return Course(memories_of(system, modes), start, end, moved)


def places(
    system: System, course: Course, buffers: Sequence[Lifetime], stores: Sequence[object] | None = None
) -> Places:
    """Where each buffer lies in its block. `stores`: where buffers really are, if not in their memory."""
    found = Places([*range(len(buffers))], [0] * len(buffers))
    if not system.parts and not system.overwrites:
        return found
    number = _numbers(system, buffers)
    inside: dict[int, tuple[int, int]] = {}  # the next larger buffer, and bytes from its beginning
    for v, part, whole, offset in system.parts:
        i, j = number(part, course.memory[v]), number(whole, course.memory[v])
        if i >= 0 and j >= 0:
            inside[i] = j, offset
    joined = {*inside, *(outer for outer, _ in inside.values())}
    spent: set[int] = set()
    for v, old, new in system.overwrites:
        i, j = number(old, course.memory[v]), number(new, course.memory[v])
        if i < 0 or j < 0 or i in joined or j in joined or i in spent or j in inside:
            continue
        if (stores is None or stores[i] == stores[j]) and _dies(system, course, v, buffers[i], buffers[j]):
            inside[j] = i, 0
            spent.add(i)
    for i in inside:
        block, offset = i, 0
        while block in inside:
            block, step = inside[block]
            offset += step
        found.block[i], found.offset[i] = block, offset
    return found


def _numbers(system: System, buffers: Sequence[Lifetime]) -> Callable[[int, int], int]:
    """The number of the buffer of a tensor in a memory, -1 if there is none."""
    memories: int = system.data["memories"]
    known = {tensor * memories + memory: i for i, (tensor, memory, _, _, _) in enumerate(buffers)}
    return lambda tensor, memory: known.get(tensor * memories + memory, -1)


def _dies(system: System, course: Course, v: int, old: Lifetime, new: Lifetime) -> bool:
    """Whether operator `v` is the last to use `old`, and `new` fits in its place."""
    data, here, begin = system.data, old.memory, course.start[v]
    home = data["io_memory"]
    producer = data["producer"][old.tensor]
    if producer >= 0:
        home = course.memory[producer]
    kept = here == data["io_memory"] and (producer < 0 or data["sink"][old.tensor])
    if kept or old.bytes != new.bytes or not old.bytes or old.start >= begin:
        return False
    for u in data["cons_op"][data["cons_ptr"][old.tensor] : data["cons_ptr"][old.tensor + 1]]:
        if u != v and course.memory[u] == here and not (course.start[u] < begin and course.end[u] <= begin):
            return False
    if here != home:
        return True
    return all(
        course.moved.get((old.tensor, memory), 0) <= begin
        for memory in range(data["memories"])
        if memory != here
    )


def merged(buffers: Sequence[Lifetime], where: Places) -> tuple[list[int], list[Lifetime]]:
    """The buffers that stand for blocks, by number, and for each the lifetime of the block."""
    span = {block: buffers[block] for block in where.block}
    for i, block in enumerate(where.block):
        if block != i:
            span[block] = _covering(span[block], buffers[i])
    return [*span], [*span.values()]


def _covering(outer: Lifetime, inner: Lifetime) -> Lifetime:
    """`outer`, living at least as long as `inner`."""
    tensor, memory, start, end, size = outer
    _, _, begin, finish, _ = inner
    if start <= begin and finish <= end:
        return outer
    return Lifetime(tensor, memory, min(start, begin), max(end, finish), size)


def widened(system: System, course: Course, buffers: Sequence[Lifetime]) -> list[Lifetime]:
    """`buffers`, those that hold parts living from the first to the last of them."""
    result = list(buffers)
    if not system.parts:
        return result
    number = _numbers(system, buffers)
    for v, part, whole, _ in system.parts:
        i, j = number(part, course.memory[v]), number(whole, course.memory[v])
        if i >= 0 and j >= 0:
            inner, outer = result[i], result[j]
            result[j] = _covering(outer, inner)
    return result


def family(system: System, tensor: int) -> list[int]:
    """`tensor` and all that it holds, lies in, or shares a whole with."""
    joined: dict[int, list[int]] = {}
    for _, part, whole, _ in system.parts:
        joined.setdefault(part, []).append(whole)
        joined.setdefault(whole, []).append(part)
    found, waiting = {tensor: None}, [tensor]
    while waiting:
        for other in joined.get(waiting.pop(), ()):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return list(found)
