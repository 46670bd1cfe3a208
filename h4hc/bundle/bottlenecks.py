"""Where the time of a frame goes: the critical path, what each resource waits for, and what overlap gains.

All times are ticks. Like `h4hc.bundle.timing`, this serves people; nothing is checked with it.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    yet), ``end`` (nothing to do any more) or ``next frame`` (at a fixed frame rate). With several frames in flight it
    is ``balance``, for the part of the initiation interval that the resource's work does not fill.
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
    interval = document["summary"]["initiation_interval"]
    idle = _unbalanced(document, tasks, interval) if several else _idle(document, tasks, replayed)
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
    causes: dict[str, dict[str, int]] = {name: {} for name in sorted(document["queues"])}
    groups = {id_: _group(task) for id_, task in tasks.items()}
    for (task, _), (ticks, wait) in replayed.pauses.items():
        found, late = causes[tasks[task]["resource"]], min(ticks, wait["latency"])
        cause = "memory" if wait["reason"] == "reuse" else groups[wait["task"]]
        if late < ticks:
            found[cause] = found.get(cause, 0) + ticks - late
        if late:
            found[HANDOFF] = found.get(HANDOFF, 0) + late
    for name, queue in document["queues"].items():
        free = replayed.ends[queue[-1]][-1] if queue and replayed.ends[queue[-1]] else 0
        if latency > free:
            causes[name]["end" if queue else "start"] = latency - free
        if pause > 0:
            causes[name]["next frame"] = pause
    busy = _busy(document, tasks)
    return tuple([Idle(name, busy[name], found) for name, found in causes.items()])


def _unbalanced(document: Document, tasks: dict[int, Document], interval: int) -> tuple[Idle, ...]:
    busy = _busy(document, tasks)
    return tuple([Idle(name, busy[name], {BALANCE: interval - busy[name]}) for name in sorted(busy)])


def _busy(document: Document, tasks: dict[int, Document]) -> dict[str, int]:
    return {name: sum(tasks[id_]["work"] for id_ in queue) for name, queue in document["queues"].items()}


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
