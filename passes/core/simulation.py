"""One evaluation: list scheduling with streamed tiles. Python twin of native/simulate.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from h4hc.ir.system import LifetimeRow, TaskRow

_HIGHEST = (1 << 64) - 1  # the rank of a transfer


@dataclass(slots=True)
class Queues:
    """When each device, and each channel of each link, is free."""

    devices: list[int]
    channels: list[list[int]]


def empty_queues(data: Mapping[str, Any]) -> Queues:
    """Nothing has run yet."""
    return Queues([0] * data["devices"], [[0] * count for count in data["link_channels"]])


class Simulation:
    """One evaluation: list scheduling in which each task starts as early as its queue and its waits allow.

    Among the tasks whose inputs are scheduled, the one that can run without stalling first goes next; ties go to the
    higher rank, transfers first. See h4hc.ir.schedule for what a tile is.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        modes: Sequence[int],
        tiles: Sequence[int],
        queues: Queues | None = None,
        released: int = 0,
    ) -> None:
        """`queues`: shared with other frames; `released`: no task starts before."""
        self.d = data
        self.n: int = data["operators"]
        self.nt: int = data["tensors"]
        self.nm: int = data["memories"]
        self.io_memory: int = data["io_memory"]
        self.tiles = tiles
        self.queues = queues or empty_queues(data)
        self.released = released
        pointers = self.d["mode_ptr"]
        self.mode = [pointers[v] + modes[v] for v in range(self.n)]
        self.device = [self.d["mode_device"][m] for m in self.mode]
        self.memory = [self.d["dev_memory"][d] for d in self.device]
        self.op_tiles: list[list[int]] = [[] for _ in range(self.n)]
        self.op_start = [0] * self.n
        self.transfers: dict[int, tuple[list[int], int, int]] = {}  # tile ends, start, channel
        self.wanted: set[int] = set()
        self.waiting = [self.d["in_ptr"][v + 1] - self.d["in_ptr"][v] for v in range(self.n)]
        self.keys: dict[int, int | None] = {v: None for v in range(self.n) if not self.waiting[v]}
        self.order: list[int] = []
        self.latency = self.energy = self.used = 0
        self.busy: dict[tuple[int, ...], int] = {}  # work by device, or by link and channel
        for tensor in range(self.nt):
            if self.d["producer"][tensor] < 0:
                self._produced(tensor)

    @property
    def busiest(self) -> int:
        """The work of the busiest device or channel."""
        return max(self.busy.values(), default=0)

    def run(self) -> Simulation:
        """Schedule every task."""
        while self.keys:
            self.commit(min(self.keys, key=self.precedence))
        return self

    def precedence(self, c: int) -> tuple[int, int, int]:
        """The candidate for which this is least goes next."""
        key = self.keys[c]
        if key is None:
            key = self.keys[c] = self._stall_free_start(c)
        return key, -(self.d["rank"][c] if c < self.n else _HIGHEST), c

    def forget(self, device: int | None) -> None:
        """The device (None: a channel) runs something else first: when could its candidates start?"""
        for c in self.keys:
            if (self.device[c] if c < self.n else None) == device:
                self.keys[c] = None

    def rows(self) -> list[TaskRow]:
        """The tasks in scheduling order (see `Problem.trace`)."""
        n, nm = self.n, self.nm
        result = []
        for c in self.order:
            if c < n:
                result.append((c, -1, -1, self.op_start[c], self.op_tiles[c][-1]))
            else:
                ends, start, channel = self.transfers[c - n]
                result.append(((c - n) // nm, (c - n) % nm, channel, start, ends[-1]))
        return result

    def lifetimes(self) -> list[LifetimeRow]:
        """The buffers by tensor and memory (see `Problem.trace`)."""
        d, nm = self.d, self.nm
        spans: dict[tuple[int, int], list[int]] = {}
        for tensor, producer in enumerate(d["producer"]):
            span = [0, 0] if producer < 0 else [self.op_start[producer], self.op_tiles[producer][-1]]
            spans[tensor, self._source_memory(tensor)] = span
        for x, (ends, start, _) in self.transfers.items():
            spans[divmod(x, nm)] = [start, ends[-1]]
        for x, (ends, _, _) in self.transfers.items():
            span = spans[x // nm, self._source_memory(x // nm)]
            span[1] = max(span[1], ends[-1])
        for v in range(self.n):
            for e in range(d["in_ptr"][v], d["in_ptr"][v + 1]):
                span = spans[d["in_tensor"][e], self.memory[v]]
                span[1] = max(span[1], self.op_tiles[v][-1])
        for tensor, sink in enumerate(d["sink"]):
            if sink:
                spans[tensor, self.io_memory][1] = self.latency
        return [(tensor, memory, first, last) for (tensor, memory), (first, last) in sorted(spans.items())]

    def commit(self, c: int) -> None:
        """Run candidate `c` next."""
        del self.keys[c]
        self.order.append(c)
        if c < self.n:
            self._commit_operator(c)
        else:
            self._commit_transfer(c - self.n)

    def follow(self, order: Sequence[int]) -> Simulation:
        """Schedule every task, in the given order."""
        n, last = self.n, self.n + self.nt * self.nm
        for c in order:
            if not 0 <= c < last:
                raise ValueError(f"order: {c} is no task")
            if c >= n:
                if c in self.keys:
                    self.commit(c)
                continue
            for e in range(self.d["in_ptr"][c], self.d["in_ptr"][c + 1]):
                copy = n + self.d["in_tensor"][e] * self.nm + self.memory[c]
                if copy in self.keys:
                    self.commit(copy)
            if c not in self.keys:
                raise ValueError(f"order: operator {c} comes twice or before one that it reads from")
            self.commit(c)
        for c in sorted(c for c in self.keys if c >= n):
            self.commit(c)
        if sum(c < n for c in self.order) < n:
            raise ValueError("order: an operator is missing")
        return self

    def _stall_free_start(self, c: int) -> int:
        if c < self.n:
            return self._run_operator(c)[0][-1] - self.operator_work(c)
        ends, _, _, work = self._run_transfer(c - self.n)
        return ends[-1] - work

    def _commit_operator(self, v: int) -> None:
        device = self.device[v]
        self.op_tiles[v], self.op_start[v] = self._run_operator(v)
        end = self.op_tiles[v][-1]
        self.queues.devices[device] = end
        self.latency = max(self.latency, end)
        self.energy += self.d["mode_energy"][self.mode[v]]
        self.used |= 1 << device
        self.busy[device,] = self.busy.get((device,), 0) + self.operator_work(v)
        self.forget(device)
        for i in range(self.d["out_ptr"][v], self.d["out_ptr"][v + 1]):
            self._produced(self.d["out_tensor"][i])

    def _commit_transfer(self, x: int) -> None:
        tensor, memory = divmod(x, self.nm)
        link = self._link(tensor, memory)
        ends, start, channel, work = self._run_transfer(x)
        self.transfers[x] = ends, start, channel
        self.queues.channels[link][channel] = ends[-1]
        self.latency = max(self.latency, ends[-1])
        self.energy += self.d["xfer_energy"][link * self.nt + tensor]
        self.busy[link, channel] = self.busy.get((link, channel), 0) + work
        self.forget(None)
        self._arrived(tensor, memory)

    def _source_memory(self, tensor: int) -> int:
        producer: int = self.d["producer"][tensor]
        return self.io_memory if producer < 0 else self.memory[producer]

    def _link(self, tensor: int, memory: int) -> int:
        link: int = self.d["link_of"][self._source_memory(tensor) * self.nm + memory]
        return link

    def _readers(self, tensor: int) -> Sequence[int]:
        readers: Sequence[int] = self.d["cons_op"][
            self.d["cons_ptr"][tensor] : self.d["cons_ptr"][tensor + 1]
        ]
        return readers

    def _arrived(self, tensor: int, memory: int) -> None:
        for v in self._readers(tensor):
            if self.memory[v] == memory:
                self.waiting[v] -= 1
                if not self.waiting[v]:
                    self.keys[v] = None

    def _produced(self, tensor: int) -> None:
        home = self._source_memory(tensor)
        self._arrived(tensor, home)
        memories = [self.memory[v] for v in self._readers(tensor)]
        if self.d["sink"][tensor]:
            memories.append(self.io_memory)
        for memory in memories:
            x = tensor * self.nm + memory
            if memory != home and x not in self.wanted:
                self.wanted.add(x)
                self.keys[self.n + x] = None

    def source_of(self, e: int, v: int) -> int:
        """The task that input `e` of operator `v` comes from: an operator, or operators + transfer; -1: none."""
        tensor = self.d["in_tensor"][e]
        if self._source_memory(tensor) != self.memory[v]:
            return int(self.n + tensor * self.nm + self.memory[v])
        return int(self.d["producer"][tensor])

    def transfer_work(self, x: int) -> tuple[int, int]:
        """Link and ticks of a transfer."""
        tensor, memory = divmod(x, self.nm)
        link, producer = self._link(tensor, memory), self.d["producer"][tensor]
        tiles = 1 if producer < 0 else self.tiles[producer]
        return link, int(
            self.d["xfer_work"][link * self.nt + tensor] + (tiles - 1) * self.d["link_overhead"][link]
        )

    def operator_work(self, v: int) -> int:
        """Ticks of an operator."""
        work: int = self.d["mode_work"][self.mode[v]]
        return work + (self.tiles[v] - 1) * int(self.d["dev_overhead"][self.device[v]])

    def _run_operator(self, v: int) -> tuple[list[int], int]:
        d, device, memory = self.d, self.device[v], self.memory[v]
        tiles, work = self.tiles[v], self.operator_work(v)
        sources = []
        for e in range(d["in_ptr"][v], d["in_ptr"][v + 1]):
            tensor = d["in_tensor"][e]
            producer = d["producer"][tensor]
            if self._source_memory(tensor) != memory:
                sources.append((self.transfers[tensor * self.nm + memory][0], 0, e, producer))
            elif producer >= 0:
                latency = int(self.d["handoff"]) if self.device[producer] != device else 0
                sources.append((self.op_tiles[producer], latency, e, producer))
        now = max(self.queues.devices[device], self.released)
        start, ends = now, []
        for k in range(tiles):
            begin = now
            for source, latency, e, producer in sources:
                count = tiles_needed(d, e, v, producer, k, tiles, len(source))
                if count:
                    begin = max(begin, source[count - 1] + latency)
            if k == 0:
                start = begin
            now = begin + work * (k + 1) // tiles - work * k // tiles
            ends.append(now)
        return ends, start

    def _run_transfer(self, x: int) -> tuple[list[int], int, int, int]:
        link, work = self.transfer_work(x)
        producer = self.d["producer"][x // self.nm]
        tiles = 1 if producer < 0 else self.tiles[producer]
        free = self.queues.channels[link]
        channel = free.index(min(free))
        now = max(free[channel], self.released)
        start, ends = now, []
        for k in range(tiles):
            begin = now if producer < 0 else max(now, self.op_tiles[producer][k])
            if k == 0:
                start = begin
            now = begin + work * (k + 1) // tiles - work * k // tiles
            ends.append(now)
        return ends, start, channel, work


def tiles_needed(d: Mapping[str, Any], e: int, v: int, producer: int, k: int, tiles: int, count: int) -> int:
    """How many of the `count` tiles of the source of input `e` tile `k` (of `tiles`) of operator `v` needs."""
    if count == 1 or not d["in_rows"][e]:
        return count
    made_rows = d["rows"][producer]
    out_rows = (k + 1) * d["rows"][v] // tiles
    rows = (out_rows - 1) * d["in_stride"][e] - d["in_pad"][e] + d["in_window"][e]
    rows = max(0, min(rows, d["in_rows"][e]))
    made = -(-rows * made_rows // d["in_rows"][e])
    return int(-(-made * count // made_rows))
