"""The interval of a placement whose tasks keep the order that they had in another one: Python twin of native/tune.c.

The list scheduler of the closed loop answers to a small change with another order, most often a worse one. Here all tasks of
a placement stay where they are in the list that every window runs: what moves keeps its moment on another device, and a new
transfer goes when its first tile is made. That is also four times as fast, because nothing but the windows is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from h4hc.passes.core.climbing import Mover
from h4hc.passes.core.frames import Entry, growth, list_entries, offsets_of, runs_of
from h4hc.passes.core.room import Run, Window
from h4hc.passes.core.simulation import Simulation

SHIFTS = 8  # one move in so many is one in time
LONGEST = 16  # operators that move together in time


class Tuned(NamedTuple):
    """When the tasks of a frame start, and the ticks between frames."""

    starts: dict[int, int]
    interval: int


class Tuning:
    """The placement at hand, the one that was just rated, and the best one."""

    def __init__(
        self, data: Mapping[str, Any], modes: Sequence[int], tiles: Sequence[int], start: Tuned, frames: int
    ) -> None:
        """Set out from the order of `start`, once run: what settles slowly is not taken for better than it is."""
        self.data, self.frames = data, frames
        self.current = self.next = self.best = start
        # Operators, and ticks by which they and the transfers of their results start later.
        self.shift = range(0), 0
        self.rate(modes, tiles, 0.0)
        self.current = self.next

    def rate(self, modes: Sequence[int], tiles: Sequence[int], limit: float) -> tuple[int, float, int]:
        """Interval, price of bytes without room in ticks, and latency of a placement in the order at hand.

        The price is left out where the interval alone is above `limit`.
        """
        data = self.data
        frame = Simulation(data, modes, tiles)
        frame.transfers = {x: ([], 0, self._channel(frame, x)) for x in _needed(data, frame)}
        offsets = offsets_of(data, frame, self._shifted(frame))
        period = max(self.current.interval, max(offsets.values(), default=0) // self.frames + 1)
        entries = list_entries(data, frame, offsets, period)
        grown, ends = growth(data, frame, entries, self.frames)
        interval = max(1, grown, _most_work(entries))
        runs = runs_of(entries, ends)
        begin, end = _span(runs, interval)
        starts = {task: run.start + run.stage * interval - begin for task, run in runs.items()}
        self.next = Tuned(starts, interval)
        price = 0.0
        if "mem_limit" in data and interval <= limit:
            price = Window(data, frame, runs, interval).overflow()
        return interval, price, end - begin

    def keep(self, best: bool) -> None:
        """The placement that was just rated is the one at hand, and perhaps the best."""
        self.current = self.next
        if best:
            self.best = self.next

    def _shifted(self, frame: Simulation) -> dict[int, int]:
        """The starts at hand, with those moved in time that are to be."""
        data, (operators, ticks) = self.data, self.shift
        starts = dict(self.current.starts)
        for v in operators:
            made = data["out_tensor"][data["out_ptr"][v] : data["out_ptr"][v + 1]]
            copies = [frame.n + tensor * frame.nm + there for tensor in made for there in range(frame.nm)]
            for task in (v, *copies):
                if task in starts:
                    starts[task] = max(0, starts[task] + ticks)
        return starts

    def _channel(self, frame: Simulation, x: int) -> int:
        channels: int = self.data["link_channels"][frame.transfer_work(x)[0]]
        return x // frame.nm % channels


class Shifter(Mover):
    """Moves of `Mover`, and moves of a run of operators in time, as far as the order of what they read from allows."""

    def __init__(self, data: Mapping[str, Any], mask: int, seed: int, tuning: Tuning) -> None:
        super().__init__(data, mask, seed)
        self.tuning = tuning

    def mutate(self, mode: list[int], tiles: list[int]) -> bool:
        """Change `mode` and `tiles`, or what is rated next; whether that changed anything."""
        random, tuning = self.random, self.tuning
        tuning.shift = range(0), 0
        if random.next() % SHIFTS:
            return super().mutate(mode, tiles)
        first = random.next() % self.n
        last = min(first + 1 + random.next() % LONGEST, self.n) if random.next() % 3 == 0 else first + 1
        span = 1 + (tuning.current.interval >> (3 + random.next() % 5))
        tuning.shift = range(first, last), random.next() % (2 * span) - span
        return True


def _needed(data: Mapping[str, Any], frame: Simulation) -> set[int]:
    """The transfers of a placement."""
    found = set()
    for tensor, producer in enumerate(data["producer"]):
        home = data["io_memory"] if producer < 0 else frame.memory[producer]
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        wanted = {frame.memory[v] for v in readers} | ({data["io_memory"]} if data["sink"][tensor] else set())
        found |= {tensor * frame.nm + memory for memory in wanted - {home}}
    return found


def _most_work(entries: Sequence[Entry]) -> int:
    work: dict[tuple[int, ...], int] = {}
    for entry in entries:
        work[entry.queue] = work.get(entry.queue, 0) + entry.work
    return max(work.values(), default=0)


def _span(runs: Mapping[int, Run], interval: int) -> tuple[int, int]:
    """From the first start to the last end of a frame."""
    begin = min((run.start + run.stage * interval for run in runs.values()), default=0)
    return begin, max((run.end + run.stage * interval for run in runs.values()), default=0)
