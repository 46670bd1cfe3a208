"""Bytes that a kernel moves, by memory and by what is moved, and the time that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from h4hc.ir.target import Memory

CONSTANT = frozenset({"weights", "scales", "copies"})


Place = Literal["input", "second", "output", "scratch", "weights", "own"]


class Moved(NamedTuple):
    """Bytes at the port of the memory of an operand, of the scratch space, or of the device (own), `ahead` of them
    before the kernel starts. `what` is input, second (operand), output, scratch, weights, scales or copies."""

    where: Place
    what: str
    bytes: float
    ahead: float = 0.0


class Load(NamedTuple):
    """`bytes` of something at one memory, `timed` of them while the kernel runs."""

    memory: Memory
    what: str
    bytes: float
    timed: float


def busy_seconds(loads: Iterable[Load], rate: Callable[[Memory, str], float]) -> float:
    """The time of the slowest memory: all its bytes at its bandwidth, or one kind of them at `rate`."""
    by_memory: dict[str, float] = {}
    by_kind: dict[tuple[str, str], float] = {}
    for memory, what, _, timed in loads:
        if timed:
            name = memory.name
            by_memory[name] = by_memory.get(name, 0.0) + timed / memory.bandwidth
            by_kind[name, what] = by_kind.get((name, what), 0.0) + timed / rate(memory, what)
    return max((*by_memory.values(), *by_kind.values()), default=0.0)


def bytes_by_memory(loads: Iterable[Load]) -> dict[str, float]:
    """All bytes by the name of the memory."""
    total: dict[str, float] = {}
    for load in loads:
        total[load.memory.name] = total.get(load.memory.name, 0.0) + load.bytes
    return total
