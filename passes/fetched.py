"""The schedule with some weights fetched.

In:  a sheet, and the times at which its tasks and fetches run. Out: a compilation with tasks that load weights, and
the waits that keep their order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import PREFETCH
from h4hc.ir.placement import Placement
from h4hc.ir.schedule import WEIGHT_LOAD, Point, Schedule, Task, Wait
from h4hc.ir.system import Simulated, Trace
from h4hc.passes.core.fetching import Timed
from h4hc.passes.fetches import Candidate, Sheet


def postponed(sheet: Sheet, found: Timed) -> Timed:
    """`found` with every fetch as late as possible, behind the end of a task, while no task starts later."""
    starts, ends, fetches = found
    order = sorted(range(len(ends)), key=lambda task: (ends[task], task))
    moments = [ends[task] for task in order]
    until = [max(ends, default=0)] * len(sheet.ports)
    fetched = {fetch[0]: number for number, fetch in enumerate(fetches)}
    late = list(fetches)
    for task in range(len(ends) - 1, -1, -1):
        number = fetched.get(task)
        for port in sheet.ports_of(task, number is not None):
            until[port] = min(until[port], starts[task])
        if number is None:
            continue
        port = sheet.candidates[task].port
        _, start, end, behind = fetches[number]
        begin = min(until[port], starts[task]) - (end - start)
        at = bisect_right(moments, begin) - 1
        if at >= 0 and moments[at] > start:
            start, end, behind = moments[at], moments[at] + end - start, order[at]
        late[number] = (task, start, end, behind)
        until[port] = start
    return starts, ends, late


def with_fetches(sheet: Sheet, found: Timed) -> Compilation:
    """The compilation of `sheet` with the fetches and times of `found`."""
    chosen = [sheet.candidates[fetch[0]] for fetch in found[2]]
    latency = max(found[1], default=0)
    schedule = replace(
        sheet.schedule,
        tasks=(*_tasks(sheet, found), *_loads_of(sheet, found)),
        queues=with_ports(sheet, chosen),
        latency=latency,
        initiation_interval=sheet.compilation.options.spacing(latency),
    )
    return completed(sheet, schedule, chosen)


def with_ports(sheet: Sheet, chosen: Sequence[Candidate]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The queues of `sheet`, and those of the ports at which weights are fetched, one task for each of `chosen`."""
    queues = [*sheet.schedule.queues]
    for port, memory in enumerate(sheet.ports):
        numbers = [len(sheet.schedule.tasks) + i for i, c in enumerate(chosen) if c.port == port]
        if numbers:
            queues.append((queue_name(memory), tuple(numbers)))
    return tuple(queues)


def completed(sheet: Sheet, schedule: Schedule, chosen: Sequence[Candidate]) -> Compilation:
    """The compilation of `sheet` with `schedule`, whose energies and bounds are worked out, and with `chosen` fetched."""
    tasks, interval = schedule.tasks, schedule.initiation_interval
    schedule = replace(
        schedule,
        dynamic_energy=sum(task.energy for task in tasks),
        static_energy=round(sheet.simulated.static_power * interval),
        interval_bound=max(sum(tasks[number].work for number in queue) for _, queue in schedule.queues),
        front=_front(schedule, sheet.compilation.options.period_ticks),
    )
    compilation = sheet.compilation
    return replace(
        compilation,
        schedule=schedule,
        simulated=_simulated(sheet, schedule, chosen),
        placement=_placement(compilation, chosen),
    )


def _front(schedule: Schedule, period: int) -> tuple[Point, ...]:
    """What so many frames in flight achieve, with what `schedule` does. At a fixed period it does not say how fast they could be."""
    frames, latency = schedule.frames_in_flight, schedule.latency
    if not schedule.front or (period and frames > 1):
        return schedule.front
    own = Point(frames, latency if frames == 1 else schedule.initiation_interval, latency)
    kept = (p for p in schedule.front if p.interval < own.interval or p.latency < own.latency)
    return tuple(sorted((own, *kept), key=lambda point: point.latency))


def queue_name(memory: str) -> str:
    """The queue of the fetches from `memory`."""
    return f"{memory}.fetch"


def _placement(compilation: Compilation, chosen: Sequence[Candidate]) -> Placement:
    placement = compilation.placement
    if placement is None:
        raise ValueError("fetches need a placement")
    modes = list(placement.modes)
    for c in chosen:
        modes[c.operator] = PREFETCH
    return replace(placement, modes=tuple(modes))


def _simulated(sheet: Sheet, schedule: Schedule, chosen: Sequence[Candidate]) -> Simulated:
    """The simulated placement with the costs and times of `schedule`."""
    simulated = sheet.simulated
    system = simulated.system
    data = dict(system.data)
    work, energy = list(data["mode_work"]), list(data["mode_energy"])
    costs = list(system.mode_costs)
    for c in chosen:
        mode = simulated.modes[c.operator]
        m = data["mode_ptr"][c.operator] + mode
        task = schedule.tasks[c.task]
        work[m] = task.work - (task.tiles - 1) * data["dev_overhead"][data["mode_device"][m]]
        energy[m] = task.energy
        costs[c.operator] = (*costs[c.operator][:mode], c.cost, *costs[c.operator][mode + 1 :])
    data |= {"mode_work": work, "mode_energy": energy}
    rows = [
        (*row[:3], task.start, task.end)
        for row, task in zip(simulated.trace[3], schedule.tasks, strict=False)
    ]
    spans = _lifetimes(sheet, schedule)
    trace: Trace = (schedule.latency, schedule.dynamic_energy, simulated.trace[2], rows, spans)
    return replace(simulated, system=replace(system, data=data, mode_costs=tuple(costs)), trace=trace)


