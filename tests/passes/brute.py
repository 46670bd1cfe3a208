"""The least makespan of whole operators by trying every placement and every order. Shares no code with the solver."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def least_makespan(d: dict[str, Any]) -> int | None:
    """The least makespan within the capacity for resident weights; None if nothing fits."""
    searches = [_Orders(d, modes) for modes in every_placement(d)]
    best: int | None = None
    for search in sorted(searches, key=lambda s: s.bound()):
        if best is not None and search.bound() >= best:
            break
        best = search.least(best)
    return best


def every_placement(d: dict[str, Any]) -> list[tuple[int, ...]]:
    """All placements within the capacity for resident weights."""
    choices = [range(d["mode_ptr"][v + 1] - d["mode_ptr"][v]) for v in range(d["operators"])]
    return [modes for modes in itertools.product(*choices) if _fits(d, modes)]


def _fits(d: dict[str, Any], modes: Sequence[int]) -> bool:
    used = [0] * d["devices"]
    for v, mode in enumerate(modes):
        m = d["mode_ptr"][v] + mode
        used[d["mode_device"][m]] += d["mode_resident"][m]
    return all(u <= c for u, c in zip(used, d["dev_capacity"], strict=True))


class _Orders:
    """All orders of the tasks of one placement. A task is (operator, -1) or (tensor, memory)."""

    def __init__(self, d: dict[str, Any], modes: Sequence[int]) -> None:
        self.d = d
        self.chosen = [d["mode_ptr"][v] + mode for v, mode in enumerate(modes)]
        self.device = [d["mode_device"][m] for m in self.chosen]
        self.memory = [d["dev_memory"][device] for device in self.device]
        self.work: dict[tuple[int, int], int] = {}
        self.waits: dict[tuple[int, int], list[tuple[tuple[int, int], int]]] = {}  # (task, latency)
        self._tasks()
        self.tails: dict[tuple[int, int], int] = {}
        self.tail = {task: self._tail(task) for task in self.work}

    def _home(self, tensor: int) -> int:
        producer = self.d["producer"][tensor]
        return self.d["io_memory"] if producer < 0 else self.memory[producer]

    def _tasks(self) -> None:
        d = self.d
        for v in range(d["operators"]):
            self.work[v, -1] = d["mode_work"][self.chosen[v]]
            self.waits[v, -1] = []
            for tensor in d["in_tensor"][d["in_ptr"][v] : d["in_ptr"][v + 1]]:
                producer = d["producer"][tensor]
                if self._home(tensor) != self.memory[v]:
                    self._copy(tensor, self.memory[v])
                    self.waits[v, -1].append(((tensor, self.memory[v]), 0))
                elif producer >= 0:
                    latency = d["handoff"] if self.device[producer] != self.device[v] else 0
                    self.waits[v, -1].append(((producer, -1), latency))
        for tensor, sink in enumerate(d["sink"]):
            if sink and self._home(tensor) != d["io_memory"]:
                self._copy(tensor, d["io_memory"])

    def _copy(self, tensor: int, memory: int) -> None:
        d = self.d
        link = d["link_of"][self._home(tensor) * d["memories"] + memory]
        self.work[tensor, memory] = d["xfer_work"][link * d["tensors"] + tensor]
        producer = d["producer"][tensor]
        self.waits[tensor, memory] = [] if producer < 0 else [((producer, -1), 0)]

    def _tail(self, task: tuple[int, int]) -> int:
        if task not in self.tails:
            followers = [
                (other, latency)
                for other, waits in self.waits.items()
                for awaited, latency in waits
                if awaited == task
            ]
            rest = max((latency + self._tail(other) for other, latency in followers), default=0)
            self.tails[task] = self.work[task] + rest
        return self.tails[task]

    def bound(self) -> int:
        loads: dict[int, int] = {}
        for (v, memory), work in self.work.items():
            if memory < 0:
                loads[self.device[v]] = loads.get(self.device[v], 0) + work
        return max([*loads.values(), *self.tail.values()], default=0)

    def least(self, best: int | None) -> int | None:
        self.best = best
        self._next({}, [0] * self.d["devices"], [0] * self.d["link_channels"][0])
        return self.best

    def _next(self, ends: dict[tuple[int, int], int], devices: list[int], channels: list[int]) -> None:
        if len(ends) == len(self.work):
            latency = max(ends.values(), default=0)
            if self.best is None or latency < self.best:
                self.best = latency
            return
        for task, waits in self.waits.items():
            if task in ends or any(awaited not in ends for awaited, _ in waits):
                continue
            ready = max((ends[awaited] + latency for awaited, latency in waits), default=0)
            lane = channels.index(min(channels))
            queue, at = (devices, self.device[task[0]]) if task[1] < 0 else (channels, lane)
            start = max(ready, queue[at])
            if self.best is not None and start + self.tail[task] >= self.best:
                continue
            before, queue[at] = queue[at], start + self.work[task]
            ends[task] = queue[at]
            self._next(ends, devices, channels)
            del ends[task]
            queue[at] = before
