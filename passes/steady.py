"""Fetches of weights with several frames in flight.

In:  a sheet of a periodic schedule. Out: the schedule with tasks that load weights, in the same cyclic order.

Some windows of the schedule, one behind the other, are a line like that of one frame (h4hc.passes.core.fetching): the fetches
of a window share the ports of memories, and the room in them, with the tasks of all frames that are in flight. How fast the
last windows follow each other says what a set of fetches is worth. What those of one window wait for, folded back, are the
waits of the periodic schedule, and its interval is the maximum cycle ratio, as without fetches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import Any

from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import WEIGHT_LOAD, Buffer, Schedule, Task, Wait
from h4hc.passes.allocate import place_buffers
from h4hc.passes.closed_loop import machine
from h4hc.passes.core import Line
from h4hc.passes.core.fetching import Timed
from h4hc.passes.fetched import before_fetches, behind_fetches, completed, queue_name, with_ports
from h4hc.passes.fetches import Sheet
from h4hc.passes.periodic import quickest
from h4hc.passes.pipeline import with_plan, within

_MEASURED = 4  # windows, whose growth counts
_SETTLING = 4  # windows before them, beside one for every frame in flight
_MOST_PAIRS = 300_000  # of tasks and buffers that are looked at


@dataclass(frozen=True, slots=True)
class Steady:
    """Windows of the schedule of `once` as one sheet, `unrolled`: task `order[i]` of window w is task w * len(order) + i."""

    once: Sheet
    unrolled: Sheet
    order: tuple[int, ...]
    windows: int

    @property
    def middle(self) -> int:
        """A window in the steady state that has another one behind it."""
        return self.windows - 2

    def timed(self, line: Line, tasks: Sequence[int] | None) -> Timed:
        """The windows with the weights of `tasks` fetched in each; None: of each task that ends no later by it."""
        if tasks is None:
            return line.timed(None)
        place = {task: i for i, task in enumerate(self.order)}
        wanted = sorted(place[task] for task in tasks)
        return line.timed([w * len(self.order) + i for w in range(self.windows) for i in wanted])

    def fetched(self, found: Timed) -> list[int]:
        """The tasks whose weights are fetched in the steady state."""
        place = (divmod(row[0], len(self.order)) for row in found[2])
        return [self.order[i] for window, i in place if window == self.middle]

    def interval(self, found: Timed) -> int:
        """Ticks between windows in the steady state, rounded up."""
        count = len(self.order)
        first, last = (
            max(found[1][window * count : (window + 1) * count], default=0)
            for window in (self.middle - _MEASURED, self.middle)
        )
        return -(-(last - first) // _MEASURED)


def steady(sheet: Sheet) -> Steady:
    """The sheet of a periodic schedule with its windows laid out."""
    order = _order(sheet.schedule)
    windows = sheet.schedule.frames_in_flight + _SETTLING + _MEASURED + 2
    tasks = [sheet.schedule.tasks[task] for _ in range(windows) for task in order]
    candidates = {
        window * len(order) + i: sheet.candidates[task]
        for window in range(windows)
        for i, task in enumerate(order)
        if task in sheet.candidates
    }
    unrolled = replace(
        sheet,
        schedule=replace(sheet.schedule, tasks=tuple(tasks)),
        candidates=candidates,
        line=_line(sheet, order, windows),
    )
    return Steady(sheet, unrolled, order, windows)


def _order(schedule: Schedule) -> tuple[int, ...]:
    """The tasks of a window, by start; what waits in its queue or for another one of the window comes behind it."""
    interval = schedule.initiation_interval
    behind: list[list[int]] = [[] for _ in schedule.tasks]
    waiting = [0] * len(schedule.tasks)
    pairs = [pair for _, queue in schedule.queues for pair in pairwise(queue)]
    pairs += [(wait.task, task.id) for task in schedule.tasks for wait in task.waits if not wait.lag]
    for before, after in pairs:
        behind[before].append(after)
        waiting[after] += 1
    ready = [(task.start % interval, task.id) for task in schedule.tasks if not waiting[task.id]]
    heapify(ready)
    order = []
    while ready:
        _, number = heappop(ready)
        order.append(number)
        for after in behind[number]:
            waiting[after] -= 1
            if not waiting[after]:
                heappush(ready, (schedule.tasks[after].start % interval, after))
    return tuple(order)


def _line(sheet: Sheet, order: Sequence[int], windows: int) -> dict[str, Any]:
    """The columns of h4hc.passes.core.fetching.Line."""
    once = sheet.line
    columns: dict[str, Any] = {
        name: [once[name][task] for task in order] * windows
        for name in ("queue", "work", "tiles", "fetch_port", "fetch_ticks", "fetch_memory", "fetch_bytes", "fetch_work")
    }  # fmt: skip
    for pointers, ports in (("port_ptr", "port"), ("kept_ptr", "kept")):
        used = [once[ports][once[pointers][task] : once[pointers][task + 1]] for task in order] * windows
        columns[pointers] = [0, *accumulate(map(len, used))]
        columns[ports] = [port for some in used for port in some]
    place = {task: i for i, task in enumerate(order)}
    awaited = [_awaited(sheet, task) for task in order]
    waits = [
        [
            wait._replace(task=(window - wait.lag) * len(order) + place[wait.task])
            for wait in some
            if wait.lag <= window
        ]
        for window in range(windows)
        for some in awaited
    ]
    columns["wait_ptr"] = [0, *accumulate(map(len, waits))]
    flat = [wait for some in waits for wait in some]
    columns["wait_task"] = [wait.task for wait in flat]
    columns["wait_latency"] = [wait.latency for wait in flat]
    columns["counts"] = [count for wait in flat for count in wait.counts]
    columns["load"] = [load for loads in _loads(sheet) for load in [loads[task] for task in order] * windows]
    return columns | {"room": once["room"]}


def _awaited(sheet: Sheet, number: int) -> Sequence[Wait]:
    """The waits of a task; of one that has none, those for the end of the frame before which its own must not begin."""
    tasks = sheet.schedule.tasks
    task = tasks[number]
    if task.waits:
        return task.waits
    read = {wait.task for other in tasks for wait in other.waits}
    back = sheet.compilation.options.window + task.stage
    return [
        Wait(other.id, (other.tiles,) * task.tiles, lag=back - other.stage)
        for other in tasks
        if other.id not in read
    ]


def _loads(sheet: Sheet) -> list[list[int]]:
    """Per memory to which weights can be fetched (others: nothing), the bytes in use while each task runs, of all frames.

    The peak for every task, if there are so many that counting takes long.
    """
    schedule, memories = sheet.schedule, sheet.simulated.system.memories
    count, interval = len(schedule.tasks), schedule.initiation_interval
    buffers, uses = place_buffers(sheet.compilation, schedule)
    peaks = {use.memory: use.peak for use in uses}
    homes = {memories[sheet.line["fetch_memory"][task]] for task in sheet.candidates}
    result = []
    for memory in memories:
        here = sorted((b for b in buffers if b.memory == memory), key=lambda b: b.offset)
        if memory not in homes or len(here) * count > _MOST_PAIRS:
            result.append([peaks[memory] if memory in homes else 0] * count)
        else:
            result.append([_used(here, task, interval) for task in schedule.tasks])
    return result


def _used(buffers: Sequence[Buffer], task: Task, interval: int) -> int:
    """Bytes of `buffers`, which are in order of their offsets, that hold data of some frame while `task` runs."""
    used = top = 0
    for b in buffers:
        length = b.end - b.start
        apart = (b.start - task.start) % interval
        if b.copies > 1 or apart < task.end - task.start or (interval - apart) % interval < length:
            end = b.offset + (b.copies - 1) * b.stride + b.bytes
            used += max(0, end - max(top, b.offset))
            top = max(top, end)
    return used


def with_fetches_in_flight(windows: Steady, found: Timed) -> Compilation | None:
    """The compilation with the fetches of the steady state of `found`; None if the frames do not keep their pace."""
    sheet, options = windows.once, windows.once.compilation.options
    tasks, chosen = _folded(windows, found), [sheet.candidates[task] for task in windows.fetched(found)]
    if tasks is None:
        return None
    queues = with_ports(sheet, chosen)
    plant = machine(tasks, queues)
    plan = quickest(plant, plant.orders, [task.stage for task in tasks], options.window)
    kept = within(plant, plan, options.window, options.period_ticks)
    if kept is None:
        return None
    schedule = with_plan(replace(sheet.schedule, tasks=tasks, queues=queues), kept)
    if schedule.frames_in_flight == 1:
        if any(task.stage for task in schedule.tasks):
            return None
        schedule = replace(schedule, tasks=tuple(map(_alone, schedule.tasks)))
    return completed(sheet, schedule, chosen)


def _alone(task: Task) -> Task:
    """`task` without waits for earlier frames, which are over."""
    return task._replace(waits=tuple(wait for wait in task.waits if not wait.lag))


def _folded(windows: Steady, found: Timed) -> tuple[Task, ...] | None:
    """The tasks of a window, and those that load weights for it; None if weights that it counts on are not fetched always."""
    sheet, order, middle = windows.once, windows.order, windows.middle
    tasks, buffers = sheet.schedule.tasks, len(sheet.simulated.trace[4])
    place = {task: i for i, task in enumerate(order)}
    owners = windows.fetched(found)
    number = {owner: i for i, owner in enumerate(owners)}
    behind, before = behind_fetches(windows.unrolled, found), before_fetches(windows.unrolled, found)
    result = []
    for task in tasks:
        waits, once = list(task.waits), (1,) * task.tiles
        if task.id in number:
            candidate, fetch = sheet.candidates[task.id], number[task.id]
            waits.append(Wait(len(tasks) + fetch, once))
            reads = (*task.reads, buffers + fetch)
            task = task._replace(reads=reads, work=candidate.work, energy=candidate.energy)
        for other in behind[middle * len(order) + place[task.id]]:
            window, i = divmod(found[2][other][0], len(order))
            if order[i] not in number:
                return None
            waits.append(Wait(len(tasks) + number[order[i]], once, 0, "order", middle - window))
        result.append(task._replace(waits=tuple(waits)))
    numbers = [i for i, row in enumerate(found[2]) if row[0] // len(order) == middle]
    for owner, fetch in zip(owners, numbers, strict=True):
        candidate, (_, start, end, _) = sheet.candidates[owner], found[2][fetch]
        users = [divmod(user, len(order)) for user in before[fetch]]
        waits = [
            Wait(order[i], (tasks[order[i]].tiles,), 0, "order", middle - window)
            for window, i in users
            if window <= middle
        ]
        load = Task(
            len(result), WEIGHT_LOAD, queue_name(sheet.ports[candidate.port]), tasks[owner].operator, "",
            start, end, end - start, 1, candidate.fetch_energy, candidate.fetch.bytes, tuple(waits), (),
            (buffers + number[owner],), tasks[owner].stage,
        )  # fmt: skip
        result.append(load)
    return tuple(result)
