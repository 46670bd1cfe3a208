"""Why each task starts when it does, and where it stalls: a replay of a frame, alone, tile by tile.

The execution model is that of `h4hc.ir.schedule`. This serves people who read the report; whether the
schedule is right is for `h4hc.verify` to say, which does not use this module.
"""

from __future__ import annotations

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


def replay(document: Document) -> Replay:
    """Run the schedule tile by tile."""
    machine = Replay(document)
    machine.run()
    return machine


def _alone(task: Document, stages: dict[int, int]) -> Document:
    """`task` with the waits for its own frame only."""
    own = [wait for wait in task["waits"] if wait["lag"] == task["stage"] - stages[wait["task"]]]
    return task | {"waits": own}


class Replay:
    """Advances every queue as far as its waits allow, round by round.

    `timings` of the tasks by id, `ends`: per task, the tick at which each of its finished tiles ended, `pauses`: by task and
    tile, for how many ticks the resource had nothing to do before it, and the wait that held it back, `before`: the task before
    each in its queue, or -1. A task that is never reached (a deadlock) has no timing.
    """

    def __init__(self, document: Document) -> None:
        self._tasks: dict[int, Document] = {task["id"]: task for task in document["tasks"]}
        if document["summary"]["frames_in_flight"] > 1:  # else all waits are for the task's own frame
            stages = {id_: task["stage"] for id_, task in self._tasks.items()}
            self._tasks = {id_: _alone(task, stages) for id_, task in self._tasks.items()}
        self._queues: list[list[int]] = [
            sorted(queue, key=lambda id_: self._tasks[id_]["stage"]) for queue in document["queues"].values()
        ]
        self.before = {b: a for queue in self._queues for a, b in zip([-1, *queue], queue, strict=False)}
        self.ends: dict[int, list[int]] = {id_: [] for id_ in self._tasks}
        self.timings: dict[int, Timing] = {}
        self.pauses: dict[tuple[int, int], tuple[int, Document]] = {}
        self._waited: dict[int, dict[int, int]] = {id_: {} for id_ in self._tasks}

    def run(self) -> None:
        """Run all that can run."""
        positions = [0] * len(self._queues)
        moved = True
        while moved:
            moved = False
            for number, queue in enumerate(self._queues):
                while positions[number] < len(queue):
                    progress, finished = self._advance(self._tasks[queue[positions[number]]])
                    moved = moved or progress
                    if not finished:
                        break
                    positions[number] += 1

    def _advance(self, task: Document) -> tuple[bool, bool]:
        """Run the tiles of `task` that can run; whether any did, and whether all have."""
        id_, tiles, work = task["id"], task["tiles"], task["work"]
        ends, waited, before = self.ends[id_], self._waited[id_], self.before[id_]
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
            if until > free and last is not None:
                self.pauses[id_, tile] = until - free, last
                if tile:
                    waited[last["task"]] = waited.get(last["task"], 0) + until - free
            ends.append(max(free, until) + work * (tile + 1) // tiles - work * tile // tiles)
        self._finish(task)
        return True, True

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
