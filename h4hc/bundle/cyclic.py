"""What queues wait for where several frames are in flight: the pauses of one initiation interval, as planned.

Times are ticks from the beginning of a task's frame. Like `h4hc.bundle.timing`, this serves people; nothing is checked with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import NamedTuple

from h4hc.bundle.store import Document


class Pause(NamedTuple):
    """`ticks` in which `resource` does nothing, because of `wait`; None: its next task is not due yet."""

    resource: str
    ticks: int
    wait: Document | None


def pauses(document: Document) -> Iterator[Pause]:
    """All pauses of one interval. With the work of its tasks they make up the interval on every queue."""
    tasks: dict[int, Document] = {task["id"]: task for task in document["tasks"]}
    interval = document["summary"]["initiation_interval"]
    data = {id_: [w for w in task["waits"] if w["reason"] == "data"] for id_, task in tasks.items()}
    ends: dict[int, list[int]] = {}
    for id_ in TopologicalSorter(
        {id_: [w["task"] for w in waits] for id_, waits in data.items()}
    ).static_order():
        ends[id_] = []
        yield from _within(tasks[id_], data[id_], ends)
    for queue in document["queues"].values():
        # The first task of a window comes behind the last one of the window before.
        for place, (before, id_) in enumerate(zip([*queue[-1:], *queue], queue, strict=False)):
            task, other = tasks[id_], tasks[before]
            windows = task["stage"] - other["stage"] - (place == 0)
            gap = task["start"] - other["end"] - windows * interval
            if gap > 0:
                yield Pause(task["resource"], gap, _holding(task, tasks, interval, ends))


def _within(task: Document, waits: list[Document], ends: dict[int, list[int]]) -> Iterator[Pause]:
    """The pauses between the tiles of a task, whose ends are added to `ends`."""
    own, moment, work, tiles = ends[task["id"]], task["start"], task["work"], task["tiles"]
    for tile in range(tiles):
        until, last = moment, None
        for wait in waits:
            count = wait["counts"][tile]
            if tile and count and ends[wait["task"]][count - 1] + wait["latency"] > until:
                until, last = ends[wait["task"]][count - 1] + wait["latency"], wait
        if last is not None:
            yield Pause(task["resource"], until - moment, last)
        moment = until + work * (tile + 1) // tiles - work * tile // tiles
        own.append(moment)
    if task["end"] > moment:  # by waits for other frames
        others = [wait for wait in task["waits"] if wait["reason"] != "data"]
        yield Pause(task["resource"], task["end"] - moment, others[0] if others else None)


def _holding(
    task: Document, tasks: dict[int, Document], interval: int, ends: dict[int, list[int]]
) -> Document | None:
    """The wait that ends when `task` starts."""
    waits: list[Document] = task["waits"]
    for wait in waits:
        count, awaited = wait["counts"][0], tasks[wait["task"]]
        frames = wait["lag"] + awaited["stage"] - task["stage"]
        if count and ends[wait["task"]][count - 1] - frames * interval + wait["latency"] == task["start"]:
            return wait
    return None
