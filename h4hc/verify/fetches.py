"""V26: weights that are fetched before their operator starts.

A fetch copies the encoded weights of one operator from the memory of its device's weights to the one that the device works
in. It is no faster than the memory of the weights, pays for one access of it, and works there alone: nothing
else that works at that memory runs at the same time, by queue order and waits.
"""

from __future__ import annotations

from h4hc.verify.document import Operator, Task
from h4hc.verify.plan import Plan
from h4hc.verify.queues import PICO, close_above, copies
from h4hc.verify.references import TICK
from h4hc.verify.report import Tally
from h4hc.verify.waits import Clocks

MODE = "prefetch"


def fetches(plan: Plan, clocks: Clocks) -> Tally:
    """V26."""
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
    alone = plan.document.summary.frames_in_flight == 1
    tally.expect(alone or not plan.loads, "weights are fetched although several frames are in flight")
    _expect_buffers(tally, plan)
    _expect_alone(tally, plan, clocks)
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


def _expect_alone(tally: Tally, plan: Plan, clocks: Clocks) -> None:
    """Nothing works at the memory from which weights are fetched while they are."""
    sources = {load.resource.removesuffix(".fetch") for load in plan.loads}
    workers: dict[str, list[Task]] = {source: [] for source in sources}
    for task in (*plan.compute, *plan.transfers):
        for source in ports(plan, task) & sources if sources else ():
            workers[source].append(task)
    for load in plan.loads:
        source = load.resource.removesuffix(".fetch")
        for task in workers[source]:
            ordered = clocks.completed(task, load) or clocks.completed(load, task)
            tally.expect(
                ordered, f"{load.label} may run at the same time as {task.label}, which works at {source}"
            )


def _expect_record(tally: Tally, plan: Plan) -> None:
    """What the document says about fetches as a whole."""
    record = plan.document.prefetch
    names = sorted(load.operator for load in plan.loads)
    total = sum(load.bytes for load in plan.loads)
    stated = ([], 0) if record is None else (sorted(record.operators), record.bytes)
    tally.expect(
        stated == (names, total), f"operators and bytes fetched {stated}, tasks say {(names, total)}"
    )
