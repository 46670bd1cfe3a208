"""A bound on the latency of any schedule, however finely operators stream: the longest path of least times.

Each operator has two points per mode, the ends of its first and of its last tile. With T tiles of equal work the first
tile takes at least work // T, and so does the last. A reader that streams starts after the first tile of what it
reads and does its last tile after the last; one that needs its whole input starts after the end. A copy in chunks adds a
chunk. Each step takes the best mode of the operator before, so the bound holds for every placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h4hc.passes.core.reference import MAX_TILES
from h4hc.passes.exact.piece import Machine, machine_of


def critical_path(data: Mapping[str, Any]) -> int:
    """Ticks that no schedule of `data` can be faster than."""
    machine = machine_of(data)
    paths = _Paths(data, machine)
    for v in range(data["operators"]):
        paths.visit(v)
    return max([min(paths.end[v]) for v in range(data["operators"])] + paths.outputs(), default=0)


class _Paths:
    """Least ticks per operator and mode: `first` to the end of its first tile, `end` to that of its last."""

    def __init__(self, data: Mapping[str, Any], machine: Machine) -> None:
        self.data = data
        self.machine = machine
        self.first: list[list[int]] = []
        self.end: list[list[int]] = []

    def _finest(self, v: int) -> int:
        rows: int = self.data["rows"][v]
        return max(1, min(MAX_TILES, rows))

    def visit(self, v: int) -> None:
        """Add operator `v`; those it reads from have been visited."""
        data, tiles = self.data, self._finest(v)
        firsts, ends = [], []
        for m in range(data["mode_ptr"][v], data["mode_ptr"][v + 1]):
            work = data["mode_work"][m]
            start, last = 0, 0
            for e in range(data["in_ptr"][v], data["in_ptr"][v + 1]):
                begins, finishes = self._input(v, e, data["mode_device"][m])
                start, last = max(start, begins), max(last, finishes)
            firsts.append(start + work // tiles)
            ends.append(max(start + work, last + work // tiles))
        self.first.append(firsts)
        self.end.append(ends)

    def _input(self, v: int, e: int, device: int) -> tuple[int, int]:
        """When the first and the last tile of `v` on `device` can start for input `e`."""
        data = self.data
        tensor = data["in_tensor"][e]
        producer = data["producer"][tensor]
        memory = data["dev_memory"][device]
        if producer < 0:
            ready = self._chunk(tensor, data["io_memory"], memory, 1)
            return ready, ready
        streams = data["in_rows"][e] > 0 and self._finest(producer) > 1
        begins, finishes = [], []
        for p, m in enumerate(range(data["mode_ptr"][producer], data["mode_ptr"][producer + 1])):
            other = data["mode_device"][m]
            chunk = self._chunk(tensor, data["dev_memory"][other], memory, self._finest(producer))
            here = data["dev_memory"][other] == memory
            chunk += data["handoff"] if here and other != device else 0
            end = self.end[producer][p] + chunk
            if not streams:
                begins.append(end)
                finishes.append(end)
                continue
            begins.append(self.first[producer][p] + chunk if data["in_window"][e] > data["in_pad"][e] else 0)
            finishes.append(end if self._needs_all(v, e, producer) else 0)
        return min(begins), min(finishes)

    def _needs_all(self, v: int, e: int, producer: int) -> bool:
        """Whether the last tile of `v` reads the last rows of what `producer` makes."""
        data = self.data
        rows = (data["rows"][v] - 1) * data["in_stride"][e] - data["in_pad"][e] + data["in_window"][e]
        rows = max(0, min(rows, data["in_rows"][e]))
        return bool(rows * data["rows"][producer] > (data["rows"][producer] - 1) * data["in_rows"][e])

    def _chunk(self, tensor: int, source: int, destination: int, tiles: int) -> int:
        """Ticks of the smallest chunk of a copy."""
        if source == destination:
            return 0
        link = self.machine.link(source, destination)
        return int(self.data["xfer_work"][link * self.data["tensors"] + tensor] // tiles)

    def outputs(self) -> list[int]:
        """When each output can be in the io memory."""
        data, io = self.data, self.data["io_memory"]
        found = []
        for tensor, sink in enumerate(data["sink"]):
            producer = data["producer"][tensor]
            if sink and producer >= 0:
                modes = range(data["mode_ptr"][producer], data["mode_ptr"][producer + 1])
                memories = [data["dev_memory"][data["mode_device"][m]] for m in modes]
                tiles = self._finest(producer)
                found.append(
                    min(
                        end + self._chunk(tensor, memory, io, tiles)
                        for end, memory in zip(self.end[producer], memories, strict=True)
                    )
                )
        return found
