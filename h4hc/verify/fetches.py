"""V26: weights that are fetched before their operator starts.

A fetch copies the encoded weights of one operator from the memory of its device's weights to the one that the device works
in. It is no faster than the memory of the weights, pays for one access of it, and works there alone: nothing
else that works at that memory runs at the same time, by queue order and waits.
"""

from __future__ import annotations

from bisect import bisect_left

from h4hc.verify.document import Operator, Task
from h4hc.verify.plan import Plan
from h4hc.verify.queues import PICO, close_above, copies
from h4hc.verify.references import TICK
from h4hc.verify.report import Tally
from h4hc.verify.waits import Clocks

MODE = "prefetch"


def fetches(plan: Plan, run: Plan, clocks: Clocks) -> Tally:
    """V26. `run`: the plan with its frames in flight laid out, and `clocks` of that."""
    tally = Tally()
    loads: dict[str, list[Task]] = {operator.name: [] for operator in plan.document.operators}
    for load in plan.loads:
        loads[load.operator].append(load)
    for operator in plan.document.operators:
        count = int(operator.mode == MODE)
        found = loads[operator.name]
        tally.expect(
            len(found) == count,
            f"operator {operator.name!r} in mode {operator.mode!r}: its weights are fetched {len(found)} times",
        )
        for load in found:
            _expect_fetch(tally, plan, load, operator)
    _expect_buffers(tally, plan)
    _expect_alone(tally, run, clocks)
    _expect_record(tally, plan)
    return tally


def _expect_fetch(tally: Tally, plan: Plan, load: Task, operator: Operator) -> None:
    """Where from and to, bytes, duration and energy of one fetch."""
    device = plan.document.target.devices[operator.device]
    source = device.weights
    tally.expect(
        load.resource == f"{source}.fetch" and source != device.memory,
        f"{load.label} runs on {load.resource}; weights of {operator.device} go from {source!r} to {device.memory!r}",
    )
    tally.expect(operator.weight_bytes > 0, f"{load.label} fetches weights that there are not")
    buffers = [plan.buffers[number] for number in load.writes]
    held = [(buffer.weights, buffer.memory, buffer.bytes) for buffer in buffers]
    tally.expect(
        held == [(operator.name, device.memory, load.bytes)] and not load.reads and load.tiles == 1,
        f"{load.label} of {load.bytes} bytes writes {held}, reads {list(load.reads)}, in {load.tiles} tiles",
    )
    fetch = operator.cost.fetch if operator.cost else None
    memory = plan.document.target.memories.get(source)
    if not tally.expect(fetch is not None, f"{load.label}: its operator's cost knows no fetch"):
        return
    if fetch is None or memory is None:
        return
    tally.expect(
        load.bytes == fetch.bytes > 0, f"{load.label}: {load.bytes} bytes, its cost says {fetch.bytes}"
    )
    least = memory.latency + fetch.bytes / memory.bandwidth
    tally.expect(
        fetch.seconds >= least * (1 - 1e-9),
        f"{load.label}: takes {fetch.seconds} s by its cost, {source} needs {least}",
    )
    tally.expect(
        close_above(load.work, fetch.seconds / TICK),
        f"{load.label}: {load.work} ticks, its cost is {fetch.seconds / TICK:.1f}",
    )
    joules = fetch.bytes * memory.energy_per_byte
    tally.expect(
        close_above(load.energy, joules / PICO),
        f"{load.label}: {load.energy} pJ, {source} takes {joules / PICO:.1f}",
    )


def _expect_buffers(tally: Tally, plan: Plan) -> None:
    """Buffers of weights are written by their fetch and read by their operator, and by nobody else."""
    for buffer in plan.document.buffers:
        users = [(task.kind, task.operator) for task in (*plan.writers[buffer.id], *plan.readers[buffer.id])]
        wanted = [("weight_load", buffer.weights), ("compute", buffer.weights)]
        if buffer.weights:
            tally.expect(
                users == wanted, f"buffer {buffer.id} of {buffer.holds} is used by {users}, not by {wanted}"
            )


def ports(plan: Plan, task: Task) -> set[str]:
    """The memories behind that of its device at which `task` works itself: where its buffers lie, what its cost names,
    and that of its weights unless they stay in the device or have been fetched."""
    found = {plan.buffers[number].memory for number in (*task.reads, *task.writes)}
    if task.kind != "compute":
        return found
    operator = plan.operators[task.operator]
    found |= operator.cost.memories if operator.cost else set()
    device = plan.document.target.devices[operator.device]
    if operator.weight_bytes and not copies(operator.mode) and operator.mode != MODE:
        found.add(device.weights)
    return found


def _expect_alone(tally: Tally, run: Plan, clocks: Clocks) -> None:
    """Nothing works at the memory from which weights are fetched while they are.

    Of the tasks of a queue, those that certainly ended before a fetch come first; the next one must come behind the fetch,
    and then so do all that follow it.
    """
    loads = [load for load in run.loads if not load.idle]
    workers = _workers(run, {_source(load) for load in loads})
    for load in loads:
        for tasks in workers[_source(load)].values():
            ended = bisect_left(tasks, True, key=lambda task: not clocks.completed(task, load))
            ordered = ended == len(tasks) or clocks.completed(load, tasks[ended])
            tally.count += 1
            if not ordered:
                tally.problems.append(
                    f"{load.label} may run at the same time as {tasks[ended].label}, which works at {_source(load)}"
                )


def _source(load: Task) -> str:
    return load.resource.removesuffix(".fetch")


def _workers(run: Plan, sources: set[str]) -> dict[str, dict[str, list[Task]]]:
    """The tasks that work at each of `sources`, by queue, in order."""
    found: dict[str, dict[str, list[Task]]] = {source: {} for source in sources}
    for name, queue in run.document.queues.items():
        for task in (run.tasks[number] for number in queue) if sources else ():
            if task.kind != "weight_load" and not task.idle:
                for source in ports(run, task) & sources:
                    found[source].setdefault(name, []).append(task)
    return found


def _expect_record(tally: Tally, plan: Plan) -> None:
    """What the document says about fetches as a whole."""
    record = plan.document.prefetch
    names = sorted(load.operator for load in plan.loads)
    total = sum(load.bytes for load in plan.loads)
    stated = ([], 0) if record is None else (sorted(record.operators), record.bytes)
    tally.expect(
        stated == (names, total), f"operators and bytes fetched {stated}, tasks say {(names, total)}"
    )
