"""Why each task starts when it does, and where it stalls: a replay of a frame, alone, tile by tile.

The execution model is that of `h4hc.ir.schedule`. This serves people who read the report; whether the
schedule is right is for `h4hc.verify` to say, which does not use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from h4hc.bundle.store import Document


class Timing(NamedTuple):
    """`stall`: ticks between start and end in which the task does not work.

    `cause` of the start: ``queue`` (task `blocker` occupied the resource), ``data``, ``reuse`` or ``order`` (it
    waited for `blocker`, `latency` ticks included), or ``first`` (nothing held it back).
    `stalled_on` is the task that its tiles waited for longest, -1 if none.
    """

    stall: int
    cause: str
    blocker: int = -1
    latency: int = 0
    stalled_on: int = -1


class Hold(NamedTuple):
    """What a tile waited for last: tile `tile` of `task` (-1: nothing), `latency` ticks before it started.

    `reason`: ``queue`` (the work before it on the same resource), ``data``, ``reuse`` or ``order``.
    """

    task: int
    tile: int
    latency: int
    reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The timing of every task by id, and per tile of each task its end and what held it back."""

    timings: dict[int, Timing]
    ends: dict[int, list[int]]
    holds: dict[int, list[Hold]]


def explain(document: Document) -> dict[int, Timing]:
    """The timing of every task by id."""
    machine = _Replay(document, with_holds=False)
    machine.run()
    return machine.timings


def replay(document: Document) -> Replayed:
    """Run the schedule tile by tile."""
    machine = _Replay(document, with_holds=True)
    machine.run()
    return Replayed(machine.timings, machine.ends, machine.holds)


def _alone(task: Document, document: Document) -> Document:
    """`task` with the waits for its own frame only; with one frame in flight these are all."""
    if document["summary"]["frames_in_flight"] == 1:
        return task
    stages = {other["id"]: other["stage"] for other in document["tasks"]}
    own = [wait for wait in task["waits"] if wait["lag"] == task["stage"] - stages[wait["task"]]]
    return task | {"waits": own}


class _Replay:
    """Advances every queue as far as its waits allow, round by round."""

    def __init__(self, document: Document, with_holds: bool) -> None:
        self._with_holds = with_holds
        self._tasks: dict[int, Document] = {task["id"]: _alone(task, document) for task in document["tasks"]}
        self._queues: list[list[int]] = [
            sorted(queue, key=lambda id_: self._tasks[id_]["stage"]) for queue in document["queues"].values()
        ]
        # Per task, the tick at which each of its finished tiles ended.
        self.ends: dict[int, list[int]] = {id_: [] for id_ in self._tasks}
        self.holds: dict[int, list[Hold]] = {id_: [] for id_ in self._tasks}
        self.timings: dict[int, Timing] = {}
        self._waited: dict[int, dict[int, int]] = {id_: {} for id_ in self._tasks}

    def run(self) -> None:
        positions = [0] * len(self._queues)
        moved = True
        while moved:
            moved = False
            for number, queue in enumerate(self._queues):
                while positions[number] < len(queue):
                    before = queue[positions[number] - 1] if positions[number] else -1
                    progress, finished = self._advance(self._tasks[queue[positions[number]]], before)
                    moved = moved or progress
                    if not finished:
                        break
                    positions[number] += 1

    def _advance(self, task: Document, before: int) -> tuple[bool, bool]:
        """Run the tiles of `task` that can run; whether any did, and whether all have."""
        id_, tiles, work = task["id"], task["tiles"], task["work"]
        ends, waited = self.ends[id_], self._waited[id_]
        waits = [(wait["counts"], self.ends[wait["task"]], wait["latency"], wait) for wait in task["waits"]]
        first = len(ends)
        for tile in range(first, tiles):
            free = ends[-1] if ends else self._end(before)
            until, last = 0, None  # until when its waits hold back the tile, and the last of them
            for counts, others, latency, wait in waits:
                count = counts[tile]
                if count > len(others):
                    return tile > first, False
                if count and others[count - 1] + latency > until:
                    until, last = others[count - 1] + latency, wait
            if tile == 0:
                self.timings[id_] = self._start_cause(free, until, last, before)
            elif until > free and last is not None:
                waited[last["task"]] = waited.get(last["task"], 0) + until - free
            if self._with_holds:
                self.holds[id_].append(self._hold(task, tile, before, free, until, last))
            ends.append(max(free, until) + work * (tile + 1) // tiles - work * tile // tiles)
        self._finish(task)
        return True, True

    def _hold(
        self, task: Document, tile: int, before: int, free: int, until: int, wait: Document | None
    ) -> Hold:
        if wait is not None and until > free:
            return Hold(wait["task"], wait["counts"][tile] - 1, wait["latency"], wait["reason"])
        if tile:
            return Hold(task["id"], tile - 1, 0, "queue")
        return Hold(before, len(self.ends[before]) - 1 if before >= 0 else -1, 0, "queue")

    def _end(self, task: int) -> int:
        return self.ends[task][-1] if task >= 0 else 0

    def _start_cause(self, free: int, until: int, wait: Document | None, before: int) -> Timing:
        if wait is not None and until > free:
            return Timing(0, wait["reason"], wait["task"], wait["latency"])
        return Timing(0, "queue", before) if before >= 0 else Timing(0, "first")

    def _finish(self, task: Document) -> None:
        _, cause, blocker, latency, _ = self.timings[task["id"]]
        waited = self._waited[task["id"]]
        stalled_on = max(waited, key=lambda id_: (waited[id_], -id_)) if waited else -1
        stall = task["end"] - task["start"] - task["work"]
        self.timings[task["id"]] = Timing(stall, cause, blocker, latency, stalled_on)
