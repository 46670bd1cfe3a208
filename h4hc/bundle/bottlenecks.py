"""Where the time of a frame goes: the critical path, what each resource waits for, and what overlap gains.

All times are ticks. Like `h4hc.bundle.timing`, this serves people; nothing is checked with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from h4hc.bundle.cyclic import pauses
from h4hc.bundle.store import Document
from h4hc.bundle.timing import Replay, replay

HANDOFF = "hand-off"
OTHERS = "other frames"
BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class Step:
    """Tiles `first` to `last` of a task on the critical path: `work` ticks, after `latency` of hand-off."""

    task: int
    first: int
    last: int
    work: int
    latency: int


@dataclass(frozen=True, slots=True)
class Idle:
    """How long a resource has nothing to do, by cause.

    A cause is the resource whose result it waits for (a device, or a link for its DMA channels), ``hand-off``
    (the latency of a semaphore or interrupt), ``memory`` (a buffer that is still in use), ``start`` (nothing to do
    yet), ``end`` (nothing to do any more) or ``next frame`` (at a fixed frame rate). With several frames in flight these are
    the causes within one initiation interval, and ``balance`` is time before a task that nothing but its place in the plan
    holds back: other resources have more to do.
    """

    resource: str
    busy: int
    causes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """The critical path in order, the ticks of it by resource, idle times, and the latency without overlap.

    With several frames in flight the path is that of a frame alone, and what it waits for others comes on top.
    """

    path: tuple[Step, ...]
    shares: dict[str, int]
    idle: tuple[Idle, ...]
    layer_by_layer: int


def bottlenecks(document: Document, replayed: Replay | None = None) -> Bottlenecks:
    """What bounds the latency of the schedule in `document`; `replayed`, if it is there already."""
    tasks: dict[int, Document] = {task["id"]: task for task in document["tasks"]}
    replayed = replayed or replay(document)
    path = _critical_path(tasks, replayed)
    shares: dict[str, int] = {}
    for step in path:
        for name, ticks in ((_group(tasks[step.task]), step.work), (HANDOFF, step.latency)):
            if ticks:
                shares[name] = shares.get(name, 0) + ticks
    latency, several = document["summary"]["latency"], document["summary"]["frames_in_flight"] > 1
    if several:
        shares[OTHERS] = latency - sum(shares.values())
    idle = _idle_in_flight(document, tasks) if several else _idle(document, tasks, replayed)
    return Bottlenecks(path, shares, idle, _layer_by_layer(document, tasks))


def _group(task: Document) -> str:
    """The device of a task, or the link of a transfer: its channels are alike."""
    resource: str = task["resource"]
    return resource.rpartition(".")[0] if task["kind"] == "transfer" else resource


def _critical_path(tasks: dict[int, Document], replayed: Replay) -> tuple[Step, ...]:
    """From the tile that ends last back through what held each tile."""
    done = [id_ for id_ in tasks if replayed.ends[id_]]
    if not done:
        return ()
    task = min(done, key=lambda id_: (-replayed.ends[id_][-1], id_))
    first = last = len(replayed.ends[task]) - 1
    steps: list[Step] = []
    while True:
        while first and (task, first) not in replayed.pauses:
            first -= 1
        work, tiles = tasks[task]["work"], tasks[task]["tiles"]
        ticks = work * (last + 1) // tiles - work * first // tiles
        _, wait = replayed.pauses.get((task, first), (0, None))
        steps.append(Step(task, first, last, ticks, wait["latency"] if wait else 0))
        if wait:
            task, first = wait["task"], wait["counts"][first] - 1
        elif replayed.before[task] >= 0:
            task = replayed.before[task]
            first = len(replayed.ends[task]) - 1
        else:
            return tuple(reversed(steps))
        last = first


def _idle(document: Document, tasks: dict[int, Document], replayed: Replay) -> tuple[Idle, ...]:
    """What every resource waits for in the frame, and at a fixed rate after it."""
    latency = document["summary"]["latency"]
    pause = document["summary"]["initiation_interval"] - latency
    found = _Causes(document, tasks)
    for (task, _), (ticks, wait) in replayed.pauses.items():
        found.add(tasks[task]["resource"], ticks, wait)
    for name, queue in document["queues"].items():
        free = replayed.ends[queue[-1]][-1] if queue and replayed.ends[queue[-1]] else 0
        if latency > free:
            found.causes[name]["end" if queue else "start"] = latency - free
        if pause > 0:
            found.causes[name]["next frame"] = pause
    return found.idle()


def _idle_in_flight(document: Document, tasks: dict[int, Document]) -> tuple[Idle, ...]:
    """What every resource waits for in one interval of several frames in flight."""
    found = _Causes(document, tasks)
    for resource, ticks, wait in pauses(document):
        found.add(resource, ticks, wait)
    for name, queue in document["queues"].items():
        if not queue:
            found.add(name, document["summary"]["initiation_interval"], None)
    return found.idle()


class _Causes:
    """Ticks by cause, for every resource."""

    def __init__(self, document: Document, tasks: dict[int, Document]) -> None:
        self.causes: dict[str, dict[str, int]] = {name: {} for name in sorted(document["queues"])}
        self._queues, self._tasks = document["queues"], tasks
        self._groups = {id_: _group(task) for id_, task in tasks.items()}

    def add(self, resource: str, ticks: int, wait: Document | None) -> None:
        """Of a pause the latency of a wait is hand-off, the rest is due to what it waits for."""
        found, late = self.causes[resource], 0
        cause = BALANCE
        if wait is not None:
            late = min(ticks, wait["latency"])
            cause = "memory" if wait["reason"] == "reuse" else self._groups[wait["task"]]
        if late < ticks:
            found[cause] = found.get(cause, 0) + ticks - late
        if late:
            found[HANDOFF] = found.get(HANDOFF, 0) + late

    def idle(self) -> tuple[Idle, ...]:
        busy = {name: sum(self._tasks[id_]["work"] for id_ in queue) for name, queue in self._queues.items()}
        return tuple([Idle(name, busy[name], found) for name, found in self.causes.items()])


def _layer_by_layer(document: Document, tasks: dict[int, Document]) -> int:
    """The latency of the same placement if everything ran one after the other, each operator as one tile."""
    overhead = {device["name"]: device["tile_overhead"] for device in document["devices"]}
    overhead |= {link["name"]: link["tile_overhead"] for link in document["links"]}
    total = 0
    for task in tasks.values():
        total += task["work"] - (task["tiles"] - 1) * overhead.get(_group(task), 0)
        handoff = 0
        for wait in task["waits"]:
            if wait["latency"] > handoff and wait["reason"] == "data":
                handoff = wait["latency"]
        total += handoff
    return total
