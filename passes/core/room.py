"""What a schedule, periodic or of one frame, needs of the memories beyond what they hold: Python twin of native/room.c.

From one window of the steady state follows how long every buffer holds data. One that outlives the interval has several
places, which are never free for others; the others live for an arc of it. A result that may be written over an input that
nobody reads later is counted from the end of its operator on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from h4hc.passes.core.simulation import Simulation


class Run(NamedTuple):
    """When a task ran in the window that is looked at, and how many windows behind the newest frame."""

    start: int
    end: int
    stage: int


@dataclass(frozen=True, slots=True)
class Window:
    """One window: what ran, when the frame that it begins begins and ends; `alone`: there is no other frame."""

    data: Mapping[str, Any]
    frame: Simulation
    runs: Mapping[int, Run]
    interval: int
    alone: bool = False

    @property
    def begin(self) -> int:
        return min(run.start + run.stage * self.interval for run in self.runs.values())

    @property
    def end(self) -> int:
        return max(run.end + run.stage * self.interval for run in self.runs.values())

    def overflow(self) -> float:
        """The price of the bytes that no memory has room for, at the moments of the interval when they need most."""
        data, price = self.data, 0.0
        for memory, limit in enumerate(data["mem_limit"]):
            if limit < 0:
                continue
            whole = level = 0
            events: list[tuple[int, int]] = []
            for tensor in range(data["tensors"]):
                task = self._writer(tensor, memory)
                size = data["held"][tensor * data["memories"] + memory]
                if task is None or not size:
                    continue
                start, length = self._lifetime(tensor, memory, task)
                given = task < 0 and not self.alone
                if given or length >= self.interval:
                    whole += size * (-(-length // self.interval) + given)
                    continue
                start %= self.interval
                if start + length > self.interval:
                    level += size
                end = start + length - (self.interval if start + length > self.interval else 0)
                events += [(start, size), (end, -size)]
            most = level
            for _, change in sorted(events):
                level += change
                most = max(most, level)
            if most + whole > limit:
                price += float(most + whole - limit) * data["mem_price"][memory]
        return price

    def _home(self, tensor: int) -> int:
        producer, data = self.data["producer"][tensor], self.data
        home: int = data["io_memory"] if producer < 0 else self._memory(producer)
        return home

    def _memory(self, operator: int) -> int:
        memory: int = self.data["dev_memory"][self.frame.device[operator]]
        return memory

    def _writer(self, tensor: int, memory: int) -> int | None:
        """The task that writes the buffer of `tensor` in `memory` (-1: it is given); None: there is no such buffer."""
        if self._home(tensor) == memory:
            producer: int = self.data["producer"][tensor]
            return producer
        copy = self.frame.n + tensor * self.frame.nm + memory
        return copy if copy in self.runs else None

    def _lifetime(self, tensor: int, memory: int, task: int) -> tuple[int, int]:
        """When the buffer begins to hold data, and for how long; `task` writes it."""
        data, run = self.data, self.runs.get(task)
        born = self.begin if run is None else run.start
        died = self._last_use(tensor, memory, task, born if run is None else run.end)
        heir = data["heir"][tensor] if 0 <= task < self.frame.n else -1
        if run is not None and heir >= 0 and data["producer"][heir] >= 0:
            place = data["memories"]
            if data["held"][heir * place + memory] >= data["held"][tensor * place + memory]:
                source = self._writer(heir, memory)
                source = -1 if source is None else source
                apart = (run.stage - self.runs[source].stage) * self.interval
                if self._last_use(heir, memory, source, 0) <= run.end + apart:
                    born = run.end
        return born, max(1, died - born)

    def _last_use(self, tensor: int, memory: int, task: int, end: int) -> int:
        """The last moment at which `tensor` is read in `memory`, from the window of `task` on."""
        data, nm = self.data, self.frame.nm
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        users = [v for v in readers if self._memory(v) == memory]
        if memory == self._home(tensor):
            copies = [self.frame.n + tensor * nm + there for there in range(nm)]
            users += [copy for copy in copies if copy in self.runs]
        stage = self.runs[task].stage if task >= 0 else 0
        ends = [self.runs[c].end + (self.runs[c].stage - stage) * self.interval for c in users]
        if data["sink"][tensor] and memory == data["io_memory"]:
            ends.append(self.end - stage * self.interval + (0 if self.alone else self.interval))
        return max([end, *ends])


def overflow_alone(data: Mapping[str, Any], frame: Simulation) -> float:
    """The price of the bytes that no memory has room for in a frame by itself."""
    runs = {}
    for c in frame.order:
        ends = frame.op_tiles[c] if c < frame.n else frame.transfers[c - frame.n][0]
        work = frame.operator_work(c) if c < frame.n else frame.transfer_work(c - frame.n)[1]
        runs[c] = Run(ends[0] - work // len(ends), ends[-1], 0)
    return Window(data, frame, runs, max(1, frame.latency), alone=True).overflow() if runs else 0.0
