"""What the tasks of a trace do. Python twin of native/contents.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from h4hc.ir.schedule import Wait
from h4hc.ir.system import Content, LifetimeRow, TaskRow
from h4hc.passes.core.simulation import tiles_needed


class Contents:
    """The tasks of a trace, and what they make of its buffers. A copy goes by tensor * memories + memory."""

    def __init__(
        self,
        data: Mapping[str, Any],
        modes: Sequence[int],
        tiles: Sequence[int],
        rows: Sequence[TaskRow],
        buffers: Sequence[LifetimeRow],
        wait: Wait,
    ) -> None:
        """`wait`: of which all waits are copies, but for task, counts and latency."""
        self.d, self.tiles = data, tiles
        self.memories: int = data["memories"]
        self.mode = [data["mode_ptr"][v] + mode for v, mode in enumerate(modes)]
        self.device = [data["mode_device"][m] for m in self.mode]
        self.rows = rows
        self.wait = wait
        self.task_of = {row[0]: i for i, row in enumerate(rows) if row[1] < 0}
        self.copy_of = {row[0] * self.memories + row[1]: i for i, row in enumerate(rows) if row[1] >= 0}
        self.buffer_of = {row[0] * self.memories + row[1]: i for i, row in enumerate(buffers)}

    def all(self) -> list[Content]:
        """By task, in the order of the trace."""
        return [
            self._operator(index) if memory < 0 else self._transfer(index, memory)
            for index, memory, _, _, _ in self.rows
        ]

    def _home(self, tensor: int) -> int:
        producer = self.d["producer"][tensor]
        home: int = self.d["io_memory"] if producer < 0 else self.d["dev_memory"][self.device[producer]]
        return home

    def _operator(self, v: int) -> Content:
        d, device, tiles = self.d, self.device[v], self.tiles[v]
        here = d["dev_memory"][device]
        reads = d["in_tensor"][d["in_ptr"][v] : d["in_ptr"][v + 1]]
        writes = d["out_tensor"][d["out_ptr"][v] : d["out_ptr"][v + 1]]
        waits = list[Wait]()
        for e, tensor in enumerate(reads, d["in_ptr"][v]):
            producer, latency = d["producer"][tensor], 0
            if self._home(tensor) != here:
                source = self.copy_of[tensor * self.memories + here]
            elif producer >= 0:
                source = self.task_of[producer]
                latency = d["handoff"] if self.device[producer] != device else 0
            else:
                continue
            made = 1 if producer < 0 else self.tiles[producer]
            counts = tuple([tiles_needed(d, e, v, producer, k, tiles, made) for k in range(tiles)])
            waits.append(self.wait._replace(task=source, counts=counts, latency=latency))
        m = self.mode[v]
        return (
            device, d["mode_work"][m] + (tiles - 1) * d["dev_overhead"][device], tiles, d["mode_energy"][m],
            tuple(waits),
            tuple([self.buffer_of[tensor * self.memories + here] for tensor in reads]),
            tuple([self.buffer_of[tensor * self.memories + here] for tensor in writes]),
        )  # fmt: skip

    def _transfer(self, tensor: int, memory: int) -> Content:
        d, producer, home = self.d, self.d["producer"][tensor], self._home(tensor)
        link = d["link_of"][home * self.memories + memory]
        at, place = link * d["tensors"] + tensor, tensor * self.memories
        tiles = 1 if producer < 0 else self.tiles[producer]
        waits = list[Wait]()
        if producer >= 0:
            counts = tuple(range(1, tiles + 1))
            waits.append(self.wait._replace(task=self.task_of[producer], counts=counts, latency=0))
        return (
            link, d["xfer_work"][at] + (tiles - 1) * d["link_overhead"][link], tiles, d["xfer_energy"][at],
            tuple(waits), (self.buffer_of[place + home],), (self.buffer_of[place + memory],),
        )  # fmt: skip