def _lifetimes(sheet: Sheet, schedule: Schedule) -> list[tuple[int, int, int, int]]:
    """The rows of buffers of the trace at the times of `schedule`."""
    data, rows = sheet.simulated.system.data, sheet.simulated.trace[4]
    start, end = [0] * len(rows), [0] * len(rows)
    for task, old in zip(schedule.tasks, sheet.schedule.tasks, strict=False):
        for buffer in old.writes:
            start[buffer] = task.start
        for buffer in (*old.reads, *old.writes):
            end[buffer] = max(end[buffer], task.end)
    for buffer, (tensor, memory, _, _) in enumerate(rows):
        if data["sink"][tensor] and memory == data["io_memory"]:
            end[buffer] = schedule.latency
    return [(row[0], row[1], start[i], end[i]) for i, row in enumerate(rows)]


def _tasks(sheet: Sheet, found: Timed) -> Iterator[Task]:
    """The tasks there were, at their new times, waiting for fetches."""
    count, buffers = len(sheet.schedule.tasks), len(sheet.simulated.trace[4])
    number = {fetch[0]: i for i, fetch in enumerate(found[2])}
    behind = behind_fetches(sheet, found)
    for task in sheet.schedule.tasks:
        waits, reads, work, energy = list(task.waits), task.reads, task.work, task.energy
        fetch = number.get(task.id)
        if fetch is not None:
            waits.append(Wait(count + fetch, (1,) * task.tiles))
            reads = (*reads, buffers + fetch)
            work, energy = sheet.candidates[task.id].work, sheet.candidates[task.id].energy
        waits += [Wait(count + other, (1,) * task.tiles, reason="order") for other in behind[task.id]]
        yield task._replace(
            start=found[0][task.id], end=found[1][task.id], work=work, energy=energy,
            waits=tuple(waits), reads=reads,
        )  # fmt: skip


def _loads_of(sheet: Sheet, found: Timed) -> Iterator[Task]:
    """The tasks that load weights."""
    tasks, buffers = sheet.schedule.tasks, len(sheet.simulated.trace[4])
    before = before_fetches(sheet, found)
    for number, ((owner, start, end, _), users) in enumerate(zip(found[2], before, strict=True)):
        candidate = sheet.candidates[owner]
        waits = [Wait(user, (tasks[user].tiles,), reason="order") for user in users]
        yield Task(
            len(tasks) + number, WEIGHT_LOAD, queue_name(sheet.ports[candidate.port]),
            tasks[owner].operator, "", start, end, end - start, 1,
            candidate.fetch_energy, candidate.fetch.bytes, tuple(waits), (), (buffers + number,),
        )  # fmt: skip


def _working(sheet: Sheet, found: Timed) -> Iterator[tuple[int, int | None, Sequence[int]]]:
    """The tasks in order: number, number of its fetch, ports at which it works itself."""
    number = {fetch[0]: i for i, fetch in enumerate(found[2])}
    for task in range(len(sheet.schedule.tasks)):
        fetch = number.get(task)
        yield task, fetch, sheet.ports_of(task, fetch is not None)


def before_fetches(sheet: Sheet, found: Timed) -> list[list[int]]:
    """Per fetch the tasks that it waits for: the last of each queue at its port since the fetch before, and
    the one that leaves room."""
    queue = sheet.line["queue"]
    last: list[dict[int, int]] = [{} for _ in sheet.ports]
    result: list[list[int]] = [[] for _ in found[2]]
    for task, fetch, ports in _working(sheet, found):
        if fetch is not None:
            port = sheet.candidates[task].port
            users = set(last[port].values())
            behind = found[2][fetch][3]
            result[fetch] = sorted(users | {behind} if behind >= 0 else users)
            last[port] = {}
        for port in ports:
            last[port][queue[task]] = task
    return result


def behind_fetches(sheet: Sheet, found: Timed) -> list[list[int]]:
    """Per task the fetches that it must not overtake, unless a task before it in its queue waits for them."""
    queue = sheet.line["queue"]
    latest: list[int | None] = [None] * len(sheet.ports)
    known: dict[tuple[int, int], int | None] = {}  # by port and queue
    result: list[list[int]] = []
    for task, fetch, ports in _working(sheet, found):
        waits = []
        if fetch is not None:
            port = sheet.candidates[task].port
            latest[port] = fetch
            known[port, queue[task]] = fetch
        for port in ports:
            wanted = latest[port]
            if wanted is not None and known.get((port, queue[task])) != wanted:
                waits.append(wanted)
                known[port, queue[task]] = wanted
        result.append(waits)
    return result
