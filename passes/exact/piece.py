"""A piece of a scheduling problem with one tile per operator: what the solver gets, and the key under which it is kept.

In:  the arrays of a `System`. Out: `Piece` records, which hold integers only and depend on nothing but content, so
that equal blocks of a network, and of other networks, are solved once.

A tensor at the entry of a piece exists from tick 0 in the memory of the operator before it (the entry), or, in the
first piece, in the io memory. All that ran before the entry has finished: every queue is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isqrt
from typing import Any

ENTRY = -1


@dataclass(frozen=True, slots=True)
class Machine:
    """The devices and links of a target, as far as one frame of whole operators knows them."""

    memory: tuple[int, ...]  # per device
    io_memory: int
    handoff: int
    link_of: tuple[int, ...]  # [memory * memories + memory]
    channels: tuple[int, ...]  # per link

    @property
    def memories(self) -> int:
        """How many memories there are."""
        return isqrt(len(self.link_of))

    def link(self, source: int, destination: int) -> int:
        """The link between two different memories."""
        return self.link_of[source * self.memories + destination]


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor: who makes it (ENTRY: it is there), who reads it, whether the io memory wants it; ticks per link."""

    producer: int
    readers: tuple[int, ...]
    sink: bool
    work: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive operators. `modes`: per operator (device, ticks, resident bytes) of each alternative.

    `last`: whether the frame ends with this piece; else it ends when its last operator does. `key` is a digest of
    the content.
    """

    machine: Machine
    modes: tuple[tuple[tuple[int, int, int], ...], ...]
    tensors: tuple[Moved, ...]
    last: bool
    key: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", sha256(repr(self).encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece with the operators and tensors of the whole problem that it stands for.

    `numbers`: per operator, the mode of the whole problem behind each of the piece's modes. `tensors`: likewise.
    """

    piece: Piece
    first: int
    numbers: tuple[tuple[int, ...], ...]
    tensors: tuple[int, ...]


def machine_of(data: Mapping[str, Any]) -> Machine:
    """The machine of a `System`'s arrays."""
    return Machine(
        tuple(data["dev_memory"]),
        data["io_memory"],
        data["handoff"],
        tuple(data["link_of"]),
        tuple(data["link_channels"]),
    )


def extent(data: Mapping[str, Any], tensor: int) -> int:
    """The last operator that needs `tensor`; behind all operators if the io memory does or nobody reads it."""
    readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
    if data["sink"][tensor] or (not readers and data["producer"][tensor] >= 0):
        return int(data["operators"])
    return max(readers, default=-1)


def cut_operators(data: Mapping[str, Any]) -> list[int]:
    """The operators c that no edge jumps over: all before c are ancestors of c, all behind it descendants.

    Then everything before c, copies included, has finished when c ends, and what follows depends on the
    device of c alone. Graph inputs are edges from before the first operator, graph outputs edges to behind the last.
    """
    n = data["operators"]
    starters = [v for v in range(n) if data["in_ptr"][v] == data["in_ptr"][v + 1]]
    far = max((extent(data, t) for t in range(data["tensors"]) if data["producer"][t] < 0), default=-1)
    far = max([far, *starters[-1:]])
    cuts = []
    for v in range(n):
        if far <= v:
            cuts.append(v)
        for tensor in data["out_tensor"][data["out_ptr"][v] : data["out_ptr"][v + 1]]:
            far = max(far, extent(data, tensor))
    return cuts


def pieces_between(data: Mapping[str, Any], cuts: Sequence[int]) -> list[Placed]:
    """The pieces of the problem that end with each operator of `cuts`, and what is left behind the last."""
    machine = machine_of(data)
    made: list[list[int]] = [[] for _ in range(data["operators"] + 1)]  # by producer + 1
    for tensor, producer in enumerate(data["producer"]):
        made[producer + 1].append(tensor)
    bounds = [-1, *cuts]
    pieces = [
        take_piece(data, machine, made, a + 1, b + 1, last=False) for a, b in zip(bounds, cuts, strict=False)
    ]
    return [*pieces, take_piece(data, machine, made, bounds[-1] + 1, data["operators"], last=True)]


def take_piece(
    data: Mapping[str, Any],
    machine: Machine,
    made: Sequence[Sequence[int]],
    first: int,
    end: int,
    *,
    last: bool,
) -> Placed:
    """Operators `first` to `end` (exclusive); `made` lists the tensors of each operator, from the graph inputs on.

    Of the tensors made before `first`, those count that the operator right before it made.
    """
    modes, numbers = [], []
    for v in range(first, end):
        kept = useful_modes(data, v)
        modes.append(tuple([row[:3] for row in kept]))
        numbers.append(tuple([row[3] for row in kept]))
    moved, tensors = [], []
    for tensor in [t for group in made[first : end + 1] for t in group]:
        producer = data["producer"][tensor]
        sink = bool(data["sink"][tensor]) and last
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        inside = tuple([v - first for v in readers if first <= v < end])
        if not inside and not sink:
            continue
        work = [data["xfer_work"][link * data["tensors"] + tensor] for link in range(data["links"])]
        maker = ENTRY if producer < first else producer - first
        moved.append(Moved(maker, inside, sink, tuple(work)))
        tensors.append(tensor)
    return Placed(Piece(machine, tuple(modes), tuple(moved), last), first, tuple(numbers), tuple(tensors))


def useful_modes(data: Mapping[str, Any], v: int) -> list[tuple[int, int, int, int]]:
    """(device, ticks, resident bytes, number) of the modes of operator `v` that can be part of an optimum.

    A mode whose weights alone exceed the capacity cannot; nor can one that another mode of the same device equals or
    beats in both time and bytes.
    """
    start = data["mode_ptr"][v]
    rows = [
        (data["mode_device"][m], data["mode_work"][m], data["mode_resident"][m], m - start)
        for m in range(start, data["mode_ptr"][v + 1])
        if not data["mode_resident"][m]
        or data["mode_resident"][m] <= data["dev_capacity"][data["mode_device"][m]]
    ]
    return [row for row in rows if not any(_beats(other, row) for other in rows)]


def _beats(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether mode `a` is on the device of `b` and no worse; of equal ones the first stays."""
    return a[0] == b[0] and a[1] <= b[1] and a[2] <= b[2] and (a[1:3] != b[1:3] or a[3] < b[3])
