"""Waits for tiles of tasks, as thresholds on one done-counter per queue: no more of them than needed.

Tile k of a task waits for `counts[k]` tiles of another task; that is a number of finished tiles of the other's queue.
A threshold is dropped where it holds anyway: every queue knows, from its own order and the waits it has passed, how far
each other queue has come at least (a vector clock). Dropping it moves no tile, not even in time, as long as
no latency is lost: what is known by way of other queues replaces only waits without latency.

With several frames in flight the counters run on from window to window. Windows are gone through, from one before
which nothing is known, until a window tells nothing new; what is known there is known in every window, since a wait for
a window before the first holds by itself. With one frame in flight a window starts when the one before has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from h4hc.errors import BundleError

UNKNOWN = -(1 << 62)
LONGEST = 0xFFFF  # tiles and step of a run
WINDOWS = 8  # at most so many are gone through; fewer drop fewer waits

Record = Mapping[str, Any]  # a task of schedule.json


class Threshold(NamedTuple):
    """Before tile `tile` in window w, counter `engine` is at value + size(engine)·(w - lag), `latency` ticks ago."""

    tile: int
    engine: int
    value: int
    lag: int
    latency: int


class Run(NamedTuple):
    """Thresholds of `tiles` tiles in a row, each `step` above the one before."""

    tile: int
    tiles: int
    value: int
    step: int
    engine: int
    lag: int
    latency: int


def runs(found: Sequence[Threshold]) -> list[Run]:
    """`found`, of one task in order of tiles, as few runs."""
    done: list[list[int]] = []  # the fields of each run
    last: dict[tuple[int, int, int], list[int]] = {}  # engine, lag, latency -> its last run
    for tile, engine, value, lag, latency in found:
        key = engine, lag, latency
        run = last.get(key)
        if run is not None:
            first, tiles, start, step = run[:4]
            if tiles == 1:
                step = value - start
            follows = tile == first + tiles and value == start + tiles * step
            if follows and 0 <= step <= LONGEST and tiles < LONGEST:
                run[1], run[3] = tiles + 1, step
                continue
        last[key] = run = [tile, 1, value, 0, engine, lag, latency]
        done.append(run)
    return [Run(*run) for run in done]


def thresholds(queues: Sequence[Sequence[Record]], several: bool) -> dict[int, list[Threshold]]:
    """The waits of every task by its id, in order of tiles; `queues` are the tasks of each engine.

    `several`: more than one frame is in flight.
    """
    machine = _Machine(queues, several)
    found = machine.window()
    for _ in range(WINDOWS - 1 if several else 0):
        again = machine.window()
        if again == found:
            break
        found = again
    return found


class _Wait(NamedTuple):
    engine: int
    before: int  # tiles of that queue before the awaited task
    counts: Sequence[int]
    lag: int
    latency: int


_Goal = tuple[
    int, Threshold
]  # how many tiles of the threshold's queue since the first window, and the threshold


class _Machine:
    """Runs the queues without time, window after window, and keeps what was known before each tile."""

    def __init__(self, queues: Sequence[Sequence[Record]], several: bool) -> None:
        self._queues = queues
        self._sizes = [sum(task["tiles"] for task in queue) for queue in queues]
        self._waits = _waits(queues)
        self._window = -1
        # Per queue, how many tiles of each queue have finished for sure, and the same before each of its tiles so far.
        # The entry of the queue itself is not kept up.
        self._known = [[UNKNOWN if several else 0] * len(queues) for _ in queues]
        self._clocks: list[list[list[int]]] = [[] for _ in queues]
        # Per queue, (engine, latency) -> the highest count that it has waited for with such a latency.
        self._passed: list[dict[tuple[int, int], int]] = [{} for _ in queues]
        self._found: dict[int, list[Threshold]] = {}

    def window(self) -> dict[int, list[Threshold]]:
        """Run the next window; the thresholds that it needs."""
        self._window += 1
        self._found = {task["id"]: [] for queue in self._queues for task in queue}
        running = {engine: self._run(engine) for engine in range(len(self._queues))}
        while running:
            before = sum(map(len, self._clocks))
            running = {engine: run for engine, run in running.items() if next(run, False)}
            if running and sum(map(len, self._clocks)) == before:
                raise BundleError(
                    "the queues wait for each other in a circle",
                    code="malformed-schedule",
                    hint="compile the model again",
                )
        return self._found

    def _run(self, engine: int) -> Iterator[bool]:
        """Run the tiles of a queue; yields True where another queue must go on first."""
        clocks = self._clocks[engine]
        for task in self._queues[engine]:
            waits, found = self._waits[task["id"]], self._found[task["id"]]
            if not waits:
                clocks += [self._known[engine]] * task["tiles"]
                continue
            for tile in range(task["tiles"]):
                goals = self._goals(engine, waits, tile)
                for total, threshold in goals:
                    while total > len(self._clocks[threshold.engine]):
                        yield True
                for total, threshold in self._reduced(goals):
                    self._learn(engine, total, threshold)
                    found.append(threshold)
                clocks.append(self._known[engine])

    def _goals(self, engine: int, waits: Sequence[_Wait], tile: int) -> Sequence[_Goal]:
        """What tile `tile` waits for and what does not hold anyway by what its queue knows."""
        known, passed, done = self._known[engine], self._passed[engine], len(self._clocks[engine])
        goals = []
        for other, before, counts, lag, latency in waits:
            if not counts[tile]:
                continue
            value = before + counts[tile]
            total = value + self._sizes[other] * (self._window - lag)
            if latency:
                held = any(
                    e == other and longer >= latency and passed_total >= total
                    for (e, longer), passed_total in passed.items()
                )
            else:
                held = total <= (done if other == engine else known[other])
            if not held:
                goals.append((total, Threshold(tile, other, value, lag, latency)))
        return goals

    def _reduced(self, goals: Sequence[_Goal]) -> Sequence[_Goal]:
        """`goals` in order of engine without those that follow from others."""
        if len(goals) < 2:
            return goals
        kept: list[_Goal] = []
        for total, goal in sorted(goals, key=lambda goal: (goal[1].engine, -goal[0], -goal[1].latency)):
            if not any(k.engine == goal.engine and k.latency >= goal.latency for _, k in kept):
                kept.append((total, goal))
        return [
            goal
            for goal in kept
            if goal[1].latency or not any(self._implies(other, goal) for other in kept if other is not goal)
        ]

    def _implies(self, goal: _Goal, other: _Goal) -> bool:
        """Whether `other` had been reached before the tile that `goal` waits for started."""
        (total, threshold), (least, implied) = goal, other
        if threshold.engine == implied.engine or total < 1:
            return False
        return self._clocks[threshold.engine][total - 1][implied.engine] >= least

    def _learn(self, engine: int, total: int, threshold: Threshold) -> None:
        """Take over what the awaited tile knew."""
        other, latency, known = threshold.engine, threshold.latency, self._known[engine]
        known = list(map(max, known, self._clocks[other][total - 1])) if total > 0 else known.copy()
        known[other] = max(known[other], total)
        self._known[engine] = known
        if latency:
            passed = self._passed[engine]
            passed[other, latency] = max(total, passed.get((other, latency), UNKNOWN))


def _waits(queues: Sequence[Sequence[Record]]) -> dict[int, list[_Wait]]:
    """The waits of each task by its id."""
    place: dict[int, tuple[int, int]] = {}
    for engine, queue in enumerate(queues):
        before = 0
        for task in queue:
            place[task["id"]] = engine, before
            before += task["tiles"]
    return {
        task["id"]: [
            _Wait(*place[wait["task"]], wait["counts"], wait["lag"], wait["latency"])
            for wait in task["waits"]
        ]
        for queue in queues
        for task in queue
    }
